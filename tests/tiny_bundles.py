"""Small bundles written by onnx alone: three exits, a graph that takes leaving samples out, a stage each."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

CLASSES = ("cat", "dog", "eel", "fox")
KINDS = {"uint8": TensorProto.UINT8, "int64": TensorProto.INT64, "float32": TensorProto.FLOAT}
SIZE = 6  # of the images, in pixels
WIDTH = 5  # channels of the features
WORDS = 11  # of the vocabulary


class Writer:
    """Writes graphs that share one file of weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._weights: dict[str, TensorProto] = {}
        self._data = b""
        self.nodes: list[Any] = []
        self._used: dict[str, TensorProto] = {}

    def weight(self, name: str, value: np.ndarray) -> str:
        """A weight by its name, which is written once."""
        if name not in self._weights:
            proto = TensorProto(
                name=name,
                data_type=helper.np_dtype_to_tensor_dtype(value.dtype),
                dims=value.shape,
                data_location=TensorProto.EXTERNAL,
            )
            place = {"location": "weights.bin", "offset": len(self._data), "length": value.nbytes}
            for key, text in place.items():
                proto.external_data.add(key=key, value=str(text))
            self._weights[name] = proto
            self._data += value.tobytes()
        self._used[name] = self._weights[name]
        return name

    def const(self, value: Any, dtype: str = "int64") -> str:
        """A small constant within the graph."""
        value = np.asarray(value, dtype)
        name = f"const_{dtype}_{'_'.join(map(str, value.shape))}_{value.ravel().tolist()}"
        self._used[name] = onnx.numpy_helper.from_array(value, name)
        return name

    def op(self, kind: str, *reads: str, out: str | None = None, **attributes: Any) -> str:
        """One operation; the name of what it gives."""
        out = out or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, reads, [out], **attributes))
        return out

    def save(self, name: str, inputs: list[Any], outputs: list[Any]) -> None:
        """Write the graph of the operations so far, and begin another."""
        graph = helper.make_graph(self.nodes, "net", inputs, outputs, [*self._used.values()])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        (self.folder / name).write_bytes(model.SerializeToString())
        self.nodes, self._used = [], {}

    def done(self) -> None:
        """Write the weights."""
        (self.folder / "weights.bin").write_bytes(self._data)


def value(name: str, dtype: str, *shape: Any) -> Any:
    """An input or an output of a graph."""
    return helper.make_tensor_value_info(name, KINDS[dtype], shape)


class ImageNet:
    """A net of three convolutions on uint8 images, with an exit behind each."""

    thresholds = (0.49, 0.55)
    inputs = ({"name": "images", "dtype": "uint8", "shape": [3, SIZE, SIZE]},)
    image = MappingProxyType({"mode": "RGB", "size": [SIZE, SIZE], "cut": True})
    carried = tuple([{"name": f"map{k}", "dtype": "float32", "shape": [WIDTH, SIZE, SIZE], "batched": True}]
                    for k in (1, 2))  # fmt: skip

    def __init__(self) -> None:
        draws = np.random.default_rng(7)
        self.weights = {
            f"conv{k}": draws.normal(0, 0.5, (WIDTH, 3 if k == 1 else WIDTH, 3, 3)).astype(np.float32)
            for k in (1, 2, 3)
        } | {f"head{k}": draws.normal(0, 2, (WIDTH, len(CLASSES))).astype(np.float32) for k in (1, 2, 3)}

    def stage(self, w: Writer, k: int, reads: list[str]) -> tuple[str, list[str]]:
        """Stage k, from 1: its logits, and what it carries on."""
        x = reads[0]
        if k == 1:
            x = w.op("Div", w.op("Cast", x, to=TensorProto.FLOAT), w.const(255, "float32"))
        conv = w.op("Conv", x, w.weight(f"conv{k}", self.weights[f"conv{k}"]), pads=[1, 1, 1, 1])
        x = w.op("Relu", conv)
        pooled = w.op("ReduceMean", x, w.const([2, 3]), keepdims=0)
        return w.op("MatMul", pooled, w.weight(f"head{k}", self.weights[f"head{k}"])), [x]

    def logits(self, images: np.ndarray) -> np.ndarray:
        """What all exits say, by numpy: ``[3, N, classes]``."""
        x = images.astype(np.float32) / 255
        found = []
        for k in (1, 2, 3):
            padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
            x = np.maximum(np.einsum("nchwij,ocij->nohw", windows, self.weights[f"conv{k}"]), 0)
            found.append(x.mean((2, 3)) @ self.weights[f"head{k}"])
        return np.stack(found)


class WordNet:
    """A net on words and their weights, of any number, with an array that is the same for a whole batch."""

    thresholds = (0.6, 0.45)
    inputs = (
        {"name": "words", "dtype": "int64", "shape": [None]},
        {"name": "weights", "dtype": "float32", "shape": [None]},
    )
    image = None
    carried = tuple([{"name": f"mean{k}", "dtype": "float32", "shape": [WIDTH], "batched": True},
                     {"name": f"length{k}", "dtype": "float32", "shape": None, "batched": False}]
                    for k in (1, 2))  # fmt: skip

    def __init__(self) -> None:
        draws = np.random.default_rng(8)
        self.weights = {"table": draws.normal(0, 1, (WORDS, WIDTH)).astype(np.float32)}
        for k in (1, 2, 3):
            self.weights[f"mix{k}"] = draws.normal(0, 1, (WIDTH, WIDTH)).astype(np.float32)
            self.weights[f"head{k}"] = draws.normal(0, 2, (WIDTH, len(CLASSES))).astype(np.float32)

    def stage(self, w: Writer, k: int, reads: list[str]) -> tuple[str, list[str]]:
        """Stage k, from 1: its logits, and what it carries on."""
        if k == 1:
            words, weights = reads
            rows = w.op("Gather", w.weight("table", self.weights["table"]), words, axis=0)
            x = w.op(
                "ReduceSum",
                w.op("Mul", rows, w.op("Unsqueeze", weights, w.const([2]))),
                w.const([1]),
                keepdims=0,
            )
            length = w.op("Cast", w.op("Shape", words, start=1, end=2), to=TensorProto.FLOAT)
        else:
            x, length = reads
        x = w.op("Tanh", w.op("MatMul", x, w.weight(f"mix{k}", self.weights[f"mix{k}"])))
        scaled = w.op("Div", x, w.op("Sqrt", length))
        return w.op("MatMul", scaled, w.weight(f"head{k}", self.weights[f"head{k}"])), [
            x,
            w.op("Identity", length),
        ]

    def logits(self, x: dict[str, np.ndarray]) -> np.ndarray:
        """What all exits say, by numpy: ``[3, N, classes]``."""
        mean = (self.weights["table"][x["words"]] * x["weights"][:, :, None]).sum(1)
        found = []
        for k in (1, 2, 3):
            mean = np.tanh(mean @ self.weights[f"mix{k}"])
            found.append(mean / np.sqrt(np.float32(x["words"].shape[1])) @ self.weights[f"head{k}"])
        return np.stack(found)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def expected(probabilities: np.ndarray, thresholds: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Exits, from 1, and probabilities ``[N, classes]`` of samples by a loop over them."""
    exits, rows = [], []
    for n in range(probabilities.shape[1]):
        for k, said in enumerate(probabilities[:, n]):
            limit = thresholds[k] if k < len(thresholds) else -1
            if said.max() >= (limit if np.isscalar(limit) else limit[said.argmax()]):
                exits.append(k + 1)
                rows.append(said)
                break
    return np.array(exits), np.stack(rows)


def write_bundle(folder: Path, net: Any, thresholds: Any = None, costs: bool = True) -> Path:
    """Write a bundle of one of the nets; a threshold may be a list with one for each class."""
    folder.mkdir()
    thresholds = net.thresholds if thresholds is None else thresholds
    w, stages = Writer(folder), (1, 2, 3)
    inputs = [
        value(each["name"], each["dtype"], "N", *(s or "L" for s in each["shape"])) for each in net.inputs
    ]
    inner = np.broadcast_arrays(*(np.asarray(t, float) for t in thresholds))
    shape = [len(thresholds), *inner[0].shape]
    _whole(w, net, inputs, shape)
    reads = inputs
    for k in stages:
        logits, carried = net.stage(w, k, [each.name for each in reads])
        probabilities = w.op("Softmax", logits, out="probabilities")
        w.op("ReduceMax", probabilities, w.const([1]), keepdims=0, out="confidence")
        outputs = [value("probabilities", "float32", "N", len(CLASSES)), value("confidence", "float32", "N")]
        specs = net.carried[k - 1] if k < 3 else []
        ports = []
        for spec, name in zip(specs, carried, strict=False):  # the last carries none on
            w.op("Identity", name, out=spec["name"])
            axes = ["N", *spec["shape"]] if spec["batched"] else [1]
            ports.append(value(spec["name"], spec["dtype"], *axes))
        w.save(f"stage{k}.onnx", reads, outputs + ports)
        reads = ports
    w.done()
    manifest = {
        "offramp_bundle": 1,
        "written_by": "offramp 0.1.0",
        "net": "tiny",
        "precision": "fp32",
        "inputs": [*net.inputs],
        "image": net.image and {**net.image},
        "classes": [*CLASSES],
        "confidence": "max-softmax",
        "exits": [
            {
                "exit": k,
                "cost": 100 * k if costs else None,
                "graph": f"stage{k}.onnx",
                "carried": net.carried[k - 1] if k < 3 else [],
            }
            for k in stages
        ],
        "thresholds": shape,
    }
    policy = {"offramp_policy": 1, "thresholds": [*thresholds], "confidence": "max-softmax"}
    write_json(folder / "manifest.json", manifest)
    write_json(folder / "policy.json", policy)
    (folder / "README.md").write_text("# tiny\n")
    write_sums(folder)
    return folder


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(document))


def write_sums(folder: Path) -> None:
    """Write the checksums of what is in the folder."""
    files = sorted(path for path in folder.iterdir() if path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines))


def _whole(w: Writer, net: Any, inputs: list[Any], shape: list[int]) -> None:
    """The graph of all exits, which takes leaving samples out (NonZero, Gather) and puts results back."""
    reads, rows, answers = [each.name for each in inputs], None, []
    for k in (1, 2, 3):
        logits, carried = net.stage(w, k, reads)
        said = w.op("Softmax", logits)
        sure = w.op("ReduceMax", said, w.const([1]), keepdims=0)
        answers.append((said, sure, rows))
        if k == 3:
            break
        limit = w.op("Gather", "thresholds", w.const(k - 1), axis=0)
        if len(shape) == 2:
            limit = w.op("Gather", limit, w.op("ArgMax", said, axis=1, keepdims=0), axis=0)
        staying = w.op("NonZero", w.op("Not", w.op("GreaterOrEqual", sure, limit)))
        staying = w.op("Reshape", staying, w.const([-1]))
        rows = staying if rows is None else w.op("Gather", rows, staying, axis=0)
        reads = [
            w.op("Gather", name, staying, axis=0) if spec["batched"] else name
            for spec, name in zip(net.carried[k - 1], carried, strict=True)
        ]
    said, sure, _ = answers[0]
    first = w.op("Shape", sure)
    exit = w.op("ConstantOfShape", first, value=onnx.numpy_helper.from_array(np.array([1], np.int64)))
    for k, (later, surer, rows) in enumerate(answers[1:], start=2):
        places = w.op("Unsqueeze", rows, w.const([1]))
        ones = w.op(
            "ConstantOfShape",
            w.op("Shape", surer),
            value=onnx.numpy_helper.from_array(np.array([k], np.int64)),
        )
        said, sure, exit = (
            w.op("ScatterND", before, places, new)
            for before, new in ((said, later), (sure, surer), (exit, ones))
        )
    for name, last in (("probabilities", said), ("exit", exit), ("confidence", sure)):
        w.op("Identity", last, out=name)
    outputs = [
        value("probabilities", "float32", "N", len(CLASSES)),
        value("exit", "int64", "N"),
        value("confidence", "float32", "N"),
    ]
    w.save("model.onnx", [*inputs, value("thresholds", "float32", *shape)], outputs)
