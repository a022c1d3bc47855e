"""Weights that several graphs share, in a file of their own."""

from __future__ import annotations

from onnx import ModelProto, TensorProto

from offramp.bundles._graph import graphs_within

__all__ = ["WEIGHTS", "SharedWeights"]

WEIGHTS = "weights.bin"
LEAST = 1024  # bytes of a weight that is worth a place outside of its graph; shapes are looked for within
PAGE = 4096  # bytes; a weight that begins on a page of memory is read as it lies in the file


class SharedWeights:
    """Weights outside of the graphs that have them, each once."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._places: dict[str, tuple[int, int]] = {}

    def moved(self, model: ModelProto) -> bytes:
        """A model as a file, its large weights moved out; weights of one name are one."""
        outside = ModelProto()
        outside.CopyFrom(model)
        for graph in graphs_within(outside.graph):
            for weight in graph.initializer:
                if len(weight.raw_data) >= LEAST:
                    self._move(weight)
        return bytes(outside.SerializeToString(deterministic=True))

    def content(self) -> bytes:
        """The file of weights."""
        return b"".join(self._parts)

    def _move(self, weight: TensorProto) -> None:
        if weight.name not in self._places:
            gap = -self._size % PAGE
            self._parts += [bytes(gap), weight.raw_data]
            self._places[weight.name] = self._size + gap, len(weight.raw_data)
            self._size += gap + len(weight.raw_data)
        offset, length = self._places[weight.name]
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS), ("offset", offset), ("length", length)):
            weight.external_data.add(key=key, value=str(value))
