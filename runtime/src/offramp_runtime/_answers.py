"""What a model says about samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from offramp_runtime._errors import BundleError, InputError
from offramp_runtime._manifest import Exit
from offramp_runtime._stages import Passage, Stage

__all__ = ["Answer", "SampleAnswer", "answer_of", "sample_answer"]

REMEDY = "look for infinity and very large numbers in the input"


class Answer(NamedTuple):
    """What a model says about N samples, in the order in which they came.

    Attributes:
        probabilities: Of the classes, float32 ``[N, classes]``.
        prediction: The likeliest class of each, int64 ``[N]``.
        exit: The numbers of the exits at which the samples left, from 1, int64 ``[N]``.
        confidence: How sure these were, by the bundle's measure, float32 ``[N]``.
        cost: The operations that each sample took, int64 ``[N]``; None where the bundle does not tell them.
    """

    probabilities: np.ndarray
    prediction: np.ndarray
    exit: np.ndarray
    confidence: np.ndarray
    cost: np.ndarray | None


class SampleAnswer(NamedTuple):
    """What a model says about one sample.

    Attributes:
        prediction: The class.
        exit: The number of the exit at which the sample left, from 1.
        confidence: How sure that was, by the bundle's measure.
        cost: The operations that the sample took; None where the bundle does not tell them.
        probabilities: Of the classes, float32 ``[classes]``.
    """

    prediction: int
    exit: int
    confidence: float
    cost: int | None
    probabilities: np.ndarray


def answer_of(
    exits: Sequence[Exit], probabilities: np.ndarray, exit: np.ndarray, confidence: np.ndarray
) -> Answer:
    """The answer that a graph's outputs, or those of several, make.

    Raises:
        InputError: A confidence is not a number.
        BundleError: There is no such exit.
    """
    if (broken := np.flatnonzero(np.isnan(confidence))).size:
        raise InputError(f"what the network says about sample {broken[0]} is not numbers; {REMEDY}")
    costs = {each.exit: each.cost for each in exits}
    if unknown := {*exit.tolist()} - costs.keys():
        raise BundleError(f"the graph has an exit {min(unknown)}, which manifest.json has not")
    spent = [costs[number] for number in exit.tolist()]
    return Answer(
        probabilities,
        probabilities.argmax(-1),
        exit,
        confidence,
        None if None in costs.values() else np.array(spent, np.int64),
    )


def sample_answer(stage: Stage, passage: Passage, row: int) -> SampleAnswer | InputError:
    """The answer to a sample that leaves behind a stage; an error where that is not numbers."""
    confidence = float(passage.confidence[row])
    if math.isnan(confidence):
        return InputError(f"what exit {stage.exit} says is not numbers; {REMEDY}")
    return SampleAnswer(
        int(passage.prediction[row]),
        stage.exit,
        confidence,
        stage.cost,
        passage.probabilities[row].copy(),  # of its own, or it would keep the batch's alive
    )
