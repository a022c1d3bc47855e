"""What an exported net reads, and what its classes are called."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from offramp.bundles._joined import ModelInput
from offramp.bundles._parts import Value
from offramp.data import Transform
from offramp.data.image_files import MODES
from offramp.errors import UserError, shown
from offramp.exits.exit_logits import target_of
from offramp.nets import MultiExitNet
from offramp.runs import Run
from offramp.runs.sets import recorded_transform
from offramp.runs.targets import targets_from_json

__all__ = ["Description", "described_net", "described_run"]

OWN_NAMES = re.compile(r"thresholds|probabilities|confidence|exit(\d+_\d+)?")  # of a graph, for other things


@dataclass(frozen=True)
class Description:
    """What goes in, and what comes out.

    Attributes:
        inputs: What the exported net reads.
        classes: Names of the classes; empty: they have none.
        image: How image files become its input, as the manifest has it; None where the input is no image, or
            how is not known.
    """

    inputs: Sequence[ModelInput]
    classes: Sequence[str]
    image: Mapping[str, Any] | None = None


def described_run(run: Run, reads: Sequence[Value], transform: Transform | None) -> Description:
    """What the net of a run reads: levels 0 ... 255 where its data were images of such, and normalised there.

    Args:
        run: The run.
        reads: What its first stage reads.
        transform: In place of the run's.
    """
    net = cast(MultiExitNet, run.net)  # or its targets are refused
    classes = targets_from_json(run.record["data"])[target_of(run.net)].classes
    if transform is None and _of_levels(recorded := recorded_transform(run.record)):
        transform = recorded  # and not that of texts, or of floats on a scale of their own
    return described_net(net, reads, transform=transform, classes=classes, cut=run.recipe.size is not None)


def described_net(
    net: MultiExitNet,
    reads: Sequence[Value],
    *,
    transform: Transform | None = None,
    classes: Sequence[str] = (),
    cut: bool = False,
) -> Description:
    """What a net reads.

    Args:
        net: The net.
        reads: What its first stage reads.
        transform: Normalises images of levels 0 ... 255; None: the net gets its inputs as they are.
        classes: Names of the classes; empty: their numbers.
        cut: Whether images of any size are cut to the net's square; False: they must be of its size.

    Raises:
        UserError: The normalisation is for another number of channels, or an input has a name of the graph's.
    """
    names = [*example] if isinstance(example := net.sample(1), Mapping) else _numbered(len(reads))
    for name in names:
        if not name or OWN_NAMES.fullmatch(name):
            raise UserError(
                f"the net reads an input that is called {shown(name)}, a name that the graph has for itself; "
                "call it otherwise"
            )
    inputs = [
        ModelInput(name, value.dtype, value.shape[1:]) for name, value in zip(names, reads, strict=True)
    ]
    if transform is None or not transform.mean:
        return Description(inputs, classes)
    image = _levels(inputs, transform)
    channels, *size = image.shape
    files = {"mode": MODES[channels], "size": size, "cut": cut} if channels in MODES else None
    return Description([image], classes, files)


def _numbered(count: int) -> list[str]:
    return ["inputs"] if count == 1 else [f"inputs{place}" for place in range(1, count + 1)]


def _levels(inputs: Sequence[ModelInput], transform: Transform) -> ModelInput:
    """An image of levels, which the graph normalises: (level / 255 - mean) / std."""
    (image, *others) = inputs
    if others or len(image.shape) != 3 or image.shape[0] != len(transform.mean):
        raise UserError(
            f"the normalisation is for {len(transform.mean)} channels, and the net reads "
            f"{', '.join(f'{each.name} {[*each.shape]}' for each in inputs)}; give that of its training"
        )
    scale = tuple(1 / (255 * std) for std in transform.std)
    shift = tuple(-mean / std for mean, std in zip(transform.mean, transform.std, strict=True))
    return ModelInput("images", "uint8", image.shape, scale, shift)


def _of_levels(transform: Transform) -> bool:
    """Whether a normalisation is on the scale of image files, 0 ... 1, which deviate by at most a half."""
    levels = all(0 <= mean <= 1 for mean in transform.mean) and all(std <= 0.5 for std in transform.std)
    return bool(transform.mean) and levels
