import pytest
import torch
from torch import nn

import offramp
from offramp.errors import UserError
from offramp.forks import partition
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
    with pytest.raises(UserError, match=r"head 1 \(Odd\) has no feature.*nn.Linear"):
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
