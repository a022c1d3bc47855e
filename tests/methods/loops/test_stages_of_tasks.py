"""Meta-GF and DR-MGF on a net of several tasks whose shared layers each task calls by itself."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from attentive import CLASSES, Attentive
from context_cases import bench
from torch.func import functional_call

from offramp import Recipe
from offramp.data import Batch
from offramp.methods.loops import Progress
from offramp.tasks import Normals

RECIPE = Recipe(lr=0.01, batch_size=6, optimizer="adam", weight_decay=0.0, epochs=2)
COUNT = 5
TASKS = [*Attentive.outputs.values()]
ROUTED = [f"{name}.0.weight" for name in ("trunk.first", "trunk.second", "trunk.attention", "pair")]
OWNERS = {name: (1, 2) if name.startswith("pair") else (0, 1, 2) for name in ROUTED}


def attentive() -> Attentive:
    torch.manual_seed(0)
    return Attentive().double()


def batches(epoch: int, draw: int, count: int = COUNT, size: int = 6):
    random = torch.Generator().manual_seed(100 * epoch + draw)
    for _ in range(count):
        images = torch.randn(size, 3, 6, 6, generator=random, dtype=torch.float64)
        targets = {
            "color": torch.randint(CLASSES, (size,), generator=random),
            "box": torch.rand(size, 4, generator=random, dtype=torch.float64).sort().values,
            "shape": torch.randint(CLASSES, (size,), generator=random),
        }
        yield Batch(images, targets)


def run_epoch(work, epoch: int, lr: float = RECIPE.lr) -> list[dict[str, torch.Tensor]]:
    """One epoch; what the phase of each task has left of the tensors that it owns."""
    work.context.net.train()
    left = []
    for part, phase in enumerate(work.phases):
        progress = Progress(epoch, epoch / RECIPE.epochs, lr)
        work.begin(part, progress)
        for some in batches(epoch, phase.draw):
            work.step(part, some, progress)
        if phase.name != "fusion":
            left.append({n: t.detach().clone() for n, t in work.context.net.state_dict().items()})
        work.end(part, progress)
    return left


class PlainNYU:
    """DR-MGF as the authors' code for NYUv2 has it, written down plainly, with torch's own Adam."""

    def __init__(self, net, owners, scales):
        self.net, self.owners, self.scales = net, owners, scales
        self.weights = {n: p.detach().clone().requires_grad_(n in owners) for n, p in net.named_parameters()}
        norms = {n: net.get_parameter(n).detach().flatten(2).norm(dim=2) for n in ROUTED}
        self.nu = {(n, k): norms[n].clone().requires_grad_() for n in ROUTED for k in OWNERS[n]}
        self.s = {}
        for n, own in owners.items():
            p = net.get_parameter(n)
            bias_of_conv = n.endswith(".0.bias")
            if len(own) > 1 and not bias_of_conv:
                shape = p.shape[:2] if p.dim() == 4 else p.shape
                for k in own:
                    self.s[n, k] = torch.full(shape, 1e-3, dtype=p.dtype).requires_grad_()
        trained = [w for w in self.weights.values() if w.requires_grad]
        self.optimizer = torch.optim.Adam([*trained, *self.nu.values()], lr=RECIPE.lr)
        self.fusion = torch.optim.Adam(self.s.values(), lr=0.1)

    def gated(self, k):
        found = dict(self.weights)
        for n in ROUTED:
            hat = {i: v / (1 + 1e-4 * v.sum(1, keepdim=True)) ** 0.75 for i in OWNERS[n]
                   for v in [self.nu[n, i].abs()]}  # fmt: skip
            parts = {i: 10.0 if i == k else 1.0 for i in OWNERS[n]}
            gate = sum(parts[i] * hat[i] for i in parts) / sum(parts.values())
            w = self.weights[n]
            found[n] = gate[:, :, None, None] * w / (w**2).sum((2, 3), keepdim=True).sqrt()
        return found

    def losses(self, weights, buffers, some):
        outputs = functional_call(self.net, weights | buffers, (some.inputs,))
        terms = [task.loss(z, some.targets[task.target]) for task, z in zip(TASKS, outputs, strict=True)]
        return [(values * n).sum() / n.sum() for values, n in terms]

    def epoch(self, epoch):
        routed = epoch == 0  # of two
        start = {n: w.detach().clone() for n, w in self.weights.items()}
        buffers = {n: b.clone() for n, b in self.net.named_buffers()}
        states, statistics = [], []
        for k in range(3):
            with torch.no_grad():
                for n, w in self.weights.items():
                    w.copy_(start[n])
            for some in batches(epoch, k):
                self.optimizer.zero_grad()
                f = self.losses(self.gated(k) if routed else self.weights, buffers, some)
                sum((1.0 if i == k else 0.5) * self.scales[i] * f[i] for i in range(3)).backward()
                self.optimizer.step()
            states.append(
                {n: w.detach().clone() for n, w in (self.gated(k) if routed else self.weights).items()}
            )
            statistics.append({n: b.clone() for n, b in buffers.items()})  # which the next stage goes on from
        running = self.mixed(statistics)
        before = {key: s.detach().clone() for key, s in self.s.items()}
        for group in self.fusion.param_groups:
            group["lr"] = 0.1 if routed else 0.05
        for some in batches(epoch, 3):
            self.fusion.zero_grad()
            sum(self.losses(self.fused(states, start), running, some)).backward()
            self.fusion.step()
        with torch.no_grad():
            for n, w in self.fused(states, start).items():
                self.weights[n].copy_(w)
                self.net.get_parameter(n).copy_(w)
            for n, b in running.items():
                self.net.get_buffer(n).copy_(b)
            for key, s in self.s.items() if not routed else ():
                s.copy_(0.9 * before[key] + 0.1 * s)

    def fused(self, states, start):
        found = dict(start)  # what nobody owns stays
        for n, own in self.owners.items():
            if len(own) == 1:
                found[n] = states[own[0]][n]
                continue
            a = []
            for k in own:
                one = self.s[n, k].abs() if (n, k) in self.s else torch.ones((), dtype=torch.float64)
                if n in ROUTED:
                    v = self.nu[n, k].detach().abs()
                    one = one * v / (v.sum(1, keepdim=True) + 1e-10)
                a.append(one.reshape(*one.shape, *[1] * (start[n].dim() - one.dim())))
            moved = sum(x * (states[k][n] - start[n]) for x, k in zip(a, own, strict=True))
            found[n] = start[n] + moved / (sum(a) + 1e-20)
        return found

    def mixed(self, statistics):
        found = {}
        for n in statistics[0]:
            path, what = n.rsplit(".", 1)
            own = self.owners[f"{path}.weight"]
            means = torch.stack([statistics[k][f"{path}.running_mean"] for k in own])
            if what == "running_mean":
                found[n] = means.mean(0)
            elif what == "running_var":
                squares = torch.stack([statistics[k][n] for k in own]) + means**2
                found[n] = squares.mean(0) - means.mean(0) ** 2
            else:
                found[n] = statistics[own[0]][n].clone()
        return found


def parameters_owned(work):
    names = {n for n, _ in work.context.net.named_parameters()}
    return {n: own for n, own in work.owners.items() if n in names and own}


def test_the_preset_for_nyu_equals_a_plain_reading():
    """Two epochs: gates of ten to one, then raw weights; one Adam, and statistics, go from stage to stage."""
    ours, theirs = attentive(), attentive()
    work = bench(ours, "dr-mgf-nyu", RECIPE, stage_weights={"box": 10})
    assert {*work.importance.owners} == {*ROUTED}  # 3x3 of two owners or more
    plain = PlainNYU(theirs, parameters_owned(work), (1.0, 10.0, 1.0))
    theirs.train()
    for epoch in range(2):
        run_epoch(work, epoch)
        plain.epoch(epoch)
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=1e-8)
    for (name, k), s in plain.s.items():
        mine = work.mean.variables[name][work.owners[name].index(k)]
        torch.testing.assert_close(mine, s, rtol=0, atol=1e-6)  # Adam divides small slopes by small ones


def test_ten_for_normals_in_the_stages_and_one_in_the_fusion():
    work = bench(attentive(), "dr-mgf-nyu", RECIPE)
    progress = Progress(0, 0.0, 0.01)
    assert work.options.factors(work.training, 0, progress) == [1.0, 0.5, 0.5]
    tasks = [TASKS[0], Normals(), TASKS[2]]
    work.training.context = dataclasses.replace(work.context, tasks=tasks)
    assert work.options.factors(work.training, 0, progress) == [1.0, 5.0, 0.5]
    assert work.options.factors(work.training, 1, progress) == [0.5, 10.0, 0.5]
    assert work.training.taus(progress) == [1.0, 1.0, 1.0]


EVERY = [
    *("meta-gf", "meta-gf-nyu", "dr-avgf"),
    *("dr-mgf", "dr-mgf-chained", "dr-mgf-published", "dr-mgf-paper", "dr-mgf-nyu"),
]


@pytest.mark.parametrize("name", EVERY)
def test_what_one_task_owns_is_as_its_stage_left_it(name):
    """To the last bit, whatever auxiliary losses of other stages and the fusion did; the unowned rests.

    Of chained stages it is as the last one left it.
    """
    net = attentive()
    left = run_epoch(bench(net, name, RECIPE), 0)
    for k, decoder in enumerate(net.decoders):
        stage = 2 if name == "dr-mgf-chained" else k
        for key in ("first.0.weight", "second.0.bias", "head.weight"):
            found = decoder.get_parameter(key)
            state = left[stage][f"decoders.{k}.{key}"]
            assert torch.equal(found, state), key
            others = [left[i][f"decoders.{k}.{key}"] for i in range(3) if i != stage]
            assert all(not torch.equal(other, state) for other in others)
    assert not net.log_variances.any()


@pytest.mark.parametrize("name", ["meta-gf", "dr-mgf", "dr-avgf"])
def test_the_order_of_the_stages_does_not_matter(name):
    nets = [attentive(), attentive()]
    for net, last_first in zip(nets, (False, True), strict=True):
        work = bench(net, name, RECIPE, deepest_first=last_first)
        for epoch in range(2):
            run_epoch(work, epoch)
    torch.testing.assert_close(nets[0].state_dict(), nets[1].state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "forward", "backward"), [("meta-gf", 4, 4), ("dr-mgf", 4, 4), ("dr-avgf", 4, 3)]
)
def test_passes_are_counted_as_they_happen(name, forward, backward, monkeypatch):
    net = attentive()
    work = bench(net, name, RECIPE)
    counts = {"forward": 0, "backward": 0}
    net.register_forward_hook(lambda *_: counts.__setitem__("forward", counts["forward"] + 1))
    plain = torch.Tensor.backward

    def counted(*arguments, **rest):
        counts["backward"] += 1
        return plain(*arguments, **rest)

    monkeypatch.setattr(torch.Tensor, "backward", counted)
    run_epoch(work, 0)
    assert counts == {"forward": COUNT * forward, "backward": COUNT * backward}
    assert work.options.passes.of(3) == (forward, backward)


def test_stages_of_no_step_leave_the_weights():
    """nu = ||w|| and hardly any competition: what stages leave is w0 to a thousandth, and so is the mean."""
    net = attentive()
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    run_epoch(bench(net, "dr-mgf-nyu", RECIPE), 0, lr=0.0)
    for n, p in net.named_parameters():
        torch.testing.assert_close(p, before[n], rtol=1e-3, atol=1e-9)


def test_the_oversights_route_the_first_task_alone():
    """A shared layer that each task calls by itself is gated in the first call; two tasks see it raw."""
    net = attentive()
    reached = {}
    for quirks in (False, True):
        work = bench(net, "dr-mgf-nyu", RECIPE, official_quirks=quirks)
        step = work.training.forward(1, next(batches(0, 0)), Progress(0, 0.0, 0.01))
        nu = [work.importance.nu["trunk/attention/0/weight:1"]]
        for k, output in enumerate(step.outputs):
            (grad,) = torch.autograd.grad(output.square().sum(), nu, retain_graph=True, allow_unused=True)
            reached[quirks, k] = grad is not None
    assert [reached[False, k] for k in range(3)] == [True] * 3
    assert [reached[True, k] for k in range(3)] == [True, False, False]


def test_rates_from_the_landscape_are_found_for_every_task():
    net = attentive()
    work = bench(net, "dr-mgf-nyu", RECIPE, landscape=True)
    context = dataclasses.replace(work.context, batches=lambda number, count: batches(99, number, count))
    work.training.context = context
    first = work.options.factors(work.training, 0, Progress(0, 0.0, 0.01))
    assert first == [1.0, 0.5, 0.5]
    later = work.options.factors(work.training, 0, Progress(1, 0.5, 0.01))
    assert later[0] == 1.0 and all(0 <= rate <= 0.5 for rate in later[1:])
