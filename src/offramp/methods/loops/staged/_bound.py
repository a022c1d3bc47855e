"""Epochs of Meta-GF and DR-MGF: one phase per output from a common start, then a fusion phase.

DR-MGF, Algorithm 1. The phase of an output trains a copy of the net on this output's loss first, with the
others as auxiliary losses. The fusion trains nothing but the weights of the mean that becomes the net. Given
the common start no output's phase depends on another's, so that processes divide them; where something is
carried from phase to phase instead, one process trains them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from offramp.data.batch import Batch
from offramp.errors import UserError
from offramp.methods.loops.context import LoopContext
from offramp.methods.loops.loop import BoundLoop, Losses, Phase
from offramp.methods.loops.progress import Progress
from offramp.methods.loops.staged._copies import Copies
from offramp.methods.loops.staged._division import Division
from offramp.methods.loops.staged._fusion import Fusion
from offramp.methods.loops.staged._importance import Importance
from offramp.methods.loops.staged._learned_mean import LearnedMean
from offramp.methods.loops.staged._options import StagedLoop
from offramp.methods.loops.staged._output_training import OutputTraining
from offramp.methods.loops.staged.routes import routes_bytes
from offramp.restoring import load_module, load_optimizer, load_precision
from offramp.stored_values import check_like

if TYPE_CHECKING:
    from lightning_fabric.wrappers import _FabricOptimizer

__all__ = ["BoundStagedLoop"]

Factors = Callable[[OutputTraining, int, Progress], list[float]]


class BoundStagedLoop(BoundLoop):
    """A loop of output phases and fusion that trains one net.

    Between two epochs the net is the plain net that is evaluated; in between it is the scratch pad of the
    present phase.

    Args:
        context: The net, the method and the means to train.
        options: Options of the loop.
        owners: Outputs that own each parameter and buffer, by its name.
        mean: Mean that the fusion takes.
        optimizer: What trains the weights of the mean; None if nothing is learned.
        factors: Training, output, progress -> factor of each loss in the output's phase, found before it.
        importance: The importance variables, if the method has any.

    Raises:
        UserError: The outputs share nothing; the objective learns; phases that go in turn meet processes.
    """

    apart = True

    def __init__(
        self,
        context: LoopContext,
        options: StagedLoop,
        *,
        owners: Mapping[str, tuple[int, ...]],
        mean: LearnedMean,
        optimizer: _FabricOptimizer | None,
        factors: Factors,
        importance: Importance | None = None,
    ) -> None:
        self.context, self.options, self.owners = context, options, owners
        self.mean, self.find_factors, self.importance = mean, factors, importance
        self.shared = mean.owners
        weights = {name for name, _ in context.net.named_parameters()}
        starts = {name: options.start if name in weights else options.statistics for name in owners}
        # tensors that an output's phase takes over from the one before; of these, what the fusion does too
        self.carried = {name for name, start in starts.items() if start == "carried"}
        self.carried_on = (self.carried & weights) - self.shared.keys()
        _check(context, options, self.shared)
        outputs = list(range(len(context.tasks)))[:: -1 if options.deepest_first else 1]
        self.division = Division(outputs, context.fabric)
        self.phases = (
            *(_output_phase(output, len(outputs), options) for output in self.division.mine),
            _fusion_phase(len(outputs), options),
        )
        self.training = OutputTraining(context, options, importance, self.division.mine, self.shared)
        self.fusion = Fusion(context, options, mean, optimizer, self.training.taus)
        self.start: dict[str, Tensor] = {}
        self.copies = Copies(owners)
        self.factors: list[float] = []

    def begin(self, phase: int, progress: Progress) -> None:
        if phase == 0:
            self.start = {name: tensor.clone() for name, tensor in self._owned().items()}
            self.copies = Copies(self.owners)
            if self.importance is not None:
                self.importance.fix_defaults()
        output = self._output(phase)
        # what an objective remembers moves in the fusion only: processes may have other outputs' phases each
        self.context.bound.train(output is None)
        if output is None:
            self.division.agree_on_scale()
            self.division.gather(self.copies, self._owned(), self.importance)
            tensors = self.start | self.copies.unfused(self.context.net, self.shared)
            self._put({name: tensor for name, tensor in tensors.items() if name not in self.carried_on})
            self.fusion.begin()
        else:
            if self.division.together(output):
                self.division.agree_on_scale()
            self._put({name: tensor for name, tensor in self.start.items() if name not in self.carried})
            self.factors = self.find_factors(self.training, output, progress)

    def step(self, phase: int, batch: Batch, progress: Progress) -> Losses:
        output = self._output(phase)
        self.context.bound.train(output is None)
        if output is None:
            return self.fusion.step(self.copies, batch, progress)
        together = self.division.together(output)
        return self.training.step(output, self.factors, batch, progress, together=together)

    def end(self, phase: int, progress: Progress) -> None:
        output = self._output(phase)
        if output is None:
            merged = self.copies.statistics(self.context.net) if self.options.merge else {}
            self._put(self.fusion.end(self.copies, progress) | merged)
            self.start, self.copies = {}, Copies(self.owners)
        else:
            self.copies.keep(output, self.training.state_for(output, progress))

    def _output(self, phase: int) -> int | None:
        """Output that a phase trains the net for; None: it is the fusion."""
        return None if phase + 1 == len(self.phases) else self.phases[phase].draw

    def _owned(self) -> dict[str, Tensor]:
        """The net's tensors by name; of tied ones the first name stands for all."""
        return {n: tensor for n, tensor in self.context.net.state_dict().items() if n in self.owners}

    def _put(self, tensors: Mapping[str, Tensor]) -> None:
        """Set tensors of the net, by name."""
        state = self.context.net.state_dict()
        with torch.no_grad():
            for name, tensor in tensors.items():
                state[name].copy_(tensor)

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        """Each optimiser once, in an order that checkpoints rely on."""
        distinct = {id(o.optimizer): o.optimizer for o in self.training.optimizers.values()}
        return [*distinct.values(), *([self.fusion.optimizer.optimizer] if self.fusion.optimizer else [])]

    def state(self) -> dict[str, Any]:
        return {
            "net": dict(self.context.net.state_dict()),
            "method": self.context.bound.state_dict(),
            "start": self.start,
            "copies": self.copies.kept,
            "factors": self.factors,
            "norms": self.training.norms,
            "routes": {} if self.importance is None else dict(self.importance.state_dict()),
            "fusion": self.mean.values(),
            "first": self.fusion.initial,
            "previous": self.fusion.previous,
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers()],
            "precision": self.context.fabric.strategy.precision.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        device = self.context.fabric.device
        # an optimiser moves its own values, but for Adam's count of steps, which stays on the CPU
        moved = {name: value for name, value in state.items() if name != "optimizers"}
        state = {**state, **tree_map_only(Tensor, lambda tensor: tensor.to(device), moved)}
        self._check_state(state)
        self._put(state["net"])
        load_module(self.context.bound, state["method"])
        self.start, self.copies.kept = state["start"], state["copies"]
        self.factors, self.training.norms = state["factors"], state["norms"]
        if self.importance is not None:
            load_module(self.importance, state["routes"])
        self.mean.put(state["fusion"])
        self.fusion.initial, self.fusion.previous = state["first"], state["previous"]
        for optimizer, values in zip(self._optimizers(), state["optimizers"], strict=True):
            load_optimizer(optimizer, values)
        load_precision(self.context.fabric.strategy.precision, state["precision"])

    def _check_state(self, state: Mapping[str, Any]) -> None:
        """Check what a checkpoint holds beside the states of modules and optimisers.

        Raises:
            ValueError: It is of another training, or not finite.
        """
        owned, net, fusion = self._owned(), dict(self.context.net.state_dict()), self.mean.values()
        outputs = {output for held in state["copies"].values() for output in held}
        owners = {name: outputs.intersection(self.owners[name]) for name in owned}
        copies = {name: dict.fromkeys(held, owned[name]) for name, held in owners.items() if held}
        kept: dict[str, tuple[Any, bool]] = {  # what is there now, and whether it is always there
            "net": (net, True),
            "start": (owned, bool(copies)),
            "copies": (copies, True),
            "factors": ([1.0] * len(self.context.tasks), False),
            "norms": ({"epoch": 0, "values": [0.0] * len(self.context.tasks)}, False),
            "fusion": (fusion, True),
            "first": (fusion, False),
            "previous": (fusion, False),
        }
        for name, (now, always) in kept.items():
            found = state[name]
            empty = type(now)()
            check_like(found, now if always or found != empty else empty, name)
        if any(value < 0 for value in (*state["factors"], *state["norms"].get("values", ()))):
            raise ValueError("a factor or a norm is below 0")

    def files(self) -> dict[str, bytes]:
        if self.importance is None:
            return {}
        return {"routes.safetensors": routes_bytes(self.importance, self.mean)}


def _output_phase(output: int, outputs: int, options: StagedLoop) -> Phase:
    name = f"stage {output + 1}/{outputs}"  # the papers' word
    return Phase(name, options.stage_share(outputs), draw=output, draws=outputs + 1, whole=True)


def _fusion_phase(outputs: int, options: StagedLoop) -> Phase:
    remedy = "a lower fusion_lr, or a lower lr of the stages before it"
    return Phase(
        "fusion", options.fusion_fraction, draw=outputs, draws=outputs + 1, whole=True, remedy=remedy
    )


def _check(context: LoopContext, options: StagedLoop, shared: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse what phases from a common start cannot do."""
    if not shared:
        raise UserError(
            "no two outputs of this net share a trainable parameter, so there is nothing to fuse; "
            "train it with the method joint"
        )
    outputs = len(context.tasks)
    if options.stage_share(outputs) > 1:
        raise UserError(
            f"stage_fraction={options.stage_fraction} is more than all images for each of {outputs} outputs; "
            f"give at most {outputs}/K"
        )
    if next(context.bound.parameters(), None) is not None:
        raise UserError(
            "this objective learns layers of its own, which the stages of this loop do not share; "
            "take another objective, e.g. kd, or another loop"
        )
    if context.fabric.world_size > 1 and options.in_turn:
        raise UserError(
            "these stages go in turn and cannot be shared out; train in one process, "
            "or give `gate='own', optimizers='per-task', start='common', statistics='common'`"
        )
