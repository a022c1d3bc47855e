"""Latency, throughput and memory of a served bundle, with and without early exit, under load.

The server is a process of its own; the clients are connections of this one, which share the machine with it.
Two variants take turns: `early exit`, by the bundle's policy, and `static`, in which no sample leaves early.
Under a closed load so many clients each wait for their answer before they ask again; under a Poisson load
requests come at random times, at a rate that is a share of what `static` got through under the largest closed
load. A latency counts from when a request was due; refused requests (429) are counted. Every answer is held
against the model's own in this process; one that differs, or got lost, ends the benchmark.

    python benchmarks/server.py runs/vgg7 bundles/vgg7 --out benchmarks/server_vgg7.json

At last, `--requests-for-memory` requests of the largest number of clients show how the server's memory grows.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import io
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import offramp_runtime
from _http_client import HttpClient
from _result import result_file, write_result
from PIL import Image
from streaming import arrivals

import offramp

SERVE = "import sys; from offramp_runtime.server import serve; serve(sys.argv[1], port=0)"
NEVER = 10**9  # a threshold that no confidence reaches
VARIANTS = {"early exit": "/predict", "static": f"/predict?threshold={NEVER}"}
CLOSE = 1e-4  # a confidence so near its threshold may leave or stay, by the batch that it runs in


@dataclass
class Sample:
    """One request's body, the class that is right for it, and the answers that the model gives it."""

    body: bytes
    label: int
    answers: dict[str, set[tuple[int, int]]]


@dataclass
class Outcome:
    """What became of requests: seconds of each answered one, and of all; how many were refused, or right."""

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    refused: int = 0
    correct: int = 0
    exits: collections.Counter[int] = field(default_factory=collections.Counter)

    def figures(self) -> dict[str, Any]:
        answered, ms = len(self.latencies), [1e3 * each for each in self.latencies]
        cuts = statistics.quantiles(ms, n=100, method="inclusive")
        return {
            **{f"p{percent}_ms": cuts[percent - 1] for percent in (50, 95, 99)},
            "per_second": answered / self.seconds,
            "refused": self.refused / (answered + self.refused),
            "top1": 100 * self.correct / answered,
            "exits": {number: count / answered for number, count in sorted(self.exits.items())},
        }


class Load:
    """Sends samples in turn, by one variant, and keeps the time."""

    def __init__(self, url: str, samples: list[Sample], variant: str, outcome: Outcome) -> None:
        self._url, self._samples, self._outcome = url, samples, outcome
        self._variant = variant
        self._idle: list[HttpClient] = []

    async def closed(self, clients: int, requests: int) -> None:
        """So many clients, each with one request at a time."""
        numbers, began = iter(range(requests)), time.perf_counter()

        async def work() -> None:
            for number in numbers:
                await self._ask(number, time.perf_counter())

        await asyncio.gather(*(work() for _ in range(clients)))
        self._end(began)

    async def poisson(self, rate: float, requests: int, seed: int) -> None:
        """So many requests a second on average, at random times."""
        began, asked = time.perf_counter(), []
        for number, due in enumerate(arrivals(rate, requests, seed)):
            await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
            asked.append(asyncio.ensure_future(self._ask(number, began + due)))
        await asyncio.gather(*asked)
        self._end(began)

    async def _ask(self, number: int, due: float) -> None:
        sample = self._samples[number % len(self._samples)]
        client = self._idle.pop() if self._idle else HttpClient(self._url)
        status, told = await client.post(VARIANTS[self._variant], sample.body)
        self._idle.append(client)
        if status == 429:
            self._outcome.refused += 1
            return
        if status != 200 or (told["prediction"], told["exit"]) not in sample.answers[self._variant]:
            raise RuntimeError(f"sample {number % len(self._samples)} got {status} {told}")
        self._outcome.latencies.append(time.perf_counter() - due)
        self._outcome.correct += told["prediction"] == sample.label
        self._outcome.exits[told["exit"]] += 1

    def _end(self, began: float) -> None:
        self._outcome.seconds += time.perf_counter() - began
        for client in self._idle:
            client.close()


def samples_of(run: offramp.Run, model: offramp_runtime.Model, count: int) -> list[Sample]:
    """Test images as PNG files, with what the model says about them, whatever batch they run in."""
    batch = next(run.open_data().test.batches(count, transform=lambda images, _: images, device="cpu"))
    bodies = [_png(image) for image in batch.inputs.numpy()]
    images = np.stack([model.image_of(body) for body in bodies])
    answers: list[dict[str, set[tuple[int, int]]]] = [{name: set() for name in VARIANTS} for _ in bodies]
    for name, thresholds in (("early exit", model.thresholds), ("static", NEVER)):
        for shift in (-CLOSE, 0, CLOSE):
            found = model.predict(images, thresholds=thresholds + shift)
            for each, *pair in zip(answers, found.prediction.tolist(), found.exit.tolist(), strict=True):
                each[name].add((pair[0], pair[1]))
    labels = batch.targets["label"].tolist()
    return [Sample(*each) for each in zip(bodies, labels, answers, strict=True)]


def _png(image: np.ndarray) -> bytes:
    file, levels = io.BytesIO(), image.transpose(1, 2, 0)
    Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels).save(file, "PNG")
    return file.getvalue()


def measured(
    args: argparse.Namespace, url: str, samples: list[Sample]
) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Each load and the figures of the variants under it; these take turns."""

    def take_turns(run: Callable[[Load, int], Awaitable[None]]) -> dict[str, dict[str, Any]]:
        outcomes = {name: Outcome() for name in VARIANTS}
        for turn in range(args.rounds):
            for name, outcome in outcomes.items():
                asyncio.run(run(Load(url, samples, name, outcome), turn))  # type: ignore[arg-type]
        return {name: outcome.figures() for name, outcome in outcomes.items()}

    per_second = 0.0
    for count in args.clients:
        found = take_turns(lambda load, turn, count=count: load.closed(count, args.requests))  # type: ignore[misc]
        per_second = found["static"]["per_second"]
        yield f"closed {count}", found
    for share in args.rates:
        rate = share * per_second
        yield (
            f"poisson {share:g}",
            take_turns(
                lambda load, turn, rate=rate: load.poisson(rate, args.requests, turn)  # type: ignore[misc]
            ),
        )


def memory(process: int, url: str, samples: list[Sample], clients: int, requests: int) -> list[float]:
    """MiB of the server's resident memory, before and after each tenth of the requests."""

    def resident() -> float:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024

    found = [resident()]
    for _ in range(10):
        load = Load(url, samples, "early exit", Outcome())
        asyncio.run(load.closed(clients, requests // 10))
        found.append(resident())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="folder of a finished run, whose test images are sent")
    parser.add_argument("bundle", help="folder of its exported net")
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 16, 64, 1000])
    parser.add_argument("--rates", nargs="+", type=float, default=[0.3, 0.6, 0.9, 1.2])
    parser.add_argument("--requests", type=int, default=5000, help="of each variant, load and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests-for-memory", type=int, default=100_000)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--out", type=result_file)
    args = parser.parse_args()

    samples = samples_of(offramp.Run.open(args.run), offramp_runtime.load(args.bundle), args.images)
    command = [sys.executable, "-c", SERVE, args.bundle]
    rows: list[dict[str, Any]] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            url = process.stderr.readline().split()[-1]
            asyncio.run(Load(url, samples, "static", Outcome()).closed(64, 1000))  # to warm up
            settings = vars(args) | {"run": Path(args.run).name, "bundle": Path(args.bundle).name}
            for load, found in measured(args, url, samples):
                for name, figures in found.items():
                    rows.append({"load": load, "variant": name, **figures})
                    print(f"{load:>12} {name:>10}: {figures}", flush=True)
                write_result(args.out, settings, rows=rows)
            grown = memory(process.pid, url, samples, max(args.clients), args.requests_for_memory)
            print(f"resident MiB over {args.requests_for_memory} requests: {grown}")
            write_result(args.out, settings, rows=rows, resident_mib=grown)
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
