"""Single samples from many threads: each gets its own answer, and what fails fails alone."""

import gc
import os
import queue
import random
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest
from offramp_runtime import InputError, StreamClosed


def alike(found, answer, row):
    assert (found.prediction, found.exit) == (answer.prediction[row], answer.exit[row])
    assert found.confidence == pytest.approx(answer.confidence[row], abs=1e-5)
    np.testing.assert_allclose(found.probabilities, answer.probabilities[row], atol=1e-5)
    assert found.cost == (None if answer.cost is None else answer.cost[row])


@pytest.mark.parametrize("max_batch", [1, 5, 64])
def test_every_sample_gets_the_answer_of_its_own(case, max_batch):
    x = case.samples(60)
    answer, samples = case.model.predict(x), case.each(x)
    with case.model.stream(max_batch=max_batch) as stream, ThreadPoolExecutor(6) as clients:
        futures = [*clients.map(stream.submit, samples)]
        for row, future in enumerate(futures):
            alike(future.result(30), answer, row)
        assert stream.waiting == 0


def test_a_random_mix_of_clients(words):
    """Samples of several lengths and bad ones, some cancelled, some late: nobody harms anybody else."""
    draws, sure = random.Random(0), []
    with words.model.stream(max_batch=8, capacity=16) as stream:
        for seed in range(300):
            length = draws.choice((2, 7, 9))
            sample = {name: value[0] for name, value in words.samples(1, seed).items()}
            sample = {name: np.resize(value, length) for name, value in sample.items()}
            kind = draws.choice(("good", "good", "bad", "cancelled", "late"))
            if kind == "bad":
                sample["words"][1] = 99
            future = stream.submit(sample, timeout=1e-9 if kind == "late" else None)
            if kind == "cancelled":
                future.cancel()
            sure.append((kind, sample, future))
        for kind, sample, future in sure:
            if kind == "bad":
                with pytest.raises(InputError, match="cannot run on this input"):
                    future.result(30)
            elif kind == "late":
                with pytest.raises(TimeoutError, match="no answer within"):
                    future.result(30)
            else:
                batch = {name: value[None] for name, value in sample.items()}
                try:
                    alike(future.result(30), words.model.predict(batch), 0)
                except CancelledError:
                    assert kind == "cancelled"


def test_a_request_may_have_a_threshold_and_a_budget_of_its_own(images):
    samples = images.each(images.samples(12))
    with images.model.stream() as stream:
        never = [stream.submit(x, threshold=2.0) for x in samples]
        cheap = [stream.submit(x, threshold=2.0, budget=200 + 99 * (n % 2)) for n, x in enumerate(samples)]
        first = [stream.submit(x, threshold=0.0) for x in samples]
        assert {future.result().exit for future in never} == {3}
        assert {(future.result().exit, future.result().cost) for future in cheap} == {(2, 200)}
        assert {future.result().exit for future in first} == {1}


@pytest.mark.parametrize(
    ("options", "says"),
    [({"threshold": "high"}, "threshold is 'high'"), ({"threshold": float("nan")}, "threshold is nan"),
     ({"timeout": 0}, "timeout is 0"), ({"timeout": "soon"}, "timeout is 'soon'"),
     ({"timeout": 10**400}, "timeout is"),
     ({"budget": 99}, "at least 100, the cost of exit 1"), ({"budget": "big"}, "budget is 'big'")],
)  # fmt: skip
def test_options_out_of_their_range(images, options, says):
    with images.model.stream() as stream, pytest.raises(InputError, match=says):
        stream.submit(images.samples(1)[0], **options)


def test_what_is_no_sample(images, words):
    with images.model.stream() as stream:
        for bad, says in (
            (images.samples(1), "as [3, 6, 6], got [1, 3, 6, 6]"),
            (images.samples(1)[0].astype(float), "as uint8, got float64"),
            ("image", "got <U5"),
        ):
            with pytest.raises(InputError) as refused:
                stream.submit(bad)
            assert says in str(refused.value)
    with words.model.stream() as stream:
        with pytest.raises(InputError, match="does not tell what its exits cost"):
            stream.submit(words.each(words.samples(1))[0], budget=10)
        sample = words.each(words.samples(1))[0]
        with pytest.raises(InputError, match="weights holds NaN"):
            stream.submit({**sample, "weights": np.full(7, np.nan, np.float32)})
        with pytest.raises(InputError, match="not numbers"):
            stream.submit({**sample, "weights": np.full(7, np.inf, np.float32)}).result(30)


@pytest.mark.parametrize(
    "options", [{"max_batch": 0}, {"max_batch": 2.5}, {"capacity": True}, {"max_wait": -1}]
)
def test_settings_out_of_their_range(images, options):
    with pytest.raises(InputError, match=f"{next(iter(options))} is"):
        images.model.stream(**options)


def test_there_is_room_for_a_bounded_number(images):
    entered, go_on = threading.Event(), threading.Event()

    def hold(_):
        entered.set()
        go_on.wait()

    x = images.samples(1)[0]
    with images.model.stream(capacity=2) as stream:
        stream.submit(x).add_done_callback(hold)
        entered.wait()  # the stream's thread is held from here on
        waiting = [stream.submit(x, block=False) for _ in range(2)]
        assert stream.waiting == 2
        with pytest.raises(queue.Full):
            stream.submit(x, block=False)
        go_on.set()
        assert len({future.result(30).exit for future in waiting}) == 1


def test_a_closed_stream_answers_what_it_has_and_takes_no_more(images):
    samples = images.each(images.samples(40))
    stream = images.model.stream(max_batch=2)
    futures = [stream.submit(x) for x in samples]
    stream.close()
    assert all(future.done() for future in futures)
    with pytest.raises(StreamClosed, match="the stream is closed"):
        stream.submit(samples[0])
    stream.close()


def test_a_stream_that_nobody_closed_ends_with_its_last_reference(images):
    stream = images.model.stream()
    worker = stream._worker
    assert stream.submit(images.samples(1)[0]).result(30)
    del stream
    gc.collect()
    worker.join(30)
    assert not worker.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_is_told_so(images):
    with images.model.stream() as stream:
        if (child := os.fork()) == 0:
            try:
                stream.submit(images.samples(1)[0])
            except StreamClosed as error:
                os._exit(0 if "forked" in str(error) else 1)
            os._exit(2)
        deadline = time.monotonic() + 60
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ended == (child, 0)


def test_nothing_of_a_shape_is_kept_when_its_samples_are_done(words):
    with words.model.stream() as stream:
        for length in range(1, 30):
            sample = {"words": np.zeros(length, np.int64), "weights": np.ones(length, np.float32)}
            stream.submit(sample).result(30)
        deadline = time.monotonic() + 30
        while len(stream._kinds) and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.01)
        assert len(stream._kinds) <= 1  # the thread may still hold the last
