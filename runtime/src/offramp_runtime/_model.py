"""A model: the graphs of a bundle, and what can be asked of them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offramp_runtime._answers import Answer, SampleAnswer, answer_of, sample_answer
from offramp_runtime._check_graphs import check_graphs
from offramp_runtime._errors import InputError, shown
from offramp_runtime._fields import is_number, is_whole
from offramp_runtime._folder import check_unchanged
from offramp_runtime._graph import Graph
from offramp_runtime._images import MOST_PIXELS, read_image
from offramp_runtime._inputs import batch_of, sample_of
from offramp_runtime._manifest import WHOLE, Bundle, Exit, Input, read_bundle
from offramp_runtime._queueing import Pace
from offramp_runtime._route import route
from offramp_runtime._stages import Stage, make_stages
from offramp_runtime._stream import Stream
from offramp_runtime._thresholds import as_confidence, other_thresholds

__all__ = ["Model", "load"]

MOST_THREADS = 4096  # more than any machine has for one process


def load(folder: str | os.PathLike[str], threads: int | None = None) -> Model:
    """Load a bundle that ``offramp export`` wrote.

    Every file is checked against its checksum, and every graph against the manifest.

    Args:
        folder: The bundle.
        threads: Threads for one operation; None: as many as there are cores.

    Raises:
        BundleError: Anything is wrong with the folder.
        InputError: ``folder`` is no path, or ``threads`` no number of threads.
    """
    if threads is not None and not is_whole(threads, most=MOST_THREADS):
        raise InputError(f"threads is {shown(threads)}, must be a whole number from 1 to {MOST_THREADS}")
    try:
        path = Path(os.fsdecode(folder))
    except TypeError:
        raise InputError(f"folder is {shown(folder)}, must be the path of a bundle") from None
    bundle = read_bundle(path)
    check_graphs(bundle)
    return Model(bundle, threads and int(threads))


class Model:
    """A network that stops early on easy inputs. :func:`load` makes one; it serves any number of threads.

    Graphs are loaded when they are first asked: the one of all exits by :meth:`predict`, those of the stages
    by the other methods.

    Args:
        bundle: What it is.
        threads: As of :func:`load`.

    Attributes:
        net: What it was exported from.
        precision: Of its weights: ``fp32`` or ``int8``.
        inputs: What it reads.
        image: What image files become where it reads images; None where it does not.
        classes: The names of the classes.
        confidence: By what measure samples leave.
        exits: Where, and what that costs.
        thresholds: The policy's, of all exits but the last, float32 ``[m]``, or ``[m, classes]``.
    """

    def __init__(self, bundle: Bundle, threads: int | None) -> None:
        self.net, self.precision = bundle.net, bundle.precision
        self.inputs: tuple[Input, ...] = bundle.inputs
        self.image = bundle.image
        self.classes: tuple[str, ...] = bundle.classes
        self.confidence = bundle.confidence
        self.exits: tuple[Exit, ...] = bundle.exits
        self.thresholds: np.ndarray = bundle.thresholds
        self._bundle, self._threads = bundle, threads
        self._pace = Pace([each.cost for each in bundle.exits])
        self._lock = threading.Lock()
        self._loaded_graph: Graph | None = None
        self._loaded_stages: list[Stage] | None = None

    def predict(self, x: Any, thresholds: Any = None) -> Answer:
        """Predict the class of every sample, each at the first exit that is sure of it.

        Args:
            x: What the model reads, with a batch axis in front: an array, or several by name.
            thresholds: Leave where the confidence reaches these, in place of the policy's: a number, one for
                each exit but the last ``[m]``, or, where the policy's are so, ``[m, classes]``.

        Raises:
            InputError: Not an input of this model, or one on which it cannot run.
        """
        arrays = batch_of(self.inputs, x)
        feed = {entry.name: array for entry, array in zip(self.inputs, arrays, strict=True)}
        feed["thresholds"] = other_thresholds(thresholds, self.thresholds)
        return answer_of(self.exits, *self._graph().run(feed, len(arrays[0])))

    def anytime(self, x: Any, deadline: float) -> Answer:
        """Predict the class of every sample by a deadline.

        Samples leave as the policy says. Before each further stage the time that it takes is estimated, from
        calls so far; where it does not fit, those that are left get the answer of the exit they are at. The
        first exit always answers. Estimates follow the machine: no promise holds on one that is shared.

        Args:
            x: As of :meth:`predict`.
            deadline: Seconds from now.

        Raises:
            InputError: As of :meth:`predict`, or the deadline is no time.
        """
        end = time.perf_counter()
        if not is_number(deadline) or deadline < 0:
            raise InputError(
                f"deadline is {shown(deadline)}, must be a number of seconds from now, 0 or more"
            )
        arrays, end = batch_of(self.inputs, x), end + float(deadline)
        found = route(self.stages(), arrays, len(self.classes), end, self._pace)
        return answer_of(self.exits, found.probabilities, found.exit, found.confidence)

    def walk(self, x: Any, threshold: float | None = None) -> list[tuple[SampleAnswer, float | None]]:
        """What every exit says about one sample, up to the one that it leaves at.

        Args:
            x: The sample, without the batch axis.
            threshold: As of :meth:`Stream.submit`.

        Returns:
            For each exit on the way what it says, and the threshold for that; None at the last.

        Raises:
            InputError: Not a sample of this model, or one on which it cannot run.
        """
        if threshold is not None and not is_number(threshold):
            raise InputError(f"threshold is {shown(threshold)}, must be a number; leave it out for none")
        arrays, steps = [array[None] for array in sample_of(self.inputs, x)], []
        for stage in self.stages():
            passage = stage.run(arrays, 1)
            answer = sample_answer(stage, passage, 0)
            if isinstance(answer, InputError):
                raise answer
            limit = stage.limit(answer.prediction)
            if limit is not None and threshold is not None:
                limit = as_confidence(threshold)
            steps.append((answer, limit))
            if limit is not None and answer.confidence >= limit:
                break
            arrays = passage.carried
        return steps

    def stream(self, *, max_batch: int = 64, max_wait: float = 0.02, capacity: int = 256) -> Stream:
        """A stream of single samples, which come at any time and from any thread.

        Args:
            max_batch: How many samples run together at most.
            max_wait: How many seconds a sample waits at most, behind each exit, while full batches go before
                it and others come to fill its own. Samples wait under load only; with 0 they never do.
            capacity: How many samples may wait for their answer at a time, which bounds the memory; further
                ones wait in ``submit``, or are refused.

        Raises:
            InputError: A setting out of its range.
        """
        return Stream(self.inputs, self.stages(), max_batch=max_batch, max_wait=max_wait, capacity=capacity)

    def image_of(
        self, source: str | os.PathLike[str] | bytes, *, max_pixels: int = MOST_PIXELS
    ) -> np.ndarray:
        """The sample that an image file holds, uint8 ``[C, H, W]``, decoded and resized as in training.

        Args:
            source: The file's path, or its content.
            max_pixels: Pixels that are decoded at most; the header tells how many there are.

        Raises:
            InputError: It is no whole image, one that cannot be converted, too large, or of another size than
                the model reads; no path; the model reads no images; ``max_pixels`` is no number of pixels; or
                pillow is not installed.
        """
        if self.image is None:
            raise InputError("the model reads no images; give its inputs as arrays")
        return read_image(self.image, source, max_pixels)

    def stages(self) -> Sequence[Stage]:
        """The graphs of the stages, which are loaded by the first call."""
        with self._lock:
            if self._loaded_stages is None:
                check_unchanged(self._bundle.folder, self._bundle.sums)
                self._loaded_stages = make_stages(self._bundle, self._threads)
            return self._loaded_stages

    def _graph(self) -> Graph:
        with self._lock:
            if self._loaded_graph is None:
                check_unchanged(self._bundle.folder, self._bundle.sums)
                outputs = ["probabilities", "exit", "confidence"]
                path = self._bundle.folder / WHOLE
                self._loaded_graph = Graph(path, outputs, len(self.classes), self._threads)
            return self._loaded_graph
