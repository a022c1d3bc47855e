"""The plan of a reproduction: the sweep that trains every cell, and what differs from what was published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from offramp.checks import of_kind, path_of
from offramp.data import OpenedData
from offramp.errors import UserError, guess, shown
from offramp.methods import Method, method
from offramp.recipes import Recipe
from offramp.reproduce._scaling import narrower, parse_scale, scaled
from offramp.reproduce._source import Source, source_of
from offramp.reproduce.experiment import Experiment, Row
from offramp.reproduce.published_sets import SETS
from offramp.runs.sets import open_set
from offramp.sweeps import Sweep, sweep_of

__all__ = ["Plan", "plan_of"]

FEWEST = 10  # training images, some of which are held out


@dataclass(frozen=True)
class Plan:
    """The plan of a reproduction.

    Attributes:
        experiment: The table or figure.
        rows: Those that are trained, one for each entry of the sweep.
        untrained: Those that were asked for and cannot be trained here.
        values: The sweep as plain values, as a file of ``offramp sweep`` has them.
        sweep: The sweep.
        scale: Of width, training images and epochs.
        source: The data, whole.
        data: The data, opened as the sweep says.
        differs: What differs from what was published, a line each.
    """

    experiment: Experiment
    rows: tuple[Row, ...]
    untrained: tuple[Row, ...]
    values: dict[str, Any]
    sweep: Sweep
    scale: Fraction
    source: Source
    data: OpenedData[Any]
    differs: tuple[str, ...]

    @property
    def title(self) -> str:
        """What is reproduced, on what data, and at what scale."""
        nets = ", ".join(dict.fromkeys(entry.net for entry in self.sweep.entries))
        scale = "" if self.scale == 1 else f", at scale {self.scale}"
        return f"{self.experiment.name} ({self.experiment.source}): {nets} on {self.source.name}{scale}"

    @property
    def folder(self) -> Path:
        """Where the report goes: beside the runs; for a figure, which may share them, in its own folder."""
        out = self.sweep.out
        return out if self.experiment.kind == "table" else out / self.experiment.name

    def to_dict(self) -> dict[str, Any]:
        """What is reproduced, as plain values."""
        return {
            "name": self.experiment.name,
            "title": self.title,
            "published_data": self.experiment.data,
            "data": self.data.name,
            "stands_in": self.source.stands_in,
            "scale": str(self.scale),
        }

    @property
    def text(self) -> str:
        """The sweep as a file: its title in a comment, and YAML."""
        return f"# {self.title}\n{yaml.safe_dump(self.values, sort_keys=False, width=100)}"

    def notes(self) -> str:
        """What differs, and what is not trained, a line each."""
        missing = [f"not trained: {row.label}: {row.untrained}" for row in self.untrained]
        return "\n".join([*(f"differs: {line}" for line in self.differs), *missing])


def plan_of(
    experiment: Experiment,
    data: str | None = None,
    out: str | Path | None = None,
    *,
    stand_in: str | None = None,
    scale: str | float | Fraction = 1,
    only: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
) -> Plan:
    """Plan the reproduction of an experiment; other arguments are those of :func:`offramp.reproduce.plan`.

    Raises:
        UserError: No such row, data that are not the published set, or a value out of range.
    """
    fraction = parse_scale(scale)
    if seeds is not None:
        of_kind("seeds", seeds, list | tuple, "a list of whole numbers, e.g. [0, 1, 2]")
    chosen = _chosen(experiment, only)
    rows = tuple(row for row in chosen if not row.untrained)
    if not rows:
        reasons = "; ".join(f"{row.label}: {row.untrained}" for row in chosen)
        raise UserError(f"none of these rows can be trained here ({reasons}); name others, or none for all")
    source = source_of(experiment, data, stand_in)
    settings, opened = _settings(experiment, fraction, source)
    nets = _nets(experiment, fraction)
    own = Path("runs") / (experiment.runs or experiment.name)
    used = {row.net or experiment.net for row in rows}
    values = {
        "data": source.text,
        "net": nets[experiment.net],
        "out": str(path_of("out", own if out is None else out, "the folder of the runs")),
        "seeds": list(experiment.seeds if seeds is None else seeds),
        "recipe": experiment.recipe,
        **settings,
        "methods": [_item(row, nets) for row in rows],
    }
    return Plan(
        experiment=experiment,
        rows=rows,
        untrained=tuple(row for row in chosen if row.untrained),
        values=values,
        sweep=sweep_of(values),
        scale=fraction,
        source=source,
        data=opened,
        differs=(
            *source.differs,
            *_other_settings(experiment, {net: nets[net] for net in nets if net in used}, values),
            *experiment.differs,
            *(f"{row.label}: {row.remark}" for row in rows if row.remark),
        ),
    )


def _chosen(experiment: Experiment, only: Sequence[str]) -> list[Row]:
    """The rows that are asked for, each by its label or by its method."""
    of_kind("only", only, list | tuple, "a list of rows, e.g. ['joint', 'dfs']")
    names = list(dict.fromkeys([r.label for r in experiment.rows] + [r.trained_as for r in experiment.rows]))
    for each in only:
        if each not in names:
            labels = ", ".join(row.label for row in experiment.rows)
            raise UserError(
                f"{experiment.name} has no row {shown(each)}{guess(each, names)}; there are: {labels}"
            )
    return [row for row in experiment.rows if not only or {row.label, row.trained_as} & {*only}]


def _settings(
    experiment: Experiment, scale: Fraction, source: Source
) -> tuple[dict[str, Any], OpenedData[Any]]:
    """Settings that experiment, data, scale, or a set smaller than a batch change; the data under them."""
    published, whole = Recipe.load(experiment.recipe), source.whole
    full = experiment.full_recipe.replace(**source.settings)
    recipe, data = full, whole
    if scale < 1:
        images = max(FEWEST, scaled(source.published.train, scale))
        limit = images if images < len(whole.train) + len(whole.val) else None
        recipe = full.replace(epochs=scaled(full.epochs, scale), train_limit=limit)
        data = open_set(source.text, recipe)
    recipe = recipe.replace(batch_size=min(full.batch_size, len(data.train)))
    before = published.to_dict()
    return {key: value for key, value in recipe.to_dict().items() if value != before[key]}, data


def _nets(experiment: Experiment, scale: Fraction) -> dict[str, str]:
    """Each network at its published width -> at the scale, the same whichever rows are asked for."""
    methods: dict[str, list[Method]] = {net: [] for net in experiment.nets}
    for row in experiment.rows:
        if not row.untrained:
            plain = method(row.trained_as)
            options = {key: value for key, value in row.settings.items() if plain.named(key)}
            methods[row.net or experiment.net].append(plain.with_options(options))
    return {net: narrower(net, scale, each) for net, each in methods.items()}


def _item(row: Row, nets: Mapping[str, str]) -> str | dict[str, Any]:
    """A row as a sweep has it among its methods."""
    if not row.net and not row.settings:
        return row.trained_as
    return {"method": row.trained_as, **({"net": nets[row.net]} if row.net else {}), **row.settings}


def _other_settings(experiment: Experiment, nets: Mapping[str, str], values: Mapping[str, Any]) -> list[str]:
    """What the scale, and the user, have made of the published settings."""
    full = experiment.full_recipe.to_dict() | {"seeds": [*experiment.seeds]}
    full["train_limit"] = SETS[experiment.data].train
    names = {"train_limit": "training images"}
    keys = ("train_limit", "epochs", "milestones", "schedule", "batch_size", "seeds")
    return [f"network {ours}, published: {net}" for net, ours in nets.items() if ours != net] + [
        f"{names.get(key, key)} {values[key]}, published: {full[key]}"
        for key in keys
        if key in values and values[key] != full[key]
    ]
