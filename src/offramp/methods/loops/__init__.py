"""Loops: how an epoch is organised."""

from offramp.methods.loops.bilevel import Bilevel
from offramp.methods.loops.context import LoopContext
from offramp.methods.loops.loop import BoundLoop, Loop, Losses, Phase
from offramp.methods.loops.minibatch import Minibatch
from offramp.methods.loops.progress import Progress
from offramp.methods.loops.staged import DRMGF, MetaGF, Route, read_routes

__all__ = [
    "DRMGF",
    "Bilevel",
    "BoundLoop",
    "Loop",
    "LoopContext",
    "Losses",
    "MetaGF",
    "Minibatch",
    "Phase",
    "Progress",
    "Route",
    "read_routes",
]
