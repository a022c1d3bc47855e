"""What calibrated policies keep on test images: a promise on the risk, and a measured latency.

Of each run, a policy is fitted on its validation images; the test images go through the router once for each
policy and once for the full network. The risk is the share of images that the full network gets right and the
policy wrong. Numbers are means over the runs of a method, with their standard deviation.

    python results/inference/policies.py runs/inference/*/seed-* --out results/inference/policies.txt
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

import torch
from torch import Tensor

import offramp
from offramp.exits import PathCosts, Policy, Router
from offramp.runs.sets import recorded_transform
from offramp.text_table import aligned

DELTA = 0.1
TARGETS = {
    "risk 0.01": {"risk": 0.01, "delta": DELTA},
    "risk 0.02": {"risk": 0.02, "delta": DELTA},
    "risk 0.05": {"risk": 0.05, "delta": DELTA},
    "risk 0.1": {"risk": 0.1, "delta": DELTA},
    "latency 80%": {"latency": "80%", "batch_size": 64},
    "latency 60%": {"latency": "60%", "batch_size": 64},
}


def routed(run: offramp.Run, policy: Policy) -> tuple[Tensor, Tensor]:
    """Which test images a policy gets right, and the operations that each took."""
    router = Router(run.net, policy)
    right, cost = [], []
    for batch in run.open_data().test.batches(64, transform=recorded_transform(run.record), device="cpu"):
        answer = router(batch.inputs)
        right.append(answer.prediction == batch.targets["label"])
        cost.append(answer.cost)
    return torch.cat(right), torch.cat(cost).double()


def outcomes(run: offramp.Run) -> dict[str, tuple[float, ...]]:
    """Of each target: top-1, what is lost to the full network, risk (all in %), share of its FLOPs, in %."""
    full, _ = routed(run, Policy.full(run.net.num_exits))
    static, found = PathCosts(run.net).static, {}
    for name, target in TARGETS.items():
        right, cost = routed(run, offramp.calibrate(run, **target))
        shares = (
            right.double().mean(),
            (full.double() - right.double()).mean(),
            (full & ~right).double().mean(),
        )
        found[name] = tuple(100 * float(share) for share in (*shares, cost.mean() / static))
    return found


def cells(runs: Sequence[tuple[float, ...]]) -> list[str]:
    """Mean and standard deviation over the runs, number by number."""
    columns = zip(*runs, strict=True)
    return [f"{fmean(c):.2f} ± {stdev(c):.2f}" if len(c) > 1 else f"{c[0]:.2f}" for c in columns]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    by_method: dict[str, list[dict[str, tuple[float, ...]]]] = defaultdict(list)
    for folder in args.runs:
        run = offramp.Run.open(folder)
        by_method[run.record["method"]].append(outcomes(run))
    rows = [
        [method, str(len(runs)), target, *cells([each[target] for each in runs])]
        for method, runs in by_method.items()
        for target in TARGETS
    ]
    heads = ["method", "runs", "target", "top-1 %", "lost %", "risk %", "FLOPs %"]
    args.out.write_text(f"{aligned(heads, rows, left=3)}\n")
    print(args.out.read_text())


if __name__ == "__main__":
    main()
