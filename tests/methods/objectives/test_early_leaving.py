"""ELF and the losses of survivors against loops over samples."""

import math

import pytest
import torch
from steps import exit_step

from offramp import UserError
from offramp.methods import METHODS, method
from offramp.methods.objectives import TaskLoss
from offramp.methods.objectives.early_leaving import EarlyLeaving
from offramp.methods.objectives.survivors import Survivors


def logits(exits=4, samples=40, classes=3, seed=0):
    """Confident outputs, of which most are right: some samples leave at each exit."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (samples,), generator=draws)
    outputs = []
    for _ in range(exits):
        z = 2 * torch.randn(samples, classes, generator=draws, dtype=torch.float64)
        z[torch.arange(samples), labels] += 2
        outputs.append(z.requires_grad_())
    return outputs, labels


def cross_entropies(z, labels):
    return [float(-row.log_softmax(0)[y]) for row, y in zip(z.detach(), labels.tolist(), strict=True)]


def elf_by_hand(outputs, labels, threshold):
    """The sum of every sample's losses up to the exit where it leaves, exit by exit, over the batch size."""
    sums, left = [0.0] * len(outputs), [0] * len(outputs)
    for n, y in enumerate(labels.tolist()):
        for k, z in enumerate(outputs):
            sums[k] += cross_entropies(z[n : n + 1], labels[n : n + 1])[0]
            probabilities = z[n].detach().softmax(0)
            if int(probabilities.argmax()) == y and float(probabilities.max()) >= threshold:
                left[k] += 1
                break
    return [total / len(labels) for total in sums], left


@pytest.mark.parametrize("threshold", [0.0, 0.6, 0.9, 0.99])
def test_elf_is_the_sum_up_to_where_a_sample_leaves(threshold):
    outputs, labels = logits()
    losses = EarlyLeaving(threshold=threshold)(exit_step(None, outputs, labels))
    expected, left = elf_by_hand(outputs, labels, threshold)
    assert left[0] > 0 and left[1] > 0  # the case is not empty
    torch.testing.assert_close([loss.item() for loss in losses], expected)


def test_above_one_nobody_leaves():
    outputs, labels = logits()
    step = exit_step(None, outputs, labels)
    for found, expected in zip(EarlyLeaving(threshold=1.1)(step), TaskLoss()(step), strict=True):
        assert torch.equal(found, expected)


def test_at_the_threshold_itself_a_sample_leaves():
    """Two classes alike: a confidence of 1/2, and the first is the best."""
    step = exit_step(None, [torch.zeros(1, 2), torch.zeros(1, 2)], torch.tensor([0]))
    for threshold, last in ((0.5, 0.0), (0.6, math.log(2))):
        assert float(EarlyLeaving(threshold=threshold)(step)[1]) == pytest.approx(last)


def test_who_left_has_no_gradient_behind_and_all_before():
    outputs, labels = logits(exits=2)
    torch.stack(EarlyLeaving(threshold=0.8)(exit_step(None, outputs, labels))).sum().backward()
    confidence, best = outputs[0].detach().softmax(1).max(1)
    gone = (best == labels) & (confidence >= 0.8)
    assert 0 < int(gone.sum()) < len(labels)
    assert (outputs[0].grad.abs().sum(1) > 0).all()
    assert torch.equal(outputs[1].grad.abs().sum(1) > 0, ~gone)


def test_micro_batches_add_up():
    outputs, labels = logits()
    objective = EarlyLeaving(threshold=0.8)
    whole = objective(exit_step(None, outputs, labels))
    total = [0.0] * 4
    for part in (slice(0, 10), slice(10, 40)):
        share = len(labels[part]) / 40
        step = exit_step(None, [z[part] for z in outputs], labels[part], whole={"label": labels}, share=share)
        for k, loss in enumerate(objective(step)):
            total[k] += share * loss.item()
    torch.testing.assert_close(total, [loss.item() for loss in whole])


def test_mixed_images_are_refused():
    outputs, labels = logits()
    mixed = torch.nn.functional.one_hot(labels, 3).double() * 0.7 + 0.1
    with pytest.raises(UserError, match="mixed images have no label to be right about; train without mixup"):
        EarlyLeaving()(exit_step(None, outputs, mixed))


def survivors_by_hand(outputs, labels, threshold, softness):
    reach, losses = [1.0] * len(labels), []
    for z in outputs:
        scale = sum(reach) / len(reach)
        terms = zip(reach, cross_entropies(z, labels), strict=True)
        losses.append(sum(w / scale * loss for w, loss in terms) / len(labels))
        confidences = z.detach().softmax(1).amax(1).tolist()
        reach = [
            w * (1 - 1 / (1 + math.exp(-(c - threshold) / softness)))
            for w, c in zip(reach, confidences, strict=True)
        ]
    return losses


@pytest.mark.parametrize(("threshold", "softness"), [(0.9, 0.05), (0.5, 0.3)])
def test_survivors_weigh_by_the_chance_to_be_there(threshold, softness):
    outputs, labels = logits()
    objective = Survivors(threshold=threshold, softness=softness)
    losses = objective(exit_step(None, outputs, labels))
    expected = survivors_by_hand(outputs, labels, threshold, softness)
    torch.testing.assert_close([loss.item() for loss in losses], expected)


def test_of_samples_that_are_alike_survivors_are_joint_training():
    z = torch.tensor([[1.0, 0.0]], dtype=torch.float64).repeat(5, 1)
    step = exit_step(None, [z, z, z], torch.zeros(5, dtype=torch.long))
    torch.testing.assert_close(Survivors()(step), TaskLoss()(step))


def test_samples_without_a_label_do_not_change_the_scale():
    outputs, labels = logits()
    outputs[0].data[:10] *= 5  # all but gone at the first exit
    labels[:10] = -100
    losses = Survivors()(exit_step(None, outputs, labels))
    alone = Survivors()(exit_step(None, [z[10:] for z in outputs], labels[10:]))
    torch.testing.assert_close(losses, alone)


def test_no_gradient_goes_through_the_weights():
    outputs, labels = logits(exits=2)
    losses = Survivors()(exit_step(None, outputs, labels))
    (first,) = torch.autograd.grad(losses[1], [outputs[0]], allow_unused=True)
    assert first is None


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("elf", {"threshold": -1}),
        ("survivors", {"threshold": 1.5}),
        ("survivors", {"softness": 0}),
    ],
)
def test_what_cannot_be(name, options):
    (option,) = options
    with pytest.raises(UserError, match=f"{option} is .*, must be a number"):
        method(name, options)


def test_only_exact_sums_are_cut_into_micro_batches():
    assert not METHODS["elf"].whole_batch
    assert METHODS["survivors"].whole_batch
