"""What a model says about image files, some at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from offramp_runtime._errors import InputError
from offramp_runtime._model import Model

__all__ = ["FileAnswer", "predict_files"]

TOGETHER = 32  # images in memory at a time


class FileAnswer(NamedTuple):
    """What a model says about an image file.

    Attributes:
        file: The file.
        label: Name of the predicted class.
        confidence: How sure the exit was of it, by the bundle's measure.
        exit: The number of the exit at which the image left, from 1.
        cost: The operations that it took; None where the bundle does not tell them.
    """

    file: str
    label: str
    confidence: float
    exit: int
    cost: int | None


def predict_files(
    model: Model, files: Sequence[str | os.PathLike[str]], thresholds: Any = None
) -> Iterator[FileAnswer | InputError]:
    """Predict the classes of image files.

    Args:
        model: The model.
        files: The files.
        thresholds: As of :meth:`Model.predict`.

    Yields:
        One for each file in order; an error for one that cannot be read, whose line names it.

    Raises:
        InputError: The thresholds are none of the model's, or it reads no images.
    """
    for start in range(0, len(files), TOGETHER):
        read = [_read(model, file) for file in files[start : start + TOGETHER]]
        levels = [image for _, image in read if isinstance(image, np.ndarray)]
        answers = iter(_answers(model, levels, thresholds)) if levels else iter(())
        for file, image in read:
            yield image if isinstance(image, InputError) else FileAnswer(file, *next(answers))


def _read(model: Model, file: str | os.PathLike[str]) -> tuple[str, np.ndarray | InputError]:
    try:
        return os.fspath(file), model.image_of(file)
    except InputError as error:
        return os.fspath(file), error


def _answers(
    model: Model, levels: Sequence[np.ndarray], thresholds: Any
) -> list[tuple[str, float, int, int | None]]:
    answer = model.predict(np.stack(levels), thresholds)
    costs = [None] * len(levels) if answer.cost is None else answer.cost.tolist()
    labels = [model.classes[label] for label in answer.prediction]
    return [*zip(labels, answer.confidence.tolist(), answer.exit.tolist(), costs, strict=True)]
