"""Networks of one task each, seen as one run with all the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from offramp.errors import UserError, shown
from offramp.reports.runs import RunRecord
from offramp.runs.output import Output
from offramp.tasks.evaluation import Metrics

__all__ = ["JoinedRun", "joined"]


@dataclass(frozen=True)
class JoinedRun(RunRecord):
    """Runs of one seed, each with some of the tasks, as one with all of them.

    Attributes:
        parts: The runs.
    """

    parts: tuple[RunRecord, ...] = ()

    @property
    def passes(self) -> str:
        """Cost of a training step of all networks."""
        each = list(dict.fromkeys(part.passes for part in self.parts))
        return f"{len(self.parts)} ({each[0]})" if len(each) == 1 else " + ".join(each)

    @property
    def joint_epochs(self) -> float | None:
        """Cost of the training of all networks, in epochs of one of them."""
        each = [part.joint_epochs for part in self.parts if part.joint_epochs is not None]
        return sum(each) if len(each) == len(self.parts) else None


def joined(runs: Sequence[RunRecord], outputs: Mapping[str, Output]) -> list[JoinedRun]:
    """Runs of networks of one task each, seed by seed.

    Args:
        runs: Any number of seeds, each with every task once.
        outputs: The tasks, in their order.

    Raises:
        UserError: A seed lacks a task, or has it twice.
    """
    by_seed: dict[int, list[RunRecord]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        by_seed.setdefault(run.seed, []).append(run)
    return [_join(parts, outputs) for parts in by_seed.values()]


def _join(parts: Sequence[RunRecord], outputs: Mapping[str, Output]) -> JoinedRun:
    found: dict[str, RunRecord] = {}
    for part in parts:
        for name in part.result.outputs:
            if name in found:
                raise UserError(
                    f"the baseline has {shown(name)} of seed {part.seed} twice, in {found[name].folder} and "
                    f"in {part.folder}; give one network for each task and seed"
                )
            found[name] = part
    if missing := [name for name in outputs if name not in found]:
        raise UserError(
            f"the baseline has no {shown(missing[0])} of seed {parts[0].seed}; give a network for each of "
            f"{', '.join(outputs)}, or leave that seed out"
        )
    own = list({id(found[name]): found[name] for name in outputs}.values())
    first = own[0]
    results = {name: found[name].result.outputs[name] for name in outputs}
    last = {name: found[name].result.last_epochs for name in outputs}
    means = {name: each.metrics.outputs[name] for name, each in last.items() if each is not None}
    known = first.result.last_epochs if len(means) == len(last) else None
    result = replace(
        first.result,
        outputs=results,
        ensemble=None,
        averaged=None,
        last_epochs=None if known is None else replace(known, metrics=Metrics(means)),
    )
    return JoinedRun(
        folder=first.folder,
        net=first.net.partition(":")[0],
        method=first.method,
        options=first.options,
        data=first.data,
        seed=first.seed,
        recipe=first.recipe,
        result=result,
        init=_start(own),
        epochs=tuple(map(_epoch, zip(*(part.epochs for part in own), strict=False))),
        parts=tuple(own),
    )


def _start(parts: Sequence[RunRecord]) -> Mapping[str, str]:
    """Where the weights come from that the networks began from; nothing where none was given any."""
    starts = {part.init["digest"]: part.init["source"] for part in parts if part.init}
    return {"source": ", ".join(starts.values()), "digest": " ".join(starts)} if starts else {}


def _epoch(rows: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """An epoch of all networks, one after the other."""
    united = {key: value for row in rows for key, value in row.items()}
    for total in united.keys() & {"seconds", "passes"}:
        united[total] = sum(row[total] for row in rows)
    return united
