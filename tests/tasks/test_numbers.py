"""Multi-label classification and regression against torch's losses and slow loops; the task of a target."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from offramp import UserError
from offramp.data import Target
from offramp.methods.objectives import Step
from offramp.tasks import (
    Boxes,
    Classification,
    Depth,
    MultiLabel,
    Normals,
    Regression,
    Segmentation,
)
from offramp.tasks.of_target import task_of

DRAW = torch.Generator().manual_seed(0)
OUTPUT = 2 * torch.randn(9, 4, generator=DRAW, dtype=torch.float64)
LABELS = torch.randint(2, (9, 4), generator=DRAW).double()
NUMBERS = torch.randn(9, 4, generator=DRAW, dtype=torch.float64)
UNKNOWN = torch.rand(9, 4, generator=DRAW) < 0.3
UNKNOWN[3] = True
LOSSES = {
    "labels": (MultiLabel(), LABELS, F.binary_cross_entropy_with_logits),
    "smooth": (Regression(), NUMBERS, F.smooth_l1_loss),
    "narrow": (Regression(beta=0.2), NUMBERS, lambda a, b: F.smooth_l1_loss(a, b, beta=0.2)),
    "squared": (Regression(penalty="mse"), NUMBERS, F.mse_loss),
}


def partly(target):
    return torch.where(UNKNOWN, math.nan, target)


def loss(task, output, target):
    return Step(None, [output], [task], {task.target: target}).loss(0)


@pytest.mark.parametrize("case", LOSSES.values(), ids=LOSSES)
def test_the_loss_is_torch_s_over_the_known_entries(case):
    task, target, reference = case
    torch.testing.assert_close(loss(task, OUTPUT, target), reference(OUTPUT, target))
    output = OUTPUT.clone().requires_grad_()
    found = loss(task, output, partly(target))
    torch.testing.assert_close(found, reference(output[~UNKNOWN], target[~UNKNOWN]))
    (gradient,) = torch.autograd.grad(found, output)
    assert gradient.isfinite().all() and not gradient[UNKNOWN].any()
    assert task.loss(OUTPUT, partly(target))[1].tolist() == (~UNKNOWN).sum(1).tolist()


@pytest.mark.parametrize("batch", [1, 4, 9])
def test_multi_label_metrics_are_those_of_the_slow_loop(batch):
    task, target = MultiLabel(), partly(LABELS)
    target[:, 2], output = math.nan, OUTPUT.clone()
    output[:, 3], target[:, 3] = -1, target[:, 3].clamp(max=0)  # neither occurs nor is said
    parts = zip(output.split(batch), target.split(batch), strict=True)
    found = task.metrics(torch.stack([task.counts(*part) for part in parts]).sum(0))
    f1, both, wrong, right, known = [], 0, 0, 0, 0
    for label in range(4):
        pairs = [
            (float(o) > 0, bool(t)) for o, t in zip(output[:, label], target[:, label], strict=True) if t == t
        ]
        hits = sum(a and b for a, b in pairs)
        misses = sum(a != b for a, b in pairs)
        if hits or misses:
            f1.append(2 * hits / (2 * hits + misses))
        both, wrong = both + 2 * hits, wrong + misses
        right, known = right + sum(a == b for a, b in pairs), known + len(pairs)
    assert len(f1) == 2
    wanted = {"f1": np.mean(f1), "micro_f1": both / (both + wrong), "accuracy": right / known}
    assert found == pytest.approx({name: 100 * value for name, value in wanted.items()})


@pytest.mark.parametrize("batch", [1, 4, 9])
def test_regression_metrics(batch):
    task = Regression()
    parts = zip(OUTPUT.split(batch), partly(NUMBERS).split(batch), strict=True)
    found = task.metrics(torch.stack([task.counts(*part) for part in parts]).sum(0))
    error = (OUTPUT - NUMBERS)[~UNKNOWN].numpy()
    assert found == pytest.approx({"mae": np.abs(error).mean(), "rmse": np.sqrt((error**2).mean())})


@pytest.mark.parametrize("task", [MultiLabel(), Regression()])
def test_of_nothing_there_is_no_metric_and_no_loss(task):
    nothing = torch.full((2, 3), math.nan)
    assert all(math.isnan(value) for value in task.metrics(task.counts(torch.ones(2, 3), nothing)).values())
    assert loss(task, torch.ones(2, 3), nothing) == 0


@pytest.mark.parametrize("task", [MultiLabel(), Regression()])
@pytest.mark.parametrize(
    ("output", "target"),
    [
        (torch.zeros(4, 1), torch.zeros(4)),  # would be broadcast
        (torch.zeros(4), torch.zeros(4)),
        (torch.zeros(4, 3), torch.zeros(4, 2)),
        (torch.zeros(4, 3), torch.zeros(4, 3, dtype=torch.int64)),
    ],
)
def test_a_wrong_shape_or_type_is_one_line(task, output, target):
    line = rf"^'{task.target}' is torch\..* for outputs \[4.*; give "
    for use in (task.loss, task.counts):
        with pytest.raises(UserError, match=line) as error:
            use(output, target)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"penalty": "l1"}, "penalty is 'l1'.*, must be smooth_l1 or mse"),
        ({"beta": 0}, "beta is 0, must be a number above 0"),
    ],
)
def test_values_out_of_range(options, line):
    with pytest.raises(UserError, match=line):
        Regression(**options)


def test_each_kind_of_target_has_its_task():
    kinds = {
        "class": Classification, "labels": MultiLabel, "values": Regression, "box": Boxes,
        "segmentation": Segmentation, "depth": Depth, "normals": Normals,
    }  # fmt: skip
    for kind, task in kinds.items():
        assert task_of("mine", Target(kind)) == task(target="mine")
