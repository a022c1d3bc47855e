"""The folder of a run in training: record, log, checkpoints, and what the finished run leaves.

It has one writer, which holds its lock (:mod:`offramp.runs.lock`) from before it reads the run until the end,
and writes only as long as the folder is the one that it locked. Files that are read again have checksums.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from offramp.runs import checkpoint
from offramp.runs._log import Log
from offramp.runs._standing import Standing
from offramp.runs.beginning import begin, may_begin
from offramp.runs.extension import extend, is_longer
from offramp.runs.files import check_files, write_files
from offramp.runs.kept_epochs import KeptEpochs
from offramp.runs.lock import Lock
from offramp.runs.record import as_json, read_record, read_result, record_json
from offramp.runs.result import Result
from offramp.runs.weights import weights_bytes

__all__ = ["RunFolder"]


class RunFolder:
    """Everything that a training writes, and reads again to go on; a context that holds the folder's lock.

    Args:
        path: The folder; None keeps nothing.
        writes: Whether this process writes, as one of those that train together does.

    Attributes:
        last_checkpoint: The last one written or read.
        kept_epochs: Weights after the last epochs, until the result is written.
    """

    def __init__(self, path: Path | None, *, writes: bool) -> None:
        self.path = path
        self.last_checkpoint: Path | None = None
        self.kept_epochs = KeptEpochs(path, writes=writes)
        self._writes = path is not None and writes
        self._lock: Lock | None = None
        self._place: Standing | None = None
        self._log: Log | None = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *error: object) -> None:
        if self._lock is not None:
            self._lock.release()

    def claim(self) -> None:
        """Lock the folder of a run that is there, and check its files, before anything else is read of it.

        A folder that is not writable stays unlocked: this process may still read a finished run.

        Raises:
            UserError: Another process holds it, or a file is not the one that was written.
        """
        if self._writes:
            assert self.path is not None
            if not may_begin(self.path) and self.path.is_dir():
                if os.access(self.path, os.W_OK):
                    self._lock = Lock(self.path)
                check_files(self.path)

    def begin(self, record: dict[str, Any], before: dict[str, Any] | None) -> None:
        """Write the record of a new run, or make the run that is there a longer one.

        Args:
            record: The content of ``run.json`` from now on.
            before: What it is now; None if there is no run yet.

        Raises:
            UserError: Another process has begun a run there, or the disk is full or not writable.
        """
        if not self._writes:
            return
        assert self.path is not None
        lock = self._lock
        if before is None or lock is None:
            lock = self._lock = begin(self.path, record_json(record))  # refuses a run that has come meanwhile
        elif is_longer(before, record):
            extend(self.path, record)
        self._place = Standing(self.path, lock)

    def open_log(self, epochs_done: int) -> None:
        """Go on with the log after so many epochs."""
        if self._writes:
            self._log = Log(self._standing(), epochs_done)

    def log_epoch(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write the lines of all epochs so far."""
        if self._log is not None:
            self._standing()
            self._log.write(rows)

    def log_phases(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the lines of all phases of all epochs so far."""
        if self._log is not None:
            self._standing()
            self._log.write_parts(rows)

    def save(self, net: nn.Module, state: dict[str, Any], *, step: int) -> None:
        """Write a checkpoint, then delete the older ones; see :func:`offramp.runs.checkpoint.save`."""
        if self._writes:
            self.last_checkpoint = checkpoint.save(self._standing(), net, state, step=step)

    def find_checkpoint(self) -> Path | None:
        """Look for the last checkpoint, in every process."""
        self.last_checkpoint = None if self.path is None else checkpoint.last(self.path)
        return self.last_checkpoint

    def load(self, net: nn.Module) -> dict[str, Any]:
        """Put the weights of the checkpoint that was found into the net, and return its state."""
        assert self.last_checkpoint is not None
        return checkpoint.load(self.last_checkpoint, net)

    def keep(self, net: nn.Module, files: Mapping[str, bytes]) -> None:
        """Write the weights of the trained net, and other files by name."""
        if self._writes:
            write_files(self._standing(), {**files, "weights.safetensors": weights_bytes(net)})

    def finish(self, result: Result) -> None:
        """Write the result, which says that the run is finished, and read the run as one that opens it does.

        Raises:
            UserError: The disk is full or not writable, or a file is not what was written.
        """
        if self._writes:
            path = self._standing()
            write_files(path, {"result.json": as_json(result.to_json())})
            read_result(path, read_record(path))
            check_files(path)
        self.kept_epochs.remove()

    def _standing(self) -> Path:
        """The folder, if it is still the one that the training began in.

        Raises:
            UserError: It was moved, removed or replaced.
        """
        assert self.path is not None and self._place is not None
        self._place.check(self.last_checkpoint)
        return self.path
