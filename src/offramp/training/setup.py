"""What a training run is made of, agreed on before anything is trained or written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offramp.data import JointData, OpenedData, default_pipeline
from offramp.errors import UserError, shown
from offramp.methods import Method
from offramp.methods import method as named_method
from offramp.nets import Net
from offramp.recipes import Recipe
from offramp.runs.beginning import may_begin
from offramp.runs.extension import check_extension, is_longer
from offramp.runs.fits import check_fits
from offramp.runs.left_alone import check_left_alone
from offramp.runs.record import check_same, describe, is_run, read_record
from offramp.runs.recorded import recorded_method
from offramp.runs.sets import open_set, transforms
from offramp.runs.several import as_recipe_says, check_one_set
from offramp.runs.texts import for_net
from offramp.runs.weight_files import read_weights
from offramp.training._last_epochs import with_last_epochs
from offramp.training._layout import with_layout
from offramp.training._method_checks import check_method, check_samples
from offramp.training._start import give_weights
from offramp.training.threads import take_threads
from offramp.training.trained_backbone import check_given_heads

__all__ = ["Setup", "set_up"]


@dataclass(frozen=True)
class Setup:
    """A run before its first step.

    Attributes:
        data: The opened set.
        method: The method with its options.
        recipe: The recipe with every setting decided.
        augment: What is done to training images: a ``Transform``, of several data sets a ``JointTransform``.
        clean: What is done to images that the net is measured on: the normalisation alone.
        record: The content of ``run.json``.
        before: What ``run.json`` says already; None for a new run.
        finished: Whether the run is there and done.
        notes: What to say at the start.
    """

    data: OpenedData[Any]
    method: Method
    recipe: Recipe
    augment: Any
    clean: Any
    record: dict[str, Any]
    before: dict[str, Any] | None
    finished: bool
    notes: Sequence[str] = ()


def set_up(
    net: Net,
    data: Any,
    method: str | Method | None,
    recipe: Recipe | None,
    folder: Path | None,
    *,
    resume: bool,
    init: str | Path | None = None,
) -> Setup:
    """Put the pieces of a run together, those of the run to resume where they are not given.

    A net whose training is at its start gets the weights of ``init``.

    The arguments are those of :func:`~offramp.training.fit`.

    Raises:
        UserError: They do not fit each other, or the run that is there.
    """
    before = read_record(folder) if folder is not None and resume and not may_begin(folder) else None
    threads = take_threads(before)  # the data's statistics are sums too
    if folder is not None and before is not None:
        method, recipe = _resumed(folder, before, method, recipe)
    else:
        recipe = recipe or Recipe()
        method = _method(method or "joint", recipe)
    check_method(recipe, method)
    given = None if init is None else read_weights(init)
    recipe = _with_full_paths(recipe)
    data = open_set(data, recipe, net)
    if isinstance(data, JointData):
        data = as_recipe_says(data, recipe)
        check_samples(recipe, method)
    else:
        check_one_set(recipe, data.name)
    data = for_net(net, data)
    check_fits(net, data, tasks=None if isinstance(data, JointData) else recipe.tasks)
    recipe = with_last_epochs(with_layout(recipe, net, before), net)
    recipe = _with_pipelines(recipe, data)
    augment, clean = transforms(recipe, data)
    record = describe(net, method, data, recipe, clean) | threads
    finished = folder is not None and _finished(folder, before, record, method)
    if before is not None:
        record["net"] = before["net"]  # a place of code as it was spelled when the run began
    noted, notes = give_weights(net, given, folder, before, finished=finished)
    check_given_heads(method, net, noted)
    return Setup(data, method, recipe, augment, clean, record | noted, before, finished, notes)


def _with_full_paths(recipe: Recipe) -> Recipe:
    """The recipe with its tokenizers by paths that hold from other working directories too."""

    def full(settings: Mapping[str, Any]) -> dict[str, Any]:
        folder = os.path.expanduser(settings.get("tokenizer") or "")
        return {**settings, "tokenizer": os.path.realpath(folder)} if os.path.isdir(folder) else {**settings}

    return recipe.replace(
        **full({"tokenizer": recipe.tokenizer}),
        sets={name: full(settings) for name, settings in recipe.sets.items()},
    )


def _with_pipelines(recipe: Recipe, data: OpenedData[Any]) -> Recipe:
    """The recipe with the augmentation decided, of each set if there are several."""
    if recipe.augment is not None:
        return recipe
    if not isinstance(data, JointData):
        return recipe.replace(augment=default_pipeline(data))
    own = {name: {"augment": default_pipeline(each)} for name, each in data.sets.items()}
    return recipe.replace(sets={name: own[name] | dict(recipe.sets.get(name, {})) for name in own})


def _method(method: str | Method, recipe: Recipe) -> Method:
    if isinstance(method, str):
        return named_method(method, recipe.options)
    if recipe.options:
        raise UserError(
            f"options {shown(recipe.options)} go with a method's name; this Method brings its own"
        )
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
        if not may_begin(folder):
            if not is_run(folder):
                raise UserError(f"{folder} exists and holds no run; choose another folder")
            raise UserError(f"{folder} exists; choose another folder, or go on with its run by `resume=True`")
        return False
    if is_longer(before, record):
        check_extension(folder, before, record, method)
    else:
        check_same(folder, before, record)
        if (folder / "result.json").exists():
            return True
    check_left_alone(folder, before, record)
    return False
