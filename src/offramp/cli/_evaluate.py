"""``offramp eval``: a finished run's metrics, computed again from its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from offramp.cli._answer import OUTPUT, Answer, OutputFlags
from offramp.cli._net import net_of
from offramp.errors import UserError

if TYPE_CHECKING:
    from offramp.runs import Run
    from offramp.runs.result import Result

__all__ = ["EvalCommand"]


@dataclass(frozen=True)
class EvalCommand:
    """Evaluate every output of a finished run on the test set of its data, or of other data.

    With a policy each image leaves at the first exit that is sure of it: accuracy, mean cost, and the share
    of each exit. With a baseline, Delta-m says how much worse the metrics are than those of one run, or of
    several that have one task each; below 0, they are better.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp eval runs/dfs
  offramp eval runs/dfs --data other/set --json
  offramp eval runs/dfs --policy policy.json
  offramp eval runs/dfs --averaged                      (of a run with --set average=0.999)
  offramp eval runs/mtan --baseline runs/segmentation runs/depth runs/normals"""

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder that `offramp train` wrote"""
    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="SOURCE")] = ()
    """data set, as for train, of several sets one after each --data; by default the run's own"""
    net: str | None = None
    """your own network again, as for train; code that a run folder names is never run without this flag"""
    policy: str | None = None
    """send the test set through the router by this policy, a file that `offramp calibrate` wrote"""
    averaged: bool = False
    """evaluate the moving average of the weights, where the run has kept one"""
    baseline: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="RUN ...")
    ] = ()
    """finished runs on the same data, which have the outputs of this one between them"""
    set: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE ...")
    ] = ()
    """how --data is read, where not as the run's own: size, image, label, tasks, ignore_label"""
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
            if self.baseline:
                raise UserError("--baseline compares outputs, not a policy; leave out --baseline or --policy")
            found = evaluate_policy(run, policy, data, **settings)
            document = {"run": self.run_folder, "policy": self.policy, **result_document(found)}
            return Answer(document, result_text(found))
        baselines = self._baselines(run)
        result = run.evaluate(data, **settings)
        delta_m = result.delta_m(*baselines) if baselines else None
        text = result_table(result)
        if delta_m is not None:
            text += f"\n\ndelta-m {delta_m:+.2f} % (below 0: better than the baseline)"
        return Answer(result.to_task_json(delta_m), text)

    def _baselines(self, run: Run) -> list[Result]:
        """The results to compare with, found to fit before anything is evaluated."""
        from offramp.runs.baselines import read_baselines

        folders = [folder for some in self.baseline for folder in some]
        if folders and (self.data or self.averaged):
            flag = "--data" if self.data else "--averaged"
            raise UserError(
                f"--baseline compares final weights on the run's own test set; leave out --baseline or {flag}"
            )
        baselines = read_baselines(folders, run.record)
        if baselines:
            run.result.delta_m(*baselines)
        return baselines
