"""The result of a run: every output's metrics and cost, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from offramp.counting import Cost
from offramp.errors import UserError
from offramp.runs._result_keys import (
    classifies_at_exits,
    metrics_from_json,
    metrics_to_json,
    outputs_from_json,
)
from offramp.runs.output import Output, relative_gain
from offramp.tasks import Task
from offramp.tasks.evaluation import Metrics

__all__ = ["Result"]


@dataclass(frozen=True)
class Result:
    """The final evaluation of a network on a test set.

    Attributes:
        net: Name of the network.
        method: The method's name.
        data: The data set's name.
        seed: Seed of the run.
        outputs: Output's name -> its metrics and cost, in the order of the network's outputs.
        ensemble: The primary metric -> its value for the outputs' joint prediction; None unless all have one
            task.
        convention: Convention by which operations were counted.
        averaged: The metrics of the moving average of the weights; None without one.
    """

    net: str
    method: str
    data: str
    seed: int
    outputs: Mapping[str, Output]
    ensemble: Mapping[str, float] | None = None
    convention: str = "macs"
    averaged: Metrics | None = None

    @classmethod
    def of(cls, tasks: Mapping[str, Task], metrics: Metrics, cost: Cost, record: Mapping[str, Any]) -> Result:
        """The result of a run.

        Args:
            tasks: The task of each output.
            metrics: The metrics.
            cost: Parameters and operations of each output.
            record: The content of ``run.json``.
        """
        outputs = {
            name: Output(metrics.outputs[name], task.primary, task.better, exit_cost.params, exit_cost.flops)
            for (name, task), exit_cost in zip(tasks.items(), cost.exits, strict=True)
            if name in metrics.outputs
        }
        return cls(
            net=record["net"]["net"],
            method=record["method"],
            data=record["data"]["name"],
            seed=record["seed"],
            outputs=outputs,
            ensemble=metrics.ensemble,
            convention=cost.convention,
        )

    def __getitem__(self, key: str) -> Any:
        """What ``result.json`` holds under a key, e.g. ``average_top1``."""
        return self.to_json()[key]

    @property
    def metrics(self) -> Metrics:
        """The metrics alone."""
        return Metrics({name: output.metrics for name, output in self.outputs.items()}, self.ensemble)

    @property
    def scores(self) -> dict[str, float]:
        """The primary metric of every output; ``average`` and ``ensemble`` where all have one task."""
        scores = {name: output.value for name, output in self.outputs.items()}
        if self.ensemble is not None and self.average is not None:
            primary = next(iter(self.outputs.values())).primary
            scores |= {"average": self.average, "ensemble": self.ensemble[primary]}
        return scores

    @property
    def better(self) -> dict[str, str]:
        """For each of :attr:`scores` whether a ``"higher"`` or a ``"lower"`` one is better."""
        any_output = next(iter(self.outputs.values()))
        return {name: self.outputs.get(name, any_output).better for name in self.scores}

    @property
    def average(self) -> float | None:
        """Mean of the outputs' primary metric (Deep Feature Surgery, Table 3); None if they have several."""
        primaries = {output.primary for output in self.outputs.values()}
        values = [output.value for output in self.outputs.values()]
        return sum(values) / len(values) if len(primaries) == 1 else None

    def delta_m(self, baseline: Result) -> float:
        """Mean relative change for the worse against a baseline, in percent: below 0 is a gain.

        Delta-m (DR-MGF, arXiv:2305.19844, Eq 12, with the sign of its tables), over the primary metric of
        each output; the paper's NYUv2 tables take all nine metrics of the three tasks.

        Args:
            baseline: A result with outputs of the same names.

        Raises:
            UserError: The baseline lacks an output, measures it otherwise, or has 0 there.
        """
        losses = []
        for name, output in self.outputs.items():
            reference = baseline.outputs.get(name)
            if reference is None:
                raise UserError(f"the baseline has no output {name!r}; compare results of the same outputs")
            if (reference.primary, reference.better) != (output.primary, output.better):
                raise UserError(
                    f"output {name!r} is measured by {output.primary}, "
                    f"the baseline's by {reference.primary}; compare results of the same tasks"
                )
            losses.append(-100 * relative_gain(output.value, reference.value, output.better))
        return fmean(losses)

    @property
    def classifies_at_exits(self) -> bool:
        """Whether the outputs are exits that classify, whose numbers have keys of their own in files."""
        return classifies_at_exits(self.outputs)

    def to_json(self) -> dict[str, Any]:
        """Plain values, as ``result.json`` holds them; metrics of classification are in percent."""
        return {
            "net": self.net,
            "method": self.method,
            "data": self.data,
            "seed": self.seed,
            **metrics_to_json(self.metrics, self.outputs, costs=True),
            "convention": self.convention,
            **({"averaged_weights": metrics_to_json(self.averaged, self.outputs)} if self.averaged else {}),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Result:
        """A result from a ``result.json`` that :func:`~offramp.runs.shape.check_result` lets pass."""
        averaged = content.get("averaged_weights")
        return cls(
            net=content["net"],
            method=content["method"],
            data=content["data"],
            seed=content["seed"],
            outputs=outputs_from_json(content),
            ensemble=metrics_from_json(content).ensemble,
            convention=content.get("convention", "macs"),
            averaged=metrics_from_json(averaged) if averaged else None,
        )
