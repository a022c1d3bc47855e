"""Refusal of nets without exits in a row, or with exits that do not tell classes apart."""

from __future__ import annotations

from offramp.errors import UserError
from offramp.nets import MultiExitNet, Net
from offramp.nets.net import check_net
from offramp.tasks import Classification
from offramp.tasks.outputs import names_in_words

__all__ = ["check_classifies", "check_has_exits"]


def check_has_exits(net: object) -> None:
    """Check that a net has exits in a row, by which samples can leave early.

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


def check_classifies(net: Net) -> None:
    """Check that a net has exits in a row, which tell classes apart.

    Raises:
        UserError: It has none, or they do something else.
    """
    check_has_exits(net)
    for name, task in net.outputs.items():
        if not isinstance(task, Classification):
            raise UserError(
                f"{name} has the task {type(task).__name__}, and samples leave by the confidence of classes; "
                "take a net whose exits have the task Classification"
            )
