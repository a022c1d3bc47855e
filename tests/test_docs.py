"""The pages of the methods say what the code does: every method, every option, every default."""

from __future__ import annotations

import re
from dataclasses import fields
from itertools import permutations
from pathlib import Path

import pytest

from offramp import Recipe, UserError
from offramp.data.pipelines import PIPELINES
from offramp.methods import METHODS, method
from offramp.methods.method import AXES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "offramp"
PAGES = ROOT / "docs" / "methods"
INDEX = PAGES / "README.md"
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(PAGES.glob("*.md")),
]


def table(text: str, first: str) -> list[list[str]]:
    """The cells of the rows below a header whose first cell is given."""
    _, body = text.split(f"\n| {first} |", 1)
    rows = re.findall(r"^\| (.*) \|$", body.split("\n\n")[0], flags=re.MULTILINE)
    return [re.split(r" \| ", row) for row in rows]


@pytest.mark.parametrize("name", METHODS)
def test_a_page_names_the_options_and_their_defaults(name):
    page = (PAGES / f"{name}.md").read_text()
    assert re.match(rf"# {re.escape(name)}(: .+)?\n", page)
    options = {cells[0].strip("`"): cells[1].strip("`") for cells in table(page, "option")}
    assert options == {key: str(value) for key, value in METHODS[name].options.items()}
    assert f"**Cost**: `{METHODS[name].passes}`" in page


def test_the_index_is_the_table_of_methods():
    rows = {cells[0]: cells[1:] for cells in table(INDEX.read_text(), "method")}
    assert len(rows) == len(METHODS)
    for name, row in METHODS.items():
        axes = [row.axes.get(axis, "-") for axis in AXES]
        assert rows[f"[{name}]({name}.md)"] == [*axes, ", ".join(sorted(row.needs)), str(row.passes)], name


def test_every_page_is_a_method_s():
    assert {path.stem for path in PAGES.glob("*.md")} - {"README"} == set(METHODS)


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_combinations_that_a_page_names(page):
    for name in re.findall(r"`([a-z0-9-]+(?:\+[a-z0-9-]+)+)`( is refused)?", page.read_text()):
        if name[1]:
            with pytest.raises(UserError):
                method(name[0])
        else:
            assert method(name[0]).name in ("+".join(p) for p in permutations(name[0].split("+")))


def test_the_page_of_the_recipes_has_all_settings_and_their_defaults():
    page = (ROOT / "docs" / "recipes.md").read_text()
    told = {cells[0].strip("`"): cells[1].strip("`") for cells in table(page, "setting")}
    assert told == {f.name: str(getattr(Recipe(), f.name)) for f in fields(Recipe)}
    for name in [*PIPELINES, *(path.stem for path in (PACKAGE / "recipes" / "published").glob("*.yaml"))]:
        assert f"`{name}`" in page


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_the_code_in_the_contributing_guide_is_the_code():
    blocks = re.findall(
        r"^```python\n# (\S+)\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert len(blocks) == 3
    for path, body in blocks:
        code = (ROOT / path).read_text()
        for line in filter(None, body.splitlines()):
            assert f"\n{line}" in code, f"{path}: {line}"
