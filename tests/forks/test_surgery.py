"""Deep Feature Surgery on real nets: values, reach of every loss, equal implementations."""

from __future__ import annotations

import copy

import pytest
import torch
from nets import SMALL, batch, by_hand, gradients, losses, small
from torch import nn

import offramp
from offramp import UserError
from offramp.forks import Equilibrium, Partition, Rotation, install, partition, remove, uncut
from offramp.nets import MultiExitNet, create

IMPLEMENTATIONS = ("fused", "split", "cat")
EXACT = {"rtol": 0, "atol": 1e-11}  # float64 and values near 1: a hundred times the rounding seen


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", SMALL)
def test_forward_equals_the_plain_net(name, impl):
    net, (images, _) = small(name), batch()
    plain = copy.deepcopy(net)(images)
    for ours, theirs in zip(partition(net, impl=impl)(images), plain, strict=True):
        if impl == "split":  # the sum of two convolutions rounds otherwise than one
            torch.testing.assert_close(ours, theirs, **EXACT)
        else:
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "rule",
    [*(Partition(impl=impl) for impl in IMPLEMENTATIONS), Equilibrium(), Rotation()],
    ids=[*IMPLEMENTATIONS, "ge", "rotation"],
)
def test_uncut_forks_send_every_gradient_back(rule):
    net = small("vgg7")
    plain, forked = copy.deepcopy(net), install(net, [rule])
    with uncut(forked):
        found = gradients(forked, sum(losses(forked)))
    expected = gradients(plain, sum(losses(plain)))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    again = gradients(forked, sum(losses(forked)))  # the rules act again
    assert any(not torch.allclose(again[name], expected[name]) for name in expected)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_reach_matrix(impl):
    """Own filters hear their own exit alone; shared filters every later exit and never their own."""
    net = partition(small("vgg7"), impl=impl)
    for k, loss in enumerate(losses(net), start=1):
        grads = gradients(net, loss)
        for i, stage in enumerate(net.stages, start=1):
            conv, bn = stage[0], stage[2]
            half = conv.out_channels // 2
            for tensor in (conv.weight, bn.weight, bn.bias):
                name = next(n for n, p in net.named_parameters() if p is tensor)
                reached = grads[name].reshape(len(tensor), -1).abs().sum(1) > 0
                if i == net.num_exits:
                    assert reached.any() == (k == i)
                    continue
                assert reached[:half].any() == (k > i), (i, k, name, "shared")
                assert reached[half:].any() == (k == i), (i, k, name, "own")
            for name, grad in grads.items():
                if name.startswith(f"heads.{i - 1}."):
                    assert grad.any() == (i == k)


def test_heads_and_next_layers_train_on_both_halves():
    net = partition(small("vgg7"))
    grads = gradients(net, torch.stack(losses(net)).sum())
    for i in range(net.num_exits - 1):
        head = grads[f"heads.{i}.2.weight"]
        following = grads[f"stages.{i + 1}.0.weight"].abs().sum((2, 3))
        assert (head != 0).any(0).all()
        assert (following != 0).any(0).all()


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_own_filters_get_the_gradient_that_their_loss_alone_gives_the_plain_net(impl):
    plain = small("vgg7")
    net = partition(copy.deepcopy(plain), impl=impl)
    grads = gradients(net, torch.stack(losses(net)).sum())
    for i in range(net.num_exits - 1):
        name = f"stages.{i}.0.weight"
        alone = gradients(plain, losses(plain)[i])[name]
        half = len(alone) // 2
        torch.testing.assert_close(grads[name][half:], alone[half:], **EXACT)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_shared_filters_are_blind_to_their_own_loss(impl):
    net = partition(small("vgg7"), impl=impl)
    once = gradients(net, torch.stack(losses(net)).sum())
    for i in range(net.num_exits - 1):
        found = losses(net)
        found[i] = 100 * found[i]
        name = f"stages.{i}.0.weight"
        more = gradients(net, torch.stack(found).sum())[name]
        half = len(more) // 2
        torch.testing.assert_close(more[:half], once[name][:half], **EXACT)
        assert not torch.allclose(more[half:], once[name][half:])


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("own_to_shared", [0, 1])
def test_gradients_equal_detaching_by_hand(name, impl, own_to_shared):
    plain = small(name)
    net = partition(
        copy.deepcopy(plain), impl=impl, own_to_shared=own_to_shared, beta=0.3, channels={1: [1, 6]}
    )
    shared = _masks(plain, {1: [1, 6]}, beta=0.3)
    ours = gradients(net, torch.stack(losses(net)).sum())
    theirs = gradients(plain, torch.stack(by_hand(plain, shared, bool(own_to_shared))).sum())
    for key in theirs:
        torch.testing.assert_close(ours[key], theirs[key], **EXACT)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beta": 0.3},
        {"own_to_shared": 1},
        {"own_to_shared": 0.3, "later_to_own": 0.2},
        {"scales": "all"},
        {"where": [2, 5]},
        {"channels": {1: [0, 3, 5]}},
    ],
    ids=str,
)
def test_implementations_agree_on_msdnet(options):
    plain = small("msdnet_cifar")
    found = {}
    for impl in IMPLEMENTATIONS:
        net = partition(copy.deepcopy(plain), Partition(impl=impl, **options))
        found[impl] = gradients(net, torch.stack(losses(net)).sum())
    for impl in set(found) - {"cat"}:
        for key, grad in found["cat"].items():
            torch.testing.assert_close(found[impl][key], grad, **EXACT)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", SMALL)
def test_on_and_off_again(name, impl):
    net = small(name)
    kinds, keys = [type(m) for m in net.modules()], list(net.state_dict())
    values = [p.clone() for p in net.parameters()]
    before = [set(vars(m)) for m in net.modules()]
    net.heads[0].eval()
    modes = [m.training for m in net.modules()]
    partition(net, impl=impl)
    assert list(net.state_dict()) == keys
    assert all(torch.equal(p, v) for p, v in zip(net.parameters(), values, strict=True))
    assert [m.training for m in net.modules()] == modes
    losses(copy.deepcopy(net))  # a copy is a whole net too
    remove(net)
    assert [type(m) for m in net.modules()] == kinds
    assert [set(vars(m)) for m in net.modules()] == before


def test_zero_referencing_feeds_each_reader_its_part_only():
    """Equal to a net whose weights on the other part are zero, in training and in evaluation."""
    net, (images, _) = small("vgg7"), batch()
    blind = copy.deepcopy(net)
    with torch.no_grad():
        for i in range(net.num_exits - 1):
            head, conv = blind.heads[i][2], blind.stages[i + 1][0]
            half = conv.in_channels // 2
            head.weight[:, :half] = 0
            conv.weight[:, half:] = 0
    partition(net, reference="zero")
    for mode in (True, False):
        net.train(mode)
        blind.train(mode)
        for ours, theirs in zip(net(images), blind(images), strict=True):
            torch.testing.assert_close(ours, theirs, **EXACT)
    grads = gradients(net, torch.stack(losses(net)).sum())
    assert not grads["heads.0.2.weight"][:, :4].any()
    assert grads["heads.0.2.weight"][:, 4:].any()


def test_forks_are_refused_twice_and_where_there_is_none():
    net = partition(small("vgg7"))
    with pytest.raises(UserError, match=r"take them off first with offramp\.forks\.remove"):
        partition(net)
    with pytest.raises(UserError, match="exit 6 cannot be partitioned: choose from 1 to 5"):
        partition(remove(net), where=[6])
    with pytest.raises(UserError, match="either a Partition or its fields"):
        partition(net, Partition(), beta=0.3)


def test_a_sliced_net_keeps_its_forks():
    net = create("vgg7", width=8, num_classes=5, slice_beta=0.5)
    remove(net)(torch.zeros(2, 3, 32, 32))
    with pytest.raises(UserError, match=r"SliceFork.*without slice_beta"):
        partition(net)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_a_layer_that_nothing_reaches(impl):
    """Chosen channels can leave a layer an input without any live channel."""
    net = small("msdnet_cifar")
    shared = {1: [0, 2], 2: [1, 3]}
    expected = gradients(net, torch.stack(by_hand(net, _masks(net, shared))).sum())
    partition(net, impl=impl, channels=shared)
    found = gradients(net, torch.stack(losses(net)).sum())
    for key, grad in expected.items():
        torch.testing.assert_close(found[key], grad, **EXACT)


def test_features_whose_axis_is_not_certain_are_asked_about():
    class Tokens(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(2)

    head = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    net = MultiExitNet([Tokens(), nn.Identity()], [head, head], input_size=(3, 4, 4))
    with pytest.raises(UserError, match=r"axis of the feature of exit 1, \[2, 3, 16\], .*`channel_axis=`"):
        partition(net)


def test_a_stage_that_returns_no_tensors_or_cannot_read_is_named():
    class Labelled(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor | str]:
            return {"feature": x, "name": "stem"}

    def net(*stages: nn.Module, size: int = 4) -> MultiExitNet:
        return MultiExitNet(stages, [nn.Identity(), nn.Identity()], input_size=(3, size, size))

    with pytest.raises(UserError, match="stage 1 returns neither a Tensor nor a tuple, list or dict"):
        partition(net(Labelled(), nn.Identity()))
    with pytest.raises(UserError, match=r"stage 2 fails on a sample of the input .*set net\.input_size"):
        partition(net(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3), size=2))


def test_they_are_names_of_the_package():
    assert offramp.partition is partition
    assert offramp.remove is remove
    assert {"attach", "fit", "partition", "remove"} <= set(dir(offramp)) == set(offramp.__all__)


def test_a_stage_that_overwrites_the_feature_is_named():
    net = MultiExitNet(
        [nn.Conv2d(3, 4, 1), nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1))],
        [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)) for _ in range(2)],
    )
    with pytest.raises(UserError, match=r"stage 2 overwrites .*inplace=False"):
        partition(net)


def _masks(net: MultiExitNet, shared: dict[int, list[int]], beta: float = 0.5) -> dict[int, torch.Tensor]:
    options = Partition(beta=beta, channels=shared)
    return {e: options.mask(x.shape[1], e) for e, x in enumerate(_features(net)[:-1], 1)}


def _features(net: MultiExitNet) -> list[torch.Tensor]:
    x, found = batch()[0], []
    with torch.no_grad():
        for stage in copy.deepcopy(net).stages:
            x = stage(x)
            found.append(x[-1] if isinstance(x, tuple) else x)
    return found
