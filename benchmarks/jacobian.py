"""What gradient rows cost: the engine, a plain loop of ``autograd.grad``, TorchJD; time, memory and error.

Everything in joint steps (forward and backward of the summed losses, no optimiser). Times: all variants
take turns in one process, medians over the rounds of the ratio to joint. Memory: a fresh process for each
figure, the peak of its resident memory during one step less what it held before; on a GPU, where the
allocator itself knows, in one process. Error: how far the gradient on the shared parameters is from that of
exact weights, over some steps of training.

    python benchmarks/jacobian.py --out benchmarks/jacobian.json
    python benchmarks/jacobian.py --nets vgg7 --rounds 1 --batch 4 --width 4 --steps 2      # does it run
    python benchmarks/jacobian.py --only times memory --device cuda --batch 256 --dtype bfloat16

"loop" is one ``autograd.grad`` per loss with the graph kept, over the parameters that the loss reaches;
"rows" is the engine. Both only make rows; "+ weights" adds the Gramians and the weighted sum of the rows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from _clock import DTYPES, Clock, precision
from _memory import AT_ONCE, resident_peak
from _result import result_file, write_result
from torch import Tensor, nn

import offramp.nets
from offramp.data import Batch, ImageData, open_data, pipeline
from offramp.methods.combiners import Backward
from offramp.methods.combiners.cagrad import cagrad_weights
from offramp.methods.combiners.jacobian import Jacobian, RefreshedWeights
from offramp.methods.combiners.mgda import mgda_weights
from offramp.methods.combiners.upgrad import upgrad_weights
from offramp.methods.objectives import Step

NETS = ("msdnet_cifar", "vgg7", "resnet18")
CLASSES = 100
PLAIN = Backward()
REFRESHED = {  # name: (shared, every, part)
    "union, every 4": ("union", 4, 1.0),
    "union, every 8": ("union", 8, 1.0),
    "union, a quarter of the batch": ("union", 1, 0.25),
    "union, every 2, a quarter": ("union", 2, 0.25),
    "union, every 4, a quarter": ("union", 4, 0.25),
    "first, every 8": ("first", 8, 1.0),
}
METHODS = {
    "mgda": mgda_weights,
    "cagrad": lambda gramian: cagrad_weights(gramian, 0.4),
    "upgrad": upgrad_weights,
}


def build(name: str, args: argparse.Namespace, classes: int = CLASSES) -> nn.Module:
    torch.manual_seed(0)
    key = "growth" if name.startswith("msdnet") else "width"
    size = {key: args.width} if args.width else {}
    return offramp.nets.create(name, num_classes=classes, **size).to(args.device).train()


def losses_of(outputs: list[Tensor], targets: Tensor) -> list[Tensor]:
    return [F.cross_entropy(z.float(), targets) for z in outputs]


def forward(net: nn.Module, images: Tensor, targets: Tensor) -> tuple[list[Tensor], Step]:
    passage = net(images, keep=True)

    def part(share: float) -> tuple[list[Tensor], Step]:
        count = max(2, round(share * len(images)))
        with still(net):
            return forward(net, images[:count], targets[:count])

    return losses_of(passage.outputs, targets), Step(
        net, passage.outputs, [*net.outputs.values()], {"label": targets}, trunk=passage.trunk, part=part
    )


class still:
    """Batch norm leaves its running statistics alone."""

    def __init__(self, net: nn.Module) -> None:
        self.norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    def __enter__(self) -> None:
        for norm in self.norms:
            norm.track_running_stats = False

    def __exit__(self, *_: object) -> None:
        for norm in self.norms:
            norm.track_running_stats = True


def ones(block: object) -> Tensor:
    return torch.ones(len(block.owners), dtype=torch.float64)


def variants(net: nn.Module, names: list[str] | None = None) -> dict[str, tuple[Callable, int]]:
    """Name -> (one step from images and targets, how many steps make a whole period)."""
    owned = net.owners()
    parameters = dict(net.named_parameters())
    reached = [[p for n, p in parameters.items() if k in owned[n]] for k in range(net.num_exits)]
    shared = [p for n, p in parameters.items() if len(owned[n]) > 1]
    net.owners = lambda: owned

    def joint(images: Tensor, targets: Tensor) -> None:
        torch.stack(losses_of(net(images), targets)).sum().backward()

    def kept(images: Tensor, targets: Tensor) -> None:
        """What a second backward pass is the price of: the graph and one gradient at a time."""
        torch.stack(losses_of(net(images), targets)).sum().backward(retain_graph=True)

    def loop(images: Tensor, targets: Tensor) -> None:
        losses = losses_of(net(images), targets)
        rows = []
        for k, (loss, mine) in enumerate(zip(losses, reached, strict=True)):
            rows.append(torch.autograd.grad(loss, mine, retain_graph=k < len(losses) - 1, allow_unused=True))

    def torchjd(chunk: int | None) -> Callable:
        from torchjd.autojac import backward

        def step(images: Tensor, targets: Tensor) -> None:
            backward(losses_of(net(images), targets), inputs=shared, parallel_chunk_size=chunk)
            for p in shared:
                del p.jac

        return step

    def rows(scope: str) -> Callable:
        jacobian = Jacobian(net, scope)

        def step(images: Tensor, targets: Tensor) -> None:
            losses, found = forward(net, images, targets)
            for block in jacobian.blocks(losses, found, PLAIN):
                del block

        return step

    def combined(scope: str, *, lean: bool = False) -> Callable:
        jacobian = Jacobian(net, scope, lean=lean)

        def step(images: Tensor, targets: Tensor) -> None:
            losses, found = forward(net, images, targets)
            for block in jacobian.blocks(losses, found, PLAIN):
                block.gramian()
                block.combine(ones(block))
                del block

        return step

    def refreshed(scope: str, every: int, part: float) -> Callable:
        combiner = RefreshedWeights(Jacobian(net, scope), every=every, part=part)

        def step(images: Tensor, targets: Tensor) -> None:
            losses, found = forward(net, images, targets)
            combiner(losses, found, PLAIN, ones)

        return step

    makers: dict[str, tuple[Callable[[], Callable], int]] = {
        "joint": (lambda: joint, 1),
        "joint, graph kept": (lambda: kept, 1),
        "loop": (lambda: loop, 1),
        "rows": (lambda: rows("per_stage"), 1),
        "rows, union": (lambda: rows("union"), 1),
        "rows + weights": (lambda: combined("per_stage"), 1),
        "rows + weights, union": (lambda: combined("union"), 1),
        "rows + weights, first": (lambda: combined("first"), 1),
        "lean, union": (lambda: combined("union", lean=True), 1),
        "lean, first": (lambda: combined("first", lean=True), 1),
        "TorchJD": (lambda: torchjd(None), 1),
        "TorchJD, one row at a time": (lambda: torchjd(1), 1),
    }
    for name, (scope, every, part) in REFRESHED.items():
        makers[name] = (lambda a=(scope, every, part): refreshed(*a), every)
    return {
        name: (make(), period) for name, (make, period) in makers.items() if names is None or name in names
    }


def data(batch: int, device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(batch, 3, 32, 32, generator=generator)
    return images.to(device), torch.randint(CLASSES, (batch,), generator=generator).to(device)


def period_of(
    net: nn.Module, variant: tuple[Callable, int], images: Tensor, targets: Tensor, args: argparse.Namespace
) -> Callable[[], None]:
    """A whole period of a variant's steps."""
    step, period = variant

    def run() -> None:
        with precision(args.dtype, args.device):
            for _ in range(period):
                net.zero_grad(set_to_none=True)
                step(images, targets)

    return run


def autocasting(net: nn.Module, args: argparse.Namespace) -> None:
    """Let the net's forward pass, and nothing else, run under the wanted autocast."""
    plain = net.forward

    def forward(*inputs: Tensor, **options: object) -> object:
        with precision(args.dtype, args.device) as autocast, autocast:
            return plain(*inputs, **options)

    net.forward = forward


def times(name: str, args: argparse.Namespace) -> dict[str, dict[str, object]]:
    net = build(name, args)
    steps = variants(net, args.variants)
    autocasting(net, args)
    images, targets = data(args.batch, args.device)
    seconds: dict[str, list[float]] = {v: [] for v in steps}
    order, clock = list(steps), Clock(args.device)
    for round in range(-1, args.rounds):  # the first one warms up
        for v in order if round % 2 else order[::-1]:
            taken = clock.seconds(period_of(net, steps[v], images, targets, args))
            if round >= 0:
                seconds[v].append(taken / steps[v][1])
    found = {}
    for v, taken in seconds.items():
        ratios = [t / j for t, j in zip(taken, seconds["joint"], strict=True)]
        quarter = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        found[v] = {
            "joint_steps": statistics.median(ratios),
            "quartiles": [quarter[0], quarter[2]],
            "seconds": taken,
        }
        print(f"{name:13} {v:31} {found[v]['joint_steps']:6.2f} joint steps", flush=True)
    for v, base in (("rows", "loop"), ("lean, union", "rows"), ("lean, first", "rows")):
        if v in seconds and base in seconds:
            ratio = statistics.median(a / b for a, b in zip(seconds[v], seconds[base], strict=True))
            found[v][f"over_{base}"] = ratio
            print(f"{name:13} {v} / {base} {ratio:.3f}", flush=True)
    return found


def peak(name: str, variant: str, args: argparse.Namespace) -> float:
    """MiB that one step adds to this process's resident memory at its height."""
    net = build(name, args)
    owned = {n: frozenset(outputs) for n, outputs in json.loads(sys.stdin.read()).items()}
    net.owners = lambda: owned
    ((step, _),) = variants(net, [variant]).values()
    step(*data(2, "cpu"))  # loads what torch loads late
    net.zero_grad(set_to_none=True)
    images, targets = data(args.batch, "cpu")
    return resident_peak(lambda: step(images, targets))


def peaks(name: str, args: argparse.Namespace) -> dict[str, list[float]]:
    net = build(name, args)
    gradient = sum(p.numel() for p in net.parameters()) * 4 / 2**20
    print(f"{name:13} one gradient {gradient:.1f} MiB")
    found: dict[str, list[float]] = {"one gradient": [gradient]}
    wanted = args.variants or [v for v in variants(net) if v not in REFRESHED]
    if Clock(args.device).cuda:
        return found | peaks_on_gpu(net, name, wanted, args)
    owned = json.dumps({n: sorted(outputs) for n, outputs in net.owners().items()})
    environment = {**os.environ, **AT_ONCE}
    pipes = {"input": owned, "text": True, "stdout": subprocess.PIPE}
    for variant in wanted:
        command = [sys.executable, __file__, "--peak", name, variant, "--batch", str(args.batch)]
        command += ["--threads", str(args.threads)] + (["--width", str(args.width)] if args.width else [])
        found[variant] = [
            float(subprocess.run(command, env=environment, check=True, **pipes).stdout)
            for _ in range(args.repeats)
        ]
        print(f"{name:13} {variant:31} {statistics.median(found[variant]):8.1f} MiB", flush=True)
    return found


def peaks_on_gpu(
    net: nn.Module, name: str, wanted: list[str], args: argparse.Namespace
) -> dict[str, list[float]]:
    """MiB that each variant's second step adds at its height, as the GPU's allocator counts it."""
    steps, clock = variants(net, wanted), Clock(args.device)
    autocasting(net, args)
    images, targets = data(args.batch, args.device)
    found = {}
    for variant, (step, _) in steps.items():
        run = period_of(net, (step, 1), images, targets, args)
        run()
        net.zero_grad(set_to_none=True)
        found[variant] = [clock.peak(run)]
        print(f"{name:13} {variant:31} {found[variant][0]:8.1f} MiB", flush=True)
    return found


def errors(name: str, args: argparse.Namespace) -> dict[str, dict[str, dict[str, object]]]:
    """How far the approximate gradients are from the exact one, for some methods."""
    data = open_data(args.data, train_limit=args.batch * args.steps * 2)
    found: dict[str, dict[str, dict[str, object]]] = {}
    for method in METHODS:
        off = {**errors_of(name, method, "union", data, args), **errors_of(name, method, "first", data, args)}
        found[method] = {
            v: {"median": statistics.median(e), "largest": max(e), "all": e} for v, e in off.items()
        }
        for v, row in found[method].items():
            print(f"{name:13} {method:7} {v:31} error {row['median']:.3f}", flush=True)
    return found


def errors_of(
    name: str, method: str, scope: str, data: ImageData, args: argparse.Namespace
) -> dict[str, list[float]]:
    """|d - d*| / |d*| on the shared parameters, step by step of a training with exact weights."""
    net = build(name, args, data.num_classes)
    owned = net.owners()
    net.owners = lambda: owned
    shared = [p for n, p in net.named_parameters() if len(owned[n]) > 1]
    exact = RefreshedWeights(Jacobian(net, scope))
    engines = {
        variant: RefreshedWeights(Jacobian(net, scope), every=every, part=part)
        for variant, (of, every, part) in REFRESHED.items()
        if of == scope
    }
    off: dict[str, list[float]] = {variant: [] for variant in engines}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)

    def gradient(engine: RefreshedWeights, images: Tensor, targets: Tensor) -> Tensor:
        net.zero_grad(set_to_none=True)
        losses, step = forward(net, images, targets)
        engine(losses, step, PLAIN, lambda block: METHODS[method](block.gramian()))
        return torch.cat([p.grad.flatten() for p in shared])

    for batch in first_batches(data, args):
        images, targets = batch.inputs, batch.targets["label"]
        with still(net):
            close = {variant: gradient(engine, images, targets) for variant, engine in engines.items()}
        wanted = gradient(exact, images, targets)
        for variant, vector in close.items():
            off[variant].append(float((vector - wanted).norm() / wanted.norm()))
        optimizer.step()
    return off


def first_batches(data: ImageData, args: argparse.Namespace) -> Iterator[Batch]:
    """Shuffled batches, epoch after epoch."""
    transform, _ = pipeline("none", data)
    epochs = itertools.chain.from_iterable(
        data.train.batches(
            args.batch, transform=transform, device=args.device, epoch=epoch, shuffle=True, drop_last=True
        )
        for epoch in itertools.count()
    )
    return itertools.islice(epochs, args.steps)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", nargs="+", default=list(NETS))
    parser.add_argument("--variants", nargs="+", help="all by default; joint must be among them")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes for each figure of memory")
    parser.add_argument(
        "--steps", type=int, default=40, help="training steps along which errors are measured"
    )
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--width", type=int, help="width, or MSDNet's growth; by default the papers'")
    parser.add_argument("--data", default="digits", help="for the errors")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of times, and of a GPU's memory")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="+", default=["times", "memory", "errors"])
    parser.add_argument("--peak", nargs=2, metavar=("NET", "VARIANT"), help="one figure of memory, here")
    parser.add_argument("--out", type=result_file)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.peak:
        print(peak(*args.peak, args))
        return
    measures = {"times": times, "memory": peaks, "errors": errors}
    nets: dict[str, dict[str, object]] = {}
    for name in args.nets:
        nets[name] = {}
        for kind in args.only:
            nets[name][kind] = measures[kind](name, args)
            write_result(args.out, args, nets=nets)


if __name__ == "__main__":
    main()
