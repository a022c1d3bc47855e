"""Run folders read, checked to be comparable, and sorted into groups that differ in their seed only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from offramp.errors import UserError, guess, shown
from offramp.paths import user_path
from offramp.reports._single_task import JoinedRun, joined
from offramp.reports.columns import has_tasks
from offramp.reports.groups import Group
from offramp.reports.runs import RunRecord, read_run
from offramp.reports.search import pick_rate

__all__ = ["grouped"]

_NOT_THE_RECIPE = {"seed", "options", "checkpoint_every", "test_limit"}  # none of these trains differently


def grouped(
    folders: Sequence[str | Path], *, pick_lr: bool = False, baseline: Sequence[str | Path] = ()
) -> tuple[tuple[Group, ...], dict[str, Any]]:
    """Read run folders and group them by method, options and recipe, the baseline first.

    Args:
        folders: Of finished runs.
        pick_lr: Of a method's runs at several learning rates take those at the best one.
        baseline: The label of a group; or the folders of its runs, which may be networks of one task each; by
            default plain joint training.

    Returns:
        The groups; and the settings in which the recipes are not all alike, with the usual values.

    Raises:
        UserError: No folder, a folder that is no finished run, nets or data that differ, a run given
            twice, no validation metrics to pick by, or a baseline that is none.
    """
    if not folders:
        raise UserError("nothing to compare; give one or more run folders")
    runs = [read_run(folder) for folder in folders]
    named = len(baseline) == 1 and not (user_path(baseline[0]) / "run.json").is_file()
    wanted = [] if named else _baseline_runs(baseline, runs)
    here = {run.folder.resolve() for run in runs}
    runs += [run for run in wanted if isinstance(run, JoinedRun) or run.folder.resolve() not in here]
    for run in runs[1:]:
        _check_comparable(runs[0], run)
    differing = [key for key in _differing(runs) if not (pick_lr and key == "lr")]
    reference = next((run for run in runs if _plainness(run) == 0), runs[0]).recipe
    nets = {run.net for run in runs if not isinstance(run, JoinedRun)}
    usual = _usual_options(runs)
    by_name: dict[str, dict[str, list[RunRecord]]] = {}
    for run in runs:
        deviations = [
            f"{key}={run.recipe.get(key)}" for key in differing if run.recipe.get(key) != reference.get(key)
        ]
        by_start = by_name.setdefault(" ".join([*_name(run, usual, len(nets) > 1), *deviations]), {})
        group = by_start.setdefault(run.init.get("digest", ""), [])
        _check_new(run, group)
        group.append(run)
    by_label = {label: group for name, starts in by_name.items() for label, group in _groups(name, starts)}
    groups = []
    for label, members in by_label.items():
        chosen, rates = pick_rate(members) if pick_lr else (members, ())
        groups.append(Group(label, tuple(sorted(chosen, key=lambda run: run.seed)), rates))
    groups.sort(key=lambda group: _plainness(group.runs[0]))  # stable: only joint training moves
    if baseline:
        labels = [str(baseline[0])] if named else _labels_of(wanted, by_label)
        _move_to_the_front(groups, labels)
    return tuple(groups), {key: reference.get(key) for key in differing}


def _groups(name: str, starts: Mapping[str, list[RunRecord]]) -> Iterator[tuple[str, list[RunRecord]]]:
    """The groups of runs of a name, with their labels: one, unless runs of a seed began from other weights.

    Args:
        name: What the runs have in common.
        starts: The runs by the digest of the weights that they were given to start from; "" of none.
    """
    runs = [run for group in starts.values() for run in group]
    keys = {(run.seed, run.recipe.get("lr")) for run in runs}
    if len(starts) == 1 or ("" not in starts and len(keys) == len(runs)):
        yield name, runs
        return
    sources = {digest: group[0].init.get("source", "") for digest, group in starts.items()}
    for digest, group in starts.items():
        source = sources[digest]
        twice = [*sources.values()].count(source) > 1
        yield name + (f" init={source}" + f" ({digest[:7]})" * twice if digest else ""), group


def _baseline_runs(folders: Sequence[str | Path], runs: Sequence[RunRecord]) -> Sequence[RunRecord]:
    """The runs of the baseline; of networks of one task each, one run for each seed."""
    found, outputs = [read_run(folder) for folder in folders], runs[0].result.outputs
    if has_tasks(runs[0].result) and any(outputs.keys() - run.result.outputs.keys() for run in found):
        return joined(found, outputs)
    return found


def _labels_of(wanted: Sequence[RunRecord], by_label: Mapping[str, Sequence[RunRecord]]) -> list[str]:
    """The labels of the groups that hold the runs of the baseline."""
    folders = {run.folder.resolve() for run in wanted}
    return [label for label, group in by_label.items() if folders & {run.folder.resolve() for run in group}]


def _move_to_the_front(groups: list[Group], labels: Sequence[str]) -> None:
    """Make the group of a label the first one, which the others are compared with."""
    known = [group.label for group in groups]
    if len(labels) > 1:
        raise UserError(
            f"the baseline's runs are of several groups, {', '.join(labels)}; give the runs of one method"
        )
    if labels[0] not in known:
        raise UserError(
            f"no baseline {shown(labels[0])}{guess(labels[0], known)}; give one of "
            f"{', '.join(map(shown, known))}, or folders of finished runs"
        )
    groups.insert(0, groups.pop(known.index(labels[0])))


def _name(run: RunRecord, usual: Mapping[str, Mapping[str, Any]], several_nets: bool) -> list[str]:
    """The method with its options, and the net where they differ."""
    method = [run.method, *_own_options(run, usual[run.method])]
    if isinstance(run, JoinedRun):
        return ["single-task", run.net, *(method if method != ["joint"] else [])]
    return [*method, "on", run.net] if several_nets else method


def _check_comparable(first: RunRecord, other: RunRecord) -> None:
    pairs: dict[str, tuple[Any, Any]] = {}
    if not has_tasks(first.result):  # outputs of the same tasks are compared across nets too
        pairs["net"] = (first.net, other.net)
    if first.net == other.net:
        pairs["shape of the net's weights"] = (first.shapes, other.shapes)
    pairs |= {
        "data": (first.data, other.data),
        "test_limit": (first.recipe.get("test_limit"), other.recipe.get("test_limit")),
        "number of outputs": (len(first.result.outputs), len(other.result.outputs)),
        "metrics": (_metrics(first), _metrics(other)),
    }
    remedy = "compare runs of one net on one data set"
    if has_tasks(first.result):
        remedy = (
            "compare runs with the same tasks on one data set; give networks of one task each as "
            "`baseline=...`"
        )
    for aspect, (a, b) in pairs.items():
        if a != b:
            raise UserError(
                f"cannot compare {first.folder} with {other.folder}: the {aspect} differs ({a} and {b}); "
                f"{remedy}"
            )


def _metrics(run: RunRecord) -> str:
    """The outputs, each with its metric and which way it is better."""
    outputs = run.result.outputs.items()
    return ", ".join(f"{name} {output.primary} ({output.better} is better)" for name, output in outputs)


def _check_new(run: RunRecord, group: Sequence[RunRecord]) -> None:
    for twin in group:
        if (twin.seed, twin.recipe.get("lr")) == (run.seed, run.recipe.get("lr")):
            raise UserError(
                f"{twin.folder} and {run.folder} are the same method, recipe and seed ({run.seed}), "
                "which is one run and not two; leave one of them out"
            )


def _differing(runs: Sequence[RunRecord]) -> list[str]:
    """The recipe's settings in which the runs are not all alike."""
    keys = [key for key in runs[0].recipe if key not in _NOT_THE_RECIPE]
    return [key for key in keys if any(run.recipe.get(key) != runs[0].recipe[key] for run in runs)]


def _usual_options(runs: Sequence[RunRecord]) -> dict[str, Mapping[str, Any]]:
    """Of each method the options that need no telling: its defaults.

    A method that is not in the table has none that are known: of it, what all of its runs have in common.
    """
    usual: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        if run.default_method is not None:
            usual[run.method] = run.default_method.options
        else:
            before = usual.get(run.method, run.options)
            usual[run.method] = {k: v for k, v in run.options.items() if k in before and before[k] == v}
    return usual


def _own_options(run: RunRecord, usual: Mapping[str, Any]) -> list[str]:
    """The options that are not the usual ones, as ``key=value``."""
    return [f"{k}={v}" for k, v in run.options.items() if k not in usual or _plain(usual[k]) != _plain(v)]


def _plainness(run: RunRecord) -> int:
    """0 for plain joint training, 1 for joint training with options of its own, 2 for the rest."""
    if run.method != "joint" or isinstance(run, JoinedRun):
        return 2
    return 1 if _own_options(run, _usual_options([run])["joint"]) else 0


def _plain(value: Any) -> Any:
    """Tuples as the lists that they are in JSON."""
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
