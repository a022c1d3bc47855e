"""The Jacobian engine: gradient rows of several losses on what they share, and what is made of them."""

from offramp.methods.combiners.jacobian.block import Block
from offramp.methods.combiners.jacobian.compiled import keep_graphs
from offramp.methods.combiners.jacobian.engine import Jacobian
from offramp.methods.combiners.jacobian.graph import reach
from offramp.methods.combiners.jacobian.groups import SCOPES
from offramp.methods.combiners.jacobian.lean import LeanBlock, pull
from offramp.methods.combiners.jacobian.refreshed import Refreshed
from offramp.methods.combiners.jacobian.rows import average_grads

__all__ = [
    "SCOPES",
    "Block",
    "Jacobian",
    "LeanBlock",
    "Refreshed",
    "average_grads",
    "keep_graphs",
    "pull",
    "reach",
]
