"""``offramp sweep``: methods x seeds under one recipe, and one table of them."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Annotated, ClassVar

import tyro

from offramp.cli._answer import OUTPUT, Answer, OutputFlags
from offramp.errors import UserError, shown

__all__ = ["SweepCommand", "parse_factors"]

# 1e999999999 has no end
FACTOR = re.compile(r"\d{1,20}/\d{1,20}|\d{0,20}\.?\d{0,20}(?:[eE][-+]?\d{1,2})?", re.ASCII)


@dataclass(frozen=True)
class SweepCommand:
    """Train several methods with several seeds under one recipe, then compare them: one table, one picture.

    FILE is YAML: data, net, out, seeds, methods, and any setting of the recipe (or recipe: its name or file).
    A method is a name, or a mapping with its options and settings: {method: dfs, own_to_shared: 1}; of nets
    with several tasks it may have a net of its own: {method: joint, net: segnet_split}.

    Every run goes to OUT/<method>/seed-<n>, what it says to OUT/logs, the comparison to OUT/comparison.txt,
    .json and .png. Ctrl-C stops the runs at a checkpoint; the same command goes on, and runs nothing twice.
    More epochs extend the runs where schedule and methods allow it, as `offramp train --resume` does.

    On a Ray cluster (--ray), all nodes must see the current folder and OUT under the same paths. A run whose
    worker is lost goes on from its last checkpoint on another; if that one is lost too, the run has failed.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp sweep methods.yaml --jobs 2
  offramp sweep methods.yaml --lr 1/3,1,3 --data path/to/data --out runs/search
  offramp sweep methods.yaml --ray 10.0.0.1:6379 --cpus 4 --gpus 0.5"""

    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """YAML file that says what to train"""
    jobs: int | None = None
    """runs at a time on this machine, each a process with as many threads as FILE says (threads: 1); 1"""
    ray: Annotated[tuple[()] | tuple[str] | None, tyro.conf.arg(metavar="[ADDRESS]")] = None
    """give each run to a worker of the Ray cluster at ADDRESS, or of the one that runs here"""
    cpus: float | None = None
    """CPUs of each run on the cluster, in place of the file's; as many as its threads"""
    gpus: float | None = None
    """share of a GPU of each run on the cluster, 0 to 1, in place of the file's; 1 if there are any"""
    lr: str | None = None
    """factors of the learning rate, e.g. 1/3,1,3; each method's is picked on the validation images"""
    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="SOURCE")] = ()
    """data set, as for train, of several sets one after each --data; in place of the file's"""
    out: str | None = None
    """folder of the runs, in place of the file's"""
    output: OutputFlags = OUTPUT

    def run(self) -> Answer:
        """Train what is not finished yet, compare all."""
        from offramp.reports import check_report_folder, compare, write_report
        from offramp.runs.several import named_sources
        from offramp.sweeps.file import read_sweep
        from offramp.sweeps.sweep import sweep

        data = named_sources(self.data) if self.data else None
        plan = read_sweep(self.file, data=data, out=self.out, cpus=self.cpus, gpus=self.gpus)
        if self.ray is None and (self.cpus, self.gpus) != (None, None):
            raise UserError("--cpus and --gpus are shares of a Ray cluster's nodes; give --ray too")
        factors = parse_factors("1" if self.lr is None else self.lr)
        ray = None if self.ray is None else "".join(self.ray)
        check_report_folder(plan.out)
        outcome = sweep(plan, jobs=self.jobs, ray=ray, factors=factors)
        if outcome.error is not None and not outcome.finished:
            raise outcome.error
        comparison = compare(outcome.finished, pick_lr=len(factors) > 1)
        if outcome.failures:
            names = ", ".join(failure.name for failure in outcome.failures)
            note = f"the runs that failed are not in this table, nor is their cost: {names}"
            comparison = replace(comparison, notes=(*comparison.notes, note))
        document = write_report(comparison, plan.out)
        failures = [{**asdict(failure), "log": str(failure.log)} for failure in outcome.failures]
        return Answer({**document, "failed": failures}, comparison.table(), trouble=outcome.error)


def parse_factors(text: str) -> tuple[Fraction, ...]:
    """``"1/3,1,3"`` -> the factors.

    Raises:
        UserError: Not numbers above 0, or one of them twice.
    """
    try:
        parts = [part.strip() for part in text.split(",")]
        factors = tuple(Fraction(part) if FACTOR.fullmatch(part) else Fraction(0) for part in parts)
        different = {f"{float(f):.3g}" for f in factors}
    except (ValueError, ZeroDivisionError, OverflowError):
        factors, different = (), set()
    if not factors or min(factors) <= 0 or len(different) < len(factors):
        raise UserError(
            f"learning-rate factors {shown(text)} must be different numbers above 0, e.g. 1/3,1,3"
        )
    return factors
