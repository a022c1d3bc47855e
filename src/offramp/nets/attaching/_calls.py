"""Record what the modules around the cuts call in one forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from offramp.errors import UserError, an_object
from offramp.nets.attaching._interface import STAGES, call_with, logits_of

__all__ = ["Call", "Key", "Recording", "Template", "copied", "record"]

Key = tuple[str, int]  # a module's name, and how often it had been called before


@dataclass(frozen=True)
class Template:
    """A value with Tensors somewhere in it, which may be replaced by others."""

    value: Any

    def __deepcopy__(self, memo: Any) -> Template:
        return self  # nothing in it changes

    def tensors(self) -> list[Tensor]:
        """The Tensors in the value."""
        return [leaf for leaf in pytree.tree_leaves(self.value) if isinstance(leaf, Tensor)]

    def filled(self, tensors: Sequence[Tensor]) -> Any:
        """The value with other Tensors in place of its own."""
        rest = iter(tensors)
        return pytree.tree_map_only(Tensor, lambda _: next(rest), self.value)

    def emptied(self) -> Template:
        """A copy with empty Tensors, to be kept without their memory."""
        return Template(pytree.tree_map_only(Tensor, lambda _: torch.empty(0), self.value))


@dataclass(frozen=True)
class Call:
    """A call of a module by one that holds a cut, and its result.

    Attributes:
        key: The module and the number of the call.
        result: What it returned.
        written: Whether that was written to in place by what ran later.
    """

    key: Key
    result: Template
    written: bool = False

    def __deepcopy__(self, memo: Any) -> Call:
        return self  # nothing in it changes

    def emptied(self) -> Call:
        """A copy with empty Tensors, to be kept without their memory."""
        return replace(self, result=self.result.emptied())


@dataclass
class Recording:
    """One forward pass of a backbone: the calls by its holders in order, and what it returned."""

    calls: list[Call] = field(default_factory=list)
    linears: list[tuple[str, Any]] = field(default_factory=list)
    output: Any = None

    def final(self) -> str | None:
        """The Linear layer whose output is that of the backbone, if it runs once."""
        logits = logits_of(self.output)
        made = [name for name, output in self.linears if output is logits]
        runs = [name for name, _ in self.linears]
        return made[0] if len(made) == 1 and runs.count(made[0]) == 1 else None


def copied(value: Any) -> Any:
    """Copy the Tensors of a value."""
    return pytree.tree_map_only(Tensor, torch.clone, value)


def record(backbone: nn.Module, holders: set[str], inputs: Any) -> Recording:
    """Run the backbone and note what its holders call.

    Args:
        backbone: Run it under :func:`~offramp.unchanged.unchanged`, since it gets hooks here.
        holders: The names of the modules around the cuts.
        inputs: An input.

    Raises:
        UserError: A module that they call returns what no stage can hand on.
    """
    recording = Recording()
    counts: Counter[str] = Counter()
    versions: list[list[tuple[Tensor, int | None]]] = []

    def note(name: str, output: Any) -> None:
        leaves = pytree.tree_leaves(output)
        for leaf in leaves:
            if not isinstance(leaf, (Tensor, int, float, str, type(None))):
                raise UserError(
                    f"module '{name}' returns {an_object(leaf)}, and it runs beside a cut inside code "
                    f"that torch.fx cannot trace; cut elsewhere, or {STAGES}"
                )
        versions.append([(leaf, _version(leaf)) for leaf in leaves if isinstance(leaf, Tensor)])
        recording.calls.append(Call((name, counts[name]), Template(copied(output))))
        counts[name] += 1

    def returned(do: Callable[[str, Any], None], name: str) -> Callable[..., None]:
        return lambda module, args, output: do(name, output)

    with ExitStack() as stack:
        for name, module in backbone.named_modules():
            if isinstance(module, nn.Linear):
                noted = returned(lambda name, output: recording.linears.append((name, output)), name)
                stack.callback(module.register_forward_hook(noted).remove)
            if name not in holders and name.rpartition(".")[0] in holders:
                stack.callback(module.register_forward_hook(returned(note, name)).remove)
        recording.output = call_with(backbone, inputs)
    written = [any(b is None or t._version > b for t, b in call) for call in versions]
    recording.calls = [replace(call, written=w) for call, w in zip(recording.calls, written, strict=True)]
    return recording


def _version(tensor: Tensor) -> int | None:
    """How often a Tensor was written to; None if torch does not count, so that it may have been."""
    return None if tensor.is_inference() else tensor._version
