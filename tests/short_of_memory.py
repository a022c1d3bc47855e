"""Modules for which memory runs out, as torch and Python say it."""

from __future__ import annotations

import itertools

import torch
from torch import nn

CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
    "allocate 4000 bytes. Error code 12 (Cannot allocate memory)"
)
ERRORS = [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), CPU, MemoryError()]


class Fails(torch.autograd.Function):
    """The identity, whose backward pass raises."""

    @staticmethod
    def forward(ctx, x, error):
        ctx.error = error
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        raise ctx.error


class Limit(nn.Module):
    """The identity of at most so many samples with gradients; more are too many, from some call on.

    It has a counter of its own, which a failed attempt must not move.
    """

    def __init__(self, samples, error=ERRORS[0], *, backward=False, begin=0):
        super().__init__()
        self.samples, self.error, self.in_backward, self.begin = samples, error, backward, begin
        self.calls, self.counter = itertools.count(), 0

    def forward(self, x):
        if not torch.is_grad_enabled():
            return x
        self.counter += 1
        if next(self.calls) >= self.begin and len(x) > self.samples:
            if not self.in_backward:
                raise self.error
            return Fails.apply(x, self.error)
        return x


class Narrow(nn.Module):
    """The identity of at most so many samples without gradients."""

    def __init__(self, samples):
        super().__init__()
        self.samples = samples

    def forward(self, x):
        if not torch.is_grad_enabled() and len(x) > self.samples:
            raise ERRORS[0]
        return x
