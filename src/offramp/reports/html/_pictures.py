"""The samples that leave first and last at each exit, as small pictures in the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from offramp.errors import UserError
from offramp.exits.decisions import Decisions, decide
from offramp.exits.exit_logits import target_of
from offramp.exits.policy import Policy
from offramp.reports.budget import Measured
from offramp.runs import Run
from offramp.runs.sets import recorded_transform
from offramp.runs.targets import targets_from_json
from offramp.tasks.classification import NO_LABEL

__all__ = ["ExitPictures", "Gallery", "Picture", "gallery"]

MOST = 8  # pictures of a row
SIDE = 96  # pixels at most


class Picture(NamedTuple):
    """A sample that leaves.

    Attributes:
        source: The picture as a data address.
        truth: Name of its class.
        said: Name of the predicted class.
        confidence: How sure the exit is.
    """

    source: str
    truth: str
    said: str
    confidence: float

    @property
    def right(self) -> bool:
        """Whether the prediction is right."""
        return self.truth == self.said


class ExitPictures(NamedTuple):
    """What leaves at an exit.

    Attributes:
        exit: Its number, from 1.
        share: Percent of the test samples that leave there.
        first: Those of which the exit is surest.
        last: Those of which it is least sure, the least last; empty where all are among the first.
    """

    exit: int
    share: float
    first: list[Picture]
    last: list[Picture]


@dataclass(frozen=True)
class Gallery:
    """The pictures of a method.

    Attributes:
        label: The method.
        exits: The pictures of each exit.
    """

    template: ClassVar[str] = "gallery"
    label: str
    exits: Sequence[ExitPictures]


def gallery(label: str, measured: Measured, policy: Policy) -> Gallery:
    """The samples that leave first and last at each exit by a policy.

    Args:
        label: The method.
        measured: A run of it.
        policy: When samples leave.

    Raises:
        UserError: The samples are no images, or Pillow is missing.
    """
    found = decide(measured.test, policy)
    chosen = [_ends(found, exit) for exit in range(1, measured.test.num_exits + 1)]
    wanted = {at for ends in chosen for end in ends for at in end}
    sources = _sources(measured.run, wanted)
    target = target_of(measured.run.net)
    names = targets_from_json(measured.run.record["data"])[target].classes

    def picture(at: int) -> Picture:
        truth, said = int(measured.test.labels[at]), int(found.prediction[at])
        return Picture(sources[at], names[truth], names[said], float(found.confidence[at]))

    shares = found.shares(measured.test.num_exits)
    return Gallery(
        label,
        [
            ExitPictures(exit, 100 * share, [*map(picture, first)], [*map(picture, last)])
            for exit, (share, (first, last)) in enumerate(zip(shares, chosen, strict=True), 1)
        ],
    )


def _ends(found: Decisions, exit: int) -> tuple[list[int], list[int]]:
    """Places of the surest and of the least sure samples among those that leave at an exit."""
    here = (found.exit == exit).nonzero().flatten()
    ordered = here[found.confidence[here].argsort(descending=True, stable=True)].tolist()
    return ordered[:MOST], ordered[max(MOST, len(ordered) - MOST) :]


def _sources(run: Run, wanted: set[int]) -> dict[int, str]:
    """The pictures of the test samples at some places."""
    found = {}
    for at, image in enumerate(_labelled(run)):
        if at in wanted:
            found[at] = _encoded(_levels(image, run))
    return found


def _labelled(run: Run) -> Iterator[Tensor]:
    """The inputs of the test samples that have a label, one by one, as recorded logits are in order.

    Raises:
        UserError: They are no images.
    """
    target = target_of(run.net)
    if "sets" in run.record["data"]:
        raise UserError("the samples are of several sets")
    for batch in run.batches("test"):
        images = batch.inputs
        if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise UserError("the samples are no images of one or three channels")
        labels = batch.targets.get(target)
        if labels is not None:
            known = labels != NO_LABEL if labels.ndim == 1 else torch.ones(len(labels), dtype=torch.bool)
            yield from images[known.to(images.device)]


def _levels(image: Tensor, run: Run) -> Tensor:
    """An image as levels 0 ... 255, uint8 ``[H, W, C]``; floats on another scale from end to end."""
    transform = recorded_transform(run.record)
    mean, std = (torch.tensor(levels).view(-1, 1, 1) for levels in (transform.mean, transform.std))
    values = image.float().cpu() * std + mean
    if values.min() < -0.01 or values.max() > 1.01:
        values = (values - values.min()) / (values.max() - values.min()).clamp(min=1e-12)
    return (255 * values.clamp(0, 1)).round().byte().permute(1, 2, 0)


def _encoded(levels: Tensor) -> str:
    """A data address of the image, made smaller if need be."""
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise UserError("pillow is missing: pip install 'offramp[report]'") from error
    array: Any = levels.numpy()
    image = Image.fromarray(array if array.shape[2] == 3 else array[:, :, 0])
    image.thumbnail((SIDE, SIDE))
    data = io.BytesIO()
    image.save(data, "WEBP", quality=80, method=4)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"
