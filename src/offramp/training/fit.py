"""Train a network: the one function that puts data, net, method and recipe together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from offramp.counting import Cost, cost
from offramp.distributed.collectives import highest, refused_together
from offramp.distributed.launch import is_first, launch, num_processes
from offramp.distributed.peers import named_if_one_ends
from offramp.errors import shown
from offramp.forks import ForkedNet, remove
from offramp.memory import keep_freed_memory
from offramp.methods import Method
from offramp.nets import Net
from offramp.out_of_memory import out_of_memory_told
from offramp.recipes import Recipe
from offramp.runs.folder import RunFolder
from offramp.runs.result import Result
from offramp.runs.run import Run
from offramp.say import say
from offramp.training._arguments import check_arguments
from offramp.training._freezing import Freezing
from offramp.training._modes import in_training_mode
from offramp.training._nothing_shared import parts_with_nothing_shared
from offramp.training._out_of_memory import memory_told
from offramp.training._trainer import Trainer
from offramp.training.batch_size import check_batch_size
from offramp.training.setup import Setup, set_up
from offramp.training.threads import threads_given_back
from offramp.unchanged import restored_on_error

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["fit"]

DATA_TOO_LARGE = (
    "out of memory while the data were opened; use fewer samples, e.g. `train_limit=10000`, or smaller ones, "
    "e.g. `size=64`, or a machine with more memory"
)


@named_if_one_ends
@threads_given_back()
def fit(
    net: Net,
    data: Any,
    method: str | Method | None = None,
    recipe: Recipe | None = None,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    quiet: bool = False,
    device: str = "auto",
    init: str | Path | None = None,
    each_epoch: Callable[[], None] | None = None,
) -> Run:
    """Train a network, in place, evaluate it once on the test set and leave it in evaluation mode.

    The weights after the last epoch are the result: nothing is selected, and the test set is read at the end
    only. Started by ``torchrun``, the processes share every batch. Seeds torch's global random numbers. On a
    CPU the process keeps the memory that a step frees (:mod:`offramp.memory`), and a run that goes on has as
    many threads as it began with. What is refused
    before the first step leaves the net and all random numbers as they were.

    Args:
        net: The network, one with exits or of your own (:class:`~offramp.nets.Net` says what it has); it ends
            on the device it was trained on. The method ``separate`` trains copies and leaves it alone. What
            is in evaluation mode while the net is not, and what is in evaluation mode and all frozen, stays
            so (:mod:`offramp.training._modes`).
        data: What :func:`offramp.data.open_data` opens (under the recipe's settings: a folder,
            a name, or a Python data set), or an opened set.
        method: Name of a method, which takes ``recipe.options``; or a :class:`~offramp.methods.Method`. By
            default ``"joint"``, or that of the run to resume.
        recipe: How to train; by default ``Recipe()``, or that of the run to resume.
        out: Run folder to write; None keeps nothing.
        resume: Go on where the run in ``out`` stands; a finished run is returned as it is. Net, data, method
            and recipe must be those of the run, but for more epochs: they extend the run, finished or not,
            if neither schedule nor method read their number, and the old result and weights are kept in
            ``epochs-N/``. If there is no run in ``out``, start it.
        quiet: Show no progress.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        init: Weights to start from: the folder of a finished run, or a file, as for
            :func:`offramp.load_pretrained`. The run notes them, and takes nothing from there again when it is
            resumed; they need not be given then, and must be the same if they are.
        each_epoch: Called after each epoch, once its log and checkpoint are written; by the first process, if
            there are several. What it raises ends the training.

    Returns:
        The finished run.

    Raises:
        UserError: A mistake that the user can mend; a checkpoint that was good stays. Also: another process
            trains into ``out``, or ``out`` was moved or removed meanwhile.
        Interruption: SIGINT, SIGTERM or SIGHUP came, and a checkpoint was written. It is a KeyboardInterrupt.
    """
    folder = check_arguments(net, method, recipe, out, device, resume=resume, quiet=quiet)
    with RunFolder(folder, writes=is_first()) as kept:
        with restored_on_error(net) as begun:
            if resume:
                kept.claim()
            with out_of_memory_told(lambda: DATA_TOO_LARGE):
                setup = set_up(net, data, method, recipe, folder, resume=resume, init=init)
            if folder is not None and setup.finished and num_processes() == 1:
                return Run.open(folder, net, method=setup.method)
            fabric = launch(setup.recipe.precision, device)
            # of several processes one may have looked before another training ended, and one after it
            if folder is not None and highest(setup.finished, fabric.device):
                return Run.open(folder, net, method=setup.method)
            check_batch_size(setup.recipe, setup.data.train, fabric.world_size)
            with memory_told(setup.recipe, setup.method):
                trainer, counted = _train(net, setup, fabric, kept, begun, each_epoch, quiet=quiet)
        with memory_told(setup.recipe, setup.method):
            result = _concluded(trainer, counted, setup)
        fabric.barrier()
    return Run(
        net=trainer.net,
        method=setup.method,
        record=setup.record,
        result=result,
        folder=folder,
        data=setup.data,
    )


def _train(
    net: Net,
    setup: Setup,
    fabric: Fabric,
    kept: RunFolder,
    begun: Callable[[], None],
    each_epoch: Callable[[], None] | None,
    *,
    quiet: bool,
) -> tuple[Trainer, Cost]:
    """Train the net, and count what it costs before; ``begun`` is called just before the first step."""
    if fabric.device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(setup.recipe.seed + fabric.global_rank)
    counted = None if setup.method.lasting else cost(net)
    with _prepared(net, setup.method, setup.recipe.seed) as trained:
        counted = counted or cost(trained)
        say_so = not quiet and fabric.is_global_zero
        idle = parts_with_nothing_shared(trained, setup.method) if say_so else []
        with in_training_mode(trained) as staying, Freezing(trained) as freezing:
            trainer = Trainer(trained, setup, fabric, kept, freezing, each_epoch, quiet=quiet)
            trainer.restore()  # before the record changes: a run that cannot go on stays as it is
            with refused_together(fabric.device):
                kept.begin(setup.record, setup.before)
            trainer.save_start()
            if say_so:
                _say_at_the_start(setup, staying, idle, counted)
            begun()
            trainer.train()
            fabric.barrier()  # every epoch's weights are on disk
    trained.eval()  # its new forks too
    trainer.last_epochs.measure(trained, lambda: trainer.evaluation(setup.data.test))
    return trainer, counted


def _concluded(trainer: Trainer, counted: Cost, setup: Setup) -> Result:
    """Keep the trained weights, measure them on the test set, and keep the result."""
    trained, average, evaluation = trainer.net, trainer.average, trainer.evaluation
    # before anything that may fail
    trainer.folder.keep(trained, trainer.loop.files() | (average.files(trained) if average else {}))
    result = Result.of(evaluation.tasks, evaluation(setup.data.test), counted, setup.record)
    if average:
        with average.applied(trained):
            result = dataclasses.replace(result, averaged=evaluation(setup.data.test))
    if setup.recipe.accumulate == "auto":
        result = dataclasses.replace(result, micro_batches=trainer.loop.micro_batches)
    result = trainer.last_epochs.conclude(result)
    trainer.folder.finish(result)
    return result


@contextmanager
def _prepared(net: Net, method: Method, seed: int) -> Iterator[Net]:
    """The net as the method trains it; forks and heads go again that are no part of what was trained."""
    heads = getattr(net, "heads", None)
    trained = method.prepare(net, seed)
    done = False
    try:
        yield trained
        done = True
    finally:
        if isinstance(net, ForkedNet) and method.forks and not (done and method.lasting):
            remove(net)
        if method.regime.lasting and not done:
            net.heads = heads  # type: ignore[assignment]


def _say_at_the_start(setup: Setup, staying: list[str], idle: list[str], counted: Cost) -> None:
    data = setup.data
    for note in (*setup.notes, *data.notes):
        say(note)
    for key, target in data.targets.items():
        if target.kind != "class":
            continue
        labels = data.train.targets[key]
        seen = labels[labels >= 0].unique()
        if len(seen) == 1:
            of_key = "" if len(data.targets) == 1 else f" by {shown(key)}"
            say(
                f"all training samples are of one class{of_key}, {target.classes[seen[0]]}: "
                "there is nothing to tell apart"
            )
    if staying:
        say(f"in evaluation mode throughout, as it came: {shown(staying)}")
    if idle:
        say(f"{' and '.join(idle)}: nothing to do, since all that several losses reach is frozen")
    if counted.unknown:
        say(f"FLOPs of some exits are unknown: {'; '.join(counted.unknown)}")
