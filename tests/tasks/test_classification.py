"""Classification against torch's own cross-entropy and a slow loop."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from offramp import UserError
from offramp.methods.objectives import Step
from offramp.tasks import Boxes, Classification

DRAW = torch.Generator().manual_seed(0)
LOGITS = torch.randn(7, 4, generator=DRAW, dtype=torch.float64)
LABELS = torch.randint(4, (7,), generator=DRAW)
WEIGHTS = [0.5, 2.0, 0.7, 1.5]


def loss(task, output, target, average=None):
    return Step(None, [output], [task], {task.target: target}, average=average).loss(0)


class Counted(Classification):
    """Samples of label 0 count twice, the others once, in whole numbers."""

    def loss(self, output, target):
        return super().loss(output, target)[0], 1 + (target == 0).long()


@pytest.mark.parametrize("share", [1.0, 1 / 3])
def test_weights_may_be_whole_numbers(share):
    """Of two outputs in float64, the second in a range of its own; a share of three equal parts too."""
    whole = None if share == 1 else {"label": LABELS.repeat(3)}
    outputs = [LOGITS, 100 * LOGITS]
    step = Step(None, outputs, [Counted()] * 2, {"label": LABELS}, whole=whole, share=share)
    counts = torch.where(LABELS == 0, 2.0, 1.0).double()
    for k, output in enumerate(outputs):
        values = -output.log_softmax(1)[torch.arange(7), LABELS]
        wanted = (counts * values).sum() / counts.sum()
        torch.testing.assert_close(step.loss(k), wanted, rtol=1e-14, atol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("missing", [False, True])
def test_the_loss_is_torch_s(smoothing, weights, missing):
    labels = LABELS.clone()
    labels[2] = -100 if missing else labels[2]
    task = Classification(label_smoothing=smoothing, class_weights=weights)
    weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    logits = LOGITS.clone().requires_grad_()
    ours = torch.autograd.grad(loss(task, logits, labels), logits)[0]
    expected = F.cross_entropy(logits, labels, weight, label_smoothing=smoothing)
    torch.testing.assert_close(loss(task, logits, labels), expected)
    if weights is None and not missing and not smoothing:  # to the last bit
        assert torch.equal(ours, torch.autograd.grad(expected, logits)[0])


def test_a_class_of_weight_0_does_not_count():
    task = Classification(class_weights=[0.0, 1.0, 1.0, 1.0], label_smoothing=0.1)
    values, weights = task.loss(LOGITS, torch.tensor([0, 1, 2, 3, 0, 1, 2]))
    assert weights.tolist() == [0, 1, 1, 1, 0, 1, 1]
    assert values[0] == values[4] == 0
    logits = LOGITS.clone().requires_grad_()
    loss(task, logits, torch.tensor([0, 1, 2, 3, 0, 1, 2])).backward()
    assert logits.grad.isfinite().all() and not logits.grad[[0, 4]].any()


def test_probabilities_as_targets_weigh_by_their_classes():
    shares = torch.randn(7, 4, generator=DRAW, dtype=torch.float64).softmax(-1)
    logs = LOGITS.log_softmax(-1)
    plain = -(shares * logs).sum(-1).mean()
    torch.testing.assert_close(loss(Classification(), LOGITS, shares), plain)
    w = torch.tensor(WEIGHTS, dtype=torch.float64)
    weighted = -(w * shares * logs).sum() / (w * shares).sum()
    torch.testing.assert_close(loss(Classification(class_weights=WEIGHTS), LOGITS, shares), weighted)
    torch.testing.assert_close(
        loss(Classification(class_weights=WEIGHTS), LOGITS, F.one_hot(LABELS, 4).double()),
        F.cross_entropy(LOGITS, LABELS, w),
    )


def test_shares_of_a_batch_average_to_its_loss():
    """Processes with different numbers of labelled samples: the mean of their losses is the batch's."""
    labels = LABELS.clone()
    labels[:2] = -100
    task = Classification(class_weights=[1.0, 2.0, 3.0, 4.0])
    parts = [(LOGITS[:3], labels[:3]), (LOGITS[3:], labels[3:])]
    mean = torch.stack([task.loss(*part)[1].sum() for part in parts]).mean()
    shared = [loss(task, *part, average=lambda _: torch.stack([mean, mean.new_ones(())])) for part in parts]
    torch.testing.assert_close(torch.stack(shared).mean(), loss(task, LOGITS, labels))


def test_metrics_leave_out_samples_without_a_label():
    labels = torch.tensor([0, -100, 1])
    logits = torch.tensor([[6.0, 5, 4, 3, 2, 1]] * 2 + [[5.0, 0, 1, 2, 3, 4]])  # class 1 is the last of six
    task = Classification()
    assert task.metrics(task.counts(logits, labels)) == {"top1": 50.0, "top5": 50.0}
    nothing = task.metrics(task.counts(logits, torch.full((3,), -100)))
    assert math.isnan(nothing["top1"])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0, must be a number from 0 to below 1"),
        ({"class_weights": [0, 0]}, "not all 0"),
        ({"class_weights": [1, -1]}, "a factor of 0 or more per class"),
        ({"class_weights": 5}, "one number per class"),
        ({"class_weights": "balanced"}, "one number per class"),
    ],
)
def test_values_out_of_range(options, match):
    with pytest.raises(UserError, match=match):
        Classification(**options)


def test_class_weights_fit_the_classes():
    with pytest.raises(UserError, match="class_weights are 2, classes 4; give one per class"):
        Classification(class_weights=[1.0, 2.0]).loss(LOGITS, LABELS)


def test_boxes():
    target = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.25, 0.25, 0.75, 0.75], [math.nan] * 4])
    output = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.25, 1.0, 0.75], [0.1, 0.1, 0.2, 0.2]])
    task = Boxes()
    counts = task.counts(output, target)
    assert counts.tolist() == pytest.approx([1 + 1 / 3, 2.0])
    assert task.metrics(counts)["iou"] == pytest.approx(100 * (1 + 1 / 3) / 2)
    values, weights = task.loss(output, target)
    assert weights.tolist() == [1, 1, 0]
    assert values[0] == 0
    assert values[1] == pytest.approx((2 * (0.25 - 0.05)) / 4)  # two of four coordinates are off by 0.25
    inside_out = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    assert task.counts(inside_out, target[:1])[0] == 0
    point = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    assert task.counts(inside_out, point).tolist() == [0, 1]
