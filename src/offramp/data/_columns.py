"""Columns of a table, or keys of a sample, that hold the images or texts and the labels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from offramp.errors import UserError, guess

__all__ = ["USUAL", "Columns"]

USUAL = {
    "image": ("image", "img", "pixel_values"),
    "text": ("text", "sentence"),
    "label": ("label", "fine_label", "labels"),
}  # CIFAR-100: fine_label
PLURAL = {"image": "images", "text": "texts", "label": "labels"}


@dataclass(frozen=True)
class Columns:
    """The columns of images or texts and of labels: those that a user names, or else the usual ones.

    Attributes:
        content: Column of the images or texts; None: by its usual name, or the only one declared so.
        label: Column of the labels, likewise.
        required: Whether data without columns, or without these, are refused.
        kind: What the content is, ``"image"`` or ``"text"``.
    """

    content: str | None = None
    label: str | None = None
    required: bool = True
    kind: str = "image"

    @property
    def _wanted(self) -> tuple[tuple[str, str | None], tuple[str, str | None]]:
        return (self.kind, self.content), ("label", self.label)

    def pick(
        self,
        name: str,
        columns: Collection[str],
        misfit: Callable[[str, str], str | None] = lambda role, column: None,
        declared: Mapping[str, Collection[str]] | None = None,
    ) -> tuple[str, str]:
        """Choose the columns of the images or texts and of the labels.

        Args:
            name: Name of the table in errors.
            columns: Names of its columns.
            misfit: Role (``image``, ``text`` or ``label``) and column -> description of what the column
                holds, if it cannot serve; else None.
            declared: Role -> columns that the table itself declares to be such.

        Raises:
            UserError: A column is missing or holds something else; one line says so of both.
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
                    f"column {present[0]!r} holds {misfit(role, present[0])}; choose another by `{role}=...`"
                )
            else:
                missing = (
                    f"no column {wanted!r}{guess(wanted, columns)}"
                    if wanted
                    else f"no column of {PLURAL[role]}"
                )
                faults.append(f"{missing} among {', '.join(columns)}; choose it by `{role}=...`")
        if faults:
            texts = self.kind == "image" and "image" not in picked and {*USUAL["text"]} & {*columns}
            remedy = "; for texts give their tokenizer by `tokenizer=...`" if texts else ""
            raise UserError(f"{name}: {', and '.join(faults)}{remedy}")
        return picked[self.kind], picked["label"]

    def refuse(self, name: str) -> None:
        """Refuse a choice of columns for data that have none.

        Raises:
            UserError: A column was chosen.
        """
        chosen = [f"`{role}={column!r}`" for role, column in self._wanted if column is not None]
        if chosen and self.required:
            raise UserError(f"{name} has no columns to choose from; leave {' and '.join(chosen)} out")
