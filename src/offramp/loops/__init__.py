"""How an epoch is organised."""

from offramp.loops.bench import Bench
from offramp.loops.dr_mgf import DRMGF
from offramp.loops.loop import Loop, Losses, Moment, Part, Work
from offramp.loops.meta_gf import MetaGF
from offramp.loops.minibatch import Minibatch
from offramp.loops.route import Route, read_routes

__all__ = [
    "DRMGF",
    "Bench",
    "Loop",
    "Losses",
    "MetaGF",
    "Minibatch",
    "Moment",
    "Part",
    "Route",
    "Work",
    "read_routes",
]
