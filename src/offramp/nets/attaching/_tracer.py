"""A tracer of torch.fx that enters the modules it must and reads modes and buffers when the graph runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx, nn

from offramp.nets.attaching._contexts import contexts

__all__ = ["ContextChange", "IsTraining", "Tracer"]


class ContextChange(Exception):
    """The forward runs something under no_grad, autocast or the like, which a graph would not."""


class IsTraining(nn.Module):
    """Reads train or eval mode when it runs; torch.fx would write today's mode into the graph for good."""

    def forward(self) -> bool:
        return self.training


class Tracer(fx.Tracer):
    """Enters the modules in ``holders`` only and notes what cuts return.

    Raises :class:`ContextChange` at what runs in other contexts than the tracer was made in.

    Args:
        cuts: The modules to cut after.
        holders: The modules to enter.
        training: The mode that a forward which asks for it finds.
    """

    def __init__(self, cuts: Sequence[nn.Module], holders: set[nn.Module], training: bool) -> None:
        super().__init__()
        self.proxy_buffer_attributes = True  # a buffer is read at run time, never as it is now
        self.returned: dict[nn.Module, list[Any]] = {module: [] for module in cuts}
        self.holders = holders
        self.mode = training
        self.flags: list[fx.Node] = []
        self.contexts = contexts()

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        if contexts() != self.contexts:
            raise ContextChange
        return super().create_node(*args, **kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m not in self.holders

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        batch = self.create_proxy("placeholder", "x", (), {})
        for module in filter(self.holders.__contains__, self.root.modules()):
            path = ".".join(filter(None, [self.path_of_module(module), "is_training"]))
            flag = self.create_proxy("call_module", path, (), {})
            self.flags.append(flag.node)
            vars(module)["training"] = flag  # so that F.dropout(x, training=self.training) asks at run time
        return root_fn, [self.root, batch]  # further arguments keep their defaults

    def to_bool(self, obj: fx.Proxy) -> bool:
        return self.mode if obj.node in self.flags else super().to_bool(obj)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        value = super().call_module(m, forward, args, kwargs)
        if m in self.returned:
            self.returned[m].append(value)
        return value
