"""How long a training step takes in this checkout and in another one, method by method.

A step is forward pass, losses, gradients and SGD, by the code that each checkout trains with. Both
checkouts take turns in one process; told are medians over the rounds, and the median of the ratios.

    python benchmarks/against.py path/to/another/checkout/src --out benchmarks/against.json
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from _another import another
from _clock import DTYPES, Clock, precision
from _result import result_file, write_result
from torch import Tensor, nn

import offramp

METHODS = ("joint", "dfs", "ge", "kd", "cagrad", "mgda")


def backward_of(package: ModuleType, name: str, net: nn.Module) -> Callable[[Tensor, Tensor], object]:
    """What fills the gradients of a net by a method, from images and labels."""
    method = package.methods.method(name)
    if hasattr(method, "bind"):
        return method.bind(net).backward
    # before a method could be bound by itself
    step, backward = package.objectives.Step, package.combiners.Backward
    running = package.running.Running(method, method.prepare(net))

    def run(images: Tensor, labels: Tensor) -> None:
        outputs, features, trunk = net(images, keep=True)
        made = step(net, outputs, labels, features=features, trunk=trunk)
        running.combine(running.losses(made), made, backward())

    return run


def step_of(package: ModuleType, name: str, dtype: str, args: argparse.Namespace) -> Callable[[], None]:
    """A training step by a package."""
    torch.manual_seed(0)
    width = {"growth" if args.net.startswith("msdnet") else "width": args.width} if args.width else {}
    net = package.nets.create(args.net, num_classes=100, **width).train()
    images = torch.randn(args.batch, 3, 32, 32)
    if args.channels_last:
        net, images = (x.to(memory_format=torch.channels_last) for x in (net, images))
    labels = torch.randint(100, (args.batch,))
    fill = backward_of(package, name, net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with precision(dtype, "cpu") as autocast, autocast:
            fill(images, labels)
        optimizer.step()

    return step


def measure(name: str, dtype: str, args: argparse.Namespace) -> dict[str, object]:
    """Both checkouts' times for one method."""
    other = another(args.source, *args.modules)
    steps = {"this": step_of(offramp, name, dtype, args), "other": step_of(other, name, dtype, args)}
    clock = Clock("cpu")
    for step in steps.values():
        for _ in range(args.warmup):
            step()
    seconds: dict[str, list[float]] = {which: [] for which in steps}
    for round in range(args.rounds):
        for which in list(steps)[:: -1 if round % 2 else 1]:  # drift favours nobody
            seconds[which].append(clock.seconds(steps[which]))
    ratios = [a / b for a, b in zip(seconds["this"], seconds["other"], strict=True)]
    quarter = statistics.quantiles(ratios, n=4)
    row = {
        "net": args.net,
        "method": name,
        "dtype": dtype,
        "this_s": statistics.median(seconds["this"]),
        "other_s": statistics.median(seconds["other"]),
        "this_over_other": statistics.median(ratios),
        "quartiles": [quarter[0], quarter[2]],
        "ratio_of_medians": statistics.median(seconds["this"]) / statistics.median(seconds["other"]),
    }
    print(
        f"{args.net:12} {dtype:9} {name:8} this / other {row['this_over_other']:.3f} "
        f"[{quarter[0]:.3f}, {quarter[2]:.3f}]   of medians {row['ratio_of_medians']:.3f}",
        flush=True,
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="src folder of the other checkout")
    parser.add_argument(
        "--modules", nargs="+", default=("nets", "methods", "objectives", "combiners", "running"),
        help="of the other checkout, what its steps need",
    )  # fmt: skip
    parser.add_argument("--net", default="vgg7")
    parser.add_argument("--width", type=int, help="width, or MSDNet's growth; by default the papers'")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--dtypes", nargs="+", default=["float32"], choices=DTYPES)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--out", type=result_file, help="JSON file for the figures")
    args = parser.parse_args()
    rows: list[dict[str, object]] = []
    for dtype in args.dtypes:
        for name in args.methods:
            rows.append(measure(name, dtype, args))
            write_result(args.out, args, rows=rows)


if __name__ == "__main__":
    main()
