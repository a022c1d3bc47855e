"""metrics.csv, and TensorBoard's events where it is installed."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from offramp.training.files import disk_errors, write_file

__all__ = ["Log"]


class Log:
    """One row per epoch.

    Args:
        run: The run folder.
        epochs_done: Where a resumed run goes on; later events are dropped.
    """

    def __init__(self, run: Path, epochs_done: int = 0) -> None:
        self.path = run / "metrics.csv"
        self.events: Any = None
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            with disk_errors(run / "tensorboard"):
                self.events = SummaryWriter(str(run / "tensorboard"), purge_step=epochs_done + 1)

    def write(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write all rows anew, so that a resumed run cannot repeat one, and the last one's events.

        Raises:
            UserError: The disk is full or not writable.
        """
        text = io.StringIO()
        table = csv.DictWriter(text, fieldnames=list(rows[-1]), lineterminator="\n")
        table.writeheader()
        table.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in rows)
        write_file(self.path, text.getvalue().encode())
        if self.events is not None:
            with disk_errors(self.path.with_name("tensorboard")):
                for key, value in rows[-1].items():
                    self.events.add_scalar(key, value, int(rows[-1]["epoch"]))
                self.events.flush()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.events is not None:  # a first error must not be hidden by a second one
            with disk_errors(self.path.with_name("tensorboard")) if error is None else suppress(OSError):
                self.events.close()
