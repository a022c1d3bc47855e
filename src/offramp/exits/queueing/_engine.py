"""What the queue asks of whatever runs a net."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol

from ._request import A, Request

__all__ = ["BatchResult", "Engine"]


@dataclass(frozen=True)
class BatchResult(Generic[A]):
    """Outcome of one step for a batch.

    Attributes:
        answers: For each request that leaves its answer, or the error that takes its place; None for the
            others.
        staying: The places of those others, in the order in which their samples lie now.
        flow: What these carry on.
    """

    answers: Sequence[A | Exception | None]
    staying: Sequence[int]
    flow: Any


class Engine(Protocol[A]):
    """Runs a net in steps, each of which ends with an exit at which samples may leave."""

    def run(self, number: int, requests: Sequence[Request[A]], *, anew: bool = False) -> BatchResult[A]:
        """Run a step, read the exit that it ends with, and take out the samples that leave.

        Args:
            number: Which step, from 0.
            requests: The requests, of one kind, that wait before it; those that leave at it in any case have
                it as their ``last``.
            anew: Start from their inputs, since a step that failed may have written to what they carry.
        """

    def context(self) -> AbstractContextManager[object]:
        """Context manager for the thread that runs steps, such as inference mode."""
