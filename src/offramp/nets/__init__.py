"""Networks with several exits, and what turns any backbone into one."""

from offramp.nets.msdnet import msdnet_cifar, msdnet_imagenet
from offramp.nets.multi_exit import Feature, MultiExitNet
from offramp.nets.resnet import resnet18
from offramp.nets.vgg import vgg7, vgg16
from offramp.nets.zoo import NETS, create

__all__ = [
    "NETS",
    "Feature",
    "MultiExitNet",
    "create",
    "msdnet_cifar",
    "msdnet_imagenet",
    "resnet18",
    "vgg7",
    "vgg16",
]
