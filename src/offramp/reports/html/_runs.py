"""The runs of a page: the finished ones compared, and those that are still in training or were stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offramp.checks import paths_of
from offramp.errors import UserError
from offramp.nets.text import word
from offramp.paths import user_path
from offramp.reports.comparison import Comparison, compare
from offramp.runs.epochs import read_epochs
from offramp.runs.record import read_record
from offramp.tasks.outputs import column

__all__ = ["LOSS", "Runs", "Unfinished", "read_runs"]

LOSS = "train_loss_"  # before an output's name, in the columns of a log


@dataclass(frozen=True)
class Unfinished:
    """A run without a result: it is in training, or was stopped.

    Attributes:
        folder: The run folder.
        record: The content of ``run.json``.
        epochs: The rows of ``metrics.csv``, one for each epoch that is done.
        several_nets: Whether the page has runs of other nets, so that the method alone does not name it.
    """

    folder: Path
    record: Mapping[str, Any]
    epochs: tuple[Mapping[str, float], ...]
    several_nets: bool = False

    @property
    def net(self) -> str:
        """The network as one word."""
        return word(self.record["net"])

    @property
    def method(self) -> str:
        """The method, and its net where the page has several."""
        return f"{self.record['method']} on {self.net}" if self.several_nets else self.record["method"]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs as its log has them: numbers of exits, or names of tasks; none before an epoch."""
        columns = self.epochs[-1] if self.epochs else {}
        return tuple(name.removeprefix(LOSS) for name in columns if name.startswith(LOSS))

    @property
    def label(self) -> str:
        """The method, its seed, and how far it is."""
        return (
            f"{self.method} seed {self.record['seed']}, "
            f"epoch {len(self.epochs)} of {self.record['recipe']['epochs']}"
        )


@dataclass(frozen=True)
class Runs:
    """The runs of a page, of one net on one data set, or of nets with the same tasks.

    Attributes:
        comparison: Of the finished ones; None without any.
        unfinished: The others.
        records: The content of every ``run.json``, the finished runs' first.
    """

    comparison: Comparison | None
    unfinished: tuple[Unfinished, ...]
    records: tuple[Mapping[str, Any], ...]

    @property
    def title(self) -> str:
        """The nets and the data."""
        nets = dict.fromkeys(word(record["net"]) for record in self.records)
        return f"{', '.join(nets)} on {self.records[0]['data']['name']}"


def read_runs(folders: Sequence[str | Path]) -> Runs:
    """Read run folders, finished or not.

    Raises:
        UserError: No folder, one that is no run or is damaged, a run given twice, or nets or data that
            differ.
    """
    given = [user_path(folder) for folder in paths_of("folders", folders, "runs")]
    if not given:
        raise UserError("nothing to report on; give one or more run folders")
    records = {folder: read_record(folder) for folder in given}
    finished = [folder for folder in given if (folder / "result.json").exists()]
    rest = [folder for folder in given if folder not in finished]
    _check_each_once(rest)
    several = len({word(record["net"]) for record in records.values()}) > 1
    unfinished = [Unfinished(folder, records[folder], read_epochs(folder), several) for folder in rest]
    comparison = compare(finished) if finished else None
    if comparison is not None:
        outputs = tuple(column(name) for name in comparison.result.outputs)
    else:
        outputs = next((run.outputs for run in unfinished if run.outputs), ())
    of_tasks = any(not name.isdecimal() for name in outputs)
    first = (finished or given)[0]
    for run in unfinished:
        pairs = {"data": (records[first]["data"]["name"], run.record["data"]["name"])}
        if not of_tasks:  # outputs of the same tasks are shown together across nets
            pairs["net"] = (word(records[first]["net"]), run.net)
        elif run.outputs:
            pairs["list of tasks"] = (", ".join(outputs), ", ".join(run.outputs))
        for aspect, (own, other) in pairs.items():
            if own != other:
                raise UserError(
                    f"cannot show {run.folder} beside {first}: the {aspect} differs ({own} and {other}); "
                    "give runs of one net on one data set, or of nets with the same tasks"
                )
    ordered = [*finished, *rest]
    return Runs(comparison, tuple(unfinished), tuple(records[folder] for folder in ordered))


def _check_each_once(folders: Sequence[Path]) -> None:
    """Check that no folder of a run without a result is given twice, under whatever name.

    Raises:
        UserError: One is.
    """
    seen: dict[Path, Path] = {}
    for folder in folders:
        twin = seen.setdefault(folder.resolve(), folder)
        if twin is not folder:
            raise UserError(f"{twin} and {folder} are one run and not two; leave one of them out")
