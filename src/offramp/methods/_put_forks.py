"""Put the forks of a method on a net, in place of another method's."""

from __future__ import annotations

from collections.abc import Sequence

from offramp.errors import UserError, shown
from offramp.forks import Fork, ForkedNet, GainFork, Rule, SliceFork, install, remove
from offramp.nets import Net

__all__ = ["put_forks"]


def put_forks(net: Net, rules: Sequence[Rule], method: str, *, separate: bool) -> None:
    """Install forks on a net, in place; gain forks that are on it already make way.

    Args:
        net: The net.
        rules: The method's; none are plain forks.
        method: The method's name, for messages.
        separate: Whether the method trains the net's parts apart.

    Raises:
        UserError: The forks are plain and the net's are not, or they do not fit the net.
    """
    if not isinstance(net, ForkedNet):
        if rules:
            raise UserError(
                f"{shown(method)} works where a feature forks, to a head and the next stage or to a decoder "
                f"for each task, and {type(net).__name__} has no such fork; take another method, or such a "
                "net (offramp.attach, offramp.multi_task)"
            )
        if separate:
            raise UserError(
                f"{shown(method)} works on the stages of a MultiExitNet or MultiTaskNet, and "
                f"{type(net).__name__} has none; take another method"
            )
    elif rules:
        if any(isinstance(fork, GainFork) for fork in net.forks):
            remove(net)
        install(net, rules)
    elif any(type(fork) not in (Fork, SliceFork) for fork in net.forks):
        raise UserError(
            f"method {shown(method)} trains plain forks, and this net's are not; "
            "take them off first with offramp.forks.remove(net)"
        )
