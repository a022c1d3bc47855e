"""How alike DR-MGF's routes are (Sun et al., arXiv 2305.19844): the numbers of its Fig 13, as published."""

from __future__ import annotations

from types import MappingProxyType

from offramp.papers._dr_mgf import SOURCE
from offramp.papers.published import Similarities

__all__ = ["SIMILARITIES"]

SIMILARITIES = Similarities(
    source=f"{SOURCE}, Fig 13",
    net="vgg_sdn",
    data="CIFAR-100",
    cosines=MappingProxyType({(1, 7): 0.90, (1, 2): 0.95, (6, 7): 0.98}),
    remark=(
        "of one 64 x 64 matrix, the only one but the first that all exits share; independent draws of its "
        "initialisation have 0.947"
    ),
)
