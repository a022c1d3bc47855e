"""What the arguments of a training may be: their types, and a net that can be trained at all."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from offramp.checks import flag, of_kind, path_of
from offramp.errors import UserError
from offramp.methods import Method
from offramp.nets.net import check_net
from offramp.output_paths import checked_path
from offramp.recipes import Recipe

__all__ = ["check_arguments"]

METHOD = "a method's name, e.g. 'dfs', or what offramp.method() returns"
RECIPE = "a Recipe, e.g. offramp.Recipe(epochs=10) or offramp.Recipe.load('recipe.yaml')"


def check_arguments(
    net: object, method: object, recipe: object, out: object, device: object, **flags: object
) -> Path | None:
    """Check the arguments of :func:`~offramp.training.fit` but the data, which say themselves what they are.

    Returns:
        The run folder.

    Raises:
        UserError: One has another type, or the net has nothing to train, or lies on several devices.
    """
    check_net(net, "net")
    assert isinstance(net, nn.Module)
    _check_devices(net)
    of_kind("method", method, str | Method | None, METHOD)
    of_kind("recipe", recipe, Recipe | None, RECIPE)
    of_kind("device", device, str, "'auto', 'cpu', 'cuda' or 'mps'")
    for name, value in flags.items():
        flag(name, value)
    return None if out is None else checked_path(path_of("out", out, "a run folder"))


def _check_devices(net: nn.Module) -> None:
    name = type(net).__name__
    devices: dict[str, str] = {str(p.device): key for key, p in net.named_parameters()}
    if not devices:
        raise UserError(
            f"{name} has no parameters, so that there is nothing to train; give a net with layers"
        )
    if "meta" in devices:
        raise UserError(
            f"{devices['meta']} of {name} is on the meta device and has no values; make them with "
            "net.to_empty(device='cpu') and initialise them, or build the net without torch.device('meta')"
        )
    if len(devices) > 1:
        where = ", ".join(f"{key} on {device}" for device, key in devices.items())
        raise UserError(f"{name} lies on several devices, {where}; move it to one, e.g. net.to('cpu')")
