"""Base of the combiners that weigh gradient rows by their Gramian."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from offramp.checks import choice, number, switch, whole
from offramp.errors import UserError, shown
from offramp.methods.combiners.backward import Backward
from offramp.methods.combiners.combiner import Combiner
from offramp.methods.combiners.jacobian import (
    SCOPES,
    Jacobian,
    LeanBlock,
    RefreshedWeights,
    RowBlock,
)
from offramp.methods.combiners.solvers import SolverFailure
from offramp.methods.objectives.step import Step
from offramp.methods.passes import EACH, Passes
from offramp.methods.seeded import seeded
from offramp.stored_values import check_finite, check_like, check_whole

__all__ = ["BoundRowCombiner", "RowCombiner", "Weighting"]

Weighting = Callable[[Tensor, Tensor], Tensor]  # Gramian [m, m], the last weights [m] -> weights [m]
Key = tuple[Any, ...]  # of a group's memory: see rows_key


@dataclass(frozen=True, kw_only=True)
class RowCombiner(Combiner):
    """Weighs the gradient rows of each group of shared parameters; a subclass says how.

    The rows are weighted, not the losses: heads and whatever else has one owner keep their own loss's
    gradient, unless ``shared="all"`` puts them in the rows. Without conflict the direction has the scale of
    the plain sum.

    Attributes:
        shared: Which parameters have rows, and together: ``per_stage`` (weights for each stage), ``union``
            (one vector of weights), ``first`` (the first stage only) or ``all`` (one vector of weights for
            every parameter, heads included).
        lean: Keep K x K numbers instead of the rows, for one more backward pass; not with ``per_stage``. On
            nets without stages, where that would save nothing, the rows are kept.
        every: Steps between two refreshments of the weights; more than 1 not with ``per_stage``.
        part: Share of the batch that the weights are made from; less than 1 not with ``per_stage``.

    Raises:
        UserError: A value out of its range.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"gramian", "trunk"})
    shared: str = "per_stage"
    lean: bool = False
    every: int = 1
    part: float = 1.0

    def __post_init__(self) -> None:
        choice(self, "shared", SCOPES)
        switch(self, "lean")
        whole(self, "every", 1)
        number(self, "part", "above 0 and up to 1, a share of the batch", lambda share: 0 < share <= 1)
        if self._cheaper and self.shared == "per_stage":
            raise UserError(
                f"{self._cheaper[0]} saves nothing where each stage has its own weights (shared=per_stage); "
                "give `shared='union'` or `shared='first'` with it"
            )

    @property
    def _cheaper(self) -> list[str]:
        """Names of the options in use that find weights without keeping the rows."""
        used = {"lean": self.lean, "every": self.every > 1, "part": self.part < 1}
        return [name for name, on in used.items() if on]

    @property
    def whole_batch(self) -> str:
        """Why no batch can be cut into micro-batches: rows add up, weights and inner products do not."""
        return f"{' and '.join(self._cheaper)} would keep no rows to add to" if self._cheaper else ""

    @property
    def passes(self) -> Passes:  # noqa: D102
        if self.part < 1:
            rows = Passes(1, 0) + self.part / self.every * Passes(1, EACH)
        else:
            rows = Passes(1, EACH / self.every)
        return rows + Passes(0, 1) if self._cheaper else rows

    def weigh(self, gramian: Tensor, last: Tensor) -> Tensor:
        """Weigh the rows of one group.

        Args:
            gramian: Their inner products, ``[m, m]`` float64, with no zero on its diagonal.
            last: The last weights ``[m]``.

        Returns:
            The weights, ``[m]`` float64.

        Raises:
            SolverFailure: There are none.
        """
        raise NotImplementedError

    def weighting(self) -> Weighting:
        """Create what weighs the rows of one group, called once for each group; by default :meth:`weigh`.

        A combiner whose weighting has a state overrides it: what it returns has methods ``state()`` and
        ``load(state)``. It can be pickled, as all that is bound to a net must be.
        """
        return self.weigh

    def plain(self, count: int) -> Tensor:
        """Weights ``[count]`` before any were found: those of the sum."""
        return torch.ones(count, dtype=torch.float64)

    def bind(self, net: nn.Module, seed: int = 0) -> nn.Module:  # noqa: D102
        return BoundRowCombiner(self, net, seed)


def rows_key(rows: tuple[int, ...], group: tuple[int, ...]) -> Key:
    """Key of the memory of a group's rows: its owners, and if some have no row in this step, which do.

    So each set of rows has a memory of its own, and no weight or moving average is taken for another row's.

    Args:
        rows: The outputs that have a row.
        group: The owners of the group.
    """
    return rows if rows == group else (rows, group)


def _rows(key: Key) -> int:
    """How many rows a memory is of, by its key.

    Raises:
        ValueError: It is no key.
    """
    if not isinstance(key, tuple) or not key:
        raise ValueError(f"{shown(key)} are no outputs with rows")
    return len(key[0] if isinstance(key[0], tuple) else key)


def seed_key(rows: tuple[int, ...], group: tuple[int, ...], present: Sequence[int]) -> Key:
    """Key of the draws for a group's rows: what :func:`rows_key` is on a net without the absent outputs.

    So a step that lacks an output's targets draws as if the net had no such output.

    Args:
        rows: The outputs that have a row.
        group: The owners of the group.
        present: The outputs that have a target in this step, in order.
    """
    place = {output: number for number, output in enumerate(present)}
    return rows_key(tuple(place[k] for k in rows), tuple(place[k] for k in group if k in place))


class BoundRowCombiner(nn.Module):
    """A method that weighs rows, bound to a net; it remembers each group's last weights.

    A step without some of a group's rows, of outputs that are absent or whose gradient is zero, has a memory
    of its own for the rows that are left (:func:`rows_key`).

    A solver that fails leaves its group the last weights (at first those of the sum), and says so once.

    Args:
        method: How to weigh.
        net: The net, its forks in place.
        seed: Of the method's own draws.
    """

    def __init__(self, method: RowCombiner, net: nn.Module, seed: int = 0) -> None:
        super().__init__()
        self.method, self.seed = method, seed
        self.jacobian = Jacobian(net, method.shared, lean=method.lean)
        self.refreshed = None
        if method.every > 1 or method.part < 1:
            self.refreshed = RefreshedWeights(self.jacobian, every=method.every, part=method.part)
        self.weights: dict[Key, Tensor] = {}
        self.weightings: dict[Key, Weighting] = {}
        self.steps = 0
        self.warned = False

    def forward(self, losses: Sequence[Tensor], step: Step, backward: Backward) -> None:
        """Add a gradient to ``.grad`` of every parameter."""
        if self.refreshed is not None:
            self.refreshed(losses, step, backward, partial(self.weigh, present=step.present))
        else:
            for block in self.jacobian.blocks(losses, step, backward):
                block.combine(self.weigh(block, step.present))
        self.steps += not step.more

    def weigh(self, block: RowBlock | LeanBlock, present: Sequence[int]) -> Tensor:
        """Find a group's weights ``[m]``, float64 on the CPU, in a step where these outputs are present.

        They are infinite, and the memory is left alone, where the Gramian is not finite: an overflow under
        fp16 must reach ``.grad``, so that the step is skipped.
        """
        gramian, owners = block.gramian(), block.owners
        if not bool(gramian.isfinite().all()):
            return torch.full((len(owners),), torch.inf, dtype=torch.float64)
        is_nonzero = gramian.diagonal() > 0  # a row of zeros has no direction to weigh, and would end MGDA's
        rows = tuple(owner for owner, nonzero in zip(owners, is_nonzero.tolist(), strict=True) if nonzero)
        weights = torch.ones(len(owners), dtype=torch.float64)
        if rows:
            part = gramian[is_nonzero][:, is_nonzero]
            key, seed = rows_key(rows, block.group), seed_key(rows, block.group, present)
            weights[is_nonzero] = self._weights_of(part, key, seed)
        return weights

    def _weights_of(self, gramian: Tensor, key: Key, seed: Key) -> Tensor:
        """Find the weights ``[m]`` of rows that are not zero; the last ones where the solver fails."""
        if key not in self.weightings:
            self.weightings[key] = self.method.weighting()
        last = self.weights.get(key, self.method.plain(len(gramian)))
        weights = last
        try:
            with seeded(gramian.device, self.seed, self.steps, seed):
                solved = self.weightings[key](gramian, last)
            if not bool(solved.isfinite().all()):
                raise SolverFailure("the weights are not finite")
            weights = solved
        except (SolverFailure, np.linalg.LinAlgError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
            self._warn(error)
        self.weights[key] = weights
        return weights

    def _warn(self, error: Exception) -> None:
        if not self.warned:
            self.warned = True
            warnings.warn(
                f"{type(self.method).__name__} found no weights at step {self.steps + 1} ({error}); "
                "it keeps the last ones, and will do so in silence from here on",
                RuntimeWarning,
                stacklevel=3,
            )

    def get_extra_state(self) -> dict[str, Any]:
        """Number of steps, last weights and state of each group's weighting, for a checkpoint."""
        states = {key: w.state() for key, w in self.weightings.items() if hasattr(w, "state")}
        return {"steps": self.steps, "weights": dict(self.weights), "states": states}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the steps, the weights and the weightings' states from a checkpoint.

        Raises:
            ValueError: They are none, or not finite.
        """
        check_whole(state["steps"], "steps", 0)
        for key, weights in state["weights"].items():
            check_like(weights, self.method.plain(_rows(key)), f"weights of {shown(key)}")
        check_finite(state["states"], "states")
        self.steps, self.weights = state["steps"], dict(state["weights"])
        self.weightings = {owners: self.method.weighting() for owners in state["states"]}
        for owners, saved in state["states"].items():
            self.weightings[owners].load(saved)  # type: ignore[attr-defined]
