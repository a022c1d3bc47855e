"""RotoGrad against a slow loop with torch's own rotations, its invariants, and the plain net it leaves."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from forks.nets import small
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

import offramp
from offramp import UserError
from offramp.forks import (
    Equilibrium,
    Fork,
    Partition,
    Rotation,
    folded,
    install,
    remove,
    rotations_of,
    uncut,
)
from offramp.methods import method
from offramp.nets import MultiExitNet, MultiTaskNet
from offramp.tasks import Classification

K, C, N = 3, 6, 4


def pooled(classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(C, classes))


def convolving(classes):
    return nn.Sequential(
        nn.Conv2d(C, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    )


def flat(classes):
    return nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4 * C, classes))


def tasks(*decoders, **options) -> MultiTaskNet:
    torch.manual_seed(0)
    decoders = decoders or (pooled(2), convolving(3), flat(4))
    trunk = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, C, 3), nn.Tanh())
    named = {f"task {k}": (d, Classification(target=f"task {k}")) for k, d in enumerate(decoders)}
    return offramp.multi_task(trunk, named, input_size=(3, 8, 8), **options).double()


def exits() -> MultiExitNet:
    torch.manual_seed(0)
    stages = [nn.Sequential(nn.Conv2d(i, C, 3), nn.Tanh()) for i in (3, C, C)]
    return MultiExitNet(stages, [pooled(4) for _ in stages], input_size=(3, 8, 8)).double()


def batches(count, seed=5):
    draws = torch.Generator().manual_seed(seed)
    for _ in range(count):
        images = torch.randn(N, 3, 8, 8, generator=draws, dtype=torch.float64)
        yield images, {f"task {k}": torch.randint(k + 2, (N,), generator=draws) for k in range(K)}


def turn(x, matrix):
    """The rotation at every position, of as many first channels as it has."""
    size = len(matrix)
    return torch.cat([torch.einsum("ij,nj...->ni...", matrix, x[:, :size]), x[:, size:]], 1)


class Published(nn.Module):
    """Rotations as the authors' code has them, with torch's parametrization in place of geotorch's."""

    def __init__(self, size, heads, lr, decay):
        super().__init__()
        for k in range(heads):
            setattr(self, f"r{k}", nn.Parameter(torch.eye(size, dtype=torch.float64)))
            orthogonal(self, f"r{k}", orthogonal_map="matrix_exp", use_trivialization=True)
        self.adam = torch.optim.Adam(self.parameters(), lr=lr)
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.adam, decay)
        self.heads, self.first, self.counter = heads, None, 0

    def matrices(self):
        return [getattr(self, f"r{k}") for k in range(self.heads)]

    def gradient(self, rotated, originals, burn_in):
        """The trunk's gradient; the rotations take a step.

        Args:
            rotated: dL_k/dr_k of the heads.
            originals: dL_k/dz of all streams.
            burn_in: When the references are replaced.
        """
        mean = sum(originals) / len(originals)
        v = sum(g * mean.norm() / g.norm() for g in originals) / len(originals)
        self.adam.zero_grad()
        for matrix, g in zip(self.matrices(), rotated, strict=True):
            (turn(v, matrix) - g).flatten(1).square().sum(1).mean().backward()
        self.adam.step()
        self.schedule.step()
        norms = [g.norm() for g in originals]
        if self.first is None or self.counter == burn_in:
            self.first = norms
        self.counter += 1
        ratios = [n / first for n, first in zip(norms, self.first, strict=True)]
        length = sum(r / sum(ratios) * n for r, n in zip(ratios, norms, strict=True))
        return sum(g / n * length for g, n in zip(originals, norms, strict=True))


def slow_step_of_tasks(net, published, images, targets, burn_in):
    """One step of a net with tasks, output by output."""
    z = net.stages[0](images)
    rotated, originals = [], []
    for k, (decoder, matrix) in enumerate(zip(net.decoders, published.matrices(), strict=True)):
        r = turn(z, matrix).detach().requires_grad_()
        F.cross_entropy(decoder(r), targets[f"task {k}"]).backward()
        rotated.append(r.grad)
        originals.append(turn(r.grad, matrix.T).detach())
    z.backward(published.gradient(rotated, originals, burn_in))


@pytest.mark.parametrize("rotated", [None, 4])
def test_steps_are_those_of_a_slow_loop(rotated):
    options = {"rotation_lr": 0.05, "rotation_decay": 0.9, "burn_in": 3, "rotated": rotated}
    ours, slow = tasks(), tasks()
    bound = method("rotograd", options).bind(ours)
    published = Published(rotated or C, K, lr=0.05, decay=0.9)
    sgd = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (ours, slow)]
    for images, targets in batches(6):
        for optimizer in sgd:
            optimizer.zero_grad()
        bound.backward(images, targets)
        slow_step_of_tasks(slow, published, images, targets, burn_in=3)
        for (name, p), q in zip(ours.named_parameters(), slow.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, msg=name)
        torch.testing.assert_close(rotations_of(ours)[0].matrices, torch.stack(published.matrices()))
        for optimizer in sgd:
            optimizer.step()
    assert (rotations_of(ours)[0].matrices - torch.eye(rotated or C)).abs().max() > 0.05


def test_steps_of_exits_are_those_of_a_slow_loop():
    """At every fork two streams meet: the head's, and that of all later exits, which is not rotated."""
    ours, slow = exits(), exits()
    bound = method("rotograd", rotation_lr=0.05, burn_in=2).bind(ours)
    published = [Published(C, 1, lr=0.05, decay=0.99999) for _ in range(2)]
    for images, targets in batches(4):
        ours.zero_grad()
        slow.zero_grad()
        labels = targets["task 2"]
        bound.backward(images, labels)
        features, x = [], images
        for stage in slow.stages:  # each with a graph of its own
            features.append(stage(x))
            x = features[-1].detach().requires_grad_()
            features[-1].next = x
        F.cross_entropy(slow.heads[2](features[2]), labels).backward()
        for k in (1, 0):
            (matrix,) = published[k].matrices()
            r = turn(features[k], matrix).detach().requires_grad_()
            F.cross_entropy(slow.heads[k](r), labels).backward()
            streams = [turn(r.grad, matrix.T).detach(), features[k].next.grad]
            features[k].backward(published[k].gradient([r.grad], streams, 2))
        for (name, p), q in zip(ours.named_parameters(), slow.named_parameters(), strict=True):
            torch.testing.assert_close(p.grad, q[1].grad, msg=name)
        for rotations, other in zip(rotations_of(ours), published, strict=True):
            torch.testing.assert_close(rotations.matrices[0], other.matrices()[0])


def trained(net, steps=4, **options):
    bound = method("rotograd", {"rotation_lr": 0.05} | options).bind(net)
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    for images, targets in batches(steps):
        sgd.zero_grad()
        bound.backward(images, targets if isinstance(net, MultiTaskNet) else targets["task 2"])
        sgd.step()
    return bound


@pytest.mark.parametrize("make", [tasks, exits])
def test_rotations_are_the_identity_at_first_and_stay_rotations(make):
    net = make()
    images = next(batches(1))[0]
    before = net(images)
    bound = method("rotograd", rotation_lr=0.05).bind(net)
    assert all(map(torch.equal, net(images), before))
    assert not [name for name in net.state_dict() if "rotation" in name or "fork" in name]
    assert not [*bound.parameters()]  # an optimiser of their own trains them
    remove(net)
    trained(net)
    for rotations in rotations_of(net):
        for matrix in rotations.matrices:
            torch.testing.assert_close(matrix @ matrix.T, torch.eye(C).double(), rtol=0, atol=1e-12)
            assert float(torch.det(matrix)) == pytest.approx(1)
            assert (matrix - torch.eye(C)).abs().max() > 0.01


@pytest.mark.parametrize("make", [tasks, exits])
def test_the_plain_net_computes_what_the_rotated_one_did(make):
    net = make()
    names = {name: type(part) for name, part in net.named_modules()}
    keys = [*net.state_dict()]
    trained(net)
    images = next(batches(1, seed=9))[0]
    net.eval()
    rotated = net(images)
    own = copy.deepcopy(net.state_dict())
    with folded(net):
        lent = copy.deepcopy(net.state_dict())
    assert all(map(torch.equal, own.values(), net.state_dict().values()))
    remove(net)
    for plain, before in zip(net(images), rotated, strict=True):
        torch.testing.assert_close(plain, before, rtol=0, atol=1e-12)
    assert {name: type(part) for name, part in net.named_modules()} == names
    assert [*net.state_dict()] == keys
    assert all(map(torch.equal, lent.values(), net.state_dict().values()))
    assert any((lent[key] != own[key]).any() for key in keys)


@pytest.mark.parametrize("name", ["vgg7", "resnet18", "msdnet_cifar"])
def test_published_nets_keep_what_they_compute(name):
    try:
        net = install(small(name), [Rotation(rotation_lr=0.3)])
    except UserError as refusal:
        assert name == "resnet18"  # whose exits look at the map with attention first
        assert "head 1 (Sequential) does" in str(refusal)
        return
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for rotations in rotations_of(net):
        rotations.angles.descend(torch.randn_like(rotations.angles.values), [0])
        rotations.expect(1.0)
    sum(output.square().mean() for output in net(images)).backward()
    for rotations in rotations_of(net):
        rotations.learn()
        assert (rotations.matrices - torch.eye(rotations.matrices.shape[-1])).abs().max() > 0.1
    net.eval()
    before = net(images)
    for plain, rotated in zip(remove(net)(images), before, strict=True):
        torch.testing.assert_close(plain, rotated, rtol=1e-9, atol=1e-9)


# what the trunk gets, and what the rotations are told


def told(net):
    """Gradient of the trunk's feature for given gradients of the readers, and the slopes of the rotations."""
    (rotations,) = rotations_of(net)

    def gradient(*sent):
        rotations.expect(1.0)
        return rotations.gradient(sent, 1), rotations

    return gradient


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_equal_gradients_add_up_and_turn_nothing():
    net = install(tasks(), [Rotation()])
    g = random(N, C, 2, 2)
    total, rotations = told(net)(g, g, g)
    torch.testing.assert_close(total, 3 * g)
    rotations.learn()
    assert rotations.matrices.allclose(torch.eye(C).double(), atol=1e-8)


def test_agreeing_gradients_of_other_lengths_turn_nothing():
    net = install(tasks(), [Rotation(rotation_lr=0.1)])
    g = random(N, C, 2, 2)
    total, rotations = told(net)(g, 5 * g, 0.1 * g)
    torch.testing.assert_close(total, 3 * (1 + 5 + 0.1) / 3 * g)  # C is the mean norm at first
    rotations.learn()
    assert rotations.matrices.allclose(torch.eye(C).double(), atol=1e-6)


def test_the_trunk_hears_a_length_times_unit_gradients():
    net = install(tasks(), [Rotation(burn_in=100)])
    first, second = (
        [scale * random(N, C, seed=k) for k, scale in enumerate(s)] for s in ((1, 4, 2), (3, 4, 1))
    )
    gradient = told(net)
    (rotations,) = rotations_of(net)
    gradient(*first)
    rotations.learn()
    matrices = rotations.matrices.clone()
    total, _ = gradient(*second)
    streams = [turn(g, matrix.T) for g, matrix in zip(second, matrices, strict=True)]
    norms = torch.stack([g.norm() for g in streams])
    ratios = norms / torch.stack([g.norm() for g in first])
    length = (ratios / ratios.sum() * norms).sum()
    expected = length * sum(g / g.norm() for g in streams)
    torch.testing.assert_close(total, expected)


def test_a_reader_that_sends_nothing_takes_no_part():
    """As a task without a target in the batch: neither in the sums nor in the steps of its rotation."""
    three, two = (
        install(tasks(*decoders), [Rotation(rotation_lr=0.1)]) for decoders in ((), (pooled(2), flat(4)))
    )
    for seed in range(3):
        a, b = random(N, C, seed=seed), random(N, C, seed=10 + seed)
        for nothing in (None, torch.zeros_like(a)):
            torch.testing.assert_close(told(three)(a, nothing, b)[0], told(two)(a, b)[0])
        rotations_of(three)[0].learn()
        rotations_of(two)[0].learn()
    found, same = (rotations_of(net)[0] for net in (three, two))
    torch.testing.assert_close(found.matrices[[0, 2]], same.matrices)
    assert torch.equal(found.matrices[1], torch.eye(C).double())
    assert found.first[1] == 0
    gradient = random(N, C, seed=30)
    torch.testing.assert_close(told(three)(None, gradient, None)[0], turn(gradient, found.matrices[1].T))


@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
def test_an_overflow_turns_nothing(bad):
    """Not in the first step, whose norms are the references, nor in a later one."""
    net, same = (install(tasks(), [Rotation(rotation_lr=0.1)]) for _ in range(2))
    for seed in range(3):
        sent = [random(N, C, seed=10 * seed + k) for k in range(K)]
        told(net)(sent[0], bad * sent[1], sent[2])
        rotations_of(net)[0].learn()
        for each in (net, same):
            told(each)(*sent)
            rotations_of(each)[0].learn()
        for a, b in zip(rotations_of(net)[0].buffers(), rotations_of(same)[0].buffers(), strict=True):
            assert torch.equal(a, b)


def test_the_scale_of_the_losses_changes_nothing():
    net, same = (install(tasks(), [Rotation(rotation_lr=0.1)]) for _ in range(2))
    for seed, scale in enumerate((1024.0, 16.0, 16.0)):
        sent = [random(N, C, seed=10 * seed + k) for k in range(K)]
        scaled, plain = rotations_of(net)[0], rotations_of(same)[0]
        scaled.expect(scale)
        plain.expect(1.0)
        torch.testing.assert_close(
            scaled.gradient([scale * g for g in sent], 1), scale * plain.gradient(sent, 1)
        )
        scaled.learn()
        plain.learn()
        for a, b in zip(scaled.buffers(), plain.buffers(), strict=True):
            torch.testing.assert_close(a, b)


# where it goes and where it does not


class Gated(nn.Module):
    """A head that reads the feature by a convolution and once more past it."""

    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(C, C, 1), nn.Conv2d(C, 2, 1)

    def forward(self, x):
        return self.out(self.conv(x) + x).mean((2, 3))


class Reused(nn.Module):
    """A head whose first layer runs twice, the second time on what it has made itself."""

    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(C, C, 1), nn.Conv2d(C, 2, 1)

    def forward(self, x):
        return self.out(self.conv(self.conv(x).relu())).mean((2, 3))


def head(*layers):
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(C, 2))


REFUSED = {
    "max pooling": (head(nn.MaxPool2d(2)), "does max_pool2d with it first"),
    "an activation": (head(nn.ReLU()), "does relu with it first"),
    "a norm layer": (head(nn.BatchNorm2d(C)), "does batch_norm with it first"),
    "groups": (head(nn.Conv2d(C, C, 1, groups=2)), "does conv2d with it first"),
    "a way past the layer": (Gated(), "does add with it first"),
    "a weight that is computed": (
        head(nn.utils.parametrizations.weight_norm(nn.Conv2d(C, C, 1))),
        "does conv2d with it first",
    ),
    "no layer": (
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        "hands it on|does adaptive_avg_pool2d",
    ),
    "other uses": (Reused(), "has other uses in the head; give the head a layer of its own"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_heads_that_cannot_take_a_rotation_over_are_named(case):
    decoder, reason = REFUSED[case]
    net = tasks(pooled(2), decoder)
    with pytest.raises(UserError, match=reason) as refusal:
        method("rotograd").bind(net)
    assert "head 2" in str(refusal.value)
    assert all(type(fork) is Fork for fork in net.forks)


def test_the_way_out_is_one():
    net = tasks(pooled(2), nn.Sequential(nn.Conv2d(C, C, 1), head(nn.MaxPool2d(2))))
    assert rotations_of(method("rotograd").bind(net).net)


def test_a_layer_of_two_heads_is_refused():
    layer = nn.Conv2d(C, C, 1)
    with pytest.raises(UserError, match="another part of the net has this layer too"):
        method("rotograd").bind(tasks(head(layer), head(layer)))


@pytest.mark.parametrize(
    "decoder",
    [
        nn.Sequential(nn.Dropout(0.3), nn.Upsample(scale_factor=2, mode="bilinear"), convolving(2)),
        nn.Sequential(nn.ZeroPad2d(1), nn.ConvTranspose2d(C, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Sequential(nn.Flatten(2), nn.Conv1d(C, 2, 3, padding=1, padding_mode="circular"), nn.Flatten()),
    ],
)
def test_layers_that_take_a_rotation_over(decoder):
    net = tasks(pooled(2), decoder)
    bound = method("rotograd", rotation_lr=0.1).bind(net)
    for images, targets in batches(3):
        targets["task 1"] = targets["task 0"]
        bound.backward(images, targets)
    net.eval()
    before = net(images)
    for plain, rotated in zip(remove(net)(images), before, strict=True):
        torch.testing.assert_close(plain, rotated, rtol=0, atol=1e-12)


def test_channels_in_the_last_axis():
    class Tokens(nn.Module):
        def forward(self, x):
            return x.flatten(2).mT.contiguous()

    def reader(classes, tokens):
        return nn.Sequential(nn.Flatten(), nn.Linear(tokens * C, classes))

    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, C, 5), Tokens(), nn.Linear(C, C))
    named = {
        "task 0": (reader(2, 16), Classification(target="task 0")),
        "task 1": (nn.Sequential(nn.Linear(C, 3), nn.Flatten()), Classification(target="task 1")),
    }
    net = offramp.multi_task(trunk, named, input_size=(3, 8, 8), channel_axis=2).double()
    bound = method("rotograd", rotation_lr=0.1).bind(net)
    for images, targets in batches(3):
        bound.backward(images, targets)
    assert len(rotations_of(net)[0].matrices[0]) == C
    before = net(images)
    for plain, rotated in zip(remove(net)(images), before, strict=True):
        torch.testing.assert_close(plain, rotated, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "name", ["dfs+rotograd", "rotograd+ge", "rotograd+pcgrad", "rotograd+bdl-2", "rotograd+gradnorm",
             "rotograd+dr-mgf", "rotograd+meta-gf"],
)  # fmt: skip
def test_what_weighs_gradients_besides_is_refused(name):
    other = name.replace("rotograd", "").strip("+")
    with pytest.raises(
        UserError, match=rf"'rotograd' settles .* so that '{other}' cannot; choose one of them"
    ):
        method(name)


@pytest.mark.parametrize("other", [Partition(), Equilibrium()])
def test_rules_beside_a_rotation_are_refused(other):
    with pytest.raises(UserError, match="give it alone"):
        install(exits(), [Rotation(), other])


@pytest.mark.parametrize("name", ["rotograd+kd", "rotograd+famo", "rotograd+uncertainty", "rotograd+dwa"])
def test_objectives_and_balancers_compose(name):
    assert "Rotation" in method(name).axes["fork"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"rotation_lr": 0}, "rotation_lr is 0, must be .*above 0"),
        ({"rotation_decay": 1.5}, "rotation_decay is 1.5"),
        ({"rotated": 1}, "rotated is 1"),
        ({"burn_in": 0}, "burn_in is 0"),
    ],
)
def test_values_out_of_range_are_refused(options, line):
    with pytest.raises(UserError, match=line):
        Rotation(**options)


def test_at_most_so_many_channels_are_rotated():
    net = install(small("vgg7"), [Rotation(rotated=10)])
    assert [len(rotations.matrices[0]) for rotations in rotations_of(net)] == [8, 8, 10, 10, 10]


def test_a_copy_has_rotations_of_its_own():
    net = install(tasks(), [Rotation()])
    other = copy.deepcopy(net)
    rotations_of(other)[0].matrices.zero_()
    assert all(map(torch.equal, rotations_of(net)[0].matrices, itertools.repeat(torch.eye(C).double())))


def test_the_state_of_an_own_loop_is_whole():
    whole, stopped = tasks(), tasks()
    bound = trained(whole, steps=6)
    first = trained(stopped, steps=3)
    later = copy.deepcopy(remove(copy.deepcopy(stopped)))
    later.load_state_dict(stopped.state_dict())
    again = method("rotograd", rotation_lr=0.05).bind(later)
    again.load_state_dict(first.state_dict())
    sgd = torch.optim.SGD(later.parameters(), lr=0.1)
    for images, targets in itertools.islice(batches(6), 3, None):
        sgd.zero_grad()
        again.backward(images, targets)
        sgd.step()
    for a, b in zip(bound.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(whole.state_dict().values(), later.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("way", ["scaler", "run"])
def test_an_own_loop_may_scale_its_losses_as_it_likes(way):
    """The scale changes from step to step; rotations, references and unscaled gradients do not see it."""
    scaled, same = tasks(), tasks()
    bounds = [method("rotograd", rotation_lr=0.05).bind(net) for net in (scaled, same)]
    sgd = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (scaled, same)]
    for (images, targets), scale in zip(batches(4), (1024.0, 16.0, 64.0, 2.0), strict=True):
        for optimizer in sgd:
            optimizer.zero_grad()
        if way == "scaler":
            scaler = torch.amp.GradScaler("cpu", init_scale=scale)
            bounds[0].backward(images, targets, scaler=scaler)
        else:
            bounds[0].backward(images, targets, run=lambda loss, scale=scale: (scale * loss).backward())
        bounds[1].backward(images, targets)
        for p, q in zip(scaled.parameters(), same.parameters(), strict=True):
            p.grad /= scale
            torch.testing.assert_close(p.grad, q.grad)
        for optimizer in sgd:
            optimizer.step()
        for a, b in zip(bounds[0].state_dict().values(), bounds[1].state_dict().values(), strict=True):
            torch.testing.assert_close(a, b)


def test_without_gains_gradients_come_back_as_they_are():
    net, plain = install(tasks(), [Rotation()]), tasks()
    images, targets = next(batches(1))
    with uncut(net):
        for each in (net, plain):
            outputs = each(images)
            sum(F.cross_entropy(o, targets[f"task {k}"]) for k, o in enumerate(outputs)).backward()
    for p, q in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)
