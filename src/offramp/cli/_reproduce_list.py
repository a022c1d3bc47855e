"""What ``offramp reproduce --list`` prints."""

from __future__ import annotations

from typing import Any

from offramp.checks import word_of
from offramp.cli._answer import Answer
from offramp.reproduce import COMPUTATIONS, EXPERIMENTS, NOT_KNOWN, Computation, Experiment

__all__ = ["listed"]


def listed(name: str) -> Answer:
    """All tables and figures: those that are trained, those that are computed, and what is not known.

    Args:
        name: One of them; empty for all.

    Raises:
        UserError: There is no such table or figure.
    """
    blocks: dict[str, tuple[dict[str, Any], str]] = {
        **{each.name: (_experiment(each), _text_of_experiment(each)) for each in EXPERIMENTS.values()},
        **{each.name: (_computation(each), _text_of_computation(each)) for each in COMPUTATIONS.values()},
        **{
            figure: (
                {"name": figure, "kind": "figure", "not_known": reason},
                f"{figure}: {reason}",
            )
            for figure, reason in NOT_KNOWN.items()
        },
    }
    chosen = [blocks[word_of("name", name, blocks, "published table or figure")]] if name else blocks.values()
    return Answer([document for document, _ in chosen], "\n".join(text for _, text in chosen))


def _text_of_experiment(each: Experiment) -> str:
    rows = [
        f"{row.label} (not trained: {row.untrained})" if row.untrained else row.label for row in each.rows
    ]
    settings = f"recipe {each.recipe}, seeds {', '.join(map(str, each.seeds))}"
    shared = f", the runs of {each.runs}" if each.runs else ""
    return (
        f"{each.name}: {each.source}\n    {', '.join(each.nets)} on {each.data}, {settings}{shared}\n"
        f"    {', '.join(rows)}"
    )


def _text_of_computation(each: Computation) -> str:
    on = f"{each.net} on {each.data}; " if each.net else ""
    methods = f"\n    {', '.join(each.methods)}" if each.methods else ""
    return f"{each.name}: {each.source}\n    {on}nothing is trained{methods}"


def _computation(each: Computation) -> dict[str, Any]:
    return {
        "name": each.name,
        "kind": each.kind,
        "source": each.source,
        "data": each.data or None,
        "nets": [each.net] if each.net else [],
        "methods": [*each.methods],
        "differs": [*each.differs],
    }


def _experiment(each: Experiment) -> dict[str, Any]:
    return {
        "name": each.name,
        "kind": each.kind,
        "source": each.source,
        "data": each.data,
        "nets": [*each.nets],
        "recipe": each.recipe,
        "runs": each.runs or each.name,
        "seeds": [*each.seeds],
        "rows": [
            {
                "label": row.label,
                "method": row.trained_as,
                "settings": dict(row.settings),
                "net": row.net or each.net,
                "remark": row.remark,
                "untrained": row.untrained or None,
            }
            for row in each.rows
        ],
        "differs": [*each.differs],
    }
