"""How far DR-MGF's fusion lowers the joint training loss, by its learning rate and its positive map.

The K stages of the first epoch run once. From what they leave, every setting fuses by a pass of its own over
the same batches. The loss (sum over the exits) is that of training images, normalised by their batch, without
dropout, on weights fused by the scales before the pass and after it. Rows say what one step of Adam is, as a
factor of a scale at the start.

    python results/dr-mgf/fusion/study.py path/to/tin100 --out results/dr-mgf/fusion/study.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch

from offramp import Recipe
from offramp.distributed.launch import launch
from offramp.methods import method
from offramp.methods.loops import Progress
from offramp.modes import measuring
from offramp.nets.text import build
from offramp.runs.sets import open_set
from offramp.training._trainer import Trainer

RATES = {
    "abs": (0.1, 0.01, 0.003, 0.001, 0.0003, 0.0001),
    "softplus": (1.0, 0.3, 0.1, 0.03, 0.01),
}
LOOK_AT = 40  # batches that the loss is measured on


def stages(args: argparse.Namespace, seed: int) -> Trainer:
    """A run whose first epoch stands before its fusion."""
    recipe = Recipe(
        epochs=args.epochs,
        batch_size=50,
        lr=0.05,
        weight_decay=1e-4,
        augment="none",
        channels_last=True,
        seed=seed,
        train_limit=args.train_limit,
        val_fraction=0,
    )
    data = open_set(args.data, recipe)
    torch.manual_seed(seed)
    net = build(args.net, data.num_classes)
    fabric = launch(recipe.precision, args.device)
    trainer = Trainer(net, data, method("dr-mgf"), recipe, fabric, None, quiet=True)
    loop = trainer.loop
    net.train()
    for part, one in enumerate(loop.parts[:-1]):
        loop.begin(part, moment(trainer, 0))
        for step, (images, targets) in enumerate(batches(trainer, part)):
            loop.step(part, images, targets, moment(trainer, step))
        loop.end(part, moment(trainer, 0))
        print(f"seed {seed}: {one.name} done", flush=True)
    return trainer


def batches(trainer: Trainer, part: int, count: int | None = None) -> Any:
    """The first training batches of a part of the first epoch."""
    return trainer.feed.part(trainer.loop.parts[part], 0, 0, count or trainer.plan.steps(part))


def moment(trainer: Trainer, step: int) -> Progress:
    """A step of the first epoch."""
    trainer.state.step = step
    return trainer._moment


def fused(trainer: Trainer, sign: str, rate: float) -> dict[str, float]:
    """The loss before and after one pass of the fusion under these settings."""
    loop: Any = trainer.loop
    options = method("dr-mgf", {"sign": sign, "fusion_lr": rate}).loop
    loop.fusion = options.fusion(loop.bench, loop.shared, loop.routes)
    loop.fusing = type(loop.fusing)(loop.bench, options, loop.fusion, loop.stage.taus)
    last = len(loop.parts) - 1
    loop.begin(last, moment(trainer, 0))
    before = joint_loss(trainer)
    for step, (images, targets) in enumerate(batches(trainer, last)):
        loop.step(last, images, targets, moment(trainer, step))
    return {"before": before, "after": joint_loss(trainer)}


@torch.no_grad()
def joint_loss(trainer: Trainer) -> float:
    """The mean over some training batches of the sum of all exits' losses of the fused net."""
    loop: Any = trainer.loop
    net = loop.bench.net
    tensors = {name: p.detach() for name, p in net.named_parameters()} | loop.fusion.fuse(loop.copies)
    losses = []
    with measuring(net):
        for images, targets in batches(trainer, 0, LOOK_AT):
            found = loop.bench.forward(images, targets, moment(trainer, 0), tensors=tensors)
            losses.append(float(sum(loop.bench.running.losses(found))))
    return statistics.mean(losses)


def main() -> None:
    """Study all settings on some seeds, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--net", default="vgg_sdn:width=8")
    parser.add_argument("--train-limit", type=int, default=10000)
    parser.add_argument("--epochs", type=int, default=6, help="of the schedule; one is run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in args.seeds:
        trainer = stages(args, seed)
        for sign, rates in RATES.items():
            for rate in rates:
                rows.append({"seed": seed, "sign": sign, "fusion_lr": rate, **fused(trainer, sign, rate)})
                print(rows[-1], flush=True)
        if args.out:
            settings = {key: str(value) for key, value in vars(args).items() if key not in ("out", "data")}
            args.out.write_text(json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n")
    print(f"\n{'sign':10}{'fusion_lr':>10}{'loss before':>13}{'after':>8}{'fall':>8}   fall by seed")
    for sign, rates in RATES.items():
        for rate in rates:
            mine = [row for row in rows if (row["sign"], row["fusion_lr"]) == (sign, rate)]
            before, after = (statistics.mean(row[key] for row in mine) for key in ("before", "after"))
            falls = "  ".join(f"{row['before'] - row['after']:.2f}" for row in mine)
            print(f"{sign:10}{rate:10g}{before:13.2f}{after:8.2f}{before - after:8.2f}   {falls}")


if __name__ == "__main__":
    main()
