"""``offramp diagnose``: where the exits of finished runs conflict, and what each of them needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from offramp.cli._answer import OUTPUT, Answer, OutputFlags
from offramp.cli._net import net_of
from offramp.errors import UserError, shown
from offramp.output_paths import checked_path
from offramp.paths import user_path
from offramp.say import say

__all__ = ["DiagnoseCommand"]


@dataclass(frozen=True)
class DiagnoseCommand:
    """Diagnose finished runs of one net on one data set: numbers, and a picture for each measurement.

    conflict: conflict and gain of every batch, and their correlation. filters: the conflict on every shared
    filter. importance: what each exit loses without the filters that another one needs most. routes: the
    same with the importance that DR-MGF has learned, and how alike the exits' routes are. convergence:
    metrics against epochs and against passes.

    The test set is left alone unless --split test says otherwise.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp diagnose runs/joint
  offramp diagnose runs/joint runs/dfs runs/dr-mgf --out runs/diagnosis
  offramp diagnose runs/joint --what conflict filters --batches 50"""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")]
    """folders that `offramp train` wrote"""
    out: str | None = None
    """folder for diagnosis.json and the pictures; by default RUN/diagnosis for one run"""
    net: str | None = None
    """your own network again, as for train; code that a run folder names is never run without this flag"""
    what: tuple[str, ...] = ("conflict", "filters", "importance", "routes", "convergence")
    """what to look at"""
    batches: int = 200
    """training batches to measure gradients on"""
    step: float | None = None
    """length of the trial steps; by default the last epoch's learning rate, at least 0.001"""
    unit: Literal["out_channel", "kernel"] = "out_channel"
    """what a filter is: all that one output channel reads, or one s x s kernel"""
    ratio: float = 1.0
    """how many times as much as the others an exit must need a filter of its own (published code: 1.1)"""
    split: Literal["val", "test"] = "val"
    """images on which the outputs are measured after pruning"""
    output: OutputFlags = OUTPUT

    def run(self) -> Answer:
        """Diagnose the runs, and write numbers and pictures."""
        from offramp.analysis import Settings, diagnose

        settings = Settings(self.what, self.batches, self.step, self.unit, self.ratio, self.split)
        folder = self._folder()
        net = net_of(self.runs, self.net)
        diagnosis = diagnose(self.runs, settings, net=net, tell=say)
        return Answer(diagnosis.write(folder), f"{diagnosis.table()}\n\npictures and numbers: {folder}")

    def _folder(self) -> Path:
        if self.out is None and len(self.runs) > 1:
            raise UserError("several runs: say where their diagnosis goes with --out")
        folder = Path(*map(user_path, self.runs), "diagnosis") if self.out is None else checked_path(self.out)
        if folder.exists() and not folder.is_dir():
            raise UserError(f"cannot write {shown(folder)}: it is a file; give another --out")
        if not (folder / "diagnosis.json").exists() and (theirs := self._pictures(folder)):
            raise UserError(
                f"{min(theirs)} is there already, and of no diagnosis; give another --out, or move it away"
            )
        return folder

    def _pictures(self, folder: Path) -> list[Path]:
        """The files that have names of the pictures that are to be drawn."""
        names = {*self.what, "similarity"}
        return [path for path in folder.glob("*.png") if path.stem.split("-")[0] in names]
