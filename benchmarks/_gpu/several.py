"""Nets of several tasks: some steps of the methods on the device against the CPU, and one step's gradients.

The steps are those of a small smooth net on rendered rooms. A SegNet is held to the CPU by its losses alone:
its max-pooling picks among the equal pixels of a flat wall by their last bits, and goes on from there.
Its gradients are compared on noise, which has no such ties, to those in float64.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from _clock import precision
from torch import Tensor, nn

import offramp
import offramp.nets
from _gpu.finding import Cases, Finding, Where, distance, flat
from _gpu.gradients import FLIPS, has_exits
from _gpu.methods import ROUNDED, moved
from offramp import Recipe
from offramp.data import Batch, OpenedData, open_data
from offramp.methods import method
from offramp.methods.bound import BoundMethod
from offramp.nets import NETS, Net
from offramp.nets.text import build
from offramp.tasks import Depth, Normals, Segmentation

__all__ = ["several", "several_bf16"]

ROOMS = "rooms:images=14,test=2,height=32,width=32"  # 12 images to train on
RECIPE = Recipe(
    epochs=1, batch_size=4, lr=0.02, schedule="constant", channels_last=False, augment="none", last_epochs=0
)
METHODS = (
    "joint", "dfs", "uncertainty", "pcgrad", "cagrad", "nash-mtl", "mgda", "meta-gf-nyu", "dr-mgf-nyu",
    "dfs+pcgrad",
)  # fmt: skip
SEGNETS = {
    "segnet_split:width=4": ("joint", "dfs"),
    "segnet_mtan:width=4": ("joint", "nash-mtl", "meta-gf-nyu", "dr-mgf-nyu"),
}
LOSSES = 1e-2  # of a SegNet


def several(where: Where) -> Cases:
    """Methods in float32, on a smooth net and on SegNets; and the SegNets' gradients."""
    cases = _steps(where, RECIPE, *ROUNDED["float32"])
    nets = dict([*SEGNETS.items()][:1] if where.small else SEGNETS)
    for net, names in nets.items():
        for name in names[:1] if where.small else names:
            cases[f"{net} {name}"] = functools.partial(_segnet, net, name, where.device)
    for net in ("segnet_split",) if where.small else [name for name in NETS if not has_exits(name)]:
        cases[f"{net} gradient"] = functools.partial(_gradient, net, where.device)
    return cases


def several_bf16(where: Where) -> Cases:
    """Methods under bfloat16's autocast, on a smooth net."""
    return _steps(where, RECIPE.replace(precision="bf16"), *ROUNDED["bfloat16"])


def _steps(where: Where, recipe: Recipe, movement: float, losses: float) -> Cases:
    def check(name: str) -> Mapping[str, Finding]:
        wanted = moved(_smooth, _rooms, method(name), RECIPE, "cpu")
        found = moved(_smooth, _rooms, method(name), recipe, where.device)
        return {
            "movement": Finding(distance(found[0], wanted[0]), movement),
            "losses": Finding(distance(found[1], wanted[1]), losses),
        }

    return {name: functools.partial(check, name) for name in (METHODS[:3] if where.small else METHODS)}


def _rooms() -> OpenedData:
    return open_data(ROOMS)


def _smooth() -> Net:
    """A trunk and a decoder for each task, without a unit that switches."""
    torch.manual_seed(0)
    trunk = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1), nn.Tanh()
    )
    decoders = {
        "segmentation": (nn.Conv2d(8, 13, 1), Segmentation()),
        "depth": (nn.Conv2d(8, 1, 1), Depth()),
        "normals": (nn.Conv2d(8, 3, 1), Normals()),
    }
    return offramp.multi_task(trunk, decoders, input_size=(3, 32, 32))


def _segnet(text: str, name: str, device: str) -> Mapping[str, Finding]:
    def net() -> Net:
        torch.manual_seed(0)
        data = _rooms()
        return build(text, input_size=data.input_size, targets=data.targets)

    wanted, found = (moved(net, _rooms, method(name), RECIPE, there)[1] for there in ("cpu", device))
    return {"losses": Finding(distance(found, wanted), LOSSES)}


def _gradient(name: str, device: str) -> Mapping[str, Finding]:
    torch.manual_seed(0)
    net = offramp.nets.create(name, width=4).train()
    draws = torch.Generator().manual_seed(1)
    size = (2, 64, 64)
    targets = {
        "segmentation": torch.randint(-1, 13, size, generator=draws),
        "depth": torch.rand(size, generator=draws).unsqueeze(1),
        "normals": F.normalize(torch.randn(*size, 3, generator=draws).movedim(-1, 1), dim=1),
    }
    targets = {task: targets[task] for task in net.outputs}
    images = torch.rand(2, 3, 64, 64, generator=draws)

    def gradient(net: Net, images: Tensor, there: str) -> Tensor:
        bound = BoundMethod(method("joint"), net)
        step = bound.step(Batch(images, targets).to(there), net, [*net.outputs.values()], reach={"trunk"})
        with precision("float32", there):
            torch.stack(bound.losses_of(step)).sum().backward()
        return flat({n: p.grad for n, p in net.named_parameters() if p.grad is not None})

    wanted = gradient(copy.deepcopy(net).double(), images.double(), "cpu")
    found = gradient(copy.deepcopy(net).to(device), images, device)
    return {"gradient": Finding(distance(found, wanted), FLIPS)}
