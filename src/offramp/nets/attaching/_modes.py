"""The modes of a net made of a backbone, and the freezing of its parameters."""

from __future__ import annotations

from torch import fx, nn

from offramp.modes import modes_kept
from offramp.nets.attaching._replay_stage import ReplayStage
from offramp.nets.multi_exit import MultiExitNet

__all__ = ["copy_modes", "freeze"]


def copy_modes(net: MultiExitNet, backbone: nn.Module) -> None:
    """The user's modules keep their modes, new ones take those of the modules that they stand for.

    All that is not the backbone's is in eval mode if the backbone itself is.
    """
    if not backbone.training:
        with modes_kept(backbone):
            net.eval()
    parts = set(backbone.modules())
    for ours in (*net.stages, *net.heads[-1].modules()):
        if not isinstance(ours, (fx.GraphModule, ReplayStage)):
            continue
        for name, module in ours.named_modules():
            if module not in parts:
                original = backbone
                for atom in name.removeprefix("backbone").removesuffix("is_training").strip(".").split("."):
                    original = original._modules.get(atom) or original
                module.training = original.training


def freeze(net: MultiExitNet, backbone: nn.Module) -> None:
    """Freeze all that is the backbone's, its own head too, and keep it in eval mode."""
    for part in (backbone, *net.stages, net.heads[-1]):
        part.requires_grad_(False)
    net.frozen_backbone = True
    backbone.eval()
    net.train(net.training)
