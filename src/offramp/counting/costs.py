"""What each exit costs: parameters and operations, counted the way the papers count them.

One sample goes through the net, stage by stage and head by head. Torch's ``FlopCounterMode`` sees the
products wherever they are written; hooks on the layers add what a convention counts besides. What may hold
products that nobody sees is unknown, and so is the cost of every exit that needs it. Afterwards the net is
as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from offramp.counting._meter import Meter
from offramp.counting._one_piece import one_piece, unknown_piece
from offramp.counting.conventions import CONVENTIONS, Convention
from offramp.errors import UserError
from offramp.nets.exits import Part, exits
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.net import Net
from offramp.nets.sample import make_sample, sample_of
from offramp.nets.separate import Separate
from offramp.unchanged import unchanged

__all__ = ["Cost", "ExitCost", "cost"]


@dataclass(frozen=True)
class ExitCost:
    """Parameters and operations that one exit needs.

    Attributes:
        params: Number of parameters.
        flops: Operations for one sample, or None where they are unknown. As in the papers, a
            multiply-accumulate is one operation.
    """

    params: int
    flops: int | None


@dataclass(frozen=True)
class Cost:
    """Parameters and operations of a net, in raw counts.

    Attributes:
        convention: How it was counted, a key of :data:`~offramp.counting.conventions.CONVENTIONS`.
        params: Number of parameters of the whole net.
        exits: One entry per exit, shallow to deep.
        unknown: Which parts of the net have operations that cannot be counted, and why.
        stages: Operations of each stage, None where unknown; empty for a net without stages.
        heads: Operations of each head, None where unknown.
        flops: Operations of a whole forward pass for one sample, or None where unknown.
    """

    convention: str
    params: int
    exits: tuple[ExitCost, ...]
    unknown: tuple[str, ...] = ()
    stages: tuple[int | None, ...] = ()
    heads: tuple[int | None, ...] = ()
    flops: int | None = None


def cost(net: Net, input_size: tuple[int, ...] | None = None, convention: str | None = None) -> Cost:
    """Parameters and operations of every output, for one sample.

    Args:
        net: Any net. Of separate networks each is counted for itself. Of a net without stages the forward
            pass is followed, operator by operator, and an output has the cost of what it alone needs,
            whatever the convention says of heads; so what outputs share counts for each of them.
            Products count whole, with all that they read; an output that reads a part of what another
            operator blends (of a norm over stacked tensors, for one) is unknown.
        input_size: Shape of one sample without the batch axis; by default that of ``net.sample(1)``.
        convention: How to count; by default ``net.convention``, which published figures of the net follow.
            ``thop``: products + 4 per batch-norm element + 1 per average-pool output + 11 per bilinear
            output, own head only. ``op-counter``: products + biases of linear layers + ReLU elements +
            pooling windows, all heads up to the exit. ``macs``: products, all heads up to the exit.
            ``macs-own``: products, own head only.

    Raises:
        UserError: Unknown convention, or an input that the net cannot take.
    """
    name = convention or getattr(net, "convention", "macs")
    if name not in CONVENTIONS:
        raise UserError(f"no counting convention {name!r}; there are: {', '.join(CONVENTIONS)}")
    rule = CONVENTIONS[name]
    if not isinstance(net, (MultiExitNet, Separate)):
        return _of_one_piece(net, input_size, name)
    sample = make_sample(net, 1, tuple(input_size)) if input_size else net.sample(1)
    if isinstance(net, Separate):
        runs = [
            _dry_run([each], [], [nn.Identity()], sample, rule, f"nets.{k}")
            for k, each in enumerate(net.nets)
        ]
        return Cost(
            name,
            _params(net),
            tuple(ExitCost(_params(each), run.stages[0]) for each, run in zip(net.nets, runs, strict=True)),
            tuple(reason for run in runs for reason in run.unknown),
            flops=_sum([run.stages[0] for run in runs]),
        )
    stages, forks, heads = [*net.stages], [*net.forks], [*net.heads]
    run = _dry_run(stages, forks, heads, sample, rule)
    costs = []
    for k in range(net.num_exits):
        counted_heads = slice(0 if rule.all_heads else k, k + 1)
        parts = [*stages[: k + 1], *forks[: k + 1], *heads[counted_heads]]
        costs.append(ExitCost(_params(*parts), _sum([*run.stages[: k + 1], *run.heads[counted_heads]])))
    return Cost(
        name,
        _params(net),
        tuple(costs),
        tuple(run.unknown),
        tuple(run.stages),
        tuple(run.heads),
        _sum([*run.stages, *run.heads]),
    )


def _of_one_piece(net: Net, input_size: tuple[int, ...] | None, convention: str) -> Cost:
    """The cost of a net without stages; operations are unknown where it does not run on its own sample."""
    try:
        sample = make_sample(net, 1, tuple(input_size)) if input_size else sample_of(net, 1)
        with _taking(sample):
            found = one_piece(net, sample, CONVENTIONS[convention])
    except UserError as error:
        if input_size:
            raise
        found = unknown_piece(net, str(error))
    outputs = map(ExitCost, found.params, found.flops)
    return Cost(convention, _params(net), tuple(outputs), tuple(found.unknown), flops=found.whole)


@contextmanager
def _taking(sample: Any) -> Iterator[None]:
    """Turn a net's error over one sample into a line.

    Raises:
        UserError: In place of a RuntimeError.
    """
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        size = f" of size {tuple(sample.shape[1:])}" if isinstance(sample, Tensor) else ""
        raise UserError(f"the net cannot take one sample{size}: {reason}") from error


def _params(*modules: nn.Module) -> int:
    return sum(p.numel() for p in {p for module in modules for p in module.parameters()})


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


class _Run(NamedTuple):
    stages: list[int | None]  # operations of each stage, with the fork behind it
    heads: list[int | None]
    unknown: list[str]


def _dry_run(
    stages: Sequence[nn.Module],
    forks: Sequence[nn.Module],
    heads: Sequence[nn.Module],
    sample: Any,
    rule: Convention,
    root: str = "",
) -> _Run:
    """Count the operations of every part on one sample; ``root`` begins the names of what is unknown."""
    parts = {"stages": stages, "forks": forks, "heads": heads}
    with unchanged(*stages, *forks, *heads), torch.no_grad():
        net = nn.ModuleDict({name: nn.ModuleList(modules) for name, modules in parts.items()}).eval()
        names = {m: name.replace("stages.0", root, 1) if root else name for name, m in net.named_modules()}
        meter = Meter(rule, names)
        run = _Run([], [], meter.unknown)
        counts: list[int | None] = []  # since the exit before

        def counted(part: Part, module: nn.Module, *inputs: Any) -> Any:
            output = module(*inputs)
            counts.append(meter.read(module))
            return output

        with meter.at_work(), _taking(sample):
            for _ in exits(stages, forks, heads, sample, counted):
                *stage, head = counts
                run.stages.append(_sum(stage))
                run.heads.append(head)
                counts.clear()
    return run
