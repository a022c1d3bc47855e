"""How long a DFS training step takes against the same net's joint step.

A whole step (forward, backward, SGD), all variants alternating in one process; medians over the rounds and
the ratio of each variant to joint, round by round; on a GPU also the memory that a step takes at its height.
VGG7, width 64, batch 100, 3x32x32, beta 0.5.

    python benchmarks/dfs_step.py --rounds 30 --out benchmarks/dfs_step.json
    python benchmarks/dfs_step.py --device cuda --batch 1024 --dtypes float32 tf32 bfloat16
    python benchmarks/dfs_step.py --variants joint fused before --against path/to/another/checkout/src
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from _another import another
from _clock import DTYPES, Clock, precision
from _result import result_file, write_result

import offramp.forks
import offramp.nets
from offramp.memory import keep_freed_memory

VARIANTS = ("joint", "fused", "split", "cat")


def build(name: str, variant: str, layout: str, args: argparse.Namespace) -> torch.nn.Module:
    torch.manual_seed(0)
    key = "growth" if name.startswith("msdnet") else "width"
    size = {key: args.width} if args.width else {}
    package = another(args.against, "nets", "forks") if variant == "before" else offramp
    net = package.nets.create(name, num_classes=args.classes, **size).to(args.device)
    if layout == "channels_last":
        net = net.to(memory_format=torch.channels_last)
    if variant != "joint":
        package.forks.partition(net, beta=args.beta, impl="fused" if variant == "before" else variant)
    return torch.compile(net) if args.compile else net


def steps(name: str, dtype: str, layout: str, args: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """One training step of each variant."""
    images = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    labels = torch.randint(args.classes, (args.batch,), device=args.device)
    if layout == "channels_last":
        images = images.to(memory_format=torch.channels_last)

    def step_of(variant: str) -> Callable[[], None]:
        net = build(name, variant, layout, args)
        optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

        def step() -> None:
            with precision(dtype, args.device) as autocast:
                with autocast:
                    outputs = net(images)
                loss = torch.stack([F.cross_entropy(o.float(), labels) for o in outputs]).sum()
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()

        return step

    return {variant: step_of(variant) for variant in args.variants}


def measure(name: str, dtype: str, layout: str, args: argparse.Namespace) -> list[dict[str, object]]:
    """A row for each variant."""
    work, clock = steps(name, dtype, layout, args), Clock(args.device)
    for step in work.values():
        for _ in range(args.warmup):
            step()
    peaks = {variant: clock.peak(step) for variant, step in work.items()}
    seconds: dict[str, list[float]] = {variant: [] for variant in work}
    for round in range(args.rounds):
        for variant in list(work)[:: -1 if round % 2 else 1]:  # drift favours nobody
            seconds[variant].append(clock.seconds(work[variant]))
    rows = []
    for variant, times in seconds.items():
        ratios = [j / t for j, t in zip(seconds["joint"], times, strict=True)]
        quarter = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        row = {
            "net": name,
            "dtype": dtype,
            "layout": layout,
            "variant": variant,
            "median_s": statistics.median(times),
            "joint_over_variant": statistics.median(ratios),
            "quartiles": [quarter[0], quarter[2]],
            "peak_MiB": peaks[variant],
            "seconds": times,
        }
        rows.append(row)
        print(
            f"{name:12} {dtype:9} {layout:14} {variant:6} {statistics.median(times) * 1e3:8.2f} ms   "
            f"joint / {variant} {statistics.median(ratios):.3f} [{quarter[0]:.3f}, {quarter[2]:.3f}]"
            + (f"   {peaks[variant]:8.1f} MiB" if peaks[variant] else ""),
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--nets", nargs="+", default=["vgg7"])
    parser.add_argument("--width", type=int, help="width, or MSDNet's growth; by default the papers'")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--beta", type=float, default=0.5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["float32", "bfloat16"])
    parser.add_argument("--layouts", nargs="+", default=["default", "channels_last"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), help="joint must be among them")
    parser.add_argument(
        "--against", type=Path, metavar="SRC", help="the variant `before`: fused, by another checkout's src/"
    )
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--release-memory", action="store_true", help="as without offramp.memory")
    parser.add_argument("--out", type=result_file)
    args = parser.parse_args()
    if args.device == "cpu" and not args.release_memory:
        keep_freed_memory()  # as fit does
    torch.set_num_threads(args.threads)
    if ("before" in args.variants) != (args.against is not None):
        parser.error("--variants before and --against SRC go together")

    rows: list[dict[str, object]] = []
    for name in args.nets:
        for dtype in args.dtypes:
            for layout in args.layouts:
                rows += measure(name, dtype, layout, args)
                write_result(args.out, args, rows=rows)
            found = {
                (r["layout"], r["variant"]): r["median_s"]
                for r in rows
                if (r["net"], r["dtype"]) == (name, dtype)
            }
            if ("default", "split") in found and ("channels_last", "fused") in found:
                ratio = found["default", "split"] / found["channels_last", "fused"]
                print(f"{name} {dtype}: split in the default layout / fused in channels_last {ratio:.3f}")


if __name__ == "__main__":
    main()
