"""A method bound to a net for a loop of the user's own: losses of a batch, and one call to go backward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from offramp.checks import is_number
from offramp.distributed.collectives import mean, world_size
from offramp.errors import UserError, shown
from offramp.methods._handed_over import (
    OwnLosses,
    backward_of,
    batch_of,
    check_even,
    whole_of,
)
from offramp.methods.bound import BoundMethod, MethodParts
from offramp.methods.combiners.jacobian import average_gradients
from offramp.tasks import Task

__all__ = ["OwnLoopMethod"]


class OwnLoopMethod(BoundMethod):
    """A method at work on one net, made by :meth:`Method.bind <offramp.methods.Method.bind>`.

    Its parameters are what the method learns beside the net (log variances, adapters), for the optimiser to
    train too; its state is what the method remembers from step to step. The net is in neither.

    Args:
        method: The method.
        net: The net, its forks in place.
        seed: Of what the method draws by itself.
        model: What to call in the net's stead, such as the compiled net.

    Attributes:
        net: The net.

    Raises:
        UserError: As :class:`~offramp.methods.bound.BoundMethod`.
    """

    def __init__(self, method: MethodParts, net: nn.Module, seed: int, model: Callable[..., Any]) -> None:
        super().__init__(method, net, seed)
        self._model = (model,)  # in a tuple, since it is no part of this module
        self._forks = tuple(getattr(net, "forks", ()))
        self._when: tuple[int, int] | None = None
        self._done = 0.0  # share of the batch whose micro-batches have gone backward
        self._present: list[int] = []  # the outputs that have a target in these
        self._has_optimizer = not self.brings_optimizer

    def progress(self, epoch: int, epochs: int) -> None:
        """Say how far the training is, at the beginning of each epoch; some methods' losses depend on it.

        Args:
            epoch: Whole epochs done.
            epochs: How many there will be.

        Raises:
            UserError: No such epoch.
        """
        if epochs < 1:
            raise UserError(f"epochs is {epochs}, must be 1 or more: how many the training has")
        if not 0 <= epoch < epochs:
            raise UserError(f"epoch is {epoch}, must be 0 to {epochs - 1}: how many are done")
        self._when = epoch, epochs

    def optimizer(self, optimizer: torch.optim.Optimizer, clip: float = 0.0) -> torch.optim.Optimizer:
        """Make what takes the steps of an optimiser: for most methods the optimiser itself.

        Call it before the first backward pass, for ``adatask``; for other methods you may leave it out.

        Args:
            optimizer: A new one over the net's parameters and this module's.
            clip: Largest norm of each loss's gradient; 0 leaves it alone. For an optimiser of the method's
                own, where one cannot clip between backward pass and step. Others leave it to you.

        Raises:
            UserError: The method needs another optimiser, or the norm is none.
        """
        if not is_number(clip) or clip < 0:
            raise UserError(f"clip is {shown(clip)}, must be a number of 0 or more: the largest norm")
        made = super().optimizer(optimizer, clip)
        self._has_optimizer = True
        return made

    def losses(
        self, inputs: Any, targets: Any = None, *, whole: Any = None, share: float = 1.0, more: bool = False
    ) -> OwnLosses:
        """Run the net on a batch.

        Args:
            inputs: What the net reads; or a :class:`~offramp.data.Batch`, which has its targets.
            targets: A Tensor, if all outputs have targets in common; or key of a task's target -> Tensor,
                without the keys that no sample has a target for: ``{}`` where there is none at all.
            whole: Targets of the whole batch, in the form of ``targets``, if this is a micro-batch of it; or
                the whole :class:`~offramp.data.Batch`.
            share: The micro-batch's share (0 to 1) of the samples, in place of ``whole``, where every
                sample counts as much as every other.
            more: Whether other micro-batches of the same batch follow.

        Returns:
            A list of scalars in the graph, one for each output that has a target in some process; of none,
            no scalars. To add to a loss, assign the sum to its place: ``losses[0] = losses[0] + penalty``.

        Raises:
            UserError: Targets that are of no task; a method whose losses depend on the epoch, before
                :meth:`progress`; a micro-batch for a method that needs whole batches, or one whose samples
                count differently, without ``whole``; or other forks on the net than the method's.
        """
        net, model = self.net, self._model[0]
        if tuple(getattr(net, "forks", ())) != self._forks:
            raise UserError(
                f"the net's forks are no longer those that {shown(self.method.name)} was bound to; bind it "
                "anew"
            )
        if self._when is None and (self.method.reads_epochs or "epoch" in self.needs):
            what = " and ".join(self.method.reads_epochs) or "what is learned"
            raise UserError(
                f"{what} of {shown(self.method.name)} depends on the epoch; "
                "call progress(epoch, epochs) at the beginning of each"
            )
        outputs: Mapping[str, Task] = net.outputs  # type: ignore[assignment]
        batch = batch_of(inputs, targets, outputs)
        if whole is not None:
            whole, share = whole_of(whole, batch, share, outputs)
        self._check_micro_batch(share, more=more)
        epoch, epochs = self._when or (0, 1)
        # a wrapped forward pass may copy what it returns, and the copies lead nowhere
        plain = model is net and "forward" not in vars(net) and net._compiled_call_impl is None
        step = self.step(
            batch,
            _as_now(model, next(net.parameters()).device),
            [*outputs.values()],
            reach={"features", "trunk"} if plain else {"features"},
            share=share,
            whole=whole,
            more=more,
            epoch=epoch,
            epochs=epochs,
            progress=epoch / epochs,
            average=mean if world_size() > 1 else None,
            processes=world_size(),
        )
        if len(step.outputs) != len(step.tasks):
            raise UserError(
                f"{type(net).__name__} returns {len(step.outputs)} outputs and names {len(step.tasks)} in "
                "`outputs`; give each Tensor that forward returns a name and a task"
            )
        if share < 1 and whole is None:
            check_even(step)
        return OwnLosses(self.losses_of(step), step)

    def backward(
        self,
        inputs: Any,
        targets: Any = None,
        *,
        whole: Any = None,
        share: float = 1.0,
        more: bool = False,
        run: Callable[[Tensor], Any] | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> Tensor:
        """Add the method's gradient to ``.grad`` of the net's parameters and of this module's.

        Over several processes the gradient is averaged, whether or not the net is wrapped for it. With
        micro-batches it is there after the last one. A batch without any target adds none.

        Args:
            inputs: What :meth:`losses` returned; or inputs as it takes them.
            targets: As in :meth:`losses`.
            whole: As in :meth:`losses`.
            share: As in :meth:`losses`.
            more: As in :meth:`losses`.
            run: What goes backward from a loss, such as ``accelerator.backward`` or Lightning's
                ``self.manual_backward``; by default ``Tensor.backward``. It is called once; with
                rotograd before that on a 1 too, for the scale.
            scaler: A GradScaler, instead of ``run``: gradients are left at its scale.

        Returns:
            The losses without gradient, ``[K]``; not a number for an output without a target. Of several
            processes or micro-batches, the part of these samples.

        Raises:
            UserError: As :meth:`losses`; nothing that the losses reach is trainable; or micro-batches that do
                not make up a batch; or :meth:`optimizer` has not been called where it must be.
        """
        if not self._has_optimizer:
            raise UserError(
                f"{shown(self.method.name)} takes its steps by an optimiser of its own; make it before the "
                "first backward pass: optimizer = method.optimizer(torch.optim.Adam(...))"
            )
        if isinstance(inputs, OwnLosses):
            if targets is not None or whole is not None or share != 1 or more:
                raise UserError("losses bring their targets, whole, share and more; give these to losses()")
            losses = inputs
        else:
            losses = self.losses(inputs, targets, whole=whole, share=share, more=more)
        step = losses.step
        losses.check()
        done = self._done + step.share
        if step.more != (done < 1 - 1e-4) or done > 1 + 1e-4:
            # what the parts of an unfinished batch have left must not reach another one
            raise UserError(
                f"micro-batches with shares of {done:g} in all, the last one with more={step.more}; shares "
                "add up to 1, and all but the last say more=True (to leave a batch unfinished, bind anew)"
            )
        if self._done and self._present != step.present:
            raise UserError(
                "the micro-batches of a batch have targets for other outputs each; give all of them the "
                "targets of the whole batch by whole=... (to leave this batch unfinished, bind anew)"
            )
        self._done, self._present = (done if step.more else 0.0), step.present
        if not losses:
            return losses.values()
        device = next(self.net.parameters()).device
        reads_scale = "losses" not in self.needs or len(self.rotations) > 0
        backward = backward_of(run, scaler, device, probe=reads_scale)
        with torch.autocast(device.type, enabled=False):  # it would round what weights are made of
            losses.spent = True
            self.combine(losses, step, backward)
        if not step.more and "losses" in self.needs:  # rows are averaged by the combiner
            average_gradients(self.net, backward)
        return losses.values()

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load what :meth:`state_dict` gave.

        Raises:
            UserError: It is the state of another method, or of this one on another net.
        """
        own = self.state_dict()
        shapes = {key: getattr(value, "shape", None) for key, value in own.items()}
        if strict and shapes != {key: getattr(value, "shape", None) for key, value in state_dict.items()}:
            raise UserError(
                f"the state holds {', '.join(state_dict) or 'nothing'}, and {shown(self.method.name)} on "
                f"this net has {', '.join(own) or 'none'}; give the state of the same method on such a net"
            )
        return super().load_state_dict(state_dict, strict, assign)

    def _check_micro_batch(self, share: float, *, more: bool) -> None:
        if more and share == 1:
            raise UserError(
                "more=True says that other micro-batches follow, and these samples are the whole batch; "
                "leave more out, or give the whole batch's targets by whole=..., or a share below 1"
            )
        if not 0 < share <= 1:
            raise UserError(
                f"share is a micro-batch's part of its batch, above 0 and below 1; got {shown(share)}"
            )
        if share < 1 and self.method.whole_batch:
            raise UserError(
                f"{shown(self.method.name)} needs whole batches, since "
                f"{' and '.join(self.method.whole_batch)}; leave share and more out"
            )


def _as_now(model: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """Wrap a model so that later calls run under the autocast that is on now."""
    kind = device.type
    enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

    def forward(*inputs: Any, **how: Any) -> Any:
        with torch.autocast(kind, dtype, enabled=enabled):
            return model(*inputs, **how)

    return forward if enabled else model
