"""Train a network: the one function that puts data, net, method and recipe together."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from offramp.counting import Cost, cost
from offramp.data import ImageData
from offramp.distributed.launch import launch
from offramp.errors import UserError
from offramp.forks import remove
from offramp.methods import Method
from offramp.methods import method as named_method
from offramp.nets import MultiExitNet, Net
from offramp.nets.net import check_net
from offramp.recipes.recipe import Recipe
from offramp.runs.extension import check_extension, extend, is_longer
from offramp.runs.files import write_file, write_folder
from offramp.runs.record import as_json, check_same, describe, read_record
from offramp.runs.recorded import recorded_method
from offramp.runs.result import Result
from offramp.runs.run import Run
from offramp.runs.sets import check_fits, open_set
from offramp.runs.shape import shortened
from offramp.runs.weights import weights_bytes
from offramp.say import say
from offramp.training.layout import with_layout
from offramp.training.memory import keep_freed_memory
from offramp.training.method_checks import check_method
from offramp.training.modes import in_training_mode
from offramp.training.trainer import Trainer

__all__ = ["fit"]


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
) -> Run:
    """Train a network, in place, evaluate it once on the test set and leave it in evaluation mode.

    The weights after the last epoch are the result: nothing is selected, and the test set is read at the end
    only. Started by ``torchrun``, the processes share every batch. Seeds torch's global random numbers. On a
    CPU the process keeps the memory that a step frees (:mod:`offramp.training.memory`).

    Args:
        net: The network, one with exits or of your own (:class:`~offramp.nets.Net` says what it has); it ends
            on the device it was trained on. The method ``separate`` trains copies and leaves it alone. What
            is in evaluation mode while the net is not, and what is in evaluation mode and all frozen, stays
            so (:mod:`offramp.training.modes`).
        data: What :func:`offramp.data.open_data` opens (under the recipe's settings: a folder,
            a name, or a Python data set), or an opened set.
        method: Name of a method, which takes ``recipe.options``; or a :class:`~offramp.methods.Method`. By
            default ``"joint"``, or that of the run to resume.
        recipe: How to train; by default ``Recipe()``, or that of the run to resume.
        out: Run folder to write; None keeps nothing.
        resume: Go on where the run in ``out`` stands; a finished run is returned as it is. Net, data, method
            and recipe must be those of the run, but for more epochs: they extend the run, finished or not,
            if neither schedule nor method read their number, and the old result and weights are kept in
            ``epochs-N/``. If ``out`` does not exist, start the run.
        quiet: Show no progress.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.

    Returns:
        The finished run.

    Raises:
        UserError: A mistake that the user can mend; a checkpoint that was good stays.
        Interrupted: SIGINT or SIGTERM came, and a checkpoint was written. It is a KeyboardInterrupt.
    """
    check_net(net, "net")
    folder = None if out is None else Path(out)
    before = read_record(folder) if folder is not None and resume and folder.exists() else None
    if folder is not None and before is not None:
        row, recipe = _resumed(folder, before, method, recipe)
    else:
        recipe = recipe or Recipe()
        row = _method(method or "joint", recipe)
    check_method(recipe, row)
    if not isinstance(data, ImageData):
        data = open_set(data, recipe, net)
    check_fits(net, data)
    recipe = with_layout(recipe, net, before)
    record = describe(net, row, data, recipe)
    if folder is not None and _finished(folder, before, record, row):
        return Run.open(folder, net, method=row)
    fabric = launch(recipe.precision, device)
    if fabric.device.type == "cpu":
        keep_freed_memory()
    _check_batch(recipe, fabric.world_size)
    fabric.barrier()  # every process has looked before one writes
    torch.manual_seed(recipe.seed + fabric.global_rank)
    trained = row.prepare(net)
    keep = False
    try:
        counted = cost(trained)
        with in_training_mode(trained) as staying:
            trainer = Trainer(trained, data, row, recipe, fabric, folder, quiet=quiet)
            if folder is not None and fabric.is_global_zero:
                if before is None:
                    write_folder(folder, {"run.json": as_json(record)})  # from here on the run is there
                elif is_longer(before, record):
                    extend(folder, record)
            if not quiet and fabric.is_global_zero:
                _say_at_the_start(data, staying, counted)
            trainer.train()
        keep = row.lasting
    finally:
        if isinstance(net, MultiExitNet) and row.forks and not keep:
            remove(net)
    trained.eval()  # its new forks too
    written, average = folder if fabric.is_global_zero else None, trainer.average
    if written is not None:  # before anything that may fail
        kept = trainer.loop.files() | (average.files(trained) if average else {})
        for name, content in {**kept, "weights.safetensors": weights_bytes(trained)}.items():
            write_file(written / name, content)
    evaluation = trainer.evaluation
    result = Result.of(evaluation.tasks, evaluation(data.test), counted, record)
    if average:
        with average.applied(trained):
            result = dataclasses.replace(result, averaged=evaluation(data.test))
    if written is not None:  # last, since it says that the run is finished
        write_file(written / "result.json", as_json(result.to_json()))
    fabric.barrier()
    return Run(net=trained, method=row, record=record, result=result, folder=folder, data=data)


def _say_at_the_start(data: ImageData, staying: list[str], counted: Cost) -> None:
    for note in data.notes:
        say(note)
    if staying:
        say(f"in evaluation mode throughout, as it came: {shortened(staying)}")
    if counted.unknown:
        say(f"FLOPs of some exits are unknown: {'; '.join(counted.unknown)}")


def _check_batch(recipe: Recipe, processes: int) -> None:
    if recipe.batch_size % processes:
        raise UserError(f"batch_size {recipe.batch_size} does not divide among {processes} processes")
    if recipe.accumulate > (share := recipe.batch_size // processes):
        raise UserError(
            f"accumulate is {recipe.accumulate}, must be at most {share}: each of the {processes} processes "
            "has so many images of a batch"
        )


def _method(method: str | Method, recipe: Recipe) -> Method:
    if isinstance(method, str):
        return named_method(method, recipe.options)
    if recipe.options:
        raise UserError(f"options {dict(recipe.options)} go with a method's name; this Method brings its own")
    return method


def _resumed(
    folder: Path, before: dict[str, Any], method: str | Method | None, recipe: Recipe | None
) -> tuple[Method, Recipe]:
    """Method and recipe, those of the run where they are not given."""
    if recipe is None:
        brought: dict[str, Any] = {"options": {}} if isinstance(method, Method) else {}  # which has its own
        recipe = Recipe.from_dict(before["recipe"] | brought)
    if method is None:
        return recorded_method(folder, before).with_options(recipe.options), recipe
    return _method(method, recipe), recipe


def _finished(folder: Path, before: dict[str, Any] | None, record: dict[str, Any], method: Method) -> bool:
    """Whether the run is done already.

    Raises:
        UserError: The folder is there but must not be, or it holds another run.
    """
    if before is None:
        if folder.exists():
            raise UserError(f"{folder} exists; choose another folder, or go on with its run by `resume=True`")
        return False
    if is_longer(before, record):
        check_extension(folder, before, record, method)
        return False
    check_same(folder, before, record)
    return (folder / "result.json").is_file()
