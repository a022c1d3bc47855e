"""Networks with several exits, and what turns any backbone into one."""

from offramp.nets.attaching import attach
from offramp.nets.conventions import CONVENTIONS
from offramp.nets.counting import Cost, ExitCost, cost
from offramp.nets.msdnet import msdnet_cifar, msdnet_imagenet
from offramp.nets.multi_exit import Feature, MultiExitNet
from offramp.nets.ownership import owners
from offramp.nets.passage import Passage, last_linear
from offramp.nets.resnet import resnet18
from offramp.nets.resnet_sdn import resnet_sdn
from offramp.nets.separate import Net, Separate
from offramp.nets.vgg import vgg7, vgg16
from offramp.nets.vgg_sdn import vgg_sdn
from offramp.nets.wideresnet_sdn import wideresnet_sdn
from offramp.nets.zoo import NETS, create

__all__ = [
    "CONVENTIONS",
    "NETS",
    "Cost",
    "ExitCost",
    "Feature",
    "MultiExitNet",
    "Net",
    "Passage",
    "Separate",
    "attach",
    "cost",
    "create",
    "last_linear",
    "msdnet_cifar",
    "msdnet_imagenet",
    "owners",
    "resnet18",
    "resnet_sdn",
    "vgg7",
    "vgg16",
    "vgg_sdn",
    "wideresnet_sdn",
]
