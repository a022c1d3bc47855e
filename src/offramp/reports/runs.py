"""One finished run, as its folder tells it, without loading a weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offramp.checks import path_of
from offramp.errors import UserError
from offramp.methods import Method, method
from offramp.nets.text import word
from offramp.runs.epochs import read_epochs
from offramp.runs.record import read_record, read_result
from offramp.runs.result import Result
from offramp.tasks.outputs import column

__all__ = ["RunRecord", "read_run"]


@dataclass(frozen=True)
class RunRecord:
    """Content of a run folder's ``run.json``, ``result.json`` and ``metrics.csv``.

    Attributes:
        folder: The run folder.
        net: The network as one word, e.g. ``vgg7:width=16``.
        method: The method's name.
        options: All the method's options and their values.
        data: The data set's name.
        seed: The run's seed.
        recipe: All the recipe's settings and their values.
        result: The final evaluation.
        epochs: The rows of ``metrics.csv``, one per epoch; none without it.
        sets: Names of its data sets, if it was trained on several.
        init: Source and digest of the weights that it started from; none if they were the net's own.
        source: Where the data came from, as it was given.
        labels: A digest of which sample has which labels, of data in Python of the samples too; of several
            data sets one of each; "" where none is noted.
        shapes: Of a network of a user's own, a digest of its weights' names and shapes; else "".
    """

    folder: Path
    net: str
    method: str
    options: Mapping[str, Any]
    data: str
    seed: int
    recipe: Mapping[str, Any]
    result: Result
    epochs: tuple[Mapping[str, float], ...]
    source: str = ""
    labels: str = ""
    shapes: str = ""
    sets: tuple[str, ...] = ()
    init: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """Time spent on training steps; None where ``metrics.csv`` does not tell it."""
        seconds = [row["seconds"] for row in self.epochs if "seconds" in row]
        return sum(seconds) if seconds and len(seconds) == len(self.epochs) else None

    @property
    def validation(self) -> dict[str, float]:
        """Primary metric of each output on the validation samples after the last epoch, where logged."""
        last = self.epochs[-1] if self.epochs else {}
        columns = {
            name: f"val_{output.primary}_{column(name)}" for name, output in self.result.outputs.items()
        }
        return {name: last[key] for name, key in columns.items() if key in last}

    @property
    def default_method(self) -> Method | None:
        """The method with the default options of this version; None if this version has no such method."""
        try:
            return method(self.method)
        except UserError:
            return None

    @property
    def own_method(self) -> Method | None:
        """The method with the run's options; None if this version lacks the method or one of them."""
        try:
            return method(self.method, self.options)
        except UserError:
            return None

    @property
    def passes(self) -> str:
        """Cost of a training step, in the method's own words; empty where the library lacks the method."""
        if (own_method := self.own_method) is None:
            return ""
        passes = str(own_method.passes_of(self.result.outputs))
        if self.sets and self.recipe["streams"] == "together":
            return f"{passes}, in {len(self.sets)} parts"
        return passes

    @property
    def joint_epochs(self) -> float | None:
        """Cost of the training in epochs of joint training, by the method or else the run's log; or None."""
        if (own_method := self.own_method) is None or self.sets:
            return self.epochs[-1].get("passes") if self.epochs else None
        return own_method.joint_epochs(self.result.outputs, self.recipe["epochs"])

    @property
    def held_out(self) -> float:
        """Share of the training samples that trained no net, but weights of losses alone."""
        own_method = self.own_method
        return 0.0 if own_method is None else own_method.loop.held_out


def read_run(folder: str | Path) -> RunRecord:
    """Read a run folder.

    Raises:
        UserError: No such folder, not a run, not finished, or a file of it is damaged.
    """
    folder = path_of("folder", folder, "a run")
    run = read_record(folder)
    data = run["data"]
    result = Result.from_json(read_result(folder, run))
    return RunRecord(
        folder=folder,
        net=word(run["net"]),
        method=run["method"],
        options=run["options"],
        data=result.data,
        seed=run["seed"],
        recipe=run["recipe"],
        result=result,
        epochs=read_epochs(folder),
        source=str(data["source"]),
        labels=" ".join(map(_labels, (data.get("sets") or {"": data}).values())),
        shapes=str(run["net"].get("shapes", "")),
        sets=tuple(data.get("sets", ())),
        init=run.get("init", {}),
    )


def _labels(data: Mapping[str, Any]) -> str:
    """What tells a set's samples and labels from others, as its record has it; "" where it has nothing."""
    return str(data.get("labels_digest", data.get("digest", "")))
