"""A diagnosis as text, as plain values, and as files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from offramp.analysis import pictures
from offramp.analysis.convergence import Curves
from offramp.analysis.findings import Findings, RouteFindings
from offramp.analysis.pictures.filters import FilterLine
from offramp.analysis.settings import Settings
from offramp.analysis.tables import tables
from offramp.errors import UserError

__all__ = ["Diagnosis"]

T = TypeVar("T")


@dataclass(frozen=True)
class Diagnosis:
    """What :func:`~offramp.analysis.diagnose` returns.

    Attributes:
        settings: What was asked for.
        runs: What was found about each run.
        curves: How training went, one per method (runs that differ in their seed are one).
    """

    settings: Settings
    runs: tuple[Findings, ...]
    curves: tuple[Curves, ...]

    @property
    def notes(self) -> list[str]:
        """What a reader has to know beside the numbers."""
        without = [one.label for one in self.runs if one.routes is None]
        if "routes" not in self.settings.what or not without:
            return []
        return [f"no learned routes (routes.safetensors) in {', '.join(without)}: nothing to show of them"]

    def table(self) -> str:
        """The numbers to read first."""
        parts = tables(self.runs, self.curves, self.settings)
        return "\n\n".join([*parts, *(f"note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "settings": {**asdict(self.settings), "what": list(self.settings.what)},
            "runs": [one.to_dict() for one in self.runs],
            "convergence": [one.to_dict() for one in self.curves],
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
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            document = {**self.to_dict(), "pictures": self._draw(folder)}
            text = json.dumps(document, indent=1, allow_nan=False)
            (folder / "diagnosis.json").write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {str(folder)!r}: {error.strerror}; give another folder") from error
        return document

    def _draw(self, folder: Path) -> dict[str, str]:
        drawn: dict[str, str] = {}

        def draw(name: str, function: Callable[..., None], content: Any, *more: Any) -> None:
            if content:
                drawn[name] = str(folder / f"{name}.png")
                function(folder / f"{name}.png", content, *more)

        draw("conflict", pictures.draw_interference, self._of(lambda one: one.interference))
        draw("filters", pictures.draw_filters, self._filters(), self._layers())
        draw(
            "importance", pictures.draw_pruning, self._of(lambda one: one.pruning),
            "accuracy without the filters that an exit needs most\n"
            f"(by gradient norms, Eq 5; {self._images()})",
            self._of(lambda one: one.pruning and one.pruning.chance),
        )  # fmt: skip
        draw(
            "importance-same-owners", pictures.draw_pruning, self._of(lambda one: one.pruning_same_owners),
            "accuracy without the filters that an exit needs most\n"
            f"(by gradient norms, among filters with the same owners; {self._images()})",
            self._of(lambda one: one.pruning_same_owners and one.pruning_same_owners.chance),
        )  # fmt: skip
        draw(
            "routes-importance", pictures.draw_pruning, self._routes(lambda routes: routes.pruning),
            f"accuracy without the filters that an exit needs most\n(as learned; {self._images()})",
        )  # fmt: skip
        draw("similarity", pictures.draw_similarity, self._routes(lambda routes: routes.likeness))
        draw("routes", pictures.draw_routes, self._routes(lambda routes: routes.drawn))
        draw("convergence", pictures.draw_convergence, self.curves)
        return drawn

    def _images(self) -> str:
        return {"val": "validation images", "test": "test images"}[self.settings.split]

    def _of(self, get: Callable[[Findings], T | None]) -> dict[str, T]:
        return {one.label: value for one in self.runs if (value := get(one)) is not None}

    def _routes(self, get: Callable[[RouteFindings], T | None]) -> dict[str, T]:
        return self._of(lambda one: None if one.routes is None else get(one.routes))

    def _layers(self) -> tuple[str, ...]:
        return next((one.layers for one in self.runs if one.layers), ())

    def _filters(self) -> list[FilterLine]:
        """A line per method, and another for plain gradients where its forks let others through."""
        methods: dict[str, list[Findings]] = {}
        for one in self.runs:
            if one.filters is not None:
                methods.setdefault(one.method, []).append(one)
        lines = []
        for number, (name, runs) in enumerate(methods.items()):
            plain = [one.filters for one in runs if one.filters is not None]
            trained = [one.filters_as_trained for one in runs if one.filters_as_trained is not None]
            if trained:
                lines.append(FilterLine(f"{name}, gradients of its training", number, False, trained))
            lines.append(
                FilterLine(f"{name}, plain gradients" if trained else name, number, bool(trained), plain)
            )
        return lines
