"""``offramp toy``: every method on two problems of two parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from offramp.cli._answer import OUTPUT, Answer, OutputFlags

__all__ = ["ToyCommand"]


@dataclass(frozen=True)
class ToyCommand:
    """Show how every combiner and DR-MGF descend on two problems of two losses and two parameters.

    Problem a is the landscape of CAGrad's and Nash-MTL's toy, by Adam; b is convex, its losses coupled
    through both parameters, by gradient descent.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp toy --out toy
  offramp toy --problem a --starts nash-mtl --out toy
  offramp toy --problem a --steps 100000 --rate 0.001 --out toy
  offramp toy --problem b --delta 0.4"""

    problem: Literal["a", "b"] | None = None
    """which one; by default both"""
    out: str | None = None
    """folder for the numbers (.json) and a picture (.png) of each problem"""
    steps: int | None = None
    """steps of each method, of which dr-mgf's take three passes; by default 6000 on a, 3000 on b"""
    rate: float | None = None
    """learning rate; by default 0.003 on a (published: 0.001), 0.05 on b"""
    starts: Literal["cagrad", "nash-mtl"] = "cagrad"
    """whose starts on a; those of nash-mtl come with its scale, 0.1, of the first loss"""
    delta: float = 0.95
    """how strongly b's losses are coupled, from 0 to below 1"""
    beta: float = 0.4
    """weight of the other task's loss in a stage of DR-MGF"""
    length: int = 5
    """steps of a stage of DR-MGF, and of its fusion"""
    seed: int = 0
    """seed of the methods' random numbers"""
    output: OutputFlags = OUTPUT

    def run(self) -> Answer:
        """Run the methods on the toy problem, and write numbers and pictures."""
        from offramp.analysis.toys import CoupledProblem, Landscape, Problem, descend, table, write

        problems: list[Problem] = [Landscape(self.starts), CoupledProblem(self.delta)]
        documents: list[dict[str, Any]] = []
        texts = []
        for problem in problems:
            if self.problem in (None, problem.name):
                descent = descend(
                    problem,
                    steps=self.steps,
                    rate=self.rate,
                    beta=self.beta,
                    length=self.length,
                    seed=self.seed,
                )
                document = {**descent.settings(), "methods": descent.summary(), "notes": list(descent.notes)}
                texts.append(table(descent))
                if self.out is not None:
                    numbers, picture = write(descent, self.out)
                    document |= {"numbers": str(numbers), "picture": str(picture)}
                    texts[-1] += f"\n\nwrote {numbers} and {picture}"
                documents.append(document)
        return Answer({"problems": documents}, "\n\n\n".join(texts))
