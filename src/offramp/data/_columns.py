"""Columns of a table, or keys of a sample, that hold the images or texts and the labels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from offramp.data.asked import Asked
from offramp.errors import UserError, cut, guess, shown

__all__ = ["USUAL", "Columns"]

USUAL = {
    "image": ("image", "img", "pixel_values"),
    "text": ("text", "sentence"),
    "label": ("label", "fine_label", "labels"),
}  # CIFAR-100: fine_label
PLURAL = {"image": "images", "text": "texts", "label": "labels"}


Misfit = Callable[[str, str], str | None]  # role and column -> what it holds, if it cannot serve


@dataclass(frozen=True)
class Columns:
    """The columns of images or texts and of their targets: those that a user names, or else the usual ones.

    Attributes:
        content: Column of the images or texts; None: by its usual name, or the only one declared so.
        label: Column of the labels, likewise.
        required: Whether data without columns, or without these, are refused.
        kind: What the content is, ``"image"`` or ``"text"``.
        asked: The columns of several targets, by the names of these; None: there is one class, ``label``.
    """

    content: str | None = None
    label: str | None = None
    required: bool = True
    kind: str = "image"
    asked: Mapping[str, Asked] | None = None

    @property
    def _wanted(self) -> list[tuple[str, str | None]]:
        roles = [(self.kind, self.content)]
        return roles if self.asked is not None else [*roles, ("label", self.label)]

    def pick(
        self,
        name: str,
        columns: Collection[str],
        misfit: Misfit = lambda role, column: None,
        declared: Mapping[str, Collection[str]] | None = None,
    ) -> tuple[str, str | None]:
        """Choose the columns of the images or texts and of the labels, and look for those of other targets.

        Args:
            name: Name of the table in errors.
            columns: Names of its columns.
            misfit: Role (``image``, ``text``, ``label`` or ``target``) and column -> description of what the
                column holds, if it cannot serve; else None.
            declared: Role -> columns that the table itself declares to be such.

        Returns:
            The column of the labels is None where several targets are asked for.

        Raises:
            UserError: A column is missing or holds something else; one line says so of all of them.
        """
        picked, faults = {}, []
        for role, wanted in self._wanted:
            if wanted is not None and (wanted in columns or self.required):
                candidates = [wanted]
            else:
                declared_columns = (declared or {}).get(role, ())
                candidates = [*USUAL[role], *(declared_columns if len(declared_columns) == 1 else ())]
            present = [column for column in candidates if column in columns]
            fit = [column for column in present if misfit(role, column) is None]
            if fit:
                picked[role] = fit[0]
            elif present:
                faults.append(
                    f"column {shown(present[0])} holds {misfit(role, present[0])}; choose another by "
                    f"`{role}=...`"
                )
            else:
                missing = (
                    f"no column {shown(wanted)}{guess(wanted, columns)}"
                    if wanted
                    else f"no column of {PLURAL[role]}"
                )
                faults.append(f"{missing} among {_listed(columns)}; choose it by `{role}=...`")
        faults += self._faults_of_targets(columns, misfit)
        if faults:
            texts = self.kind == "image" and "image" not in picked
            remedy = "; for texts give their tokenizer by `tokenizer=...`" if texts else ""
            raise UserError(f"{name}: {', and '.join(faults)}{remedy}")
        return picked[self.kind], picked.get("label")

    def check_targets(self, name: str, columns: Collection[str]) -> None:
        """Look for the columns of the targets that are asked for.

        Raises:
            UserError: One of them is missing.
        """
        if faults := self._faults_of_targets(columns, lambda role, column: None):
            raise UserError(f"{name}: {', and '.join(faults)}")

    def _faults_of_targets(self, columns: Collection[str], misfit: Misfit) -> list[str]:
        faults = []
        for key, (column, _) in (self.asked or {}).items():
            if column not in columns:
                faults.append(
                    f"no column {shown(column)}{guess(column, columns)} among {_listed(columns)}; choose "
                    f"that of {shown(key)} by `tasks={{{cut(key, 100)}: ...}}`"
                )
            elif problem := misfit("target", column):
                faults.append(f"column {shown(column)} holds {problem}; choose another for {shown(key)}")
        return faults

    def refuse(self, name: str, targets: Collection[str] = ("label",)) -> None:
        """Refuse a choice of columns for data that have none, and of other targets than theirs.

        Args:
            name: Name of the data in errors.
            targets: Keys of their targets.

        Raises:
            UserError: A column or another target was chosen.
        """
        chosen = [f"`{role}={shown(column)}`" for role, column in self._wanted if column is not None]
        if chosen and self.required:
            raise UserError(f"{name} has no columns to choose from; leave {' and '.join(chosen)} out")
        self.check_targets(name, targets)


def _listed(columns: Collection[str]) -> str:
    """The names of columns in an error, of which there may be thousands."""
    return cut(", ".join(columns), 300)
