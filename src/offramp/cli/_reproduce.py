"""``offramp reproduce``: published tables and figures, trained again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import tyro

from offramp.cli._answer import OUTPUT, Answer, OutputFlags
from offramp.errors import UserError

__all__ = ["ReproduceCommand"]


@dataclass(frozen=True)
class ReproduceCommand:
    """Train every row of a published table or figure, and print ours beside what was published.

    Network, recipe, methods and seeds are the published ones, as far as they are known; what differs is
    printed below the table. The trainings are a sweep: Ctrl-C stops it at a checkpoint, and the same command
    goes on.

    --scale 1/16 shrinks width, training images and epochs alike. --stand-in takes other data in place of
    the published set, and the title says so.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp reproduce --list
  offramp reproduce dfs-table2 --data path/to/cifar100 --out runs/table2 --dry-run
  offramp reproduce dfs-table2 --data path/to/cifar100 --out runs/table2 --jobs 2
  offramp reproduce dfs-table2 --stand-in CIFAR-100=path/to/other --scale 1/16 --only joint dfs"""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = ""
    """a table or figure of --list"""
    list: bool = False
    """list the tables and figures, with their rows"""
    data: str | None = None
    """the published data set: a folder, or a name on the hub"""
    stand_in: Annotated[str | None, tyro.conf.arg(metavar="NAME=SOURCE")] = None
    """other data in its place, by its name: CIFAR-100=path/to/other"""
    out: str | None = None
    """folder of the runs; by default runs/NAME"""
    scale: str = "1"
    """shrink width, training images and epochs alike: 1/16"""
    only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="METHOD ...")] = ()
    """rows to train, by the names that the table has for them, or by those of our methods"""
    seeds: tuple[int, ...] = ()
    """seeds of each row; by default as published"""
    jobs: int = 1
    """runs at a time, each a process of its own"""
    dry_run: bool = False
    """print the sweep, its FLOPs and an estimate of its hours, and train nothing"""
    output: OutputFlags = OUTPUT

    def run(self) -> Answer:
        """List, estimate or reproduce."""
        from offramp.cli._reproduce_list import listed
        from offramp.reproduce import ComputationPlan, estimate, plan, reproduce

        if self.list:
            return listed(self.name)
        if not self.name:
            raise UserError("no table or figure is named; see offramp reproduce --list")
        planned = plan(
            self.name,
            self.data,
            self.out,
            stand_in=self.stand_in,
            scale=self.scale,
            only=self.only,
            seeds=self.seeds or None,
        )
        if not self.dry_run:
            found = reproduce(planned, jobs=self.jobs)
            return Answer(found.document, found.text, trouble=found.error)
        if isinstance(planned, ComputationPlan):
            document = {**planned.to_dict(), "differs": [*planned.differs]}
            return Answer(document, f"{planned.title}\n\nno network is trained for it\n{planned.notes()}")
        cost = estimate(planned, self.jobs)
        document = {
            "title": planned.title,
            "sweep": planned.values,
            "estimate": cost.to_dict(),
            "differs": [*planned.differs],
            "untrained": {row.label: row.untrained for row in planned.untrained},
        }
        return Answer(document, f"{planned.text}\n{cost.table()}\n\n{planned.notes()}")
