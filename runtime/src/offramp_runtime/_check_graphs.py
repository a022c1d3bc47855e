"""Whether the graphs of a bundle fit its manifest, and each other."""

from __future__ import annotations

from offramp_runtime._graph import BATCH, Port, check_graph
from offramp_runtime._manifest import WHOLE, Bundle

__all__ = ["check_graphs"]


def check_graphs(bundle: Bundle) -> None:
    """Check what the graphs of a bundle read and say.

    Raises:
        BundleError: A graph cannot be loaded, or disagrees with the manifest.
    """
    probabilities = Port("probabilities", "float32", (BATCH, len(bundle.classes)))
    confidence = Port("confidence", "float32", (BATCH,))
    inputs = [Port(each.name, each.dtype, (BATCH, *each.shape)) for each in bundle.inputs]
    thresholds = Port("thresholds", "float32", bundle.thresholds.shape)
    check_graph(
        bundle.folder / WHOLE,
        [*inputs, thresholds],
        [probabilities, Port("exit", "int64", (BATCH,)), confidence],
    )
    for exit in bundle.exits:
        carried = [
            Port(
                each.name,
                each.dtype,
                None if each.shape is None else (BATCH, *each.shape) if each.batched else each.shape,
            )
            for each in exit.carried
        ]
        check_graph(bundle.folder / exit.graph, inputs, [probabilities, confidence, *carried])
        inputs = carried
