"""Comparison of a multi-exit net with the reference numbers in ``data/``, in float64.

A case is a name and a net::

    @pytest.mark.parametrize("check", CHECKS)
    def test_case(check):
        check(load("dfs_vgg7_plain"), vgg7().double())

The net may have any forks installed. Where it holds only slices of the tensors that the reference holds in
full, ``slices`` says which.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fill import Slices, fill, normal, slots
from torch import Tensor, nn

DATA = Path(__file__).parent / "data"
LOGITS = 1e-9  # of the largest logit of an exit
NORM = (1e-8, 1e-10)  # of the norm itself, and of the global norm


def load(name: str) -> dict[str, Any]:
    """The reference numbers, with the logits of both modes as ``golden["logits"]``."""
    golden = json.loads((DATA / f"{name}.json").read_text())
    if "arrays_file" in golden:
        with np.load(DATA / golden["arrays_file"]) as arrays:
            golden["logits"] = {mode: torch.from_numpy(arrays[mode]) for mode in ("eval", "train")}
    return golden


def check_structure(golden: dict[str, Any], net: nn.Module, slices: Slices | None = None) -> None:
    """The same parameters, by kind and shape."""
    count: dict[str, int] = {}
    for slot in slots(net, slices):
        count[slot.key] = count.get(slot.key, 0) + 1
    assert count == golden["structure"]["tensors"]


def check_evaluation(golden: dict[str, Any], net: nn.Module, slices: Slices | None = None) -> None:
    """The same logits in evaluation mode."""
    fill(net, slices)
    with torch.no_grad():
        logits = net.eval()(images(golden["eval"]))
    assert_logits(logits, golden["logits"]["eval"])


def check_training(golden: dict[str, Any], net: nn.Module, slices: Slices | None = None) -> None:
    """The same logits, losses, statistics and gradients in one training step on the sum of the losses."""
    fill(net, slices)
    logits = net.train()(images(golden["train"]))
    assert_logits([z.detach() for z in logits], golden["logits"]["train"])
    each = losses(logits)
    np.testing.assert_allclose([float(v.detach()) for v in each], golden["train"]["loss_per_exit"], rtol=1e-9)
    assert_same(fingerprint(net, buffers=True), golden["buffers_after_train_forward"])
    net.zero_grad()
    torch.stack(each).sum().backward()
    assert_same(fingerprint(net, slices), golden["fingerprint"])


def check_each_exit(golden: dict[str, Any], net: nn.Module, slices: Slices | None = None) -> None:
    """The same gradient norms from the loss of each exit alone: which loss reaches what, and how much."""
    fill(net, slices)
    each = losses(net.train()(images(golden["train"])))
    assert len(each) == len(golden["per_exit"])
    for loss, reference in zip(each, golden["per_exit"], strict=True):
        net.zero_grad()
        loss.backward(retain_graph=True)
        assert_same(fingerprint(net, slices), reference)


CHECKS = [check_structure, check_evaluation, check_training, check_each_exit]


def images(spec: dict[str, Any]) -> Tensor:
    """The reference batch."""
    generator = torch.Generator().manual_seed(spec["seed"])
    return torch.randn(spec["shape"], generator=generator, dtype=torch.float64)


def losses(logits: list[Tensor]) -> list[Tensor]:
    """Cross-entropy of every exit against the labels 0, 1, 2, ..."""
    labels = torch.arange(len(logits[0])) % logits[0].shape[1]
    return [F.cross_entropy(z, labels) for z in logits]


def fingerprint(net: nn.Module, slices: Slices | None = None, *, buffers: bool = False) -> dict[str, Any]:
    """Norms, and projections on a fixed direction, of all gradients (or statistics) by kind and shape."""
    norms: dict[str, list[float]] = {}
    projections: dict[str, list[float]] = {}
    for slot in slots(net, slices, buffers=buffers):
        values = slot.whole(slot.tensor if buffers else slot.tensor.grad)
        if values is not None:
            norms.setdefault(slot.key, []).append(float(values.norm()))
            direction = normal(f"proj:{slot.key}", slot.shape)
            projections.setdefault(slot.key, []).append(float((values * direction).sum()))
    return {"norms": norms, "proj": projections}


def assert_logits(logits: list[Tensor], reference: Tensor) -> None:
    assert len(logits) == len(reference)
    for k, (z, expected) in enumerate(zip(logits, reference, strict=True)):
        atol = LOGITS * float(expected.abs().max())
        torch.testing.assert_close(z, expected, rtol=0, atol=atol, msg=lambda m, k=k: f"exit {k + 1}: {m}")


def assert_same(found: dict[str, Any], reference: dict[str, Any]) -> None:
    """Equal norms and projections; an absent gradient counts as a zero one."""
    rtol, atol = NORM
    everything = [n for norms in reference["norms"].values() for n in norms]
    total = float(np.linalg.norm(everything))
    for key in sorted({*reference["norms"], *found["norms"]}):
        norms, expected = padded(found["norms"].get(key, []), reference["norms"].get(key, []))
        np.testing.assert_allclose(norms, expected, rtol=rtol, atol=atol * total, err_msg=f"norms of {key}")
        if "proj" in reference:
            norm = max(expected)
            projections, expected = padded(found["proj"].get(key, []), reference["proj"].get(key, []))
            limit = 10 * (rtol * norm + atol * total)
            np.testing.assert_allclose(
                projections, expected, rtol=0, atol=limit, err_msg=f"projections of {key}"
            )


def padded(a: list[float], b: list[float]) -> tuple[list[float], list[float]]:
    """Both sorted, the shorter one filled up with zeros."""
    n = max(len(a), len(b))
    return sorted([*a, *[0.0] * (n - len(a))]), sorted([*b, *[0.0] * (n - len(b))])
