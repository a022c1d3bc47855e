"""Diagnoses finished runs: where their outputs conflict, what each needs; as text, plain values and files."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from offramp.analysis import pictures
from offramp.analysis._findings import Findings, RouteFindings
from offramp.analysis._measure import measure
from offramp.analysis._subject import subject_of
from offramp.analysis._tables import tables
from offramp.analysis.convergence import Curves, curves
from offramp.analysis.filters import shared_owners
from offramp.analysis.pictures.filters import FilterLine
from offramp.analysis.settings import Settings
from offramp.checks import described, of_kind, path_of
from offramp.errors import UserError, shown
from offramp.nets import Net
from offramp.nets.net import check_net
from offramp.out_of_memory import out_of_memory_told
from offramp.output_paths import checked_path
from offramp.plain_json import plain_json
from offramp.reports import RunRecord, compare
from offramp.runs.run import Run
from offramp.tasks.outputs import noun_of

__all__ = ["Diagnosis", "diagnose"]

T = TypeVar("T")

TOO_LARGE = (
    "out of memory in a diagnosis, whose batches are those of the training (batch_size={}), "
    "in full precision; use a device with more memory, or leave conflict and filters out of what is measured"
)


def diagnose(
    runs: Sequence[str | Path | Run],
    settings: Settings = Settings(),  # noqa: B008  (frozen)
    *,
    net: Net | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Diagnosis:
    """Diagnose runs of one net on one data set.

    Args:
        runs: Finished runs, or their folders.
        settings: What to look at.
        net: One like those that were trained, to be copied for the weights of each folder; needed if
            ``offramp.nets`` has not built them.
        tell: Hears what is being measured, a line at a time.

    Raises:
        UserError: No finished runs of one net on one data set, outputs that share nothing, no validation
            images, or a damaged file.
    """
    of_kind("settings", settings, Settings, "offramp.analysis.Settings(...)")
    if isinstance(runs, str | Path | Run) or not isinstance(runs, Iterable):
        raise UserError(f"runs are {described(runs)}, must be a list of runs or their folders")
    runs = [*runs]
    if net is not None:
        check_net(net, "net")
    opened = {_folder(run): run for run in runs if isinstance(run, Run)}
    groups = compare([_folder(run) for run in runs]).groups
    nets = dict.fromkeys(run.net for group in groups for run in group.runs)
    if len(nets) > 1:
        raise UserError(
            f"the runs are of several nets, {', '.join(nets)}; diagnose those of one net at a time"
        )
    measured: list[Findings] = []
    if set(settings.what) != {"convergence"}:
        if len(groups) > 1 and {"conflict", "filters", "importance"} & set(settings.what):
            _check_sharing([group.runs[0] for group in groups], opened, net)  # before any is measured
        sets: dict[tuple[Any, ...], Any] = {}
        for group in groups:
            for run in group.runs:
                label = f"{group.label} seed {run.seed}" if len(group.runs) > 1 else group.label
                trained = opened.get(run.folder) or Run.open(run.folder, copy.deepcopy(net))
                with out_of_memory_told(partial(TOO_LARGE.format, trained.recipe.batch_size)):
                    subject = subject_of(trained, run, label, group.label, sets)
                    measured.append(measure(subject, settings, tell))
    training = [curves(group) for group in groups] if "convergence" in settings.what else []
    for course in training:
        if not course.values:
            raise UserError(
                f"the metrics.csv of {course.label} is missing or damaged, so there are no curves to show"
            )
    return Diagnosis(settings, tuple(measured), tuple(training))


@dataclass(frozen=True)
class Diagnosis:
    """The diagnosis of one or more runs, as :func:`~offramp.analysis.diagnose` returns it.

    Attributes:
        settings: The settings of the diagnosis.
        runs: Findings about each run.
        curves: Course of training, one per method (runs that differ in their seed are one).
    """

    settings: Settings
    runs: tuple[Findings, ...]
    curves: tuple[Curves, ...]

    @property
    def notes(self) -> list[str]:
        """Remarks to read beside the numbers."""
        without = [run.label for run in self.runs if run.routes is None]
        if "routes" not in self.settings.what or not without:
            return []
        return [f"no learned routes (routes.safetensors) in {', '.join(without)}: nothing to show of them"]

    def table(self) -> str:
        """The tables of what was measured, and the notes, as text."""
        parts = tables(self.runs, self.curves, self.settings)
        return "\n\n".join([*parts, *(f"note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """The settings, findings, curves and notes as plain values."""
        return {
            "settings": {**asdict(self.settings), "what": list(self.settings.what)},
            "runs": [run.to_dict() for run in self.runs],
            "convergence": [course.to_dict() for course in self.curves],
            "notes": self.notes,
        }

    def write(self, folder: str | Path) -> dict[str, Any]:
        """Write ``diagnosis.json`` and the pictures.

        Args:
            folder: Made if it is not there.

        Returns:
            The content of ``diagnosis.json``: :meth:`to_dict` and where the pictures lie.

        Raises:
            UserError: matplotlib is missing, or the folder cannot be written.
        """
        folder = checked_path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            document = {**self.to_dict(), "pictures": self._draw(folder)}
            text = plain_json(document, indent=1)
            (folder / "diagnosis.json").write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {shown(folder)}: {error.strerror}; give another folder") from error
        return document

    def _draw(self, folder: Path) -> dict[str, str]:
        drawn: dict[str, str] = {}

        def draw(name: str, function: Callable[..., None], content: Any, *more: Any) -> None:
            if content:
                drawn[name] = str(folder / f"{name}.png")
                function(folder / f"{name}.png", content, *more)

        names = self.runs[0].outputs if self.runs else ()
        noun = noun_of(names)
        title = f"metric without the filters that one {noun} needs most\n"
        draw("conflict", pictures.draw_interference, self._of(lambda run: run.interference), names)
        draw("conflict-pairs", pictures.draw_cosines, self._of(lambda run: run.cosines), names)
        draw("filters", pictures.draw_filters, self._filters(), self._layers())
        draw(
            "importance", pictures.draw_pruning, self._of(lambda run: run.pruning),
            f"{title}(by gradient norms, Eq 5; {self._images()})",
            self._of(lambda run: run.pruning and run.pruning.chance), names,
        )  # fmt: skip
        draw(
            "importance-same-owners", pictures.draw_pruning, self._of(lambda run: run.pruning_same_owners),
            f"{title}(by gradient norms, among filters with the same owners; {self._images()})",
            self._of(lambda run: run.pruning_same_owners and run.pruning_same_owners.chance), names,
        )  # fmt: skip
        draw(
            "routes-importance", pictures.draw_pruning, self._routes(lambda routes: routes.pruning),
            f"{title}(as learned; {self._images()})", None, names,
        )  # fmt: skip
        draw("similarity", pictures.draw_similarity, self._routes(lambda routes: routes.likeness), names)
        draw("routes", pictures.draw_routes, self._routes(lambda routes: routes.drawn), names)
        draw("convergence", pictures.draw_convergence, self.curves)
        return drawn

    def _images(self) -> str:
        return {"val": "validation images", "test": "test images"}[self.settings.split]

    def _of(self, get: Callable[[Findings], T | None]) -> dict[str, T]:
        return {run.label: value for run in self.runs if (value := get(run)) is not None}

    def _routes(self, get: Callable[[RouteFindings], T | None]) -> dict[str, T]:
        return self._of(lambda run: None if run.routes is None else get(run.routes))

    def _layers(self) -> tuple[str, ...]:
        return next((run.layers for run in self.runs if run.layers), ())

    def _filters(self) -> list[FilterLine]:
        """A line per method, and another for plain gradients where its forks let others through."""
        methods: dict[str, list[Findings]] = {}
        for run in self.runs:
            if run.filters is not None:
                methods.setdefault(run.method, []).append(run)
        lines = []
        for number, (name, runs) in enumerate(methods.items()):
            plain = [run.filters for run in runs if run.filters is not None]
            trained = [run.filters_as_trained for run in runs if run.filters_as_trained is not None]
            if trained:
                lines.append(FilterLine(f"{name}, gradients of its training", number, False, trained))
            lines.append(
                FilterLine(f"{name}, plain gradients" if trained else name, number, bool(trained), plain)
            )
        return lines


def _check_sharing(runs: Sequence[RunRecord], opened: Mapping[Path, Run], net: Net | None) -> None:
    """Check that the outputs of each run share weights.

    Raises:
        UserError: Those of a run do not, as of ``separate``.
    """
    for run in runs:
        trained = opened.get(run.folder) or Run.open(run.folder, copy.deepcopy(net))
        try:
            shared_owners(trained.net)
        except UserError as error:
            raise UserError(f"{run.folder}: {error}, and leave this run out") from None


def _folder(run: str | Path | Run) -> Path:
    if not isinstance(run, Run):
        return path_of("runs", run, "a run")
    if run.folder is None:
        raise UserError("a run that is kept nowhere has no curves to follow; train it with `out=...`")
    return run.folder
