"""How much of a joint step this machine's kernels would let DFS save, if its own bookkeeping were free.

VGG7, width 64, 3x32x32, beta 0.5, channels_last, float32. For every convolution behind a fork: the joint
backward pass against the weight gradient alone plus the input gradient of the shared half; and the joint
net's gradient at the fork (spread the head's mean, add) against one write of each half. The ceiling is
joint step / (joint step - what is saved), all timed in turns in one process.

    python benchmarks/ceiling.py --out benchmarks/ceiling.json
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from _result import result_file, write_result

import offramp.nets

LAYERS = [(64, 64, 32), (64, 128, 16), (128, 128, 16), (128, 256, 8), (256, 256, 8)]  # reads, channels, side
GEOMETRY = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)


def channels_last(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).to(memory_format=torch.channels_last)


def kernels(batch: int, reads: int, channels: int, side: int) -> dict[str, Callable[[], object]]:
    """What joint training and DFS run for one layer and the fork before it."""
    x, grad = channels_last(batch, reads, side, side), channels_last(batch, channels, side, side)
    weight, half = channels_last(channels, reads, 3, 3), reads // 2
    lane, from_next = channels_last(batch, half, side, side), channels_last(batch, reads, side, side)
    from_head = torch.randn(batch, reads, 1, 1) / side**2
    backward = torch.ops.aten.convolution_backward.default

    def write() -> None:
        into = torch.empty_like(x)
        into[:, :half] = lane
        into[:, half:] = from_head[:, half:].expand(-1, -1, side, side)

    return {
        "joint convolution": lambda: backward(grad, x, weight, None, *GEOMETRY, [True, True, False]),
        "joint fork": lambda: (from_head.expand(-1, -1, side, side) / side**2).add_(from_next),
        "dfs weights": lambda: backward(grad, x, weight, None, *GEOMETRY, [False, True, False]),
        "dfs input": lambda: backward(grad, lane, weight[:, :half], None, *GEOMETRY, [True, False, False]),
        "dfs fork": write,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--out", type=result_file)
    args = parser.parse_args()

    net = offramp.nets.vgg7().to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    images, labels = channels_last(args.batch, 3, 32, 32), torch.randint(100, (args.batch,))

    def joint_step() -> None:
        loss = torch.stack([F.cross_entropy(o, labels) for o in net(images)]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    jobs: dict[str, list[Callable[[], object]]] = {"joint step": [joint_step]}
    for layer in LAYERS:
        for name, run in kernels(args.batch, *layer).items():
            jobs.setdefault(name, []).append(run)
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for round in range(-3, args.rounds):
        for name, runs in jobs.items():
            start = time.perf_counter()
            for run in runs:
                run()
            if round >= 0:
                seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    saved = sum(median[n] * (1 if n.startswith("joint") else -1) for n in median if n != "joint step")
    ceiling = median["joint step"] / (median["joint step"] - saved)
    for name, value in median.items():
        print(f"{name:18} {value * 1e3:8.1f} ms")
    print(f"saved {saved * 1e3:.1f} ms; joint / (joint - saved) {ceiling:.3f}")
    write_result(args.out, args, median_s=median, ceiling=ceiling)


if __name__ == "__main__":
    main()
