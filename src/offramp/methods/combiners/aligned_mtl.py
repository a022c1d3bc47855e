"""Aligned-MTL: the rows turned and scaled until none opposes another and all are equally long.

Senushkin et al., "Independent Component Alignment for Multi-Task Learning", CVPR 2023, arXiv:2305.19000.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from offramp.checks import choice
from offramp.methods.combiners.row_combiner import RowCombiner

__all__ = ["AlignedMTL"]

SCALES = ("min", "median", "rmse")


@dataclass(frozen=True, kw_only=True)
class AlignedMTL(RowCombiner):
    """The sum of the rows of the nearest orthogonal system, scaled by one of the singular values.

    Attributes:
        scale_mode: Which one: the ``min``, as published; the step is small where exits nearly agree. Or the
            ``median``, or the root mean square (``rmse``).

    Raises:
        UserError: A value out of its range.
    """

    scale_mode: str = "min"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "scale_mode", SCALES)

    def weigh(self, gramian: Tensor, last: Tensor) -> Tensor:  # noqa: D102
        from torchjd.aggregation import AlignedMTLWeighting

        align = AlignedMTLWeighting(scale_mode=self.scale_mode)  # type: ignore[arg-type]
        return len(gramian) * align(gramian)  # TorchJD's is the mean
