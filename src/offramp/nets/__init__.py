"""Networks with several exits, and what turns any backbone into one."""

from offramp.nets.attach import attach
from offramp.nets.conventions import CONVENTIONS
from offramp.nets.counting import Cost, ExitCost, cost
from offramp.nets.msdnet import msdnet_cifar, msdnet_imagenet
from offramp.nets.multi_exit import Feature, MultiExitNet
from offramp.nets.ownership import owners
from offramp.nets.resnet import resnet18
from offramp.nets.vgg import vgg7, vgg16
from offramp.nets.zoo import NETS, create

__all__ = [
    "CONVENTIONS",
    "NETS",
    "Cost",
    "ExitCost",
    "Feature",
    "MultiExitNet",
    "attach",
    "cost",
    "create",
    "msdnet_cifar",
    "msdnet_imagenet",
    "owners",
    "resnet18",
    "vgg7",
    "vgg16",
]
