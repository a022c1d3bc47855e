"""Every named method: some steps on the device against the same steps on the CPU in float32.

Compared is where ``offramp.fit`` takes the parameters, as the distance of the two movements over the length
of the CPU's, and the losses of the epoch, likewise. On the smooth net both follow from the unit roundoff u
of the arithmetic (float32: 6e-8, float16: 5e-4, bfloat16: 4e-3): some seven layers forth and back, weights
that divide by norms, and steps that go on from rounded weights make a few u to some tens of u of it. The
bounds are four to ten times what two CPU kernels with other orders of summation, or autocast on a CPU, show.
"""

from __future__ import annotations

import csv
import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from _gpu.finding import Cases, Finding, Where, distance, flat
from _gpu.small import RECIPE, noise, small_net
from offramp import Recipe, fit
from offramp.data import OpenedData
from offramp.methods import METHODS, method
from offramp.methods.method import Method
from offramp.nets import Net

__all__ = ["ROUNDED", "bf16", "channels_last", "compiled", "fp16", "fp32", "moved"]

COMPOSED = ("dfs+kd", "dfs+byot", "dfs+pcgrad", "dfs+ge", "ge+kd", "kd+dr-mgf", "dfs+dr-mgf", "kd+meta-gf")
OPTIONS: dict[str, dict[str, Any]] = {
    # its draws are the device's own; with all rows passing, everything but the draws is compared
    "graddrop": {"leak": 1.0},
    "aggregate": {"aggregator": "ConFIG"},  # one that takes the rows themselves
}
ROUNDED = {"float32": (2e-4, 2e-5), "bfloat16": (0.1, 5e-3), "float16": (0.02, 1e-3)}  # movement, losses
SOME = ("joint", "dfs+kd", "mgda", "graddrop", "dr-mgf", "separate")  # an own way to a gradient each
COMPILED = ("joint", "dfs", "kd", "byot", "mgda", "dr-mgf")


def fp32(where: Where) -> Cases:
    """Every method in float32, without TF32."""
    return _all(where, RECIPE, *ROUNDED["float32"])


def bf16(where: Where) -> Cases:
    """Every method under bfloat16's autocast."""
    return _all(where, RECIPE.replace(precision="bf16"), *ROUNDED["bfloat16"])


def fp16(where: Where) -> Cases:
    """Every method under float16's autocast, with a GradScaler."""
    return _all(where, RECIPE.replace(precision="fp16"), *ROUNDED["float16"])


def channels_last(where: Where) -> Cases:
    """Every method in the channels-last memory format."""
    return _all(where, RECIPE.replace(channels_last=True), *ROUNDED["float32"])


def compiled(where: Where) -> Cases:
    """Some methods under torch.compile; compiling takes long."""
    names = COMPILED[1:2] if where.small else COMPILED
    return _all(where, RECIPE.replace(compile=True), *ROUNDED["float32"], names=names)


def _all(
    where: Where, recipe: Recipe, movement: float, losses: float, *, names: tuple[str, ...] = ()
) -> Cases:
    def check(name: str) -> Mapping[str, Finding]:
        row = method(name, OPTIONS.get(name))
        wanted = moved(small_net, noise, row, RECIPE, "cpu")
        found = moved(small_net, noise, row, recipe, where.device)
        return {
            "movement": Finding(distance(found[0], wanted[0]), movement),
            "losses": Finding(distance(found[1], wanted[1]), losses),
        }

    names = names or (SOME if where.small else (*METHODS, *COMPOSED))
    return {name: functools.partial(check, name) for name in names}


def moved(
    net: Callable[[], Net], data: Callable[[], OpenedData], row: Method, recipe: Recipe, device: str
) -> tuple[Tensor, Tensor]:
    """How far an epoch takes each parameter, and the losses of each part of it.

    Args:
        net: Makes a net, the same each time.
        data: Makes its set.
        row: The method.
        recipe: How to train.
        device: Where.
    """
    begun = dict(row.prepare(net()).named_parameters())
    with tempfile.TemporaryDirectory() as place:
        trained = fit(net(), data(), row, recipe, Path(place) / "run", quiet=True, device=device).net
        losses = _losses(Path(place) / "run")
    return flat({n: p.detach().cpu() - begun[n] for n, p in trained.named_parameters()}), losses


def _losses(folder: Path) -> Tensor:
    parts = folder / "parts.csv"
    with open(parts if parts.exists() else folder / "metrics.csv", newline="") as file:
        values = [
            float(value)
            for row in csv.DictReader(file)
            for key, value in row.items()
            if key.startswith("train_loss")
        ]
    return torch.tensor(values, dtype=torch.float64).nan_to_num()  # nan: this exit did not run
