"""Measurements of one run, and their plain values for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from offramp.analysis.conflict import OutputInterference, pooled
from offramp.analysis.pairs import Cosines
from offramp.analysis.prune import Pruning
from offramp.analysis.similarity import Likeness
from offramp.methods.loops import Route
from offramp.tasks.outputs import are_exits

__all__ = ["Findings", "RouteFindings"]


@dataclass(frozen=True)
class RouteFindings:
    """Measurements of the routes that a run has learned.

    Attributes:
        pruning: By learned importance.
        likeness: Likeness of the routes that all outputs own; None if there are none.
        without_first: The likeness without the first of these parameters, as the published code has it; None
            if there is but one.
        drawn: The parameter that the drawing shows, the first between two layers of the net, and its route.
    """

    pruning: Pruning
    likeness: Likeness | None
    without_first: Likeness | None
    drawn: tuple[str, Route]


@dataclass(frozen=True)
class Findings:
    """Measurements of one run; None for what was not asked for.

    Attributes:
        label: The method, with what sets the run apart from the others.
        method: The label without the seed.
        folder: The run folder.
        outputs: Names of the outputs.
        interference: C and G of every output.
        cosines: Of every two outputs' gradients, where these are tasks.
        filters: Mean conflict of every shared filter, by parameter.
        layers: Those of these parameters that are weights of layers, not vectors of norms and biases.
        filters_as_trained: Mean conflict of every shared filter by the gradients that the method's forks let
            through; None for a method that trains by the plain ones.
        pruning: By gradient norms over all filters that an output shares (Eq 5).
        pruning_same_owners: By gradient norms over the filters with the same owners.
        routes: Of a run that has learned some.
    """

    label: str
    method: str
    folder: Path
    outputs: tuple[str, ...]
    interference: list[OutputInterference] | None = None
    cosines: Cosines | None = None
    filters: Mapping[str, Tensor] | None = None
    layers: tuple[str, ...] = ()
    filters_as_trained: Mapping[str, Tensor] | None = None
    pruning: Pruning | None = None
    pruning_same_owners: Pruning | None = None
    routes: RouteFindings | None = None

    def to_dict(self) -> dict[str, Any]:
        """The findings as plain values, None for what was not asked for; exits need no names."""
        tasks = not are_exits(self.outputs)
        return {
            "label": self.label,
            "folder": str(self.folder),
            **({"outputs": list(self.outputs)} if tasks else {}),
            "conflict": None if self.interference is None else _interference(self.interference),
            **({"cosines": None if self.cosines is None else asdict(self.cosines)} if tasks else {}),
            "filters": _filters(self.filters),
            "filters_as_trained": _filters(self.filters_as_trained),
            "importance": _pruning(self.pruning),
            "importance_same_owners": _pruning(self.pruning_same_owners),
            "routes": None if self.routes is None else _routes(self.routes),
        }


def _interference(outputs: list[OutputInterference]) -> dict[str, Any]:
    """Pearson's r pooled and of every exit, with C and G of every batch."""
    return {
        "r": pooled(outputs),
        "exits": [
            {
                "r": output.r,
                "mean_conflict": fmean(output.conflict) if output.conflict else None,
                "mean_gain": fmean(output.gain) if output.gain else None,
                "left_out": output.left_out,
                "conflict": list(output.conflict),
                "gain": list(output.gain),
            }
            for output in outputs
        ],
    }


def _filters(conflicts: Mapping[str, Tensor] | None) -> dict[str, Any] | None:
    """Sum, mean and deciles over all filters; sum, mean and largest of every parameter's."""
    if conflicts is None:
        return None
    all_values = torch.cat([values.flatten() for values in conflicts.values()])
    return {
        "filters": all_values.numel(),
        "total": all_values.sum().item(),
        "mean": all_values.mean().item(),
        "deciles": all_values.quantile(torch.linspace(0, 1, 11, dtype=all_values.dtype)).tolist(),
        "parameters": {
            name: {
                "filters": values.numel(),
                "total": values.sum().item(),
                "mean": values.mean().item(),
                "max": values.max().item(),
            }
            for name, values in conflicts.items()
        },
    }


def _pruning(pruning: Pruning | None) -> dict[str, Any] | None:
    """The matrix raw and as published, the number of pruned filters, and the share of dominant diagonals."""
    if pruning is None:
        return None
    return {
        **asdict(pruning),
        "chance": pruning.chance,
        "as_published": pruning.as_published,
        "diagonal": pruning.diagonal,
        "diagonal_rate": fmean(pruning.diagonal),
    }


def _routes(routes: RouteFindings) -> dict[str, Any]:
    """Pruning matrix and cosines."""
    return {
        "importance": _pruning(routes.pruning),
        "similarity": _likeness(routes.likeness),
        "similarity_without_first": _likeness(routes.without_first),
        "drawn": routes.drawn[0],
    }


def _likeness(likeness: Likeness | None) -> dict[str, Any] | None:
    """The cosines, and their values by chance."""
    if likeness is None:
        return None
    return {
        "parameters": list(likeness.parameters),
        "raw": likeness.raw.tolist(),
        "centred": likeness.centred.tolist(),
        "chance": dict(likeness.chance),
    }
