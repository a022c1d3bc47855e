"""DR-MGF against a plain reading of the algorithm, and the properties that the algorithm promises."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from context_cases import RECIPE, batches, bench, run_epoch, tiny_net
from plain_dr_mgf import PlainDRMGF
from torch import nn

from offramp import UserError
from offramp.methods.loops.staged._copies import Copies
from offramp.methods.loops.staged._functions import gated, weighted_mean


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def start_of(work):
    """The first importance variables, task by task."""
    return {
        k: {
            name: work.importance.nu[f"{name.replace('.', '/')}:{k}"].detach().clone()
            for name, owners in work.importance.owners.items()
            if k in owners
        }
        for k in range(work.context.net.num_exits)
    }


@pytest.mark.parametrize(
    ("name", "rate", "beta", "chained"),
    [
        ("dr-mgf-published", 0.1, 0.4, 0),
        ("dr-mgf-published", 0.1, 0.0, 0),
        ("dr-mgf", 1e-4, 0.4, 0),
        ("dr-mgf-chained", 1e-4, 0.4, 13),
    ],
)
def test_two_epochs_equal_a_plain_reading_of_the_algorithm(name, rate, beta, chained):
    """The first epoch is routed, the second is not; 20 batches each, of 3 stages and the fusion.

    Of chained stages each has two thirds of them.
    """
    ours, theirs = tiny_net(), tiny_net()
    work = bench(ours, name, auxiliary=beta)
    plain = PlainDRMGF(
        theirs,
        {name: owners for name, owners in work.owners.items() if name in dict(theirs.named_parameters())},
        nu=start_of(work),
        lr=RECIPE.lr,
        momentum=RECIPE.momentum,
        decay=RECIPE.weight_decay,
        beta=beta,
        penalty=1e-4,
        routed=0.5,
        batches=batches,
        count=20,
        rate=rate,
        chained=chained,
    )
    theirs.train()
    before = {name: p.detach().clone() for name, p in ours.named_parameters()}
    for epoch in range(2):
        run_epoch(work, epoch, 20)
        plain.epoch(epoch, 2)
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=1e-8)
    assert all((p - before[name]).abs().max() > 1e-3 for name, p in ours.named_parameters() if p.dim() > 1)


@pytest.mark.parametrize(
    "options",
    [{"gate": "mixed"}, {"optimizers": "shared"}, {"start": "carried"}, {"statistics": "carried"}],
    ids=str,
)
def test_stages_that_go_in_turn_are_refused_to_several_processes(options):
    work = bench(tiny_net(), **options)
    two = SimpleNamespace(world_size=2, setup_optimizers=lambda optimizer: optimizer)
    with pytest.raises(UserError, match="go in turn and cannot be shared out"):
        work.options.bind(dataclasses.replace(work.context, fabric=two))


@pytest.mark.parametrize(("given", "share"), [(0.1, 0.1), (0.7, 0.7), ("2/K", 2 / 3), ("3/K", 1.0)])
def test_a_stage_has_the_share_that_is_given(given, share):
    """To the last bit: 0.1 of 25 steps rounds to 2, and 0.1 x 3 / 3 of them to 3."""
    work = bench(tiny_net(), stage_fraction=given)
    assert [phase.share for phase in work.phases] == [share, share, share, 1.0]


def test_what_comes_out_is_the_plain_net():
    net, plain = tiny_net(), tiny_net()
    run_epoch(bench(net), 0, 2)
    assert net.state_dict().keys() == plain.state_dict().keys()
    assert [type(m) for m in net.modules()] == [type(m) for m in plain.modules()]
    x = next(iter(batches(7, 7, 1))).inputs
    net.eval()
    plain.load_state_dict(net.state_dict())
    plain.eval()
    torch.testing.assert_close(net(x), plain(x), rtol=0, atol=0)


def test_head_k_is_that_of_stage_k_to_the_last_bit():
    net = tiny_net()
    work = bench(net)
    net.train()
    left = {}
    from offramp.methods.loops import Progress

    progress = Progress(0, 0.0, 0.05)
    for part, one in enumerate(work.phases):
        work.begin(part, progress)
        for batch in batches(0, one.draw, 3):
            work.step(part, batch, progress)
        if part < 3:
            left[part] = net.heads[part][-1].weight.detach().clone()
        work.end(part, progress)
    for k, weight in left.items():
        assert torch.equal(net.heads[k][-1].weight, weight)


def test_equal_states_fuse_to_themselves_under_any_weights():
    torch.manual_seed(1)
    state = torch.randn(5, 4, 3, 3, dtype=torch.float64)
    fused = weighted_mean([state] * 3, torch.rand(3, 5, 4, dtype=torch.float64) + 1e-3)
    torch.testing.assert_close(fused, state, rtol=1e-12, atol=0)


def test_the_mean_does_not_depend_on_where_displacements_start():
    torch.manual_seed(2)
    states = [torch.randn(5, 4, 3, 3, dtype=torch.float64) for _ in range(3)]
    weights = torch.rand(3, 5, 4, dtype=torch.float64) + 0.1
    start = torch.randn(5, 4, 3, 3, dtype=torch.float64)
    over = weights[..., None, None]
    moved = start + sum(a * (w - start) for a, w in zip(over, states, strict=True)) / over.sum(0)
    torch.testing.assert_close(weighted_mean(states, weights), moved, rtol=1e-12, atol=1e-12)


def test_tasks_may_change_places():
    torch.manual_seed(3)
    states = [torch.randn(6, 2, 3, 3, dtype=torch.float64) for _ in range(3)]
    weights = torch.rand(3, 6, 2, dtype=torch.float64)
    order = [2, 0, 1]
    torch.testing.assert_close(
        weighted_mean([states[i] for i in order], weights[order]), weighted_mean(states, weights)
    )


def test_norms_as_routes_leave_weights_as_they_are():
    """nu = ||w|| and hardly any competition: stages of no step leave w0, to a thousandth."""
    net = tiny_net()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    work = bench(net, init="norm", lateral="nyu", learn="nothing")
    run_epoch(work, 0, 1, lr=0.0)
    for name, p in net.named_parameters():
        torch.testing.assert_close(p, before[name], rtol=1e-3, atol=1e-9)


def test_a_kernel_learns_its_direction_only():
    torch.manual_seed(4)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    gate = torch.rand(4, 3, dtype=torch.float64)
    (grad,) = torch.autograd.grad(gated(weight, gate).mul(torch.randn_like(weight)).sum(), weight)
    assert (grad * weight).sum((2, 3)).abs().max() < 1e-14
    assert grad.abs().max() > 0.1
    point = torch.randn(4, 3, 1, 1, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(gated(point, gate).mul(torch.randn_like(point)).sum(), point)
    assert grad.abs().max() < 1e-14


def test_a_kernel_of_zeros_stays():
    """It has no direction, and what is divided by its length must not end in the norm of the gradient."""
    weight = torch.zeros(1, 1, 3, 3, requires_grad=True)
    gate = torch.ones(1, 1, requires_grad=True)
    grads = torch.autograd.grad(gated(weight, gate).sum(), [weight, gate])
    assert all(g.abs().max() == 0 for g in grads)


def test_statistics_are_those_of_the_mixture_also_of_small_variance():
    copies = Copies({"0.running_mean": (0, 1), "0.running_var": (0, 1)})
    for task, (mean, variance) in enumerate([(100.3, 1e-4), (100.31, 3e-4)]):
        copies.keep(task, {"0.running_mean": torch.tensor([mean]), "0.running_var": torch.tensor([variance])})
    found = copies.statistics(nn.Sequential(nn.BatchNorm2d(1)))
    assert found["0.running_mean"].item() == pytest.approx(100.305)
    assert found["0.running_var"].item() == pytest.approx(2e-4 + 2.5e-5, rel=2e-2)  # float32 at 100


def test_gradients_by_hand_are_those_of_finite_differences():
    torch.manual_seed(5)
    weight = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    gate = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gated, (weight, gate))
    states = [torch.randn(2, 3, 2, 2, dtype=torch.float64) for _ in range(3)]
    for unit in ((), (2,), (2, 3), (2, 3, 2, 2)):
        weights = (torch.rand(3, *unit, dtype=torch.float64) + 0.2).requires_grad_()
        assert torch.autograd.gradcheck(lambda a: weighted_mean(states, a), (weights,))


def test_what_one_task_owns_does_not_depend_on_what_the_fusion_learns():
    nets = [tiny_net(), tiny_net()]
    for net, rate in zip(nets, (0.1, 10.0), strict=True):
        work = bench(net, fusion_lr=rate)
        run_epoch(work, 0, 3)
    a, b = (dict(net.named_parameters()) for net in nets)
    single = [name for name, owners in work.owners.items() if len(owners) == 1 and name in a]
    assert any(name.startswith("stages.2") for name in single)
    means = [n for n in a if n.startswith("stages") and n.endswith(("0.bias", "3.bias"))]  # of convolutions
    for name in a:
        assert torch.equal(a[name], b[name]) == (name in single or name in means), name


@pytest.mark.parametrize(
    ("name", "forward", "backward", "stage_steps", "fusion_steps"),
    [("dr-mgf", 4, 4, 3, 1), ("meta-gf", 4, 4, 3, 1), ("dr-avgf", 4, 3, 3, 0)],
)
def test_passes_are_counted_as_they_happen(monkeypatch, name, forward, backward, stage_steps, fusion_steps):
    """K = 3 exits, B = 5 batches: (K+1)B forward, (K+1)B or KB backward, KB steps and B of the fusion's."""
    net = tiny_net()
    work = bench(net, name)
    counts = {"forward": 0, "backward": 0, "stage": 0, "fusion": 0}
    net.heads[0].register_forward_hook(lambda *_: counts.__setitem__("forward", counts["forward"] + 1))
    plain = torch.Tensor.backward

    def backward_(*arguments, **rest):
        counts["backward"] += 1
        return plain(*arguments, **rest)

    monkeypatch.setattr(torch.Tensor, "backward", backward_)
    for optimizer in work.training.optimizers.values():
        optimizer.optimizer.register_step_post_hook(
            lambda *_: counts.__setitem__("stage", counts["stage"] + 1)
        )
    if work.fusion.optimizer is not None:
        work.fusion.optimizer.optimizer.register_step_post_hook(
            lambda *_: counts.__setitem__("fusion", counts["fusion"] + 1)
        )
    run_epoch(work, 0, 5)
    assert counts == {
        "forward": 5 * forward,
        "backward": 5 * backward,
        "stage": 5 * stage_steps,
        "fusion": 5 * fusion_steps,
    }
    assert work.options.passes.of(3) == (forward, backward)


@pytest.mark.parametrize("name", ["dr-mgf", "meta-gf", "dr-avgf"])
def test_the_order_of_the_stages_does_not_matter(name):
    nets = [tiny_net(), tiny_net()]
    for net, deepest_first in zip(nets, (False, True), strict=True):
        work = bench(net, name, deepest_first=deepest_first)
        for epoch in range(2):
            run_epoch(work, epoch, 3)
    torch.testing.assert_close(nets[0].state_dict(), nets[1].state_dict(), rtol=0, atol=0)


def test_with_a_shared_optimiser_it_does():
    nets = [tiny_net(), tiny_net()]
    for net, deepest_first in zip(nets, (False, True), strict=True):
        run_epoch(bench(net, deepest_first=deepest_first, optimizers="shared"), 0, 3)
    a, b = (torch.cat([p.flatten() for p in net.parameters()]) for net in nets)
    assert (a - b).abs().max() > 1e-6


def test_a_stage_of_rate_zero_stops_at_its_exit():
    net = tiny_net()
    work = bench(net, auxiliary=0.0)
    called = [0, 0, 0]
    for k, head in enumerate(net.heads):
        head.register_forward_hook(lambda *_, k=k: called.__setitem__(k, called[k] + 1))
    run_epoch(work, 0, 5)
    assert called == [20, 15, 10]  # stages 1 to 3 and the fusion; 2, 3 and the fusion; 3 and the fusion


@pytest.mark.parametrize("tie", ["two layers", "one layer twice"])
@pytest.mark.parametrize("stage", [0, 2])
def test_tied_weights_train_as_one(stage, tie):
    """In a stage that all exits own, and in one that a single exit owns."""
    net = tiny_net()
    first = nn.Conv2d(4, 4, 3, padding=1).double()
    second = first if tie == "one layer twice" else nn.Conv2d(4, 4, 3, padding=1).double()
    second.weight = first.weight
    net.stages[stage].extend([first, nn.ReLU(), second])
    before = first.weight.detach().clone()
    work = bench(net)
    for epoch in range(2):
        run_epoch(work, epoch, 3)
    assert second.weight is first.weight
    assert (first.weight - before).abs().max() > 1e-3


@pytest.mark.parametrize(("name", "ratio"), [("dr-mgf", 0.1), ("dr-mgf-published", 100)])
def test_what_one_step_of_the_fusion_does_to_a_scale(name, ratio):
    """Adam's first step is as long as its rate: |s| goes from s to |s -+ ratio s|, down or up.

    At the default rate that is a tenth less or more. At the published one, a hundredfold, both are about 0.1,
    and a scale that should have fallen has risen as far as one that should have.
    """
    net = tiny_net()
    work = bench(net, name)
    run_epoch(work, 0, 1)
    scales = torch.cat([work.mean.scale(n).detach().flatten() for n in work.mean.variables]) / 1e-3
    moved = scales[(scales - 1).abs() > 1e-9]  # a kernel that no loss depends on stays
    down, up = (moved - abs(1 - ratio)).abs() < 1e-2 * ratio, (moved - (1 + ratio)).abs() < 1e-2 * ratio
    assert (down | up).all()
    assert down.any() and up.any()
