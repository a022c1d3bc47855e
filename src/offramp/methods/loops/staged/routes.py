"""Routes of a finished run of DR-MGF: ``routes.safetensors`` in its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from offramp.errors import UserError, shown
from offramp.methods.loops.staged._importance import Importance
from offramp.methods.loops.staged._learned_mean import LearnedMean
from offramp.plain_json import parse_json
from offramp.stored_values import check_finite

__all__ = ["Route", "read_routes", "routes_bytes"]

OWNERS = "owners"


@dataclass(frozen=True)
class Route:
    """How much the outputs need each kernel of one convolution.

    Attributes:
        owners: The outputs (from 0, ascending) that own the weight.
        importance: \\|nu\\|, ``[owners, m, n]``, not normalised.
        scale: Factors of it that the fusion learned, ``[owners, m, n]``; ones where it learns none.
    """

    owners: tuple[int, ...]
    importance: Tensor
    scale: Tensor


def routes_bytes(variables: Importance, mean: LearnedMean) -> bytes:
    """Routes in the safetensors format."""
    tensors = {}
    for name in variables.owners:
        importance = variables.of(name).detach()
        scale = mean.scale(name)
        tensors[f"{name}/importance"] = importance.cpu().contiguous()
        tensors[f"{name}/scale"] = (
            (torch.ones_like(importance) if scale is None else scale.detach()).cpu().contiguous()
        )
    return safetensors.torch.save(tensors, metadata={OWNERS: json.dumps(variables.owners)})


def read_routes(path: str | Path) -> dict[str, Route]:
    """Read the routes of a finished run, by parameter name.

    Args:
        path: ``routes.safetensors`` in its folder.

    Raises:
        UserError: The file is missing or damaged.
    """
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            owners = parse_json(file.metadata()[OWNERS].encode())
            return {
                name: _route(
                    outputs, *(file.get_tensor(f"{name}/{field}") for field in ("importance", "scale"))
                )
                for name, outputs in owners.items()
            }
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing; only runs of the dr-mgf family and dr-avgf keep routes"
        ) from None
    except (safetensors.SafetensorError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged or holds no routes ({error}); train anew") from None


def _route(owners: list[int], importance: Tensor, scale: Tensor) -> Route:
    """A route, if it is one.

    Raises:
        ValueError: The owners are no growing indices, or a factor is missing, below 0 or not finite.
    """
    indices = all(type(owner) is int and owner >= 0 for owner in owners)
    if not owners or not indices or owners != sorted(set(owners)):
        raise ValueError(f"{shown(owners)} are no outputs")
    for factors in (importance, scale):
        if factors.dim() != 3 or len(factors) != len(owners) or factors.shape != importance.shape:
            raise ValueError(f"factors of shape {tuple(factors.shape)} for {len(owners)} outputs")
        check_finite(factors, "a factor")
        if bool((factors < 0).any()):
            raise ValueError("a factor is below 0")
    return Route(tuple(owners), importance, scale)
