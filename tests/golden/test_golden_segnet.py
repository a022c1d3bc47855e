"""SegNet-MTAN against its public implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fill import fill
from parity import LOGITS, assert_same, check_structure, fingerprint, images, load

from offramp.nets import segnet_mtan

NAMES = {"segmentation": "semantic", "depth": "depth", "normals": "normal"}


@pytest.fixture(scope="module")
def golden():
    return load("segnet_mtan")


@pytest.fixture(scope="module")
def net():
    return segnet_mtan().double()


def targets(count, height, width):
    """Classes -1 (none) to 12; depths of 0.1 to 5.1, a fifth of them 0 (none); unit normals, likewise."""
    random = {"generator": torch.Generator().manual_seed(3003)}
    double = random | {"dtype": torch.float64}
    classes = torch.randint(-1, 13, (count, height, width), **random)
    depth = 0.1 + 5.0 * torch.rand(count, 1, height, width, **double)
    depth *= torch.rand(count, 1, height, width, **double) >= 0.2
    normals = torch.nn.functional.normalize(torch.randn(count, 3, height, width, **double), dim=1)
    normals *= torch.rand(count, 1, height, width, **double) >= 0.2
    return {"segmentation": classes, "depth": depth, "normals": normals}


def losses(net, outputs):
    """Each task's loss of the batch, which is the mean over the valid pixels."""
    given = targets(len(outputs[0]), *outputs[0].shape[-2:])
    found = []
    for (name, task), output in zip(net.outputs.items(), outputs, strict=True):
        values, weights = task.loss(output, given[name])
        found.append((values * weights).sum() / weights.sum())
    return found


def check_outputs(net, outputs, reference):
    each = losses(net, outputs)
    for name, output, loss in zip(net.outputs, outputs, each, strict=True):
        expected = reference["tasks"][NAMES[name]]
        assert list(output.shape) == expected["shape"]
        limit = LOGITS * max(1, expected["absmax"])
        np.testing.assert_allclose(
            output.detach().flatten()[expected["index"]], expected["value"], rtol=0, atol=limit, err_msg=name
        )
        norm, mean = float(output.detach().norm()), float(output.detach().mean())
        np.testing.assert_allclose([norm, mean], [expected["norm"], expected["mean"]], rtol=1e-8)
        np.testing.assert_allclose(float(loss.detach()), expected["loss"], rtol=1e-8)
    return each


def test_parameters(golden, net):
    check_structure(golden, net)
    assert sum(p.numel() for p in net.parameters()) == golden["structure"]["n_params"]


def test_evaluation(golden, net):
    fill(net)
    with torch.no_grad():
        check_outputs(net, net.eval()(images(golden["eval"])), golden["eval"])


@pytest.mark.slow
def test_training(golden, net):
    """One step: outputs and losses, statistics, and the gradients of each loss alone and of their sum."""
    fill(net)
    each = check_outputs(net, net.train()(images(golden["train"])), golden["train"])
    assert_same(fingerprint(net, buffers=True), golden["buffers_after_train_forward"])
    parameters = [*net.parameters()]
    total: list[torch.Tensor | None] = [None] * len(parameters)
    for name, loss in zip(net.outputs, each, strict=True):
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = gradient
        assert_same(fingerprint(net), golden["per_task"][NAMES[name]])
        total = [a if b is None else b if a is None else a + b for a, b in zip(total, gradients, strict=True)]
    for p, gradient in zip(parameters, total, strict=True):
        p.grad = gradient
    assert_same(fingerprint(net), golden["fingerprint"])
