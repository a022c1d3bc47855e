"""The epochs of a run: steps, validation, log, checkpoints, and an orderly stop."""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from offramp.data import Batch, JointData, WorkerDied
from offramp.distributed.collectives import first_text, highest
from offramp.errors import UserError
from offramp.forks import folded
from offramp.methods.loops import Losses, Progress
from offramp.methods.regimes import Period
from offramp.nets import Net
from offramp.out_of_memory import out_of_memory_told
from offramp.runs import checkpoint
from offramp.runs.evaluation import Evaluation
from offramp.runs.files import ANEW
from offramp.runs.folder import RunFolder
from offramp.runs.record import check_checkpoint, record_json
from offramp.runs.weights import not_finite
from offramp.say import say
from offramp.signals import no_sigchld_handler
from offramp.stored_values import check_whole
from offramp.tasks.outputs import column
from offramp.training._average import Average
from offramp.training._display import Display
from offramp.training._feed import Feed
from offramp.training._freezing import Freezing
from offramp.training._last_epochs import EndOfTraining
from offramp.training._out_of_memory import StepMemory
from offramp.training._period import context_of, method_of, recipe_of
from offramp.training._placement import place
from offramp.training._plan import Plan
from offramp.training._rehearsal import rehearse
from offramp.training._state import State, capture, check_step, restore
from offramp.training._tasks import tasks_of
from offramp.training._watch import Watch
from offramp.training.batch_size import remedy
from offramp.training.interrupt import Interruption, Signals, catch_signals
from offramp.training.setup import Setup

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Trainer"]

START = Progress(epoch=0, fraction=0.0, lr=0.0)
# Steps between looks at the losses, where looking makes the host wait for an accelerator or another process.
LOOK_EVERY = 20


class Trainer:
    """Takes a prepared net to the end of its recipe, from the start or from the last checkpoint.

    Args:
        net: As the method prepared it.
        setup: Data, method, recipe and transforms of the run.
        fabric: Device, precision, processes.
        folder: What the run keeps.
        freezing: Freezes parts of the net.
        each_epoch: Called after each epoch, in the first process.
        quiet: Show no progress.
    """

    def __init__(
        self,
        net: Net,
        setup: Setup,
        fabric: Fabric,
        folder: RunFolder,
        freezing: Freezing,
        each_epoch: Callable[[], None] | None = None,
        *,
        quiet: bool,
    ) -> None:
        data, method, recipe = setup.data, setup.method, setup.recipe
        self.net, self.data, self.method = net, data, method
        self.recipe, self.fabric, self.folder = recipe, fabric, folder
        self.feed = Feed(data, setup.augment, recipe, fabric, method.loop.held_out)
        self.tasks = tasks_of(net, recipe, data)
        self.columns = [*map(column, self.tasks)]
        self.evaluation = Evaluation(net, self.tasks, setup.clean, recipe.batch_size, fabric)
        place(net, recipe, fabric)
        self.freezing = freezing
        self.average = Average(net, recipe.average) if recipe.average else None
        self.last_epochs = EndOfTraining(recipe, folder.kept_epochs)
        self.state = State.start(len(self.tasks), fabric.device)
        self.signals = Signals()
        self.look_every = 1 if fabric.device.type == "cpu" and fabric.world_size == 1 else LOOK_EVERY
        self.record, self.resumes = setup.record, setup.before is not None
        self.each_epoch = each_epoch if fabric.is_global_zero else None
        self.quiet = quiet or not fabric.is_global_zero
        self.periods = method.regime.periods(recipe.epochs, net)
        self._enter(0)

    def _enter(self, number: int) -> None:
        """Go to a period, given by its index: freeze, bind the method, and start its loop."""
        self.period = period = self.periods[number]
        recipe, fabric, train = recipe_of(period, self.recipe), self.fabric, self.feed.train
        method = method_of(period, self.method)
        context = context_of(self.net, period, method, recipe, self.tasks, self.feed, fabric, self.freezing)
        parts = method.loop.parts * (1 if method.loop.staged else fabric.world_size)
        images = recipe.batch_size // parts // recipe.micro_batches
        self.memory = StepMemory(recipe, method, fabric)
        with out_of_memory_told(lambda: self.memory.told("the first forward pass", min(images, 2))):
            rehearse(context, images, START, remedy(recipe, train, parts))
        self.loop = method.loop.bind(context)
        share = recipe.batch_size // fabric.world_size
        steps = train.num_batches(share, drop_last=True, world=fabric.world_size)
        before = self.periods[:number]
        self.plan = Plan(self.loop.phases, steps, recipe, sum(each.epochs for each in before))
        self.passes_before = sum(each.epochs * self._passes(each) for each in before)
        self.watch = Watch([*self.tasks], loss_scaling=recipe.precision == "fp16", device=fabric.device)

    def _passes(self, period: Period) -> float:
        """Cost of an epoch of a period, in those of joint training, which go over every training sample."""
        if period.passes is None:
            steps = self.method.joint_steps([*self.tasks], self._shares())
        else:
            steps = period.passes.joint(len(self.tasks))
        return (1 - self.method.loop.held_out) * steps

    def _shares(self) -> list[tuple[float, int]]:
        """Of each data set its share of the samples, and how many outputs have targets in it."""
        data = self.data
        if not isinstance(data, JointData):
            return [(1.0, len(self.tasks))]
        lengths = {name: len(part) for name, part in data.train.parts.items()}
        shares = data.streams.shares(lengths, self.recipe.batch_size)
        targets = [task.target for task in self.tasks.values()]
        return [(shares[name], sum(t in keys.values() for t in targets)) for name, keys in data.keys.items()]

    def restore(self) -> None:
        """Go to the last checkpoint of the run to resume, if there is one; nothing is written.

        What is in the folder of a new run by now is another process's, which :meth:`RunFolder.begin` refuses.

        Raises:
            UserError: It cannot be read, or is not of this net and method.
        """
        last_checkpoint = self.folder.find_checkpoint() if self.resumes else None
        self.fabric.barrier()  # all processes have looked before one writes
        if last_checkpoint is None:
            return
        values = self.folder.load(self.net)
        if "record" in values:  # which older versions did not write
            check_checkpoint(last_checkpoint, values["record"], self.record)
        with checkpoint.fitting(last_checkpoint):
            check_whole(values["epoch"], "epoch", 0, self.recipe.epochs)
        if number := self._period_at(values["epoch"]):
            self._enter(number)
        with checkpoint.fitting(last_checkpoint):
            self.state = restore(values, self.state, self.loop, self.fabric)
            steps = [self.plan.steps(phase) for phase in range(len(self.loop.phases))]
            check_step(self.state, steps, self.recipe.epochs, last_checkpoint.name)
            if self.average:
                begun = self.plan.begins > 0 or self.plan.done(self.state) > 0
                self.average.load(values["average"], begun=begun)

    def _period_at(self, epoch: int) -> int:
        """Index of the period that goes on after so many epochs; the last one at the end."""
        ends = itertools.accumulate(period.epochs for period in self.periods)
        return min(sum(end <= epoch for end in ends), len(self.periods) - 1)

    def save_start(self) -> None:
        """Write a first checkpoint, so that there is one from here on.

        Raises:
            UserError: The disk is full, or a weight is not finite.
        """
        if bad := first_text(not_finite(self.net), self.fabric.device):
            raise UserError(f"{bad} of the net is not finite; give a net whose weights are numbers")
        if self.folder.last_checkpoint is None:
            self._save()

    def train(self) -> None:
        """Run the epochs that are left.

        Raises:
            UserError: A loss is no longer finite, the disk is full, or a process that reads data was killed.
            Interruption: SIGINT, SIGTERM or SIGHUP came, and a checkpoint was written.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(no_sigchld_handler())
            if self.folder.path is not None:
                self.signals = stack.enter_context(catch_signals())
                if self.fabric.world_size == 1:
                    stack.enter_context(self.signals.blamed())
            self.folder.open_log(self.state.epoch)
            while self.state.epoch < self.recipe.epochs:
                self._run_period()

    def _run_period(self) -> None:
        """Run the epochs that are left of a period, and go to the next one."""
        plan, ends = self.plan, self.plan.begins + self.period.epochs
        done = plan.begins * plan.total + plan.done(self.state)
        if len(self.periods) > 1 and not self.quiet:
            first = plan.begins + 1
            which = f"epoch {first}" if first == ends else f"epochs {first} to {ends}"
            say(f"{which} of {self.recipe.epochs}: {self.period.name}")
        with Display(self.recipe.epochs, plan.total, done=done, quiet=self.quiet) as display:
            while self.state.epoch < ends:
                for phase in range(self.state.phase, len(plan.phases)):
                    self._run_phase(phase, display)
                    self._end_phase(phase, display)
                self._check_numbers()
                row = self._row()
                self.state.next_epoch(row)
                self.folder.log_epoch(self.state.rows)
                with folded(self.net):
                    self.last_epochs.keep(self.state.epoch, self.net)
                if ends <= self.state.epoch < self.recipe.epochs:
                    self._enter(self._period_at(self.state.epoch))
                self._save()  # which says that the epoch is done
                display.epoch(row)
                if self.each_epoch is not None:
                    self.each_epoch()
                self._look()

    def _run_phase(self, phase: int, display: Display) -> None:
        state, recipe, steps = self.state, self.recipe, self.plan.steps(phase)
        if state.step == 0:
            state.begin_phase()
            self.loop.begin(phase, self.plan.progress(state))
        batches = self.feed.phase(self.loop.phases[phase], state.epoch, state.step, steps)
        began = time.perf_counter() - state.seconds
        for batch in self._read(batches):
            with out_of_memory_told(self._memory_told):
                losses = self.loop.step(phase, batch, self.plan.progress(state))
            if self.period.output is not None:  # the only one of the net that is trained
                losses = Losses(losses.values, [self.period.output] * len(losses.outputs))
            if self.average:
                with folded(self.net):
                    self.average.update()
            self.watch.see(losses, self.plan.done(state))
            state.add(losses)
            state.seconds = time.perf_counter() - began
            seen = (self.plan.before(phase) + state.step) * recipe.batch_size
            display.step(state.epoch, seen / state.seconds)
            signalled = self.signals.received and self.fabric.world_size == 1
            if state.step % self.look_every == 0 or state.step == steps or signalled:
                self._look()
                self.memory.see(self.loop.micro_batches)
            if recipe.checkpoint_every and state.step % recipe.checkpoint_every == 0:
                self._save()
        self.loop.end(phase, self.plan.progress(state))

    def _read(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; where a process that reads them dies, a checkpoint is written first."""
        try:
            yield from batches
        except WorkerDied as death:
            if self.folder.path is None or self.fabric.world_size > 1:  # others are in the step already
                raise
            self._look()
            self._save()
            raise WorkerDied(f"{death}: go on with the run in {self.folder.path} by `resume=True`") from None

    def _end_phase(self, phase: int, display: Display) -> None:
        """If an epoch has several phases, each gets a line of its own, and a checkpoint if others follow."""
        rows = self.state.next_phase(self.loop.phases[phase].name, self.columns)
        if len(self.loop.phases) > 1:
            self.folder.log_phases(self.state.phase_rows)
            for row in rows:
                display.phase(row)
        if phase + 1 < len(self.loop.phases):
            self._save()

    def _row(self) -> dict[str, float]:
        val = {}
        if len(self.data.val):
            metrics = self.evaluation(self.data.val).outputs
            primaries = {name: self.tasks[name].primary for name in metrics}
            val = {f"val_{p}_{column(name)}": metrics[name][p] for name, p in primaries.items()}
        images = self.plan.total * self.recipe.batch_size
        done = self.state.epoch - self.plan.begins + 1
        passes = self.passes_before + done * self._passes(self.period)
        return self.state.row(
            self.columns, lr=self.plan.lr(self.state), images=images, passes=passes, val=val
        )

    def _memory_told(self) -> str:
        samples = self.memory.samples(self.loop.micro_batches)
        return self.memory.told("a training step", samples, self.folder.last_checkpoint)

    def _check(self, trouble: str | None) -> None:
        if trouble := first_text(trouble, self.fabric.device):
            fp32 = "" if self.recipe.precision == "fp32" else ", or in fp32"
            phase = self.loop.phases[min(self.state.phase, len(self.loop.phases) - 1)]
            anew = ANEW if self.folder.path else "train anew"  # to resume would repeat it
            good = self.folder.last_checkpoint
            kept = f"; the last good checkpoint, {good}, stands" if good else ""
            lr = self.plan.lr(self.state)
            raise UserError(f"{trouble} (lr {lr:.3g}): {anew} with {phase.remedy}{fp32}{kept}")

    def _look(self) -> None:
        """Stop if a loss went bad, or in good order if a signal came to any process."""
        self._check(self.watch.trouble(self.plan))
        if signum := highest(self.signals.received, self.fabric.device):
            self._save()
            name, state = signal.Signals(signum).name, self.state
            phase = self.loop.phases[state.phase].name
            epoch = f"epoch {state.epoch + 1}{phase and f', {phase},'}"
            raise Interruption(
                signum,
                f"stopped by {name} at {epoch} after step {state.step}; "
                f"go on with the run in {self.folder.path} by `resume=True`",
            )

    def _check_numbers(self) -> None:
        """Stop if a loss or a weight is no longer finite."""
        bad = not_finite(self.net)
        self._check(self.watch.trouble(self.plan) or (bad and f"{bad} is no longer finite"))

    def _save(self) -> None:
        """Write a checkpoint, unless it would be a bad one."""
        if self.folder.path is None:
            return
        self._check_numbers()
        state = capture(self.state, self.loop, self.fabric)
        state["record"] = record_json(self.record).decode()
        if self.average:
            state["average"] = self.average.tensors
        step = self.plan.before(self.state.phase) + self.state.step
        self.folder.save(self.net, state, step=step)
        self.fabric.barrier()
