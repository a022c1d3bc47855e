"""The Jacobian engine: gradient rows of several losses on what they share, and what is made of them."""

from offramp.combiners.jacobian.block import Block
from offramp.combiners.jacobian.compiled import keep_graphs
from offramp.combiners.jacobian.engine import Jacobian
from offramp.combiners.jacobian.graph import reach
from offramp.combiners.jacobian.groups import SCOPES
from offramp.combiners.jacobian.lean import LeanBlock, pull
from offramp.combiners.jacobian.refreshed import Refreshed
from offramp.combiners.jacobian.rows import average_grads

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
