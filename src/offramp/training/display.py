"""What a person sees while it trains: a bar on a terminal, a line per epoch elsewhere, nothing when quiet."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

__all__ = ["Display"]


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
        if not quiet and sys.stderr.isatty() and importlib.util.find_spec("rich") is not None:
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
        """One more step of an epoch (from 0) is done."""
        if self.bar is not None:
            self.bar.update(
                self.task,
                advance=1,
                description=f"epoch {epoch + 1}/{self.epochs}",
                rate=f"{images_per_second:.0f} images/s",
            )

    def epoch(self, row: Mapping[str, float]) -> None:
        """An epoch is done; the row is its line of metrics.csv."""
        if self.quiet:
            return
        self._line(
            f"epoch {row['epoch']:.0f}/{self.epochs}  {_numbers(row)}  "
            f"lr {row['lr']:.3g}  {row['seconds']:.1f} s  {row['images_per_second']:.0f} images/s"
        )

    def part(self, row: Mapping[str, Any]) -> None:
        """A part of an epoch is done; the row is its line of parts.csv."""
        if not self.quiet:
            epoch = f"epoch {row['epoch']:.0f}/{self.epochs}"
            self._line(f"{epoch}  {row['part']}  {_numbers(row)}  {row['seconds']:.1f} s")

    def _line(self, line: str) -> None:
        if self.bar is not None:
            self.bar.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> Display:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.stop()


def _numbers(row: Mapping[str, float]) -> str:
    """The losses and accuracies of a line, exit by exit."""
    groups = (("loss", "train_loss_", ".3f"), ("val top-1", "val_top1_", ".1f"))
    found = {
        title: " ".join(f"{value:{form}}" for key, value in row.items() if key.startswith(prefix))
        for title, prefix, form in groups
    }
    return "  ".join(f"{title} {values}" for title, values in found.items() if values)
