"""The Jacobian engine: gradients of each loss on shared parameters, from one forward pass.

Rows cover the parameters with two or more owners (:meth:`MultiExitNet.owners`), in groups
(:mod:`~offramp.methods.combiners.jacobian.groups`), or with ``shared="all"`` every parameter. Every other
parameter gets the plain sum of its owners' gradients; with one owner that is its own loss's.

**Rows** keeps a group's rows until they are combined. With ``shared="per_stage"`` a group is complete when
its stage is: the rows of the stages under way are kept, as few as saves memory
(:mod:`~offramp.methods.combiners.jacobian._cuts`), and a stage's part of the graph is freed with it.

**Lean** keeps K x K numbers: rows are added to the Gramian and dropped, then one weighted backward pass
through the shared part gives the combined gradient, for the price of that pass and of a graph that stays
until then; what a loss has to itself gets its gradient before (:mod:`._stand_ins`), or with the rows. It is
for ``union``, ``first`` and ``all``, whose one vector of weights is known only when the last row is, and pays
where the rows outweigh the graph. With ``per_stage`` the weights differ from stage to stage, so a weighted
pass would be a pass for each loss again, and the rows under way are few already. Where the graph cannot be
cut all rows are there at once, before any is dropped, so that a step without a trunk is one of rows.

**Known weights** take one pass for everything, as the plain sum does (:mod:`._borders`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from offramp.forks.scales import scales_of
from offramp.methods.combiners.backward import Backward
from offramp.methods.combiners.jacobian._borders import borders_of, weighing
from offramp.methods.combiners.jacobian._cuts import choose_cuts
from offramp.methods.combiners.jacobian._passes import plan_passes
from offramp.methods.combiners.jacobian._row_plan import RowPlan, plan_rows
from offramp.methods.combiners.jacobian._run_passes import run_passes
from offramp.methods.combiners.jacobian._stand_ins import fill_private_gradients
from offramp.methods.combiners.jacobian.exit_graph import LossInputs, loss_inputs
from offramp.methods.combiners.jacobian.groups import group_parameters
from offramp.methods.combiners.jacobian.lean_block import LeanBlock, add_weighted_gradient, lean_blocks
from offramp.methods.combiners.jacobian.row_block import RowBlock
from offramp.methods.combiners.jacobian.row_buffer import RowBuffer, average_grads
from offramp.methods.combiners.present import by_output
from offramp.methods.objectives.step import Step
from offramp.nets.plain_weights import check_dense

__all__ = ["Jacobian"]


class Jacobian:
    """Gradient rows of a net's losses, planned once and run at every step.

    ::

        jacobian = Jacobian(net)
        for block in jacobian.blocks(losses, step, backward):
            block.combine(weigh(block.gramian()))

    The losses must be made apart from each other: a list of scalars, not the entries of one Tensor. A forward
    pass that may be compiled goes through
    :func:`~offramp.methods.combiners.jacobian.run_with_lasting_graph`.

    Args:
        net: A module with ``owners()`` and K outputs, its forks in place.
        shared: What counts as shared, one of :data:`~offramp.methods.combiners.jacobian.groups.SCOPES`.
        lean: Keep no rows; not for ``per_stage``.

    Raises:
        UserError: There is no such reading of ``shared``, or a gradient of the net is sparse.
    """

    def __init__(self, net: nn.Module, shared: str = "per_stage", *, lean: bool = False) -> None:
        check_dense(net)
        owned: Mapping[str, frozenset[int]] = net.owners()  # type: ignore[operator]
        self.shared, self.lean = shared, lean and shared != "per_stage"
        self._outputs_of: dict[Tensor, frozenset[int]] = {
            p: owned[name] for name, p in net.named_parameters() if owned.get(name)
        }
        self.groups = group_parameters(self._outputs_of, shared)
        self._cuts: dict[tuple[Any, ...], list[int]] = {}
        self._planned: tuple[list[LossInputs], list[int], RowPlan] | None = None
        self._partial_rows: list[dict[Tensor, Tensor]] | None = None  # of the micro-batches so far

    def blocks(
        self, losses: Sequence[Tensor], step: Step, backward: Backward
    ) -> Iterator[RowBlock] | Iterator[LeanBlock]:
        """Yield each group's rows when they are complete; fill ``.grad`` of what is in no group on the way.

        Take all blocks: the work goes on as they are taken, and it uses the graph up. Of a batch that is cut
        into micro-batches (:attr:`Step.more`) they come with the last one; until then all rows are kept.

        Args:
            losses: One scalar for each output that has a target, in order.
            step: The step they come from; with ``trunk`` the graph is freed stage by stage.
            backward: The loss scale, and how to average over processes. Its ``run`` is not called.

        Raises:
            ValueError: The micro-batches of a batch reach different parameters; or one comes to a lean
                engine, which keeps no rows to add to.
        """
        losses = by_output(losses, step)
        if self.lean and step.trunk is not None:
            return self._lean(losses, step, backward)
        return self._rows(losses, step, backward)

    def drop_unfinished(self) -> None:
        """Forget the rows of micro-batches that others of their batch will not follow."""
        self._partial_rows = None

    def gramians(self, losses: Sequence[Tensor], step: Step, backward: Backward) -> list[LeanBlock]:
        """Inner products of each group's rows; ``.grad`` and the graph are left as they are."""
        losses = by_output(losses, step)
        return self._products(losses, step, self._plan(losses, step), backward)

    def weighted(
        self,
        losses: Sequence[Tensor],
        step: Step,
        backward: Backward,
        weights: Mapping[tuple[int, ...], Mapping[int, float]],
    ) -> None:
        """Fill ``.grad`` from weights that are known, for the price of about one backward pass.

        Args:
            losses: One scalar for each output that has a target, in order.
            step: The step they come from.
            backward: The loss scale, and how to average over processes.
            weights: For the owners of a group the weight of each; what is missing weighs 1.
        """
        losses = by_output(losses, step)
        plan = self._plan(losses, step)
        ones = dict.fromkeys(range(len(losses)), 1.0)
        if len(plan.groups) == 1:
            (group,) = plan.groups
            borders = borders_of(losses, set(group.parameters), set(plan.plain))
            if borders:
                with weighing(borders, weights.get(group.owners, {})):
                    add_weighted_gradient(losses, ones, [*group.parameters, *plan.plain], backward)
                return
        losses, filled = self._fill_private(losses, step, plan, backward)
        self._fill_plain(losses, plan, filled, backward)
        for group in plan.groups:
            known = {**ones, **weights.get(group.owners, {})}
            add_weighted_gradient(
                losses, known, group.parameters, backward, keep_graph=group is not plan.groups[-1]
            )

    def _plan(self, losses: Sequence[Tensor], step: Step) -> RowPlan:
        """Plan which parameters get rows, anew only if the losses read other outputs than before."""
        reaches, present = loss_inputs(losses, step), step.present
        for k in range(len(losses)):
            if k not in present:
                reaches[k] = LossInputs(frozenset({k}), {})  # what it reads where it has a target
        if self._planned is None or self._planned[:2] != (reaches, present):
            self._planned = reaches, present, plan_rows(self._outputs_of, reaches, self.shared, present)
            self._cuts = {}
        return self._planned[2]

    def _trunk(
        self,
        losses: Sequence[Tensor],
        step: Step,
        need: Sequence[Mapping[Tensor, None]],
        *,
        graph_stays: bool,
    ) -> list[Any] | None:
        """Features at which to cut the graph, chosen once for each size of them."""
        if step.trunk is None:
            return None
        # behind frozen stages no gradient flows
        trunk = [feature for feature in step.trunk if any(t.requires_grad for t in scales_of(feature))]
        rows_stay = (self.shared in ("union", "all") or step.share < 1) and not graph_stays
        sizes = ((t.shape, t.dtype) for feature in trunk for t in scales_of(feature))
        key = (graph_stays, rows_stay, *sizes)
        if key not in self._cuts:
            self._cuts[key] = choose_cuts(losses, trunk, need, graph_stays=graph_stays, rows_stay=rows_stay)
        return [trunk[k] for k in self._cuts[key]]

    def _rows(self, losses: Sequence[Tensor], step: Step, backward: Backward) -> Iterator[RowBlock]:
        plan = self._plan(losses, step)
        trunk = self._trunk(losses, step, plan.need, graph_stays=False)
        passes = plan_passes(losses, trunk, plan.need)
        last_pass = {
            id(plan.group_of.get(p)): i for i, planned in enumerate(passes) for p in planned.parameters
        }
        rows = RowBuffer(plan.group_of, losses, backward, self._partial_rows)
        ready = () if step.more else plan.groups
        for i, (done, grads) in enumerate(run_passes(passes, losses, trunk, scale=backward.scale)):
            rows.take(done, grads)
            for group in ready:
                # a group that only micro-batches before have reached is complete from the start
                if last_pass.get(id(group), 0) == i and (owners := rows.owners(group)):
                    parameters = list(group.parameters)
                    yield RowBlock(  # of which nothing stays here: a row is freed as soon as it is used up
                        owners,
                        group.owners,
                        parameters,
                        [rows.pop(j, parameters) for j in owners],
                        backward.scale,
                    )
        self._partial_rows = rows.rows if step.more else None
        if step.more:
            return
        if any(rows.rows):
            raise ValueError("the micro-batches of one batch reach different parameters")
        average_grads(self._net_only(plan.plain), backward)

    def _lean(self, losses: Sequence[Tensor], step: Step, backward: Backward) -> Iterator[LeanBlock]:
        plan = self._plan(losses, step)
        losses, filled = self._fill_private(losses, step, plan, backward)
        rest = [p for p in plan.plain if p not in filled]
        blocks = self._products(losses, step, plan, backward, rest)
        average_grads(self._net_only(plan.plain), backward)
        yield from blocks

    def _fill_private(
        self, losses: Sequence[Tensor], step: Step, plan: RowPlan, backward: Backward
    ) -> tuple[list[Tensor], set[Tensor]]:
        """Fill ``.grad`` of what one loss has to itself, unless that is a part of the rows (``all``)."""
        if self.shared == "all":
            return list(losses), set()
        return fill_private_gradients(losses, step.trunk, plan.need, backward.scale)

    def _fill_plain(
        self, losses: Sequence[Tensor], plan: RowPlan, filled: Collection[Tensor], backward: Backward
    ) -> None:
        """Fill ``.grad`` of the other parameters without rows, and average those of all of them."""
        rest = [p for p in plan.plain if p not in filled]
        ones = dict.fromkeys(range(len(losses)), 1.0)
        add_weighted_gradient(
            losses, ones, rest, dataclasses.replace(backward, average=None), keep_graph=bool(plan.groups)
        )
        average_grads(self._net_only(plan.plain), backward)

    def _products(
        self,
        losses: Sequence[Tensor],
        step: Step,
        plan: RowPlan,
        backward: Backward,
        plain: Sequence[Tensor] = (),
    ) -> list[LeanBlock]:
        """Inner products of each group's rows; the same passes fill ``.grad`` of ``plain`` parameters."""
        if step.share < 1:
            raise ValueError("without rows, those of a batch's micro-batches cannot be added up")
        wanted = {*plan.group_of, *plain}
        need = [{p: None for p in reached if p in wanted} for reached in plan.need]
        trunk = self._trunk(losses, step, need, graph_stays=True)
        return lean_blocks(plan.groups, need, losses, trunk, backward)

    def _net_only(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """The parameters that are the net's: who trains the objective averages the others' gradients."""
        return [p for p in parameters if p in self._outputs_of]
