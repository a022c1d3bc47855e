"""Images per second of training steps: Figs 4 and 5 (right) of Deep Feature Surgery, measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from offramp.data import pipeline
from offramp.errors import UserError
from offramp.memory import keep_freed_memory
from offramp.nets.text import build
from offramp.papers.catalogue import STEP_TIMES
from offramp.reports.canvas import canvas
from offramp.reports.plot_lines import line_style
from offramp.reproduce._scaling import scaled
from offramp.reproduce._step_times import PHASES, StepTimer, endless, take_turns
from offramp.reproduce.computation import ComputationPlan
from offramp.reproduce.experiment import Report
from offramp.say import say
from offramp.text_table import aligned

__all__ = ["by_batch", "by_beta"]

ITERATIONS = 101  # the first of which is discarded
FEWEST = 3

Rows = list[dict[str, Any]]


def by_batch(*batches: int) -> Callable[[ComputationPlan], Report]:
    """A figure of images per second against the batch size, a line for each method."""

    def report(plan: ComputationPlan) -> Report:
        rows = [row for batch in batches for row in _measured(plan, batch)]
        return _report(plan, rows, "batch", "images in a batch")

    return report


def by_beta(batch: int) -> Callable[[ComputationPlan], Report]:
    """A figure of images per second against beta, one line."""

    def report(plan: ComputationPlan) -> Report:
        return _report(plan, _measured(plan, batch), "beta", "beta")

    return report


def _measured(plan: ComputationPlan, published_batch: int) -> Rows:
    """The times of all methods at a batch size, each beside the published one."""
    assert plan.source is not None
    figure, data = plan.computation, plan.source.whole
    batch = max(2, scaled(published_batch, plan.scale))
    if batch > len(data.train):
        raise UserError(
            f"{data.name} has {len(data.train)} training images, and {figure.name} takes batches of {batch}; "
            "give more images, or a smaller `scale=...`"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        keep_freed_memory()  # as a training does
    transform, _ = pipeline(figure.full_recipe.augment or "none", data)
    say(f"timing steps of {plan.net}, batch {batch}")
    timers = []
    for label in figure.methods:
        torch.manual_seed(0)
        net = build(plan.net, targets=data.targets).to(device)
        batches = endless(data.train, batch, transform, device, side=net.input_size[-1])
        timers.append(StepTimer(figure.method(label), net, batches))
    with _exact_kernels():
        take_turns(timers, max(FEWEST, scaled(ITERATIONS, plan.scale)))
    printed = {(time.net, time.batch, time.method): time.fps for time in STEP_TIMES}
    return [
        {
            "method": label,
            "beta": figure.method(label).options.get("beta"),
            "batch": batch,
            **timer.times(batch),
            "published": {
                "batch": published_batch,
                "beta": figure.method(label).options.get("beta"),
                "fps": printed.get((figure.net, published_batch, label)),
            },
        }
        for label, timer in zip(figure.methods, timers, strict=True)
    ]


@contextmanager
def _exact_kernels() -> Iterator[None]:
    """As published: cuDNN deterministic, and without a search for the fastest kernels."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def _report(plan: ComputationPlan, rows: Rows, x: str, axis: str) -> Report:
    plan.folder.mkdir(parents=True, exist_ok=True)
    picture = plan.folder / "images-per-second.png"
    _draw(picture, rows, x, axis)
    seconds = [f"{phase} s" for phase in PHASES]
    header = ["method", "batch", *seconds, "images/s", "published: batch", "images/s"]
    devices = dict.fromkeys(time.device for time in STEP_TIMES if time.net == plan.computation.net)
    text = (
        f"{aligned(header, [*map(_cells, rows)])}\n\nours on {_device()}; published on {', '.join(devices)}: "
        f"compare the methods of a column, and no column with the other\npicture: {picture}"
    )
    return Report({"device": _device(), "rows": rows, "picture": str(picture)}, text)


def _cells(row: Mapping[str, Any]) -> list[str]:
    published = row["published"]
    fps = "-" if published["fps"] is None else f"{published['fps']:.1f}"
    ours = [row["method"], str(row["batch"]), *(f"{row[phase]:.4f}" for phase in PHASES), f"{row['fps']:.1f}"]
    return [*ours, str(published["batch"]), fps]


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"a CPU, {threads} {'thread' if threads == 1 else 'threads'}"


def _draw(path: Path, rows: Rows, x: str, axis: str) -> None:
    """Ours on the left, published on the right: other machines, whose axes are not one.

    Args:
        path: The picture's file.
        rows: Those of the report.
        x: Key of the number to the right: ``"batch"``, a line for each method; or ``"beta"``, one line.
        axis: What that is called.
    """
    with canvas(path, 10, 4.4) as figure:
        ours, published = figure.subplots(1, 2)
        panels = (ours, "ours", rows), (published, "published", [row["published"] for row in rows])
        for axes, title, points in panels:
            lines: dict[str, list[tuple[float, float]]] = {}
            for row, point in zip(rows, points, strict=True):
                if point["fps"] is not None:
                    label = row["method"] if x == "batch" else "dfs"
                    lines.setdefault(label, []).append((point[x], point["fps"]))
            for number, (label, line) in enumerate(lines.items()):
                colour, stroke = line_style(number)
                axes.plot(*zip(*line, strict=True), stroke, marker="o", color=colour, label=label)
            axes.set_title(title, loc="left", fontsize=12)
            axes.set_xlabel(axis)
            axes.set_ylim(bottom=0)
            axes.grid(axis="y", color="0.9", linewidth=0.8)
            axes.set_axisbelow(True)
        ours.set_ylabel("images per second")
        ours.legend(frameon=False, fontsize=9)
