"""Whether a data set fits a net: its targets, its inputs, its classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from offramp.data.targets import Target
from offramp.errors import UserError
from offramp.modes import evaluating
from offramp.nets import Net
from offramp.nets.single_values import norms_named
from offramp.runs._target_fits import (
    check_found,
    check_read,
    check_same_classes,
    check_sets_read,
    check_sizes,
)
from offramp.runs.texts import outputs_for_text

if TYPE_CHECKING:
    from offramp.data import OpenedData

__all__ = ["check_fits"]


def check_fits(
    net: Net,
    data: OpenedData[Any],
    trained_on: Mapping[str, Target] | None = None,
    tasks: Mapping[str, str] | None = None,
) -> None:
    """Check that the set has the net's targets, images of its size or texts that it takes, and its classes.

    Args:
        net: The network.
        data: The set.
        trained_on: The targets that the net was trained on; None: not trained yet.
        tasks: The targets that a recipe asks for, each of which an output must learn from.

    Raises:
        UserError: It does not.
    """
    from offramp.data import JointData, TextData

    check_found(net, data)
    check_read(net, tasks or {})
    sets, several = [data], isinstance(data, JointData)
    if isinstance(data, JointData):
        if trained_on is None:
            check_sets_read(net, data)
        sets = [data.renamed(name) for name in data.sets]
    made_for = [each.input_size for each in sets if each.input_size == getattr(net, "input_size", None)]
    for each in sets:
        if isinstance(each, TextData):
            outputs = outputs_for_text(net, each.train, [0], each.name)
        else:
            outputs = _outputs_for_image(net, each, other_sizes=several and bool(made_for))
        check_sizes(net, outputs, each)
        check_same_classes(trained_on or {}, each)


def _outputs_for_image(net: Net, data: OpenedData[Any], *, other_sizes: bool) -> list[Tensor]:
    """The net's outputs for a black image.

    Args:
        net: The net.
        data: The set.
        other_sizes: Whether the net need not be made for images of this size, as long as it takes them.

    Raises:
        UserError: It takes no images, or other ones.
    """
    example = getattr(net, "example", None)
    if isinstance(example, Mapping):
        raise UserError(
            f"the net reads {', '.join(example)} by name, and {data.name} has images; for texts give their "
            "tokenizer by `tokenizer=...`"
        )
    data_size = tuple(data.input_size)
    with_maps = any(target.dense for target in data.targets.values())  # which `size` cannot cut along
    # a net of a user's own need not say
    net_size = data_size if other_sizes else tuple(getattr(net, "input_size", data_size))
    if net_size != data_size and net_size[1:] == data_size[1:]:
        raise UserError(_about_channels(data, net_size[0]))
    if net_size != data_size:
        square = len(net_size) == 3 and net_size[0] == data_size[0] and net_size[1] == net_size[2]
        cut = square and not with_maps
        remedy = f"cut them to that size by `size={net_size[1]}`" if cut else "give images of that size"
        raise UserError(
            f"the net takes images of {net_size}, {data.name} has {data_size}; "
            f"{remedy}, or take a net whose input_size is theirs"
        )
    with torch.no_grad(), evaluating(net):
        try:
            with norms_named(net):
                return list(net(_blank(net, data_size)))
        except UserError:  # says what to do itself
            raise
        except (RuntimeError, ValueError) as error:
            _check_precision(net)
            for channels in (1, 3, 4):  # as image files can be read
                if channels != data_size[0] and _takes(net, (channels, *data_size[1:])):
                    raise UserError(_about_channels(data, channels)) from None
            reason = str(error).splitlines()[0]
            raise UserError(
                f"the net cannot take images of {tuple(data.input_size)}, those of {data.name} ({reason}); "
                f"{'give images that' if with_maps else 'cut them by `size=...` to what'} it takes, or take "
                "another net"
            ) from None


def _check_precision(net: Net) -> None:
    """Refuse a net whose weights are of another precision than images are.

    Raises:
        UserError: They are; said where the net could not run on images.
    """
    kinds = {p.dtype: name for name, p in net.named_parameters() if p.is_floating_point()}
    for kind, name in kinds.items():
        if kind != torch.float32:
            raise UserError(
                f"the net's parameters are {str(kind).removeprefix('torch.')} ({name}), and images are "
                "float32; call net.float(), and have it trained faster by `precision='bf16'`"
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


def _about_channels(data: OpenedData[Any], reads: int) -> str:
    has = data.input_size[0]
    channels = "1 channel" if reads == 1 else f"{reads} channels"
    return (
        f"the net reads images of {channels}, those of {data.name} have {has}; have them read with "
        f"{reads} by `image_channels={reads}`, or take a net that reads {has}"
    )
