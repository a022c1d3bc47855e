"""Trunks that this project did not write: torchvision's and timm's, as vectors, maps and lists of maps."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

import offramp
from offramp import UserError, multi_task
from offramp.nets import Separate
from offramp.tasks import Boxes, Classification, Depth

CLASS, BOX, DEPTH = Classification(target="class"), Boxes(), Depth()


class Pooled(nn.Module):
    """A vector head on one map of a trunk."""

    def __init__(self, channels: int, size: int, at: int | str | None = None) -> None:
        super().__init__()
        self.at, self.linear = at, nn.Linear(channels, size)

    def forward(self, feature):
        x = feature if self.at is None else feature[self.at]
        return self.linear(x.mean((2, 3)))


class Map(nn.Module):
    """A map of the size of the images, of two maps of a trunk."""

    def __init__(self, channels: tuple[int, int], at: tuple[int | str, int | str], side: int) -> None:
        super().__init__()
        self.at, self.side = at, side
        self.one, self.two = (nn.Conv2d(c, 1, 1) for c in channels)

    def forward(self, feature):
        maps = [conv(feature[at]) for conv, at in zip((self.one, self.two), self.at, strict=True)]
        return sum(nn.functional.interpolate(x, self.side) for x in maps)


def vectors(channels):
    return {"class": (nn.Linear(channels, 5), CLASS), "box": (nn.Linear(channels, 4), BOX)}


def pooled(channels):
    return {"class": (Pooled(channels, 5), CLASS), "box": (Pooled(channels, 4), BOX)}


def several(channels, at):
    return {"class": (Pooled(channels[1], 5, at[1]), CLASS), "depth": (Map(channels, at, 32), DEPTH)}


CASES = {
    "torchvision, a vector": lambda: (models.squeezenet1_1(num_classes=12), vectors(12)),
    "torchvision without its last layer": lambda: (without_last(models.mnasnet0_5()), vectors(1280)),
    "torchvision, maps by name": lambda: (
        create_feature_extractor(models.resnet18(), {"layer1": "fine", "layer2": "coarse"}),
        several((64, 128), ("fine", "coarse")),
    ),
    "timm, a vector": lambda: (timm.create_model("resnet10t", num_classes=0), vectors(512)),
    "timm, a map": lambda: (timm.create_model("resnet10t", num_classes=0, global_pool=""), pooled(512)),
    "timm, a list of maps": lambda: (
        timm.create_model("resnet10t", features_only=True, out_indices=(1, 2)),
        several((64, 128), (0, 1)),
    ),
    "timm, tokens": lambda: (
        timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=0),
        vectors(192),
    ),
}


def without_last(net):
    net.classifier = nn.Identity()
    return net


@pytest.mark.parametrize("case", CASES)
def test_trunks_of_others(case):
    torch.manual_seed(0)
    trunk, decoders = CASES[case]()
    net = multi_task(trunk, decoders, input_size=(3, 32, 32)).eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        outputs, feature = net(x), trunk(x)
        expected = [decoder(feature) for decoder, _ in decoders.values()]
    assert all(map(torch.equal, outputs, expected))
    owners = net.owners()
    assert {k for name, ks in owners.items() if name.startswith("decoders.0.") for k in ks} == {0}
    assert {0, 1} in [set(ks) for name, ks in owners.items() if name.startswith("stages.")]
    counted = offramp.cost(net)
    assert not counted.unknown and counted.params == sum(p.numel() for p in net.parameters())
    assert [e.flops for e in counted.exits] == [e.flops for e in offramp.cost(Separate(net)).exits]
    bound = offramp.method("pcgrad").bind(net.train())
    size = outputs[1].shape
    targets = {"class": torch.tensor([0, 4]), list(decoders)[1]: torch.rand(size)}
    assert len(bound.backward(x, targets)) == 2
    assert all(p.grad is not None for name, p in net.named_parameters() if owners[name])


@pytest.mark.parametrize(
    ("trunk", "decoders", "message"),
    [
        (
            lambda: models.googlenet(init_weights=False, num_classes=12),
            lambda: vectors(12),
            r"'class' \(Linear\) cannot run on a GoogLeNetOutputs of .* in training mode",
        ),
        (
            lambda: timm.create_model("resnet10t", features_only=True),
            lambda: pooled(512),
            r"'class' \(Pooled\) cannot run on a list of \[2, 64, 16, 16\], ",
        ),
        (
            lambda: timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=0),
            lambda: vectors(192),
            r"the trunk \(VisionTransformer\) cannot run on \[2, 3, 32, 32\]",
        ),
        (
            lambda: models.resnet18(num_classes=12),
            lambda: vectors(512),
            r"\(Linear\) cannot run on \[2, 12\]",
        ),
    ],
)
def test_what_cannot_work_gets_one_line(trunk, decoders, message):
    with pytest.raises(UserError, match=message) as caught:
        multi_task(trunk(), decoders(), input_size=(3, 32, 32))
    assert "\n" not in str(caught.value)
