"""The data of a run: opened as its recipe says, fitting its net, normalised as in its training."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from offramp.data.batches import LABEL
from offramp.errors import UserError, guess
from offramp.modes import evaluating
from offramp.nets import Net
from offramp.nets.single_values import norms_named
from offramp.recipes.recipe import Recipe
from offramp.tasks import Classification

if TYPE_CHECKING:
    from offramp.data import ImageData, Transform

__all__ = ["SETTINGS", "check_fits", "open_other_set", "open_recorded", "open_set", "recorded_transform"]


OF_IMAGES = ("size", "image_channels", "image", "label", "ignore_label")
SETTINGS = ("val_fraction", "train_limit", "test_limit", "val_split", "classes", *OF_IMAGES)


def open_set(source: Any, recipe: Recipe, net: Net | None = None) -> ImageData:
    """Open a data set under the recipe's settings, for a net if there is one."""
    from offramp.data import open_data

    settings = {name: getattr(recipe, name) for name in SETTINGS}
    settings["channels"] = settings.pop("image_channels")
    size: tuple[int, ...] = getattr(net, "input_size", ())
    if recipe.image_channels is None and len(size) == 3:
        settings["channels"] = size[0]
    return open_data(_lasting(source), **settings)


def open_recorded(record: dict[str, Any], recipe: Recipe | None = None) -> ImageData:
    """The data of a run, opened again as a recipe says, by default the run's.

    Raises:
        UserError: They existed in Python only, or cannot be opened any more.
    """
    data = record["data"]
    if "digest" in data:
        raise UserError(
            f"the run was trained on {data['source']}, which no name opens again; give `data=...`"
        )
    recipe = recipe or Recipe.from_dict(record["recipe"])
    classes = recipe.classes
    if classes is None and _numbered(data["classes"]):  # before labels with gaps had classes of their own
        classes = len(data["classes"])
    channels = recipe.image_channels or data["input_size"][0]
    return open_set(data["source"], recipe.replace(image_channels=channels, classes=classes))


def open_other_set(source: Any, record: dict[str, Any], **settings: Any) -> ImageData:
    """Other data, to evaluate the net of a run on.

    Args:
        source: As for :func:`offramp.data.open_data`.
        record: The run's.
        settings: How images and labels are read, where this set needs other settings than the run's own:
            ``size``, ``image``, ``label``, ``ignore_label``.

    Raises:
        UserError: Another setting, or the set cannot be opened.
    """
    from offramp.data import open_other

    allowed = [name for name in OF_IMAGES if name != "image_channels"]
    for name in settings.keys() - set(allowed):
        raise UserError(
            f"{name!r} is no setting of other data{guess(name, allowed)}; there are {', '.join(allowed)}"
        )
    recipe = Recipe.from_dict(record["recipe"]).replace(**settings)
    reading = {name: getattr(recipe, name) for name in allowed}
    channels = record["data"]["input_size"][0]
    return open_other(_lasting(source), record["data"]["classes"], channels=channels, **reading)


def _numbered(classes: Sequence[str]) -> bool:
    """Whether classes are called 0, 1, 2, ..., as those are that have no names."""
    return list(classes) == [str(place) for place in range(len(classes))]


def _lasting(source: Any) -> Any:
    """A data source that holds from other working directories too: folders by their full path."""
    if not isinstance(source, (str, Path)):
        return source
    source = str(source)
    if source != "digits" and Path(source).exists():  # a folder of that name is ./digits
        return str(Path(source).resolve())
    return source


def check_fits(net: Net, data: ImageData, trained_on: Sequence[str] | None = None) -> None:
    """Check that the set has the net's targets, images of its size and its classes.

    Args:
        net: The network.
        data: The set.
        trained_on: Names of the classes that the net was trained to tell apart; None: not trained yet.
            The names 0, 1, 2, ... stand for words that nobody knows.

    Raises:
        UserError: It does not.
    """
    _check_targets(net, data)
    data_size = tuple(data.input_size)
    net_size = tuple(getattr(net, "input_size", data_size))  # a net of a user's own need not say
    if net_size != data_size and net_size[1:] == data_size[1:]:
        raise UserError(_about_channels(data, net_size[0]))
    if net_size != data_size:
        square = len(net_size) == 3 and net_size[0] == data_size[0] and net_size[1] == net_size[2]
        remedy = f"cut them to that size by `size={net_size[1]}`" if square else "give images of that size"
        raise UserError(
            f"the net takes images of {net_size}, {data.name} has {data_size}; "
            f"{remedy}, or take a net whose input_size is theirs"
        )
    with torch.no_grad(), evaluating(net):
        try:
            with norms_named(net):
                outputs = zip(net.outputs.values(), net(_blank(net, data_size)), strict=True)
            logits = [output for task, output in outputs if isinstance(task, Classification)]
            classes = {output.shape[-1] for output in logits}
        except UserError:  # says what to do itself
            raise
        except (RuntimeError, ValueError) as error:
            for channels in (1, 3, 4):  # as image files can be read
                if channels != data_size[0] and _takes(net, (channels, *data_size[1:])):
                    raise UserError(_about_channels(data, channels)) from None
            reason = str(error).splitlines()[0]
            raise UserError(
                f"the net cannot take images of {tuple(data.input_size)}, those of {data.name} ({reason}); "
                "cut them by `size=...` to what it takes, or take another net"
            ) from None
    for output in logits:
        if output.ndim == 2 and len(output) != 1:
            raise UserError(
                f"an output of the net is {[*output.shape]} for one image: its first axis is not the batch; "
                "permute the feature that its head reads, or build its layers with batch_first=True"
            )
    if classes - {data.num_classes}:
        raise UserError(
            f"the net's exits tell {' or '.join(map(str, sorted(classes)))} classes apart, "
            f"{data.name} has {data.num_classes}; build it with as many, e.g. num_classes={data.num_classes}"
        )
    known, present = list(trained_on or data.classes), list(data.classes)
    nameless = (_numbered(known) and _words(present)) or (_numbered(present) and _words(known))
    if known != present and not nameless:
        raise UserError(
            f"the net was trained on the classes {reprlib.repr(known)}, "
            f"{data.name} has {reprlib.repr(present)}; give the same classes in the same order"
        )


def _check_targets(net: Net, data: ImageData) -> None:
    for name, task in net.outputs.items():
        if task.target != LABEL:
            raise UserError(
                f"{name} looks for {task.target!r} among the targets, and {data.name} has {LABEL!r} alone; "
                "train it in your own loop, by offramp.method(...).bind(net)"
            )


def _blank(net: Net, size: tuple[int, ...]) -> Tensor:
    """A black image."""
    return torch.zeros(1, *size, device=next(net.parameters()).device)


def _takes(net: Net, size: tuple[int, ...]) -> bool:
    try:
        net(_blank(net, size))
    except (RuntimeError, ValueError):
        return False
    return True


def _about_channels(data: ImageData, reads: int) -> str:
    has = data.input_size[0]
    return (
        f"the net reads images of {reads} channels, those of {data.name} have {has}; have them read with "
        f"{reads} by `image_channels={reads}`, or take a net that reads {has}"
    )


def _words(classes: Sequence[str]) -> bool:
    """Whether the classes have names other than numbers."""
    return not any(name.removeprefix("-").isdecimal() for name in classes)


def recorded_transform(record: dict[str, Any]) -> Transform:
    """The evaluation transform that ``run.json`` tells: the training images' statistics, on whatever set."""
    from offramp.data import Transform

    mean, std = (tuple(record["normalisation"][key]) for key in ("mean", "std"))
    return Transform(mean, std)
