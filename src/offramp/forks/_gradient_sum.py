"""The gradient of a feature as a sum over its readers: planned once, computed at every step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from offramp.forks._channels import Channels

__all__ = ["GradientSum", "memory_format"]

MANY = 8  # from so many segments on, one concatenation is quicker than to write each by itself


class _Term(NamedTuple):
    reader: int
    gain: float
    start: int  # where the segment begins in the reader's own gradient, which has its live channels only


class _Segment(NamedTuple):
    start: int
    length: int
    terms: tuple[_Term, ...]


class GradientSum:
    """Sums the gradients of a feature's readers, each times its gain, channel by channel.

    A reader sends back the gradient of its *live* channels only, those whose gain is not 0.

    Attributes:
        axis: The axis of the channels in the feature.
        live: The live channels of each reader.
    """

    def __init__(self, axis: int, live: Sequence[Channels], segments: Sequence[_Segment]) -> None:
        self.axis, self.live, self._segments = axis, tuple(live), tuple(segments)

    @classmethod
    def plan(cls, gains: Sequence[Sequence[float]], axis: int) -> GradientSum:
        """Plan the sum for C gains of each reader; gains 1, 1 are the plain fork."""
        table = list(zip(*gains, strict=True))
        segments, sent, start = [], [0] * len(gains), 0
        for row, group in groupby(table):
            length = sum(1 for _ in group)
            terms = tuple(_Term(r, float(g), sent[r]) for r, g in enumerate(row) if g != 0)
            segments.append(_Segment(start, length, terms))
            for term in terms:
                sent[term.reader] += length
            start += length
        return cls(axis, [Channels.flagged(gain != 0 for gain in row) for row in gains], segments)

    @classmethod
    def single(cls, live: Channels, axis: int) -> GradientSum:
        """Plan the sum for one reader with gains 0 and 1."""
        segments, sent = [], 0
        for start, stop in sorted(live.runs + live.rest().runs):
            terms = (_Term(0, 1.0, sent),) if (start, stop) in live.runs else ()
            segments.append(_Segment(start, stop - start, terms))
            sent += len(terms) * (stop - start)
        return cls(axis, [live], segments)

    def gather(
        self, grads: Sequence[Tensor | None], shape: Sequence[int], memory_format: torch.memory_format
    ) -> Tensor:
        """Compute the feature's gradient, writing every channel once, with no zero fill under a sum.

        Args:
            grads: For each reader the gradient of its live channels, or None where nothing came back; not
                all of them None.
            shape: Shape of the feature.
            memory_format: Memory format of the feature.
        """
        some = next(grad for grad in grads if grad is not None)
        parts = [self._sum(segment, grads) for segment in self._segments]
        if len(parts) == 1 and parts[0] is not None:  # all channels alike, as under gradient equilibrium
            return parts[0].contiguous(memory_format=memory_format)
        if len(parts) >= MANY or any(grad is not None and _is_batched(grad) for grad in grads):
            lengths = [segment.length for segment in self._segments]
            blank = [some.new_zeros((*shape[: self.axis], n, *shape[self.axis + 1 :])) for n in lengths]
            filled = [zeros if part is None else part for part, zeros in zip(parts, blank, strict=True)]
            return torch.cat(filled, self.axis).contiguous(memory_format=memory_format)
        into = torch.empty(tuple(shape), dtype=some.dtype, device=some.device, memory_format=memory_format)
        for part, segment in zip(parts, self._segments, strict=True):
            place = into.narrow(self.axis, segment.start, segment.length)
            if part is None:
                place.zero_()
            else:
                place.copy_(part)
        return into

    def _sum(self, segment: _Segment, grads: Sequence[Tensor | None]) -> Tensor | None:
        """The readers' gradients of a segment times their gains, added up; None if there is none.

        A sum is laid out as its first operand. The last reader, a stage that starts with a convolution,
        mostly keeps the feature's layout; a head's pooling does not.
        """
        pairs = [(term, grads[term.reader]) for term in reversed(segment.terms)]
        parts = [
            (term.gain, grad.narrow(self.axis, term.start, segment.length))
            for term, grad in pairs
            if grad is not None
        ]
        if not parts:
            return None
        if len(parts) == 2 and math.isclose(parts[0][0] + parts[1][0], 1, rel_tol=1e-12):
            return torch.lerp(parts[0][1], parts[1][1], parts[1][0])  # one pass over memory
        gain, total = parts[0]
        if gain != 1:
            total = total * gain
        for gain, part in parts[1:]:
            total = torch.add(total, part, alpha=gain)
        return total


def memory_format(x: Tensor) -> torch.memory_format:
    """Memory format of a map ``[N, C, H, W]`` or ``[N, C, D, H, W]``; of anything else the default one."""
    kind = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
    return kind if kind is not None and x.is_contiguous(memory_format=kind) else torch.contiguous_format


def _is_batched(x: Tensor) -> bool:
    """Whether this backward pass runs for several gradients at once (``is_grads_batched=True``)."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.is_batchedtensor(x) or torch._C._functorch.is_legacy_batchedtensor(x)
