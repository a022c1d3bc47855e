"""Where a training step's time goes, by the protocol of the Deep Feature Surgery paper (Figs 4 and 5).

For each batch size, joint training, BYOT (self-distillation of probabilities and features) and DFS over beta:
101 iterations on a real loader, the first discarded; seconds of the forward pass, the backward pass, data
(gather, augment, copy) and the rest (loss, zero_grad, optimiser step); frames per second = batch / (forward +
backward + data + other). The methods take turns of --turn iterations, so that a drift of the machine's speed
falls on all of them alike. The layers that make BYOT's features comparable are linear here, and count to its
loss; the published code has convolutions there, which all of its methods run forward and BYOT alone backward.

    python benchmarks/training_efficiency.py --data path/to/data --out benchmarks/training_efficiency.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from _result import result_file, write_result

import offramp.nets
from offramp.data import ImageData, open_data, pipeline
from offramp.memory import keep_freed_memory
from offramp.methods import method
from offramp.reproduce._step_times import PHASES, StepTimer, endless, take_turns


def timer(args: argparse.Namespace, data: ImageData, batch: int, name: str, beta: float | None) -> StepTimer:
    """A method on its own net, optimiser and loader; beta is of DFS."""
    torch.manual_seed(0)
    net = offramp.nets.create(args.net, num_classes=data.num_classes, width=args.width).to(args.device)
    if args.channels_last:
        net = net.to(memory_format=torch.channels_last)
    transform, _ = pipeline(args.augment, data)
    device = torch.device(args.device)
    batches = endless(data.train, batch, transform, device, side=args.size, channels_last=args.channels_last)
    chosen = method(name, {} if beta is None else {"beta": beta})
    return StepTimer(chosen, net, batches, dtype=getattr(torch, args.dtype), compiled=args.compile)


def measure(args: argparse.Namespace, data: ImageData, batch: int) -> list[dict[str, object]]:
    """The rows of a batch size: joint training first, to which the frames per second are related."""
    methods = [("joint", None), ("byot", None), *(("dfs", beta) for beta in args.betas)]
    timers = [timer(args, data, batch, name, beta) for name, beta in methods]
    take_turns(timers, args.iterations, args.turn)
    times = [each.times(batch) for each in timers]
    return [
        {"batch": batch, "method": name, "beta": beta, **row, "fps_over_joint": row["fps"] / times[0]["fps"]}
        for (name, beta), row in zip(methods, times, strict=True)
    ]


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="digits")
    parser.add_argument("--net", default="vgg7")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--size", type=int, default=32, help="side of the images, resized if need be")
    parser.add_argument("--augment", default="crop-flip")
    parser.add_argument("--batches", type=int, nargs="+", default=[300, 400, 500])
    parser.add_argument("--betas", type=float, nargs="+", default=[0.1, 0.3, 0.5, 0.7, 0.9])
    parser.add_argument("--iterations", type=int, default=101, help="the first is discarded")
    parser.add_argument("--turn", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--release-memory", action="store_true", help="as without offramp.memory")
    parser.add_argument("--out", type=result_file)
    args = parser.parse_args(words)
    if args.iterations < 2:
        parser.error("--iterations must be 2 or more: the first is discarded")
    return args


def main(words: Sequence[str] | None = None) -> None:
    args = parsed(words)
    if args.device == "cpu" and not args.release_memory:
        keep_freed_memory()  # as fit does
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    data = open_data(args.data)
    rows = []
    for batch in args.batches:
        for row in measure(args, data, batch):
            rows.append(row)
            phases = " ".join(f"{phase} {row[phase]:.4f}" for phase in PHASES)
            print(
                f"batch {batch} {row['method']:5} beta {row['beta']} {phases} FPS {row['fps']:.1f} "
                f"({row['fps_over_joint']:.3f})",
                flush=True,
            )
    write_result(args.out, {**vars(args), "data": data.name}, rows=rows)


if __name__ == "__main__":
    main()
