"""What crosses a fork, forward and backward: a gradient gain for each consumer and channel.

Forward, a fork is the identity. Backward, the gradient that each consumer sends back (head and next stage; or
the decoder of each task) is multiplied by its gains, and channels whose gain is 0 are never computed. A
*rule* names the gains at each place, and those of several rules multiply::

    install(net, [Partition(beta=0.5), Equilibrium()])

:mod:`~offramp.forks.partition` says what Deep Feature Surgery is, :mod:`~offramp.forks.equilibrium` what
gradient equilibrium is, :mod:`~offramp.forks.feature` and :mod:`~offramp.forks._readers` how cutting saves
time. A rotation (:mod:`~offramp.forks.rotation`) is the one rule that changes what the heads read; it is
folded into them when it comes off.
"""

from offramp.forks._rotating import folded, rotations_of
from offramp.forks.equilibrium import Equilibrium
from offramp.forks.fork import Fork, GainFork, uncut
from offramp.forks.forked_net import ForkedNet
from offramp.forks.partition import Partition
from offramp.forks.rotation import Rotation
from offramp.forks.rule import Place, Rule
from offramp.forks.slicing import SliceFork
from offramp.forks.surgery import install, partition, remove

__all__ = [
    "Equilibrium",
    "Fork",
    "ForkedNet",
    "GainFork",
    "Partition",
    "Place",
    "Rotation",
    "Rule",
    "SliceFork",
    "folded",
    "install",
    "partition",
    "remove",
    "rotations_of",
    "uncut",
]
