"""A sweep as a file: one net, one data set, one recipe, several methods and seeds.

.. code-block:: yaml

    data: path/to/data         # as for `offramp train`; several sets: {depth: path/to/a, mask: path/to/b}
    net: vgg7:width=16
    out: runs/sweep            # folder of all the runs; paths are relative to where the command is given
    seeds: [0, 1, 2]
    recipe: paper              # optional: a shipped recipe, or a file
    init: resnet18.pth         # optional: weights to start from, as for `offramp train --init`
    threads: 4                 # optional: of each run, however many run at a time; by default 1
    cpus: 4                    # optional: CPUs of each run on a Ray cluster; by default as many as threads
    gpus: 0.5                  # optional: its share of a GPU there, 0 to 1; by default 1 if there are any
    epochs: 6                  # any setting of the recipe, over those of `recipe`
    lr: 0.05
    methods:
      - joint                  # a name of `offramp methods`, also composed: dfs+kd
      - method: dfs            # or a name with options of its own
        own_to_shared: 1
      - method: dfs+ge         # an option may carry the name of its method, and must where both have it
        dfs.scales: all
      - method: kd             # or with settings of the recipe of its own; the table notes that they differ
        weight_decay: 1e-4
      - method: joint          # or with a net of its own, of those with several tasks
        net: segnet_split
      - method: dfs            # or with an init of its own; null: the net's own weights
        init: runs/joint/seed-0
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offramp.checks import MOST_THREADS, is_number, is_thread_count, path_of
from offramp.errors import UserError, guess, shown
from offramp.methods import METHODS, Method, method
from offramp.output_paths import checked_path
from offramp.plain_yaml import parse_yaml
from offramp.recipes.recipe import Recipe
from offramp.text_file import read_text

__all__ = ["Entry", "Sweep", "read_sweep", "sweep_of"]

KEYS = ("data", "net", "out", "seeds", "methods", "recipe", "threads", "cpus", "gpus", "init")
REQUIRED = KEYS[:5]
SETTINGS = tuple(f.name for f in dataclasses.fields(Recipe) if f.name not in ("seed", "options"))
FLAGS = {"jobs": "--jobs 2", "ray": "--ray"}  # of the command: where runs take place changes no weights
WITH_OPTIONS = re.compile(r"[^\s:,=]+[\s:,]+[^=]+=")  # "dfs beta=0.5", "dfs:beta=0.5"
OWN = ("method", "net", "init")  # what one of the methods may have beside settings and options
# what decides the test images cannot be a method's own, nor can what is the sweep's
FOR_ALL = ("test_limit", *(key for key in KEYS if key not in ("methods", *OWN)))


@dataclass(frozen=True)
class Entry:
    """A method of a sweep.

    Attributes:
        label: Its text in the file, e.g. ``dfs own_to_shared=1``.
        method: The method, with its options.
        recipe: Its recipe, but for the seed.
        net: The network that it trains, as one word.
        init: Weights that its runs start from; None: those that a seed gives the net.
    """

    label: str
    method: Method
    recipe: Recipe
    net: str
    init: str | None = None


@dataclass(frozen=True)
class Sweep:
    """Methods and seeds to train under one recipe.

    Attributes:
        data: What :func:`offramp.data.open_data` opens.
        net: The network as one word, e.g. ``vgg7:width=16``; that of the methods that have none of their own.
        out: Folder of all the runs.
        seeds: Whole numbers.
        entries: The methods.
        threads: How many each run computes with on a CPU; None: as the sweep began, or 1.
        cpus: CPUs of each run on a Ray cluster; None: as many as threads.
        gpus: Its share of a GPU there; None: one if the cluster has any.
    """

    data: str | Mapping[str, str]
    net: str
    out: Path
    seeds: tuple[int, ...]
    entries: tuple[Entry, ...]
    threads: int | None = None
    cpus: float | None = None
    gpus: float | None = None


def read_sweep(
    path: str | Path,
    *,
    data: Any = None,
    out: str | Path | None = None,
    cpus: float | None = None,
    gpus: float | None = None,
) -> Sweep:
    """The sweep in a YAML file.

    Args:
        path: The file.
        data: In place of the file's ``data``.
        out: In place of the file's ``out``.
        cpus: In place of the file's ``cpus``.
        gpus: In place of the file's ``gpus``.

    Raises:
        UserError: No such file, not YAML, a key missing or unknown, or a value that it cannot have.
    """
    path = path_of("path", path, "a sweep, a YAML file")
    out = None if out is None else path_of("out", out, "the folder of the runs")
    text = read_text(path, "the sweep", "give a YAML file")
    overrides = {"data": data, "out": None if out is None else str(out), "cpus": cpus, "gpus": gpus}
    try:
        values = parse_yaml(text)
        if isinstance(values, dict):
            values = {**values, **{key: value for key, value in overrides.items() if value is not None}}
        return sweep_of(values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def sweep_of(values: Any) -> Sweep:
    """The sweep that plain values describe, as its file has them.

    Raises:
        UserError: A key missing or unknown, or a value that it cannot have.
    """
    if not isinstance(values, dict):
        raise UserError("a sweep is a mapping with the keys data, net, out, seeds and methods")
    besides_data = {key: value for key, value in values.items() if key != "data"}  # whose sets have any names
    _check_nested(besides_data, SETTINGS, "net and data")
    _check_keys(values, (*KEYS, *SETTINGS))
    for key in REQUIRED:
        if key not in values:
            raise UserError(f"lacks {shown(key)}; a sweep has data, net, out, seeds and methods")
    data = values["data"]
    texts = [*data, *data.values()] if isinstance(data, dict) else [data]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise UserError(f"data is {shown(data)}, must be text, or a mapping from names to text")
    for key in ("net", "out", "recipe"):
        if not isinstance(values.get(key, ""), str):
            raise UserError(f"{key} is {shown(values[key])}, must be text")
    if values["out"].startswith("-"):
        raise UserError(
            f"out is {shown(values['out'])}, which commands take for a flag; write "
            f"{shown('./' + values['out'])}"
        )
    base = Recipe.load(values["recipe"]) if "recipe" in values else Recipe()
    base = base.replace(**{key: values[key] for key in SETTINGS if key in values})
    for key in base.options:
        if not any(each.named(key) for each in METHODS.values()):
            known = {name for each in METHODS.values() for name in each.options}
            raise UserError(f"no method has an option {shown(key)}{guess(key, known)}; leave it out")
    if not isinstance(values["methods"], list) or not values["methods"]:
        raise UserError("methods must be a list, e.g. [joint, dfs]")
    return Sweep(
        data=data,
        net=values["net"],
        out=checked_path(path_of("out", values["out"], "the folder of the runs")),
        seeds=_seeds(values["seeds"]),
        entries=tuple(_entry(value, base, values["net"], _init(values)) for value in values["methods"]),
        threads=_threads(values.get("threads")),
        cpus=_cpus(values.get("cpus")),
        gpus=_gpus(values.get("gpus")),
    )


def _threads(value: Any) -> int | None:
    if value is None or is_thread_count(value):
        return value
    raise UserError(f"threads is {shown(value)}, must be a whole number from 1 to {MOST_THREADS}")


def _cpus(value: Any) -> float | None:
    if value is None:
        return None
    if is_number(value) and (0 < value <= 1 or (value > 1 and value % 1 == 0)):
        return float(value)
    raise UserError(f"cpus is {shown(value)}, must be a whole number, or a share between 0 and 1, e.g. 0.5")


def _gpus(value: Any) -> float | None:
    if value is None:
        return None
    if is_number(value) and 0 <= value <= 1:
        return float(value)
    raise UserError(f"gpus is {shown(value)}, must be a number from 0 to 1, as a run trains on one GPU")


def _init(values: Mapping[str, Any], default: str | None = None) -> str | None:
    """The weights to start from that a sweep or one of its methods names."""
    init = values.get("init", default)
    if init is not None and not (isinstance(init, str) and init):
        raise UserError(f"init is {shown(init)}, must be a run folder or a file of weights, or null")
    return init


def _seeds(values: Any) -> tuple[int, ...]:
    seeds = [Recipe(seed=value).seed for value in values] if isinstance(values, list) else []
    if not seeds or len({*seeds}) < len(seeds):
        raise UserError(
            f"seeds are {shown(values)}, must be a list of different whole numbers, e.g. [0, 1, 2]"
        )
    return tuple(seeds)


def _entry(value: Any, base: Recipe, net: str, init: str | None) -> Entry:
    """Read an item of ``methods``; options that come with the recipe go to the methods that have them."""
    item = {"method": value} if isinstance(value, str) else value
    if not isinstance(item, dict) or not isinstance(item.get("method"), str):
        raise UserError(
            f"methods: {shown(value)} must be a name, or a mapping with the key method, e.g. "
            "{method: dfs, beta: 0.9}"
        )
    if isinstance(value, str) and WITH_OPTIONS.match(value):
        raise UserError(f"methods: {shown(value)} holds options; write it as {_as_mapping(value)}")
    base_method = method(item["method"])
    keys = {key: each for key, each in item.items() if not base_method.named(key)}
    known, prefix = (*OWN, *SETTINGS, *base_method.options), f"methods: {base_method.name}: "
    _check_nested(keys, known, "method", prefix)
    for key in FOR_ALL:
        if key in keys:
            raise UserError(f"{prefix}{key} is one for all methods; give it beside methods")
    _check_keys(keys, known, prefix)
    if not isinstance(item.get("net", ""), str):
        raise UserError(f"methods: {base_method.name}: net is {shown(item['net'])}, must be text")
    changes = {key: v for key, v in item.items() if key in SETTINGS}
    options = {key: v for key, v in item.items() if key not in (*SETTINGS, *OWN)}
    shared = {key: v for key, v in base.options.items() if base_method.named(key)}
    try:
        recipe = base.replace(**changes, options=shared).replace(**options)
        own = base_method.with_options(recipe.options)
        label = _label(base_method.name, item)
        return Entry(label, own, recipe, item.get("net", net), _init(item, init))
    except UserError as error:
        raise UserError(f"methods: {base_method.name}: {error}") from None


def _as_mapping(text: str) -> str:
    """A name with options behind it, such as ``"dfs beta=0.5"``, as a YAML mapping."""
    name, *options = re.split(r"[\s:,]+", text.strip())
    return "{" + ", ".join([f"method: {name}", *(each.replace("=", ": ", 1) for each in options)]) + "}"


def _label(name: str, item: Mapping[str, Any]) -> str:
    return " ".join([name, *(f"{key}={value}" for key, value in item.items() if key != "method")])


def _check_nested(values: Mapping[Any, Any], known: Iterable[str], beside: str, prefix: str = "") -> None:
    """Refuse settings that stand one level too deep: under a key that is none of them."""
    for key, value in values.items():
        if key not in known and isinstance(value, dict) and any(each in known for each in value):
            raise UserError(
                f"{prefix}{shown(key)} holds a mapping; write its keys without it, beside {beside}"
            )


def _check_keys(values: Mapping[Any, Any], known: Iterable[str], prefix: str = "") -> None:
    for key, value in values.items():
        if key in known:
            continue
        having = [] if prefix else [each.name for each in METHODS.values() if each.named(key)]
        if having:
            raise UserError(
                f"{shown(key)} is an option of methods and not of all; give it with one that has it, e.g. "
                f"methods: [{{method: {having[0]}, {key}: {shown(value)}}}]"
            )
        if key in FLAGS:
            raise UserError(f"{prefix}{key} is not of the file; give it with the command: {FLAGS[key]}")
        raise UserError(
            f"{prefix}no key {shown(key)}{guess(key, known)}; there are: {', '.join(dict.fromkeys(known))}"
        )
