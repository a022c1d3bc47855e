"""One ONNX graph of a bundle: its session, and whether it reads and says what the manifest has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from offramp_runtime._errors import BundleError, InputError, one_line

__all__ = ["BATCH", "Graph", "Port", "check_graph"]

BATCH = "N"  # an axis that has the length of the batch
KINDS = {"float": "float32", "double": "float64"}  # names of ONNX Runtime that are not numpy's
SILENT = 4  # log level: what fails is told by an exception


class Port(NamedTuple):
    """An input or an output of a graph.

    Attributes:
        name: Its name.
        dtype: Its numpy dtype.
        shape: The lengths of its axes, None for one of any length, ``BATCH`` for that of the samples; None:
            not known.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


class Graph:
    """A graph that can be run.

    Args:
        path: Its file.
        outputs: The names of what a run shall give, in order; the first is ``probabilities``.
        classes: How many classes these are of.
        threads: Threads for one operation; None: as many as there are cores.

    Raises:
        BundleError: It is no graph that ONNX Runtime can run.
    """

    def __init__(self, path: Path, outputs: Sequence[str], classes: int, threads: int | None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        # Threads wait in a loop for the next operation, but not for the next run: graphs share the cores.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session, self._outputs = _session(path, options), [*outputs]
        self._name, self._classes = path.name, classes

    def run(self, feed: Mapping[str, np.ndarray], samples: int) -> list[np.ndarray]:
        """What the graph says.

        Args:
            feed: Its inputs, by name.
            samples: How many samples they hold.

        Raises:
            InputError: It cannot run on them.
            BundleError: It does not say as much as it has to.
        """
        try:
            outputs = list(self._session.run(self._outputs, dict(feed)))
        except Exception as error:  # ONNX Runtime's are kinds of it only
            raise InputError(
                f"the network cannot run on this input ({one_line(str(error), 300)}); give another one"
            ) from None
        if outputs[0].shape != (samples, self._classes):
            raise BundleError(
                f"{self._name} gives probabilities of shape {[*outputs[0].shape]}, must be "
                f"{[samples, self._classes]}"
            )
        return outputs


def check_graph(path: Path, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """Check that a graph reads and says what it has to.

    Raises:
        BundleError: It does not, or is no graph that ONNX Runtime can run.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.intra_op_num_threads = 1
    session = _session(path, options)
    try:
        reads, says = ([*map(_port, nodes)] for nodes in (session.get_inputs(), session.get_outputs()))
    except UnicodeDecodeError:
        raise BundleError(f"{path.name} has a name that is no text; export the bundle again") from None
    for what, wanted, ports in (("reads", inputs, reads), ("says", outputs, says)):
        found = {port.name: port for port in ports}
        if found.keys() != {port.name for port in wanted}:
            names = ", ".join(port.name for port in wanted)
            raise BundleError(
                f"{path.name} {what} {', '.join(found) or 'nothing'}, and by manifest.json {names}"
            )
        for port in wanted:
            _check_port(path.name, port, found[port.name])
    for port in inputs:
        size = next(given.shape for given in reads if given.name == port.name)
        if port.shape and port.shape[0] == BATCH and size and size[0] is not None:
            raise BundleError(f"{path.name} takes batches of {size[0]} alone; export the bundle again")


def _port(node: Any) -> Port:
    """What a graph itself says of an input or output; of an output the rank may be unknown.

    Raises:
        UnicodeDecodeError: A name is no text.
    """
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    return Port(node.name, KINDS.get(kind, kind), shape or None)


def _check_port(graph: str, port: Port, found: Port) -> None:
    if found.dtype != port.dtype:
        raise BundleError(
            f"{graph} has {port.name} as {found.dtype}, and by manifest.json it is {port.dtype}"
        )
    if port.shape is None or found.shape is None:
        return
    fits = all(
        size is None or wanted in (None, BATCH, size)
        for size, wanted in zip(found.shape, port.shape, strict=False)
    )
    if len(found.shape) != len(port.shape) or not fits:
        raise BundleError(
            f"{graph} has {port.name} of shape {[*found.shape]}, and by manifest.json it is {[*port.shape]}"
        )


def _session(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    options.log_severity_level = SILENT
    try:
        # without its fallback, which prints, and tries the same again
        return onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:
        raise BundleError(f"ONNX Runtime cannot load {path.name} ({one_line(str(error), 300)})") from None
