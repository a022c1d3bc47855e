"""Networks with several outputs, those with exits among them, and what gives a backbone exits."""

from offramp.nets.attaching import attach
from offramp.nets.exits import HandedOn
from offramp.nets.joining import multi_task
from offramp.nets.multi_exit import Feature, MultiExitNet
from offramp.nets.multi_task import MultiTaskNet
from offramp.nets.net import Net
from offramp.nets.ownership import owners
from offramp.nets.passage import Passage, last_linear
from offramp.nets.separate import Separate
from offramp.nets.task_heads import with_tasks
from offramp.nets.zoo import *  # noqa: F403
from offramp.nets.zoo import __all__ as _networks
from offramp.nets.zoo.catalogue import NETS, create

__all__ = [
    "NETS",
    "Feature",
    "HandedOn",
    "MultiExitNet",
    "MultiTaskNet",
    "Net",
    "Passage",
    "Separate",
    "attach",
    "create",
    "last_linear",
    "multi_task",
    "owners",
    "with_tasks",
]
__all__ += _networks
