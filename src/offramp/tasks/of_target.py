"""The task of a target: which one an output has that predicts what samples are labelled with."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from offramp.data.targets import Target
from offramp.tasks import (
    Boxes,
    Classification,
    Depth,
    MultiLabel,
    Normals,
    Regression,
    Segmentation,
    Task,
)

__all__ = ["KINDS", "task_of"]

KINDS: Mapping[type[Task], str] = MappingProxyType(
    {
        Classification: "class",
        MultiLabel: "labels",
        Regression: "values",
        Boxes: "box",
        Segmentation: "segmentation",
        Depth: "depth",
        Normals: "normals",
    }
)  # task -> the kind of target that it learns from


def task_of(key: str, target: Target) -> Task:
    """The task, with its defaults, that predicts a target.

    Args:
        key: Of the target among a batch's targets.
        target: What it is.
    """
    tasks: dict[str, Any] = {kind: task for task, kind in KINDS.items()}
    task: Task = tasks[target.kind](target=key)
    return task
