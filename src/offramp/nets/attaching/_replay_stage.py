"""A stage of a backbone whose forward torch.fx cannot trace: it runs that forward with its own part of it.

A stage holds a copy of the modules around the cuts (the holders), where every module they call is a proxy.
The forward of the copy runs from its start: proxies of what ran before the last cut return what the feature
carries, those of the stage run their module, and at its own cut the stage stops. So only the Python between
the modules runs again, for batches of any size and whatever it does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.utils import _pytree as pytree

from offramp.errors import UserError
from offramp.nets.attaching._calls import Call, Key, Template, copied
from offramp.nets.attaching._interface import call_with, logits_of
from offramp.nets.attaching._skeleton import ModuleProxy, StageEnd, skeleton

__all__ = ["ReplayStage"]


class ReplayStage(nn.Module):
    """What a backbone runs between two cuts.

    Args:
        backbone: The whole.
        holders: The names of its modules whose forward is run anew; all that they call are proxies.
        before: The calls that ran before the last cut, whose results the feature carries.
        own: The calls up to this stage's cut.
        inputs: The structure of the backbone's input.
        needed: For every Tensor of ``before`` and ``own`` but the cut's, whether later stages read it.
        stop: The last call of ``own``; None in the last stage.
        final: The last layer, whose input the last stage returns; without it the backbone's logits.
    """

    def __init__(
        self,
        backbone: nn.Module,
        holders: set[str],
        before: Sequence[Call],
        own: Sequence[Call],
        *,
        inputs: Template,
        needed: Sequence[bool],
        stop: Key | None,
        final: str | None,
    ) -> None:
        super().__init__()
        self.before, self.own, self.needed = [*before], [*own], [*needed]
        self.inputs = inputs
        runs = {call.key[0] for call in own} if stop else None
        answered = {call.key[0] for call in before}
        self.backbone = skeleton(backbone, "", holders, runs, answered, final)
        proxies = self._proxies()
        for call in own:
            proxies[call.key[0]].written |= call.written
        if stop is not None:
            proxies[stop[0]].stop = "after"
        elif final is not None:
            proxies[final].stop = "before"
        self.stop, self.final = stop, final

    def _proxies(self) -> dict[str, ModuleProxy]:
        return {module.name: module for module in self.backbone.modules() if isinstance(module, ModuleProxy)}

    def forward(self, feature: Any) -> Any:
        proxies = self._proxies()
        inputs, carried = feature, []
        if self.before:
            count = len(self.inputs.tensors())
            inputs, carried = self.inputs.filled(feature[:count]), [*feature[count:]]
        rest = iter(carried)
        for call in self.before:
            name, number = call.key
            answer = call.result.filled([next(rest) for _ in call.result.tensors()])
            proxies[name].answers[number] = copied(answer) if call.written else answer
        try:
            output = None
            # a forward that is left at a cut cannot undo its torch.set_grad_enabled(False)
            with torch.set_grad_enabled(torch.is_grad_enabled()), _stack_of_modules(), suppress(StageEnd):
                output = call_with(self.backbone, inputs)
            if self.stop is None:
                return proxies[self.final].results[-1] if self.final else logits_of(output)
            if output is not None:
                raise UserError(f"'{self.stop[0]}' never runs on this input, so that its exit has none")
            made = []
            for call in self.own:
                name, number = call.key
                number -= len(proxies[name].answers)
                made += [
                    t for t in pytree.tree_leaves(proxies[name].results[number]) if isinstance(t, Tensor)
                ]
            tensors = [
                tensor if needed else tensor.new_zeros(()).expand(tensor.shape)
                for tensor, needed in zip([*carried, *made[:-1]], self.needed, strict=True)
            ]
            return (*pytree.tree_leaves(inputs), *map(_for_autograd, [*tensors, made[-1]]))
        finally:
            for proxy in proxies.values():
                proxy.calls, proxy.answers, proxy.results = 0, {}, []


@contextmanager
def _stack_of_modules() -> Iterator[None]:
    """Put right what ``torch.export`` notes of the modules that it is in, which a stage leaves at its cut."""
    mode = get_proxy_mode() if torch.compiler.is_exporting() else None
    stack = {} if mode is None else getattr(mode.tracer, "module_stack", {})
    before = [*stack.items()]
    try:
        yield
    finally:
        stack.clear()
        stack.update(before)


def _for_autograd(tensor: Tensor) -> Tensor:
    """The Tensor as a head can train on it, made under inference_mode or not."""
    return tensor.clone() if tensor.is_inference() else tensor
