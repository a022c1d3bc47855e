"""What methods cost on a net of several tasks, SegNet-MTAN: steps and peak memory beside joint and TorchJD.

Everything in joint steps (forward, sum of the losses, backward, no optimiser). Times: all variants take turns
in one process; medians over the rounds of the ratio to joint, and of others to each other. Memory: a fresh
process for each figure, the peak of its resident memory during one step less what it held before; on a GPU,
where the allocator itself knows, in one process.

    python benchmarks/multi_task.py --out benchmarks/multi_task.json
    python benchmarks/multi_task.py --width 4 --size 32 64 --batch 2 --rounds 1        # does it run
    python benchmarks/multi_task.py --only times memory --device cuda --width 64 --size 288 384 --batch 8

"loop" is one ``autograd.grad`` per loss with the graph kept, over the parameters that the loss reaches, and
"rows" the engine: both only make rows. Methods make rows, weights and gradients. "TorchJD" is its
``mtl_backward`` down to what the heads read, then ``jac_to_grad`` with the aggregator; its shared parameters
are all but the heads. "DR-MGF" are steps of its phases, with their optimisers. Data are random: no step
depends on their values.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from _clock import Clock
from _memory import AT_ONCE, resident_peak
from _result import result_file, write_result
from torch import Tensor, nn

import offramp.nets
from offramp import Recipe
from offramp.data import Batch
from offramp.distributed.launch import launch
from offramp.methods import method
from offramp.methods.bound import BoundMethod
from offramp.methods.combiners import Backward
from offramp.methods.combiners.jacobian import Jacobian
from offramp.methods.loops import LoopContext, Progress
from offramp.methods.objectives import Step
from offramp.training._optimizer import build_optimizer
from offramp.training._placement import model_of, place

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "mgda": ("mgda", {}),
    "pcgrad": ("pcgrad", {}),
    "cagrad": ("cagrad", {}),
    "nash-mtl": ("nash-mtl", {}),
    "nash-mtl, lean": ("nash-mtl", {"shared": "union", "lean": True}),
    "nash-mtl, every 8": ("nash-mtl", {"shared": "union", "every": 8}),
}
AGGREGATORS = {"mgda": "MGDA", "pcgrad": "PCGrad"}  # of TorchJD; its CAGrad and NashMTL need other solvers
PAIRS = [("rows", "loop"), *((f"TorchJD {name}", name) for name in AGGREGATORS)]
PHASES = {  # name: (method, phase of its epoch, which epoch of two)
    "joint and Adam": ("joint", 0, 0),
    "DR-MGF, stage with routes": ("dr-mgf-nyu", 0, 0),
    "DR-MGF, stage": ("dr-mgf-nyu", 0, 1),
    "DR-MGF, fusion": ("dr-mgf-nyu", -1, 0),
}
Run = Callable[[], object]


def build(args: argparse.Namespace) -> nn.Module:
    torch.manual_seed(0)
    net = offramp.nets.create("segnet_mtan", width=args.width).to(args.device).train()
    owned = net.owners()
    net.owners = lambda: owned
    return net


def data(args: argparse.Namespace) -> Batch:
    draws = torch.Generator().manual_seed(1)
    size = (args.batch, *args.size)
    targets = {
        "segmentation": torch.randint(-1, 13, size, generator=draws),
        "depth": torch.rand(size, generator=draws).unsqueeze(1),
        "normals": F.normalize(torch.randn(*size, 3, generator=draws).movedim(-1, 1), dim=1),
    }
    images = torch.rand(args.batch, 3, *args.size, generator=draws)
    return Batch(images, targets).to(args.device)


Maker = Callable[[], Run]


def variants(net: nn.Module, batch: Batch, args: argparse.Namespace) -> dict[str, tuple[Maker, int]]:
    """Name -> what makes its step, and how many steps make a whole period."""
    owned, parameters = net.owners(), dict(net.named_parameters())
    reached = [[p for n, p in parameters.items() if k in owned[n]] for k in range(len(net.outputs))]
    plain = BoundMethod(method("joint"), net)

    def forward(bound: BoundMethod = plain) -> tuple[list[Tensor], Step]:
        step = bound.step(batch, net, [*net.outputs.values()], reach={"trunk"})
        return bound.losses_of(step), step

    def joint() -> None:
        torch.stack(forward()[0]).sum().backward()

    def loop() -> None:
        losses, rows = forward()[0], []
        for k, (loss, mine) in enumerate(zip(losses, reached, strict=True)):
            rows.append(torch.autograd.grad(loss, mine, retain_graph=k < len(losses) - 1, allow_unused=True))

    def rows() -> Run:
        jacobian = Jacobian(net)

        def step() -> None:
            for block in jacobian.blocks(*forward(), Backward()):
                del block

        return step

    def combined(name: str) -> Run:
        bound = BoundMethod(method(*METHODS[name]), net)
        return lambda: bound.combine(*forward(bound), Backward())

    makers: dict[str, tuple[Maker, int]] = {"joint": (lambda: joint, 1), "loop": (lambda: loop, 1)}
    makers["rows"] = rows, 1
    for name, (_, options) in METHODS.items():
        makers[name] = partial(combined, name), options.get("every", 1)
    for name, aggregator in AGGREGATORS.items():
        for words, chunk in (("", None), (", one row at a time", 1)):
            makers[f"TorchJD {name}{words}"] = partial(torchjd, net, forward, aggregator, chunk), 1
    for name, (key, phase, epoch) in PHASES.items():
        makers[name] = partial(in_phase, net, batch, args, key, phase, epoch), 1
    return {name: made for name, made in makers.items() if not args.variants or name in args.variants}


def torchjd(net: nn.Module, forward: Callable, aggregator: str, chunk: int | None) -> Run:
    import torchjd.aggregation
    from torchjd.autojac import jac_to_grad, mtl_backward

    owned = net.owners()
    heads = [[p for p in head.parameters() if p.requires_grad] for head in net.heads]
    of_heads = {p for head in heads for p in head}
    shared = [p for n, p in net.named_parameters() if owned[n] and p not in of_heads]

    def step() -> None:
        features: list[Tensor] = []
        hooks = [head.register_forward_pre_hook(lambda _, x: features.append(x[0])) for head in net.heads]
        losses, _ = forward()
        for hook in hooks:
            hook.remove()
        mtl_backward(losses, features, tasks_params=heads, shared_params=shared, parallel_chunk_size=chunk)
        jac_to_grad(shared, getattr(torchjd.aggregation, aggregator)())

    return step


def in_phase(net: nn.Module, batch: Batch, args: argparse.Namespace, key: str, phase: int, epoch: int) -> Run:
    """Steps of a phase of a method's epoch (of two), which the first step enters through those before it."""
    row, now = method(key), Progress(epoch=epoch, fraction=epoch / 2, lr=1e-4)
    recipe = Recipe(epochs=2, optimizer="adam", lr=now.lr, weight_decay=0.0)
    fabric = launch("fp32", args.device)
    place(net, recipe, fabric)
    context = LoopContext(
        model=model_of(net, recipe, fabric, plain_backward=False),
        net=net,
        bound=BoundMethod(row, net),
        fabric=fabric,
        optimizer=lambda groups: fabric.setup_optimizers(build_optimizer(groups, recipe)),
        batches=lambda number, count: iter([batch] * count),
        tasks=[*net.outputs.values()],
        epochs=recipe.epochs,
    )
    loop: Any = row.loop.bind(context)
    last = phase % len(loop.phases)
    entered: list[int] = []

    def step() -> None:
        for before in range(0 if entered else last):
            loop.begin(before, now)
            loop.step(before, batch, now)
            loop.end(before, now)
        if not entered:
            loop.begin(last, now)
            entered.append(last)
        loop.step(last, batch, now)

    return step


def times(args: argparse.Namespace) -> dict[str, Any]:
    net = build(args)
    steps = {name: (make(), count) for name, (make, count) in variants(net, data(args), args).items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    clock, order = Clock(args.device), list(steps)

    def period(name: str) -> None:
        run, count = steps[name]
        for _ in range(count):
            net.zero_grad(set_to_none=True)
            run()

    for round in range(-1, args.rounds):  # the first one warms up
        for name in order if round % 2 else order[::-1]:
            taken = clock.seconds(lambda name=name: period(name)) / steps[name][1]
            if round >= 0:
                seconds[name].append(taken)
    found: dict[str, Any] = {}
    for name, taken in seconds.items():
        ratio, quartiles = over(taken, seconds["joint"])
        found[name] = {"joint_steps": ratio, "quartiles": quartiles, "seconds": taken}
        print(f"{name:36} {ratio:6.2f} joint steps", flush=True)
    for name, base in PAIRS:
        if name in seconds and base in seconds:
            ratio, quartiles = over(seconds[name], seconds[base])
            found[name] |= {f"over {base}": ratio, f"over {base}, quartiles": quartiles}
            print(f"{name} / {base}: {ratio:.3f}", flush=True)
    return found


def over(taken: list[float], base: list[float]) -> tuple[float, list[float]]:
    """Median and quartiles of a ratio, round by round."""
    ratios = [a / b for a, b in zip(taken, base, strict=True)]
    quarters = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return statistics.median(ratios), quarters[::2]


def memory(args: argparse.Namespace) -> dict[str, Any]:
    net = build(args)
    gradient = sum(p.numel() for p in net.parameters()) * 4 / 2**20
    found: dict[str, Any] = {"one gradient": [gradient]}
    print(f"{'one gradient':36} {gradient:8.1f} MiB")
    clock = Clock(args.device)
    for name, (make, _) in variants(net, data(args), args).items():
        if clock.cuda:
            run = make()
            run()
            net.zero_grad(set_to_none=True)
            found[name] = [clock.peak(run)]
        else:
            found[name] = [peak_elsewhere(name, args) for _ in range(args.repeats)]
        print(f"{name:36} {statistics.median(found[name]):8.1f} MiB", flush=True)
    return found


def peak_elsewhere(name: str, args: argparse.Namespace) -> float:
    """The peak of a variant's step in a process of its own."""
    words = [f"--width={args.width}", f"--batch={args.batch}", f"--threads={args.threads}"]
    command = [sys.executable, __file__, "--peak", name, *words, "--size", *map(str, args.size)]
    out = subprocess.run(
        command, env={**os.environ, **AT_ONCE}, check=True, text=True, stdout=subprocess.PIPE
    )
    return float(out.stdout.splitlines()[-1])


def peak(args: argparse.Namespace) -> float:
    net = build(args)
    args.variants = [args.peak]
    small = argparse.Namespace(**{**vars(args), "batch": 2, "size": [32, 32]})
    ((make, _),) = variants(net, data(small), small).values()
    make()()  # loads what torch loads late
    net.zero_grad(set_to_none=True)
    ((make, _),) = variants(net, data(args), args).values()
    return resident_peak(make())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--size", type=int, nargs=2, default=[96, 128], help="height and width of the images")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--repeats", type=int, default=3, help="processes for each figure of memory")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--variants", nargs="+", help="only these, joint among them")
    parser.add_argument("--only", nargs="+", choices=("times", "memory"), default=["times", "memory"])
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=result_file)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.peak:
        print(peak(args))
        return
    found: dict[str, Any] = {}
    for name in args.only:
        found[name] = {"times": times, "memory": memory}[name](args)
        write_result(args.out, args, **found)


if __name__ == "__main__":
    main()
