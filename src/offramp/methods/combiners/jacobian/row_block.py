"""Gradient rows of a group of parameters: their Gramian, and their combinations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Row", "RowBlock", "accumulate", "gramian"]

Row = list[
    Tensor | None
]  # one loss's gradient, parameter by parameter; None where it is zero by construction

CHUNK = 1 << 18  # numbers of each row that the Gramian copies at a time: few calls, and little memory


@dataclass
class RowBlock:
    """The gradient rows of m losses on n numbers: those of a group of parameters.

    RowBuffer are in float32 or wider, free of the loss scale, and means over the processes.

    Attributes:
        owners: The outputs (0-based) whose losses have a row. A row of zeros by construction is not one.
        group: The owners of the group, among them those without a row in this step.
        parameters: The parameters.
        rows: For each owner its gradient, parameter by parameter. None stands for zeros, where a parameter is
            not the owner's (``shared="union"`` and ``"all"``) or was not used in this step.
        scale: What ``.grad`` is multiplied by (the loss scale of fp16).
    """

    owners: tuple[int, ...]
    group: tuple[int, ...]
    parameters: list[Tensor]
    rows: list[Row]
    scale: float = 1.0

    def gramian(self) -> Tensor:
        """Inner products of the rows, ``[m, m]`` in float64 on the CPU. Not finite where fp16 overflowed."""
        return gramian(self.rows, self.parameters)

    def matrix(self) -> Tensor:
        """Copy of the rows as a matrix ``[m, n]``, for methods that work element by element."""
        return torch.stack([_flat(row, self.parameters) for row in self.rows])

    def combine(self, weights: Tensor) -> None:
        """Add the rows, weighted, to ``.grad``. The rows are used up: ``rows`` is empty afterwards.

        Args:
            weights: ``[m]``, one for each owner.
        """
        # Also a weight of 0 multiplies: where fp16 overflowed, 0 * inf keeps the trouble visible.
        factors = [weight * self.scale for weight in weights.tolist()]
        rows, self.rows = self.rows, []
        total: Row = [None] * len(self.parameters)
        for factor, row in zip(factors, rows, strict=True):
            pairs = [(t, g) for t, g in zip(total, row, strict=True) if t is not None and g is not None]
            initial = [g for t, g in zip(total, row, strict=True) if t is None and g is not None]
            if pairs:
                torch._foreach_add_([t for t, _ in pairs], [g for _, g in pairs], alpha=factor)
            if initial:
                torch._foreach_mul_(initial, factor)
            total = [g if t is None else t for t, g in zip(total, row, strict=True)]
            row.clear()
        for parameter, gradient in zip(self.parameters, total, strict=True):
            if gradient is not None:
                accumulate(parameter, gradient)

    def assign(self, vector: Tensor) -> None:
        """Add a direction to ``.grad``. The rows are used up: ``rows`` is empty afterwards.

        Args:
            vector: ``[n]``, in the order of :meth:`matrix`.
        """
        self.rows = []
        pieces = vector.split([parameter.numel() for parameter in self.parameters])
        for parameter, piece in zip(self.parameters, pieces, strict=True):
            accumulate(parameter, (piece * self.scale).view_as(parameter))


def gramian(rows: Sequence[Row], parameters: Sequence[Tensor]) -> Tensor:
    """Inner products of rows, ``[m, m]`` in float64 on the CPU.

    Products and sums are in float64 as well: the solvers behind divide by differences of these numbers, and
    a matrix product in float32 may be one of lower precision by the user's settings.
    """
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    if not rows or not parameters:
        return total
    device = parameters[0].device
    wide = torch.float32 if device.type == "mps" else torch.float64  # that device has no float64
    sums = total.to(device, wide)
    start = size = 0
    for end, parameter in enumerate(parameters, 1):
        size += parameter.numel()
        if size >= CHUNK or end == len(parameters):
            part = slice(start, end)
            matrix = torch.stack([_flat(row[part], parameters[part], wide) for row in rows])
            sums.addmm_(matrix, matrix.t())
            start, size = end, 0
    return sums.to("cpu", torch.float64)


def accumulate(parameter: Tensor, gradient: Tensor) -> None:
    """Add a gradient, which must share its memory with no other tensor, to ``.grad``."""
    if parameter.grad is None:
        parameter.grad = gradient.to(parameter.dtype)
    else:
        parameter.grad.add_(gradient)


def _flat(
    row: Sequence[Tensor | None], parameters: Sequence[Tensor], dtype: torch.dtype | None = None
) -> Tensor:
    pieces = [
        torch.zeros(p.numel(), dtype=dtype or _row_dtype(p), device=p.device) if g is None else g.reshape(-1)
        for g, p in zip(row, parameters, strict=True)
    ]
    return torch.cat(pieces).to(dtype) if dtype else torch.cat(pieces)


def _row_dtype(parameter: Tensor) -> torch.dtype:
    return torch.float32 if parameter.itemsize < 4 else parameter.dtype
