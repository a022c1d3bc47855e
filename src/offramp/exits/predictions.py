"""What a trained net says about image files, each at the exit that it leaves at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor

from offramp.data import Batch, Transform
from offramp.data.image_files import ImageReader
from offramp.data.smaller_batches import SmallerBatches
from offramp.errors import UserError
from offramp.exits.calibration.published import NOBODY
from offramp.exits.decisions import readings
from offramp.exits.exit_logits import ExitLogits, target_of
from offramp.exits.policy import Policy
from offramp.exits.router import Answer, Router
from offramp.modes import evaluating
from offramp.nets import MultiExitNet
from offramp.runs import Run
from offramp.runs.sets import recorded_transform
from offramp.runs.targets import targets_from_json
from offramp.tasks.task import wide

__all__ = ["Prediction", "Predictor", "Visit"]


class Prediction(NamedTuple):
    """What a net says about one image.

    Attributes:
        file: The image.
        label: Name of the predicted class.
        confidence: How sure the exit was of it, by the policy's confidence.
        exit: The number of the exit at which the image left, from 1.
    """

    file: Path
    label: str
    confidence: float
    exit: int


class Visit(NamedTuple):
    """What one exit on an image's way says about it.

    Attributes:
        exit: The exit's number, from 1.
        probabilities: Of all classes, ``[classes]``.
        confidence: By the policy's confidence.
        leaves: Whether the image left there.
    """

    exit: int
    probabilities: Tensor
    confidence: float
    leaves: bool


class Predictor:
    """Predicts the classes of image files, which are read and normalised as the images of a run's data were.

    Args:
        run: Whose net it is.
        policy: When images leave; None: all at the last exit.
        cut: Cut images of any size to the net's square, also where the run's data were of one size.

    Attributes:
        classes: Names of the classes.
        reader: How files become levels.

    Raises:
        UserError: The net does not classify images at exits in a row, the policy is for another net, or the
            run's images were not of the kind that image files hold.
    """

    def __init__(self, run: Run, policy: Policy | None = None, *, cut: bool = False) -> None:
        target = target_of(run.net)
        self._net = net = cast(MultiExitNet, run.net)  # or it has been refused
        self.policy = policy or Policy.full(net.num_exits)
        self.classes: Sequence[str] = targets_from_json(run.record["data"])[target].classes
        self.reader = ImageReader(_image_size(run), cut or run.recipe.size is not None)
        self._transform = _of_levels(recorded_transform(run.record))
        self._batch_size = run.recipe.batch_size
        self._device = next(net.parameters()).device
        self._smaller = SmallerBatches(self._device)
        self._router = Router(net, self.policy)
        self._asked = policy or Policy((NOBODY,) * (net.num_exits - 1))

    def __call__(self, files: Sequence[Path]) -> Iterator[Prediction | UserError]:
        """Predict the classes of image files, some at a time.

        Yields:
            One for each file in order; an error for one that cannot be read, whose line names it.
        """
        for start in range(0, len(files), self._batch_size):
            part = files[start : start + self._batch_size]
            read = [*map(self._read, part)]
            levels = [image for image in read if isinstance(image, Tensor)]
            answers = self._answers(levels) if levels else iter(())
            for file, image in zip(part, read, strict=True):
                if isinstance(image, UserError):
                    yield image
                else:
                    label, confidence, exit = next(answers)
                    yield Prediction(file, self.classes[label], confidence, exit)

    def walk(self, prediction: Prediction) -> list[Visit]:
        """What every evaluated exit says about an image, up to the one that it left at.

        Without a policy all exits are asked.
        """
        images = self._normalised(self.reader.read(prediction.file)[None])
        with torch.inference_mode(), evaluating(self._net):
            logits = torch.stack([wide(each).cpu() for each in self._net(images)])
        recorded = ExitLogits(logits, torch.zeros(1, dtype=torch.int64))
        visits = []
        for gate, reading in readings(recorded, self._asked):
            tempered = logits[gate.exit - 1, 0] / self._asked.temperatures[gate.exit - 1]
            leaves = gate.exit == prediction.exit
            visits.append(Visit(gate.exit, tempered.softmax(-1), float(reading.confidence), leaves))
            if leaves:
                break
        return visits

    def _read(self, file: Path) -> Tensor | UserError:
        try:
            return self.reader.read(file)
        except UserError as error:
            return error

    def _normalised(self, levels: Tensor) -> Tensor:
        return self._transform.images(levels.to(self._device), torch.Generator())  # which draws nothing

    def _answers(self, levels: Sequence[Tensor]) -> Iterator[tuple[int, float, int]]:
        images = Batch(torch.stack([*levels]), {})
        for answer in self._smaller(images, self._route):
            columns = (answer.prediction, answer.confidence, answer.exit)
            yield from zip(*(column.tolist() for column in columns), strict=True)

    def _route(self, levels: Batch) -> Answer:
        return self._router(self._normalised(cast(Tensor, levels.inputs)))


def _image_size(run: Run) -> tuple[int, int, int]:
    size = run.record["data"]["input_size"]
    if len(size) != 3:
        raise UserError(
            "files are predicted where they are images, and the run's net reads no images; "
            "give its inputs to offramp.Router in Python"
        )
    channels, height, width = size
    return channels, height, width


def _of_levels(transform: Transform) -> Transform:
    """A normalisation, which must be on the scale of the levels of image files, 0 ... 1.

    Raises:
        UserError: It is of floats on another scale: numbers between 0 and 1 deviate by at most a half.
    """
    if any(not 0 <= mean <= 1 for mean in transform.mean) or any(std > 0.5 for std in transform.std):
        raise UserError(
            "the run's images were floats on a scale of their own, and how image files come onto it is not "
            "known; predict in Python, by offramp.Router"
        )
    return transform
