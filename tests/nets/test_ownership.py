import copy

import pytest
import torch
import torch.ao.quantization as quantization
from torch import nn

from offramp.nets import MultiExitNet, create, owners


def linear_net(forks=()):
    stages = [nn.Linear(4, 4) for _ in range(3)]
    net = MultiExitNet(stages, [nn.Linear(4, 2) for _ in range(3)], input_size=(4,))
    for k, fork in forks:
        net.forks[k] = fork
    return net


class Detach(nn.Module):
    """A fork that lets no later loss through."""

    def forward(self, x):
        return x, x.detach()


class Zero(nn.Module):
    """The same by a gain of 0: the gradient is there, and zero."""

    def forward(self, x):
        return x, x.detach() + 0 * x


NESTED = [
    ("vgg7", {"width": 1}),
    ("vgg7", {"width": 2, "slice_beta": 0.5}),
    ("resnet18", {"width": 1}),
    ("msdnet_cifar", {"growth": 2, "channels": 1}),
]


@pytest.mark.parametrize(("name", "smallest"), NESTED)
@pytest.mark.parametrize("seed", [0, 1])
def test_dead_units_hide_no_owner(name, smallest, seed):
    """So narrow that ReLUs die at the start; the graph says who is connected."""
    torch.manual_seed(seed)
    net = create(name, num_classes=3, **smallest)
    found = net.owners()
    parameters = dict(net.named_parameters())
    assert list(found) == list(parameters)
    for k, z in enumerate(net.eval()(torch.randn(2, 3, 32, 32))):
        grads = torch.autograd.grad(z.sum(), list(parameters.values()), retain_graph=True, allow_unused=True)
        connected = [n for n, g in zip(parameters, grads, strict=True) if g is not None]
        assert [n for n, indices in found.items() if k in indices] == connected


@pytest.mark.parametrize(("name", "smallest"), NESTED[:3])
def test_a_stage_is_owned_by_its_exit_and_the_later_ones(name, smallest):
    net = create(name, num_classes=3, **smallest)
    for parameter, indices in net.owners().items():
        part, k = parameter.split(".")[0], int(parameter.split(".")[1])
        assert indices == (set(range(k, net.num_exits)) if part == "stages" else {k}), parameter


def test_two_heads_on_one_trunk():
    class TwoTasks(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = nn.Linear(3, 5)
            self.left, self.right, self.unused = nn.Linear(5, 1), nn.Linear(5, 2), nn.Linear(5, 2)

        def forward(self, x):
            h = self.trunk(x).relu()
            return self.left(h), self.right(h)

    net = TwoTasks()
    net.right.bias.requires_grad_(False)
    assert owners(net, torch.randn(4, 3)) == {
        "trunk.weight": {0, 1},
        "trunk.bias": {0, 1},
        "left.weight": {0},
        "left.bias": {0},
        "right.weight": {1},
        "right.bias": set(),
        "unused.weight": set(),
        "unused.bias": set(),
    }


@pytest.mark.parametrize("fork", [Detach(), Zero()])
def test_a_loss_that_a_fork_cuts_off_is_no_owner(fork):
    found = linear_net([(1, fork)]).owners()
    assert [found[f"stages.{k}.weight"] for k in range(3)] == [{0, 1}, {1}, {2}]


def test_a_scale_that_starts_at_zero_hides_no_owner():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.scale = nn.Linear(4, 4), nn.Parameter(torch.zeros(4))

        def forward(self, x):
            return x + self.scale * self.inner(x)

    net = MultiExitNet([Residual(), Residual()], [nn.Linear(4, 2), nn.Linear(4, 2)], input_size=(4,))
    found = net.owners()
    assert found["stages.0.inner.weight"] == found["stages.0.scale"] == {0, 1}
    assert found["stages.1.inner.weight"] == {1}


def test_tied_weights_have_the_owners_of_all_their_uses():
    net = linear_net()
    net.heads[2].weight = net.heads[0].weight
    assert net.owners()["heads.0.weight"] == {0, 2}


def test_the_net_is_left_as_it_was():
    net = create("vgg7", num_classes=3, width=2).train()
    net.stages[2].eval()
    net.heads[0][2].weight.grad = torch.ones_like(net.heads[0][2].weight)
    before = copy.deepcopy(net)
    state = torch.get_rng_state()
    with torch.no_grad():
        assert net.owners()["stages.0.0.weight"] == set(range(6))
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in net.modules()] == [m.training for m in before.modules()]
    for (name, a), (_, b) in zip(net.state_dict().items(), before.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    assert all(p.requires_grad for p in net.parameters())
    grads = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
    assert list(grads) == ["heads.0.2.weight"]
    assert torch.equal(grads["heads.0.2.weight"], torch.ones(3, 2))


@pytest.mark.parametrize("tied", ["head", "stage"])
def test_what_is_there_twice_stays_what_it_was(tied):
    torch.manual_seed(0)
    stages = [nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(2)]
    heads = [
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3, bias=False)) for _ in range(3)
    ]
    if tied == "head":
        stages, heads = [*stages, nn.Identity()], heads[:1] * 3
    else:
        stages = [stages[0], stages[1], stages[1]]
    net = MultiExitNet(stages, heads, input_size=(4, 8, 8))
    tensors = [*net.named_parameters(), *net.named_buffers()]
    before = {name: (tensor, tensor.data_ptr(), tensor.clone()) for name, tensor in tensors}
    owned = net.owners()
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        same, pointer, value = before[name]
        assert tensor is same and tensor.data_ptr() == pointer and torch.equal(tensor, value), name
    assert owned["stages.0.0.weight"] == {0, 1, 2}
    assert owned["stages.1.0.weight"] == {1, 2}
    assert owned["heads.0.2.weight"] == ({0, 1, 2} if tied == "head" else {0})


def everything(net):
    """All values, and the Tensors that hold them."""
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return tensors, {name: tensor.detach().clone() for name, tensor in tensors.items()}


def assert_same(net, before):
    tensors, values = everything(net)
    assert tensors.keys() == before[0].keys()
    for name, tensor in tensors.items():
        assert tensor is before[0][name] and torch.equal(values[name], before[1][name]), name


def test_hooks_of_a_users_own_do_not_run():
    net, ran = linear_net(), []
    net.stages[0].register_forward_pre_hook(lambda *_: ran.append("before"))
    net.stages[1].register_forward_hook(lambda *_: ran.append("after"))
    net.stages[2].register_full_backward_hook(lambda *_: ran.append("backward"))
    net.heads[0].weight.register_hook(lambda grad: ran.append("gradient"))
    net.heads[1].weight.register_post_accumulate_grad_hook(lambda p: ran.append("accumulated"))
    expected = linear_net().owners()
    assert net.owners() == expected and ran == []
    sum(z.sum() for z in net(torch.ones(1, 4))).backward()
    assert sorted(ran) == ["accumulated", "after", "backward", "before", "gradient"]


@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*reduce_range.*:UserWarning")
@pytest.mark.parametrize("batches", [0, 1])
def test_observers_of_quantisation_see_nothing(batches):
    """Those of weights have no shape before they first run."""
    net = create("vgg7", num_classes=3, width=2).train()
    net.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    quantization.prepare_qat(net, inplace=True)
    for _ in range(batches):
        net(torch.randn(2, 3, 32, 32))
    before = everything(net)
    net.owners()
    assert_same(net, before)
    net.channel_axes()
    assert_same(net, before)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_look_that_is_stopped_leaves_the_net_as_it_was(error):
    class Stops(nn.BatchNorm1d):
        def forward(self, x):
            super().forward(x)
            raise error

    net = linear_net()
    net.stages[1] = nn.Sequential(nn.Linear(4, 4), Stops(4)).train()
    before = everything(net)
    with pytest.raises(error):
        net.owners()
    assert_same(net, before)
    assert all(module.training for module in net.modules())
