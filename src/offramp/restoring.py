"""Stored states of optimisers and methods, checked before they are put back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from offramp.errors import shown
from offramp.stored_values import check_like, check_whole

__all__ = ["load_module", "load_optimizer", "load_precision"]

# What torch's optimisers remember of a parameter; a tensor without axes counts steps.
MEMORY = {
    torch.optim.SGD: ("momentum_buffer",),
    torch.optim.Adam: ("step", "exp_avg", "exp_avg_sq"),
    torch.optim.AdamW: ("step", "exp_avg", "exp_avg_sq"),
}


def load_module(module: nn.Module, state: Any) -> None:
    """Restore a module's ``state_dict``, if the tensors in it are like the module's.

    Raises:
        ValueError: They are not.
    """
    if not isinstance(state, Mapping):
        raise ValueError(f"the method's state is {shown(state)}, must be a mapping")
    check_like(_without_extra(state), _without_extra(module.state_dict()), "method")
    module.load_state_dict(state)


def _without_extra(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state_dict without what its parts check by themselves."""
    return {key: None if str(key).endswith("_extra_state") else value for key, value in state.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, state: Any) -> None:
    """Restore an optimiser's ``state_dict``, if it is of these parameters under these settings.

    The learning rate may be another one, since every step sets it.

    Raises:
        ValueError: It is of others, or what it remembers is not finite.
    """
    own = optimizer.state_dict()
    if not isinstance(state, Mapping) or state.keys() != own.keys():
        raise ValueError(f"the optimiser's state is {shown(state)}, must be a mapping with {', '.join(own)}")
    groups, now = state["param_groups"], own["param_groups"]
    if not isinstance(groups, list) or len(groups) != len(now):
        raise ValueError(f"the optimiser has {len(now)} groups of parameters, its state is of others")
    for found, group in zip(groups, now, strict=True):
        _check_group(found, group)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if not isinstance(state["state"], Mapping):
        raise ValueError(f"the optimiser's state is {shown(state['state'])}, must be a mapping")
    for place, memory in state["state"].items():
        if type(place) is not int or not 0 <= place < len(parameters):
            raise ValueError(
                f"the optimiser has {len(parameters)} parameters, and its state one {shown(place)}"
            )
        _check_memory(optimizer, parameters[place], memory, f"parameter {place} of the optimiser")
    if hasattr(optimizer, "parts"):
        _load_parts(optimizer.parts, state["parts"])
    settled = [{**group, **found} for found, group in zip(groups, now, strict=True)]
    optimizer.load_state_dict({**state, "param_groups": settled})


def _load_parts(parts: Sequence[torch.optim.Optimizer], states: Any) -> None:
    """Restore the optimisers that another one is made of.

    Raises:
        ValueError: As :func:`load_optimizer`, or there are more or fewer states.
    """
    if not isinstance(states, list) or len(states) != len(parts):
        raise ValueError(f"the optimiser has {len(parts)} parts, and its state is of others")
    for part, state in zip(parts, states, strict=True):
        load_optimizer(part, state)


def load_precision(precision: Any, state: Any) -> None:
    """Restore the state of Fabric's precision: of fp16, the scale of the loss.

    Raises:
        ValueError: It is of another precision, or no scale.
    """
    now = precision.state_dict()
    check_like(state, now, "precision")
    if state.get("scale", 1.0) <= 0:
        raise ValueError(f"the scale of the loss is {state['scale']}")
    for name in now.keys() - {"scale", "_growth_tracker"}:
        if state[name] != now[name]:
            raise ValueError(f"{name} of the loss's scale is {state[name]}, must be {now[name]}")
    if now:
        check_whole(state["_growth_tracker"], "steps since the loss's scale grew", 0, now["growth_interval"])
    precision.load_state_dict(state)


def _check_group(found: Any, now: Mapping[str, Any]) -> None:
    if not isinstance(found, Mapping) or "params" not in found:
        raise ValueError(f"a group of the optimiser is {shown(found)}, must be a mapping with its params")
    for name, value in now.items():  # a later version of torch may know more settings
        stored = found.get(name, value)
        if name in ("lr", "initial_lr"):
            check_like(stored, value, f"{name} of the optimiser")
        elif type(stored) is not type(value) or stored != value:
            raise ValueError(f"{name} of the optimiser is {shown(stored)}, must be {shown(value)}")


def _check_memory(optimizer: torch.optim.Optimizer, parameter: Tensor, memory: Any, name: str) -> None:
    """Check what an optimiser remembers of a parameter."""
    known = MEMORY[type(optimizer)]
    if not isinstance(memory, Mapping) or set(memory) != set(known):
        raise ValueError(f"{name} has {shown(memory)}, must have {', '.join(known)}")
    for key, value in memory.items():
        if key == "step":
            check_like(value, torch.tensor(0.0), f"{key} of {name}")
            if value < 1 or value != value.round():
                raise ValueError(f"{key} of {name} is {float(value)}, must be a number of steps")
        elif value is not None or optimizer.defaults["momentum"]:
            check_like(value, parameter.detach(), f"{key} of {name}")
        if key == "exp_avg_sq" and bool((value < 0).any()):
            raise ValueError(f"{key} of {name} is below 0")
