"""What a reproduction will cost: operations counted, and hours from a few timed steps of joint training."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from offramp.checks import count_of, of_kind
from offramp.cores import cores
from offramp.counting import cost
from offramp.nets import Net
from offramp.nets.text import build
from offramp.recipes import Recipe
from offramp.reproduce.planning import Plan
from offramp.runs.epochs import read_epochs
from offramp.runs.sets import open_set
from offramp.say import say
from offramp.sweeps.file import Entry
from offramp.text_table import aligned, count
from offramp.training import fit
from offramp.training.threads import threads_given_back

__all__ = ["Estimate", "RowEstimate", "estimate"]

TIMED = 2e10  # operations of a forward and backward pass that make a step long enough to be timed
STEPS = 3  # that are timed, after as many that warm up


@dataclass(frozen=True)
class RowEstimate:
    """What a row costs, over all its seeds.

    Attributes:
        label: What the published table calls it.
        joint_epochs: Forward and backward passes of one seed, in epochs of joint training.
        flops: Operations of the training; as in the papers, a multiply-accumulate is one.
        seconds: Of one process with the threads of the sweep's runs.
    """

    label: str
    joint_epochs: float
    flops: float | None
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """What a reproduction costs.

    Attributes:
        rows: Row by row.
        jobs: How many runs there are at a time.
    """

    rows: tuple[RowEstimate, ...]
    jobs: int

    @property
    def flops(self) -> float | None:
        """Operations of all rows; None where some are unknown."""
        known = [row.flops for row in self.rows if row.flops is not None]
        return sum(known) if len(known) == len(self.rows) else None

    @property
    def hours(self) -> float:
        """Hours of all rows, so many runs at a time, as far as this machine has cores for them."""
        return sum(row.seconds for row in self.rows) / 3600 / min(self.jobs, cores())

    def table(self) -> str:
        """The rows and their sum."""
        lines = [
            [row.label, f"{row.joint_epochs:.4g}", count(row.flops), f"{row.seconds / 3600:.2f}"]
            for row in self.rows
        ]
        lines.append(["all", "", count(self.flops), f"{sum(row.seconds for row in self.rows) / 3600:.2f}"])
        runs = "one run at a time" if self.jobs == 1 else f"{self.jobs} runs at a time"
        header = ["method", "joint epochs", "FLOPs", "hours of one run at a time"]
        return (
            f"{aligned(header, lines)}\n\n"
            f"about {self.hours:.2g} hours of this machine with nothing else on it, {runs}\n"
            "(from a few steps of joint training, and each method's passes; what is no pass is not in it)"
        )

    def to_dict(self) -> dict[str, Any]:
        """The estimate as plain values."""
        rows = [vars(row) for row in self.rows]
        return {"rows": rows, "flops": self.flops, "hours": self.hours, "jobs": self.jobs}


def estimate(plan: Plan, jobs: int = 1) -> Estimate:
    """Count what a plan's trainings compute, and time a few steps of joint training for each of its nets.

    A backward pass counts as two forward passes, and every method as its passes
    (:class:`~offramp.methods.passes.Passes`). Nothing is kept, and torch's random numbers stay as they were.

    Args:
        plan: The plan.
        jobs: How many runs there will be at a time.

    Raises:
        UserError: It is no plan of trainings, or no such number of jobs.
    """
    of_kind("plan", plan, Plan, "that of trainings; a figure that nothing is trained for has no estimate")
    count_of("jobs", jobs)
    nets = dict.fromkeys(entry.net for entry in plan.sweep.entries)
    built = {text: build(text, input_size=plan.data.input_size, targets=plan.data.targets) for text in nets}
    flops = {text: cost(net).flops for text, net in built.items()}
    seconds = {}
    for text, net in built.items():
        say(f"timing a few steps of {text}")
        seconds[text] = _seconds_of_an_image(plan, net, flops[text])
    rows = [
        _row(plan, row.label, entry, built[entry.net], flops[entry.net], seconds[entry.net])
        for row, entry in zip(plan.rows, plan.sweep.entries, strict=True)
    ]
    return Estimate(tuple(rows), jobs)


def _row(plan: Plan, label: str, entry: Entry, net: Net, flops: float | None, seconds: float) -> RowEstimate:
    """A row's cost over its seeds: the training, validation after each epoch, and the tests at the end."""
    epochs = entry.recipe.epochs
    passes = entry.method.joint_epochs(net.outputs, epochs)
    seeds = len(plan.sweep.seeds)
    images = passes * len(plan.data.train)  # in forward and backward passes of joint training
    tests = 1 + min(epochs, entry.recipe.last_epochs or 0)
    looks = (epochs * len(plan.data.val) + tests * len(plan.data.test)) / 3
    return RowEstimate(
        label=label,
        joint_epochs=passes,
        flops=None if flops is None else seeds * 3 * flops * images,
        seconds=seeds * seconds * (images + looks),
    )


def _seconds_of_an_image(plan: Plan, net: Net, flops: float | None) -> float:
    """Seconds of a joint training step for each image, with the recipe's batches or smaller ones.

    Where other programs use the machine too, only the share of the time that this one had counts.
    """
    recipe: Recipe = plan.sweep.entries[0].recipe
    batch = recipe.batch_size if flops is None else int(TIMED / (3 * flops))
    batch = max(2, min(recipe.batch_size, batch))
    steps = STEPS if flops is None or 3 * flops * batch <= TIMED else 1
    steps = max(1, min(steps, len(plan.data.train) // batch))
    few = recipe.replace(
        epochs=2, batch_size=batch, schedule="constant", milestones=(), val_fraction=0.0, last_epochs=0,
        train_limit=batch * steps, test_limit=1, options={},
    )  # fmt: skip
    data = open_set(plan.sweep.data, few)
    with TemporaryDirectory() as folder, torch.random.fork_rng(), threads_given_back():
        torch.set_num_threads(threads := plan.sweep.threads or 1)
        out = Path(folder) / "run"
        cpu, wall = time.process_time(), time.perf_counter()
        fit(net, data, "joint", few, out, quiet=True)
        share = (time.process_time() - cpu) / (time.perf_counter() - wall) / threads
        return min(share, 1.0) * read_epochs(out)[-1]["seconds"] / (batch * steps)
