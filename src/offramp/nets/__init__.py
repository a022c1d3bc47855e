"""Networks with several outputs, those with exits among them, and what gives a backbone exits."""

from offramp.nets.attaching import attach
from offramp.nets.multi_exit import Feature, MultiExitNet
from offramp.nets.net import Net
from offramp.nets.ownership import owners
from offramp.nets.passage import Passage, last_linear
from offramp.nets.separate import Separate
from offramp.nets.zoo.catalogue import NETS, create
from offramp.nets.zoo.msdnet import msdnet_cifar, msdnet_imagenet
from offramp.nets.zoo.resnet import resnet18
from offramp.nets.zoo.resnet_sdn import resnet_sdn
from offramp.nets.zoo.vgg import vgg7, vgg16
from offramp.nets.zoo.vgg_sdn import vgg_sdn
from offramp.nets.zoo.wideresnet_sdn import wideresnet_sdn

__all__ = [
    "NETS",
    "Feature",
    "MultiExitNet",
    "Net",
    "Passage",
    "Separate",
    "attach",
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
