"""`export`: a net and its policy become a folder that runs without torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from onnx import ModelProto

from offramp.bundles._agreement import check_agreement, samples_for
from offramp.bundles._card import model_card
from offramp.bundles._compaction import compacted_exits
from offramp.bundles._inputs import Description, described_net, described_run
from offramp.bundles._joined import JoinedNet
from offramp.bundles._manifest import MODEL, manifest, stage_name
from offramp.bundles._parts import NetPart, Value, parts_of
from offramp.bundles._program import PROGRAM, program
from offramp.bundles._refitting import NetOfParts, arrays_of, refitted
from offramp.bundles._weights import WEIGHTS, SharedWeights
from offramp.bundles._whole import whole_graph
from offramp.checks import described, of_kind, path_of, word_of
from offramp.copying import deep_copy
from offramp.data import Transform
from offramp.data.class_names import class_names
from offramp.errors import UserError
from offramp.exits import PathCosts, Policy
from offramp.nets import MultiExitNet
from offramp.nets.text import word
from offramp.output_paths import new_path
from offramp.runs import Run
from offramp.runs.files import write_folder

__all__ = ["Precision", "export"]

Precision = Literal["fp32", "int8"]


@torch.autocast("cpu", enabled=False)  # type: ignore[untyped-decorator]  # the caller's would be traced
def export(
    net: MultiExitNet | Run,
    policy: Policy,
    out: str | Path,
    *,
    precision: Precision = "fp32",
    transform: Transform | None = None,
    classes: Sequence[str] = (),
) -> Path:
    """Write a bundle: a folder with the net and its policy, for early exit in any ONNX runtime.

    The folder has one graph with thresholds as an input, in which samples that leave are taken out of the
    batch (``model.onnx``), a graph for each exit (``stage1.onnx``, ...), their weights, the policy, a
    manifest, a model card, the net as a program of ``torch.export``, and checksums. No file of it holds code
    or a pickle.

    Args:
        net: The trained net; or a run, which brings its normalisation and the names of its classes.
        policy: When samples leave.
        out: The folder, which is not there yet.
        precision: ``"fp32"``; or ``"int8"``, of a run: static quantisation by ONNX Runtime, with the ranges
            of 512 training samples. The thresholds are then fitted anew on what the exits say in 8 bits of
            the validation samples, to the budget or risk of the policy.
        transform: Normalises the images; the bundle then reads levels 0 ... 255. None: as the run's were; a
            net alone reads what it read in torch. ``Transform((), ())``: so does a run's, as one on floats of
            0 ... 1 that are no levels of image files.
        classes: Names of the classes, of a net alone; empty: their numbers.

    Returns:
        The folder.

    Raises:
        UserError: The policy is for another net; ONNX lacks what the net does, or gives something else than
            torch; or the folder is there already or cannot be written.
    """
    names = _checked_options(policy, precision, transform, classes)
    folder = new_path(path_of("out", out, "a folder to write"), "`out`")
    run = net if isinstance(net, Run) else None
    model: Any = net.net if isinstance(net, Run) else net
    policy.check(model)
    if names and run is not None:
        raise UserError("classes are for a net alone, and the run names its own; leave them out")
    if precision == "int8" and run is None:
        raise UserError("a net in 8 bits is fitted on the data of a run; give the run in the net's place")
    parts = parts_of(model)
    policy.check_classes(parts[-1].logits.shape[-1])
    description = _description(model, run, parts, transform, names)
    feed, x = samples_for(model, description.inputs)
    figures: Mapping[str, Any] | None = None
    if run is not None and precision == "int8":
        parts, policy, figures = refitted(run, parts, policy)
        logits = [*NetOfParts(parts)(arrays_of(x))]
    else:
        with torch.no_grad():
            logits = deep_copy(model).to("cpu", torch.float32).eval()(x)
    joined = JoinedNet(description.inputs, parts, policy)
    costs = _costs(model, policy, parts[0].reads)
    whole = whole_graph(joined, compacted_exits(policy, costs, [step.carries for step in joined.steps]))
    check_agreement(policy, logits, feed, whole)
    content = manifest(
        _name_of(model, run),
        joined,
        description,
        costs,
        precision=precision,
        figures=figures,
        confidence=policy.confidence,
    )
    stages = {stage_name(place): joined.stage(place) for place in range(len(joined.steps))}
    files = {
        **_graphs({MODEL: whole, **stages}),
        PROGRAM: program(model, parts[0].reads),
        "manifest.json": f"{json.dumps(content, indent=1)}\n".encode(),
        "policy.json": policy.to_json().encode(),
        "README.md": model_card(content, policy, run).encode(),
    }
    write_folder(folder, files, then="export again")
    return folder


def _checked_options(policy: object, precision: object, transform: object, classes: object) -> Sequence[str]:
    """Check what can be told of the options by themselves; gives the names of the classes."""
    word_of("precision", precision, ("fp32", "int8"), "precision")
    of_kind("policy", policy, Policy, "a Policy, as calibrate returns it")
    of_kind("transform", transform, Transform | None, "a Transform, or None")
    if isinstance(classes, (str, bytes)) or not isinstance(classes, Iterable):
        raise UserError(f"classes are {described(classes)}, must be a list with a name for each")
    return class_names([*classes], "classes")


def _description(
    model: MultiExitNet,
    run: Run | None,
    parts: Sequence[NetPart],
    transform: Transform | None,
    names: Sequence[str],
) -> Description:
    """What a net, or that of a run, reads, and what its classes are called."""
    reads, count = parts[0].reads, parts[-1].logits.shape[-1]
    if run is None:
        description = described_net(model, reads, transform=transform, classes=names)
    else:
        description = described_run(run, reads, transform)
    if description.classes and len(description.classes) != count:
        raise UserError(
            f"there are {len(description.classes)} names of classes, and the net tells {count} apart; give "
            "one name for each"
        )
    return description


def _graphs(models: dict[str, ModelProto]) -> dict[str, bytes]:
    weights = SharedWeights()
    files = {name: weights.moved(model) for name, model in models.items()}
    return {**files, WEIGHTS: weights.content()}


def _costs(net: MultiExitNet, policy: Policy, reads: Sequence[Value]) -> list[int] | list[None]:
    """Operations of a sample that leaves at each evaluated exit; None where they are unknown, or differ.

    They differ from sample to sample where the net reads any number of tokens.
    """
    unknown = [None] * len(policy.evaluated)
    if any(isinstance(size, str) for value in reads for size in value.shape[1:]):
        return unknown
    try:
        return PathCosts(net).of(policy.evaluated)
    except UserError:
        return unknown


def _name_of(net: MultiExitNet, run: Run | None) -> str:
    return word(run.record["net"]) if run else word(getattr(net, "spec", None) or {"net": type(net).__name__})
