"""The two-task toy (DR-MGF, Fig 3), as far as it is known: every method on two problems of two parameters."""

from __future__ import annotations

from offramp.analysis.toys import CoupledProblem, Landscape, Problem, descend, table, write
from offramp.analysis.toys.descent import STEPS
from offramp.reproduce._scaling import scaled
from offramp.reproduce.computation import ComputationPlan
from offramp.reproduce.experiment import Report

__all__ = ["toys_report"]


def toys_report(plan: ComputationPlan) -> Report:
    """Descend on both problems, and write the numbers and a picture of each."""
    problems: list[Problem] = [CoupledProblem(), Landscape("cagrad")]
    documents, texts = [], []
    for problem in problems:
        descent = descend(problem, steps=scaled(STEPS[problem.name], plan.scale))
        numbers, picture = write(descent, plan.folder)
        documents.append(
            {
                **descent.settings(),
                "methods": descent.summary(),
                "numbers": str(numbers),
                "picture": str(picture),
            }
        )
        texts.append(f"{table(descent)}\n\nwrote {numbers} and {picture}")
    return Report({"problems": documents}, "\n\n\n".join(texts))
