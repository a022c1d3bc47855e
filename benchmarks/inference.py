"""Wall clock of leaving early: the router beside the static network, all exits computed, and `earlyon`.

Real test images, in batches of several sizes; the variants take turns on every batch. Beside each time stand
the accuracy, the operations, and the limit that stages and heads set: the sum over them of the share of
samples that reaches each, times its own time alone at the full batch size.

    python benchmarks/inference.py RUN --out benchmarks/inference_vgg7.json

`earlyon` (pip install earlyon==0.3.0) is taken if it is there. Its batches leave together, at the exit that
is sure of all samples.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from _clock import Clock
from _result import result_file, write_result
from torch import Tensor, nn

import offramp
from offramp.data import Batch
from offramp.exits import PathCosts, Policy, Router
from offramp.exits._inference import InferenceNet
from offramp.runs.sets import recorded_transform

Predict = Callable[[Tensor], Tensor]


def all_exits(net: InferenceNet, policy: Policy) -> Predict:
    """Compute every exit and pick the answer afterwards, as MSDNet's public code does."""

    @torch.inference_mode()
    def predict(x: Tensor) -> Tensor:
        logits: Tensor | None = None
        probabilities = []
        for step in net.steps:
            x, logits = step.segment(x, logits)
            probabilities.append(logits.softmax(1))
        answer = probabilities[-1].argmax(1)
        for p, threshold in reversed([*zip(probabilities, policy.thresholds, strict=False)]):
            confidence, prediction = p.max(1)
            if threshold is not None:
                answer = torch.where(confidence >= threshold, prediction, answer)
        return answer

    return predict


def earlyon(net: InferenceNet, policy: Policy) -> Predict | None:
    """The stages and heads that the router runs, wrapped by earlyon."""
    try:
        from earlyon import EarlyExitConfig, EarlyExitWrapper, ExitPoint
    except ModuleNotFoundError:
        return None
    segments = [step.segment for step in net.steps]
    backbone = nn.Sequential(*(segment.stages for segment in segments))
    for k, segment in enumerate(segments):
        backbone[k] = nn.Sequential(*segment.stages)
    points = [ExitPoint(f"exit{k}", str(k), 1) for k in range(len(segments) - 1)]
    thresholds = [policy.thresholds[segment.exit - 1] for segment in segments[:-1]]
    sure = [threshold is not None and threshold <= 1 for threshold in thresholds]
    config = EarlyExitConfig(
        backbone="custom",
        num_classes=2,  # of no use to inference
        exit_points=points,
        confidence_thresholds=[t if s else 1.0 for t, s in zip(thresholds, sure, strict=True)],
        enabled_exits=sure,
    )
    heads = {f"exit{k}": segment.heads[-1] for k, segment in enumerate(segments[:-1])}
    wrapper = EarlyExitWrapper(backbone, heads, segments[-1].heads[-1], config, input_shape=(1, 3, 32, 32))

    def predict(x: Tensor) -> Tensor:
        if len(x) == 1:
            return wrapper(x).prediction.argmax(1)
        return wrapper.forward_inference_batched(x).predictions.argmax(1)

    return predict


def parts_alone(net: InferenceNet) -> list[tuple[nn.Module, nn.Module | None]]:
    """Every stage that runs, with its head if that runs."""
    return [
        (stage, head)
        for step in net.steps
        for stage, head in zip(step.segment.stages, step.segment.heads, strict=True)
    ]


@torch.inference_mode()
def limit(net: InferenceNet, x: Tensor, shares: Sequence[float], clock: Clock) -> float:
    """Seconds of a batch if each part took its share of its own time alone."""
    total = 0.0
    for (stage, head), share in zip(parts_alone(net), shares, strict=True):
        given, kept = x, []
        total += share * clock.seconds(lambda s=stage, g=given, k=kept: k.append(s(g)))
        x = kept[0]
        if head is not None:
            total += share * clock.seconds(lambda h=head, g=x: h(g))
    return total


def measure(
    variants: dict[str, Predict], router: Router, batches: Sequence[Tensor], rounds: int, device: str
) -> dict[str, float]:
    """Mean seconds of a batch by variant, and of the limit: for each batch the median of the rounds."""
    clock = Clock(device)
    for predict in variants.values():
        predict(batches[0])
    times: dict[str, list[list[float]]] = {name: [[] for _ in batches] for name in [*variants, "limit"]}
    for _ in range(rounds):
        for b, x in enumerate(batches):
            for name, predict in variants.items():
                times[name][b].append(clock.seconds(lambda p=predict, x=x: p(x)))
            exit = router(x).exit
            ends = [k for k, step in enumerate(router._net.steps) for _ in step.segment.stages]
            numbers = [step.gate.exit for step in router._net.steps]
            shares = [float((exit >= numbers[end]).float().mean()) for end in ends]
            times["limit"][b].append(limit(router._net, x, shares, clock))
    return {name: statistics.mean(map(statistics.median, each)) for name, each in times.items()}


def settings(run: offramp.Run, budgets: Sequence[str]) -> dict[str, Policy]:
    """A policy for each budget; fitted on the run's validation split."""
    return {budget: offramp.calibrate(run, budget=budget) for budget in budgets}


def images_of(run: offramp.Run, count: int, device: str) -> Batch:
    """The first test images, normalised."""
    transform = recorded_transform(run.record)
    return next(run.open_data().test.batches(count, transform=transform, device=device))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="folder of a finished run")
    parser.add_argument("--budgets", nargs="+", default=["30%", "50%", "70%", "100%"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 64, 256])
    parser.add_argument("--images", type=int, default=1024, help="test images; 64 of them at batch size 1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=result_file)
    args = parser.parse_args()
    run = offramp.Run.open(args.run)
    net = run.net.to(args.device).to(memory_format=torch.channels_last)
    static = Router(net, Policy.full(net.num_exits))
    costs = PathCosts(net)
    test = images_of(run, args.images, args.device)
    x, labels = test.inputs.contiguous(memory_format=torch.channels_last), test.targets["label"]
    rows: list[dict[str, Any]] = []
    for budget, policy in settings(run, args.budgets).items():
        router = Router(net, policy)
        peers = {"all exits": all_exits(router._net, policy), "earlyon": earlyon(router._net, policy)}
        variants: dict[str, Predict] = {
            "static": lambda batch: static(batch).prediction,
            "router": lambda batch, router=router: router(batch).prediction,
            **{name: predict for name, predict in peers.items() if predict is not None},
        }
        answer = router(x)
        full = static(x)
        flops_ratio = costs.static / answer.cost.double().mean().item()
        accuracy = {
            name: 100 * (predict(x) == labels).double().mean().item() for name, predict in variants.items()
        }
        for size in args.batch_sizes:
            batches = x.split(size)[: 64 if size == 1 else None]
            seconds = measure(variants, router, batches, args.rounds, args.device)
            shares = router(torch.cat(batches)).cost.double().mean().item()
            ratio = costs.static / shares
            row = {
                "budget": budget,
                "batch": size,
                "flops ratio": ratio,
                "speed-up": seconds["static"] / seconds["router"],
                "of the flops ratio": seconds["static"] / seconds["router"] / ratio,
                "limit": seconds["static"] / seconds["limit"],
                "time over limit": seconds["router"] / seconds["limit"],
                "all exits": seconds["static"] / seconds["all exits"],
                "earlyon": seconds["static"] / seconds["earlyon"] if "earlyon" in seconds else None,
                "ms of static": 1e3 * seconds["static"],
                "accuracy": accuracy,
                "evaluated": policy.evaluated,
            }
            rows.append(row)
            print(
                f"budget {budget:>5}  batch {size:>3}  FLOPs {ratio:5.2f}x  router {row['speed-up']:5.2f}x "
                f"({row['of the flops ratio']:.2f} of FLOPs)  limit {row['limit']:5.2f}x (time "
                f"{row['time over limit']:.2f} of it)  all exits {row['all exits']:.2f}x  earlyon "
                f"{row['earlyon'] or float('nan'):.2f}x  top-1 static {accuracy['static']:.1f} router "
                f"{accuracy['router']:.1f}  exits {policy.evaluated}",
                flush=True,
            )
            write_result(args.out, args, rows=rows)
        del full, flops_ratio


if __name__ == "__main__":
    main()
