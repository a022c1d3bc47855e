"""What DR-MGF costs: its steps against a plain step, its epoch over processes, and what it keeps in memory.

Steps: a plain training step (forward, sum of the losses, backward, SGD), a routed step of one stage and a
step of the fusion take turns in one process; medians over the rounds of the ratio to plain. Processes: an
epoch of K stages and the fusion in 1 and in N processes of one thread each, taking turns. Memory: the
bytes of all that the loop keeps, kind by kind, in the middle of a fusion.

    python benchmarks/dr_mgf.py --rounds 15 --out benchmarks/dr_mgf.json
    python benchmarks/dr_mgf.py --width 8 --batch 4 --rounds 1 --steps 1      # does it run
    python benchmarks/dr_mgf.py --only steps memory --device cuda --precision bf16 --batch 512
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from _clock import Clock
from _result import result_file, write_result
from torch import Tensor
from torch.utils._pytree import tree_leaves

import offramp.nets
from offramp import Recipe
from offramp.data import Batch
from offramp.distributed.launch import launch
from offramp.methods import method
from offramp.methods.bound import BoundMethod
from offramp.methods.loops import BoundLoop, LoopContext, Progress
from offramp.training._optimizer import build_optimizer
from offramp.training._placement import model_of, place

CLASSES = 100
NOW = Progress(epoch=0, fraction=0.0, lr=0.01)


def work(name: str, args: argparse.Namespace) -> BoundLoop:
    """The named method at work on a fresh net."""
    torch.manual_seed(0)
    recipe = Recipe(epochs=2, batch_size=args.batch, channels_last=args.channels_last)
    row = method(name)
    net = offramp.nets.create(args.net, num_classes=CLASSES, width=args.width)
    fabric = launch(args.precision, args.device)
    place(net, recipe, fabric)
    context = LoopContext(
        model=model_of(net, recipe, fabric, plain_backward=not row.loop.own_backward),
        net=net,
        bound=BoundMethod(row, net),
        fabric=fabric,
        optimizer=lambda parameters: fabric.setup_optimizers(build_optimizer(parameters, recipe)),
        batches=lambda number, count: iter([data(args)] * count),
        tasks=[*net.outputs.values()],
        epochs=recipe.epochs,
    )
    net.train()
    return row.loop.bind(context)


def data(args: argparse.Namespace) -> Batch:
    random = torch.Generator().manual_seed(1)
    images = torch.randn(args.batch, 3, 32, 32, generator=random).to(args.device)
    if args.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (args.batch,), generator=random).to(args.device)
    return Batch(images, {"label": labels})


def in_fusion(loop: BoundLoop, batch: Batch) -> int:
    """Take a loop through its stages, one step each, to its last part."""
    for part in range(len(loop.phases) - 1):
        loop.begin(part, NOW)
        loop.step(part, batch, NOW)
        loop.end(part, NOW)
    last = len(loop.phases) - 1
    loop.begin(last, NOW)
    return last


def steps(args: argparse.Namespace) -> dict[str, Any]:
    batch = data(args)
    plain, routed, fusing = work("joint", args), work("dr-mgf", args), work("dr-mgf", args)
    routed.begin(0, NOW)
    last = in_fusion(fusing, batch)
    variants: dict[str, Callable[[], object]] = {
        "plain": lambda: plain.step(0, batch, NOW),
        "routed": lambda: routed.step(0, batch, NOW),
        "fusion": lambda: fusing.step(last, batch, NOW),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    clock = Clock(args.device)
    for round in range(-2, args.rounds):
        for name in list(variants)[:: 1 if round % 2 else -1]:
            taken = clock.seconds(variants[name])
            if round >= 0:
                seconds[name].append(taken)
    found = {}
    for name, taken in seconds.items():
        ratios = [t / p for t, p in zip(taken, seconds["plain"], strict=True)]
        quarters = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        found[name] = {
            "plain_steps": statistics.median(ratios),
            "quartiles": quarters[::2],
            "seconds": taken,
        }
        print(f"{name:8} {statistics.median(ratios):.3f} plain steps [{quarters[0]:.3f}, {quarters[2]:.3f}]")
    return found


def memory(args: argparse.Namespace) -> dict[str, float]:
    loop: Any = work("dr-mgf", args)
    in_fusion(loop, data(args))
    loop.step(len(loop.phases) - 1, data(args), NOW)
    state = loop.state()
    stages, fusion = state["optimizers"][:-1], state["optimizers"][-1]
    kinds = {
        "the net": state["net"],
        "the epoch's start": state["start"],
        "states that the stages left": state["copies"],
        "importance variables": state["routes"],
        "scales": state["fusion"],
        "scales before the epoch": state["first"],
        "momenta of the stages' optimisers": stages,
        "moments of the fusion's Adam": fusion,
    }
    found = {
        kind: sum(t.nbytes for t in tree_leaves(v) if isinstance(t, Tensor)) / 2**20
        for kind, v in kinds.items()
    }
    for kind, mebibytes in found.items():
        print(f"{kind:35} {mebibytes:8.1f} MiB   {mebibytes / found['the net']:5.2f} nets")
    return found


def epoch(args: argparse.Namespace) -> None:
    """One epoch, in this process and its likes; rank 0 prints how long it took, the second time."""
    torch.set_num_threads(1)
    loop: Any = work("dr-mgf", args)
    batch = data(args)
    for _ in range(2):
        loop.context.fabric.barrier()
        begin = time.perf_counter()
        for part in range(len(loop.phases)):
            loop.begin(part, NOW)
            for _ in range(args.steps):
                loop.step(part, batch, NOW)
            loop.end(part, NOW)
        loop.context.fabric.barrier()
        if args.device == "cuda":
            torch.cuda.synchronize()
        taken = time.perf_counter() - begin
    if loop.context.fabric.is_global_zero:
        print(f"seconds {taken}")


def processes(args: argparse.Namespace) -> dict[str, Any]:
    taken: dict[int, list[float]] = {1: [], args.processes: []}
    words = [
        a
        for key in ("net", "width", "batch", "steps", "device", "precision")
        for a in (f"--{key}", str(getattr(args, key)))
    ]
    words += [] if args.channels_last else ["--default-layout"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    for _ in range(args.repeats):
        for count, seconds in taken.items():
            command = [*launcher, "--nproc-per-node", str(count), __file__, "--epoch", *words]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            seconds.append(
                next(float(line.split()[1]) for line in out.splitlines() if line.startswith("seconds"))
            )
    one, several = taken.values()
    speedups = [a / b for a, b in zip(one, several, strict=True)]
    speedup = statistics.median(speedups)
    print(
        f"{args.processes} processes: {speedup:.2f} x as fast as one, {speedup / args.processes:.2f} of ideal"
    )
    return {"processes": args.processes, "speedup": speedup, "seconds": {str(n): s for n, s in taken.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", default="vgg_sdn")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4, help="steps of each part, over processes")
    parser.add_argument("--repeats", type=int, default=3, help="epochs timed, over processes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--default-layout", dest="channels_last", action="store_false")
    parser.add_argument("--only", nargs="+", default=["steps", "processes", "memory"])
    parser.add_argument("--epoch", action="store_true", help="one epoch, here")
    parser.add_argument("--out", type=result_file)
    args = parser.parse_args()
    if args.epoch:
        return epoch(args)
    measures = {"steps": steps, "processes": processes, "memory": memory}
    found: dict[str, Any] = {}
    for name in args.only:
        found[name] = measures[name](args)
        write_result(args.out, args, **found)


if __name__ == "__main__":
    main()
