"""A bundle as a model repository of the Triton inference server, for its backend of ONNX Runtime.

Triton forms batches over requests only where every input and output has the batch as its first axis, which
thresholds for the whole batch have not (user guide, "Model Configuration", maximum batch size). So there are
two models: one in which the policy's thresholds are fixed, and which Triton batches; and one, named
``...-thresholds``, that takes them as an input, and answers each request as a batch of its own.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from offramp.bundles._manifest import MODEL
from offramp.bundles._weights import WEIGHTS
from offramp.bundles.export import Precision, export
from offramp.exits import Policy
from offramp.exits.leaving import threshold_rows
from offramp.nets import MultiExitNet
from offramp.output_paths import new_path
from offramp.runs import Run
from offramp.runs.files import disk_errors

__all__ = ["export_repository", "write_repository"]

MAX_BATCH = 64
LABELS = "labels.txt"
POLICY = "policy.json"
TYPES = {"float16": "FP16", "float32": "FP32", "float64": "FP64"}  # others: numpy's names, in capitals


def export_repository(
    net: MultiExitNet | Run, policy: Policy, out: str | Path, *, precision: Precision = "fp32"
) -> list[str]:
    """Write a net and its policy as a model repository of Triton.

    Args:
        net: As of :func:`offramp.export`.
        policy: Likewise.
        out: The repository, which is not there yet.
        precision: As of :func:`offramp.export`.

    Returns:
        The names of its models.

    Raises:
        UserError: As of :func:`offramp.export`.
    """
    folder = new_path(out, "`out`")
    with (
        disk_errors(folder, "export again"),
        TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as beside,
    ):
        bundle = export(net, policy, Path(beside) / "bundle", precision=precision)
        names = write_repository(bundle, Path(beside) / "models")
        (Path(beside) / "models").rename(folder)
    return names


def write_repository(bundle: Path, out: Path) -> list[str]:
    """Write the models of a bundle into a new repository.

    Args:
        bundle: The bundle's folder.
        out: The repository's, which is not there yet.

    Returns:
        The names of the models.
    """
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    thresholds = threshold_rows(json.loads((bundle / POLICY).read_bytes()))
    graph = onnx.load(bundle / MODEL, load_external_data=False)
    name = re.sub(r"[^\w.-]+", "-", manifest["net"], flags=re.ASCII).strip("-.")
    models = {name: (_fixed(graph, thresholds), config(name, manifest, batched=True))}
    if thresholds.size:  # else there is one exit, and nothing to choose
        free = f"{name}-thresholds"
        models[free] = graph, config(free, manifest, batched=False)
    for each, (model, text) in models.items():
        folder = out / each / "1"  # the version
        folder.mkdir(parents=True)
        (folder / MODEL).write_bytes(model.SerializeToString(deterministic=True))
        shutil.copyfile(bundle / WEIGHTS, folder / WEIGHTS)
        shutil.copyfile(bundle / POLICY, folder.parent / POLICY)
        (folder.parent / "config.pbtxt").write_text(text, encoding="utf-8")
        (folder.parent / LABELS).write_text("\n".join(_labels(manifest)), encoding="utf-8")
    return [*models]


def config(name: str, manifest: Mapping[str, Any], *, batched: bool) -> str:
    """``config.pbtxt`` of a model, as ``ModelConfig`` of Triton's ``model_config.proto`` has its fields.

    Args:
        name: The model's, and its folder's.
        manifest: The bundle's.
        batched: Whether Triton forms batches, in which case no axis of the batch is named here, and values
            without any other have one of size 1.
    """
    first = [] if batched else [-1]
    inputs = [
        _value("input", each["name"], each["dtype"], [*first, *each["shape"]]) for each in manifest["inputs"]
    ]
    if not batched:
        inputs.append(_value("input", "thresholds", "float32", manifest["thresholds"]))
    classes = [*first, len(manifest["classes"])]
    outputs = [
        _value("output", "probabilities", "float32", classes, f'label_filename: "{LABELS}"'),
        _value("output", "exit", "int64", first),
        _value("output", "confidence", "float32", first),
    ]
    head = [f'name: "{name}"', 'backend: "onnxruntime"', f"max_batch_size: {MAX_BATCH if batched else 0}"]
    return "\n".join([*head, *inputs, *outputs, *(["dynamic_batching { }"] if batched else [])]) + "\n"


def _value(kind: str, name: str, dtype: str, shape: Sequence[int | None], *more: str) -> str:
    """A field ``input`` or ``output`` of a configuration."""
    lines = [
        f'name: "{name}"',
        f"data_type: TYPE_{TYPES.get(dtype, dtype.upper())}",
        f"dims: [ {', '.join(str(-1 if size is None else size) for size in shape or [1])} ]",
        *([] if shape else ["reshape: { shape: [ ] }"]),
        *more,
    ]
    return "\n".join([f"{kind} {{", *(f"  {line}" for line in lines), "}"])


def _fixed(graph: onnx.ModelProto, thresholds: np.ndarray) -> onnx.ModelProto:
    """The graph with its thresholds as a constant, no longer an input."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(graph)
    (place,) = [i for i, each in enumerate(fixed.graph.input) if each.name == "thresholds"]
    del fixed.graph.input[place]
    if thresholds.size:
        fixed.graph.initializer.append(onnx.numpy_helper.from_array(thresholds, "thresholds"))
    return fixed


def _labels(manifest: Mapping[str, Any]) -> Iterable[str]:
    """The names of the classes, one for each line of a file."""
    return (" ".join(name.split()) for name in manifest["classes"])
