"""The weights after the last epochs of a training, until they are measured; then, their metrics."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from offramp.errors import UserError
from offramp.plain_json import parse_json
from offramp.runs._result_shape import check_epochs
from offramp.runs.files import disk_errors, read_bytes, write_files
from offramp.runs.shape import damage, remedy
from offramp.runs.weights import load_weights, weights_bytes
from offramp.tasks.evaluation import Metrics

__all__ = ["KeptEpochs"]

_NAME = re.compile(r"epoch-(\d+)\.safetensors$")


class KeptEpochs:
    """``last_epochs/epoch-00007.safetensors`` ... in a run's folder, and ``last_epochs.json``, the metrics.

    The metrics stay when the weights go: a run that is extended needs those of epochs that it has had.

    Args:
        run: The run folder; None keeps the weights in a temporary folder, and no metrics.
        writes: Whether this process writes to the run folder, as one of those that train together does.
    """

    def __init__(self, run: Path | None, *, writes: bool) -> None:
        self._run, self._writes = run, writes or run is None
        self._temporary: Path | None = None

    def save(self, epoch: int, net: nn.Module) -> None:
        """Keep the weights after an epoch.

        Raises:
            UserError: The disk is full or not writable.
        """
        if self._writes:
            path = self._path(epoch)
            with disk_errors(path):
                path.parent.mkdir(exist_ok=True)
            write_files(path.parent, {path.name: weights_bytes(net)})

    @property
    def epochs(self) -> list[int]:
        """The epochs whose weights are kept, in every process."""
        names = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted(int(match[1]) for path in names if (match := _NAME.match(path.name)))

    def load(self, epoch: int, net: nn.Module) -> None:
        """Put the weights after an epoch into the net.

        Raises:
            UserError: The file cannot be read, or is of another network.
        """
        load_weights(net, self._path(epoch))

    def remove(self) -> None:
        """Delete the weights, once nothing needs them any more."""
        if self._writes and (self._run or self._temporary):
            shutil.rmtree(self._folder, ignore_errors=True)

    def metrics(self) -> dict[int, Metrics]:
        """The metrics of the epochs that have been measured, from 1.

        Raises:
            UserError: Their file cannot be read or is damaged.
        """
        if self._run is None or not (path := self._run / "last_epochs.json").is_file():
            return {}
        text = read_bytes(path)
        try:
            content = parse_json(text)
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}); {remedy(path)}") from None
        check_epochs(content, path)
        return {int(epoch): Metrics(of["outputs"], of["ensemble"]) for epoch, of in content.items()}

    def check_alike(self, metrics: Mapping[int, Metrics], like: Metrics) -> None:
        """Check that the metrics of epochs are those that the run has.

        Raises:
            UserError: An epoch has others; the line names the file.
        """
        for epoch, of in metrics.items():
            if _names(of) != _names(like):
                path = Path("last_epochs.json") if self._run is None else self._run / "last_epochs.json"
                raise damage(
                    _names(of), path, f"{epoch}", f"of the run's outputs and metrics, {_names(like)}"
                )

    def save_metrics(self, metrics: Mapping[int, Metrics]) -> None:
        """Write the metrics of epochs.

        Raises:
            UserError: The disk is full or not writable.
        """
        if self._run is not None and self._writes:
            content = {
                str(epoch): {"outputs": of.outputs, "ensemble": of.ensemble} for epoch, of in metrics.items()
            }
            text = json.dumps(content, indent=1) + "\n"
            write_files(self._run, {"last_epochs.json": text.encode()})

    @property
    def _folder(self) -> Path:
        if self._run is not None:
            return self._run / "last_epochs"
        if self._temporary is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="offramp-"))
            weakref.finalize(self, shutil.rmtree, self._temporary, ignore_errors=True)
        return self._temporary

    def _path(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch:05d}.safetensors"


def _names(metrics: Metrics) -> dict[str, list[str]]:
    """The metrics of each output, and of the ensemble under an empty name."""
    return {name: sorted(values) for name, values in [*metrics.outputs.items(), ("", metrics.ensemble or {})]}
