"""What each exit costs: parameters and operations, counted the way the papers count them.

One sample goes through the net, stage by stage and head by head. Torch's ``FlopCounterMode`` sees the
products wherever they are written; hooks on the layers add what a convention counts besides. Afterwards
the net is as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from offramp.errors import UserError
from offramp.modes import evaluating
from offramp.nets.conventions import CONVENTIONS, Convention
from offramp.nets.sample import make_sample
from offramp.nets.separate import Net, Separate

__all__ = ["Cost", "ExitCost", "cost"]

# Their matrices are looked up or multiply elementwise: no product is to be expected.
_NO_PRODUCT = (
    nn.Embedding,
    nn.EmbeddingBag,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.modules.batchnorm._NormBase,
)


@dataclass(frozen=True)
class ExitCost:
    """What it takes to answer at one exit.

    Attributes:
        params: Number of parameters.
        flops: Operations for one sample. As in the papers, a multiply-accumulate is one operation.
    """

    params: int
    flops: int


@dataclass(frozen=True)
class Cost:
    """What a net costs, in raw counts.

    Attributes:
        convention: How it was counted, a key of :data:`~offramp.nets.conventions.CONVENTIONS`.
        params: Number of parameters of the whole net.
        exits: One entry per exit, shallow to deep.
    """

    convention: str
    params: int
    exits: tuple[ExitCost, ...]


def cost(net: Net, input_size: tuple[int, ...] | None = None, convention: str | None = None) -> Cost:
    """Parameters and operations of every exit, for one sample.

    Args:
        net: Any multi-exit net, with or without forks installed; of separate networks each is counted for
            itself.
        input_size: Shape of one sample without the batch axis; by default that of ``net.sample(1)``.
        convention: How to count; by default ``net.convention``, which published figures of the net follow.
            ``thop``: products + 4 per batch-norm element + 1 per average-pool output + 11 per bilinear
            output, own head only. ``op-counter``: products + biases of linear layers + ReLU elements +
            pooling windows, all heads up to the exit. ``macs``: products, all heads up to the exit.
            ``macs-own``: products, own head only.

    Raises:
        UserError: Unknown convention, an input that the net cannot take, or a layer whose products
            cannot be seen.
    """
    name = convention or net.convention
    if name not in CONVENTIONS:
        raise UserError(f"no counting convention {name!r}; there are: {', '.join(CONVENTIONS)}")
    rule = CONVENTIONS[name]
    sample = make_sample(net, 1, tuple(input_size)) if input_size else net.sample(1)
    if isinstance(net, Separate):
        alone = (_dry_run([one], [], [nn.Identity()], sample, rule)[0][0] for one in net.nets)
        return Cost(
            name,
            _params(net),
            tuple(ExitCost(_params(one), flops) for one, flops in zip(net.nets, alone, strict=True)),
        )
    stage_flops, head_flops = _dry_run([*net.stages], [*net.forks], [*net.heads], sample, rule)
    exits = []
    for k in range(net.num_exits):
        heads = slice(0 if rule.all_heads else k, k + 1)
        parts = [*net.stages[: k + 1], *net.forks[: k + 1], *net.heads[heads]]
        exits.append(ExitCost(_params(*parts), sum(stage_flops[: k + 1]) + sum(head_flops[heads])))
    return Cost(name, _params(net), tuple(exits))


def _params(*modules: nn.Module) -> int:
    return sum(p.numel() for p in nn.ModuleList(modules).parameters())  # a shared one counts once


def _dry_run(
    stages: Sequence[nn.Module],
    forks: Sequence[nn.Module],
    heads: Sequence[nn.Module],
    sample: Any,
    rule: Convention,
) -> tuple[list[int], list[int]]:
    """Operations of each stage (with the fork behind it) and of each head."""
    parts = {"stages": stages, "forks": forks, "heads": heads}
    net = nn.ModuleDict({name: nn.ModuleList(modules) for name, modules in parts.items()})
    stage_flops, head_flops = [], []
    with evaluating(net), torch.no_grad(), _meter(net, rule) as read:
        try:
            x = sample
            for k, (stage, head) in enumerate(zip(stages, heads, strict=True)):
                x = stage(x)
                to_head, x = forks[k](x) if k < len(forks) else (x, None)
                stage_flops.append(read())
                head(to_head)
                head_flops.append(read())
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            size = f" of size {tuple(sample.shape[1:])}" if isinstance(sample, Tensor) else ""
            raise UserError(f"the net cannot take one sample{size}: {reason}") from error
    return stage_flops, head_flops


@contextmanager
def _meter(net: nn.Module, rule: Convention) -> Iterator[Callable[[], int]]:
    """Yields a function that returns the operations since it was last called."""
    counter = FlopCounterMode(display=False)
    before: dict[nn.Module, int] = {}
    extra = last = 0

    def enter(module: nn.Module, args: tuple) -> None:
        before[module] = counter.get_total_flops()

    def leave(module: nn.Module, args: tuple, out: Any) -> None:
        nonlocal extra
        if _has_matrix(module) and counter.get_total_flops() == before[module]:
            name = next(name for name, m in net.named_modules() if m is module)
            raise UserError(
                f"cannot count {name} ({type(module).__name__}): its weights take part in no product that "
                "torch's FlopCounterMode knows; build it from standard layers, or give its operator a "
                "formula with torch.utils.flop_counter.register_flop_formula"
            )
        for kind, operations in rule.extra.items():
            if isinstance(module, kind):
                extra += operations(module, _tensor(args), _tensor(out))

    def read() -> int:
        nonlocal last
        before_last, last = last, counter.get_total_flops() // 2 + extra
        return last - before_last

    with ExitStack() as stack:
        for module in net.modules():
            for handle in (module.register_forward_pre_hook(enter), module.register_forward_hook(leave)):
                stack.callback(handle.remove)
        # Fused attention is one operator, often without a formula; taken apart, its products have one each.
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(counter)
        yield read


def _has_matrix(module: nn.Module) -> bool:
    """Whether a module holds, itself, a weight that looks like a matrix and should multiply."""
    own = module.parameters(recurse=False)
    return not isinstance(module, _NO_PRODUCT) and any(p.numel() > max(p.shape, default=1) for p in own)


def _tensor(value: Any) -> Tensor:
    """The first Tensor in nested tuples."""
    return value if isinstance(value, Tensor) else _tensor(value[0])
