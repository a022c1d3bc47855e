"""Where a training step's time goes, by the protocol of the Deep Feature Surgery paper (Figs 4 to 6).

For each batch size, joint training and DFS over beta: 101 iterations on a real loader, the first discarded;
seconds of the forward pass, the backward pass, data (gather, augment, copy) and the rest (loss, zero_grad,
optimiser step); frames per second = batch / (forward + backward + data + other). The methods take turns of
--turn iterations, so that a drift of the machine's speed falls on all of them alike.

    python benchmarks/training_efficiency.py --data path/to/data --out benchmarks/training_efficiency.json
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from _result import result_file, write_result

import offramp.nets
from offramp.data import Batch, open_data, pipeline
from offramp.forks import partition
from offramp.memory import keep_freed_memory

PHASES = ("forward", "backward", "data", "other")


class Trainer:
    """One method on its own net, optimiser and loader."""

    def __init__(self, args: argparse.Namespace, data, batch: int, beta: float | None) -> None:
        torch.manual_seed(0)
        net = offramp.nets.create(args.net, num_classes=data.num_classes, width=args.width).to(args.device)
        if args.channels_last:
            net = net.to(memory_format=torch.channels_last)
        if beta is not None:
            partition(net, beta=beta)
        self.net = torch.compile(net) if args.compile else net
        self.optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        self.args, self.data, self.batch = args, data, batch
        self.batches = self._endless()
        self.phases: dict[str, list[float]] = defaultdict(list)

    def _endless(self) -> Iterator[Batch]:
        transform, _ = pipeline(self.args.augment, self.data)
        epoch = 0
        while True:
            yield from self.data.train.batches(
                self.batch, transform=transform, device=torch.device(self.args.device), epoch=epoch,
                shuffle=True, drop_last=True,
            )  # fmt: skip
            epoch += 1

    def _now(self) -> float:
        if self.args.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def step(self) -> None:
        start = self._now()
        batch = next(self.batches)
        images, labels = batch.inputs, batch.targets["label"]
        if self.args.size != images.shape[-1]:
            images = F.interpolate(images, size=self.args.size)
        if self.args.channels_last:
            images = images.to(memory_format=torch.channels_last)
        loaded = self._now()
        dtype = getattr(torch, self.args.dtype)
        with torch.autocast(self.args.device, dtype=dtype, enabled=dtype != torch.float32):
            outputs = self.net(images)
        forward = self._now()
        loss = torch.stack([F.cross_entropy(o.float(), labels) for o in outputs]).sum()
        self.optimiser.zero_grad(set_to_none=True)
        ready = self._now()
        loss.backward()
        backward = self._now()
        self.optimiser.step()
        end = self._now()
        for phase, seconds in (
            ("data", loaded - start), ("forward", forward - loaded), ("backward", backward - ready),
            ("other", ready - forward + end - backward),
        ):  # fmt: skip
            self.phases[phase].append(seconds)


def main() -> None:
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
    args = parser.parse_args()
    if args.device == "cpu" and not args.release_memory:
        keep_freed_memory()  # as fit does
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    data = open_data(args.data)

    rows = []
    for batch in args.batches:
        trainers = {beta: Trainer(args, data, batch, beta) for beta in (None, *args.betas)}
        for trainer in trainers.values():
            trainer.step()
            trainer.phases.clear()
        done = 1
        while done < args.iterations:
            turn = min(args.turn, args.iterations - done)
            for trainer in trainers.values():
                for _ in range(turn):
                    trainer.step()
            done += turn
        joint_fps = None
        for beta, trainer in trainers.items():
            means = {phase: statistics.fmean(trainer.phases[phase]) for phase in PHASES}
            totals = [sum(step) for step in zip(*(trainer.phases[p] for p in PHASES), strict=True)]
            fps = batch / sum(means.values())
            joint_fps = joint_fps or fps
            row = {
                "batch": batch, "method": "dfs" if beta else "joint", "beta": beta, **means, "fps": fps,
                "fps_over_joint": fps / joint_fps, "median_step": statistics.median(totals),
                "iterations": len(totals),
            }  # fmt: skip
            rows.append(row)
            phases = " ".join(f"{p} {means[p]:.4f}" for p in PHASES)
            print(
                f"batch {batch} {row['method']:5} beta {beta} {phases} FPS {fps:.1f} ({fps / joint_fps:.3f})",
                flush=True,
            )
    write_result(args.out, {**vars(args), "data": data.name}, rows=rows)


if __name__ == "__main__":
    main()
