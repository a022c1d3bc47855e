"""A moving average of a net's weights over the steps of its training (Polyak averaging, exponential)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from offramp.runs.weights import weights_bytes
from offramp.stored_values import check_like

__all__ = ["Average"]


class Average:
    """The average a of parameters and buffers p: a <- decay a + (1 - decay) p after every step.

    It starts as they are after the first step, as that of torch's ``AveragedModel``, so that it needs no
    correction for a start from zero. Integers (counts, tables of indices) are not averaged but taken over.

    Args:
        net: Whose.
        decay: Share of the old average that a step keeps.

    Attributes:
        tensors: The averages by name; empty before the first step.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net, self.decay = net, decay
        self.tensors: dict[str, Tensor] = {}
        self._move = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        now = _tensors(self.net)
        if not self.tensors:
            self.tensors = {name: tensor.detach().clone() for name, tensor in now.items()}
            return
        for kind in {tensor.dtype for tensor in now.values()}:
            names = [name for name, tensor in now.items() if tensor.dtype == kind]
            if kind.is_floating_point or kind.is_complex:
                self._move([self.tensors[name] for name in names], [now[name] for name in names], 0)
            else:
                _put({name: self.tensors[name] for name in names}, now)

    @contextmanager
    def applied(self, net: nn.Module) -> Iterator[None]:
        """Lend the averages to a net whose tensors have the same names, and put its own back afterwards."""
        own = _tensors(net)
        before = {name: tensor.detach().clone() for name, tensor in own.items()}
        try:
            _put(own, self.tensors)
            yield
        finally:
            _put(own, before)

    def files(self, net: nn.Module) -> dict[str, bytes]:
        """What a finished run keeps of it: a state_dict of the net, as its weights are kept."""
        with self.applied(net):
            return {"average.safetensors": weights_bytes(net)}

    def load(self, tensors: dict[str, Tensor], *, begun: bool) -> None:
        """Put back :attr:`tensors` from a checkpoint; before the first step there are none.

        Raises:
            ValueError: They are not those of the net, or not finite.
        """
        now = _tensors(self.net)
        check_like(tensors, now if begun else {}, "average")
        self.tensors = {name: tensor.to(now[name].device) for name, tensor in tensors.items()}


def _tensors(net: nn.Module) -> dict[str, Tensor]:
    return dict(itertools.chain(net.named_parameters(), net.named_buffers()))


@torch.no_grad()
def _put(tensors: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        tensor.copy_(values[name])
