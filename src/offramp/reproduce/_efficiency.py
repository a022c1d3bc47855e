"""Images per second of training steps: Figs 4 and 5 (right) of Deep Feature Surgery, measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from offramp.data import pipeline
from offramp.errors import UserError
from offramp.memory import keep_freed_memory
from offramp.methods import Method, method
from offramp.nets.text import build
from offramp.papers.catalogue import STEP_TIMES
from offramp.reports.canvas import canvas
from offramp.reports.plot_lines import line_style
from offramp.reproduce._scaling import narrower, scaled
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
        return _report(plan, rows, lambda row: (row["method"], row["published_batch"]), "images in a batch")

    return report


def by_beta(batch: int) -> Callable[[ComputationPlan], Report]:
    """A figure of images per second against beta, one line."""

    def report(plan: ComputationPlan) -> Report:
        rows = _measured(plan, batch)
        return _report(plan, rows, lambda row: ("dfs", row["beta"]), "beta")

    return report


def _measured(plan: ComputationPlan, published_batch: int) -> Rows:
    """The times of all methods at a batch size, each beside the published one."""
    assert plan.source is not None
    data, net_word = plan.source.whole, plan.computation.net
    batch = max(2, scaled(published_batch, plan.scale))
    if batch > len(data.train):
        raise UserError(
            f"{data.name} has {len(data.train)} training images, and {plan.computation.name} takes batches "
            f"of {batch}; give more images, or a smaller `scale=...`"
        )
    chosen = {word: _method(word) for word in plan.computation.methods}
    text = narrower(net_word, plan.scale, chosen.values())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        keep_freed_memory()  # as a training does
    transform, _ = pipeline(plan.computation.full_recipe.augment or "none", data)
    say(f"timing steps of {text}, batch {batch}")
    timers = []
    for each in chosen.values():
        torch.manual_seed(0)
        net = build(text, targets=data.targets).to(device)
        batches = endless(data.train, batch, transform, device, side=net.input_size[-1])
        timers.append(StepTimer(each, net, batches))
    with _exact_kernels():
        take_turns(timers, max(FEWEST, scaled(ITERATIONS, plan.scale)))
    printed = {(time.net, time.batch, time.method): time.fps for time in STEP_TIMES}
    return [
        {
            "net": text,
            "batch": batch,
            "method": word,
            "beta": each.options.get("beta"),
            **timer.times(batch),
            "published_batch": published_batch,
            "published_fps": printed.get((net_word, published_batch, word)),
        }
        for (word, each), timer in zip(chosen.items(), timers, strict=True)
    ]


def _method(word: str) -> Method:
    """``"dfs beta=0.3"`` -> the method with its option."""
    name, _, option = word.partition(" ")
    key, _, value = option.partition("=")
    return method(name, {key: float(value)} if option else {})


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


def _report(
    plan: ComputationPlan, rows: Rows, place: Callable[[dict[str, Any]], tuple[str, Any]], axis: str
) -> Report:
    plan.folder.mkdir(parents=True, exist_ok=True)
    picture = plan.folder / "images-per-second.png"
    _draw(picture, rows, place, axis)
    seconds = [f"{phase} s" for phase in PHASES]
    header = ["method", "batch", *seconds, "images/s", "published: batch", "images/s"]
    devices = dict.fromkeys(time.device for time in STEP_TIMES if time.net == plan.computation.net)
    text = (
        f"{aligned(header, [*map(_cells, rows)])}\n\nours on {_device()}; published on {', '.join(devices)}: "
        f"compare the methods of a column, and no column with the other\npicture: {picture}"
    )
    return Report({"device": _device(), "rows": rows, "picture": str(picture)}, text)


def _cells(row: Mapping[str, Any]) -> list[str]:
    published = "-" if row["published_fps"] is None else f"{row['published_fps']:.1f}"
    ours = [row["method"], str(row["batch"]), *(f"{row[phase]:.4f}" for phase in PHASES), f"{row['fps']:.1f}"]
    return [*ours, str(row["published_batch"]), published]


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"a CPU, {torch.get_num_threads()} threads"


def _draw(path: Path, rows: Rows, place: Callable[[dict[str, Any]], tuple[str, Any]], axis: str) -> None:
    """Ours on the left, published on the right: other machines, whose axes are not one."""
    with canvas(path, 10, 4.4) as figure:
        ours, published = figure.subplots(1, 2)
        for axes, key, title in ((ours, "fps", "ours"), (published, "published_fps", "published")):
            lines: dict[str, list[tuple[Any, float]]] = {}
            for row in rows:
                if row[key] is not None:
                    label, x = place(row)
                    lines.setdefault(label, []).append((x, row[key]))
            for number, (label, points) in enumerate(lines.items()):
                colour, stroke = line_style(number)
                axes.plot(*_columns(points), stroke, marker="o", color=colour, label=label)
            axes.set_title(title, loc="left", fontsize=12)
            axes.set_xlabel(f"{axis}, as published" if axis != "beta" else axis)
            axes.set_ylim(bottom=0)
            axes.grid(axis="y", color="0.9", linewidth=0.8)
            axes.set_axisbelow(True)
        ours.set_ylabel("images per second")
        ours.legend(frameon=False, fontsize=9)


def _columns(points: Sequence[tuple[Any, float]]) -> tuple[list[Any], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
