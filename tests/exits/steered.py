"""A net whose samples say themselves where they leave, what they predict, and at which stage they do harm."""

import torch
from torch import nn

from offramp.exits import Policy
from offramp.exits.queueing import Kind, Request
from offramp.nets import MultiExitNet

EXITS = 3
NEVER = 99
POLICY = Policy((0.9,) * (EXITS - 1))


def sample(leaves: int = EXITS, label: int = 1, *, raises: int = NEVER, nan: int = NEVER) -> torch.Tensor:
    """A sample that leaves at an exit with a label, unless stage ``raises`` raises or exit ``nan`` is NaN."""
    return torch.tensor([leaves, label, raises, nan, 0]).float()


class Stage(nn.Module):
    """Counts its visits within its input, as a statement in place would, and only then raises."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.batches: list[int] = []

    def forward(self, x):
        self.batches.append(len(x))
        x[:, 4] += 1
        if (x[:, 2] == self.number).any():
            raise ArithmeticError(f"stage {self.number}")
        return x


class Head(nn.Module):
    """Is sure of the label where a sample wants to leave; the label is 0 if the stages ran too often."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, x):
        label = torch.where(x[:, 4] == self.number, x[:, 1], 0).long() % 5
        height = torch.where(x[:, 0] <= self.number, 20.0, 0.5)
        height[x[:, 3] == self.number] = torch.nan
        return height[:, None] * nn.functional.one_hot(label, 5)


def net() -> MultiExitNet:
    numbers = range(1, EXITS + 1)
    return MultiExitNet(map(Stage, numbers), map(Head, numbers), input_size=(5,))


KIND = Kind(torch.utils._pytree.tree_flatten(torch.empty(0))[1])


def request(x: torch.Tensor, **options) -> Request:
    """A request for a sample, made by hand."""
    return Request([x], options.pop("kind", KIND), options.pop("last", EXITS - 1), **options)
