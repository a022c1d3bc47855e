"""What a user's own loop hands over: batches, losses, wrapped nets and ways to go backward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from offramp.data.batch import Batch
from offramp.data.joint_batch import JointBatch
from offramp.distributed.collectives import mean_all, world_size
from offramp.errors import UserError, shown
from offramp.methods.combiners import Backward
from offramp.methods.objectives import Step
from offramp.nets.inputs import check_inputs
from offramp.nets.net import check_net
from offramp.tasks import Task

__all__ = ["OwnLosses", "backward_of", "batch_of", "unwrap"]


class OwnLosses(list[Tensor]):
    """The losses of a step, a list of scalars, together with the step.

    Attributes:
        step: The batch after the forward pass.
        spent: Whether they have gone backward, which frees their graph.
    """

    def __init__(self, losses: Sequence[Tensor], step: Step) -> None:
        super().__init__(losses)
        self.step = step
        self.spent = False

    def check(self) -> None:
        """Check that a backward pass can start from the losses.

        Raises:
            UserError: There are more or fewer than there were, none depends on anything trainable, or they
                have gone backward already.
        """
        if self.spent:
            raise UserError("these losses have gone backward already; call losses() for each step")
        if len(self) != len(self.step.present):
            raise UserError(
                f"{len(self.step.present)} outputs have a target, and there are {len(self)} losses; "
                "add to a loss in its place: losses[0] = losses[0] + penalty"
            )
        if self and not any(loss.requires_grad for loss in self):
            raise UserError(
                "no loss depends on anything trainable; unfreeze a part of the net with "
                "requires_grad_(True), and call losses() outside of torch.no_grad()"
            )

    def values(self) -> Tensor:
        """The losses without gradient, ``[K]``; not a number for an output without a target."""
        if not self:
            return torch.full((len(self.step.outputs),), torch.nan, device=self.step.outputs[0].device)
        losses = torch.stack(list(self)).detach()
        if len(losses) == len(self.step.outputs):
            return losses
        values = losses.new_full((len(self.step.outputs),), torch.nan)
        values[self.step.present] = losses
        return values


def batch_of(inputs: Any, targets: Any, outputs: Mapping[str, Task]) -> Batch:
    """A batch of what a data loader gives.

    Args:
        inputs: What the net reads, or a whole batch.
        targets: A Tensor, a mapping from target key to Tensor, or None with a whole batch.
        outputs: The net's.

    Raises:
        UserError: A Tensor for several targets, or keys that are no task's while a task lacks its own.
    """
    keys = list(dict.fromkeys(task.target for task in outputs.values()))
    given = inputs.inputs if isinstance(inputs, Batch) else inputs
    check_inputs(given, "" if given is not inputs else ", or an offramp.data.Batch")
    if isinstance(inputs, Batch):
        if targets is not None:
            raise UserError("a Batch brings its targets; leave the second argument out")
        batch = inputs
    elif isinstance(targets, Mapping):
        batch = Batch(inputs, targets)
    elif isinstance(targets, Tensor) and len(keys) == 1:
        batch = Batch(inputs, {keys[0]: targets})
    elif isinstance(targets, Tensor):
        raise UserError(f"the outputs have several targets; give a mapping with the keys {', '.join(keys)}")
    elif isinstance(inputs, list) and targets is None:
        raise UserError(
            "a list of losses does not say which step it comes from; give backward() the very list that "
            "losses() returned, changed in place where you add to it"
        )
    else:
        raise UserError(
            f"targets are a Tensor or a mapping from {', '.join(keys)} to one, got {type(targets).__name__}"
        )
    for key, target in batch.targets.items():
        if not isinstance(target, Tensor):
            raise UserError(
                f"the target {shown(key)} is {shown(target)} and no Tensor; leave the key out where no "
                "sample has it"
            )
    lacking = [key for key in keys if key not in batch.targets]
    others = [str(key) for key in batch.targets if key not in keys]
    if lacking and others:
        raise UserError(
            f"the net's outputs look for {', '.join(keys)} among the targets, "
            f"and the batch has {', '.join(map(str, batch.targets))}; use the same keys"
        )
    return batch


def whole_of(
    whole: Any, batch: Batch, share: float, outputs: Mapping[str, Task]
) -> tuple[Mapping[str, Tensor], float]:
    """The targets of a whole batch, and a micro-batch's share of its samples.

    Args:
        whole: A Tensor, a mapping from target key to Tensor, or a whole batch.
        batch: The micro-batch.
        share: Its share as given; 1: not given.
        outputs: The net's.

    Raises:
        UserError: A share is given too, or the micro-batch is no part of such a batch.
    """
    if share != 1:
        raise UserError("whole and share both say what share of the batch this is; give one of them")
    full_batch = whole if isinstance(whole, Batch) else batch_of(batch.inputs, whole, outputs)
    sizes = {len(target) for target in full_batch.targets.values()} or {len(full_batch)}
    if isinstance(full_batch, JointBatch):  # of which each target has its own
        sizes = {len(full_batch)}
    if whole is not full_batch and not full_batch.targets:
        raise UserError("without targets whole does not say how many samples there are; give the whole Batch")
    if not batch.targets.keys() <= full_batch.targets.keys() or len(sizes) > 1 or max(sizes) < len(batch):
        raise UserError(
            f"whole are the targets of all samples of the batch, for {', '.join(batch.targets)}, "
            f"of which these {len(batch)} samples are a part; got "
            + (", ".join(f"{key} of {len(target)}" for key, target in full_batch.targets.items()) or "none")
        )
    return full_batch.targets, len(batch) / max(sizes)


def check_even(step: Step) -> None:
    """Check that every sample of a micro-batch counts 1, so that its share is that of the samples.

    Raises:
        UserError: They count differently.
    """
    for k, task in enumerate(step.tasks):
        if task.target in step.targets and bool((step.weights(k) != 1).any()):
            raise UserError(
                f"samples count differently by their {shown(task.target)}, so that a micro-batch's share of "
                "them does not say how much it counts; give the whole batch's targets by whole=..., and no "
                "share"
            )


def backward_of(
    run: Callable[[Tensor], Any] | None,
    scaler: torch.amp.GradScaler | None,
    device: torch.device,
    *,
    probe: bool,
) -> Backward:
    """A backward pass as the user's framework does it.

    Args:
        run: Goes backward from a scalar.
        scaler: Scales losses, instead.
        device: Of the net.
        probe: Whether the scale of ``run`` is needed: then a scalar of its own goes back.

    Raises:
        UserError: Both are given.
    """
    average = (lambda tensor: mean_all([tensor])) if world_size() > 1 else None
    if run is not None and scaler is not None:
        raise UserError("give backward() either run or a scaler; what run calls does the scaling itself")
    if scaler is not None:
        run = lambda loss: scaler.scale(loss).backward()  # noqa: E731
    if run is None:
        return Backward(average=average)
    scale = 1.0
    if probe:
        unit_loss = torch.ones((), device=device, requires_grad=True)
        run(unit_loss.clone())
        if unit_loss.grad is None:
            raise UserError(
                "run= did not call backward() of its argument; give e.g. run=accelerator.backward"
            )
        scale = float(unit_loss.grad)
    return Backward(run, scale, average)


def unwrap(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The net inside a wrapped model, and the module to call for its forward pass.

    Data parallelism is left out of the call, since gradients are averaged without it.

    Args:
        model: The net, perhaps in DistributedDataParallel, or compiled.

    Raises:
        UserError: It is no net with outputs.
    """
    if not isinstance(model, nn.Module):
        check_net(model, "net")  # which refuses it
    while isinstance(model, DistributedDataParallel):
        model = model.module
    net = getattr(model, "_orig_mod", model)  # of torch.compile
    while isinstance(net, DistributedDataParallel):
        net = model = net.module
    if any(type(p).__name__ in ("DTensor", "FlatParameter") for p in net.parameters()):
        raise UserError(
            "the net is sharded over processes (FSDP or a DTensor), and methods need whole gradients; "
            "bind it unsharded"
        )
    check_net(net, "net")
    return net, model
