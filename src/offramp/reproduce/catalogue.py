"""The published tables and figures that can be reproduced, by the names that users type."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from offramp.reproduce import _dfs, _dfs_figures, _dr_mgf, _dr_mgf_figures
from offramp.reproduce.experiment import Experiment

__all__ = ["EXPERIMENTS"]

EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {
        each.name: each
        for each in (
            *_dfs.EXPERIMENTS,
            *_dfs_figures.EXPERIMENTS,
            *_dr_mgf.EXPERIMENTS,
            *_dr_mgf_figures.EXPERIMENTS,
        )
    }
)
