"""The engine that runs stages on batches of requests, by ONNX Runtime."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from offramp_runtime._answers import SampleAnswer, sample_answer
from offramp_runtime._queueing import BatchResult, Request
from offramp_runtime._stages import Passage, Stage

__all__ = ["OnnxEngine"]


class OnnxEngine:
    """Runs stages on requests, whose flow is the arrays behind a stage.

    Args:
        stages: The stages.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages

    def context(self) -> AbstractContextManager[object]:
        """Nothing that a thread would have to be in."""
        return nullcontext()

    def run(
        self, number: int, requests: Sequence[Request[SampleAnswer]], *, anew: bool = False
    ) -> BatchResult[SampleAnswer]:
        """Run a stage, read its exit, and take out the samples that leave.

        Args:
            number: Which stage, from 0.
            requests: The requests, of one kind, that wait before it.
            anew: Makes no difference, since no graph writes to what it reads.
        """
        stage = self._stages[number]
        arrays = self._gathered(number, requests) if number else _stacked(requests)
        passage = stage.run(arrays, len(requests))
        leaving = _leaving(stage, passage, requests, number)
        answers = [
            sample_answer(stage, passage, row) if leaves else None
            for row, leaves in enumerate(leaving.tolist())
        ]
        staying = np.flatnonzero(~leaving)
        carried = passage.carried
        if 0 < len(staying) < len(requests):
            carried = stage.rows(carried, staying)
        return BatchResult(answers, staying.tolist(), carried)

    def _gathered(self, number: int, requests: Sequence[Request[Any]]) -> list[np.ndarray]:
        """What requests of different batches carry, as one."""
        before = self._stages[number - 1]
        parts = []
        for _, group in itertools.groupby(requests, key=lambda request: id(request.flow)):
            members = [*group]
            rows = [member.row for member in members]
            flow: list[np.ndarray] = members[0].flow
            whole = len(next(a for a, has in zip(flow, before.batched, strict=True) if has)) == len(rows)
            parts.append(flow if whole and rows == [*range(len(rows))] else before.rows(flow, rows))
        if len(parts) == 1:
            return parts[0]
        columns = zip(before.batched, zip(*parts, strict=True), strict=True)
        return [np.concatenate(column) if has else _common(column) for has, column in columns]


def _stacked(requests: Sequence[Request[Any]]) -> list[np.ndarray]:
    """The inputs of requests as one."""
    return [np.stack(column) for column in zip(*(request.inputs for request in requests), strict=True)]


def _leaving(stage: Stage, passage: Passage, requests: Sequence[Request[Any]], number: int) -> np.ndarray:
    """Which samples leave, by the policy's thresholds or their own, or since it is their last exit."""
    leaving = stage.leaving(passage)
    if any(request.threshold is not None for request in requests):
        own = np.array(
            [math.nan if request.threshold is None else request.threshold for request in requests], np.float32
        )
        leaving = np.where(np.isnan(own), leaving, passage.confidence >= own)
    found: np.ndarray = leaving | np.array([number >= request.last for request in requests])
    return found


def _common(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The array that all of these are.

    Raises:
        ValueError: They are not the same, so that their samples cannot run together.
    """
    first, *others = arrays
    if not all(np.array_equal(first, other) for other in others):
        raise ValueError("what a stage carries for a whole batch differs from batch to batch")
    return first
