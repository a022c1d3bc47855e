"""Small nets, steps on them, and gradients from a plain loop to compare with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from attentive import CLASSES, Attentive
from steps import exit_step
from torch import Tensor, nn

import offramp
from offramp.methods.combiners import Backward
from offramp.methods.objectives import Step
from offramp.nets import MultiExitNet, create, owners


class Skipping(nn.Module):
    """A skip over the cut, so that the second stage reads a tensor and what was made from it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(i, 4, 3, padding=1, bias=False) for i in (3, 4, 4))
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.norm(self.a(x))
        y = self.b(stem.sigmoid())
        return self.fc((self.c(y.tanh()) + 2 * stem + y).mean((2, 3)))


class Decoders(nn.Module):
    """A trunk and three decoders: outputs and owners, no stages."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 6))
        self.pair = nn.Linear(6, 6)
        self.decoders = nn.ModuleList(nn.Linear(6, CLASSES) for _ in range(3))
        self.unused = nn.Linear(2, 2)
        self.decoders[0].bias.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        h = self.trunk(x.flatten(1))
        both = self.pair(h).tanh()
        return [self.decoders[0](h), self.decoders[1](both), self.decoders[2](both)]

    def owners(self) -> dict[str, frozenset[int]]:
        like = next(self.parameters())
        return owners(self, torch.randn(2, 3, 2, 2).to(like))


class Refining(nn.Module):
    """A head that adds to the logits of the exit before, so that its loss reaches the earlier heads."""

    reads_previous = True

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor, logits: Tensor | None) -> Tensor:
        new = self.fc(x.mean((2, 3)))
        return new if logits is None else new + 2 * logits.tanh()


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "vgg7":
        return create("vgg7", num_classes=CLASSES, width=4)
    if name == "resnet18":
        return create("resnet18", num_classes=CLASSES, width=4)
    if name == "msdnet":
        return create("msdnet_cifar", num_classes=CLASSES, growth=2, channels=4)
    if name == "attached":
        return offramp.attach(Skipping(), at=["a", "b"], input_size=(3, 6, 6))
    if name == "refining":
        stages = [nn.Sequential(nn.Conv2d(4 if k else 3, 4, 3, padding=1), nn.Tanh()) for k in range(4)]
        return MultiExitNet(stages, [Refining() for _ in stages], input_size=(3, 6, 6))
    if name == "attentive":
        return Attentive((CLASSES,) * 3)
    return Decoders()


SIZE = {"attached": 6, "attentive": 6, "decoders": 2, "refining": 6}
NETS = ["vgg7", "resnet18", "msdnet", "attached", "attentive", "decoders", "refining"]


def batch(name: str, like: nn.Module, count: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    side = SIZE.get(name, 32)
    images = torch.randn(count, 3, side, side, generator=generator)
    return images.to(next(like.parameters())), torch.randint(CLASSES, (count,), generator=generator)


def apart(feature):
    """Each tensor of a feature as a node of its own, which nothing else is made from."""
    return tuple(t.view_as(t) for t in feature) if isinstance(feature, tuple) else feature


def forward(net: nn.Module, images: Tensor, targets: Tensor, *, trunk: bool = True) -> Step:
    """A step made by hand: the loop over stages, forks and heads."""
    if not trunk or not hasattr(net, "stages"):
        return exit_step(net, net(images), targets)
    x, outputs, between = images, [], []
    for k, (stage, head) in enumerate(zip(net.stages, net.heads, strict=True)):
        x = to_head = apart(stage(x))
        if k < len(net.forks):
            between.append(x)
            to_head, x = net.forks[k](x)
        previous = [outputs[-1] if outputs else None] if isinstance(head, Refining) else []
        outputs.append(head(to_head, *previous))
    return exit_step(net, outputs, targets, trunk=between)


def losses_of(step: Step) -> list[Tensor]:
    """Cross-entropies of very different sizes."""
    found = (z.float() if z.itemsize < 4 else z for z in step.outputs)
    return [(1 + 2 * k) * F.cross_entropy(z, step.targets["label"]) for k, z in enumerate(found)]


def plain_loop(net: nn.Module, losses: list[Tensor]) -> list[dict[str, Tensor]]:
    """The gradient of each loss on all parameters that it owns."""
    owned = net.owners()
    named = {n: p for n, p in net.named_parameters() if p.requires_grad}
    rows = []
    for j, loss in enumerate(losses):
        grads = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
        rows.append({n: g for n, g in zip(named, grads, strict=True) if j in owned[n] and g is not None})
    return rows


def weights(owners: tuple[int, ...]) -> Tensor:
    """Some weights, different for each group and each owner, one of them negative."""
    return torch.tensor([(-1) ** j * (0.5 + j) / len(owners) for j in owners], dtype=torch.float64)


def groups(net: nn.Module, shared: str) -> dict[tuple[int, ...], list[str]]:
    """Owners -> parameter names, by the definition."""
    trained = {n for n, p in net.named_parameters() if p.requires_grad}
    fewest = 1 if shared == "all" else 2
    owned = {n: o for n, o in net.owners().items() if len(o) >= fewest and n in trained}
    if shared in ("union", "all"):
        return {tuple(sorted(frozenset().union(*owned.values()))): list(owned)}
    found: dict[tuple[int, ...], list[str]] = {}
    for name, indices in owned.items():
        if shared == "per_stage" or len(indices) == max(map(len, owned.values())):
            found.setdefault(tuple(sorted(indices)), []).append(name)
    return found


def expected(net: nn.Module, rows: list[dict[str, Tensor]], shared: str) -> dict[str, Tensor | None]:
    """The gradient that the weights above must give."""
    found: dict[str, Tensor | None] = {}
    factors = {
        n: dict(zip(o, weights(o).tolist(), strict=True)) for o, ns in groups(net, shared).items() for n in ns
    }
    for name, _ in net.named_parameters():
        parts = [factors.get(name, {}).get(j, 1.0) * row[name] for j, row in enumerate(rows) if name in row]
        found[name] = sum(parts[1:], start=parts[0]) if parts else None
    return found


PLAIN = Backward()


def cut_everywhere(losses, trunk, need, **_) -> list[int]:
    """In place of ``choose_cuts``."""
    return list(range(len(trunk)))
