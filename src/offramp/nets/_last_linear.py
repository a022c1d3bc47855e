"""The linear layer that makes an exit's logits, and what it reads."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from offramp.forks.feature import ordinary

__all__ = ["LayerRecorder", "LinearCall", "opened"]


class LinearCall(NamedTuple):
    """A call of a linear layer: what it read, and what it returned."""

    layer: nn.Linear
    input: Tensor
    output: Tensor

    def feature(self, logits: Tensor) -> Tensor | None:
        """What the layer read in order to make ``logits``, ``[N, D]``.

        Of tokens ``[N, ..., D]`` it is the one whose row of the layer's output became the sample's logits.
        None, if the layer has other outputs than logits, or no such row.

        Args:
            logits: ``[N, classes]``.
        """
        x = ordinary(self.input)  # to be watched by whoever keeps it; the layer has read the cut
        if self.output.shape[:1] != logits.shape[:1] or self.output.shape[-1] != logits.shape[-1]:
            return None
        if x.ndim == 2:
            return x
        with torch.no_grad():
            rows = self.output.reshape(len(logits), -1, logits.shape[-1])
            same = torch.isclose(rows, logits.unsqueeze(1), rtol=0, atol=0, equal_nan=True).all(-1)
            if not same.any(1).all():
                return None
        tokens = x.reshape(len(logits), rows.shape[1], -1)
        return tokens[torch.arange(len(logits), device=x.device), same.int().argmax(1)]


def opened(head: nn.Module) -> tuple[list[nn.Module], nn.Linear, list[nn.Module]] | None:
    """Split a head into the layers before, at and after its last linear layer, if it only calls them.

    None, if the head is no nn.Sequential of such layers or has hooks, which want it to be called; or if what
    follows has parameters of its own.
    """
    layers = _in_a_row(head)
    for place in reversed(range(len(layers))):
        layer = layers[place]
        if isinstance(layer, nn.Linear):
            return layers[:place], layer, layers[place + 1 :]
        if any(True for _ in layer.parameters()):
            break
    return None


def _in_a_row(module: nn.Module) -> list[nn.Module]:
    plain = type(module).forward is nn.Sequential.forward and "forward" not in vars(module)
    hooked = any(
        (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
    )
    if not plain or hooked:
        return [module]
    layers = module._modules.values()  # a layer that stands there twice runs twice
    return [layer for inner in layers if inner is not None for layer in _in_a_row(inner)]


class LayerRecorder:
    """Records which layer with parameters runs last, and what it reads if it is linear.

    Args:
        parts: The modules that the layers are in.
    """

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        modules = list(dict.fromkeys(m for part in parts for m in part.modules()))
        inside = {m for linear in modules if isinstance(linear, nn.Linear) for m in [*linear.modules()][1:]}
        self._layers = [m for m in modules if m not in inside and _has_own_parameters(m)]
        self.last: nn.Module | None = None
        self.read: LinearCall | None = None

    def __enter__(self) -> LayerRecorder:
        self._handles = [layer.register_forward_pre_hook(self._starts) for layer in self._layers]
        linears = (layer for layer in self._layers if isinstance(layer, nn.Linear))
        self._handles += [layer.register_forward_hook(self._ends, with_kwargs=True) for layer in linears]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def _starts(self, layer: nn.Module, args: Any) -> None:
        self.last = layer

    def _ends(self, layer: nn.Linear, args: Any, kwargs: Any, output: Tensor) -> None:
        self.read = LinearCall(layer, args[0] if args else kwargs["input"], output)

    def last_call(self) -> LinearCall | None:
        """The call of the linear layer that ran last; None, if another layer with parameters came after."""
        return self.read if self.read is not None and self.read.layer is self.last else None


def _has_own_parameters(module: nn.Module) -> bool:
    if isinstance(module, torch.jit.ScriptModule):  # it takes no hooks
        return False
    return isinstance(module, nn.Linear) or any(True for _ in module.parameters(recurse=False))
