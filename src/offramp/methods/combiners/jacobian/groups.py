"""Which parameters share one set of gradient rows, and so one vector of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from offramp.errors import UserError, guess, shown

__all__ = ["SCOPES", "ParameterGroup", "group_parameters"]

SCOPES = ("per_stage", "union", "first", "all")


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters whose gradients are combined together.

    Attributes:
        owners: The outputs (0-based) whose losses reach these parameters, in order; they name the group.
        parameters: In the net's order.
    """

    owners: tuple[int, ...]
    parameters: tuple[Tensor, ...]

    def restricted(self, present: Mapping[Tensor, frozenset[int]], fewest: int) -> ParameterGroup | None:
        """Restrict the group to the parameters that have rows where some outputs have no loss.

        Args:
            present: For each parameter those of its owners that have a loss.
            fewest: How many of these a parameter needs to be in the rows.

        Returns:
            The group without the parameters that have too few; None where fewer than two rows are left.
        """
        parameters = tuple(p for p in self.parameters if len(present[p]) >= fewest)
        if len(frozenset[int]().union(*(present[p] for p in parameters))) < 2:
            return None
        return ParameterGroup(self.owners, parameters)


def group_parameters(owners: Mapping[Tensor, frozenset[int]], shared: str) -> list[ParameterGroup]:
    """Group the parameters that several losses reach.

    For nested exits "shared" has three readings, and a fourth takes in what is not shared:

    * ``per_stage``: parameters with the same owners are a group of their own. For exits in a row these are
      the stages, and no group has a row that is zero by construction.
    * ``union``: one group of all parameters with two or more owners. An owner's row has gaps where a
      parameter is not its own.
    * ``first``: only the parameters with the most owners: the first stage of exits in a row, the trunk of
      decoders side by side.
    * ``all``: one group of every parameter, heads included, as some public code flattens a whole net. A head
      is in one row only, and is scaled by that row's weight.

    Args:
        owners: The losses that reach each parameter.
        shared: One of :data:`SCOPES`.

    Returns:
        The groups. A parameter that is in none gets the plain sum of its owners' gradients.

    Raises:
        UserError: There is no such reading.
    """
    if shared not in SCOPES:
        raise UserError(
            f"shared must be one of {', '.join(SCOPES)}, got {shown(shared)}{guess(shared, SCOPES)}"
        )
    alike: dict[frozenset[int], list[Tensor]] = {}
    for parameter, indices in owners.items():
        if len(indices) > 1:
            alike.setdefault(indices, []).append(parameter)
    if shared in ("union", "all") and alike:
        fewest = 2 if shared == "union" else 1
        members = [p for p, indices in owners.items() if len(indices) >= fewest]
        alike = {frozenset[int]().union(*(owners[p] for p in members)): members}
    elif shared == "first" and alike:
        most = max(map(len, alike))
        alike = {indices: parameters for indices, parameters in alike.items() if len(indices) == most}
    return [ParameterGroup(tuple(sorted(indices)), tuple(members)) for indices, members in alike.items()]
