"""Compiled nets under several backward passes: right gradients, and torch's settings as they were."""

from __future__ import annotations

import threading

import pytest
import torch
import torch._functorch.config
import torch.compiler.config
from jacobian_cases import PLAIN, expected, losses_of, plain_loop, weights
from steps import exit_step
from torch import Tensor, nn

import offramp
from offramp.methods.combiners.jacobian import Jacobian, run_with_lasting_graph

ROWS = ["cagrad", "bdl-1", "graddrop", "mgda"]


def build() -> offramp.MultiExitNet:
    """Sigmoids save what they give, which a compiled backward pass may overwrite."""
    torch.manual_seed(0)
    stages = [nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Sigmoid()) for _ in range(3)]
    return offramp.MultiExitNet(stages, [nn.Linear(4, 3) for _ in stages], input_size=(4,)).double()


def batch(count: int = 4) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(count)
    inputs = torch.randn(count, 4, generator=draws, dtype=torch.float64)
    return inputs, torch.randint(3, (count,), generator=draws)


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def settings() -> tuple[bool, str]:
    return torch._functorch.config.donated_buffer, torch.compiler.config.cache_key_tag


def gradients(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("shared", "lean"), [("per_stage", False), ("union", True)])
def test_rows_of_a_compiled_forward(shared, lean):
    """One graph of the compiler, which gives zeros where a loss does not reach: no rows of those."""
    net = build()
    images, targets = batch()
    compiled = torch.compile(net, backend="aot_eager")
    sum(losses_of(exit_step(net, compiled(images), targets))).backward()  # compiled for one backward pass
    rows = plain_loop(net, losses_of(exit_step(net, net(images), targets)))
    jacobian = Jacobian(net, shared, lean=lean)
    net.zero_grad()
    outputs, *_ = run_with_lasting_graph(lambda: (compiled(images), None, None), net)
    step = exit_step(net, outputs, targets)
    owners = set()
    for block in jacobian.blocks(losses_of(step), step, PLAIN):
        owners.add(block.owners)
        assert shared == "union" or all(g.any() for row in block.rows for g in row if g.dim() > 1)
        block.combine(weights(block.owners))
    assert owners == {group.owners for group in jacobian.groups}
    for name, wanted in expected(net, rows, shared).items():
        torch.testing.assert_close(net.get_parameter(name).grad, wanted, rtol=1e-9, atol=1e-12)


def compiled_whole(net: nn.Module) -> nn.Module:
    return torch.compile(net, backend="aot_eager")


def compiled_in_place(net: nn.Module) -> nn.Module:
    net.compile(backend="aot_eager")
    return net


def compiled_in_parts(net: nn.Module) -> nn.Module:
    for module in (*net.stages, net.heads[0]):
        module.compile(backend="aot_eager")
    return net


def train(net: nn.Module, names: list[str], to_compile=lambda net: net) -> list[Tensor]:
    """Train by one method after the other on three batches; all gradients and statistics on the way."""
    model, found = to_compile(net), []
    for name in names:
        bound = offramp.method(name).bind(model)
        for count in (4, 3):
            images, targets = batch(count)
            net.zero_grad()
            bound.backward(images, targets)
            found += [*gradients(net).values(), *(b.clone() for b in net.buffers())]
    return found


@pytest.mark.parametrize(
    ("to_compile", "names"),
    [
        (compiled_whole, ["graddrop", "joint", "mgda"]),
        (compiled_in_place, ["joint", "mgda"]),
        (compiled_in_parts, ["cagrad", "joint", "cagrad"]),
    ],
)
def test_methods_of_rows_train_compiled_nets_as_plain_ones(to_compile, names):
    """Also after a method of one backward pass has had the same net compiled."""
    before = settings()
    assert before == (True, "")  # torch's defaults
    found = train(build(), names, to_compile)
    assert settings() == before
    wanted = train(build(), names)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ROWS)
def test_binding_and_training_leave_torch_s_settings(name):
    before = settings()
    net = build()
    bound = offramp.method(name).bind(net)
    assert settings() == before
    bound.backward(*batch())
    assert settings() == before


def test_backward_passes_of_another_thread():
    """A GPU's backward passes run in a thread of torch's, which has none of this thread's settings."""
    net, wanted = build(), build()
    images, targets = batch()
    offramp.method("cagrad").bind(wanted).backward(images, targets)
    bound = offramp.method("cagrad").bind(torch.compile(net, backend="aot_eager"))
    losses = bound.losses(images, targets)
    thread = threading.Thread(target=bound.backward, args=(losses,))
    thread.start()
    thread.join()
    torch.testing.assert_close(gradients(net), gradients(wanted), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # of torch's own import
def test_what_was_compiled_for_one_backward_pass_is_not_used_for_several():
    """By inductor, whose caches on disk and in memory hold the backward pass that overwrites."""

    def both(w):
        h = (images @ w).relu()
        return h.sum(), (h @ w).square().sum()

    images, w = torch.randn(4, 4), torch.randn(4, 4, requires_grad=True)
    compiled, net = torch.compile(both), nn.Identity()
    sum(compiled(w)).backward()
    for _ in range(2):
        outputs, *_ = run_with_lasting_graph(lambda: (compiled(w), None, None), net)
        wanted = both(w)
        for k in (1, 0):
            grads = [torch.autograd.grad(losses[k], w, retain_graph=True)[0] for losses in (outputs, wanted)]
            torch.testing.assert_close(*grads)
        torch.compiler.reset()
        sum(compiled(w)).backward()
