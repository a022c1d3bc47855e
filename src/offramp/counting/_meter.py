"""A meter of the operations of modules while they run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from offramp.attention import plain_attention
from offramp.counting.conventions import Convention
from offramp.flops import FORMULAS, Counter, Operators, without_formula

__all__ = ["Meter"]


class Meter:
    """Counts the operations of modules by a convention, products and all else.

    Args:
        rule: The convention.
        names: The modules that may run, and what they are called.

    Attributes:
        unknown: Which modules have operations that cannot be counted, and why.
    """

    def __init__(self, rule: Convention, names: Mapping[nn.Module, str]) -> None:
        self.rule, self.names = rule, names
        self.unknown: list[str] = []
        self.counter = Counter(display=False, custom_mapping=FORMULAS)
        self.operators = Operators(self.counter.flop_registry)
        self.before: dict[nn.Module, int] = {}
        self.extra = self.last = self.reported = 0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Count the operations of what runs in the ``with`` block."""
        with ExitStack() as stack:
            for module in self.names:
                if isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
                    continue
                enter = module.register_forward_pre_hook(self._enter)
                leave = module.register_forward_hook(self._leave)
                stack.callback(enter.remove)
                stack.callback(leave.remove)
            stack.enter_context(plain_attention())
            stack.enter_context(self.operators)
            stack.enter_context(self.counter)
            yield

    def read(self, part: nn.Module) -> int | None:
        """The operations of a part that has run since the last call; None if some are unknown."""
        if self.operators.hiding:
            self._report_hiding(part)
        closed = [m for m in part.modules() if isinstance(m, torch.jit.ScriptModule)]
        if closed and self.rule.extra:
            self._report(closed[0], "its layers are compiled by torch.jit and cannot be told apart")
        before, self.last = self.last, self.operations
        reported, self.reported = self.reported, len(self.unknown)
        return self.last - before if reported == self.reported else None

    @property
    def operations(self) -> int:
        """Operations counted so far."""
        return self.counter.get_total_flops() // 2 + self.extra

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.before[module] = self.counter.get_total_flops()

    def _leave(self, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        if self.operators.hiding:  # the innermost module leaves first
            self._report_hiding(module)
        elif self.counter.get_total_flops() == self.before[module] and not self._weights_read(module):
            self._report(module, "its weights take part in nothing that torch sees")
        for kind, operations in self.rule.extra.items():
            if isinstance(module, kind):
                self.extra += operations(module, _tensor(args), _tensor(out))

    def _weights_read(self, module: nn.Module) -> bool:
        """Whether some operator has read each weight of a module's own that looks like a matrix."""
        own = [p for p in module.parameters(recurse=False) if p.numel() > max(p.shape, default=1)]
        return all(map(self.operators.has_read, own))

    def _report_hiding(self, module: nn.Module) -> None:
        why = without_formula(self.operators.hiding)
        self.operators.hiding.clear()
        self._report(module, why)

    def _report(self, module: nn.Module, why: str) -> None:
        self.unknown.append(f"{self.names[module]} ({type(module).__name__}): {why}")


def _tensor(value: Any) -> Tensor:
    """The first Tensor in nested tuples."""
    return value if isinstance(value, Tensor) else _tensor(value[0])
