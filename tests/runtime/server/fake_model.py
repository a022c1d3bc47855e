"""A model without a net, whose answers stand in its samples, as slow as a test wants it."""

from __future__ import annotations

import io
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np
from offramp_runtime import Exit, Input, InputError, SampleAnswer, StreamClosed
from PIL import Image

SIZE = 8
Step = tuple[SampleAnswer, float | None]


def sample(prediction: int, *confidences: float) -> np.ndarray:
    """An image ``[3, 8, 8]`` for which the model says this class, and is so sure at its three exits."""
    image = np.zeros((3, SIZE, SIZE), np.uint8)
    image[0, 0, 0] = prediction
    image[0, 0, 1 : 1 + len(confidences)] = [round(255 * each) for each in confidences]
    return image


class FakeImage(NamedTuple):
    channels: int
    size: tuple[int, int]
    cut: bool


class FakeModel:
    """Leaves at the first exit whose confidence reaches 0.8."""

    classes = (*(f"class {number}" for number in range(200)),)
    inputs = (Input("images", "uint8", (3, SIZE, SIZE)),)
    image = FakeImage(3, (SIZE, SIZE), False)
    exits = (*(Exit(number, 10 * number, f"stage{number}.onnx", ()) for number in (1, 2, 3)),)

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.started = 0  # samples that the model began to run
        self.open = threading.Event()  # cleared, the model waits
        self.open.set()

    def image_of(self, file: bytes, *, max_pixels: int) -> np.ndarray:
        try:
            with Image.open(io.BytesIO(file)) as image:
                assert image.size == (SIZE, SIZE), "another size"
                return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        except Exception as error:  # as many kinds as Pillow has
            raise InputError(f"not an image: {' '.join(str(error).split())}") from None

    def walk(self, image: np.ndarray, *, threshold: float | None = None) -> Iterator[Step]:
        if image.shape != (3, SIZE, SIZE):
            raise InputError(f"a sample is uint8 [3, 8, 8], not {[*image.shape]}")
        needed = 0.8 if threshold is None else threshold
        probabilities = np.eye(200, dtype=np.float32)[image[0, 0, 0]]
        for number, confidence in enumerate(image[0, 0, 1:4] / 255, 1):
            answer = SampleAnswer(int(image[0, 0, 0]), number, float(confidence), 10 * number, probabilities)
            yield answer, needed if number < 3 else None
            if confidence >= needed:
                return

    def answer(self, image: np.ndarray, threshold: float | None = None) -> SampleAnswer:
        return [*self.walk(image, threshold=threshold)][-1][0]

    def stream(self, *, max_batch: int, max_wait: float, capacity: int) -> FakeStream:
        self.opened = FakeStream(self, capacity)
        return self.opened


class FakeStream:
    def __init__(self, model: FakeModel, capacity: int) -> None:
        self.model, self.capacity = model, capacity
        self.tasks: queue.Queue[Any] = queue.Queue()
        self.closed = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def __enter__(self) -> FakeStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True
        self.tasks.put(None)
        self.thread.join()

    def submit(self, x, *, threshold=None, budget=None, timeout=None, block=True) -> Future[SampleAnswer]:
        if x.shape != (3, SIZE, SIZE) or x.dtype != np.uint8:
            raise InputError(f"a sample is uint8 [3, 8, 8], not {x.dtype} {[*x.shape]}")
        if timeout is not None and timeout <= 0:
            raise InputError("timeout must be above 0")
        if self.closed:
            raise StreamClosed("closed")
        if self.tasks.qsize() >= self.capacity and not block:
            raise queue.Full("full")
        future: Future[SampleAnswer] = Future()
        deadline = None if timeout is None else time.monotonic() + timeout
        self.tasks.put((future, x, threshold, deadline))
        return future

    def run(self) -> None:
        while (task := self.tasks.get()) is not None:
            future, image, threshold, deadline = task
            while not self.model.open.wait(0.005):
                if deadline is not None and time.monotonic() >= deadline:
                    break
            if not future.set_running_or_notify_cancel():
                continue
            if deadline is not None and time.monotonic() >= deadline:
                future.set_exception(TimeoutError("late"))
                continue
            self.model.started += 1
            time.sleep(self.model.seconds)
            if image[0, 0, 0] == 199:
                future.set_exception(RuntimeError("the net is broken"))
            elif image[0, 0, 0] == 198:
                future.set_exception(InputError("the confidence of exit 1 is not a number"))
            else:
                future.set_result(self.model.answer(image, threshold))
