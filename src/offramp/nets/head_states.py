"""What the heads of a net hold, by its names in the net's state: the part that another task needs anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from torch import nn

from offramp.errors import UserError
from offramp.forks.forked_net import ForkedNet
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.net import Net
from offramp.nets.passage import last_linear

__all__ = ["head_states"]


def head_states(net: Net) -> dict[str, list[str]]:
    """The keys of a net's ``state_dict`` that belong to heads, by the name of the head's module.

    Heads are what the net says (``heads``, ``decoders``), and of a multi-exit net whose last head has no
    parameters the Linear that makes its logits. Of a net of another kind with several outputs they are the
    modules whose parameters reach one output alone.
    """
    keys = [*net.state_dict()]
    return {place: [key for key in keys if key.startswith(f"{place}.")] for place in _places(net)}


def _places(net: Net) -> Iterator[str]:
    if not isinstance(net, ForkedNet):
        yield from _of_one_output(net)
        return
    heads: list[nn.Module] = [*net.heads]
    if isinstance(net, MultiExitNet) and not any(True for _ in heads[-1].parameters()):
        with suppress(UserError):  # no linear layer makes the last exit's logits
            heads[-1] = last_linear(net, net.num_exits)
    for place, module in net.named_modules(remove_duplicate=False):
        if any(module is head for head in heads):
            yield place


def _of_one_output(net: Net) -> Iterator[str]:
    if len(net.outputs) < 2:
        return
    owners = net.owners()
    for place, module in net.named_modules():
        names = [f"{place}.{name}" for name, _ in module.named_parameters(recurse=False)]
        if place and names and all(len(owners.get(name, ())) == 1 for name in names):
            yield place
