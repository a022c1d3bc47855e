"""Parts of a net in whole numbers of 8 bits, by ONNX Runtime's static quantisation."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from offramp.bundles._graph import drop_unread
from offramp.bundles._parts import NetPart
from offramp.bundles._quiet import quiet
from offramp.errors import UserError, error_text

__all__ = ["quantized"]

Feed = dict[str, np.ndarray]
NORM = "BatchNormalization"


def quantized(parts: Sequence[NetPart], batches: Sequence[Sequence[np.ndarray]]) -> list[NetPart]:
    """The parts with weights (one scale for each channel) and activations of 8 bits.

    Args:
        parts: The parts.
        batches: What the first of them reads; the ranges of activations are those that these samples reach.

    Raises:
        UserError: ONNX Runtime cannot quantise a part.
    """
    found = []
    for part in parts:
        names = [each.name for each in part.model.graph.input]
        feeds = [dict(zip(names, batch, strict=True)) for batch in batches]
        try:
            model = _quantized(part.model, feeds)
            _session(model)
        except Exception as error:  # of the quantiser, or of ONNX Runtime
            raise UserError(
                f"exit {part.exit} cannot be put in 8 bits: {error_text(error)}; export in fp32"
            ) from error
        found.append(part._replace(model=model))
        session = _session(part.model)
        batches = [session.run(None, feed)[1:] for feed in feeds]  # after the logits
    return found


def _session(model: ModelProto) -> InferenceSession:
    return InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


class _Samples(CalibrationDataReader):  # type: ignore[misc]  # which has no types
    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def _quantized(model: ModelProto, feeds: Sequence[Feed]) -> ModelProto:
    with tempfile.TemporaryDirectory() as folder, quiet():
        file = Path(folder, "quantized.onnx")
        model = _with_norms_as_convolutions(_folded(model, Path(folder, "folded.onnx")))
        quantize_static(
            model,
            file,
            _Samples(feeds),
            # those that are left: of statistics that are computed the quantiser makes no valid graph
            nodes_to_exclude=[node.name for node in model.graph.node if node.op_type == NORM],
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,  # on x86 the product of unsigned and signed is the quick one
            weight_type=QuantType.QInt8,
        )
        return onnx.load(file)


def _folded(model: ModelProto, file: Path) -> ModelProto:
    """The model with what depends on weights alone computed, as weights are that norms of their own make.

    Args:
        model: The model.
        file: Where ONNX Runtime may write.
    """
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_BASIC  # operators of ONNX alone
    options.optimized_model_filepath = str(file)
    InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    folded = onnx.load(file)
    for place, node in enumerate(folded.graph.node):
        node.name = node.name or f"folded_{place}"
    used = {node.domain for node in folded.graph.node}
    domains = [each for each in folded.opset_import if each.domain in used]
    del folded.opset_import[:]
    folded.opset_import.extend(domains)
    return folded


def _with_norms_as_convolutions(model: ModelProto) -> ModelProto:
    """A copy in which batch norms of maps are depthwise convolutions of 1x1, which stay among the 8-bit ones.

    A norm in floats between two layers of 8 bits costs more than they do.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    weights = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    values = (*graph.input, *graph.value_info, *graph.output)
    axes = {each.name: len(each.type.tensor_type.shape.dim) for each in values}
    for node in graph.node:
        if node.op_type != NORM or axes.get(node.input[0], 0) < 3:
            continue
        if all(name in weights for name in node.input[1:]):
            scale, shift = _affine(node, weights)
            kernel = scale.reshape(-1, *[1] * (axes[node.input[0]] - 1))
            names = [f"{node.output[0]}/{part}" for part in ("scale", "shift")]
            for name, value in zip(names, (kernel, shift), strict=True):
                graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
            node.CopyFrom(
                helper.make_node(
                    "Conv", [node.input[0], *names], node.output[:1], name=node.name, group=len(scale)
                )
            )
    drop_unread(graph)
    return copy


def _affine(node: NodeProto, weights: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """What a batch norm multiplies each channel with, and what it adds."""
    gamma, beta, mean, variance = (weights[name].astype(np.float64) for name in node.input[1:])
    epsilon = next((each.f for each in node.attribute if each.name == "epsilon"), 1e-5)
    scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale
