"""Wall clock of leaving early in a net that is not trained: ResNet-50 with three inner exits, for a GPU.

What a batch takes does not depend on whether answers are right. So the thresholds are set for half of the
static network's operations: of the samples that reach an exit the same share leaves at each, the surest ones.
Accuracies have no meaning and are not given. Otherwise as ``inference.py``: variants take turns on every
batch, `static` is the backbone without inner heads, `all exits` computes every exit and picks afterwards, and
the limit takes of the time of what runs between two exits, alone on the whole batch, the share of samples
that reach it; `bare` is all that in a row, for as many samples.

    python benchmarks/inference_untrained.py --device cuda --out inference_resnet50.json
    python benchmarks/inference_untrained.py --device cuda --dtypes bfloat16 --compile --batch-sizes 1 64

Compiled, all variants are. Images are noise of many colours, 224x224, channels-last.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from _clock import DTYPES, Clock, precision
from _result import result_file, write_result
from inference import BOUNDS, Predict, all_exits, measure, routed, row_of
from torch import Tensor, nn

from offramp import attach
from offramp.exits import PathCosts, Policy, Router
from offramp.nets import MultiExitNet
from offramp.nets.text import build


def create(name: str) -> MultiExitNet:
    """torchvision's ResNet-50 with an exit behind each of its layers, or a net of the catalogue."""
    torch.manual_seed(0)
    if name != "resnet50":
        net = build(name)
        assert isinstance(net, MultiExitNet)
        return net
    from torchvision.models import resnet50

    return attach(resnet50(), at=["layer1", "layer2", "layer3"], input_size=(3, 224, 224))


def noise(net: MultiExitNet, count: int) -> Tensor:
    draws = torch.Generator().manual_seed(1)
    colours = torch.randn(count, 3, 1, 1, generator=draws)
    return 2 * colours + torch.randn(count, *net.input_size, generator=draws)


@torch.no_grad()
def settle(net: MultiExitNet, x: Tensor) -> None:
    """Give norm layers the statistics of such images, so that features keep their size through the net."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # the mean over batches
        norm.reset_running_stats()
    net.train()
    for batch in x.split(64):
        net(batch)
    net.eval()


@torch.no_grad()
def half(net: MultiExitNet, x: Tensor) -> Policy:
    """Thresholds for half of the static network's operations on average, on these very samples."""
    costs = PathCosts(net)
    ways, inner = costs.of(range(1, net.num_exits + 1)), net.num_exits - 1
    low, high = 0.0, 1.0
    for _ in range(40):
        share = (low + high) / 2  # of those that are there, how many leave
        leave = [share * (1 - share) ** k for k in range(inner)] + [(1 - share) ** inner]
        mean = sum(a * b for a, b in zip(leave, ways, strict=True))
        low, high = (share, high) if mean > costs.static / 2 else (low, share)
    outputs = [torch.cat(o) for o in zip(*(net(batch) for batch in x.split(64)), strict=True)]
    here = torch.ones(len(x), dtype=torch.bool, device=x.device)
    thresholds = []
    for logits in outputs[:-1]:
        sure = logits.float().softmax(1).amax(1)
        ordered = sure[here].sort().values.double()
        place = min(max(1, round((1 - share) * len(ordered))), len(ordered) - 1)
        thresholds.append(float(ordered[place - 1] + ordered[place]) / 2)
        here &= sure < thresholds[-1]
    return Policy(thresholds)


@torch.inference_mode()
def limit(router: Router, x: Tensor, clock: Clock) -> float:
    """Seconds of a batch, if what runs between two exits took its share of its own time alone."""
    exit, seconds = router(x).exit, 0.0
    handed: Tensor | None = None
    for step in router._net.steps:
        kept: list[tuple[Tensor, Tensor, Tensor]] = []

        def run(step: Any = step, x: Tensor = x, handed: Tensor | None = handed, kept: Any = kept) -> None:
            kept.append(step.forward(x, handed))

        seconds += float((exit >= step.gate.exit).double().mean()) * clock.seconds(run)
        ((x, _, handed),) = kept
    return seconds


def rows(net: MultiExitNet, images: Tensor, dtype: str, args: argparse.Namespace) -> Sequence[dict[str, Any]]:
    """Figures in one precision, by batch size."""
    policy = half(net, images)
    router = Router(net, policy, compile=args.compile)
    variants: dict[str, Predict] = {
        "static": routed(Router(net, Policy.full(net.num_exits), compile=args.compile)),
        "router": routed(router),
        "all exits": all_exits(router._net, policy),
    }
    whole, found = PathCosts(net).static, []
    for size in args.batch_sizes:
        chosen = images[: max(1, len(images) // 4)] if size == 1 else images
        batches = chosen.split(size)
        seconds = measure(variants, router, batches, args.rounds, args.device, {**BOUNDS, "limit": limit})
        executed = torch.cat([router(batch).cost for batch in batches]).double().mean()
        row = {"dtype": dtype, "batch_size": size, **row_of(seconds, whole / float(executed))}
        told = "  ".join(f"{key} {value:.2f}" for key, value in row.items() if isinstance(value, float))
        print(f"{dtype} batch {size}: {told}", flush=True)
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", default="resnet50", help="resnet50, or a net of `offramp nets`")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["float32", "tf32", "bfloat16"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 64, 256])
    parser.add_argument("--images", type=int, default=256, help="a quarter of them at batch size 1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=result_file)
    args = parser.parse_args()
    found: list[dict[str, Any]] = []
    for dtype in args.dtypes:
        net = create(args.net).to(args.device, memory_format=torch.channels_last)
        images = noise(net, args.images).to(args.device, memory_format=torch.channels_last)
        settle(net, images)
        kept = DTYPES[dtype][0] or torch.float32  # of weights and images, as a server has them
        net, images = net.to(kept), images.to(kept)
        with precision(dtype, args.device):
            found += rows(net, images, dtype, args)
        write_result(args.out, args, inference=found)


if __name__ == "__main__":
    main()
