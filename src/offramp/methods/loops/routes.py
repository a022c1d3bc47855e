"""Which kernels a task needs: importance variables that gate a net's weights (DR-MGF, Eq 6 to 8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp.methods.loops.kernels import gated
from offramp.nets import Net

__all__ = ["CONVOLUTIONS", "INITS", "LATERAL", "SIGNS", "Routes", "normalised"]

TINY = 1e-10

LATERAL: dict[str, Callable[[Tensor], Tensor]] = {
    # the inputs of a filter compete as in the paper's Eq 7
    "paper": lambda nu: nu / (TINY + 0.1 * nu.sum(1, keepdim=True)).sqrt(),
    # as in the authors' code for NYUv2: within 0.1 % of no competition at the start
    "nyu": lambda nu: nu / (1 + 1e-4 * nu.sum(1, keepdim=True)) ** 0.75,
}
# how nu becomes positive, and what becomes a given positive value
SIGNS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "abs": (torch.abs, lambda value: value),
    "softplus": (F.softplus, lambda value: value + torch.log(-torch.expm1(-value))),
}
INITS = ("kaiming", "kaiming-apart", "norm")
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def normalised(importance: Tensor) -> Tensor:
    """Importance as the fusion takes it: the inputs of each filter sum to 1 (DR-MGF, Eq 10).

    Args:
        importance: Not negative, ``[..., m, n]``.
    """
    return importance / (importance.sum(-1, keepdim=True) + TINY)


class Routes(nn.Module):
    """Importance variables nu_k, one per kernel and task, and the weights that they gate.

    Routed are the weights of convolutions that two or more tasks own; of a 1x1 convolution only if asked for:
    a kernel of one element has no direction to learn, so that the sign of its nu takes that part.

    Args:
        net: The net, freshly initialised.
        owners: Of each parameter.
        lateral: How the inputs of a filter compete, a key of :data:`LATERAL`.
        mixed: Stage k sees a mixture of all owners' gates, 10 parts its own, and trains all of them. If not,
            it is gated by its own, and where it has none by the mean of the owners' at the epoch's beginning.
        init: One of :data:`INITS`: Kaiming's normal distribution, the same or another for each task; or the
            norms of the net's own kernels, with which routing starts as (nearly) the identity.
        sign: How nu is made positive, a key of :data:`SIGNS`.
        pointwise: Whether to route 1x1 convolutions.
        penalty: Factor of the squares of a task's nu in its stage's loss.
        decay: Weight decay of nu.
        seed: Of the initial values.
        quirks: Do as the authors' code does in two places that look like oversights: a module that is called
            several times in one pass is routed at its first call only; and a stage leaves every convolution
            of a single task with kernels of the norms that they had in the beginning.
    """

    def __init__(
        self,
        net: Net,
        owners: Mapping[str, tuple[int, ...]],
        *,
        lateral: str,
        mixed: bool,
        init: str,
        sign: str,
        pointwise: bool,
        penalty: float,
        decay: float,
        seed: int,
        quirks: bool = False,
    ) -> None:
        super().__init__()
        self.lateral, self.mixed = LATERAL[lateral], mixed
        self.positive, inverse = SIGNS[sign]
        self.owners: dict[str, tuple[int, ...]] = {}
        self.pointwise: set[str] = set()
        self.settled: dict[str, Tensor] = {}
        self.nu = nn.ParameterDict()
        self.penalty, self.decay, self.quirks = penalty, decay, quirks
        self.norms: dict[str, Tensor] = {}
        random = torch.Generator().manual_seed(seed)
        for path, module in net.named_modules():
            name = f"{path}.weight" if path else "weight"
            if not isinstance(module, CONVOLUTIONS):
                continue
            if len(owners.get(name, ())) == 1 and quirks:
                self.norms[name] = _start(module.weight, "norm", random)
            point = module.weight[0, 0].numel() == 1
            if len(owners.get(name, ())) < 2 or (point and not pointwise):
                continue
            self.owners[name] = owners[name]
            if point:
                self.pointwise.add(name)
            start = _start(module.weight, init, random)
            for task in owners[name]:
                if init == "kaiming-apart":
                    start = _start(module.weight, init, random)
                self.nu[_key(name, task)] = nn.Parameter(inverse(start).clone())

    def trained(self, task: int) -> list[nn.Parameter]:
        """The variables that a task's stage trains: its own, or all of them if gates are mixed."""
        return list(self.parameters()) if self.mixed else self.own(task)

    def own(self, task: int) -> list[nn.Parameter]:
        """nu of one task."""
        return [self.nu[_key(name, task)] for name, owners in self.owners.items() if task in owners]

    def gate(self, name: str, task: int) -> Tensor:
        """The gates of one weight in one task's stage, ``[m, n]``."""
        owners = self.owners[name]
        if self.mixed:
            parts = [(10.0 if k == task else 1.0) * self._lateral(name, k) for k in owners]
            return torch.stack(parts).sum(0) / (len(owners) + 9 * (task in owners))
        return self._lateral(name, task) if task in owners else self.settled[name]

    def settle(self) -> None:
        """Note the owners' mean gates for the tasks that own nothing of a weight, whatever their order."""
        with torch.no_grad():
            for name, owners in self.owners.items():
                self.settled[name] = torch.stack([self._lateral(name, k) for k in owners]).mean(0)

    def weights(self, tensors: Mapping[str, Tensor], task: int) -> dict[str, Tensor]:
        """The gated weights of one task's stage, by name, of a net's parameters."""
        return {name: gated(tensors[name], self.gate(name, task)) for name in self.owners}

    def importance(self, name: str) -> Tensor:
        """How much the owners need each kernel of a weight, ``[owners, m, n]``, not negative."""
        return torch.stack([self.positive(self.nu[_key(name, k)]) for k in self.owners[name]])

    def get_extra_state(self) -> dict[str, dict[str, Tensor]]:  # noqa: D102
        return {"settled": self.settled, "norms": self.norms}

    def set_extra_state(self, state: dict[str, dict[str, Tensor]]) -> None:  # noqa: D102
        self.settled, self.norms = state["settled"], state["norms"]

    @contextmanager
    def first_calls(self, net: Net, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """With the quirks, a routed module reads its raw weight from its second call on."""
        handles = []
        for name in self.owners if self.quirks else ():
            module, raw = net.get_submodule(name.removesuffix(".weight")), weights[name]
            handles.append(module.register_forward_hook(partial(_take, raw)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def rewritten(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """With the quirks, the single tasks' convolutions with the norms of the beginning; else nothing."""
        return {name: gated(tensors[name], norms) for name, norms in self.norms.items()}

    def _lateral(self, name: str, task: int) -> Tensor:
        nu = self.nu[_key(name, task)]
        gate = self.lateral(self.positive(nu))
        return gate * nu.sign() if name in self.pointwise else gate


def _take(raw: Tensor, module: nn.Module, inputs: object, output: object) -> None:
    module._parameters["weight"] = raw  # type: ignore[assignment]  # functional_call puts the parameter back


def _key(name: str, task: int) -> str:
    return f"{name.replace('.', '/')}:{task}"  # a module's parameters have no dots in their names


def _start(weight: Tensor, init: str, random: torch.Generator) -> Tensor:
    """Positive first values, ``[m, n]``."""
    kernels = weight.detach().flatten(2)
    if init == "norm":
        return kernels.norm(dim=2) + TINY
    draws = torch.randn(kernels.shape[:2], generator=random, dtype=weight.dtype)
    return (draws.abs() * (2 / weight.shape[1]) ** 0.5 + TINY).to(weight.device)
