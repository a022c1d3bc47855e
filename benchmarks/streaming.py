"""Latency and throughput of single requests, with and without early exit, under closed and Poisson load.

Three variants of one streaming router take turns: `static` (no sample leaves early), `early exit`, and
`shrinking`, the same policy with batches that only shrink (`max_wait=0`: none waits to be filled). Under a
closed load so many clients each wait for their answer before they ask again; under a Poisson load requests
come at random times, at a rate that is a share of what `static` got through under the largest closed load.
A latency counts from when a request was due, not from when the client came to send it, so that a client that
lags behind hides nothing; a full router refuses Poisson requests, which are counted.

    python benchmarks/streaming.py runs/vgg7 --out benchmarks/streaming_vgg7.json

Samples are test images one by one in the CPU's memory, channels-last. The clients' thread shares the
interpreter with the router's, as in a server.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import queue
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from _result import result_file, write_result
from torch import Tensor

import offramp
from offramp.exits import PathCosts, Policy, SampleAnswer, StreamingRouter
from offramp.runs.sets import recorded_transform


@dataclass
class Outcome:
    """What became of requests: seconds of each answered one, and of all; how many were refused, or right."""

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    refused: int = 0
    correct: int = 0
    operations: int = 0

    def figures(self) -> dict[str, float]:
        answered, ms = len(self.latencies), [1e3 * each for each in self.latencies]
        cuts = statistics.quantiles(ms, n=100, method="inclusive")
        return {
            **{f"p{percent}_ms": cuts[percent - 1] for percent in (50, 95, 99)},
            "per_second": answered / self.seconds,
            "refused": self.refused / (answered + self.refused),
            "top1": 100 * self.correct / answered,
            "operations": self.operations / answered,
        }


class Clients:
    """Ask a router for samples in turn, and keep the time.

    Args:
        router: The router.
        samples: The samples.
        labels: Their classes.
    """

    def __init__(self, router: StreamingRouter, samples: Sequence[Tensor], labels: Sequence[int]) -> None:
        self._router, self._samples, self._labels = router, samples, labels
        self._done: queue.SimpleQueue[tuple[int, float, float, Future[SampleAnswer]]] = queue.SimpleQueue()

    def closed(self, clients: int, requests: int, outcome: Outcome) -> None:
        """So many clients, each with one request at a time."""
        began = time.perf_counter()
        for n in range(requests):
            if n >= clients:
                self._collect(outcome)
            self._ask(n, time.perf_counter(), block=True)
        outcome.seconds += max(self._collect(outcome) for _ in range(min(clients, requests))) - began

    def poisson(self, rate: float, requests: int, seed: int, outcome: Outcome) -> None:
        """So many requests a second on average, at random times."""
        began, asked = time.perf_counter(), 0
        for n, due in enumerate(arrivals(rate, requests, seed)):
            time.sleep(max(0.0, began + due - time.perf_counter()))
            try:
                self._ask(n, began + due, block=False)
                asked += 1
            except queue.Full:
                outcome.refused += 1
        outcome.seconds += max(self._collect(outcome) for _ in range(asked)) - began

    def _ask(self, n: int, due: float, *, block: bool) -> None:
        place = n % len(self._samples)

        def note(future: Future[SampleAnswer]) -> None:
            self._done.put((place, due, time.perf_counter(), future))

        self._router.submit(self._samples[place], block=block).add_done_callback(note)

    def _collect(self, outcome: Outcome) -> float:
        """Wait for an answer; when it came."""
        place, due, done, future = self._done.get()
        answer = future.result()
        outcome.latencies.append(done - due)
        outcome.correct += answer.prediction == self._labels[place]
        outcome.operations += answer.cost or 0
        return done


def arrivals(rate: float, requests: int, seed: int) -> Iterator[float]:
    """Seconds from the start at which requests of a Poisson process come."""
    draw = random.Random(seed)
    return itertools.accumulate(draw.expovariate(rate) for _ in range(requests))


def measure(
    variants: Mapping[str, Clients], load: Callable[[Clients, Outcome, int], None], rounds: int
) -> dict[str, dict[str, float]]:
    """Figures of each variant under a load, called with clients, outcome and round; they take turns."""
    outcomes = {name: Outcome() for name in variants}
    for turn in range(rounds):
        for name, clients in variants.items():
            load(clients, outcomes[name], turn)
    return {name: outcome.figures() for name, outcome in outcomes.items()}


def measured(
    variants: Mapping[str, Clients], args: argparse.Namespace
) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    """Each load and the figures of the variants under it."""
    per_second = 0.0
    for count in args.clients:

        def closed(clients: Clients, outcome: Outcome, turn: int, count: int = count) -> None:
            clients.closed(count, args.requests, outcome)

        found = measure(variants, closed, args.rounds)
        per_second = found["static"]["per_second"]
        yield f"closed {count}", found
    for share in args.rates:

        def poisson(clients: Clients, outcome: Outcome, turn: int, share: float = share) -> None:
            clients.poisson(share * per_second, args.requests, turn, outcome)

        yield f"poisson {share:g}", measure(variants, poisson, args.rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="folder of a finished run")
    parser.add_argument("--budget", default="50%")
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 16, 64, 256])
    parser.add_argument("--rates", nargs="+", type=float, default=[0.3, 0.6, 0.9, 1.2])
    parser.add_argument("--requests", type=int, default=2000, help="of each variant, load and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-batch", type=int, default=64)
    parser.add_argument("--max-wait", type=float, default=0.02)
    parser.add_argument("--capacity", type=int, default=256)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=result_file)
    args = parser.parse_args()

    run = offramp.Run.open(args.run)
    net = run.net.to(args.device).to(memory_format=torch.channels_last)
    test = next(
        run.open_data().test.batches(args.images, transform=recorded_transform(run.record), device="cpu")
    )
    samples, labels = [*test.channels_last().inputs], test.targets["label"].tolist()
    policy = offramp.calibrate(run, budget=args.budget)
    waits = {
        "static": (Policy.full(net.num_exits), args.max_wait),
        "early exit": (policy, args.max_wait),
        "shrinking": (policy, 0.0),
    }
    rows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        variants = {}
        for name, (rule, wait) in waits.items():
            sizes = {"max_batch": args.max_batch, "capacity": args.capacity}
            router = stack.enter_context(StreamingRouter(net, rule, max_wait=wait, **sizes))
            variants[name] = Clients(router, samples, labels)
            variants[name].closed(args.max_batch, 4 * args.max_batch, Outcome())  # to warm up
        gc.collect()
        gc.freeze()  # as the page on leaving early tells servers to
        for load, found in measured(variants, args):
            for name, figures in found.items():
                rows.append({"load": load, "variant": name, **figures})
                told = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
                print(f"{load:>12} {name:>10}: {told}")
            settings = vars(args) | {"run": Path(args.run).name}
            exits = policy.evaluated
            write_result(args.out, settings, rows=rows, exits=exits, static=PathCosts(net).static)


if __name__ == "__main__":
    main()
