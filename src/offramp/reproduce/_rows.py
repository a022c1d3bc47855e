"""Rows that tables of both papers have, and how they are trained here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from offramp.reproduce.experiment import Row

__all__ = ["CAGRAD", "DR_MGF", "DR_MGF_MSDNET", "META_GF_MSDNET", "NASH_MTL", "PCGRAD", "SIXTH", "UNION"]

UNION: Mapping[str, Any] = MappingProxyType({"shared": "union"})
SIXTH: Mapping[str, Any] = MappingProxyType({"routed_share": 0.1666})  # 50 of 300 epochs

_PACKAGED = "no settings are printed; as in the package of Meta-GF, by the same authors"
_CLIPPED = (
    "no settings are printed; one gradient of all shared parameters, its norm clipped to 1, as in its code"
)

CAGRAD = Row("cagrad", "cagrad-meta-gf", remark=_PACKAGED)
PCGRAD = Row("pcgrad", "pcgrad-meta-gf", remark=_PACKAGED)
NASH_MTL = Row("nash-mtl", settings=UNION, remark=_CLIPPED)
META_GF_MSDNET = Row(
    "meta-gf",
    "meta-gf-msdnet",
    remark="as in its authors' script for MSDNet, without an oversight that keeps its weights from learning",
)
DR_MGF = Row(
    "dr-mgf",
    "dr-mgf-published",
    remark="routes end after half of the epochs, which the authors' default tells and the paper does not",
)
DR_MGF_MSDNET = Row(
    "dr-mgf",
    "dr-mgf-published",
    settings=SIXTH,
    remark="routes end after 50 of 300 epochs, which a folder's name beside the authors' code tells",
)
