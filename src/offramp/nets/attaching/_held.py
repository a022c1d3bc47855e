"""Which parameters and buffers a stage uses without holding them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from offramp.errors import UserError

__all__ = ["Reads"]


class Reads(TorchFunctionMode):
    """Sees which Tensors functions of torch read meanwhile.

    Args:
        backbone: Whose parameters and buffers are of interest.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        tensors = [*backbone.named_parameters(), *backbone.named_buffers()]
        self.names = {id(tensor): name for name, tensor in tensors}
        self.met: dict[int, str] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the function, and note what it reads."""
        for leaf in pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor) and id(leaf) in self.names:
                self.met[id(leaf)] = self.names[id(leaf)]
        return func(*args, **(kwargs or {}))

    def check(self, stage: nn.Module, number: int) -> None:
        """Whether the stage holds what was read since the last check.

        Raises:
            UserError: It does not.
        """
        held = {id(tensor) for tensor in (*stage.parameters(), *stage.buffers())}
        loose = [name for key, name in self.met.items() if key not in held]
        self.met.clear()
        if loose:
            raise UserError(
                f"stage {number} uses '{loose[0]}' of the backbone but does not hold it, so that it would "
                "not be trained, copied or saved with the net; make it an nn.Module that has what it uses "
                "as an attribute"
            )
