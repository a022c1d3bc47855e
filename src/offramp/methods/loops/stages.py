"""K stages from a common start, one per task, and the pass that fuses what they leave behind.

The shape of Meta-GF and DR-MGF (DR-MGF, Algorithm 1). A stage trains a copy of the net on its own task first
and on the others by the way. The pass after the stages trains nothing but the weights of the mean that
becomes the net. Given the common start no stage depends on another, so that processes share them out.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_map_only

from offramp.data.batch import Batch
from offramp.distributed.collectives import broadcast
from offramp.errors import UserError
from offramp.methods.loops.context import LoopContext
from offramp.methods.loops.copies import Copies, owners_of_state
from offramp.methods.loops.fusing import Fusing
from offramp.methods.loops.loop import BoundLoop, Losses, Phase, Progress
from offramp.methods.loops.route import routes_bytes
from offramp.methods.loops.stage import Stage
from offramp.methods.loops.staged import Staged

__all__ = ["Stages"]


class Stages(BoundLoop):
    """A loop of stages and fusion at work.

    Between two epochs the net is the plain net that is evaluated; in between it is the scratch pad of the
    present stage.

    Args:
        context: Net, method and means.
        options: What the loop decides.

    Raises:
        UserError: The outputs share nothing; the objective learns; stages that go in turn meet processes.
    """

    apart = True

    def __init__(self, context: LoopContext, options: Staged) -> None:
        self.context, self.options = context, options
        net, fabric = context.net, context.fabric
        self.owners = owners_of_state(net)
        shared = {name: self.owners[name] for name, _ in net.named_parameters() if len(self.owners[name]) > 1}
        _check(context, options, shared)
        tasks = list(range(len(net.outputs)))[:: -1 if options.deepest_first else 1]
        whole = len(tasks) - len(tasks) % fabric.world_size
        # each process takes every N-th of the stages; what does not divide, all do together
        self.holder = {task: place % fabric.world_size for place, task in enumerate(tasks[:whole])}
        apart = [task for task, rank in self.holder.items() if rank == fabric.global_rank]
        mine = apart + tasks[whole:]
        self.phases = (
            *(
                Phase(
                    f"stage {task + 1}/{len(tasks)}", options.stage_fraction, task, len(tasks) + 1, whole=True
                )
                for task in mine
            ),
            Phase(
                "fusion",
                options.fusion_fraction,
                len(tasks),
                len(tasks) + 1,
                whole=True,
                remedy="a lower fusion_lr, or a lower lr of the stages before it",
            ),
        )
        self.shared = shared
        self.routes = options.routes(context, self.owners)
        self.stage = Stage(context, options, self.routes, mine, shared)
        self.fusion = options.fusion(context, shared, self.routes)
        self.fusing = Fusing(context, options, self.fusion, self.stage.taus)
        self.start: dict[str, Tensor] = {}
        self.copies = Copies(self.owners)
        self.factors: list[float] = []

    def begin(self, phase: int, progress: Progress) -> None:  # noqa: D102
        if phase == 0:
            # of tied tensors the first name stands for all
            state = self.context.net.state_dict()
            self.start = {name: tensor.clone() for name, tensor in state.items() if name in self.owners}
            self.copies = Copies(self.owners)
            if self.routes is not None:
                self.routes.settle()
        task, fusing = self.phases[phase].draw, phase + 1 == len(self.phases)
        # stages do not depend on each other: what an objective remembers moves on in the fusion only
        self.context.bound.train(fusing)
        if fusing:
            self._agree()
            self._gather()
            self._put(self.start | self.copies.common(self.context.net, self.shared))
            self.fusing.begin()
        else:
            if task not in self.holder:
                self._agree()
            parameters = dict(self.context.net.named_parameters())
            carried = self.options.statistics == "carried"
            self._put({n: t for n, t in self.start.items() if n in parameters or not carried})
            self.factors = self.options.factors(self.stage, task, progress)

    def step(self, phase: int, batch: Batch, progress: Progress) -> Losses:  # noqa: D102
        fusing = phase + 1 == len(self.phases)
        self.context.bound.train(fusing)
        if fusing:
            return self.fusing.step(self.copies, batch, progress)
        task = self.phases[phase].draw
        return self.stage.step(task, self.factors, batch, progress, together=task not in self.holder)

    def end(self, phase: int, progress: Progress) -> None:  # noqa: D102
        task = self.phases[phase].draw
        if phase + 1 == len(self.phases):
            merged = self.copies.statistics(self.context.net) if self.options.merge else {}
            self._put(self.fusing.end(self.copies, progress) | merged)
            self.start, self.copies = {}, Copies(self.owners)
        else:
            self.copies.keep(task, self.stage.left(task, progress))

    def _put(self, tensors: dict[str, Tensor]) -> None:
        state = self.context.net.state_dict()
        with torch.no_grad():
            for name, tensor in tensors.items():
                state[name].copy_(tensor)

    def _agree(self) -> None:
        """Before they share batches, all processes scale the loss alike."""
        precision = self.context.fabric.strategy.precision
        if self.context.fabric.world_size > 1:
            held = [precision.state_dict()]
            dist.broadcast_object_list(held, 0)
            precision.load_state_dict(held[0])

    def _gather(self) -> None:
        """Every process gets what the others' stages have left."""
        fabric = self.context.fabric
        like = {n: t for n, t in self.context.net.state_dict().items() if n in self.owners}
        self.copies.exchange(like, self.holder)
        if fabric.world_size > 1 and self.routes is not None:
            for task, holder in self.holder.items():
                for nu in self.routes.own(task):
                    broadcast([nu], holder)

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        found = {id(o.optimizer): o.optimizer for o in self.stage.optimizers.values()}
        return [*found.values(), *([self.fusing.optimizer.optimizer] if self.fusing.optimizer else [])]

    def state(self) -> dict[str, Any]:  # noqa: D102
        return {
            "net": dict(self.context.net.state_dict()),
            "method": self.context.bound.state_dict(),
            "start": self.start,
            "copies": self.copies.kept,
            "factors": self.factors,
            "norms": self.stage.norms,
            "routes": {} if self.routes is None else dict(self.routes.state_dict()),
            "fusion": self.fusion.values(),
            "first": self.fusing.first,
            "previous": self.fusing.previous,
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers()],
            "precision": self.context.fabric.strategy.precision.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:  # noqa: D102
        device = self.context.fabric.device
        # an optimiser moves its own values, but for Adam's count of steps, which stays on the CPU
        moved = {name: value for name, value in state.items() if name != "optimizers"}
        state = {**state, **tree_map_only(Tensor, lambda tensor: tensor.to(device), moved)}
        self._put(state["net"])
        self.context.bound.load_state_dict(state["method"])
        self.start, self.copies.kept = state["start"], state["copies"]
        self.factors, self.stage.norms = state["factors"], state["norms"]
        if self.routes is not None:
            self.routes.load_state_dict(state["routes"])
        self.fusion.put(state["fusion"])
        self.fusing.first, self.fusing.previous = state["first"], state["previous"]
        for optimizer, values in zip(self._optimizers(), state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        self.context.fabric.strategy.precision.load_state_dict(state["precision"])

    def files(self) -> dict[str, bytes]:  # noqa: D102
        return {} if self.routes is None else {"routes.safetensors": routes_bytes(self.routes, self.fusion)}


def _check(context: LoopContext, options: Staged, shared: dict[str, tuple[int, ...]]) -> None:
    if not shared:
        raise UserError(
            "no two outputs of this net share a trainable parameter, so there is nothing to fuse; "
            "train it with the method joint"
        )
    if next(context.bound.parameters(), None) is not None:
        raise UserError(
            "this objective learns layers of its own, which stages from a common start would pull apart; "
            "take another objective, e.g. kd, or another loop"
        )
    if context.fabric.world_size > 1 and options.in_turn:
        raise UserError(
            "these stages go in turn and cannot be shared out; train in one process, "
            "or give `gate='own', optimizers='per-task', statistics='common'`"
        )
