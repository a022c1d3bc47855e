"""What a stage uses of a backbone without holding it."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from offramp.errors import UserError

__all__ = ["Uses"]


class Uses(TorchFunctionMode):
    """Watches which modules, parameters and buffers of a backbone are used in the ``with`` block.

    Args:
        backbone: The backbone. Use this under :func:`~offramp.unchanged.unchanged`.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        parts = (backbone.named_modules(), backbone.named_parameters(), backbone.named_buffers())
        self.names = {id(part): name for named in parts for name, part in named if name}
        self.met: dict[int, str] = {}

    def __enter__(self) -> Uses:
        self._handle = register_module_forward_pre_hook(lambda module, _: self._note(module))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]
        self._handle.remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the function, and note what it reads."""
        for leaf in pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self._note(leaf)
        return func(*args, **(kwargs or {}))

    def _note(self, part: Any) -> None:
        if id(part) in self.names:
            self.met[id(part)] = self.names[id(part)]

    def check(self, stage: nn.Module, number: int) -> None:
        """Check that the stage holds what was used since the last check.

        Raises:
            UserError: It does not.
        """
        held = {id(part) for part in (*stage.modules(), *stage.parameters(), *stage.buffers())}
        loose = [name for key, name in self.met.items() if key not in held]
        self.met.clear()
        if loose:
            raise UserError(
                f"stage {number} uses '{loose[0]}' of the backbone but does not hold it, so that it would "
                "not be trained, copied or saved with the net; make it an nn.Module that has what it uses "
                "as an attribute"
            )
