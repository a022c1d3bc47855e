"""What each exit costs: parameters and operations, counted the way the papers count them.

One sample goes through the net, stage by stage and head by head. Torch's ``FlopCounterMode`` sees the
products wherever they are written; hooks on the layers add what a convention counts besides. What may hold
products that nobody sees is unknown, and so is the cost of every exit that needs it. Afterwards the net is
as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from offramp.checks import word_of
from offramp.counting._dry_run import dry_run, taking, total, walked
from offramp.counting._one_piece import one_piece, unknown_piece
from offramp.counting.conventions import CONVENTIONS
from offramp.errors import UserError
from offramp.nets.exits import first_of_chain
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.multi_task import MultiTaskNet
from offramp.nets.net import Net, check_net
from offramp.nets.sample import checked_size, make_sample, sample_of
from offramp.nets.separate import Separate

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
        net: Any net. Of separate networks each is counted for itself. Whatever the convention says of heads,
            an output of a net of several tasks has the cost of the stages up to its decoder and of that
            decoder. Of a net without stages the forward pass is followed, operator by operator, and an output
            has the cost of what it alone needs. So what outputs share counts for each of them.
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
    check_net(net, "net")
    size = None if input_size is None else checked_size(input_size)
    given = getattr(net, "convention", "macs") if convention is None else convention
    name = word_of("convention", given, CONVENTIONS, "counting convention")
    rule = CONVENTIONS[name]
    if not isinstance(net, (MultiExitNet, MultiTaskNet, Separate)):
        return _of_one_piece(net, size, name)
    sample = make_sample(net, 1, size) if size else net.sample(1)
    if isinstance(net, MultiTaskNet):
        return _of_tasks(net, sample, name)
    if isinstance(net, Separate):
        runs = [
            dry_run([each], [], [nn.Identity()], sample, rule, f"nets.{k}") for k, each in enumerate(net.nets)
        ]
        return Cost(
            name,
            _params(net),
            tuple(ExitCost(_params(each), run.stages[0]) for each, run in zip(net.nets, runs, strict=True)),
            tuple(reason for run in runs for reason in run.unknown),
            flops=total([run.stages[0] for run in runs]),
        )
    stages, forks, heads = [*net.stages], [*net.forks], [*net.heads]
    run = dry_run(stages, forks, heads, sample, rule)
    costs = []
    for k in range(net.num_exits):
        counted_heads = slice(0 if rule.all_heads else first_of_chain(heads, k), k + 1)
        parts = [*stages[: k + 1], *forks[: k + 1], *heads[counted_heads]]
        costs.append(ExitCost(_params(*parts), total([*run.stages[: k + 1], *run.heads[counted_heads]])))
    return Cost(
        name,
        _params(net),
        tuple(costs),
        tuple(run.unknown),
        tuple(run.stages),
        tuple(run.heads),
        total([*run.stages, *run.heads]),
    )


def _of_tasks(net: MultiTaskNet, sample: Any, convention: str) -> Cost:
    """The cost of a net of several tasks: an output needs the stages up to its decoder, and that decoder."""
    run = walked(net, sample, CONVENTIONS[convention])
    outputs = []
    for k, decoder in enumerate(net.decoders):
        above = k // net.num_tasks + 1
        params = _params(*net.stages[:above], *net.forks[:above], decoder)
        outputs.append(ExitCost(params, total([*run.stages[:above], run.heads[k]])))
    parts = tuple(run.stages), tuple(run.heads)
    return Cost(
        convention, _params(net), tuple(outputs), tuple(run.unknown), *parts, total([*run.stages, *run.heads])
    )


def _of_one_piece(net: Net, input_size: tuple[int, ...] | None, convention: str) -> Cost:
    """The cost of a net without stages; operations are unknown where it does not run on its own sample."""
    try:
        sample = make_sample(net, 1, tuple(input_size)) if input_size else sample_of(net, 1)
        with taking(sample):
            found = one_piece(net, sample, CONVENTIONS[convention])
    except UserError as error:
        if input_size:
            raise
        found = unknown_piece(net, str(error))
    outputs = map(ExitCost, found.params, found.flops)
    return Cost(convention, _params(net), tuple(outputs), tuple(found.unknown), flops=found.whole)


def _params(*modules: nn.Module) -> int:
    return sum(p.numel() for p in {p for module in modules for p in module.parameters()})
