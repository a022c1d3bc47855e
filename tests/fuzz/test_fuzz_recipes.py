"""Recipes: values from Python, YAML files, and the ``key=value`` words of ``--set``."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise
from string import ascii_lowercase

import pytest
from hypothesis import given
from hypothesis import strategies as st
from junk import NASTY, objects, texts
from oracle import command, examples, works

from offramp import Recipe
from offramp.methods import METHODS

FIELDS = {f.name: getattr(Recipe(), f.name) for f in dataclasses.fields(Recipe)}
OPTIONS = {key: value for row in METHODS.values() for key, value in row.options.items()}
GOOD = {
    "optimizer": "adamw", "schedule": "multistep", "milestones": [1, 2], "precision": "bf16", "lr": 0.1,
    "augment": "crop-flip", "tasks": {"class": "label", "box": "box"}, "classes": ["cat", "dog"], "size": 32,
    "ignore_label": [3, "x"], "class_weights": [1, 0.5], "streams": "in-turn", "proportions": {"depth": 2},
    "sets": {"depth": {"size": 64}}, "options": {"beta": 0.9}, "dfs.beta": 0.5, "label": "label",
}  # fmt: skip

keys = st.one_of(st.sampled_from([*FIELDS]), st.sampled_from([*OPTIONS, "dfs.beta", "kd.alpha"]), texts)

# lists of nine aliases each of the list before
ALIASES = (
    "[&a [x, x], "
    + ", ".join(f"&{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise(ascii_lowercase))
    + "]"
)

# values that the YAML reader cannot make, or that mean something else than they look like
YAML = (
    "0x_", "0x", "0b", "0o9", "_", "1_0", "+", ".", "1e4", "!!int _", "!!int x", "!!bool x",
    "!!timestamp x", "!!float 0x", "!!float x", "!!null x", "!!omap", "!!omap {}", "!!pairs [1]",
    "!!set {a, b}", "!!binary @", "!!binary aGk=", "!!seq {}", "!!map []", "!!str [a]",
    "!!python/object:os.system x", "!local x", "{<<: 1}", "{<<: [1, 2]}", "{<<: {beta: 1}}", "&a [*a]",
    "&a {b: *a}", "*nobody", "{[1]: 2}", "{{a: 1}: 2}", "? [a]", "2024-01-01", "2024-99-99", "12:30:45",
    "190:20:30", ".inf", "-.inf", ".nan", "1e999", "1:2:3e4", "= ", "<<", "|", ">", "%TAG", "---", "...",
    "@x", "`x", "#", "a: b: c", "\t", "- - - 1", "[1, 2", "{a: 1", "'", '"\\x"', '"\\ud800"',
    "{a: 1, a: 2}", "[60, 80]", "{depth: {size: 64}}", "null", "~", "true", "off", "class:label", "a:b,c",
    "0.5", "1", "-1", "1_000", "0777", "1" * 4400, "[" * 400, "{a: " * 400, "- " * 400,
    ALIASES,
    *NASTY,
)  # fmt: skip
yaml_values = st.one_of(
    st.sampled_from(YAML), texts, st.builds("[{}, {}]".format, *[st.sampled_from(YAML)] * 2),
    st.builds("{{{}: {}}}".format, *[st.sampled_from(YAML)] * 2), st.integers().map(str),
    st.floats().map(str),
)  # fmt: skip


def comes_back(recipe: Recipe) -> None:
    """A recipe that is accepted can be written into a run's record, and read from it.

    But for the options, which the method checks.
    """
    recipe = dataclasses.replace(recipe, options={})
    stored = json.loads(json.dumps(recipe.to_dict(), allow_nan=False))
    assert Recipe.from_dict(stored).to_dict() == json.loads(json.dumps(recipe.to_dict()))


def accepted(action, *arguments):
    """The call is refused in one line, or gives a recipe that comes back."""
    recipe = works(action, *arguments)
    if recipe is not None:
        works(comes_back, recipe)


@examples(100)
@given(st.dictionaries(keys, st.one_of(objects, st.sampled_from([*GOOD.values()])), max_size=3))
def test_values(changes):
    accepted(Recipe.from_dict, changes)


@examples(75)
@given(st.sampled_from([*FIELDS]), objects)
def test_one_value(name, value):
    accepted(Recipe.from_dict, {name: value})


@examples(25)
@given(objects)
def test_no_mapping(content):
    accepted(Recipe.from_dict, content)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("recipes") / "recipe.yaml"


pairs = st.lists(st.tuples(keys, yaml_values), min_size=1, max_size=3)


@examples(125)
@given(
    content=st.one_of(
        pairs.map(lambda items: "\n".join(f"{key}: {value}" for key, value in items)), yaml_values
    )
)
def test_a_file(file, content):
    file.write_bytes(content.encode("utf-8", "surrogateescape" if "\udcff" in content else "surrogatepass"))
    accepted(Recipe.load, file)


@examples(25)
@given(content=st.binary(max_size=40))
def test_a_file_of_bytes(file, content):
    file.write_bytes(content)
    accepted(Recipe.load, file)


settings_words = st.one_of(
    pairs.map(lambda items: [f"{k}={v}" for k, v in items]), st.lists(texts, min_size=1, max_size=2)
)


@examples(200)
@given(settings_words)
def test_settings(words):
    accepted(Recipe().with_settings, words)


@examples(50)
@given(settings_words)
def test_settings_on_the_command_line(words):
    command("cost", "--net", "vgg_sdn:width=1", "--method", "nobody", "--set", *words)
