"""The published networks, one file each; a name here is in the catalogue and in ``offramp.nets``."""

from offramp.nets.zoo.msdnet import msdnet_cifar, msdnet_imagenet
from offramp.nets.zoo.resnet import resnet18
from offramp.nets.zoo.resnet_sdn import resnet_sdn
from offramp.nets.zoo.segnet import segnet, segnet_split
from offramp.nets.zoo.segnet_cross_stitch import segnet_cross_stitch
from offramp.nets.zoo.segnet_mtan import segnet_mtan
from offramp.nets.zoo.vgg import vgg7, vgg16
from offramp.nets.zoo.vgg_sdn import vgg_sdn
from offramp.nets.zoo.wideresnet_sdn import wideresnet_sdn

__all__ = [
    "msdnet_cifar",
    "msdnet_imagenet",
    "resnet18",
    "resnet_sdn",
    "segnet",
    "segnet_cross_stitch",
    "segnet_mtan",
    "segnet_split",
    "vgg7",
    "vgg16",
    "vgg_sdn",
    "wideresnet_sdn",
]
