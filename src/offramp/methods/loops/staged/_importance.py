"""Importance of each kernel to each output, which gates the weights (DR-MGF, Eq 6 to 8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp.methods.loops.staged._functions import gated
from offramp.nets import Net
from offramp.stored_values import check_like

__all__ = ["CONVOLUTIONS", "INITS", "LATERAL", "SIGNS", "Importance", "normalised"]

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
    """Scale importance so that the inputs of each filter sum to 1, as the fusion takes it (DR-MGF, Eq 10).

    Args:
        importance: Not negative, ``[..., m, n]``.
    """
    return importance / (importance.sum(-1, keepdim=True) + TINY)


class Importance(nn.Module):
    """Importance variables nu_k, one per kernel and output, and the weights that they gate.

    Gated are the weights of convolutions that two or more outputs own; of a 1x1 convolution only if asked
    for: a kernel of one element has no direction to learn, so that the sign of its nu takes that part.

    Args:
        net: The net, freshly initialised.
        owners: Outputs that own each parameter, by its name.
        lateral: How the inputs of a filter compete, a key of :data:`LATERAL`.
        mixed: The phase of output k sees a mixture of all owners' gates, 10 parts its own, and trains all of
            them. If not, it is gated by its own, and where it has none by the mean of the owners' at the
            epoch's beginning.
        init: One of :data:`INITS`: Kaiming's normal distribution, the same or another for each output; or the
            norms of the net's own kernels, with which routing starts as (nearly) the identity.
        sign: How nu is made positive, a key of :data:`SIGNS`.
        pointwise: Whether to gate 1x1 convolutions too.
        penalty: Factor of the squares of an output's nu in the loss of its phase.
        decay: Weight decay of nu.
        seed: Seed of the initial values.
        quirks: Do as the authors' code does in two places that look like oversights: a module that is called
            several times in one pass is gated at its first call only; and a phase leaves every convolution of
            a single output with kernels of the norms that they had in the beginning.
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
        self.defaults: dict[str, Tensor] = {}
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
            for output in owners[name]:
                if init == "kaiming-apart":
                    start = _start(module.weight, init, random)
                self.nu[_key(name, output)] = nn.Parameter(inverse(start).clone())

    def trained(self, output: int) -> list[nn.Parameter]:
        """Variables that the phase of an output trains: its own, or all of them if gates are mixed."""
        return list(self.parameters()) if self.mixed else self.own(output)

    def own(self, output: int) -> list[nn.Parameter]:
        """Variables nu of one output."""
        return [self.nu[_key(name, output)] for name, owners in self.owners.items() if output in owners]

    def gate(self, name: str, output: int) -> Tensor:
        """Gates of one weight in the phase of an output, ``[m, n]``."""
        owners = self.owners[name]
        if self.mixed:
            parts = [(10.0 if k == output else 1.0) * self._lateral(name, k) for k in owners]
            return torch.stack(parts).sum(0) / (len(owners) + 9 * (output in owners))
        return self._lateral(name, output) if output in owners else self.defaults[name]

    def fix_defaults(self) -> None:
        """Fix the gates of outputs that do not own a weight: for this epoch, the mean of its owners'."""
        with torch.no_grad():
            for name, owners in self.owners.items():
                self.defaults[name] = torch.stack([self._lateral(name, k) for k in owners]).mean(0)

    def gated_weights(self, tensors: Mapping[str, Tensor], output: int) -> dict[str, Tensor]:
        """Gated weights of the phase of an output, by name, made of a net's parameters."""
        return {name: gated(tensors[name], self.gate(name, output)) for name in self.owners}

    def of(self, name: str) -> Tensor:
        """Importance of each kernel of a weight to its owners, ``[owners, m, n]``, not negative."""
        return torch.stack([self.positive(self.nu[_key(name, k)]) for k in self.owners[name]])

    def get_extra_state(self) -> dict[str, dict[str, Tensor]]:
        return {"settled": self.defaults, "norms": self.norms}

    def set_extra_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        check_like(state["norms"], self.norms, "norms")
        gates = {name: self.of(name)[0].detach() for name in self.owners}
        check_like(state["settled"], gates if state["settled"] else {}, "settled")
        self.defaults, self.norms = state["settled"], state["norms"]

    @contextmanager
    def first_calls(self, net: Net, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """With the quirks, have a gated module read its raw weight from its second call on."""
        handles = []
        for name in self.owners if self.quirks else ():
            module, raw = net.get_submodule(name.removesuffix(".weight")), weights[name]
            handles.append(module.register_forward_hook(partial(_take, raw)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def with_first_norms(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """With the quirks, a single output's convolutions with their first kernel norms; else none."""
        return {name: gated(tensors[name], norms) for name, norms in self.norms.items()}

    def _lateral(self, name: str, output: int) -> Tensor:
        nu = self.nu[_key(name, output)]
        gate: Tensor = self.lateral(self.positive(nu))
        return gate * nu.sign() if name in self.pointwise else gate


def _take(raw: Tensor, module: nn.Module, inputs: object, output: object) -> None:
    module._parameters["weight"] = raw  # type: ignore[assignment]  # functional_call puts the parameter back


def _key(name: str, output: int) -> str:
    return f"{name.replace('.', '/')}:{output}"  # a module's parameters have no dots in their names


def _start(weight: Tensor, init: str, random: torch.Generator) -> Tensor:
    """First values of nu, positive, ``[m, n]``."""
    kernels = weight.detach().flatten(2)
    if init == "norm":
        norms: Tensor = kernels.norm(dim=2)
        return norms + TINY
    draws = torch.randn(kernels.shape[:2], generator=random, dtype=weight.dtype)
    sizes: Tensor = draws.abs() * (2 / weight.shape[1]) ** 0.5
    return (sizes + TINY).to(weight.device)
