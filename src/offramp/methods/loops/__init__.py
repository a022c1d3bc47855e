"""How an epoch is organised."""

from offramp.methods.loops.context import LoopContext
from offramp.methods.loops.dr_mgf import DRMGF
from offramp.methods.loops.loop import BoundLoop, Loop, Losses, Phase, Progress
from offramp.methods.loops.meta_gf import MetaGF
from offramp.methods.loops.minibatch import Minibatch
from offramp.methods.loops.route import Route, read_routes

__all__ = [
    "DRMGF",
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
