"""The published tables and figures that can be reproduced, by the names that users type."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from offramp.reproduce import _computations, _dfs, _dfs_figures, _dr_mgf, _dr_mgf_figures
from offramp.reproduce.computation import Computation
from offramp.reproduce.experiment import Experiment

__all__ = ["COMPUTATIONS", "EXPERIMENTS", "NOT_KNOWN"]

EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {
        each.name: each
        for module in (_dfs, _dfs_figures, _dr_mgf, _dr_mgf_figures)
        for each in module.EXPERIMENTS
    }
)
COMPUTATIONS: Mapping[str, Computation] = MappingProxyType(
    {each.name: each for each in _computations.COMPUTATIONS}
)
# Published figures of results that no command draws, and why.
NOT_KNOWN: Mapping[str, str] = MappingProxyType(
    {
        "dr-mgf-fig9": (
            "not known: neither the published code nor what is known of the paper's text says what it shows"
        )
    }
)
