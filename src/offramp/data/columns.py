"""Which columns of a table, or keys of a sample, hold the images and the labels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from offramp.errors import UserError, guess

__all__ = ["Columns"]

USUAL = {
    "image": ("image", "img", "pixel_values"),
    "label": ("label", "fine_label", "labels"),
}  # CIFAR-100: fine_label
WHAT = {"image": "images", "label": "labels"}


@dataclass(frozen=True)
class Columns:
    """The columns of images and labels that a user names, or the usual ones.

    Attributes:
        image: Column of the images; None: by its usual name, or the only one declared so.
        label: Column of the labels, likewise.
        insist: Whether data without columns, or without these, are refused.
    """

    image: str | None = None
    label: str | None = None
    insist: bool = True

    def pick(
        self,
        name: str,
        columns: Collection[str],
        unfit: Callable[[str, str], str | None] = lambda role, column: None,
        declared: Mapping[str, Collection[str]] | None = None,
    ) -> tuple[str, str]:
        """Choose the columns of the images and of the labels.

        Args:
            name: What the table is called.
            columns: Those there are.
            unfit: Role (``image`` or ``label``) and column -> what the column holds, if it cannot serve; else
                None.
            declared: Role -> columns that the table itself declares to be such.

        Raises:
            UserError: A column is missing or holds something else; one line says so of both.
        """
        picked, faults = {}, []
        for role, chosen in (("image", self.image), ("label", self.label)):
            if (chosen is not None and chosen in columns) or (chosen is not None and self.insist):
                candidates = [chosen]
            else:
                only = (declared or {}).get(role, ())
                candidates = [*USUAL[role], *(only if len(only) == 1 else ())]
            there = [column for column in candidates if column in columns]
            fit = [column for column in there if unfit(role, column) is None]
            if fit:
                picked[role] = fit[0]
            elif there:
                faults.append(
                    f"column {there[0]!r} holds {unfit(role, there[0])}; choose another by `{role}=...`"
                )
            else:
                missing = (
                    f"no column {chosen!r}{guess(chosen, columns)}"
                    if chosen
                    else f"no column of {WHAT[role]}"
                )
                faults.append(f"{missing} among {', '.join(columns)}; choose it by `{role}=...`")
        if faults:
            raise UserError(f"{name}: {', and '.join(faults)}")
        return picked["image"], picked["label"]

    def refuse(self, name: str) -> None:
        """Refuse a choice of columns for data that have none.

        Raises:
            UserError: A column was chosen.
        """
        chosen = [
            f"`{role}={c!r}`" for role, c in (("image", self.image), ("label", self.label)) if c is not None
        ]
        if chosen and self.insist:
            raise UserError(f"{name} has no columns to choose from; leave {' and '.join(chosen)} out")
