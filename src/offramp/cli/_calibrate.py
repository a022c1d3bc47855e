"""``offramp calibrate``: a policy for the net of a finished run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import tyro

from offramp.cli._answer import OUTPUT, Answer, OutputFlags
from offramp.cli._net import net_of
from offramp.cli._new_file import new_file

__all__ = ["CalibrateCommand"]


@dataclass(frozen=True, kw_only=True)
class CalibrateCommand:
    """Fit a policy, by which images leave early, on the validation split of a run's data; write it to a file.

    Give --budget, --latency or both, or --risk. A risk is what may be lost by leaving early, kept with
    probability 1 - delta; where the images are too few to promise it, none leaves early.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp calibrate runs/dfs --budget 50% --out policy.json
  offramp calibrate runs/dfs --budget 170M --rule published --out policy.json
  offramp calibrate runs/dfs --budget 50% --rule precision --per-class --out policy.json
  offramp calibrate runs/dfs --latency 3ms --batch-size 64 --out policy.json
  offramp calibrate runs/dfs --budget 80% --latency 100% --out policy.json
  offramp calibrate runs/dfs --risk 0.01 --delta 0.05 --out policy.json"""

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder that `offramp train` wrote"""
    out: str
    """file to write the policy to; one that is there is not overwritten"""
    budget: str | None = None
    """mean operations of an image: 170M, 1.2G, or a share of the static network, 50%"""
    latency: str | None = None
    """mean time of an image on this machine: 3ms, 200us, or a share of the static network's, 50%"""
    risk: float | None = None
    """probability that the full network is right and the answer is wrong"""
    delta: float | Literal["none"] = 0.05
    """the risk is kept with probability 1 - delta; none: in expectation"""
    loss: Literal["wrong", "brier"] = "wrong"
    """the loss whose mean is the risk; wrong: see --risk; brier: half the increase of the Brier score over
    the full network's"""
    confidence: str = "max-softmax"
    """max-softmax, margin, entropy, patience or ensemble"""
    temperatures: bool = False
    """fit a temperature for each exit also for a budget or a latency; for a risk that is always done"""
    per_class: bool = False
    """a threshold for each predicted class; this needs many images of each class"""
    rule: Literal["best", "published", "precision"] = "best"
    """how thresholds are found for a budget; published: by the algorithm of the published curves; precision:
    a share of those that leave is right, exit after exit; with --per-class as CalexNet has it"""
    batch_size: int = 1
    """images in a batch, by which the latency is measured"""
    net: str | None = None
    """your own network again, as for train; code that a run folder names is never run without this flag"""
    averaged: bool = False
    """calibrate the moving average of the weights, where the run has kept one"""
    output: OutputFlags = OUTPUT

    def run(self) -> Answer:
        """Fit the policy and write it."""
        from offramp.exits import calibrate
        from offramp.reports.policy_text import policy_document, policy_text
        from offramp.runs import Run

        out = new_file(self.out, "--out")
        run = Run.open(self.run_folder, net_of([self.run_folder], self.net), averaged=self.averaged)
        policy = calibrate(
            run,
            budget=self.budget,
            latency=self.latency,
            risk=self.risk,
            delta=None if self.delta == "none" else self.delta,
            loss=self.loss,
            confidence=self.confidence,
            temperatures=self.temperatures or None,
            per_class=self.per_class,
            rule=self.rule,
            batch_size=self.batch_size,
        )
        policy.save(out)
        document: dict[str, Any] = {"run": self.run_folder, "policy": self.out, **policy_document(policy)}
        return Answer(document, f"{policy_text(policy)}\n\npolicy: {out}")
