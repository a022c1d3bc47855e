"""The data of a run: opened as its recipe says, normalised as in its training."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offramp.errors import UserError, guess, shown
from offramp.nets import Net
from offramp.paths import user_path
from offramp.recipes.recipe import Recipe
from offramp.runs._target_fits import numbered
from offramp.runs.several import as_recorded, join
from offramp.runs.targets import targets_from_json
from offramp.runs.texts import check_tokenizer

if TYPE_CHECKING:
    from offramp.data import OpenedData

__all__ = [
    "SETTINGS",
    "open_other_set",
    "open_recorded",
    "open_set",
    "recorded_transform",
    "transforms",
]


OF_IMAGES = ("size", "image", "label", "tasks", "ignore_label")
OF_TEXTS = ("tokenizer", "max_tokens", "text")
OF_ANY = ("val_fraction", "train_limit", "test_limit", "val_split", "classes")
SETTINGS = (*OF_ANY, "image_channels", *OF_IMAGES, *OF_TEXTS)


def open_set(source: Any, recipe: Recipe, net: Net | None = None, tokenizer: Any = None) -> OpenedData[Any]:
    """Open a data set under the recipe's settings, for a net if there is one.

    Args:
        source: What :func:`offramp.data.open_data` opens; sets that are open already stay as they are.
        recipe: The settings.
        net: The net, whose number of channels images get unless the recipe says another.
        tokenizer: In place of the recipe's.
    """
    from offramp.data import OpenedData, open_data
    from offramp.data.joint_data import several_sets

    if isinstance(source, OpenedData):
        return source
    if several_sets(source):
        return join(source, recipe, lambda name, own: open_set(source[name], own, net, tokenizer))
    settings = {name: getattr(recipe, name) for name in SETTINGS}
    settings["channels"] = settings.pop("image_channels")
    if tokenizer is not None:
        settings["tokenizer"] = tokenizer
    size: tuple[int, ...] = getattr(net, "input_size", ())
    if settings["tokenizer"] is None and recipe.image_channels is None and len(size) == 3:
        settings["channels"] = size[0]
    return open_data(_lasting(source), **settings)


def open_recorded(
    record: dict[str, Any], recipe: Recipe | None = None, tokenizer: Any = None
) -> OpenedData[Any]:
    """The data of a run, opened again as a recipe says, by default the run's.

    Args:
        record: The run's.
        recipe: The recipe.
        tokenizer: In place of the one that the recipe or the record names.

    Raises:
        UserError: They, or their tokenizer, existed in Python only, or cannot be opened any more.
    """
    data = record["data"]
    if "digest" in data:
        raise UserError(
            f"the run was trained on {data['source']}, which no name opens again; give `data=...`"
        )
    recipe = recipe or Recipe.from_dict(record["recipe"])
    if "sets" in data:
        return join(
            data["sets"],
            recipe,
            lambda name, own: open_recorded(as_recorded(record, name), own, tokenizer),
        )
    classes = recipe.classes
    if classes is None and numbered(
        data.get("classes", [""])
    ):  # before labels with gaps had classes of their own
        classes = len(data["classes"])
    recipe = recipe.replace(classes=classes)
    if "text" in data:
        return _open_texts(record, recipe, tokenizer)
    if tokenizer is not None:
        raise UserError("the run was trained on images, which have no tokenizer; leave `tokenizer` out")
    channels = recipe.image_channels or data["input_size"][0]
    return open_set(data["source"], recipe.replace(image_channels=channels))


def _open_texts(record: dict[str, Any], recipe: Recipe, tokenizer: Any) -> OpenedData[Any]:
    """The texts of a run, read as its own were but where the recipe is another one than the run's."""
    data, read = record["data"], record["data"]["text"]
    settings = {"max_tokens": read["max_tokens"], "text": read["column"]}
    for name in settings:
        if getattr(recipe, name) != record["recipe"][name]:
            settings[name] = getattr(recipe, name)
    found = open_set(data["source"], recipe.replace(**settings), None, _tokenizer(recipe, read, tokenizer))
    check_tokenizer(found, read)
    return found


def _tokenizer(recipe: Recipe, read: dict[str, Any], given: Any) -> Any:
    """The tokenizer of a run: the one given, or the folder that it notes."""
    tokenizer = given if given is not None else recipe.tokenizer or read["tokenizer"]
    if tokenizer is None:
        raise UserError(
            "the texts of the run were read by a tokenizer in Python, which no name opens again; give it to "
            "run.open_data(tokenizer=...), or the texts to fit: open_data(..., tokenizer=...)"
        )
    return tokenizer


def open_other_set(source: Any, record: dict[str, Any], **settings: Any) -> OpenedData[Any]:
    """Other data, to evaluate the net of a run on.

    Args:
        source: As for :func:`offramp.data.open_data`.
        record: The run's.
        settings: How images and labels are read, where this set needs other settings than the run's own:
            ``size``, ``image``, ``label``, ``tasks``, ``ignore_label``; of texts ``tokenizer``, ``text``,
            ``label``, ``tasks``, ``ignore_label``.

    Raises:
        UserError: Another setting, or the set cannot be opened.
    """
    from offramp.data import open_other

    if "sets" in record["data"]:
        return _open_others(source, record, settings)
    read = record["data"].get("text")
    allowed = OF_IMAGES if read is None else ("tokenizer", "text", "label", "tasks", "ignore_label")
    for name in settings.keys() - set(allowed):
        raise UserError(
            f"{shown(name)} is no setting of other data{guess(name, allowed)}; there are {', '.join(allowed)}"
        )
    tokenizer = settings.pop("tokenizer", None)
    recipe = Recipe.from_dict(record["recipe"]).replace(**settings)
    reading = {name: getattr(recipe, name) for name in allowed}
    if read is None:
        reading["channels"] = record["data"]["input_size"][0]
    else:
        reading |= {"tokenizer": _tokenizer(recipe, read, tokenizer), "max_tokens": read["max_tokens"]}
    return open_other(_lasting(source), targets_from_json(record["data"]), **reading)


def _open_others(source: Any, record: dict[str, Any], settings: dict[str, Any]) -> OpenedData[Any]:
    """Other data in place of a run's several sets."""
    names = record["data"]["sets"]
    if not isinstance(source, Mapping) or source.keys() != names.keys():
        raise UserError(
            f"the run was trained on several data sets; give one for each of the names {', '.join(names)}"
        )
    recipe = Recipe.from_dict(record["recipe"])
    return join(
        names, recipe, lambda name, _: open_other_set(source[name], as_recorded(record, name), **settings)
    )


def _lasting(source: Any) -> Any:
    """A data source that holds from other working directories too: folders by their full path."""
    if not isinstance(source, (str, Path)):
        return source
    from offramp.data import is_embedded

    source = str(source)
    if not is_embedded(source) and os.path.exists(user_path(source)):  # a folder of such a name is ./digits
        return str(user_path(source).resolve())
    return source


def transforms(recipe: Recipe, data: OpenedData[Any]) -> tuple[Any, Any]:
    """The training and the evaluation transform of a recipe; of several sets a ``JointTransform`` each."""
    from offramp.data import JointData, JointTransform, pipeline

    if not isinstance(data, JointData):
        return pipeline(recipe.augment, data, mixup=recipe.mixup, cutmix=recipe.cutmix)
    pairs = {name: transforms(recipe.of_set(name), each) for name, each in data.sets.items()}
    return (
        JointTransform({name: augment for name, (augment, _) in pairs.items()}),
        JointTransform({name: clean for name, (_, clean) in pairs.items()}),
    )


def recorded_transform(record: dict[str, Any]) -> Any:
    """The evaluation transform that ``run.json`` tells: the training images' statistics, on whatever set.

    Of a run on several sets a ``JointTransform``.
    """
    from offramp.data import JointTransform, Transform

    means, stds = (record["normalisation"][key] for key in ("mean", "std"))
    if "sets" not in record["data"]:
        return Transform(tuple(means), tuple(stds))
    return JointTransform({name: Transform(tuple(means[name]), tuple(stds[name])) for name in means})
