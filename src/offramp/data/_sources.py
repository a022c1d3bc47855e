"""Data sources: a folder of parquet files or images, a name on the hub, or an object in Python."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from offramp.data._arrays import ArrayRows
from offramp.data._columns import Columns
from offramp.data._dense_rows import MAPS, DenseRows
from offramp.data._dense_table import DenseTableRows, is_dense
from offramp.data._digits import TEST, load_digits
from offramp.data._folder import FolderRows
from offramp.data._hub import load_hub
from offramp.data._line_files import LineTable, find_line_file
from offramp.data._npy_rows import NpyRows, holds_npy
from offramp.data._objects import KINDS, object_name, open_rows
from offramp.data._parquet import ParquetTable, find_parquet
from offramp.data._room_rows import RoomOptions
from offramp.data._rows import Rows
from offramp.data._table import Table, TableRows
from offramp.data.targets import LABEL
from offramp.errors import UserError, an_object, guess, shown
from offramp.paths import kind_of, user_path

__all__ = ["MAX_BYTES", "Source", "find_source", "is_embedded"]

T = TypeVar("T")

MAX_BYTES = 2 * 2**30  # sets above this size are not read into memory
SPLITS = {
    "train": "train",
    "test": "test",
    "validation": "val",
    "valid": "val",
    "val": "val",
}  # name of a split in a source -> its name here
EMBEDDED = ("digits", "rooms")  # sets that need no files


@dataclass(frozen=True)
class Source:
    """A data set where it is stored: its splits, not decoded.

    Attributes:
        name: Its name in tables.
        text: The text with which it is opened again.
        splits: ``"train"``, and if there are any ``"val"`` and ``"test"``.
        notes: Remarks for the user, line by line.
        in_python: Whether it is an object, which nobody opens again by its name.
        dense: The splits of a set whose samples have a target for every pixel; it has no others.
    """

    name: str
    text: str
    splits: dict[str, Rows]
    notes: tuple[str, ...] = ()
    in_python: bool = False
    dense: dict[str, DenseRows] = field(default_factory=dict)


def find_source(source: Any, columns: Columns) -> Source:
    """Find the splits of a data set by a name, a folder or an object.

    Raises:
        UserError: Nothing is there, the training split is missing or empty, or a file is damaged.
    """
    if not isinstance(source, (str, os.PathLike)):
        return _in_python(source, columns)
    source = os.fspath(source)
    if source == "digits":
        columns.refuse(source)
        return Source(source, source, _digits(columns))
    if is_embedded(source):
        columns.refuse("rooms", MAPS)
        options = RoomOptions.of(source)
        return Source(str(options), source, {}, dense=options.splits())
    path = user_path(source)
    if os.path.isdir(path):  # which says no of what can be no path
        if dense := _dense_in_folder(path):
            columns.refuse(source, MAPS)
            return Source(path.resolve().name, source, {}, dense=dense)
        return Source(path.resolve().name, source, _in_folder(path, columns))
    if os.path.exists(path):
        raise UserError(
            f"{source} is {kind_of(path.stat().st_mode)}, not a folder; give the folder that holds the "
            "training and the test split, e.g. as train.parquet and test.parquet"
        )
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source) and not os.path.lexists(path.parent):
        tables = load_hub(source)
        if "train" not in tables:
            raise UserError(f"{source} has no split 'train' among {', '.join(tables)}; take another set")
        if is_dense(tables["train"]):
            columns.refuse(source, MAPS)
            return Source(path.resolve().name, source, {}, dense=_named(tables, DenseTableRows))
        splits: dict[str, Rows] = {
            SPLITS[name]: TableRows(tables[name], columns) for name in reversed(SPLITS) if name in tables
        }
        return Source(path.resolve().name, source, splits)
    if "/" not in source and "\\" not in source:
        raise UserError(
            f"no data set {shown(source)}{guess(source, EMBEDDED)}; "
            "give 'digits', 'rooms', a folder, or a hub name like 'uoft-cs/cifar100'"
        )
    raise UserError(f"no such folder: {shown(source)}; give one with train.parquet, or with train/<class>/")


def is_embedded(source: str) -> bool:
    """Whether a text names a set that needs no files: ``digits``, or ``rooms`` with or without options."""
    return source == "digits" or source.partition(":")[0] == "rooms"


def _digits(columns: Columns) -> dict[str, Rows]:
    images, labels = load_digits()
    parts = {"train": slice(0, -TEST), "test": slice(-TEST, None)}
    names = tuple("0123456789")
    return {
        split: ArrayRows(images[part], {LABEL: labels[part]}, "digits", names, columns.asked)
        for split, part in parts.items()
    }


def _in_folder(folder: Path, columns: Columns) -> dict[str, Rows]:
    splits: dict[str, Rows] = {}
    train = find_parquet(folder, "train")
    if train:
        for name in reversed(SPLITS):  # of several names for a split, the first counts
            if files := train if name == "train" else find_parquet(train[0].parent, name):
                splits[SPLITS[name]] = TableRows(_table(files), columns)
        return splits
    if find_line_file(folder, "train"):
        for name in reversed(SPLITS):
            if file := find_line_file(folder, name):
                splits[SPLITS[name]] = TableRows(LineTable(file), columns)
        return splits
    if not (folder / "train").is_dir():
        classes = any(each.is_dir() for each in folder.iterdir())
        remedy = "move its folders of classes into train/, or " if classes else ""
        raise UserError(f"{folder} has neither train.parquet nor train/<class>/; {remedy}give another folder")
    columns.refuse(str(folder))
    for name in reversed(SPLITS):
        if (folder / name).is_dir():
            splits[SPLITS[name]] = FolderRows(folder / name, columns.asked)
    return splits


def _dense_in_folder(folder: Path) -> dict[str, DenseRows]:
    """The splits of a folder of ``.npy`` files or of parquet files with maps; empty of any other."""
    if (folder / "train").is_dir() and holds_npy(folder / "train"):
        return _named({name: folder / name for name in SPLITS if (folder / name).is_dir()}, NpyRows)
    train = find_parquet(folder, "train")
    if not train or not is_dense(_table(train)):
        return {}
    files = {name: find_parquet(train[0].parent, name) for name in SPLITS}
    return _named({name: _table(found) for name, found in files.items() if found}, DenseTableRows)


def _named(stored: Mapping[str, T], read: Callable[[T], DenseRows]) -> dict[str, DenseRows]:
    """The splits under their names here; of several names for a split, the first counts."""
    return {SPLITS[name]: read(stored[name]) for name in reversed(SPLITS) if name in stored}


def _table(files: list[Path]) -> Table:
    table = ParquetTable(files)
    if sum(file.stat().st_size for file in files) > MAX_BYTES:
        large = load_hub("parquet", data_files={"train": [str(file) for file in files]})["train"]
        large.folder = files[0].parent
        return large
    return table


def _in_python(data: Any, columns: Columns) -> Source:
    parts = data if isinstance(data, Mapping) else {"train": data}
    notes: list[str] = []
    unused = [str(name) for name in parts if name not in SPLITS]
    if len(unused) == len(parts) == 1:
        raise UserError(
            f"{shown(unused[0])} names the only data set, which needs no name; give the set itself, or "
            f"another one beside it; the names of splits are {', '.join(SPLITS)}"
        )
    if len(unused) == len(parts):
        raise UserError(
            f"{an_object(data)} of {', '.join(unused) or 'nothing'} has no split 'train'; give {KINDS}"
        )
    if unused:
        notes.append(f"not used: split {', '.join(unused)}; the names are {', '.join(SPLITS)}")
    splits: dict[str, Rows] = {}
    for name in reversed(SPLITS):
        if name in parts:
            label = object_name(parts[name])
            rows, row_notes = open_rows(parts[name], f"{label} {name}" if parts is data else label, columns)
            splits[SPLITS[name]] = rows
            notes += row_notes
    if "train" not in splits:
        if columns.required:
            raise UserError(f"no split 'train' among {', '.join(map(str, parts))}; give it as well")
        splits = {"train": splits.get("test", splits.get("val"))}  # type: ignore[dict-item]
    name = object_name(parts.get("train", next(iter(parts.values()))))
    return Source(name, f"{name} in Python", splits, tuple(notes), in_python=True)
