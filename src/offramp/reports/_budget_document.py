"""Curves of accuracy against a budget as plain values, for JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from offramp.exits.budget_curve import BudgetCurve, FittedPolicy, Point
from offramp.papers.published import Curve
from offramp.reports.budget_groups import BudgetGroup, MeanPoint

__all__ = ["budget_document"]


def budget_document(
    groups: Sequence[BudgetGroup], notes: Sequence[str], published: tuple[str, Curve] | None
) -> dict[str, Any]:
    """The curve of every run and, over its seeds, of every method; the published one, and the notes."""
    return {
        "net": groups[0].group.runs[0].net,
        "data": groups[0].group.runs[0].data,
        "convention": groups[0].curves[0].convention,
        "groups": [
            {
                "label": each.label,
                "seeds": each.group.seeds,
                "points": _numbered(map(_mean, each.published)),
                "best": _numbered(map(_mean, each.best)),
                "exits": [*map(_mean, each.exits)],
                "oracle": _mean(each.oracle),
                "static": _mean(each.static),
                "runs": [
                    {"folder": str(run.folder), "seed": run.seed, **_curve(curve)}
                    for run, curve in zip(each.group.runs, each.curves, strict=True)
                ],
            }
            for each in groups
        ],
        "published": None if published is None else _published(*published),
        "notes": [*notes],
    }


def _mean(point: MeanPoint) -> dict[str, Any]:
    return {name: dataclasses.asdict(value) for name, value in point._asdict().items()}


def _curve(curve: BudgetCurve) -> dict[str, Any]:
    return {
        "points": _numbered(map(_fitted, curve.published)),
        "best": _numbered(map(_fitted, curve.best)),
        "exits": [*map(_point, curve.exits)],
        "oracle": _point(curve.oracle),
        "static": _point(curve.static),
    }


def _numbered(points: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"p": p, **point} for p, point in enumerate(points, 1)]


def _fitted(fitted: FittedPolicy) -> dict[str, Any]:
    return {"thresholds": [*fitted.policy.thresholds], "val_top1": fitted.val_top1, **_point(fitted.point)}


def _point(point: Point) -> dict[str, Any]:
    return {**point._asdict(), "shares": [*point.shares]}


def _published(name: str, curve: Curve) -> dict[str, Any]:
    return {
        "curve": name,
        "source": curve.source,
        "setting": f"{curve.net} on {curve.data}",
        "remark": curve.remark,
        "methods": [
            {
                "label": f"{method} (published)",
                "points": [{"top1": top1, "flops": flops * curve.flops_unit} for flops, top1 in points],
            }
            for method, points in curve.points.items()
        ],
    }
