"""``offramp eval``: a finished run's metrics, computed again from its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import tyro

from offramp.cli._answer import OUTPUT, Answer, OutputFlags
from offramp.cli._net import net_of

__all__ = ["EvalCommand"]


@dataclass(frozen=True)
class EvalCommand:
    """Evaluate every output of a finished run on the test set of its data, or of other data.

    With a policy each image leaves at the first exit that is sure of it: accuracy, mean cost, and the share
    of each exit.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp eval runs/dfs
  offramp eval runs/dfs --data other/set --json
  offramp eval runs/dfs --policy policy.json
  offramp eval runs/dfs --averaged                      (of a run with --set average=0.999)"""

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder that `offramp train` wrote"""
    data: tuple[str, ...] = ()
    """data set, as for train; by default the run's own"""
    net: str | None = None
    """a network of your own again, as for train; the code that a run names is not run by itself"""
    policy: str | None = None
    """send the test set through the router by this policy, a file that `offramp calibrate` wrote"""
    averaged: bool = False
    """evaluate the moving average of the weights, where the run has kept one"""
    set: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE ...")
    ] = ()
    """how --data is read, where not as the run's own: size, image, label, ignore_label"""
    output: OutputFlags = OUTPUT

    def run(self) -> Answer:
        """Evaluate the net of a run on a test set."""
        from offramp.exits import Policy
        from offramp.exits.evaluation import evaluate_policy
        from offramp.recipes.file import setting
        from offramp.reports import result_table
        from offramp.reports.policy_text import result_document, result_text
        from offramp.runs import Run
        from offramp.runs.several import named_sources

        settings = dict(setting(text) for texts in self.set for text in texts)
        data = named_sources(self.data) if self.data else None
        policy = None if self.policy is None else Policy.open(self.policy)
        net = net_of([self.run_folder], self.net)
        run = Run.open(self.run_folder, net, averaged=self.averaged)
        if policy is not None:
            found = evaluate_policy(run, policy, data, **settings)
            document = {"run": self.run_folder, "policy": self.policy, **result_document(found)}
            return Answer(document, result_text(found))
        result = run.evaluate(data, **settings)
        return Answer(result.to_json(), result_table(result))
