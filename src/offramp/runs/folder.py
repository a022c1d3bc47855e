"""The folder of a run in training: record, log, checkpoints, and what the finished run leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from offramp.runs import checkpoint
from offramp.runs._log import Log
from offramp.runs.extension import extend, is_longer
from offramp.runs.files import write_file, write_folder
from offramp.runs.kept_epochs import KeptEpochs
from offramp.runs.record import as_json, record_json
from offramp.runs.result import Result
from offramp.runs.weights import weights_bytes

__all__ = ["RunFolder"]


class RunFolder:
    """Everything that a training writes, and reads again to go on.

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
        self._log: Log | None = None

    def begin(self, record: dict[str, Any], before: dict[str, Any] | None) -> None:
        """Write the record of a new run, or make the run that is there a longer one.

        Args:
            record: The content of ``run.json`` from now on.
            before: What it is now; None if there is no run yet.

        Raises:
            UserError: The disk is full or not writable.
        """
        if not self._writes:
            return
        assert self.path is not None
        if before is None:
            write_folder(self.path, {"run.json": record_json(record)})  # from here on the run is there
        elif is_longer(before, record):
            extend(self.path, record)

    def open_log(self, epochs_done: int) -> None:
        """Go on with the log after so many epochs."""
        if self._writes:
            assert self.path is not None
            self._log = Log(self.path, epochs_done)

    def log_epoch(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write the lines of all epochs so far."""
        if self._log is not None:
            self._log.write(rows)

    def log_phases(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the lines of all phases of all epochs so far."""
        if self._log is not None:
            self._log.write_parts(rows)

    def save(self, net: nn.Module, state: dict[str, Any], *, step: int) -> None:
        """Write a checkpoint, then delete the older ones; see :func:`offramp.runs.checkpoint.save`."""
        if self._writes:
            assert self.path is not None
            self.last_checkpoint = checkpoint.save(self.path, net, state, step=step)

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
            assert self.path is not None
            for name, content in {**files, "weights.safetensors": weights_bytes(net)}.items():
                write_file(self.path / name, content)

    def finish(self, result: Result) -> None:
        """Write the result, which says that the run is finished."""
        if self._writes:
            assert self.path is not None
            write_file(self.path / "result.json", as_json(result.to_json()))
        self.kept_epochs.remove()
