"""Whether two run folders hold the same run, bit for bit."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

__all__ = ["difference"]

CLOCK = ("seconds", "images_per_second")  # columns that tell the time


def difference(folder: Path, reference: Path) -> str | None:
    """What differs between two finished runs, in words; None if nothing does."""
    for name in ("run.json", "result.json", "weights.safetensors", "average.safetensors"):
        if _content(folder / name) != _content(reference / name):
            return f"{name} differs"
    if _rows(folder) != _rows(reference):
        return "metrics.csv differs"
    states = [_state(run) for run in (folder, reference)]
    return None if _same(*states) else "the state of the last checkpoint differs"


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return [{key: v for key, v in row.items() if key not in CLOCK} for row in csv.DictReader(file)]


def _state(folder: Path) -> Any:
    import torch

    (path,) = folder.glob("checkpoint/epoch-*/state.pt")
    state = torch.load(path, weights_only=True)
    return [state[key] for key in ("epoch", "loop", "precision", "rng")]


def _same(one: Any, other: Any) -> bool:
    """Whether two nested values of tensors and plain values are equal."""
    import torch

    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(_same(one[k], other[k]) for k in one)
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
