"""Distillation from later exits and from the mean of all, against loops over plain numbers."""

import math

import pytest
import torch

from offramp import UserError
from offramp.methods import method
from offramp.methods.objectives import TaskLoss
from offramp.methods.objectives.exit_ensemble import ExitEnsembleDistillation
from offramp.methods.objectives.later_distillation import LaterDistillation


def probabilities(logits, temperature):
    exps = [math.exp(z / temperature) for z in logits]
    return [e / sum(exps) for e in exps]


def soft(student, teacher, temperature):
    """Mean over the samples of the cross-entropy of tempered probabilities."""
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        pairs = zip(probabilities(t, temperature), probabilities(s, temperature), strict=True)
        total -= sum(q * math.log(p) for q, p in pairs)
    return total / len(student)


def hard(logits, labels):
    rows = zip(logits, labels, strict=True)
    return -sum(math.log(probabilities(z, 1)[y]) for z, y in rows) / len(labels)


def mean_of(tensors):
    """Element by element, of lists of lists."""
    return [[sum(row) / len(row) for row in zip(*rows, strict=True)] for rows in zip(*tensors, strict=True)]


@pytest.mark.parametrize(("alpha", "temperature"), [(1.0, 1.0), (0.4, 3.0)])
def test_each_exit_learns_from_all_later_ones(golden, make_step, alpha, temperature):
    step = make_step()
    z, labels = golden["z"], step.targets["label"].tolist()
    losses = LaterDistillation(alpha=alpha, temperature=temperature)(step)
    for k, loss in enumerate(losses):
        taught = sum(soft(z[k], z[j], temperature) for j in range(k + 1, 4))
        expected = hard(z[k], labels) + alpha * temperature**2 / 6 * taught  # of 4 exits 6 pairs
        assert loss.item() == pytest.approx(expected)


def test_no_later_exit_gets_a_gradient_from_its_students(make_step):
    step, plain = make_step(), make_step()
    torch.stack(LaterDistillation()(step)).sum().backward()
    torch.stack(TaskLoss()(plain)).sum().backward()
    torch.testing.assert_close(step.outputs[-1].grad, plain.outputs[-1].grad)
    assert not torch.allclose(step.outputs[0].grad, plain.outputs[0].grad)


def test_without_weight_it_is_deep_supervision(make_step):
    step = make_step()
    torch.testing.assert_close(LaterDistillation(alpha=0)(step), TaskLoss()(step))


def eed_at_work(line, **options):
    net = line(8, 8, 8, 8).double()
    return ExitEnsembleDistillation(**options).bind(net)


@pytest.mark.parametrize("distance", ["mse", "cross-entropy"])
def test_every_exit_learns_from_the_mean_of_all(golden, make_step, line, distance):
    step = make_step()
    z, f, labels = golden["z"], golden["f"], step.targets["label"].tolist()
    losses = eed_at_work(line, distance=distance)(step)
    mean_z, mean_f = mean_of(z), mean_of(f)
    for k, loss in enumerate(losses):
        pairs = [(a, b) for s, t in zip(z[k], mean_z, strict=True) for a, b in zip(s, t, strict=True)]
        if distance == "mse":
            apart = sum((a - b) ** 2 for a, b in pairs) / len(pairs)
        else:
            apart = 0.1 * 9 * soft(z[k], mean_z, 3)
        pairs = [(a, b) for s, t in zip(f[k], mean_f, strict=True) for a, b in zip(s, t, strict=True)]
        features = sum((a - b) ** 2 for a, b in pairs if a > 0 or b > 0) / len(pairs)
        assert loss.item() == pytest.approx(hard(z[k], labels) + apart + features)


def test_exits_that_say_one_thing_have_nothing_to_distil(make_step, line):
    step = make_step()
    alike = [step.outputs[0].detach().clone().requires_grad_() for _ in step.outputs]
    features = [step.features[0].detach().clone() for _ in step.features]
    step = make_step(features=features)
    object.__setattr__(step, "outputs", alike)
    torch.testing.assert_close(eed_at_work(line)(step), TaskLoss()(step))


def test_the_mean_gets_no_gradient(make_step, line):
    """Exit 1's own distillation pulls exit 1 alone."""
    step = make_step()
    losses = eed_at_work(line)(step)
    gradients = torch.autograd.grad(losses[0], step.outputs, allow_unused=True)
    assert gradients[0] is not None
    assert all(gradient is None for gradient in gradients[1:])


def test_features_of_another_length_pass_a_layer_that_is_trained(line):
    bound = ExitEnsembleDistillation().bind(line(4, 8))
    assert [(layer.in_features, layer.out_features) for layer in bound.layers] == [(4, 8)]


def test_logits_alone(make_step, line):
    with_features, without = (eed_at_work(line, lam=lam)(make_step()) for lam in (1.0, 0.0))
    assert all(a > b for a, b in zip(with_features, without, strict=True))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("distill-later", {"alpha": -1}),
        ("distill-later", {"temperature": 0}),
        ("eed", {"distance": "kl"}),
        ("eed", {"alpha": -1}),
        ("eed", {"lam": "much"}),
        ("eed", {"temperature": 0}),
    ],
)
def test_what_cannot_be(name, options):
    (option,) = options
    with pytest.raises(UserError, match=f"{option} is "):
        method(name, options)
