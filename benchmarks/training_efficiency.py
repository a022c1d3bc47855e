"""Where a training step's time goes, by the protocol of the Deep Feature Surgery paper (Figs 4 to 6).

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
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from _result import result_file, write_result

import offramp.nets
from offramp.data import Batch, ImageData, open_data, pipeline
from offramp.memory import keep_freed_memory
from offramp.methods import method
from offramp.methods.bound import BoundMethod

PHASES = ("forward", "backward", "data", "other")


class Trainer:
    """One method on its own net, optimiser and loader.

    Args:
        args: The command line.
        data: The data set.
        batch: Number of images of a step.
        name: The method.
        beta: Of DFS; None for other methods.
    """

    def __init__(
        self, args: argparse.Namespace, data: ImageData, batch: int, name: str, beta: float | None
    ) -> None:
        torch.manual_seed(0)
        net = offramp.nets.create(args.net, num_classes=data.num_classes, width=args.width).to(args.device)
        if args.channels_last:
            net = net.to(memory_format=torch.channels_last)
        chosen = method(name, {} if beta is None else {"beta": beta})
        self.bound = BoundMethod(chosen, chosen.prepare(net))
        self.net = torch.compile(net) if args.compile else net
        learned = [*net.parameters(), *self.bound.parameters()]
        self.optimiser = torch.optim.SGD(learned, lr=0.1, momentum=0.9, weight_decay=5e-4)
        self.args, self.data, self.batch, self.name, self.beta = args, data, batch, name, beta
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
        images = batch.inputs
        if self.args.size != images.shape[-1]:
            images = F.interpolate(images, size=self.args.size)
        if self.args.channels_last:
            images = images.to(memory_format=torch.channels_last)
        batch = replace(batch, inputs=images)
        loaded = self._now()
        dtype = getattr(torch, self.args.dtype)
        with torch.autocast(self.args.device, dtype=dtype, enabled=dtype != torch.float32):
            passed = self.bound.step(batch, self.net, [*self.bound.net.outputs.values()], reach={"features"})
        forward = self._now()
        loss = torch.stack(self.bound.losses_of(passed)).sum()
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

    def row(self) -> dict[str, object]:
        """Means of the phases, and frames per second."""
        means = {phase: statistics.fmean(self.phases[phase]) for phase in PHASES}
        totals = [sum(step) for step in zip(*(self.phases[phase] for phase in PHASES), strict=True)]
        return {
            "batch": self.batch, "method": self.name, "beta": self.beta, **means,
            "fps": self.batch / sum(means.values()), "median_step": statistics.median(totals),
            "iterations": len(totals),
        }  # fmt: skip


def measure(args: argparse.Namespace, data: ImageData, batch: int) -> list[dict[str, object]]:
    """The rows of a batch size: joint training first, to which the frames per second are related."""
    methods = [("joint", None), ("byot", None), *(("dfs", beta) for beta in args.betas)]
    trainers = [Trainer(args, data, batch, name, beta) for name, beta in methods]
    for trainer in trainers:
        trainer.step()
        trainer.phases.clear()
    done = 1
    while done < args.iterations:
        turn = min(args.turn, args.iterations - done)
        for trainer in trainers:
            for _ in range(turn):
                trainer.step()
        done += turn
    rows = [trainer.row() for trainer in trainers]
    return [{**row, "fps_over_joint": row["fps"] / rows[0]["fps"]} for row in rows]


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
