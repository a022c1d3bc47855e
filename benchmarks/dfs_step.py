"""How long a DFS training step takes against the same net's joint step.

A whole step (forward, backward, SGD), all variants alternating in one process; medians over the rounds and
the ratio of each variant to joint, round by round. VGG7, width 64, batch 100, 3x32x32, beta 0.5.

    python benchmarks/dfs_step.py --rounds 30 --out benchmarks/dfs_step.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from _machine import machine

import offramp.nets
from offramp.forks import partition
from offramp.training.memory import keep_freed_memory

VARIANTS = ("joint", "fused", "split", "cat")


def build(variant: str, args: argparse.Namespace, *, channels_last: bool) -> torch.nn.Module:
    torch.manual_seed(0)
    net = offramp.nets.create(args.net, num_classes=args.classes, width=args.width).to(args.device)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
    if variant != "joint":
        partition(net, beta=args.beta, impl=variant)
    return torch.compile(net) if args.compile else net


def measure(args: argparse.Namespace, dtype: torch.dtype, *, channels_last: bool) -> dict[str, list[float]]:
    size = args.size
    images = torch.randn(args.batch, 3, size, size, device=args.device)
    labels = torch.randint(args.classes, (args.batch,), device=args.device)
    if channels_last:
        images = images.to(memory_format=torch.channels_last)
    nets = {v: build(v, args, channels_last=channels_last) for v in args.variants}
    optimisers = {
        v: torch.optim.SGD(n.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4) for v, n in nets.items()
    }

    def step(variant: str) -> float:
        if args.device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.autocast(args.device, dtype=dtype, enabled=dtype != torch.float32):
            outputs = nets[variant](images)
        loss = torch.stack([F.cross_entropy(o.float(), labels) for o in outputs]).sum()
        optimisers[variant].zero_grad(set_to_none=True)
        loss.backward()
        optimisers[variant].step()
        if args.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds: dict[str, list[float]] = {v: [] for v in args.variants}
    for v in args.variants:
        for _ in range(args.warmup):
            step(v)
    for round in range(args.rounds):
        order = args.variants if round % 2 == 0 else args.variants[::-1]  # drift favours nobody
        for v in order:
            seconds[v].append(step(v))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--net", default="vgg7")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--beta", type=float, default=0.5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--layouts", nargs="+", default=["default", "channels_last"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--release-memory", action="store_true", help="as without offramp.training.memory")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.device == "cpu" and not args.release_memory:
        keep_freed_memory()  # as fit does
    torch.set_num_threads(args.threads)

    rows = []
    for name in args.dtypes:
        for layout in args.layouts:
            seconds = measure(args, getattr(torch, name), channels_last=layout == "channels_last")
            for variant, times in seconds.items():
                ratios = [j / t for j, t in zip(seconds["joint"], times, strict=True)]
                quarter = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
                row = {
                    "dtype": name,
                    "layout": layout,
                    "variant": variant,
                    "median_s": statistics.median(times),
                    "joint_over_variant": statistics.median(ratios),
                    "quartiles": [quarter[0], quarter[2]],
                    "seconds": times,
                }
                rows.append(row)
                print(
                    f"{name:9} {layout:14} {variant:6} {row['median_s'] * 1e3:8.1f} ms   joint / {variant} "
                    f"{row['joint_over_variant']:.3f} [{quarter[0]:.3f}, {quarter[2]:.3f}]",
                    flush=True,
                )
    for name in args.dtypes:
        found = {(r["layout"], r["variant"]): r["median_s"] for r in rows if r["dtype"] == name}
        if ("default", "split") in found and ("channels_last", "fused") in found:
            ratio = found["default", "split"] / found["channels_last", "fused"]
            print(f"{name}: split in the default layout / fused in channels_last {ratio:.3f}")
    if args.out:
        settings = {k: v for k, v in vars(args).items() if k != "out"}
        args.out.write_text(
            json.dumps({"machine": machine(), "settings": settings, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
