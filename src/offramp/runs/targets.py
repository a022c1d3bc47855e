"""What the targets of a run's data were, as ``run.json`` notes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offramp.data.targets import LABEL, Target, only_class

__all__ = ["targets_from_json", "targets_to_json"]


def targets_to_json(targets: Mapping[str, Target]) -> dict[str, Any]:
    """The part of a record's ``data`` that tells the targets; of classes alone, the classes."""
    only = only_class(targets)
    if only is not None:
        return {"num_classes": only.size, "classes": only.classes}
    return {"targets": {key: _to_json(target) for key, target in targets.items()}}


def targets_from_json(data: Mapping[str, Any]) -> dict[str, Target]:
    """The targets that a record's ``data`` tells."""
    if "targets" not in data:
        return {LABEL: Target("class", tuple(data["classes"]))}
    return {
        key: Target(found["kind"], tuple(found.get("classes", ())), found.get("size", 1))
        for key, found in data["targets"].items()
    }


def _to_json(target: Target) -> dict[str, Any]:
    told: dict[str, Any] = {"kind": target.kind}
    if target.classes:
        told["classes"] = target.classes
    if target.kind == "values":
        told["size"] = target.size
    return told
