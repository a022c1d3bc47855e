"""Weights of each sample's loss at each exit, by a network that learns what helps early leaving (L2W-DEN).

Han, Pu, Lai, Wang, Song, Cao, Huang, Deng, Huang, "Learning to Weight Samples for Dynamic Early-Exiting
Networks", ECCV 2022, arXiv:2209.08310: the weight prediction network (WPN).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp.checks import choice, number, whole
from offramp.methods.objectives.objective import Objective
from offramp.methods.objectives.step import Step
from offramp.methods.seeded import seeded
from offramp.own_adam import OwnAdam
from offramp.tasks.soft_targets import check_soft_targets
from offramp.tasks.task import wide

__all__ = ["SampleWeights", "leaving"]


@dataclass(frozen=True, kw_only=True)
class SampleWeights(Objective):
    """Loss k is the mean over the samples x of w_k(x) l_k(x), with weights by a small network.

    A layer of ``hidden`` units with ReLU reads a sample's K losses, without gradient, and a layer with tanh
    gives a perturbation for each exit; the weights are 1 + strength (perturbation - mean). The network learns
    in the bilevel loop: after a virtual step, of other samples the surest leave at each exit, a share
    proportional to ``ratio``^k at exit k, and the cross-entropy of each where it leaves shall fall.

    Attributes:
        strength: epsilon; 0.8 in the authors' code for CIFAR, 0.3 for ImageNet.
        center: Over what the perturbations have the mean 0: ``sample``: over the exits (CIFAR), or ``batch``:
            over the samples too (ImageNet).
        ratio: How many samples leave at an exit for each at the one before.
        hidden: Units of the hidden layer.
        meta_lr: Learning rate of the Adam that trains the network.
        meta_decay: Its weight decay.

    Raises:
        UserError: A value out of its range.
    """

    bilevel = True
    strength: float = 0.8
    center: str = "sample"
    ratio: float = 0.75
    hidden: int = 500
    meta_lr: float = 1e-4
    meta_decay: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "strength", "of 0 or more", lambda strength: strength >= 0)
        choice(self, "center", ("sample", "batch"))
        for name in ("ratio", "meta_lr"):
            number(self, name, "above 0", lambda value: value > 0)
        number(self, "meta_decay", "of 0 or more", lambda decay: decay >= 0)
        whole(self, "hidden", 1, below=2**20)

    @property
    def whole_batch(self) -> str:  # noqa: D102
        return "wpn trains its network by the gradient of a whole batch"

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Step], list[Tensor]]:  # noqa: D102
        tasks = net.outputs.values()  # type: ignore[operator]
        check_soft_targets(tasks, "wpn sorts samples by")
        return BoundSampleWeights(self, len(tasks), seed)


class BoundSampleWeights(nn.Module):
    """WPN bound to a net; it holds the numbers of its two layers, one after the other."""

    def __init__(self, options: SampleWeights, count: int, seed: int) -> None:
        super().__init__()
        self.options = options
        with seeded(torch.device("cpu"), "wpn", seed):
            layers = nn.Linear(count, options.hidden), nn.Linear(options.hidden, count)
        tensors = [p.detach() for layer in layers for p in (layer.weight, layer.bias)]
        self.shapes = [tensor.shape for tensor in tensors]
        start = torch.cat([tensor.flatten() for tensor in tensors])
        self.learned = OwnAdam(start, options.meta_lr, options.meta_decay)

    def forward(self, step: Step) -> list[Tensor]:
        """The weighted losses of the exits; all exits have their target in common."""
        if step.tasks[0].target not in step.targets:  # some other process has it
            return [step.loss(k) for k in step.present]
        weights = self.weights(torch.stack([step.values(k).detach() for k in step.present], 1))
        return [step.loss(k, weights[:, k]) for k in step.present]

    def weights(self, losses: Tensor) -> Tensor:
        """Weights ``[N, K]`` of samples with these losses ``[N, K]``, in the graph of the learned numbers."""
        sizes = [shape.numel() for shape in self.shapes]
        parts = self.learned.values.to(losses).split(sizes)
        one, bias_one, two, bias_two = (p.view(s) for p, s in zip(parts, self.shapes, strict=True))
        given = torch.tanh(F.linear(F.relu(F.linear(losses, one, bias_one)), two, bias_two))
        mean = given.mean(1, keepdim=True) if self.options.center == "sample" else given.mean()
        return 1 + self.options.strength * (given - mean)

    def reached(self, step: Step) -> Sequence[int]:
        """All numbers of the network."""
        return range(len(self.learned.values))

    def outer(self, step: Step, factors: Sequence[float]) -> Tensor | None:
        """Mean cross-entropy of the samples, each where it leaves, times the exit's fixed factor."""
        if step.tasks[0].target not in step.targets:
            return torch.stack([step.loss(k) for k in step.present]).sum()
        leaves = leaving([output.detach() for output in step.outputs], self.options.ratio)
        losses = [factors[k] * step.loss(k, (leaves == k).float()) for k in step.present]
        return torch.stack(losses).sum()


def leaving(outputs: Sequence[Tensor], ratio: float) -> Tensor:
    """At which exit each sample leaves: exit by exit, the surest of those that are still there.

    Args:
        outputs: Logits ``[N, classes]`` of the K exits.
        ratio: ratio^k / sum_j ratio^j of the samples leave at exit k, k from 1, rounded down; the others at
            the last one.

    Returns:
        Numbers of exits from 0, int64 ``[N]``.
    """
    count, samples = len(outputs), len(outputs[0])
    # of ratios above 1 the last share is the largest; no power overflows
    shares = [ratio ** (k - count if ratio > 1 else k) for k in range(1, count + 1)]
    leaves = torch.full((samples,), count - 1, device=outputs[0].device)
    there = torch.ones(samples, dtype=torch.bool, device=outputs[0].device)
    for k, output in enumerate(outputs[:-1]):
        confidence = wide(output).softmax(1).amax(1)
        surest = torch.where(there, confidence, -1.0).topk(int(samples * shares[k] / sum(shares))).indices
        leaves[surest] = k
        there[surest] = False
    return leaves
