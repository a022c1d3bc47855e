"""Groups of parameters with a learning rate and a weight decay of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from offramp.errors import UserError
from offramp.nets import Net
from offramp.recipes.recipe import Recipe

__all__ = ["grouped"]

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def grouped(parameters: Iterable[Any], recipe: Recipe, net: Net, *others: nn.Module) -> Iterable[Any]:
    """The parameters in groups, one for each learning rate and decay.

    Args:
        parameters: All that is trained.
        recipe: Says whether heads, and norm layers and biases, differ from the rest; if not, the
            parameters are returned as they came.
        net: Whose heads they are; in a :class:`~offramp.nets.Separate` the last part of each network.
        others: Further modules, whose norm layers and biases count too. The parameters of a module may have
            ``optimizer_settings`` of their own: ``lr``, the peak, and ``weight_decay``.

    Returns:
        Groups as torch's optimisers take them. ``lr_factor`` is what loops multiply the learning rate by.
    """
    own = _own_settings((net, *others))
    if not recipe.own_groups and not own:
        return parameters
    heads = _heads(net, recipe)
    light = {id(p) for module in (net, *others) for p in _norms_and_biases(module)} - own.keys()
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in parameters:
        factor, decay = 1.0, recipe.weight_decay
        if id(parameter) in own:
            settings = own[id(parameter)]
            factor = settings.get("lr", recipe.lr) / recipe.lr
            decay = settings.get("weight_decay", decay)
        elif id(parameter) in heads:
            factor *= recipe.head_lr_factor
            decay = decay if recipe.head_decay is None else recipe.head_decay
        if id(parameter) in light:
            factor *= recipe.norm_lr_factor
            decay = decay if recipe.norm_decay is None else recipe.norm_decay
        groups.setdefault((factor, decay), []).append(parameter)
    return [
        {"params": members, "lr_factor": factor, "weight_decay": decay}
        for (factor, decay), members in groups.items()
    ]


def _heads(net: Net, recipe: Recipe) -> set[int]:
    """Ids of the parameters of the net's heads.

    Raises:
        UserError: The recipe has settings for heads, and the net does not say which modules those are.
    """
    heads = getattr(net, "heads", None)
    if heads is None and (recipe.head_lr_factor, recipe.head_decay) != (1.0, None):
        raise UserError(
            f"head_lr_factor and head_decay are for heads, and {type(net).__name__} has none by that name; "
            "set its `heads`, a ModuleList, or leave them out"
        )
    return {id(p) for head in heads or () for p in head.parameters()}


def _own_settings(modules: Iterable[nn.Module]) -> dict[int, Mapping[str, float]]:
    """Settings that parameters of a method have of their own, by the parameters' ids."""
    settings_of: dict[int, Mapping[str, float]] = {}
    for module in (part for root in modules for part in root.modules()):
        settings = getattr(module, "optimizer_settings", {})
        settings_of |= {id(p): settings for p in module.parameters() if settings}
    return settings_of


def _norms_and_biases(module: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters of norm layers, biases, and all of one dimension, as norm layers of other makes have."""
    for part in module.modules():
        norm = isinstance(part, _NORMS)
        for name, parameter in part.named_parameters(recurse=False):
            if norm or parameter.dim() < 2 or name == "bias":
                yield parameter
