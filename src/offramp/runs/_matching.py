"""Which weight of a file is which of a net: by name, under whatever prefix the file has its names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from torch import Tensor

from offramp.errors import UserError

__all__ = ["matched"]


def matched(
    state: Mapping[str, Tensor], others: Mapping[str, Sequence[str]], stored: Mapping[str, Tensor]
) -> dict[str, str]:
    """The stored name of each of the net's weights that has one.

    Names are the net's own, or those in the network that it was made of, whichever are found more often. The
    stored names may have a prefix of a wrapper, such as ``module.``; or lack one that the net's have, as
    those of a trunk alone do.

    Args:
        state: The net's weights.
        others: What these are called in the network that it was made of.
        stored: The weights of the file.

    Raises:
        UserError: Several prefixes are as good.
    """
    own = {name: (name,) for name in state}
    elsewhere = {name: others[name] for name in state if name in others}
    return max((_under_a_prefix(state, names, stored) for names in (own, elsewhere)), key=len)


def _under_a_prefix(
    state: Mapping[str, Tensor], names: Mapping[str, Sequence[str]], stored: Mapping[str, Tensor]
) -> dict[str, str]:
    called = {name: state[own] for own, each in names.items() for name in each}
    of_stored, of_net = _prefixes(stored, called), _prefixes(called, stored)
    best = max(of_stored.values(), default=0)
    ends = [prefix for prefix, score in of_stored.items() if score == best]
    if len(ends) > 1 and "" not in ends:
        raise UserError(
            f"the net's weights are there under several prefixes, {' and '.join(sorted(ends)[:3])}; put "
            "those that are meant into a file of their own"
        )
    prefix, cut = "" if "" in ends or not ends else ends[0], ""
    if max(of_net.values(), default=0) > best:
        prefix, cut = "", max(of_net, key=of_net.__getitem__)
    found = {}
    for own, each in names.items():
        keys = [prefix + name.removeprefix(cut) for name in each]
        if there := [key for key in keys if key in stored]:
            found[own] = there[0]
    return found


def _prefixes(long: Mapping[str, Tensor], short: Mapping[str, Tensor]) -> Counter[str]:
    """How many of the long names are a short one behind each prefix, which ends in a dot or is empty.

    Those of the same shape count twice.
    """
    scores: Counter[str] = Counter()
    for name, tensor in long.items():
        starts = [0, *(place + 1 for place, letter in enumerate(name) if letter == ".")]
        for start in starts:
            if name[start:] in short:
                scores[name[:start]] += 1 + (short[name[start:]].shape == tensor.shape)
    return scores
