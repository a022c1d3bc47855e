"""A balancer made of a scalarization of TorchJD: one function of all losses, whose slopes are the weights.

https://torchjd.org; the papers are those of its classes: ``STCH`` (Lin et al., ICML 2024, arXiv:2402.19078),
``GeometricMean``, ``PBI`` (Zhang and Li, 2007), ``COSMOS`` (Ruchte and Grabocka, ICDM 2021).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from offramp.checks import choice, is_number
from offramp.errors import UserError, guess, shown
from offramp.methods.balancers._sizes import sizes_of
from offramp.methods.balancers.balancer import Balancer
from offramp.methods.objectives.step import Step

__all__ = ["Scalarize"]

KNOWN = ("COSMOS", "GeometricMean", "Mean", "PBI", "STCH", "Sum")
# Those that learn, remember or draw are methods of their own here, whose state goes into the checkpoints.
ELSEWHERE = {
    "Constant": "give loss weights instead, e.g. method joint with weights=[1, 1, 2]",
    "DWA": "use the method dwa",
    "FAMO": "use the method famo",
    "IMTLL": "use the method imtl-l",
    "Random": "use the method random",
    "UW": "use the method uncertainty",
}
DEFAULTS = {"STCH": {"mu": 0.1}}
VECTORS = ("weights", "reference")  # one number for each output


@dataclass(frozen=True, kw_only=True)
class Scalarize(Balancer):
    """Descends a function f of all losses: loss k is weighted by the slope of f in it.

    Attributes:
        scalarization: Its class in TorchJD, e.g. ``STCH``, the smooth maximum of the losses.
        arguments: Its keyword arguments: numbers, and for ``weights`` and ``reference`` one number for each
            output. ``mu`` of ``STCH`` is 0.1 by default, our choice.
        scaling: ``sum``: times what makes the weights of equal losses add up to their number, as joint
            training's do; ``native``: as TorchJD has it.

    Raises:
        UserError: There is none, it does not take these arguments, or a value out of its range.
    """

    scalarization: str = "STCH"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    scaling: str = "sum"

    def __post_init__(self) -> None:
        choice(self, "scaling", ("sum", "native"))
        if not isinstance(self.arguments, Mapping):
            raise UserError(
                f"arguments are the scalarization's, e.g. {{'mu': 0.1}}, got {shown(self.arguments)}"
            )
        if not isinstance(self.scalarization, str):
            raise UserError(
                f"scalarization is a class of TorchJD, e.g. STCH, got {shown(self.scalarization)}"
            )
        if remedy := ELSEWHERE.get(self.scalarization):
            raise UserError(f"offramp does not use TorchJD's {self.scalarization}; {remedy}")
        if self.scalarization not in KNOWN:
            close = guess(self.scalarization, KNOWN)
            raise UserError(
                f"no scalarization {shown(self.scalarization)} of TorchJD{close}; there are: "
                f"{', '.join(KNOWN)}"
            )
        if self.arguments or self.scalarization != Scalarize.scalarization:  # the default costs no import
            vectors = [self.arguments[name] for name in VECTORS if name in self.arguments]
            lengths = {len(value) for value in vectors if isinstance(value, (list, tuple))} or {2}
            if len(lengths) > 1:
                numbers = " and ".join(
                    f"{len(value)} of {name}" for name, value in zip(VECTORS, vectors, strict=True)
                )
                raise UserError(
                    f"{self.scalarization} got {numbers}; give one number for each output in both"
                )
            self.function(range(lengths.pop()))

    @property
    def whole_batch(self) -> str:  # noqa: D102
        return f"{self.scalarization} is no linear function of the losses"

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Sequence[Tensor], Step], list[Tensor]]:  # noqa: D102
        outputs = len(net.outputs)  # type: ignore[arg-type]
        for name in VECTORS:
            given = self.arguments.get(name)
            if given is not None and len(given) != outputs:
                raise UserError(
                    f"{name} of {self.scalarization} are {len(given)}, outputs {outputs}; give one each"
                )
        return self

    def function(self, outputs: Sequence[int]) -> nn.Module:
        """TorchJD's function of the losses of these outputs.

        Raises:
            UserError: It does not take these arguments.
        """
        import torchjd.scalarization

        kind = getattr(torchjd.scalarization, self.scalarization)
        takes = inspect.signature(kind).parameters
        arguments: dict[str, Any] = dict(DEFAULTS.get(self.scalarization, {}))
        for name, value in self.arguments.items():
            if name not in takes:
                raise UserError(
                    f"{self.scalarization} has no argument {shown(name)}{guess(name, takes)}; it has: "
                    f"{', '.join(takes) or 'none'}"
                )
            arguments[name] = self._argument(name, value, outputs)
        required = [name for name, parameter in takes.items() if parameter.default is parameter.empty]
        missing = [name for name in required if name not in arguments]
        if missing:
            examples = {name: [1.0 for _ in outputs] if name in VECTORS else 1.0 for name in missing}
            raise UserError(
                f"{self.scalarization} needs {' and '.join(missing)}; give e.g. `arguments={examples}`"
            )
        try:
            made: nn.Module = kind(**arguments)
        except (TypeError, ValueError) as error:
            raise UserError(f"{self.scalarization} with {dict(self.arguments)}: {error}") from None
        return made

    def _argument(self, name: str, value: Any, outputs: Sequence[int]) -> Any:
        if name not in VECTORS:
            if not is_number(value):
                raise UserError(f"{name} of {self.scalarization} must be a number, got {shown(value)}")
            return value
        if not isinstance(value, (list, tuple)) or not value or not all(map(is_number, value)):
            raise UserError(
                f"{name} of {self.scalarization} must be one number for each output, got {shown(value)}"
            )
        return torch.tensor([float(value[k]) for k in outputs], dtype=torch.float64)

    def __call__(self, losses: Sequence[Tensor], step: Step) -> list[Tensor]:  # noqa: D102
        function = self.function(step.present)
        weights = _slopes(function, sizes_of(losses, step).to("cpu", torch.float64))
        if self.scaling == "sum":
            equal = torch.ones(len(losses), dtype=torch.float64)
            weights = weights * (len(losses) / _slopes(function, equal).sum())
        return [weight * loss for weight, loss in zip(weights.tolist(), losses, strict=True)]


def _slopes(function: nn.Module, values: Tensor) -> Tensor:
    """Derivatives of a function of all losses in each of them, ``[K]``."""
    with torch.enable_grad():
        values = values.detach().requires_grad_()
        (slopes,) = torch.autograd.grad(function(values), [values])
    return slopes
