"""Self-distillation against loops, the public code's losses, and what its adaptation layers must do."""

import pytest
import torch
from steps import exit_step
from torch import nn

from offramp.errors import UserError
from offramp.methods.objectives import TaskLoss
from offramp.methods.objectives.self_distillation import SelfDistillation, SelfDistillationICCV
from offramp.nets import MultiExitNet, vgg7
from offramp.nets.passage import passage

BOTH = [SelfDistillation(), SelfDistillationICCV()]


def transparent(losses):
    """Adaptation layers that change nothing."""
    with torch.no_grad():
        for layer in losses.layers:
            layer.weight.copy_(torch.eye(*layer.weight.shape))
            layer.bias.zero_()
    return losses


@pytest.mark.parametrize("case, lam", [("dfs_kd_T3_g0.3", 0.0), ("dfs_kd_T3_g0.3_fd0.03", 0.03)])
def test_byot_is_the_public_code(golden, make_step, line, case, lam):
    step = make_step()
    losses = transparent(SelfDistillation(lam=lam).bind(line(8, 8, 8, 8).double()))(step)
    sum(losses).backward()
    expected = golden["cases"][case]
    torch.testing.assert_close(sum(losses).item(), expected["loss"], rtol=1e-12, atol=0)
    norms = [z.grad.norm().item() for z in step.outputs]
    torch.testing.assert_close(norms, expected["grad_z_norm_per_exit"], rtol=1e-10, atol=0)
    if lam:
        assert step.features[-1].grad is None
        norms = [f.grad.norm().item() for f in step.features[:-1]] + [0.0]
        torch.testing.assert_close(norms, expected["grad_f_norm_per_exit"], rtol=1e-10, atol=0)


def test_byot_iccv_by_a_slow_loop(golden, make_step, line):
    step = make_step()
    losses = SelfDistillationICCV(alpha=0.1, lam=0.01).bind(line(8, 8, 8, 8).double())(step)
    labels = TaskLoss()(step)
    z = torch.tensor(golden["z"], dtype=torch.float64)
    teacher = (z[-1] / 3).softmax(1)
    for k in range(3):
        soft = -(teacher * (z[k] / 3).log_softmax(1)).sum(1).mean()
        distance = 0.0
        for mine, its in zip(golden["f"][k], golden["f"][-1], strict=True):
            pairs = zip(mine, its, strict=True)
            distance += sum((a - b) ** 2 for a, b in pairs if a > 0 or b > 0)
        expected = 0.9 * labels[k] + 0.1 * 9 * soft + 0.01 * distance
        torch.testing.assert_close(losses[k], expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(losses[3], 0.9 * labels[3], rtol=1e-12, atol=0)


@pytest.mark.parametrize("objective", BOTH)
def test_the_teacher_learns_from_the_labels_alone(make_step, line, objective):
    step = make_step()
    losses = objective.bind(line(8, 8, 8, 8).double())(step)
    everything = [*step.outputs, *step.features]
    for k in range(3):
        grads = torch.autograd.grad(losses[k], everything, retain_graph=True, allow_unused=True)
        assert [i for i, grad in enumerate(grads) if grad is not None] == [k, 4 + k]


def test_byot_adapts_every_feature_and_iccv_those_that_need_it(line):
    net = line(4, 6, 8, 8)
    shapes = [
        {name: tuple(p.shape) for name, p in objective.bind(net).named_parameters()} for objective in BOTH
    ]
    assert shapes[1] == {
        "layers.0.weight": (8, 4), "layers.0.bias": (8,), "layers.1.weight": (8, 6), "layers.1.bias": (8,),
    }  # fmt: skip
    assert shapes[0] == {**shapes[1], "layers.2.weight": (8, 8), "layers.2.bias": (8,)}


@pytest.mark.parametrize("objective", BOTH)
def test_adaptation_learns_from_its_own_exit_on_a_real_net(objective):
    net = vgg7(num_classes=10, width=4)  # features of 4, 4, 8, 8, 16, 16 numbers
    losses = objective.bind(net)
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = passage(net, x)
    each = losses(exit_step(net, found.outputs, torch.arange(4), features=found.features))
    adapted = [k for k in range(5) if list(losses.layers[k].parameters())]
    assert adapted == ([0, 1, 2, 3, 4] if isinstance(objective, SelfDistillation) else [0, 1, 2, 3])
    for k in adapted:
        grads = torch.autograd.grad(each[k], list(losses.parameters()), retain_graph=True, allow_unused=True)
        reached = [p for p, grad in zip(losses.parameters(), grads, strict=True) if grad is not None]
        assert {id(p) for p in reached} == {id(p) for p in losses.layers[k].parameters()}
        assert all(grad.abs().max() > 0 for grad in grads if grad is not None)
    assert not [p for p in net.parameters() if any(p is q for q in losses.parameters())]


def test_adaptation_starts_the_same_everywhere_and_draws_nothing_from_the_run(line):
    net = line(4, 6, 8)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = SelfDistillation().bind(net)
    assert torch.equal(torch.rand(3), expected)
    second = SelfDistillation().bind(net)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert first.layers[0].weight.std() > 0.1  # drawn, not constant: uniform in +-1/2, so about 0.29


@pytest.mark.parametrize("objective", BOTH)
def test_adaptation_returns_from_a_checkpoint(line, objective):
    net = line(4, 6, 8)
    trained = objective.bind(net)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(1)
    resumed = objective.bind(net)
    resumed.load_state_dict(trained.state_dict())
    found = passage(net, torch.randn(5, 4))
    step = exit_step(net, found.outputs, torch.arange(5), features=found.features)
    assert torch.equal(torch.stack(trained(step)), torch.stack(resumed(step)))


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("objective", BOTH)
def test_losses_are_float32_or_wider(make_step, line, objective, autocast):
    net = line(8, 8, 8, 8)
    narrow = make_step(dtype=torch.bfloat16)
    wide = exit_step(
        net,
        [z.detach().float() for z in narrow.outputs],
        narrow.targets["label"],
        features=[f.detach().float() for f in narrow.features],
    )
    losses = objective.bind(net)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        ours = losses(narrow)
    assert all(loss.dtype == torch.float32 for loss in ours)
    torch.testing.assert_close(ours, losses(wide), rtol=1e-2 if autocast else 1e-6, atol=1e-6)


@pytest.mark.parametrize("objective", BOTH)
def test_labels_are_smoothed_and_soft_targets_are_not(make_step, line, objective):
    losses = objective.bind(line(8, 8, 8, 8).double())
    plain, smooth = make_step(), make_step(label_smoothing=0.2)
    change = sum(losses(smooth)) - sum(losses(plain))
    each = [b - a for a, b in zip(TaskLoss()(plain), TaskLoss()(smooth), strict=True)]
    share = 1 - objective.alpha
    last = 1.0 if isinstance(objective, SelfDistillation) else share
    torch.testing.assert_close(change, share * sum(each[:3]) + last * each[3], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("objective", BOTH)
def test_equal_features_have_a_finite_gradient(make_step, line, objective):
    """The norm has a kink where the features agree."""
    step = make_step()
    same = [step.features[-1].detach().clone().requires_grad_() for _ in range(4)]
    step = exit_step(None, step.outputs, step.targets["label"], features=same)
    losses = objective.bind(line(8, 8, 8, 8).double())
    if isinstance(objective, SelfDistillation):
        transparent(losses)
    sum(losses(step)).backward()
    assert all(torch.equal(f.grad, torch.zeros_like(f)) for f in same[:3])


@pytest.mark.parametrize("objective", BOTH)
def test_a_head_without_a_feature_is_refused(objective):
    net = MultiExitNet([nn.Identity(), nn.Identity()], [nn.Linear(4, 10), nn.Softmax(1)], input_size=(4,))
    with pytest.raises(UserError, match="head 2") as error:
        objective.bind(net)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="Linear has none"):
        objective.bind(nn.Linear(4, 10))


def test_a_step_without_features_is_refused(make_step, line):
    with pytest.raises(ValueError, match="features"):
        SelfDistillation().bind(line(8, 8, 8, 8))(make_step(features=None))
