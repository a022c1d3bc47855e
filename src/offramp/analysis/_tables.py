"""The tables of a diagnosis, as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from offramp.analysis._findings import Findings
from offramp.analysis.conflict import pooled
from offramp.analysis.convergence import Curves
from offramp.analysis.prune import Pruning
from offramp.analysis.settings import Settings
from offramp.tasks.outputs import column, noun_of
from offramp.text_table import aligned, folded, four_digits, signed

__all__ = ["tables"]


def tables(runs: Sequence[Findings], curves: Sequence[Curves], settings: Settings) -> Iterator[str]:
    """A title and a table for each topic of the diagnosis."""
    images = {"val": "validation", "test": "test"}[settings.split]
    noun = noun_of(runs[0].outputs) if runs else ""
    if any(run.interference is not None for run in runs):
        yield (
            f"conflict C and gain G over {settings.batches} training batches: Pearson's r "
            "(negative where conflict costs gain)"
        )
        yield _interference(runs)
    if any(run.cosines is not None for run in runs):
        yield "cosine of two outputs' gradients on what both share, mean over the batches; below 0: conflict"
        yield _cosines(runs)
    if any(run.filters is not None for run in runs):
        yield "conflict per shared filter, mean over the batches"
        yield _filters(runs)
    if any(run.pruning for run in runs):
        yield _pruning_title(noun, "by gradient norms over all that it shares (Eq 5)", images)
        yield _pruning([(run, run.pruning) for run in runs if run.pruning])
        yield _pruning_title(noun, "by gradient norms over the filters with the same owners", images)
        yield _pruning([(run, p) for run in runs if (p := run.pruning_same_owners)])
        yield "filters of its own, and in brackets what random gradients give; * is Eq 5"
        yield _filter_counts(runs)
    if any(run.routes for run in runs):
        yield _pruning_title(noun, "as learned", images)
        yield _pruning([(run, run.routes.pruning) for run in runs if run.routes])
    if any(run.routes and run.routes.likeness for run in runs):
        yield f"cosine of the {noun}s' learned importance, mean of all pairs, and what chance gives"
        yield _similarity(runs)
    if curves:
        yield "convergence: where training ended"
        yield _convergence(curves)


def _interference(runs: Sequence[Findings]) -> str:
    rows = []
    for run in runs:
        if run.interference is not None:
            rs = [_signed(output.r) for output in run.interference]
            gains = [g for output in run.interference for g in output.gain]
            left_out = sum(output.left_out for output in run.interference)
            mean = signed(fmean(gains)) if gains else "-"
            rows.append([run.label, _signed(pooled(run.interference)), *rs, mean, str(left_out)])
    return aligned(["run", "pooled", *runs[0].outputs, "mean G", "left out"], rows)


def _cosines(runs: Sequence[Findings]) -> str:
    rows = [
        [
            run.label if k == 0 else "",
            name,
            *("" if j == k else _signed(value) for j, value in enumerate(row)),
        ]
        for run in runs
        if run.cosines is not None
        for k, (name, row) in enumerate(zip(run.outputs, run.cosines.mean, strict=True))
    ]
    return aligned(["run", noun_of(runs[0].outputs), *runs[0].outputs], rows, left=2)


def _filters(runs: Sequence[Findings]) -> str:
    rows = []
    for run in runs:
        for conflicts, suffix in ((run.filters_as_trained, ", gradients of its training"), (run.filters, "")):
            if conflicts is not None:
                values = [v for tensor in conflicts.values() for v in tensor.flatten().tolist()]
                plain = ", plain gradients" if not suffix and run.filters_as_trained is not None else suffix
                free = sum(v == 0 for v in values) / len(values)
                rows.append(
                    [
                        run.label + plain,
                        str(len(values)),
                        f"{sum(values):.3g}",
                        f"{max(values):.3g}",
                        f"{free:.0%}",
                    ]
                )
    return aligned(["run", "filters", "sum", "largest", "without any"], rows)


def _pruning_title(noun: str, by: str, images: str) -> str:
    return (
        f"change of the metric (%) for the better on the {images} images without the filters that one {noun} "
        f"needs most, {by}: its own, and the mean of the others"
    )


def _pruning(matrices: Sequence[tuple[Findings, Pruning]]) -> str:
    rows, outputs = [], matrices[0][0].outputs
    for run, pruning in matrices:
        for k, row in enumerate(pruning.change):
            others = fmean(value for j, value in enumerate(row) if j != k)
            rows.append(
                [
                    run.label if k == 0 else "",
                    column(run.outputs[k]),
                    f"{pruning.filters[k]} of {pruning.shared}",
                    "-" if pruning.chance is None else f"{pruning.chance[k]:.0f}",
                    signed(100 * row[k], 1),
                    signed(100 * others, 1),
                    "yes" if pruning.diagonal[k] else "no",
                ]
            )
    return aligned(
        ["run", noun_of(outputs), "filters", "by chance", "own", "others", "own the largest drop"], rows
    )


def _filter_counts(runs: Sequence[Findings]) -> str:
    """A row for each set of owners and each normalisation, a column for each output."""
    rows, outputs = [], runs[0].outputs
    for run in runs:
        for pruning, summed_over in ((run.pruning, "all *"), (run.pruning_same_owners, "same owners")):
            for stage in pruning.stages if pruning else ():
                owners = ", ".join(column(outputs[k]) for k in stage.owners)
                cells = [
                    f"{own} ({chance:.0f})" if k in stage.owners else "-"
                    for k, (own, chance) in enumerate(zip(stage.own, stage.chance or (), strict=True))
                ]
                rows.append([run.label, summed_over, owners, str(stage.filters), *cells])
    return aligned(["run", "sum over", f"shared by {noun_of(outputs)}s", "filters", *outputs], rows)


def _similarity(runs: Sequence[Findings]) -> str:
    rows, header = [], ["run", "raw", "centred"]
    for run in runs:
        if run.routes and (likeness := run.routes.likeness):
            apart = ~likeness.raw.isnan().fill_diagonal_(True)
            means = [f"{matrix[apart].mean().item():.3f}" for matrix in (likeness.raw, likeness.centred)]
            rows.append([run.label, *means, *(f"{value:.3f}" for value in likeness.chance.values())])
            header = ["run", "raw", "centred", *(f"by chance: {name}" for name in likeness.chance)]
    return aligned(header, rows)


def _convergence(curves: Sequence[Curves]) -> str:
    names = [name for name in curves[0].values if all(name in course.values for course in curves)]
    rows = [
        [
            course.label,
            f"{course.epochs[-1]:g}",
            f"{course.passes[-1]:.4g}",
            *(_last(course, name) for name in names),
        ]
        for course in curves
    ]
    return folded(["run", "epochs", "passes", *(name.replace("_", " ") for name in names)], rows)


def _last(course: Curves, name: str) -> str:
    """Value of a curve after the last epoch, as text."""
    value = course.values[name][-1]
    return value.text(four_digits(value.mean)) if course.tasks else str(value)


def _signed(value: float | None) -> str:
    return "-" if value is None else signed(value)
