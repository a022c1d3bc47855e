"""The forward pass one exit at a time, against loops written out by hand."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import offramp
from offramp.errors import UserError
from offramp.forks import partition
from offramp.nets import MultiExitNet, Separate, create, last_linear, owners

SIZE = (3, 8, 8)


class Refining(nn.Module):
    """A head that corrects the logits of the exit before."""

    reads_previous = True

    def __init__(self, detached: bool = False):
        super().__init__()
        self.fc, self.gain, self.detached = nn.Linear(4, 5), nn.Parameter(torch.ones(5)), detached

    def forward(self, x, logits):
        new = self.fc(x.mean((2, 3)))
        if logits is None:
            return new
        return new + self.gain * (logits.detach() if self.detached else logits)


def plain_head() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


def build(*heads: nn.Module) -> MultiExitNet:
    torch.manual_seed(0)
    stages = [nn.Sequential(nn.Conv2d(4 if k else 3, 4, 3, padding=1), nn.Tanh()) for k in range(len(heads))]
    net = MultiExitNet(stages, heads, input_size=SIZE)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5)
    return net


def refining(**how: bool) -> MultiExitNet:
    return build(plain_head(), Refining(**how), Refining(**how))


def images(n: int = 6) -> torch.Tensor:
    return torch.randn(n, *SIZE, generator=torch.Generator().manual_seed(1))


def by_hand(net: MultiExitNet, x: torch.Tensor) -> list[torch.Tensor]:
    """The logits of a net of Refining heads and plain ones, stage by stage."""
    found, logits = [], None
    for k, (stage, head) in enumerate(zip(net.stages, net.heads, strict=True)):
        x = to_head = stage(x)
        if k < len(net.forks):
            to_head, x = net.forks[k](x)
        logits = head(to_head, logits) if isinstance(head, Refining) else head(to_head)
        found.append(logits)
    return found


@pytest.mark.parametrize("name", ["vgg7", "resnet18", "msdnet_cifar"])
@pytest.mark.parametrize("cut", [False, True])
def test_exits_come_in_order_and_are_those_of_the_forward_pass(name, cut):
    small = {"msdnet_cifar": {"growth": 2, "channels": 4}}.get(name, {"width": 4})
    net = create(name, num_classes=5, **small).eval()
    if cut:
        partition(net)
    x, trunk = torch.randn(2, 3, 32, 32), []
    for fork in net.forks:
        fork.register_forward_pre_hook(lambda module, args: trunk.append(args[0]))
    found = list(net.exits(x))
    assert [exit.number for exit in found] == [*range(1, net.num_exits + 1)]
    assert all(exit.trunk is seen for exit, seen in zip(found, trunk, strict=False))
    assert all(map(torch.equal, [exit.logits for exit in found], by_hand(net, x)))
    assert all(map(torch.equal, net(x), by_hand(net, x)))
    kept = list(net.exits(x, keep=True))
    for exit, plain in zip(kept, found, strict=True):
        assert torch.equal(exit.logits, plain.logits)
        assert exit.layer is last_linear(net, exit.number)
        torch.testing.assert_close(exit.layer(exit.feature), exit.logits, rtol=0, atol=0)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_nothing_runs_before_it_is_asked_for(wanted, keep):
    net, ran = build(plain_head(), plain_head(), plain_head()), []
    for kind in ("stages", "forks", "heads"):
        for k, module in enumerate(getattr(net, kind), start=1):
            module.register_forward_pre_hook(lambda *_, name=f"{kind[:-1]} {k}": ran.append(name))
    walk = net.exits(images(), keep=keep)
    assert ran == []  # not even the first stage
    for exit in walk:
        if exit.number == wanted:
            break
    order = [f"{part} {k}" for k in range(1, 4) for part in ("stage", "fork", "head")]
    order.remove("fork 3")
    assert ran == order[: order.index(f"head {wanted}") + 1]
    ran.clear()
    assert len(net(images(), exits=wanted)) == wanted
    assert ran == order[: order.index(f"head {wanted}") + 1]


def test_a_caller_may_call_the_parts_himself():
    net, seen = refining(), []

    def call(part, module, *inputs):
        seen.append((part, len(inputs)))
        return module(*inputs)

    assert all(map(torch.equal, [e.logits for e in net.exits(images(), call=call)], net(images())))
    first = [("stage", 1), ("fork", 1), ("head", 1)]
    assert seen == [*first, ("stage", 1), ("fork", 1), ("head", 2), ("stage", 1), ("head", 2)]


@pytest.mark.parametrize("first", [plain_head, Refining])
def test_a_head_gets_the_logits_of_the_exit_before_and_the_first_one_none(first):
    net = build(first(), Refining(), Refining())
    assert all(map(torch.equal, net(images()), by_hand(net, images())))
    kept = net(images(), keep=True)
    assert all(map(torch.equal, kept.outputs, net(images())))
    # the second head's linear layer alone does not make its logits
    assert kept.features[1] is None or not torch.equal(net.heads[1].fc(kept.features[1]), kept.outputs[1])


def test_losses_reach_earlier_heads_through_the_logits_unless_they_are_detached():
    own = refining().owners()
    assert own["heads.0.2.weight"] == {0, 1, 2} and own["heads.1.fc.weight"] == {1, 2}
    own = refining(detached=True).owners()
    assert own["heads.0.2.weight"] == {0} and own["heads.1.fc.weight"] == {1}


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("make", [refining, lambda: build(*(plain_head() for _ in range(3)))])
def test_it_compiles_as_one_graph(make, cut, backend):
    torch._dynamo.reset()
    net = make()
    if cut:
        partition(net)
    compiled = torch.compile(net, backend=backend, fullgraph=True)
    for how in ({}, {"exits": 2}):
        grads = []
        for model in (net, compiled):
            net.zero_grad()
            outputs = model(images(), **how)
            sum(output.square().sum() for output in outputs).backward()
            grads.append([None if p.grad is None else p.grad.clone() for p in net.parameters()])
        for found, expected in zip(*grads, strict=True):
            assert (found is None) == (expected is None)
            if found is not None:
                torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("strict", [True, False])
def test_it_exports(training, strict):
    net = refining().train(training)
    program = torch.export.export(net, (images(),), strict=strict)
    assert all(map(torch.equal, program.module()(images()), net(images())))


def test_it_traces():
    net = refining().eval()
    traced = torch.fx.symbolic_trace(net, concrete_args={"keep": False, "exits": None})
    assert all(map(torch.equal, traced(images()), net(images())))


@pytest.mark.parametrize("detached", [True, False])
@pytest.mark.parametrize("impl", ["fused", "split", "cat"])
def test_surgery_of_a_net_whose_heads_read_logits(impl, detached):
    """A cut net's gradients against detached halves put together by hand."""
    net = refining(detached=detached).double()
    x, targets = images().double(), torch.arange(6) % 5
    plain = copy.deepcopy(net)
    partition(net, beta=0.5, impl=impl)
    sum(F.cross_entropy(logits, targets) for logits in net(x)).backward()
    h, logits, loss = x, None, 0
    for k, (stage, head) in enumerate(zip(plain.stages, plain.heads, strict=True)):
        h = to_head = stage(h)
        if k < 2:
            low, high = h[:, :2], h[:, 2:]
            to_head, h = torch.cat([low.detach(), high], 1), torch.cat([low, high.detach()], 1)
        logits = head(to_head, logits) if isinstance(head, Refining) else head(to_head)
        loss = loss + F.cross_entropy(logits, targets)
    loss.backward()
    for (name, found), expected in zip(net.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, msg=name)


def test_each_operation_is_counted_at_the_exit_that_runs_it():
    net = refining()
    first, second, third = offramp.cost(net).exits  # products of all heads up to the exit
    conv, fc = 4 * 3 * 9 * 64, 4 * 5
    assert first.flops == conv + fc
    assert second.flops - first.flops == third.flops - second.flops == 4 * 4 * 9 * 64 + fc
    assert first.params == conv // 64 + 4 + fc + 5


def test_separate_networks_hold_the_earlier_heads_that_they_read():
    net = build(plain_head(), Refining(), plain_head())
    alone = Separate(net)
    assert all(map(torch.equal, alone(images()), net(images())))
    sizes = [sum(p.numel() for p in one.parameters()) for one in alone.nets]
    stages, (first, second, third) = 4 * 3 * 9 + 4 + 2 * (4 * 4 * 9 + 4), (4 * 5 + 5, 4 * 5 + 10, 4 * 5 + 5)
    assert sizes[1:] == [stages - 4 * 4 * 9 - 4 + first + second, stages + third]
    assert owners(alone, alone.sample(1)) == alone.owners()
    assert len(alone.heads) == 4
    assert all(exit.flops for exit in offramp.cost(alone).exits)


@pytest.mark.parametrize("carry", [False, True])
def test_attach_takes_heads_that_read_logits(carry):
    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(3 if k == 0 else 4, 4, 3, padding=1) for k in range(3))
            self.fc = nn.Linear(4, 5)

        def forward(self, x):
            first = self.a(x)
            x = self.b(first)
            return self.fc(self.c(x + first if carry else x).mean((2, 3)))

    backbone, heads = Backbone(), [plain_head(), Refining()]
    net = offramp.attach(backbone, ["a", "b"], input_size=SIZE, heads=heads)
    first = backbone.a(images())
    logits = heads[0](first)
    expected = [logits, heads[1](backbone.b(first), logits), backbone(images())]
    for found, wanted in zip(net(images()), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_head_that_overwrites_its_feature_is_still_named():
    class Overwriting(Refining):
        def forward(self, x, logits):
            return super().forward(x.mul_(2), logits)

    net = build(plain_head(), Overwriting(), plain_head())
    with pytest.raises(UserError, match="head 2 overwrites the feature"):
        partition(net)
