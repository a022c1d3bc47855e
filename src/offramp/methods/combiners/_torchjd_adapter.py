"""Adapter to TorchJD: which of its aggregators work on the rows of one batch, and at what scale.

https://torchjd.org; Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", arXiv:2406.16232.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from offramp.errors import UserError, guess, shown
from offramp.methods.combiners.solvers import SolverFailure, dual_cone_push, points_of
from offramp.methods.seeded import seeded
from offramp.stored_values import check_like

__all__ = [
    "MATRIX",
    "MEAN",
    "SUM",
    "UNIT_FREE",
    "GramianWeighting",
    "load_state",
    "make_aggregator",
    "state_of",
]

SUM = ("ConFIG", "GradDrop", "GradVac", "PCGrad", "Sum")  # m equal rows g give m g
MEAN = ("AlignedMTL", "DualProj", "ExcessMTL", "IMTLG", "MGDA", "Mean", "PCD", "Random", "UPGrad")  # g
UNIT_FREE = ("FairGrad",)  # the norm of the direction follows from another rule
MATRIX = ("ConFIG", "ExcessMTL", "GradDrop")  # need the rows; the others their Gramian

_TWO_BATCHES = "it needs gradients of two or three independent batches, and a step has one"
_ROBUST = "it takes outliers for attacks and drops whole exits, and late stages have too few rows for it"
_LOSSES = "it weighs losses, not gradients; use the method"
REFUSED = {
    "MoDo": _TWO_BATCHES,
    "SDMGrad": _TWO_BATCHES,
    "Krum": _ROBUST,
    "TrimmedMean": _ROBUST,
    "CRMOGM": "it smooths the weights of another weighting and is none itself",
    "Constant": "its weights are fixed; give loss weights instead, e.g. method joint with weights=[1, 1, 2]",
    "CAGrad": "it needs cvxpy; use the method cagrad, which solves the same problem without",
    "NashMTL": "it needs ecos, which is under the GPL; use the method nash-mtl, with a solver of our own",
    "DWA": f"{_LOSSES} dwa",
    "FAMO": f"{_LOSSES} famo",
    "IMTLL": f"{_LOSSES} imtl-l",
    "UW": f"{_LOSSES} uncertainty",
    **{
        name: f"{_LOSSES} scalarize with scalarization={name}"
        for name in ("COSMOS", "GeometricMean", "PBI", "STCH")
    },
}


def make_aggregator(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Create an aggregator of TorchJD.

    Args:
        name: Its class.
        arguments: Keyword arguments of the class: numbers and words.

    Raises:
        UserError: There is none, it cannot work here, or it does not take these arguments.
    """
    import torchjd.aggregation

    if not isinstance(name, str):
        raise UserError(f"aggregator is the name of a class of TorchJD, e.g. GradVac, got {shown(name)}")
    if reason := REFUSED.get(name.removesuffix("Weighting")):
        raise UserError(f"TorchJD's {name} cannot be used here: {reason}")
    known = (*SUM, *MEAN, *UNIT_FREE)
    if name not in known:
        raise UserError(
            f"no aggregator {shown(name)} of TorchJD{guess(name, known)}; there are: {', '.join(known)}"
        )
    kind = getattr(torchjd.aggregation, name)
    takes = [p for p in inspect.signature(kind).parameters if p not in ("projector", "pref_vector", "f")]
    for key, value in arguments.items():
        if key not in takes:
            raise UserError(
                f"{name} has no argument {shown(key)}{guess(key, takes)}; it has: "
                f"{', '.join(takes) or 'none'}"
            )
        if not isinstance(value, (int, float, str)):
            raise UserError(
                f"{key} of {name} must be a number or a word, got {shown(value)}: groups differ in size"
            )
    if name == "FairGrad" and not arguments.get("alpha", 1) > 0:
        raise UserError(f"alpha of FairGrad must be a number above 0, got {shown(arguments['alpha'])}")
    extra = {"projector": _projector()} if name in ("DualProj", "UPGrad") else {}
    try:
        made: nn.Module = kind(**arguments, **extra)
        if name not in MATRIX:  # some of them look at their arguments only when they run
            with seeded(torch.device("cpu")):
                _weighting(made)(torch.eye(2, dtype=torch.float64))
            made = kind(**arguments, **extra)
        return made
    except ImportError as error:
        raise UserError(f"{name}: {error}") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} with {dict(arguments)}: {error}") from None


def _weighting(aggregator: Any) -> Any:
    return getattr(aggregator, "gramian_weighting", None) or aggregator.weighting


class GramianWeighting:
    """Weights of one group by a TorchJD aggregator that needs the Gramian only.

    Args:
        name: Its class.
        arguments: Its keyword arguments.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any]) -> None:
        self.aggregator = make_aggregator(name, arguments)
        self.scale = name in MEAN
        self.last_first = name == "PCD"  # whose first row is the objective that has priority
        self.saved: dict[str, dict[str, Any]] | None = None

    def __call__(self, gramian: Tensor, last: Tensor) -> Tensor:
        """Gramian ``[m, m]`` -> weights ``[m]``, at the scale of the sum."""
        if self.last_first:
            gramian = gramian.flip(0, 1)
        weighting = _weighting(self.aggregator)
        if self.saved is not None:
            with seeded(gramian.device):
                weighting(gramian)  # so that it sizes its state, which is then replaced
            load_state(self.aggregator, self.saved)
            self.saved = None
        try:
            weights: Tensor = weighting(gramian).detach().to("cpu", torch.float64)
        except ValueError as error:  # of a solver that it calls
            raise SolverFailure(f"{type(self.aggregator).__name__}: {error}") from None
        if self.last_first:
            weights = weights.flip(0)
        return len(gramian) * weights if self.scale else weights

    def state(self) -> dict[str, dict[str, Any]]:
        """State of the aggregator, for a checkpoint."""
        return state_of(self.aggregator) if self.saved is None else self.saved

    def load(self, state: dict[str, dict[str, Any]]) -> None:
        """Restore a state; it takes effect at the next call."""
        self.saved = state


def state_of(module: nn.Module) -> dict[str, dict[str, Any]]:
    """Read buffers and numbers of a module and its parts; TorchJD's state_dict leaves some of them out."""
    return {
        path: {
            **{name: None if b is None else b.clone() for name, b in part._buffers.items()},
            **{name: value for name, value in vars(part).items() if type(value) in (int, float)},
        }
        for path, part in module.named_modules()
    }


def load_state(module: nn.Module, state: Mapping[str, Mapping[str, Any]]) -> None:
    """Restore what :func:`state_of` read, in a module that was called on an input of the same shape.

    Raises:
        UserError: It was read from another module, or for other outputs.
    """
    try:
        check_like(state, state_of(module), "the aggregator's state")
    except ValueError as error:
        raise UserError(
            f"the checkpoint holds another state of {type(module).__name__} ({error}); restore it from a "
            "copy, or train anew"
        ) from None
    for path, values in state.items():
        part = module.get_submodule(path)
        for name, value in values.items():
            now = getattr(part, name)
            like = isinstance(value, Tensor) and isinstance(now, Tensor)
            setattr(part, name, value.to(now.device, copy=True) if like else value)


def _projector() -> Any:
    from torchjd.linalg import DualConeProjector

    class Projector(DualConeProjector):
        """Projection onto the dual cone by our solver instead of quadprog, which is under the GPL."""

        def __call__(self, U: Tensor, G: Any) -> Tensor:
            points = points_of(G)
            pushed = [
                u + dual_cone_push(points.units, (u * points.norms) @ points.units) / points.norms
                for u in U.reshape(-1, len(G)).numpy()
            ]
            return torch.stack([torch.from_numpy(w) for w in pushed]).view_as(U)

    return Projector()
