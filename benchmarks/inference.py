"""Wall clock of leaving early: the router beside static networks, all exits computed, and `earlyon`.

Real test images in batches of several sizes, channels-last; the variants take turns on every batch. Beside
each time stand the accuracy, the operations, and the limit that the parts set: the sum over stages and heads
of the share of samples that reaches each, times its own time alone on the whole batch. `bare` is what no
router can do without: the same stages and heads in a row, for as many samples, and nothing between them.
Static networks are the net up to each exit, without the heads before.

    python benchmarks/inference.py runs/vgg7 --out benchmarks/inference_vgg7.json
    python benchmarks/inference.py --draw benchmarks/inference_vgg7.json --out benchmarks/inference_vgg7.png

`earlyon` (pip install earlyon==0.3.0) is taken if it is there. Its batches leave together, at the first exit
that is sure of every sample.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from _clock import DTYPES, Clock, precision
from _result import result_file, write_result
from torch import Tensor, nn

import offramp
from offramp.exits import PathCosts, Policy, Router
from offramp.exits._inference import InferenceNet
from offramp.exits.calibration.recording import record
from offramp.nets import MultiExitNet
from offramp.runs.sets import recorded_transform

Predict = Callable[[Tensor], Tensor]
Bound = Callable[[Router, Tensor, Clock], float]


def routed(router: Router) -> Predict:
    return lambda x: router(x).prediction


def all_exits(net: InferenceNet, policy: Policy) -> Predict:
    """Computes every exit and picks the answer afterwards, as MSDNet's public code does."""
    thresholds = [*(t for t in policy.thresholds if t is not None), -torch.inf]

    @torch.inference_mode()
    def predict(x: Tensor) -> Tensor:
        handed: Tensor | None = None
        readings = []
        for step in net.steps:
            x, logits, handed = step.forward(x, handed)
            readings.append(logits.softmax(1).max(1))
        answer = readings[-1].indices
        for (confidence, prediction), threshold in reversed([*zip(readings, thresholds, strict=True)]):
            answer = torch.where(confidence >= threshold, prediction, answer)
        return answer

    return predict


def earlyon(net: InferenceNet, policy: Policy) -> Predict | None:
    """The stages and heads that the router runs, in earlyon's wrapper; None: it is not installed."""
    try:
        from earlyon import EarlyExitConfig, EarlyExitWrapper, ExitPoint
    except ModuleNotFoundError:
        return None
    segments = [step.segment for step in net.steps]
    names = [f"exit{k}" for k in range(len(segments) - 1)]
    thresholds = [t for t in policy.thresholds if t is not None]
    config = EarlyExitConfig(
        backbone="custom",
        num_classes=2,  # of no use to inference
        exit_points=[ExitPoint(name, str(k), 1) for k, name in enumerate(names)],
        confidence_thresholds=[min(t, 1.0) for t in thresholds],
        enabled_exits=[t <= 1 for t in thresholds],
    )
    backbone = nn.Sequential(*(nn.Sequential(*segment.stages) for segment in segments))
    heads = {name: segment.heads[-1] for name, segment in zip(names, segments, strict=False)}
    wrapper = EarlyExitWrapper(backbone, heads, segments[-1].heads[-1], config, input_shape=(1, 3, 32, 32))

    def predict(x: Tensor) -> Tensor:
        if len(x) == 1:
            return wrapper(x).prediction.argmax(1)
        return wrapper.forward_inference_batched(x).predictions.argmax(1)

    return predict


@torch.inference_mode()
def limit(router: Router, x: Tensor, clock: Clock) -> float:
    """Seconds of a batch, if each stage and head took its share of its own time alone."""
    exit, seconds = router(x).exit, 0.0
    for step in router._net.steps:
        share = float((exit >= step.gate.exit).double().mean())
        for stage, head in zip(step.segment.stages, step.segment.heads, strict=True):
            kept: list[Tensor] = []
            seconds += share * clock.seconds(lambda stage=stage, x=x, kept=kept: kept.append(stage(x)))
            (x,) = kept
            if head is not None:
                seconds += share * clock.seconds(lambda head=head, x=x: head(x))
    return seconds


@torch.inference_mode()
def bare(router: Router, x: Tensor, clock: Clock) -> float:
    """Seconds of a batch's stages and heads for as many samples as reach them, with nothing between.

    These are the first of the batch and not those that stay, so that nothing is read, decided or copied.
    """
    exit, handed = router(x).exit, None
    counts = [int((exit >= step.gate.exit).sum()) for step in router._net.steps]

    def run(x: Tensor = x, handed: Tensor | None = handed) -> None:
        for step, count in zip(router._net.steps, counts, strict=True):
            if count:
                x, _, handed = step.forward(x[:count], None if handed is None else handed[:count])

    return clock.seconds(run)


BOUNDS: dict[str, Bound] = {"limit": limit, "bare": bare}


def measure(
    variants: dict[str, Predict],
    router: Router,
    batches: Sequence[Tensor],
    rounds: int,
    device: str,
    bounds: Mapping[str, Bound] = BOUNDS,
) -> dict[str, float]:
    """Mean seconds of a batch by variant and bound: of each batch the median of the rounds.

    What ran before decides what is in the processor's caches. So each variant runs once untimed before it is
    timed, as bounds call the router, and each round begins with another.
    """
    clock = Clock(device)

    def seconds(name: str, x: Tensor) -> float:
        if name in bounds:
            return bounds[name](router, x, clock)
        variants[name](x)
        return clock.seconds(lambda: variants[name](x))

    times: dict[str, list[list[float]]] = {name: [[] for _ in batches] for name in [*variants, *bounds]}
    turns = deque(times)
    for _ in range(rounds):
        for b, x in enumerate(batches):
            for name in turns:
                times[name][b].append(seconds(name, x))
        turns.rotate(-1)
    return {name: statistics.mean(map(statistics.median, each)) for name, each in times.items()}


def row_of(seconds: dict[str, float], flops_ratio: float) -> dict[str, Any]:
    """Ratios of a policy at a batch size, each above 1 where it is faster than the static network."""
    static = seconds["static"]
    return {
        "flops_ratio": flops_ratio,
        **{name: static / each for name, each in seconds.items() if name != "static"},
        "router_of_flops_ratio": static / seconds["router"] / flops_ratio,
        "router_time_over_limit": seconds["router"] / seconds["limit"],
        "bare_time_over_limit": seconds["bare"] / seconds["limit"],
        "static_ms": 1e3 * static,
    }


def truncated(net: MultiExitNet, exit: int) -> Router:
    """The net up to an exit, at which all samples leave."""
    thresholds = [-1.0 if k == exit else None for k in range(1, net.num_exits)]
    return Router(net, Policy(thresholds))


def accuracy(predict: Predict, images: Tensor, labels: Tensor) -> float:
    found = torch.cat([predict(x) for x in images.split(64)])
    return 100 * float(found.eq(labels).double().mean())


def policies(run: offramp.Run, args: argparse.Namespace) -> Iterator[tuple[Any, ...]]:
    """Target, batch sizes it is for (None: all) and policy; fitted on the run's validation split."""
    logits = record(run.net, None, run=run)
    for budget in args.budgets:
        yield f"budget {budget}", None, offramp.calibrate(run, logits, budget=budget)
    timed = [({"latency": latency}, f"latency {latency}") for latency in args.latencies]
    timed += [({"budget": b, "latency": "100%"}, f"budget {b} in time") for b in args.budgets_in_time]
    for targets, name in timed:
        for size in (1, 64):
            try:
                policy = offramp.calibrate(run, logits, **targets, batch_size=size)
            except offramp.UserError as error:  # no way through the net is as quick on this machine
                print(f"{name}, batch {size}: {error}", flush=True)
                continue
            yield name, (1,) if size == 1 else (64, 256), policy


def draw(path: Path, out: Path) -> None:
    """Accuracy against wall clock at batch size 64: the router's policies, and the static networks."""
    import matplotlib.pyplot as plt

    rows = json.loads(path.read_text())["rows"]
    rows = [row for row in rows if row["batch_size"] == 64]
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for label, marker, chosen in (
        (
            "router, by budget",
            "o-",
            [r for r in rows if r["target"].startswith("budget") and "time" not in r["target"]],
        ),
        ("static networks, one for each exit", "s--", [r for r in rows if r["target"].startswith("static")]),
    ):
        points = sorted((100 / row["router"], row["top1"]["router"]) for row in chosen)
        axes.plot(*zip(*points, strict=True), marker, label=label)
    axes.set(xlabel="time of a batch of 64, in % of the whole network's", ylabel="top-1 accuracy in %")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(out, dpi=150)


def table(run: offramp.Run, args: argparse.Namespace) -> None:
    """Measure a run's policies, a row for each and each batch size."""
    net = run.net.to(args.device).to(memory_format=torch.channels_last)
    fitted = [*policies(run, args)]
    dtype = DTYPES[args.dtype][0] or torch.float32  # of weights and images, as a server has them
    net = net.to(dtype)  # after the policies, which are fitted to the run's own weights
    static, whole = Router(net, Policy.full(net.num_exits)), PathCosts(net).static
    transform = recorded_transform(run.record)
    test = next(run.open_data().test.batches(args.images, transform=transform, device=args.device))
    images, labels = test.channels_last().inputs.to(dtype), test.targets["label"]
    rows: list[dict[str, Any]] = []

    def add(target: str, router: Router, variants: dict[str, Predict], sizes: Sequence[int]) -> None:
        variants = {"static": routed(static), "router": routed(router)} | variants
        top1 = {name: accuracy(predict, images, labels) for name, predict in variants.items()}
        for size in sizes:
            chosen = images[: max(1, len(images) // 16)] if size == 1 else images
            seconds = measure(variants, router, chosen.split(size), args.rounds, args.device)
            measured = row_of(seconds, whole / float(router(chosen).cost.double().mean()))
            exits = router.policy.evaluated
            rows.append({"target": target, "batch_size": size, **measured, "top1": top1, "exits": exits})
            figures = "  ".join(f"{name} {value:.2f}" for name, value in measured.items())
            print(f"{target} batch {size}: {figures}  top-1 {top1['router']:.1f}  exits {exits}", flush=True)
            write_result(args.out, vars(args) | {"run": Path(args.run).name}, rows=rows)

    for exit in range(1, net.num_exits):
        add(f"static {exit}", truncated(net, exit), {}, [size for size in args.batch_sizes if size == 64])
    add(f"static {net.num_exits}", static, {}, [size for size in args.batch_sizes if size == 64])
    for target, sizes, policy in fitted:
        router = Router(net, dataclasses.replace(policy, net=None))
        peers = {"all exits": all_exits(router._net, policy), "earlyon": earlyon(router._net, policy)}
        sizes = [size for size in args.batch_sizes if sizes is None or size in sizes]
        add(target, router, {name: peer for name, peer in peers.items() if peer is not None}, sizes)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", help="folder of a finished run")
    parser.add_argument("--budgets", nargs="*", default=["40%", "50%", "60%", "70%", "80%", "90%", "100%"])
    parser.add_argument("--latencies", nargs="*", default=["50%", "55%", "70%", "100%"])
    parser.add_argument(
        "--budgets-in-time",
        nargs="*",
        default=["40%", "50%", "60%", "70%", "80%", "90%"],
        help="budgets that are to take no more time than the static network",
    )
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 64, 256])
    parser.add_argument("--images", type=int, default=1024, help="test images; a sixteenth at batch size 1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "tf32", "bfloat16"], default="float32")
    parser.add_argument("--draw", type=Path, help="draw what has been measured")
    parser.add_argument("--out", type=result_file)
    args = parser.parse_args()
    if args.draw or not args.run:
        return draw(args.draw, args.out) if args.draw and args.out else parser.error("give a run, or --draw")

    with precision(args.dtype, args.device):
        table(offramp.Run.open(args.run), args)


if __name__ == "__main__":
    main()
