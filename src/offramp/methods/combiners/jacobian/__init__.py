"""The Jacobian engine: gradient rows of several losses on shared parameters, and how to combine them."""

from offramp.methods.combiners.jacobian.compiled import run_with_lasting_graph
from offramp.methods.combiners.jacobian.engine import Jacobian
from offramp.methods.combiners.jacobian.exit_graph import loss_inputs
from offramp.methods.combiners.jacobian.groups import SCOPES
from offramp.methods.combiners.jacobian.lean_block import LeanBlock, add_weighted_gradient
from offramp.methods.combiners.jacobian.refreshed import RefreshedWeights
from offramp.methods.combiners.jacobian.row_block import RowBlock
from offramp.methods.combiners.jacobian.row_buffer import average_gradients, average_grads

__all__ = [
    "SCOPES",
    "Jacobian",
    "LeanBlock",
    "RefreshedWeights",
    "RowBlock",
    "add_weighted_gradient",
    "average_gradients",
    "average_grads",
    "loss_inputs",
    "run_with_lasting_graph",
]
