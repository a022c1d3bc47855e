"""What a person sees while it trains: a bar on a terminal, a line per epoch elsewhere, nothing when quiet."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from offramp.say import say
from offramp.tasks.outputs import heading

__all__ = ["Display"]

WIDTH = 80  # columns of a terminal; what does not fit is in metrics.csv


class Display:
    """Writes to stderr only, so that stdout stays free for results.

    Args:
        epochs: How many epochs the run has.
        steps: Steps per epoch.
        done: Steps done already, in a resumed run.
        quiet: Show nothing.
    """

    def __init__(self, epochs: int, steps: int, *, done: int = 0, quiet: bool = False) -> None:
        self.epochs, self.quiet = epochs, quiet
        self.bar: Any = None
        if (
            not quiet
            and sys.stderr is not None
            and sys.stderr.isatty()
            and importlib.util.find_spec("rich") is not None
        ):
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total} steps  {task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self.task = self.bar.add_task("training", total=epochs * steps, completed=done, rate="")

    def step(self, epoch: int, images_per_second: float) -> None:
        """Show that another step of an epoch (from 0) is done."""
        if self.bar is not None:
            self.bar.update(
                self.task,
                advance=1,
                description=f"epoch {epoch + 1}/{self.epochs}",
                rate=f"{images_per_second:.0f} images/s",
            )

    def epoch(self, row: Mapping[str, float]) -> None:
        """An epoch is done; the row is its line of metrics.csv.

        Told are the loss, mean of the outputs; the primary metric on the validation samples, mean and of the
        last exit, or of each output that is no exit, by name; the last learning rate; and the speed.
        """
        self._line(
            f"epoch {row['epoch']:.0f}/{self.epochs}",
            f"loss {_mean(_trained(row)):.4g}" if _trained(row) else "",
            *_validation(row),
            f"lr {row['lr']:.2g}",
            f"{row['images_per_second']:.0f} img/s",
        )

    def phase(self, row: Mapping[str, Any]) -> None:
        """A phase of an epoch is done; the row is its line of parts.csv."""
        trained = _trained(row)
        self._line(
            f"epoch {row['epoch']:.0f}/{self.epochs}",
            str(row["part"]),
            f"loss {_mean(trained):.4g}" if trained else "",
            f"{row['seconds']:.1f} s",
        )

    def _line(self, *fields: str) -> None:
        """Print a line of as many of the fields as fit it."""
        if self.quiet:
            return
        shown = [field for field in fields if field]
        while len(line := "  ".join(shown)) > WIDTH:
            shown.pop()
        if self.bar is not None:
            with contextlib.suppress(OSError):  # of a terminal that is gone
                self.bar.console.print(line, highlight=False)
        else:
            say(line)

    def __enter__(self) -> Display:
        if self.bar is not None:
            with contextlib.suppress(OSError):
                self.bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar is not None:
            with contextlib.suppress(OSError):
                self.bar.stop()


def _validation(row: Mapping[str, float]) -> list[str]:
    """The columns ``val_METRIC_OUTPUT`` in words: exits by mean and last, other outputs by name.

    Of several tasks the metric that stands for each is told, without its name.
    """
    by_column = {key.removeprefix("val_"): value for key, value in row.items() if key.startswith("val_")}
    metrics = {key.rpartition("_")[0] for key in by_column}
    if len(metrics) != 1 or not all(key.rpartition("_")[2].isdigit() for key in by_column):
        outputs = [key.removeprefix("train_loss_") for key in row if key.startswith("train_loss_")]
        told = [f"{_output_of(key, outputs)} {value:.4g}" for key, value in by_column.items()]
        return [f"val {told[0]}", *told[1:]] if told else []
    name, values = heading(metrics.pop()), [*by_column.values()]
    if name.endswith(" %"):
        return [f"val mean {_mean(values):.1f} last {values[-1]:.1f} %"]
    return [f"val {name} mean {_mean(values):.4g} last {values[-1]:.4g}"]


def _output_of(column: str, outputs: Sequence[str]) -> str:
    """The output in a column ``METRIC_OUTPUT``: the longest name that it ends with."""
    return max((name for name in outputs if column.endswith(f"_{name}")), key=len, default=column)


def _trained(row: Mapping[str, float]) -> list[float]:
    """The losses of the outputs that had one."""
    losses = [value for key, value in row.items() if key.startswith("train_loss_")]
    return [loss for loss in losses if not math.isnan(loss)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
