"""Distillation against loops over plain numbers and against the public code's losses."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from steps import exit_step

from offramp import UserError
from offramp.methods.objectives import TaskLoss
from offramp.methods.objectives.distillation import Distillation
from offramp.methods.objectives.divergence import DivergenceDistillation
from offramp.tasks import Classification

NET = SimpleNamespace(outputs={"exit 1": Classification(), "exit 2": Classification()})
FOUR = SimpleNamespace(outputs={f"exit {k}": Classification() for k in range(1, 5)})


def probabilities(logits, temperature):
    exps = [math.exp(z / temperature) for z in logits]
    return [e / sum(exps) for e in exps]


def batch_mean(term, *columns):
    rows = list(zip(*columns, strict=True))
    return sum(term(*row) for row in rows) / len(rows)


def hard(logits, targets):
    return batch_mean(lambda z, y: -math.log(probabilities(z, 1)[y]), logits, targets)


def soft(student, teacher, temperature):
    """Cross-entropy of tempered probabilities."""

    def sample(s, t):
        pairs = zip(probabilities(t, temperature), probabilities(s, temperature), strict=True)
        return -sum(q * math.log(p) for q, p in pairs)

    return batch_mean(sample, student, teacher)


def published(z, targets, *, share, temperature, scale):
    """The sum of Phuong and Lampert, term by term."""
    labels = (1 - share) * sum(hard(exit, targets) for exit in z)
    teacher = share * temperature**2 * sum(soft(exit, z[-1], temperature) for exit in z[:-1])
    return scale * (labels + teacher)


@pytest.mark.parametrize(
    "options, numbers",
    [
        ({}, {"share": 0.5, "temperature": 1, "scale": 1}),
        ({"scale": "10/K"}, {"share": 0.5, "temperature": 1, "scale": 10 / 4}),
        (
            {"temperature": 4, "anneal": False, "alpha": 0.3, "scale": 2},
            {"share": 0.3, "temperature": 4, "scale": 2},
        ),
    ],
)
def test_kd_is_the_published_sum(golden, make_step, options, numbers):
    step = make_step()
    losses = Distillation(**options).bind(NET)(step)
    expected = published(golden["z"], step.targets["label"].tolist(), **numbers)
    assert len(losses) == 4
    torch.testing.assert_close(sum(losses).item(), expected, rtol=1e-6 if not options else 1e-12, atol=0)


def test_kd_each_exit_has_its_own_terms(golden, make_step):
    step = make_step()
    y, z = step.targets["label"].tolist(), golden["z"]
    losses = Distillation(temperature=4, anneal=False, alpha=0.3)(step)
    for k in range(3):
        expected = 0.7 * hard(z[k], y) + 0.3 * 16 * soft(z[k], z[-1], 4)
        torch.testing.assert_close(losses[k].item(), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(losses[3].item(), 0.7 * hard(z[3], y), rtol=1e-12, atol=0)


@pytest.mark.parametrize("exits", [2, 3, 4])
def test_kd_teaches_the_shallow_half_and_the_rest_learns_labels_at_whole_weight(golden, make_step, exits):
    step = make_step()
    step = exit_step(None, step.outputs[-exits:], step.targets["label"])
    y, z = step.targets["label"].tolist(), golden["z"][-exits:]
    losses = Distillation(temperature=4, anneal=False, alpha=0.3, taught="half")(step)
    taught = {2: 1, 3: 1, 4: 2}[exits]
    for k in range(exits):
        expected = hard(z[k], y) if k >= taught else 0.7 * hard(z[k], y) + 0.3 * 16 * soft(z[k], z[-1], 4)
        torch.testing.assert_close(losses[k].item(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("case", ["imta_kd_T3_g0.9", "imta_kd_T1_g0.1"])
def test_kd_msdnet_is_the_public_code(golden, make_step, case):
    temperature, share = (float(word[1:]) for word in case.split("_")[2:])
    step = make_step()
    losses = DivergenceDistillation(temperature=temperature, alpha=share, reduction="mean")(step)
    sum(losses).backward()
    torch.testing.assert_close(sum(losses).item(), golden["cases"][case]["loss"], rtol=1e-12, atol=0)
    norms = [z.grad.norm().item() for z in step.outputs]
    torch.testing.assert_close(norms, golden["cases"][case]["grad_z_norm_per_exit"], rtol=1e-10, atol=0)


def test_kd_msdnet_by_its_formula(golden, make_step):
    """By default the divergence is summed over the classes, as the formula says."""
    step = make_step()
    y, z = step.targets["label"].tolist(), golden["z"]
    losses = DivergenceDistillation()(step)
    for k in range(3):
        divergence = soft(z[k], z[-1], 3) - soft(z[-1], z[-1], 3)
        expected = (1 - 0.9) * hard(z[k], y) + 0.9 * 9 * divergence
        torch.testing.assert_close(losses[k].item(), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(losses[3].item(), hard(z[3], y), rtol=1e-12, atol=0)


@pytest.mark.parametrize("objective", [Distillation(), Distillation(anneal=False), DivergenceDistillation()])
def test_the_teacher_learns_from_the_labels_alone(make_step, objective):
    step = make_step()
    losses = objective.bind(NET)(step)
    for k in range(3):
        grads = torch.autograd.grad(losses[k], step.outputs, retain_graph=True, allow_unused=True)
        assert [i for i, grad in enumerate(grads) if grad is not None] == [k]


@pytest.mark.parametrize("objective", [Distillation(alpha=0.3), DivergenceDistillation(alpha=0.3)])
def test_labels_are_smoothed_and_soft_targets_are_not(make_step, objective):
    plain, smooth = make_step(), make_step(label_smoothing=0.2)
    change = sum(objective(smooth)) - sum(objective(plain))
    each = [b - a for a, b in zip(TaskLoss()(plain), TaskLoss()(smooth), strict=True)]
    last = 0.7 if isinstance(objective, Distillation) else 1.0
    torch.testing.assert_close(change, 0.7 * sum(each[:3]) + last * each[3], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("objective", [Distillation(), DivergenceDistillation()])
def test_losses_are_float32_or_wider(make_step, objective):
    narrow = make_step(dtype=torch.bfloat16)
    same = exit_step(None, [z.detach().float() for z in narrow.outputs], narrow.targets["label"])
    start = objective.bind(NET)
    for ours, theirs in zip(start(narrow), objective(same), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs)


SURE = 20 * torch.eye(10)[:6]
UNSURE = torch.zeros(6, 10)


def test_temperature_grows_after_a_confident_batch_and_never_falls():
    targets = torch.arange(6)
    losses = Distillation().bind(NET)
    student = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    for teacher, used, after in [
        (UNSURE, 1.0, 1.0),
        (SURE, 1.0, 1.05),  # the batch itself is still seen at the temperature before
        (SURE, 1.05, 1.05**2),
        (UNSURE, 1.05**2, 1.05**2),
    ]:
        z = [student.clone().requires_grad_(), teacher]
        ours = losses(exit_step(None, z, targets))
        expected = Distillation(temperature=used, anneal=False)(exit_step(None, z, targets))
        torch.testing.assert_close(ours, expected)
        ours[0].backward()
        torch.testing.assert_close(losses.temperature.item(), after, rtol=1e-6, atol=0)


def test_confidence_is_that_of_the_tempered_probabilities():
    teacher = torch.tensor([[1.0, 0.0]])  # 0.73 at T=1, and above 0.5 at any temperature of two classes
    three = torch.tensor([[1.0, 0.0, 0.0]])  # 0.576 at T=1, 0.5 at T = 1/ln 2 = 1.4427
    for logits, grows in ((teacher, True), (three, False)):
        losses = Distillation(temperature=1.5).bind(NET)
        losses(exit_step(None, [logits, logits], torch.tensor([0])))
        assert (losses.temperature.item() > 1.5) == grows


def test_temperature_stays_in_evaluation_mode():
    losses = Distillation().bind(NET).eval()
    losses(exit_step(None, [SURE, SURE], torch.arange(6)))
    assert losses.temperature == 1


def test_annealing_goes_on_exactly_from_a_checkpoint():
    generator = torch.Generator().manual_seed(0)
    steps = [
        exit_step(None, [torch.randn(6, 10, generator=generator), 2 * SURE / (i + 1)], torch.arange(6))
        for i in range(12)
    ]
    through = Distillation().bind(NET)
    for step in steps[:6]:
        through(step)
    assert through.temperature > 1.2
    resumed = Distillation().bind(NET)
    resumed.load_state_dict(through.state_dict())
    for step in steps[6:]:
        assert torch.equal(torch.stack(through(step)), torch.stack(resumed(step)))
    assert torch.equal(through.temperature, resumed.temperature)


def test_processes_keep_one_temperature(monkeypatch):
    """What counts is the mean of 0.6 here and what the other process has."""
    teacher = math.log(0.6 / 0.4 * 9) * torch.eye(10)[:6]
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    for other, grows in ((0.5, True), (0.3, False)):
        monkeypatch.setattr(dist, "all_reduce", lambda tensor, other=other: tensor.add_(other))
        losses = Distillation().bind(NET)
        losses(exit_step(None, [teacher, teacher], torch.arange(6)))
        assert (losses.temperature.item() > 1) == grows


def test_kd_each_exit_may_have_a_share_of_its_own(golden, make_step):
    step, shares = make_step(), [0.5, 0, 0.2, 0.1]
    y, z = step.targets["label"].tolist(), golden["z"]
    losses = Distillation(temperature=4, anneal=False, alpha=shares).bind(FOUR)(step)
    for k, share in enumerate(shares):
        teacher = soft(z[k], z[-1], 4) if k < 3 else 0
        expected = (1 - share) * hard(z[k], y) + share * 16 * teacher
        torch.testing.assert_close(losses[k].item(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("alpha", [1, -0.1, [], [0.5, 1], ["a"], [True], None, math.nan])
def test_kd_shares_are_numbers_from_0_to_below_1(alpha):
    with pytest.raises(UserError, match="must be a number from 0 to below 1, or one for each exit"):
        Distillation(alpha=alpha)


def test_kd_there_are_as_many_shares_as_exits():
    with pytest.raises(UserError, match="alpha has 2 numbers, the net 4 exits; give one for each"):
        Distillation(alpha=[0.5, 0.5]).bind(FOUR)


def test_alpha_0_is_joint_training(make_step):
    step = make_step()
    torch.testing.assert_close(Distillation(alpha=0)(step), TaskLoss()(step))


def test_the_divergence_vanishes_where_student_and_teacher_agree(make_step):
    z = make_step().outputs[0].detach().requires_grad_()
    loss = DivergenceDistillation(alpha=1)(exit_step(None, [z, z.detach()], torch.arange(6)))[0]
    (grad,) = torch.autograd.grad(loss, z)
    assert abs(loss) < 1e-14
    assert grad.abs().max() < 1e-14
    assert F.softmax(z, 1).max() > 0.5  # and not because there is nothing to say
