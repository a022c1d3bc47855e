"""``manifest.json``: what a bundle holds, for programs that have neither torch nor ONNX to ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from offramp.bundles._inputs import Description
from offramp.bundles._joined import JoinedNet

__all__ = ["FORMAT", "MODEL", "manifest", "stage_name"]

FORMAT = 1
MODEL = "model.onnx"


def stage_name(place: int) -> str:
    """The file of a step's graph, by its place from 0."""
    return f"stage{place + 1}.onnx"


def manifest(
    net: str,
    joined: JoinedNet,
    description: Description,
    costs: Sequence[int | None],
    *,
    precision: str,
    figures: Mapping[str, Any] | None,
    confidence: str,
) -> dict[str, Any]:
    """The content of the manifest.

    Args:
        net: What the net is called.
        joined: Its graphs.
        description: What it reads, and its classes.
        costs: Operations of a sample that leaves at each evaluated exit; None: unknown.
        precision: ``"fp32"`` or ``"int8"``.
        figures: What 8 bits cost, on validation samples.
        confidence: By which samples leave.
    """
    return {
        "offramp_bundle": FORMAT,
        "written_by": f"offramp {version('offramp')}",
        "net": net,
        "precision": precision,
        **({} if figures is None else {"int8": figures}),
        "inputs": [
            {"name": each.name, "dtype": each.dtype, "shape": _sizes(each.shape)}
            for each in description.inputs
        ],
        "image": description.image,
        "classes": [*(description.classes or map(str, range(joined.classes)))],
        "confidence": confidence,
        "thresholds": joined.thresholds,
        "exits": [
            {
                "exit": step.exit,
                "cost": cost,
                "graph": stage_name(place),
                "carried": [
                    {
                        "name": value.name,
                        "dtype": value.dtype,
                        "shape": _sizes(value.shape[value.batched :]),
                        "batched": value.batched,
                    }
                    for value in step.carries
                ],
            }
            for place, (step, cost) in enumerate(zip(joined.steps, costs, strict=True))
        ],
    }


def _sizes(shape: Sequence[int | str]) -> list[int | None]:
    """The sizes of axes; None for those of any size."""
    return [size if isinstance(size, int) else None for size in shape]
