"""What crosses a fork, forward and backward: a pair of per-channel gradient gains, one for each reader.

Forward, a fork is the identity. Backward, the gradient that head and next stage send back is multiplied by
their gains, and channels whose gain is 0 are never computed. Read :mod:`~offramp.forks.partition` for what
Deep Feature Surgery is, :mod:`~offramp.forks.cut` and :mod:`~offramp.forks.readers` for how it saves time.
"""

from offramp.forks.fork import Fork, GainFork
from offramp.forks.gains import Gains
from offramp.forks.operations import PaperOperations, paper_operations, training_macs
from offramp.forks.partition import Partition
from offramp.forks.slicing import SliceFork
from offramp.forks.surgery import partition, remove

__all__ = [
    "Fork",
    "GainFork",
    "Gains",
    "PaperOperations",
    "Partition",
    "SliceFork",
    "paper_operations",
    "partition",
    "remove",
    "training_macs",
]
