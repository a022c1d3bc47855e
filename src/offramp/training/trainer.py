"""The epochs of a run: steps, validation, log, checkpoints, and an orderly stop."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from offramp.errors import UserError
from offramp.loops import Minibatch
from offramp.methods import Method
from offramp.nets import Net
from offramp.running import Running
from offramp.training import checkpoint, processes
from offramp.training.display import Display
from offramp.training.evaluation import evaluate_split
from offramp.training.interrupt import Interrupted, Signals, catch_signals
from offramp.training.launch import place
from offramp.training.log import Log
from offramp.training.optimizer import build_optimizer
from offramp.training.recipe import Recipe
from offramp.training.schedule import learning_rate
from offramp.training.state import State, capture, restore
from offramp.training.watch import Watch, weights_trouble

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricOptimizer

    from offramp.data import ImageData

__all__ = ["Trainer"]

# Steps between looks at the losses, where looking makes the host wait for an accelerator or another process.
LOOK_EVERY = 20


class Trainer:
    """Takes a prepared net to the end of its recipe, from the start or from the last checkpoint.

    Args:
        net: As the method prepared it.
        data: Training and validation sets.
        method: The method.
        recipe: How to train.
        fabric: Device, precision, processes.
        folder: Run folder, or None to keep nothing.
        quiet: Show no progress.
    """

    def __init__(
        self,
        net: Net,
        data: ImageData,
        method: Method,
        recipe: Recipe,
        fabric: Fabric,
        folder: Path | None,
        *,
        quiet: bool,
    ) -> None:
        from offramp.data import pipeline

        self.net, self.data = net, data
        self.recipe, self.fabric, self.folder = recipe, fabric, folder
        self.transform, self.val_transform = pipeline(recipe.augment, data)
        self.share = recipe.batch_size // fabric.world_size
        self.steps = data.train.num_batches(self.share, drop_last=True, world=fabric.world_size)
        model = place(net, recipe, fabric, plain_backward="losses" in method.needs)
        self.running = Running(method, net, recipe.seed).to(fabric.device)
        self.optimizer = build_optimizer(nn.ModuleList([net, self.running]), recipe)
        stepper = fabric.setup_optimizers(self.optimizer)
        self.loop = Minibatch(
            model=model,
            net=net,
            running=self.running,
            optimizer=cast("_FabricOptimizer", stepper),
            fabric=fabric,
            epochs=recipe.epochs,
            compiled=recipe.compile,
            label_smoothing=recipe.label_smoothing,
            clip=recipe.clip,
        )
        self.state = State.start(net.num_exits, fabric.device)
        self.signals = Signals()
        self.saved: Path | None = None
        self.watch = Watch(net.num_exits, loss_scaling=recipe.precision == "fp16", device=fabric.device)
        self.look_every = 1 if fabric.device.type == "cpu" and fabric.world_size == 1 else LOOK_EVERY
        self.quiet = quiet or not fabric.is_global_zero

    @property
    def _steps_done(self) -> int:
        return self.state.epoch * self.steps + self.state.step

    def train(self) -> None:
        """Run the epochs that are left.

        Raises:
            UserError: A loss is no longer finite, a checkpoint cannot be read, or the disk is full.
            Interrupted: SIGINT or SIGTERM came, and a checkpoint was written.
        """
        self._restore()
        with contextlib.ExitStack() as stack:
            log = None
            if self.folder is not None:
                self.signals = stack.enter_context(catch_signals())
                log = Log(self.folder, self.state.epoch) if self.fabric.is_global_zero else None
            display = stack.enter_context(
                Display(self.recipe.epochs, self.steps, done=self._steps_done, quiet=self.quiet)
            )
            while self.state.epoch < self.recipe.epochs:
                self._epoch(display)
                row = self._row()
                self.state.next_epoch(row)
                if log is not None:
                    log.write(self.state.rows)
                self._save()
                display.epoch(row)
                self._look()

    def _epoch(self, display: Display) -> None:
        state, recipe = self.state, self.recipe
        batches = self.data.train.batches(
            self.share,
            transform=self.transform,
            device=self.fabric.device,
            seed=recipe.seed,
            epoch=state.epoch,
            start=state.step,
            shuffle=True,
            drop_last=True,
            rank=self.fabric.global_rank,
            world=self.fabric.world_size,
        )
        self.net.train()
        began = time.perf_counter() - state.seconds
        for images, targets in batches:
            losses = self._step(images, targets)
            self.watch.see(losses, self._steps_done)
            state.add(losses)
            state.seconds = time.perf_counter() - began
            display.step(state.epoch, state.step * recipe.batch_size / state.seconds)
            signalled = self.signals.received and self.fabric.world_size == 1
            if state.step % self.look_every == 0 or state.step == self.steps or signalled:
                self._look()
            if recipe.checkpoint_every and state.step % recipe.checkpoint_every == 0:
                self._save()

    def _step(self, images: Tensor, targets: Tensor) -> Tensor:
        recipe, done = self.recipe, self._steps_done
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, done, self.steps)
        if recipe.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        progress = done / (recipe.epochs * self.steps)
        return self.loop.step(images, targets, epoch=self.state.epoch, progress=progress)

    def _row(self) -> dict[str, float]:
        val = None
        if len(self.data.val):
            val = evaluate_split(
                self.net, self.data.val, self.val_transform, self.recipe.batch_size, self.fabric
            )
        images = self.steps * self.recipe.batch_size
        return self.state.row(lr=self._lr(), images=images, val=val, fabric=self.fabric)

    def _lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def _check(self, trouble: str | None) -> None:
        if trouble:
            fp32 = "" if self.recipe.precision == "fp32" else ", in fp32"
            folder = " into another folder" if self.folder else ""  # to resume would repeat it
            kept = f"; the last good checkpoint, {self.saved}, stands" if self.saved else ""
            raise UserError(
                f"{trouble} (lr {self._lr():.3g}): train anew{folder} with a lower lr{fp32} "
                f"or with clip, e.g. clip=1{kept}"
            )

    def _look(self) -> None:
        """Stop if a loss went bad, or in good order if a signal came to any process."""
        self._check(self.watch.trouble(self.steps))
        if signum := processes.highest(self.signals.received, self.fabric):
            self._save()
            name, state = signal.Signals(signum).name, self.state
            raise Interrupted(
                signum,
                f"stopped by {name} at epoch {state.epoch + 1} after step {state.step}; "
                f"go on with the run in {self.folder} by resume=True (--resume)",
            )

    def _save(self) -> None:
        """Write a checkpoint, unless it would be a bad one."""
        if self.folder is None:
            return
        self._check(self.watch.trouble(self.steps) or weights_trouble(self.net))
        state = capture(self.state, self.running, self.optimizer, self.fabric)
        if self.fabric.is_global_zero:
            self.saved = checkpoint.save(self.folder, self.net, state)
        self.fabric.barrier()

    def _restore(self) -> None:
        """Go to the last checkpoint; write the first one if there is none."""
        found = None if self.folder is None else checkpoint.last(self.folder)
        self.fabric.barrier()  # all processes have looked before one writes
        if found is None:
            return self._save()
        self.state = restore(checkpoint.load(found, self.net), self.running, self.optimizer, self.fabric)
        self.saved = found
