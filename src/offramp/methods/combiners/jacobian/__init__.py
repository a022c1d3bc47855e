"""The Jacobian engine: gradient rows of several losses on shared parameters, and how to combine them."""

from offramp.methods.combiners.jacobian._run_passes import in_own_memory
from offramp.methods.combiners.jacobian.compiled import run_with_lasting_graph
from offramp.methods.combiners.jacobian.engine import Jacobian
from offramp.methods.combiners.jacobian.exit_graph import levels_of, loss_inputs
from offramp.methods.combiners.jacobian.groups import SCOPES
from offramp.methods.combiners.jacobian.lean_block import LeanBlock, add_weighted_gradient
from offramp.methods.combiners.jacobian.refreshed import RefreshedWeights
from offramp.methods.combiners.jacobian.row_block import Row, RowBlock, accumulate, gramian
from offramp.methods.combiners.jacobian.row_buffer import average, average_gradients, average_grads

__all__ = [
    "SCOPES",
    "Jacobian",
    "LeanBlock",
    "RefreshedWeights",
    "Row",
    "RowBlock",
    "accumulate",
    "add_weighted_gradient",
    "average",
    "average_gradients",
    "average_grads",
    "gramian",
    "in_own_memory",
    "levels_of",
    "loss_inputs",
    "run_with_lasting_graph",
]
