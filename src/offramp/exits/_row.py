"""Whether a net has exits in a row, which samples can leave by."""

from __future__ import annotations

from offramp.errors import UserError
from offramp.nets import MultiExitNet
from offramp.nets.net import check_net
from offramp.tasks.outputs import names_in_words

__all__ = ["check_row"]


def check_row(net: object) -> None:
    """Check that samples can leave a net early.

    Raises:
        UserError: It is no net, or one that gives all its outputs at once.
    """
    check_net(net, "net")
    if not isinstance(net, MultiExitNet):
        outputs = names_in_words([*net.outputs])  # type: ignore[attr-defined]
        raise UserError(
            f"samples leave a MultiExitNet early, and {type(net).__name__} has no exits in a row; call it "
            f"for all its outputs at once ({outputs}), which `offramp eval` measures"
        )
