"""The result of a run: every output's metrics and cost, and what follows from them.

The only reader and writer of ``result.json``. Of a network whose outputs are exits that classify, the file
has the keys that it has had from the beginning: ``exits``, ``average_top1``, ``ensemble_top1``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from offramp.counting import Cost
from offramp.errors import UserError
from offramp.tasks import Task
from offramp.tasks.evaluation import Metrics
from offramp.tasks.outputs import exit_name

__all__ = ["Output", "Result", "relative_gain"]


def relative_gain(now: float, before: float, better: str) -> float:
    """Change of a metric for the better as a part of what it was.

    Raises:
        UserError: It was 0.
    """
    if not before:
        raise UserError(
            f"a metric that was 0 and is {now:g} has no relative change (Delta-m); compare single metrics"
        )
    change = (now - before) / abs(before)
    return change if better == "higher" else -change


@dataclass(frozen=True)
class Output:
    """One output of a network after training.

    Attributes:
        metrics: Metric -> value.
        primary: The metric that stands for the output.
        better: Whether a ``"higher"`` or a ``"lower"`` value of it is better.
        params: Parameters that the output needs.
        flops: Operations that the output needs for one sample; None: unknown.
    """

    metrics: Mapping[str, float]
    primary: str
    better: str
    params: int = 0
    flops: int | None = None

    @property
    def value(self) -> float:
        """The primary metric's."""
        return self.metrics[self.primary]


@dataclass(frozen=True)
class Result:
    """The final evaluation of a network on a test set.

    Attributes:
        net: How the network is called.
        method: The method's name.
        data: The data set's name.
        seed: The run's.
        outputs: Output's name -> what it reaches and costs, in the order of the network's outputs.
        ensemble: The primary metric -> its value for the outputs' joint prediction; None unless all have one
            task.
        convention: How operations were counted.
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
    def of(cls, tasks: Mapping[str, Task], found: Metrics, cost: Cost, record: Mapping[str, Any]) -> Result:
        """The result of a run.

        Args:
            tasks: The task of each output.
            found: The metrics.
            cost: Parameters and operations of each output.
            record: The content of ``run.json``.
        """
        outputs = {
            name: Output(found.outputs[name], task.primary, task.better, exit_cost.params, exit_cost.flops)
            for (name, task), exit_cost in zip(tasks.items(), cost.exits, strict=True)
            if name in found.outputs
        }
        return cls(
            net=record["net"]["net"],
            method=record["method"],
            data=record["data"]["name"],
            seed=record["seed"],
            outputs=outputs,
            ensemble=found.ensemble,
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
        first = next(iter(self.outputs.values()))
        return {name: self.outputs.get(name, first).better for name in self.scores}

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
            before = baseline.outputs.get(name)
            if before is None:
                raise UserError(f"the baseline has no output {name!r}; compare results of the same outputs")
            if (before.primary, before.better) != (output.primary, output.better):
                raise UserError(
                    f"output {name!r} is measured by {output.primary}, the baseline's by {before.primary}; "
                    "compare results of the same tasks"
                )
            losses.append(-100 * relative_gain(output.value, before.value, output.better))
        return fmean(losses)

    @property
    def classifies_at_exits(self) -> bool:
        """Whether the outputs are exits that classify, whose numbers have keys of their own in files."""
        return self.average is not None and all(
            output.primary == "top1" and name == exit_name(k)
            for k, (name, output) in enumerate(self.outputs.items(), 1)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, as ``result.json`` holds them; metrics of classification are in percent."""
        head = {"net": self.net, "method": self.method, "data": self.data, "seed": self.seed}
        return {
            **head,
            **self._metrics(self.metrics, costs=True),
            "convention": self.convention,
            **({"averaged_weights": self._metrics(self.averaged)} if self.averaged else {}),
        }

    def _metrics(self, found: Metrics, *, costs: bool = False) -> dict[str, Any]:
        cost = {
            name: {"params": output.params, "flops": output.flops} if costs else {}
            for name, output in self.outputs.items()
        }
        if self.classifies_at_exits and found.ensemble is not None:
            return {
                "exits": [{**values, **cost[name]} for name, values in found.outputs.items()],
                "average_top1": sum(values["top1"] for values in found.outputs.values()) / len(found.outputs),
                "ensemble_top1": found.ensemble["top1"],
            }
        return {
            "outputs": {
                name: {
                    "metrics": dict(values),
                    "primary": self.outputs[name].primary,
                    "better": self.outputs[name].better,
                    **cost[name],
                }
                for name, values in found.outputs.items()
            },
            "ensemble": found.ensemble,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Result:
        """A result from a ``result.json`` that :func:`~offramp.runs.shape.check_result` lets pass."""
        found = _read(content)
        if "exits" in content:
            outputs = {
                exit_name(k): Output(
                    found.outputs[exit_name(k)], "top1", "higher", exit["params"], exit["flops"]
                )
                for k, exit in enumerate(content["exits"], 1)
            }
        else:
            outputs = {
                name: Output(each["metrics"], each["primary"], each["better"], each["params"], each["flops"])
                for name, each in content["outputs"].items()
            }
        averaged = content.get("averaged_weights")
        return cls(
            net=content["net"],
            method=content["method"],
            data=content["data"],
            seed=content["seed"],
            outputs=outputs,
            ensemble=found.ensemble,
            convention=content.get("convention", "macs"),
            averaged=_read(averaged) if averaged else None,
        )


def _read(content: Mapping[str, Any]) -> Metrics:
    if "exits" not in content:
        return Metrics(
            {name: each["metrics"] for name, each in content["outputs"].items()}, content["ensemble"]
        )
    exits: Sequence[Mapping[str, float]] = content["exits"]
    outputs = {exit_name(k): {"top1": e["top1"], "top5": e["top5"]} for k, e in enumerate(exits, 1)}
    return Metrics(outputs, {"top1": content["ensemble_top1"]})
