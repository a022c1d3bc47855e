"""Where the time of a step goes, by kind of work: joint training and DFS (the profiler's self times).

VGG7, width 64, batch 100, 3x32x32, beta 0.5, channels_last, float32; mean of the rounds.

    python benchmarks/step_profile.py --rounds 10 --out benchmarks/step_profile.json
"""

from __future__ import annotations

import argparse
from collections import Counter

import torch
import torch.nn.functional as F
from _result import result_file, write_result

import offramp.nets
from offramp.forks import partition

KINDS = {
    "convolution forward": ("mkldnn_convolution", "convolution", "_convolution", "conv2d"),
    "convolution backward": ("convolution_backward",),
    "batch norm": ("native_batch_norm", "native_batch_norm_backward", "batch_norm", "_batch_norm_impl_index"),
    "ReLU": ("relu", "clamp_min", "threshold_backward"),
    "max pooling": ("max_pool2d_with_indices", "max_pool2d_with_indices_backward", "max_pool2d"),
    "gradient at the forks": ("_BranchBackward", "copy_", "add", "add_", "div", "fill_", "zero_", "sum"),
    "heads and losses": ("mm", "addmm", "mean", "_log_softmax", "nll_loss_forward", "nll_loss_backward",
                         "_log_softmax_backward_data"),
}  # fmt: skip
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}


def profile(variant: str, rounds: int) -> dict[str, float]:
    torch.manual_seed(0)
    net = offramp.nets.vgg7(num_classes=100, width=64).to(memory_format=torch.channels_last)
    if variant != "joint":
        partition(net, impl=variant)
    images = torch.randn(100, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(100, (100,))

    def step() -> None:  # without the optimiser, whose additions would be counted as the forks'
        net.zero_grad(set_to_none=True)
        torch.stack([F.cross_entropy(o, labels) for o in net(images)]).sum().backward()

    for _ in range(3):
        step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
        for _ in range(rounds):
            step()
    total: Counter[str] = Counter()
    for event in record.key_averages():
        name = event.key.removeprefix("aten::")
        total[KIND_OF.get(name, "everything else")] += event.self_cpu_time_total / 1e3 / rounds
    return dict(total)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=result_file)
    args = parser.parse_args()
    found = {variant: profile(variant, args.rounds) for variant in ("joint", "fused")}
    kinds = [*KINDS, "everything else"]
    for kind in kinds:
        times = {v: found[v].get(kind, 0.0) for v in found}
        print(f"{kind:22} " + "  ".join(f"{v} {ms:8.1f} ms" for v, ms in times.items()))
    print(f"{'all':22} " + "  ".join(f"{v} {sum(ms.values()):8.1f} ms" for v, ms in found.items()))
    write_result(args.out, args, self_ms_per_step=found)


if __name__ == "__main__":
    main()
