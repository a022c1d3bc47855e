"""DR-MGF at a smaller cost: the copies of an epoch are stations of one trajectory.

A trial of the hunt, not a method of offramp's table. DR-MGF starts the copy of each exit from the same net,
so that K of them take K runs over the images. Here each starts where the one before has ended, with one
optimiser for all: together they take as many runs as ``--runs`` says. What an exit's copy descends, what is
kept of it, and the fusion are DR-MGF's. Tensors that one exit alone owns, which nothing fuses, are those at
the end of the trajectory.

    python results/hunt/relay.py --data path/to/cifar10 --epochs 14 --out runs/relay
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

import offramp
from offramp.methods import Method
from offramp.methods.loops import BoundLoop, LoopContext, Progress
from offramp.methods.loops.staged import DRMGF
from offramp.methods.loops.staged._bound import BoundStagedLoop


@dataclass(frozen=True, kw_only=True)
class Relay(DRMGF):
    """DR-MGF whose copies are stations of one trajectory."""

    def bind(self, context: LoopContext) -> BoundLoop:  # noqa: D102
        bound = cast("BoundStagedLoop", super().bind(context))
        return _BoundRelay(
            context,
            self,
            owners=bound.owners,
            mean=bound.mean,
            optimizer=bound.fusion.optimizer,
            factors=self.factors,
            importance=bound.importance,
        )


class _BoundRelay(BoundStagedLoop):
    def begin(self, phase: int, progress: Progress) -> None:
        output = self._output(phase)
        if phase == 0:
            super().begin(phase, progress)
        elif output is None:
            alone = {n: p.detach().clone() for n, p in self.context.net.named_parameters()}
            super().begin(phase, progress)
            self._put({name: p for name, p in alone.items() if len(self.owners[name]) == 1})
        else:
            self.context.bound.train(False)
            self.factors = self.find_factors(self.training, output, progress)


def main() -> None:
    """Train, and print the accuracy on validation and test images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--runs", type=int, default=2, help="over the images, in each epoch; up to 6")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=5000)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    recipe = offramp.Recipe(
        epochs=args.epochs,
        seed=args.seed,
        train_limit=args.limit,
        batch_size=100,
        schedule="cosine",
        weight_decay=5e-4,
        augment="dfs-autoaugment",
        precision="bf16",
        channels_last=True,
    )
    torch.manual_seed(args.seed)
    net = offramp.nets.vgg7(num_classes=10, width=32)
    share = args.runs / net.num_exits
    loop = Relay(stage_fraction=share, optimizers="shared", statistics="carried")
    method = Method("relay", "DR-MGF whose copies are stations of one trajectory", "", {"loop": loop})
    offramp.fit(net, args.data, method, recipe, args.out)


if __name__ == "__main__":
    main()
