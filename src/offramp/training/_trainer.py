"""The epochs of a run: steps, validation, log, checkpoints, and an orderly stop."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

from offramp.data import Batch, JointData, WorkerDied
from offramp.distributed.collectives import first_text, highest
from offramp.errors import UserError
from offramp.methods.bound import BoundMethod
from offramp.methods.loops import LoopContext, Progress
from offramp.nets import Net
from offramp.out_of_memory import out_of_memory_told
from offramp.runs import checkpoint
from offramp.runs.evaluation import Evaluation
from offramp.runs.folder import RunFolder
from offramp.runs.record import check_checkpoint, record_json
from offramp.runs.weights import not_finite
from offramp.signals import no_sigchld_handler
from offramp.tasks.outputs import column
from offramp.training._average import Average
from offramp.training._display import Display
from offramp.training._feed import Feed
from offramp.training._groups import grouped
from offramp.training._last_epochs import EndOfTraining
from offramp.training._optimizer import build_optimizer
from offramp.training._out_of_memory import StepMemory
from offramp.training._placement import place
from offramp.training._plan import EpochPlan
from offramp.training._rehearsal import rehearse
from offramp.training._schedule import learning_rate
from offramp.training._state import State, capture, check_step, restore
from offramp.training._tasks import tasks_of
from offramp.training._watch import Watch
from offramp.training.batch_size import remedy
from offramp.training.interrupt import Interruption, Signals, catch_signals
from offramp.training.setup import Setup

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricOptimizer

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
        quiet: Show no progress.
    """

    def __init__(
        self,
        net: Net,
        setup: Setup,
        fabric: Fabric,
        folder: RunFolder,
        *,
        quiet: bool,
    ) -> None:
        data, method, recipe = setup.data, setup.method, setup.recipe
        self.net, self.data = net, data
        self.recipe, self.fabric, self.folder = recipe, fabric, folder
        self.feed = Feed(data, setup.augment, recipe, fabric, method.loop.held_out)
        self.tasks = tasks_of(net, recipe, data)
        self.columns = [*map(column, self.tasks)]
        self.evaluation = Evaluation(net, self.tasks, setup.clean, recipe.batch_size, fabric)
        # DistributedDataParallel waits for the gradient of all that is trained, also of a task that is absent
        every_time = len({task.target for task in self.tasks.values()}) == 1
        one_pass = "losses" in method.needs and "graph" not in method.needs
        plain_backward = one_pass and not method.loop.own_backward and every_time
        model = place(net, recipe, fabric, plain_backward=plain_backward)
        self.bound = BoundMethod(method, net, recipe.seed).to(fabric.device)
        context = LoopContext(
            model=model,
            net=net,
            bound=self.bound,
            fabric=fabric,
            optimizer=self._optimizer,
            batches=self.feed.few,
            outer=self.feed.outer,
            epochs=recipe.epochs,
            seed=recipe.seed,
            compiled=recipe.compile,
            tasks=[*self.tasks.values()],
            clip=recipe.clip,
            accumulate=recipe.accumulate,
        )
        together = 1 if method.loop.staged else fabric.world_size
        images = recipe.batch_size // together // recipe.micro_batches // method.loop.parts
        self.memory = StepMemory(recipe, method, fabric)
        with out_of_memory_told(lambda: self.memory.told("the first forward pass", min(images, 2))):
            rehearse(context, images, START, remedy(recipe, self.feed.train, together * method.loop.parts))
        self.loop = method.loop.bind(context)
        self.average = Average(net, recipe.average) if recipe.average else None
        self.last_epochs = EndOfTraining(recipe, folder.kept_epochs)
        share = recipe.batch_size // fabric.world_size
        steps = self.feed.train.num_batches(share, drop_last=True, world=fabric.world_size)
        self.plan = EpochPlan(self.loop.phases, steps)
        self.passes = method.joint_steps([*self.tasks], self._shares())
        self.state = State.start(len(self.tasks), fabric.device)
        self.signals = Signals()
        self.watch = Watch([*self.tasks], loss_scaling=recipe.precision == "fp16", device=fabric.device)
        self.look_every = 1 if fabric.device.type == "cpu" and fabric.world_size == 1 else LOOK_EVERY
        self.record, self.resumes = setup.record, setup.before is not None
        self.quiet = quiet or not fabric.is_global_zero

    def _shares(self) -> list[tuple[float, int]]:
        """Of each data set its share of the samples, and how many outputs have targets in it."""
        data = self.data
        if not isinstance(data, JointData):
            return [(1.0, len(self.tasks))]
        lengths = {name: len(part) for name, part in data.train.parts.items()}
        shares = data.streams.shares(lengths, self.recipe.batch_size)
        targets = [task.target for task in self.tasks.values()]
        return [(shares[name], sum(t in keys.values() for t in targets)) for name, keys in data.keys.items()]

    def _optimizer(self, parameters: Iterable[Any]) -> _FabricOptimizer:
        groups = grouped(parameters, self.recipe, self.net, self.bound)
        return cast("_FabricOptimizer", self.fabric.setup_optimizers(build_optimizer(groups, self.recipe)))

    @property
    def _steps_done(self) -> int:
        state = self.state
        return state.epoch * self.plan.total + self.plan.before(state.phase) + state.step

    @property
    def _progress(self) -> Progress:
        """Every phase of an epoch takes the learning rate through the same values."""
        whole, phase = self.plan.epoch_steps, self.state.phase
        done = self.state.epoch * whole + self.state.step * whole // self.plan.steps(phase)
        return Progress(
            epoch=self.state.epoch,
            fraction=done / (self.recipe.epochs * whole),
            lr=learning_rate(self.recipe, done, whole),
        )

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
            self.state = restore(values, self.state, self.loop, self.fabric)
            steps = [self.plan.steps(phase) for phase in range(len(self.loop.phases))]
            check_step(self.state, steps, self.recipe.epochs, last_checkpoint.name)
            if self.average:
                self.average.load(values["average"], steps=self._steps_done)

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
            display = stack.enter_context(
                Display(self.recipe.epochs, self.plan.total, done=self._steps_done, quiet=self.quiet)
            )
            while self.state.epoch < self.recipe.epochs:
                for phase in range(self.state.phase, len(self.loop.phases)):
                    self._run_phase(phase, display)
                    self._end_phase(phase, display)
                self._check_numbers()
                row = self._row()
                self.state.next_epoch(row)
                self.folder.log_epoch(self.state.rows)
                self.last_epochs.keep(self.state.epoch, self.net)
                self._save()  # which says that the epoch is done
                display.epoch(row)
                self._look()

    def _run_phase(self, phase: int, display: Display) -> None:
        state, recipe, steps = self.state, self.recipe, self.plan.steps(phase)
        if state.step == 0:
            state.begin_phase()
            self.loop.begin(phase, self._progress)
        batches = self.feed.phase(self.loop.phases[phase], state.epoch, state.step, steps)
        began = time.perf_counter() - state.seconds
        for batch in self._read(batches):
            with out_of_memory_told(self._memory_told):
                losses = self.loop.step(phase, batch, self._progress)
            if self.average:
                self.average.update()
            self.watch.see(losses, self._steps_done)
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
        self.loop.end(phase, self._progress)

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
        passes = (self.state.epoch + 1) * self.passes
        return self.state.row(self.columns, lr=self._lr, images=images, passes=passes, val=val)

    @property
    def _lr(self) -> float:
        """Learning rate of the most recent step."""
        whole = self.plan.epoch_steps
        done = self.state.epoch * whole
        if self.state.phase == len(self.loop.phases):
            return learning_rate(self.recipe, done + whole - 1, whole)
        return self._progress.lr

    def _memory_told(self) -> str:
        samples = self.memory.samples(self.loop.micro_batches)
        return self.memory.told("a training step", samples, self.folder.last_checkpoint)

    def _check(self, trouble: str | None) -> None:
        if trouble := first_text(trouble, self.fabric.device):
            fp32 = "" if self.recipe.precision == "fp32" else ", or in fp32"
            phase = self.loop.phases[min(self.state.phase, len(self.loop.phases) - 1)]
            folder = " into another folder" if self.folder.path else ""  # to resume would repeat it
            good = self.folder.last_checkpoint
            kept = f"; the last good checkpoint, {good}, stands" if good else ""
            raise UserError(
                f"{trouble} (lr {self._lr:.3g}): train anew{folder} with {phase.remedy}{fp32}{kept}"
            )

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
