"""The log of a run: metrics.csv, and TensorBoard's events where it is installed."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from offramp.runs.files import disk_errors, write_files

__all__ = ["Log"]


class Log:
    """The log of a run: a row for each epoch.

    Args:
        run: The run folder.
        epochs_done: Epochs after which a resumed run goes on; TensorBoard drops what was logged beyond.

    Raises:
        UserError: The disk is full or not writable.
    """

    def __init__(self, run: Path, epochs_done: int = 0) -> None:
        self.path = run / "metrics.csv"
        self.events = None
        if importlib.util.find_spec("tensorboard") is not None:
            self.events = _Events(run / "tensorboard", epochs_done + 1)

    def write(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write all rows anew, so that a resumed run cannot repeat one, and the last one's events.

        Raises:
            UserError: The disk is full or not writable.
        """
        write_files(self.path.parent, {self.path.name: _table(rows)})
        if self.events is not None:
            self.events.write(rows[-1])

    def write_parts(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the lines of all parts of all epochs anew, to parts.csv.

        Raises:
            UserError: The disk is full or not writable.
        """
        write_files(self.path.parent, {"parts.csv": _table(rows)})


def _table(rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    columns = dict.fromkeys(key for row in reversed(rows) for key in row)  # an older row may have more
    table = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow({k: v if isinstance(v, str) else f"{v:.6g}" for k, v in row.items()})
    return text.getvalue().encode()


class _Events:
    """Writer of TensorBoard's events, without a thread: its own prints a traceback on a full disk."""

    def __init__(self, folder: Path, first: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary

        self.event, self.summary = Event, Summary
        self.path = folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        with disk_errors(folder):
            folder.mkdir(exist_ok=True)
        self._append(file_version="brain.Event:2")
        self._append(step=first, session_log=SessionLog(status=SessionLog.START))  # drops later ones

    def write(self, row: Mapping[str, float]) -> None:
        values = [self.summary.Value(tag=key, simple_value=value) for key, value in row.items()]
        self._append(step=int(row["epoch"]), summary=self.summary(value=values))

    def _append(self, **content: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        with disk_errors(self.path), open(self.path, "ab") as file:
            RecordWriter(file).write(self.event(wall_time=time.time(), **content).SerializeToString())
