"""What crosses a fork is a Tensor to everyone: wrappers, hooks, transforms, exporters and odd layers."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
import torch.ao.quantization as quantization
import torch.nn.functional as F
from handing import detached, handed
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from offramp import UserError
from offramp.forks import Equilibrium, install, partition, remove
from offramp.forks.feature import Feature, cut_of
from offramp.nets import MultiExitNet

IMPLEMENTATIONS = ("fused", "split", "cat")
EXACT = {"rtol": 0, "atol": 1e-11}


def head(*first: nn.Module) -> nn.Sequential:
    return nn.Sequential(*first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def chain(*blocks: nn.Module, heads=None) -> MultiExitNet:
    torch.manual_seed(0)
    stages = [nn.Conv2d(3, 4, 3), *blocks]
    return MultiExitNet(stages, heads or [head() for _ in stages], input_size=(3, 8, 8)).double()


def three() -> MultiExitNet:
    torch.manual_seed(0)  # the blocks are made before chain() seeds
    return chain(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), nn.Conv2d(4, 4, 3))


def images(n: int = 3) -> Tensor:
    return torch.randn(n, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def loss(outputs: list[Tensor]) -> Tensor:
    return torch.stack([z.square().sum() for z in outputs]).sum()


def gradients(net: nn.Module, call=None) -> list[Tensor]:
    parameters = list(net.parameters())
    return list(
        torch.autograd.grad(
            loss((net if call is None else call)(images())), parameters, materialize_grads=True
        )
    )


def accumulated(net: nn.Module) -> list[Tensor]:
    net.zero_grad()
    loss(net(images())).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in net.parameters()]


def assert_equal_gradients(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, **EXACT)


def expected(net: MultiExitNet) -> list[Tensor]:
    """The gradients of the plain detaches."""
    return gradients(partition(copy.deepcopy(net), impl="cat"))


class FirstOfTuple(nn.Module):
    """A block for backbones that may return (features, attention)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x[0] if isinstance(x, (tuple, list)) else x)


class Checkpointed(nn.Module):
    def __init__(self, body: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.body, self.reentrant = body, reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.body, x, use_reentrant=self.reentrant)


class Lambda(nn.Module):
    """A convolution and any function of what it reads."""

    def __init__(self, function) -> None:
        super().__init__()
        self.conv, self.other, self.linear = (
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Conv2d(4, 4, 1),
            nn.Linear(4, 4),
        )
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def _shortcut_in_place(m, x):
    h = F.avg_pool2d(x, 1)
    h.add_(m.conv(x))
    return h


def _write_to_a_view(m, x):
    h = F.max_pool2d(x, 1)
    h[:, :2].mul_(m.conv(x)[:, :2])
    return m.other(h)


def _mixed(m, x):
    tokens = m.linear(x.flatten(2).transpose(1, 2)).mean(1) + m.linear(x.mean((2, 3)))
    maps = m.conv(x) + m.conv(input=torch.cat(x.chunk(2, 1), 1))
    return maps + m.other(torch.cat(tensors=[x[:, :2], x[:, 2:]], dim=1)) + tokens[:, :, None, None]


ODD = {
    "takes the first of a tuple": FirstOfTuple(nn.Conv2d(4, 4, 3)),
    "reentrant checkpoint": Checkpointed(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()), True),
    "checkpoint": Checkpointed(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()), False),
    "one layer twice": Lambda(lambda m, x: m.conv(m.conv(x))),
    "adds in place": Lambda(lambda m, x: m.conv(x).add_(x)),
    "shortcut in place, read by a convolution": Lambda(lambda m, x: m.other(_shortcut_in_place(m, x))),
    "shortcut in place leaves the stage": Lambda(_shortcut_in_place),
    "writes to a view": Lambda(_write_to_a_view),
    "depends on values": Lambda(lambda m, x: m.conv(x) if x.sum() > -1e9 else x),
    "many ways": Lambda(_mixed),
    "carries its input along": Lambda(lambda m, x: m.conv(x) + F.relu(x) + x),
    "returns its input": nn.Identity(),
    "exact type": Lambda(lambda m, x: m.conv(x if isinstance(x, Tensor) and x.dim() == 4 else None)),
    "in numbers": Lambda(lambda m, x: m.conv(x * float(x.detach().abs().mean() > 0))),
    "detached": Lambda(lambda m, x: m.conv(x) + m.other(x.detach())),
    "unfolded": Lambda(lambda m, x: F.fold(F.unfold(m.conv(x), 1), x.shape[2:], 1)),
}


@pytest.mark.parametrize("impl", ["fused", "split"])
@pytest.mark.parametrize("block", ODD.values(), ids=ODD)
def test_odd_blocks_get_the_gradient_of_detached_halves(block, impl):
    net = chain(
        copy.deepcopy(block), nn.Conv2d(4, 4, 3), heads=[head(), FirstOfTuple(head(nn.ReLU())), head()]
    )
    wanted = accumulated(partition(copy.deepcopy(net), impl="cat"))
    assert_equal_gradients(accumulated(partition(net, impl=impl)), wanted)
    assert any(g.abs().sum() > 0 for g in wanted[:2])


def test_a_layer_shared_by_head_and_stage():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    net = chain(conv, heads=[head(conv), head()])
    assert_equal_gradients(gradients(partition(net)), expected(remove(copy.deepcopy(net))))


def test_layers_keep_their_classes():
    net = three()
    kinds = [type(m) for part in (net.stages, net.heads) for m in part.modules()]
    attributes = [set(vars(m)) for part in (net.stages, net.heads) for m in part.modules()]
    for impl in IMPLEMENTATIONS:
        partition(net, impl=impl)
        assert [type(m) for part in (net.stages, net.heads) for m in part.modules()] == kinds
        assert [set(vars(m)) for part in (net.stages, net.heads) for m in part.modules()] == attributes
        remove(net)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_hooks_on_readers_see_tensors(impl):
    net, seen = partition(three(), impl=impl), []
    wanted = expected(three())

    def before(module, args):
        assert all(isinstance(a, Tensor) and a.dim() == 4 for a in args)

    def after(module, grad_input, grad_output):
        seen.append([tuple(g.shape) for g in grad_input])

    for reader in (net.stages[1], net.stages[1][0], net.heads[0], net.heads[1][0]):
        reader.register_forward_pre_hook(before)
        reader.register_full_backward_hook(after)
    assert_equal_gradients(gradients(net), wanted)
    assert sorted(seen) == [[(3, 4, 4, 4)], [(3, 4, 6, 6)], [(3, 4, 6, 6)], [(3, 4, 6, 6)]]


@pytest.mark.parametrize("way", ["register_hook", "retain_grad"])
def test_whoever_watches_a_feature_sees_its_whole_gradient(way):
    def watched(hand):
        x = torch.randn(2, 5, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        x.requires_grad_()
        conv = nn.Conv2d(5, 3, 3, bias=False).double()
        torch.nn.init.constant_(conv.weight, 0.1)
        feature, seen = hand(x * 1), []
        getattr(feature, way)(*([seen.append] if way == "register_hook" else []))
        F.relu(conv(feature)).square().sum().backward()
        return x.grad, conv.weight.grad, feature.grad if way == "retain_grad" else seen[0]

    mask = [1, 1, 0, 0, 0]
    ours, theirs = watched(lambda x: handed(x, mask)), watched(lambda x: detached(x, mask))
    assert_equal_gradients(ours, theirs)
    assert ours[2][:, 2:].abs().sum() > 0


def test_who_asks_for_its_gradient_too_late_is_told():
    x = torch.randn(2, 5, 4, 4, requires_grad=True)
    conv, feature = nn.Conv2d(5, 3, 3), handed(x, [1, 1, 0, 0, 0])
    y = conv(feature).sum()
    for ask in (lambda: feature.register_hook(print), lambda: torch.autograd.grad(y, feature)):
        with pytest.raises(UserError, match=r"gradient of the feature of exit 1 .* before the layer runs"):
            ask()
    unread = handed(x, [1, 1, 0, 0, 0])
    (grad,) = torch.autograd.grad(unread.square().sum(), unread)
    torch.testing.assert_close(grad, 2 * x)


def test_a_feature_can_be_saved_copied_and_printed():
    x = torch.randn(1, 5, 2, 2, requires_grad=True)
    feature = handed(x * 1, [1, 1, 0, 0, 0])
    assert repr(feature).startswith("Feature(") or repr(feature).startswith("tensor(")
    file = io.BytesIO()
    torch.save(feature.detach(), file)
    assert type(pickle.loads(pickle.dumps(feature.detach()))) is Tensor
    assert type(feature.detach()) is Tensor


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("rules", ["partition", "equilibrium"])
def test_exported_in_train_mode(impl, rules):
    net = chain(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()), nn.Conv2d(4, 4, 3))
    if rules == "equilibrium":
        install(net, [Equilibrium()])
    else:
        partition(net, impl=impl)
    exported = torch.export.export(net, (images(),)).module()
    found = dict(zip([n for n, _ in exported.named_parameters()], gradients(exported), strict=True))
    for (name, _), grad in zip(net.named_parameters(), gradients(net), strict=True):
        torch.testing.assert_close(found[name], grad, **EXACT)


# Dynamo instantiates every autograd.Function that it traces, and warns of it.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    "block", ["many ways", "shortcut in place, read by a convolution", "writes to a view"]
)
def test_compiled_as_one_graph(block, impl):
    net = partition(chain(copy.deepcopy(ODD[block]), nn.Conv2d(4, 4, 3)), impl=impl)
    torch._dynamo.reset()
    compiled = gradients(net, torch.compile(net, fullgraph=True, backend="aot_eager"))
    for a, b in zip(compiled, gradients(net), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_gradients_of_every_sample(impl):
    net = partition(chain(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()), nn.Conv2d(4, 4, 3)), impl=impl)
    parameters, x = dict(net.named_parameters()), images()

    def of_sample(parameters, x):
        return loss(torch.func.functional_call(net, parameters, (x[None],)))

    each = torch.func.vmap(torch.func.grad(of_sample), (None, 0))(parameters, x)
    assert_equal_gradients([g.sum(0) for g in each.values()], gradients(net))


def test_a_transform_inside_a_reader_that_closes_over_the_feature():
    x = torch.randn(2, 5, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 5, 2, 2, dtype=torch.float64)

    def read(feature: Tensor) -> Tensor:
        each = torch.func.vmap(lambda scale: F.conv2d(feature, scale * weight))
        (grad,) = torch.autograd.grad(each(torch.arange(3.0, dtype=torch.float64)).square().sum(), x)
        return grad

    torch.testing.assert_close(read(handed(x, [1, 1, 0, 0, 0])), read(detached(x, [1, 1, 0, 0, 0])), **EXACT)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_forward_mode():
    """A tangent goes where the forks let a gradient through, whichever way it is taken."""
    plain, x = three().eval(), images()
    x.requires_grad_()  # so that the forks have something to cut

    def tangent(net: nn.Module) -> Tensor:
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(net(forward_ad.make_dual(x, torch.ones_like(x)))[-1]).tangent

    halves = tangent(partition(copy.deepcopy(plain), impl="cat"))
    net = partition(plain)
    torch.testing.assert_close(tangent(net), halves, **EXACT)
    _, by_transform = torch.func.jvp(lambda x: net(x)[-1], (x,), (torch.ones_like(x),))
    torch.testing.assert_close(by_transform, halves, **EXACT)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("channels", [None, {1: [0, 2], 2: [1, 3]}], ids=["halves", "scattered"])
def test_several_gradients_at_once(impl, channels):
    net = partition(three(), impl=impl, channels=channels)
    parameters = list(net.parameters())
    each = torch.stack([z.square().sum() for z in net(images())])
    rows = [
        torch.autograd.grad(z, parameters, retain_graph=True, materialize_grads=True) for z in each.unbind()
    ]
    batched = torch.autograd.grad(
        each, parameters, torch.eye(3, dtype=torch.float64), is_grads_batched=True, materialize_grads=True
    )
    assert_equal_gradients(batched, [torch.stack(column) for column in zip(*rows, strict=True)])


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_on_the_meta_device_and_with_fake_tensors(impl):
    net = partition(three(), impl=impl, channels={1: [0, 2]})
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True):
        loss(net(torch.empty(3, 3, 8, 8, dtype=torch.float64))).backward()
    gradients(net)  # nothing fake has stayed behind
    net.zero_grad()
    net = net.to("meta")
    loss(net(images().to("meta"))).backward()
    assert all(p.grad.shape == p.shape for p in net.parameters())


@pytest.mark.filterwarnings("ignore")  # torch is moving away from tracing, and says so in many ways
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_traced_by_jit(impl, mode):
    """And compared by jit with a trace of its own, made without gradients."""
    net = partition(chain(nn.Conv2d(4, 4, 3)), impl=impl)
    traced = torch.jit.trace(getattr(net, mode)(), (images(),))
    assert_equal_gradients(gradients(traced), gradients(net))


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:UserWarning")
def test_prepared_for_quantisation_after_and_before():
    def make():
        net = chain(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3))).float()
        net.qconfig = quantization.get_default_qat_qconfig("x86")
        return net.train()

    after = quantization.prepare_qat(partition(make()))
    assert [type(m).__module__.startswith("torch.ao") for m in after.stages[1]] == [True, True]
    before = quantization.prepare_qat(make())
    x = images().float()
    before(x)
    state = {k: v.clone() for k, v in before.state_dict().items()}
    partition(before)
    assert all(torch.equal(v, state[k]) for k, v in before.state_dict().items())

    def weights(net):
        net.apply(quantization.disable_observer)
        return torch.autograd.grad(loss(net(x)), list(net.parameters()))

    halves = weights(partition(remove(copy.deepcopy(before)), impl="cat"))
    torch.testing.assert_close(weights(before), halves, rtol=1e-5, atol=1e-6)


class Wrapper(Tensor):
    """Another Tensor subclass, as quantised weights are, which wants a say in what reads it."""

    calls = 0

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is F.linear:
            cls.calls += 1
            assert not any(issubclass(t, Feature) for t in types)
        return super().__torch_function__(func, types, args, kwargs or {})


def test_another_subclass_keeps_its_say():
    x = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 5, dtype=torch.float64)
    y = F.linear(handed(x, [1, 1, 0, 0, 0]), weight.as_subclass(Wrapper))
    (got,) = torch.autograd.grad(y.as_subclass(Tensor).square().sum(), x)
    (want,) = torch.autograd.grad(F.linear(detached(x, [1, 1, 0, 0, 0]), weight).square().sum(), x)
    torch.testing.assert_close(got, want, **EXACT)
    assert Wrapper.calls == 1


def test_looking_leaves_the_net_as_it_was():
    net, counts = three(), []
    net.stages[1].register_forward_hook(lambda *_: counts.append(1))
    net.stages[1][1].eval()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    modes, random = [m.training for m in net.modules()], torch.get_rng_state()
    remove(partition(net))
    assert not counts
    assert [m.training for m in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize(
    "write",
    [
        lambda m, x: x.add_(m.conv(x)),
        lambda m, x: x[:, :2].mul_(2) + m.conv(x)[:, :2],
        lambda m, x: m.conv(F.relu(x, inplace=True)),
        lambda m, x: m.conv(x.copy_(m.conv(x))),
    ],
    ids=["add_", "a view", "relu in place", "copy_"],
)
def test_a_stage_that_overwrites_its_feature_is_named(write):
    with pytest.raises(UserError, match=r"^stage 2 overwrites the feature .*inplace=False") as error:
        partition(chain(Lambda(write), heads=[head(), nn.Flatten()]))
    assert "\n" not in str(error.value)


def test_a_write_that_only_training_does_is_refused_when_it_comes():
    block = Lambda(lambda m, x: m.conv(x.mul_(2) if m.training else x))
    net = partition(chain(block))
    with pytest.raises(UserError, match="a layer overwrites the feature of exit 1"):
        net(images())


class Apart(nn.Module):
    """Reads what a pooling made of the feature, first without gradients, then with."""

    def __init__(self, first) -> None:
        super().__init__()
        self.conv, self.other, self.first = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), first

    def forward(self, x: Tensor) -> Tensor:
        y = F.max_pool2d(x, 2)
        return self.first(self.conv, y) + self.other(y)


def _without_gradients(layer: nn.Module, y: Tensor) -> Tensor:
    with torch.no_grad():
        return layer(y)


@pytest.mark.parametrize("impl", ["fused", "split"])
@pytest.mark.parametrize(
    "first",
    [lambda f, y: checkpoint(f, y, use_reentrant=True), _without_gradients],
    ids=["reentrant", "no_grad"],
)
def test_a_read_without_gradients_takes_none_from_later_readers(first, impl):
    net = chain(Apart(first))
    wanted = accumulated(partition(copy.deepcopy(net), impl="cat"))
    assert_equal_gradients(accumulated(partition(net, impl=impl)), wanted)


@pytest.mark.parametrize("impl", ["fused", "split"])
def test_a_feature_of_another_width_than_its_fork_is_refused(impl):
    net = partition(chain(nn.Conv2d(4, 4, 3)), impl=impl)
    net.stages[0] = nn.Conv2d(3, 6, 3).double()
    with pytest.raises(UserError, match="the feature of exit 1 has 6 channels and had 4"):
        net(images())


def test_no_feature_where_no_gradient_is_wanted():
    net = partition(three())
    seen = []
    net.heads[0].register_forward_pre_hook(lambda module, args: seen.append(type(args[0])))
    with torch.no_grad():
        net(images())
    with torch.inference_mode():
        net(images())
    net(images())
    assert seen == [Tensor, Tensor, Feature]


def test_without_cut_channels_everything_is_an_ordinary_tensor():
    net = install(three(), [Equilibrium()])
    seen = []
    net.heads[0].register_forward_pre_hook(lambda module, args: seen.append(type(args[0])))
    net(images())
    assert seen == [Tensor]


def test_dead_channels_pass_from_fork_to_fork():
    """A concatenation hands on what the fork before has cut, as in MSDNet: a later fork cuts no less."""

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, self.conv(x)], 1)

    heads = [head(), nn.Sequential(nn.Conv2d(6, 2, 1), nn.Flatten()), nn.Flatten()]
    net = partition(chain(Dense(), nn.Conv2d(6, 2, 1), heads=heads))
    seen = []
    for reader in (net.stages[2], net.heads[1]):
        reader.register_forward_pre_hook(lambda module, args: seen.append(cut_of(args[0]).live.runs))
    net(images())
    # Exit 1 leaves channels 0 and 1 of 4 to later exits; exit 2 leaves them 0 to 2 of 6.
    assert seen == [((4, 6),), ((0, 2),)]
