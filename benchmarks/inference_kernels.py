"""What the router does in place of torch's own kernels, on a CPU: time of torch's / time of the router's.

Each pair takes turns in one process, on random float32 Tensors in channels_last; medians of the rounds, with
quartiles of the ratios. Then small functions, such as exits are read with: their time behind a convolution,
which fills the caches with features / their time alone.

    python benchmarks/inference_kernels.py --out benchmarks/inference_kernels.json
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from _clock import Clock
from _result import result_file, write_result
from torch import Tensor, nn

from offramp.exits._folding import fold
from offramp.exits.rows import Rows, take
from offramp.memory import keep_freed_memory

Pair = tuple[Callable[[], object], Callable[[], object]]  # torch's own, the router's


def images(n: int, channels: int, size: int) -> Tensor:
    return torch.randn(n, channels, size, size).contiguous(memory_format=torch.channels_last)


def folded(layers: nn.Module, x: Tensor) -> Pair:
    """A module as it is, and as the router runs it."""
    plain, ours = (nn.Sequential(layers).eval() for _ in range(2))
    fold(ours, x)
    return lambda: plain(x), lambda: ours(x)


def packed(channels: int, size: int, n: int) -> Pair:
    conv = nn.Conv2d(channels, channels, 3, padding=1).to(memory_format=torch.channels_last)
    return folded(conv, images(n, channels, size))


def rows(leaving: int, *, movable: bool) -> Pair:
    """The samples of 64 that stay, by an index and by blocks of memory."""
    leaves = [False] * 64
    for place in torch.randperm(64)[:leaving].tolist():
        leaves[place] = True
    x, staying = images(64, 64, 32), Rows.staying(leaves)
    places = torch.tensor(staying.places)
    return lambda: x[places], lambda: take(x, staying, movable=movable)


def normed() -> Pair:
    """A ReLU and a batch norm behind a convolution, which takes no part."""
    norm = nn.BatchNorm2d(64).eval()
    layers = nn.Sequential(nn.Conv2d(64, 64, 1), nn.ReLU(), norm)
    x = images(64, 64, 32)
    fold(layers, x)
    return lambda: norm(x.relu_()), lambda: layers[2](layers[1](x))


PAIRS: dict[str, Callable[[], Pair]] = {
    "packed convolution, 256 channels of 8x8, 1 sample": lambda: packed(256, 8, 1),
    "packed convolution, 512 channels of 4x4, 1 sample": lambda: packed(512, 4, 1),
    "packed convolution, 512 channels of 4x4, 16 samples": lambda: packed(512, 4, 16),
    "packed convolution, 512 channels of 4x4, 64 samples": lambda: packed(512, 4, 64),
    "51 of 64 samples stay, all copied": lambda: rows(13, movable=False),
    "51 of 64 samples stay, few moved": lambda: rows(13, movable=True),
    "max pooling of 2x2, 64 channels of 32x32, 64 samples": lambda: folded(
        nn.MaxPool2d(2), images(64, 64, 32)
    ),
    "average over maps, 64 channels of 32x32, 64 samples": lambda: folded(
        nn.AdaptiveAvgPool2d(1), images(64, 64, 32)
    ),
    "average over maps, 512 channels of 4x4, 6 samples": lambda: folded(
        nn.AdaptiveAvgPool2d(1), images(6, 512, 4)
    ),
    "ReLU and batch norm, 64 channels of 32x32, 64 samples": normed,
}


def small() -> dict[str, Callable[[], object]]:
    """Functions of the logits of 64 samples, 100 classes each."""
    logits = torch.randn(64, 100)
    shares = logits.softmax(-1)
    confidence = shares.amax(-1)
    return {
        "softmax": lambda: logits.softmax(-1),
        "maximum and its place": lambda: shares.max(-1),
        "comparison with a threshold": lambda: confidence >= 0.5,
    }


def behind_a_convolution(run: Callable[[], object], rounds: int, clock: Clock) -> list[float]:
    """Quartiles of the ratio of a function's time behind a convolution to its time alone."""
    conv, x = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last), images(64, 64, 32)
    ratios = []
    for _ in range(rounds):
        conv(x)
        behind = clock.seconds(run)
        for _ in range(3):
            run()
        ratios.append(behind / clock.seconds(run))
    return statistics.quantiles(ratios, n=4)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", type=result_file)
    args = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    clock, ratios = Clock("cpu"), {}
    with torch.inference_mode():
        for name, make in PAIRS.items():
            pair = make()
            times = [[clock.seconds(run) for run in pair] for _ in range(args.rounds + 3)][3:]
            quartiles = statistics.quantiles([theirs / ours for theirs, ours in times], n=4)
            ratios[name] = quartiles
            print(f"{name:66} {quartiles[1]:5.2f} [{quartiles[0]:.2f}, {quartiles[2]:.2f}]", flush=True)
        behind = {name: behind_a_convolution(run, args.rounds, clock) for name, run in small().items()}
        for name, (low, middle, high) in behind.items():
            print(f"{name + ', behind a convolution / alone':66} {middle:5.2f} [{low:.2f}, {high:.2f}]")
    write_result(args.out, args, torch_over_router=ratios, behind_a_convolution_over_alone=behind)


if __name__ == "__main__":
    main()
