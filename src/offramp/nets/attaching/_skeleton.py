"""A copy of a backbone in which every module that is called from around the cuts is a proxy."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from offramp.errors import UserError
from offramp.nets.attaching._calls import copied
from offramp.nets.attaching._interface import STAGES

__all__ = ["ModuleProxy", "StageEnd", "skeleton"]


class StageEnd(BaseException):
    """Ends a stage at its cut; no Exception, so that no ``except Exception`` of a forward catches it."""


class ModuleProxy(nn.Module):
    """Stands in for a module that a holder calls.

    Args:
        name: Name of the module.
        module: The module.
        runs: Whether it belongs to this stage.
    """

    def __init__(self, name: str, module: nn.Module, *, runs: bool) -> None:
        super().__init__()
        self.name = name
        self.inner = module if runs else None
        self.original = (module,)  # not registered: its attributes are readable, its parameters elsewhere
        self.calls = 0
        self.answers: dict[int, Any] = {}
        self.results: list[Any] = []
        self.stop: str | None = None
        self.written = False

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "original" or name.startswith("__"):
                raise
            return getattr(self.original[0], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module returned before the last cut, or what it returns now."""
        number, self.calls = self.calls, self.calls + 1
        if number in self.answers:
            return self.answers[number]
        if self.stop == "before":
            self.results.append(args[0] if args else kwargs["input"])
            raise StageEnd
        if self.inner is None:
            raise UserError(
                f"module '{self.name}' runs elsewhere or more often than when the net was made; "
                f"cut elsewhere, or {STAGES}"
            )
        value = self.inner(*args, **kwargs)
        self.results.append(copied(value) if self.written and self.stop is None else value)
        if self.stop == "after":
            raise StageEnd
        return value


def skeleton(
    module: nn.Module,
    name: str,
    holders: set[str],
    runs: set[str] | None,
    answered: set[str],
    final: str | None,
) -> nn.Module:
    """A copy of a holder, with its parameters, whose children are copies of holders or proxies.

    Args:
        module: The holder.
        name: Its name.
        holders: The names of all of them.
        runs: The modules that run in this stage; None: all but those of ``answered``.
        answered: The modules that ran before.
        final: The last layer, which does not run here.
    """
    twin = copy.copy(module)
    for store in ("_parameters", "_buffers"):
        vars(twin)[store] = vars(module)[store].copy()
    for store in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
        vars(twin)[store] = type(vars(module)[store])()
    children: dict[str, nn.Module | None] = {}
    for child, inner in module._modules.items():
        path = f"{name}.{child}" if name else child
        if inner is None:
            children[child] = None
        elif path in holders:
            children[child] = skeleton(inner, path, holders, runs, answered, final)
        elif isinstance(inner, nn.Identity) and path not in (runs or ()):
            children[child] = inner  # nothing to skip, and forwards ask whether it is one
        else:
            run = path != final and (path in runs if runs is not None else path not in answered)
            children[child] = ModuleProxy(path, inner, runs=run)
    vars(twin)["_modules"] = children
    return twin
