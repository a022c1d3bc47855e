"""What exported nets keep on test images: in float32 beside the router of torch, and in 8 bits.

Each run is exported with the policy of each budget, once in float32 and once in 8 bits, whose thresholds
are fitted anew. The bundles answer all test images, in batches of 64. *agree*: the share of images that
leave where torch's router lets them leave, with its class. Numbers are means over the runs of a method,
with their standard deviation.

    python results/inference/bundles.py results/long/runs/*/seed-* --out results/inference/bundles.txt
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import offramp_runtime
import torch
from policies import cells

import offramp
from offramp.exits import PathCosts, Policy, Router
from offramp.runs.sets import recorded_transform
from offramp.text_table import aligned

BUDGETS = ("50%", "75%", "100%")
BATCH = 64


def outcomes(run: offramp.Run, policy: Policy) -> dict[str, tuple[float, ...]]:
    """Of torch and of each bundle: top-1, share of the full network's operations, agreement, in %; and MB."""
    [batch] = run.open_data().test.batches(10**9, transform=lambda images, _: images, device="cpu")
    levels, labels = batch.inputs, batch.targets["label"].numpy()
    images = recorded_transform(run.record).images(levels, torch.Generator())
    routed = [Router(run.net, policy)(part) for part in images.split(BATCH)]
    answers = [torch.cat([getattr(each, key) for each in routed]) for key in ("prediction", "exit", "cost")]
    prediction, exits, cost = (each.numpy() for each in answers)
    static = PathCosts(run.net).static

    def row(predicted: np.ndarray, left: np.ndarray, took: np.ndarray, size: float) -> tuple[float, ...]:
        agree = (predicted == prediction) & (left == exits)
        shares = (predicted == labels).mean(), took.mean() / static, agree.mean()
        return (*(100 * float(each) for each in shares), size)

    found = {"torch": row(prediction, exits, cost, 4e-6 * sum(p.numel() for p in run.net.parameters()))}
    for precision in ("fp32", "int8"):
        with TemporaryDirectory() as folder:
            bundle = offramp.export(run, policy, Path(folder) / "bundle", precision=precision)  # type: ignore[arg-type]
            graph = ("model.onnx", "weights.bin")
            size = sum((bundle / name).stat().st_size for name in graph) / 1e6
            model = offramp_runtime.load(bundle)
            parts = [model.predict(part.numpy()) for part in levels.split(BATCH)]
        answer = [
            np.concatenate([getattr(each, key) for each in parts]) for key in ("prediction", "exit", "cost")
        ]
        found[precision] = row(*answer, size)
    return found


def main() -> None:
    """Write the table, and print it at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    found: dict[tuple[str, str, str], list[tuple[float, ...]]] = defaultdict(list)
    heads = ["method", "budget", "by", "runs", "top-1 %", "FLOPs %", "agree %", "MB"]
    for folder in args.runs:
        run = offramp.Run.open(folder)
        for budget in BUDGETS:
            policy = offramp.calibrate(run, budget=budget)
            for kind, numbers in outcomes(run, policy).items():
                found[run.record["method"], budget, kind].append(numbers)
        rows = [[*names, str(len(runs)), *cells(runs)] for names, runs in found.items()]
        args.out.write_text(f"{aligned(heads, rows, left=4)}\n")  # after each run: some minutes each
    print(args.out.read_text())


if __name__ == "__main__":
    main()
