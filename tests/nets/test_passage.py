import pytest
import torch
from steps import exit_step
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import offramp
from offramp.errors import UserError
from offramp.forks import partition
from offramp.methods import method
from offramp.nets import NETS, MultiExitNet, create, last_linear

SMALL = {
    "vgg7": {"width": 4},
    "resnet18": {"width": 4},
    "msdnet_cifar": {"growth": 2, "channels": 4},
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("impl", [None, "fused", "split", "cat"])
def test_a_passage_is_the_forward_pass(name, impl):
    torch.manual_seed(0)
    net = create(name, num_classes=5, **SMALL[name]).eval()
    if impl:
        partition(net, impl=impl)
    x = torch.randn(2, 3, 32, 32)
    outputs, features, trunk = net(x, keep=True)
    for found, expected in zip(outputs, net(x), strict=True):
        assert torch.equal(found, expected)
    for k, feature in enumerate(features, start=1):
        slack = 1e-6 if impl == "split" else 0  # two layers and a sum round otherwise than one
        torch.testing.assert_close(last_linear(net, k)(feature), outputs[k - 1], rtol=0, atol=slack)
    assert len(trunk) == net.num_exits - 1
    below = trunk[0] if isinstance(trunk[0], tuple) else (trunk[0],)
    again = torch.autograd.grad(outputs[-1].sum(), below, allow_unused=True)
    assert any(grad is not None and grad.any() for grad in again)  # what lies on the way is in the graph


def test_a_feature_obeys_the_cut():
    torch.manual_seed(0)
    net = create("vgg7", num_classes=5, width=4)
    partition(net, beta=0.5)
    _, features, trunk = net(torch.randn(3, 3, 32, 32), keep=True)
    (grad,) = torch.autograd.grad(features[0].square().sum(), trunk[0])
    assert not grad[:, :2].any()
    assert grad[:, 2:].any()


@pytest.mark.parametrize("name", [name for name in NETS if name in SMALL])
def test_every_head_has_a_feature(name):
    net = create(name, num_classes=5, **SMALL[name])
    assert all(last_linear(net, k).out_features == 5 for k in range(1, net.num_exits + 1))


def test_a_head_without_a_last_linear_layer():
    class Odd(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    stages = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)]
    net = MultiExitNet(stages, [Odd(), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))])
    outputs, features, _ = net(torch.randn(2, 3, 8, 8), keep=True)
    assert features[0] is None
    assert [o.shape for o in outputs] == [(2, 4), (2, 4)]
    with pytest.raises(UserError, match=r"head 1 \(Odd\) has no feature.*no nn.Linear makes.*such as kd"):
        last_linear(net, 1)


def test_a_vector_net_reads_its_feature_as_it_is():
    net = MultiExitNet(
        [nn.Linear(3, 4), nn.Linear(4, 4)], [nn.Linear(4, 2), nn.Linear(4, 2)], input_size=(3,)
    )
    outputs, features, trunk = net(torch.randn(2, 3), keep=True)
    assert features[0] is trunk[0]
    assert torch.equal(net.heads[1](features[1]), outputs[1])
    assert offramp.cost(net).exits[0].flops == 3 * 4 + 4 * 2


def test_what_is_carried_along_has_a_place_of_its_own_at_each_stage():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
            self.head = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))

        def forward(self, x):
            first = self.a(x)
            return self.head(self.c(self.b(first)) + first)

    net = offramp.attach(Skip(), at=["a", "b"], input_size=(3, 8, 8))
    trunk = net(torch.randn(2, 3, 8, 8), keep=True).trunk
    tensors = [t for feature in trunk for t in (feature if isinstance(feature, tuple) else (feature,))]
    assert len(tensors) == 3  # a's output; then it is carried beside b's
    assert len({(t.grad_fn, t.output_nr) for t in tensors}) == 3


def test_features_of_a_partitioned_net_can_be_watched_after_the_pass():
    """Whoever keeps a feature may put a hook on it, as wrappers do on all that a net returns."""
    net = partition(create("vgg7", num_classes=5, width=8).double())
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    found, seen = net(x, keep=True), []
    assert {type(feature) for feature in found.features} == {torch.Tensor}
    for feature in found.features:
        feature.register_hook(seen.append)
    sum(f.square().sum() for f in found.features).backward()
    for feature, grad in zip(found.features[::-1], seen, strict=True):
        torch.testing.assert_close(grad, 2 * feature)


class Head(nn.Module):
    """A head of its own class, whose linear layer stands amid functions."""

    def __init__(self, wide: int = 4, classes: int = 5):
        super().__init__()
        self.fc, self.scale = nn.Linear(wide, classes), nn.Parameter(torch.rand(classes))

    def forward(self, x):
        x = self.fc(input=x.mean((2, 3)).relu())
        return nn.functional.dropout(x * self.scale, 0.5, self.training).log_softmax(-1)


class Twice(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


class Tokens(nn.Module):
    """Makes logits of every position and takes those of one, another one for each sample."""

    def __init__(self, how="pick"):
        super().__init__()
        self.fc, self.how = nn.Linear(4, 5), how

    def forward(self, x):
        tokens = x.flatten(2).mT
        logits = self.fc(tokens)
        if self.how == "mean":
            return logits.mean(1)
        logits = logits[torch.arange(len(x)), self.positions(x)]
        return nn.functional.dropout(logits, 0.9, self.training and self.how == "drop")

    @staticmethod
    def positions(x):
        return 1 + torch.arange(len(x))


def pooled(x):
    return x.mean((2, 3))


def pool() -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten()]


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Head()

    def forward(self, x):
        return self.inner(x)


HEADS = {
    "functions around it": (Head, lambda x: pooled(x).relu(), lambda h: h.fc),
    "a class around it": (Outer, lambda x: pooled(x).relu(), lambda h: h.inner.fc),
    "layers behind it": (
        lambda: nn.Sequential(*pool(), nn.Linear(4, 5), nn.Dropout(0.5), nn.Softmax(-1)),
        pooled,
        lambda h: h[2],
    ),
    "the same layer twice": (
        lambda: nn.Sequential(again := nn.Softmax(1), *pool(), again, nn.Linear(4, 5), again),
        lambda x: pooled(x.softmax(1)).softmax(1),
        lambda h: h[4],
    ),
    "lists in lists": (
        lambda: nn.Sequential(nn.Sequential(*pool()), nn.Sequential(nn.Linear(4, 5), nn.Identity())),
        pooled,
        lambda h: h[1][0],
    ),
    "a list with a forward of its own": (
        lambda: Twice(*pool(), nn.Linear(4, 5)), pooled, lambda h: h[2]
    ),
    "weights that are computed": (
        lambda: nn.Sequential(*pool(), weight_norm(nn.Linear(4, 5)), nn.Identity()), pooled, lambda h: h[2]
    ),
    "one of many tokens": (
        Tokens, lambda x: x.flatten(2).mT[torch.arange(len(x)), Tokens.positions(x)], lambda h: h.fc
    ),
    "one token": (
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(2), Mover(), nn.Linear(4, 5), nn.Flatten()),
        pooled,
        lambda h: h[3],
    ),
}  # fmt: skip


class Mover(nn.Module):
    def forward(self, x):
        return x.mT


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("impl", [None, "fused"])
@pytest.mark.parametrize("training", [True, False])
def test_the_last_linear_layer_is_found_whatever_is_around_it(kind, impl, training):
    torch.manual_seed(0)
    build, expected, layer = HEADS[kind]
    conv = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)]
    net = MultiExitNet(conv, [build(), build()], input_size=(3, 8, 8)).train(training)
    if impl:
        partition(net, impl=impl)
    x = torch.randn(3, 3, 8, 8)
    torch.manual_seed(1)
    found = net(x, keep=True)
    torch.manual_seed(1)
    assert all(map(torch.equal, found.outputs, net(x)))
    for k, feature in enumerate(found.features):
        assert last_linear(net, k + 1) is layer(net.heads[k])
        torch.testing.assert_close(feature, expected(conv[1](found.trunk[0]) if k else found.trunk[0]))
    (grad,) = torch.autograd.grad(found.features[0].square().sum(), found.trunk[0])
    assert grad[:, 2:].any() and bool(grad[:, :2].any()) is (impl is None)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules() if m is not net.heads[0])


def test_hooks_of_a_head_run_in_a_pass_that_keeps_what_lies_on_the_way():
    net = MultiExitNet(
        [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)], [nn.Sequential(*pool(), nn.Linear(4, 5)), Head()]
    )
    net.heads[0].register_forward_hook(lambda module, args, logits: 2 * logits)
    x = torch.randn(2, 3, 8, 8)
    found = net(x, keep=True)
    assert torch.equal(found.outputs[0], net(x)[0])
    torch.testing.assert_close(found.features[0], pooled(found.trunk[0]))


NONE = {
    "a convolution": lambda: nn.Sequential(nn.Conv2d(4, 5, 1), *pool()),
    "a norm layer behind it": lambda: nn.Sequential(*pool(), nn.Linear(4, 5), nn.BatchNorm1d(5)),
    "a mean of tokens": lambda: Tokens("mean"),
    "a token of which something is dropped": lambda: Tokens("drop"),
    "another width": lambda: nn.Sequential(*pool(), nn.Linear(4, 10), nn.Unflatten(1, (5, 2)), Mean()),
}


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(-1)


@pytest.mark.parametrize("kind", NONE)
def test_where_no_linear_layer_makes_the_logits_methods_say_what_they_need_it_for(kind):
    net = MultiExitNet([nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)], [NONE[kind](), Head()], input_size=(3, 8, 8))
    found = net(torch.randn(2, 3, 8, 8), keep=True)
    assert found.features[0] is None and found.features[1].shape == (2, 4)
    for name in ("byot", "byot-iccv"):
        with pytest.raises(UserError, match=r"head 1 .*has no feature.*a method that reads logits"):
            method(name).objective.bind(net)


class Dense(nn.Module):
    """Ends in functions, and its inside cannot be traced."""

    def __init__(self, flow):
        super().__init__()
        self.low, self.high, self.fc = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 5)
        self.flow = flow

    def forward(self, x):
        if self.flow and x.isnan().any():
            x = -x
        return self.fc(self.high(self.low(x)).relu()).squeeze(-1)


@pytest.mark.parametrize("flow", [True, False])
def test_the_end_of_a_backbone_is_searched_too(flow):
    torch.manual_seed(0)
    backbone = Dense(flow)
    net = offramp.attach(backbone, ["low"], input_size=(3,))
    x = torch.randn(2, 3)
    assert last_linear(net, 2) is backbone.fc
    torch.testing.assert_close(net(x, keep=True).features[1], backbone.high(backbone.low(x)).relu())
    losses = method("byot").objective.bind(net)
    found = net(x, keep=True)
    step = exit_step(net, found.outputs, torch.tensor([0, 1]), features=found.features)
    assert all(loss.isfinite() for loss in losses(step))


def test_it_is_found_in_a_compiled_pass():
    torch.manual_seed(0)
    torch._dynamo.reset()
    net = MultiExitNet(
        [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)], [Head(), Head()], input_size=(3, 8, 8)
    ).eval()
    compiled = torch.compile(net, backend="eager")
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        for found, expected in zip(compiled(x, keep=True), net(x, keep=True), strict=True):
            assert all(map(torch.equal, found, expected))
