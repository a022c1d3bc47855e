"""The result of a run: every output's metrics and cost, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from offramp.checks import of_kind
from offramp.counting import Cost
from offramp.errors import UserError, shown
from offramp.runs._result_keys import (
    classifies_at_exits,
    metrics_from_json,
    metrics_to_json,
    outputs_from_json,
)
from offramp.runs.output import Output
from offramp.tasks import Task
from offramp.tasks.delta_m import delta_m
from offramp.tasks.evaluation import Metrics
from offramp.tasks.outputs import are_exits

__all__ = ["LastEpochs", "Result"]


@dataclass(frozen=True)
class LastEpochs:
    """Metrics of the last epochs of a training, each measured once after it.

    Attributes:
        epochs: Which epochs, from 1.
        metrics: Their mean over these epochs.
    """

    epochs: tuple[int, ...]
    metrics: Metrics


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
        last_epochs: The mean metrics of the last epochs; None where their weights were not kept.
        micro_batches: How many micro-batches ``accumulate="auto"`` cut the last batches into; None where the
            recipe gave a number.
    """

    net: str
    method: str
    data: str
    seed: int
    outputs: Mapping[str, Output]
    ensemble: Mapping[str, float] | None = None
    convention: str = "macs"
    averaged: Metrics | None = None
    last_epochs: LastEpochs | None = None
    micro_batches: int | None = None

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
            name: Output(
                metrics.outputs[name],
                task.primary,
                task.better,
                exit_cost.params,
                exit_cost.flops,
                task.compared,
            )
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

    @property
    def of_last_epochs(self) -> Result | None:
        """The result with the mean of the last epochs in place of the final one; None where there is none."""
        if self.last_epochs is None:
            return None
        metrics = self.last_epochs.metrics
        outputs = {
            name: replace(output, metrics=metrics.outputs[name]) for name, output in self.outputs.items()
        }
        return replace(self, outputs=outputs, ensemble=metrics.ensemble)

    def delta_m(self, *baselines: Result) -> float:
        """Mean relative change for the worse against a baseline, in percent: below 0 is a gain.

        Delta-m (:mod:`offramp.tasks.delta_m`) over the metrics that each output is compared by; on NYUv2
        these are the nine of its three tasks.

        Args:
            baselines: A result with outputs of the same names; or several that have them between them, as
                those of networks with one task each, trained by the same recipe.

        Raises:
            UserError: The baseline lacks an output or has it twice, measures it otherwise, or has 0 there.
        """
        values, before, better = {}, {}, {}
        references = _together(baselines)
        for name, output in self.outputs.items():
            if name not in references:
                raise UserError(
                    f"the baseline has no output {shown(name)}; compare results of the same outputs"
                )
            if (known := references[name].compared) != output.compared:
                raise UserError(
                    f"output {shown(name)} is compared by {_words(output.compared)}, "
                    f"the baseline's by {_words(known)}; compare results of the same tasks"
                )
            for metric in output.compared:
                values[name, metric] = output.metrics[metric]
                before[name, metric] = references[name].metrics[metric]
                better[name, metric] = output.compared[metric]
        return delta_m(values, before, better)

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
            **({"last_epochs": self._last_epochs_to_json()} if self.last_epochs else {}),
            **({"micro_batches": self.micro_batches} if self.micro_batches else {}),
        }

    def to_task_json(self, delta_m: float | None = None) -> dict[str, Any]:
        """Plain values of several tasks: the metrics of each by its name, and Delta-m where it is known.

        Exits of one task, whose average and ensemble count, are as in :meth:`to_json`.
        """
        if are_exits(self.outputs) or self.ensemble is not None:
            return self.to_json() | ({} if delta_m is None else {"delta_m": delta_m})
        run = {"net": self.net, "method": self.method, "data": self.data, "seed": self.seed}
        tasks = {name: dict(output.metrics) for name, output in self.outputs.items()}
        return {**run, "tasks": tasks, "delta_m": delta_m}

    def _last_epochs_to_json(self) -> dict[str, Any]:
        assert self.last_epochs is not None
        metrics = metrics_to_json(self.last_epochs.metrics, self.outputs)
        return {"epochs": list(self.last_epochs.epochs), **metrics}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Result:
        """A result from a ``result.json`` that :func:`~offramp.runs._result_shape.check_result` lets pass."""
        averaged, last = content.get("averaged_weights"), content.get("last_epochs")
        return cls(
            net=content["net"],
            method=content["method"],
            data=content["data"],
            seed=content["seed"],
            outputs=outputs_from_json(content),
            ensemble=metrics_from_json(content).ensemble,
            convention=content.get("convention", "macs"),
            averaged=metrics_from_json(averaged) if averaged else None,
            last_epochs=LastEpochs(tuple(last["epochs"]), metrics_from_json(last)) if last else None,
            micro_batches=content.get("micro_batches"),
        )


def _together(results: Sequence[Result]) -> dict[str, Output]:
    """The outputs of several results, each of which has others.

    Raises:
        UserError: Two have one of the same name.
    """
    outputs: dict[str, Output] = {}
    for result in results:
        of_kind("baseline", result, Result, "a Result, such as run.result")
        if twice := outputs.keys() & result.outputs.keys():
            raise UserError(
                f"two baselines have an output {shown(min(twice))}; give one run that has all outputs, or "
                "one run for each of them"
            )
        outputs |= result.outputs
    return outputs


def _words(compared: Mapping[str, str]) -> str:
    return ", ".join(f"{metric} ({better} is better)" for metric, better in compared.items())
