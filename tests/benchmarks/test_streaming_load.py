"""The clients of the streaming benchmark: how many ask at a time, when, and what is counted."""

import itertools
import queue
import statistics
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

from offramp.exits import SampleAnswer

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import streaming

    yield streaming
    del sys.modules["streaming"]


class Fake:
    """A router whose samples are their classes: it answers the oldest once so many wait, at last all."""

    def __init__(self, answers_at: int, requests: int) -> None:
        self.answers_at, self.left = answers_at, requests
        self.waiting: list[tuple[Future, int]] = []
        self.most = 0

    def submit(self, sample, *, block):
        self.left -= 1
        future = Future()
        self.waiting.append((future, sample))
        self.most = max(self.most, len(self.waiting))
        if len(self.waiting) >= self.answers_at:
            self.answer(1)
        if not self.left:
            self.answer(len(self.waiting))
        return future

    def answer(self, count):
        for future, sample in self.waiting[:count]:
            future.set_result(SampleAnswer(sample, 1, 0.9, 10))
        del self.waiting[:count]


def test_a_closed_load_has_so_many_requests_at_a_time(load):
    router, outcome = Fake(answers_at=5, requests=100), load.Outcome()
    load.Clients(router, [0, 1, 2], [0, 1, 1]).closed(5, 100, outcome)
    assert router.most == 5
    found = outcome.figures()
    assert (len(outcome.latencies), found["refused"], found["operations"]) == (100, 0, 10)
    assert found["top1"] == 34 + 33  # the third sample is of class 2
    assert found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]


def test_a_full_router_refuses_requests_which_are_counted(load, monkeypatch):
    router, outcome = Fake(answers_at=100, requests=10), load.Outcome()
    monkeypatch.setattr(load.time, "sleep", lambda seconds: None)
    submit, tries = router.submit, itertools.count()

    def refuse_some(sample, *, block):
        assert not block
        if next(tries) in (3, 7):
            router.left -= 1
            raise queue.Full
        return submit(sample, block=block)

    router.submit = refuse_some
    load.Clients(router, [0], [0]).poisson(1e6, 10, 0, outcome)
    assert (len(outcome.latencies), outcome.refused) == (8, 2)
    assert outcome.figures()["refused"] == 0.2


def test_latencies_count_from_when_a_request_was_due(load, monkeypatch):
    now = itertools.count(step=10)  # seconds; the client lags far behind
    monkeypatch.setattr(load.time, "perf_counter", lambda: next(now))
    outcome = load.Outcome()
    load.Clients(Fake(answers_at=1, requests=5), [0], [0]).poisson(1.0, 5, 0, outcome)
    dues = [*load.arrivals(1.0, 5, 0)]
    # the clock is read at the start, then before and after each request
    assert outcome.latencies == pytest.approx([20 * (n + 1) - due for n, due in enumerate(dues)])


def test_arrivals_are_those_of_a_poisson_process(load):
    times = [*load.arrivals(50.0, 4000, seed=1)]
    assert times == [*load.arrivals(50.0, 4000, seed=1)] != [*load.arrivals(50.0, 4000, seed=2)]
    gaps = [b - a for a, b in itertools.pairwise([0.0, *times])]
    assert statistics.mean(gaps) == pytest.approx(1 / 50, rel=0.05)  # three standard errors
    assert statistics.stdev(gaps) == pytest.approx(1 / 50, rel=0.1)  # as the mean, for exponential gaps
