"""Loops that train a copy of the net for each output and fuse the copies: Meta-GF and DR-MGF."""

from offramp.methods.loops.staged.dr_mgf import DRMGF
from offramp.methods.loops.staged.meta_gf import MetaGF
from offramp.methods.loops.staged.routes import Route, read_routes

__all__ = ["DRMGF", "MetaGF", "Route", "read_routes"]
