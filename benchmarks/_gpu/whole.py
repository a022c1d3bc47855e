"""What a user does around the steps: data, resuming, looking at a net; and what a step takes in memory."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from _clock import Clock
from torch import nn

import offramp.nets
from _gpu.finding import Cases, Finding, Where, distance, flat
from _gpu.small import CLASSES, RECIPE, noise, small_net
from offramp import Recipe, attach, cost, fit
from offramp.data import Split, pipeline
from offramp.data.pipelines import PIPELINES
from offramp.forks import partition
from offramp.nets import MultiExitNet

__all__ = ["data", "memory", "resume", "tools"]

RESUMED = ("dfs", "byot", "graddrop", "nash-mtl", "dr-mgf", "meta-gf")


def data(where: Where) -> Cases:
    """Every augmentation gives the same batches on the device."""
    return {
        name: functools.partial(_batches, name, where.device)
        for name, found in PIPELINES.items()
        if not found.resized_crop  # cuts images as they are read, on the CPU
    }


def _batches(name: str, device: str) -> Mapping[str, Finding]:
    apart, elsewhere = 0.0, 0
    found = [
        list(noise().train.batches(32, transform=pipeline(name, noise())[0], device=where, shuffle=True))
        for where in ("cpu", device)
    ]
    for wanted, batch in zip(*found, strict=True):
        apart = max(apart, float((batch.inputs.cpu() - wanted.inputs).abs().max()))
        same = torch.equal(batch.targets["label"].cpu(), wanted.targets["label"])
        elsewhere += batch.inputs.device.type != device or not same
    # One fused multiply-add more or less, of values up to 3; but for brightness, whose rounding to a whole
    # level a last bit may decide.
    return {"largest difference": Finding(apart, 1e-5), "wrong labels or device": Finding(elsewhere, 0)}


def resume(where: Where) -> Cases:
    """A killed run that goes on is the run that was not killed, to the bit; dropout draws on the device."""
    return {
        name: functools.partial(_resumed, name, where) for name in (RESUMED[:1] if where.small else RESUMED)
    }


class _Killed(Exception):
    pass


class _Deadly(Split):
    """Ends a run in its second epoch."""

    def batches(self, *arguments: object, epoch: int = 0, start: int = 0, **rest: object):  # type: ignore[override]
        given = super().batches(*arguments, epoch=epoch, start=start, **rest)
        for number, batch in enumerate(given, start):
            if epoch >= self.last and number == 2:
                raise _Killed
            yield batch

    last = 1


def _resumed(name: str, where: Where) -> Mapping[str, Finding]:
    recipe = RECIPE.replace(epochs=2, checkpoint_every=1)

    def net() -> MultiExitNet:
        made = small_net()
        for head in made.heads:
            head.insert(2, nn.Dropout(0.3))
        return made

    with tempfile.TemporaryDirectory() as place:
        whole = fit(net(), noise(), name, recipe, Path(place) / "whole", quiet=True, device=where.device)
        cut = Path(place) / "cut"
        try:
            fit(net(), noise(_Deadly), name, recipe, cut, quiet=True, device=where.device)
        except _Killed:
            pass
        else:
            raise AssertionError("the run was to be killed and was not")
        again = fit(net(), noise(), name, recipe, cut, resume=True, quiet=True, device=where.device)
    wanted, found = (flat(run.net.state_dict()) for run in (whole, again))
    return {"distance": Finding(distance(found, wanted), 0)}


def tools(where: Where) -> Cases:
    """What looks at a net on the device finds what it finds on the CPU."""
    return {
        "owners": functools.partial(_owners, where.device),
        "cost": functools.partial(_cost, where.device),
        "attach": functools.partial(_attach, where.device),
        "diagnose": functools.partial(_diagnose, where.device),
    }


def _owners(device: str) -> Mapping[str, Finding]:
    wanted, found = small_net().owners(), small_net().to(device).owners()
    return {"other owners": Finding(sum(found[name] != wanted[name] for name in wanted), 0)}


def _cost(device: str) -> Mapping[str, Finding]:
    nets = small_net(), small_net().to(device)
    for net in nets:
        partition(net)
    wanted, found = (cost(net) for net in nets)
    return {"other costs": Finding(sum(a != b for a, b in zip(found.exits, wanted.exits, strict=True)), 0)}


def _attach(device: str) -> Mapping[str, Finding]:
    outputs = []
    for there in ("cpu", device):
        torch.manual_seed(0)
        backbone = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()),
            nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            nn.Linear(8, CLASSES),
        ).to(there)
        net = attach(backbone, at=["0"], input_size=(3, 16, 16))
        images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)).to(there)
        outputs.append(net(images)[-1])
    return {"distance": Finding(distance(outputs[1], outputs[0]), 1e-5)}


def _diagnose(device: str) -> Mapping[str, Finding]:
    from offramp.analysis import Settings, diagnose

    recipe = Recipe(epochs=1, batch_size=32, schedule="constant", train_limit=320, test_limit=100)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        net = offramp.nets.vgg7(num_classes=10, width=4)
        fit(net, "digits", "dr-mgf", recipe, folder, quiet=True, device=device)
        diagnose([folder], Settings(batches=2)).write(Path(place) / "diagnosis")
        files = len(list((Path(place) / "diagnosis").iterdir()))
    return {"missing files": Finding(max(0, 5 - files), 0)}  # numbers, and a picture of most topics


def memory(where: Where) -> Cases:
    """What a step of DFS takes, beside one of joint training; a GPU's allocator alone can tell."""
    if not Clock(where.device).cuda:
        return {}
    return {
        layout: functools.partial(_memory, layout, where.device) for layout in ("default", "channels_last")
    }


def _memory(layout: str, device: str) -> Mapping[str, Finding]:
    memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    images = torch.randn(256, 3, 32, 32, device=device).to(memory_format=memory_format)
    targets = torch.randint(100, (256,), device=device)
    peaks = {}
    for method in ("joint", "dfs"):
        net = offramp.nets.vgg7().to(device, memory_format=memory_format)
        if method == "dfs":
            partition(net)

        def step(net: nn.Module = net) -> None:
            net.zero_grad(set_to_none=True)
            torch.stack([F.cross_entropy(o, targets) for o in net(images)]).sum().backward()

        step()
        net.zero_grad(set_to_none=True)
        peaks[method] = Clock(device).peak(step)
    # the same activations are kept; the workspaces of the kernels that are chosen differ
    return {"dfs over joint": Finding(peaks["dfs"] / peaks["joint"], 1.1)}
