"""Where a data set is: a folder of parquet files, an image folder, or a name on the hub."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from offramp.data.folder import FolderRows
from offramp.data.hub import load_hub
from offramp.data.parquet import ParquetTable, find_parquet
from offramp.data.rows import Rows
from offramp.data.table import Table, TableRows
from offramp.errors import UserError, guess

__all__ = ["LARGE", "find"]

LARGE = 2 * 2**30  # bytes that are not taken into memory at once
TEST_NAMES = ("test", "validation", "valid", "val")  # the first that is there and has labels
KNOWN = ("digits",)


def find(source: str) -> tuple[Rows, Rows]:
    """The training and the test split of a source, not decoded.

    Raises:
        UserError: Nothing is there, a split is missing or empty, or a file is damaged.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _in_folder(path)
    if path.exists():
        raise UserError(f"{source} is a file; give the folder that holds the training and the test split")
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source) and not path.parent.is_dir():
        tables = load_hub(source)
        if "train" not in tables:
            raise UserError(f"{source} has no split 'train' among {', '.join(tables)}; take another set")
        tests = (tables[name] for name in TEST_NAMES if name in tables)
        return TableRows(tables["train"]), _test(source, tests)
    if "/" not in source and "\\" not in source:
        raise UserError(
            f"no data set {source!r}{guess(source, KNOWN)}; "
            "give 'digits', a folder, or a hub name like 'uoft-cs/cifar100'"
        )
    raise UserError(f"no such folder: {source}; give one with train.parquet, or with train/<class>/")


def _in_folder(folder: Path) -> tuple[Rows, Rows]:
    train = find_parquet(folder, "train")
    if train:
        tests = (files for name in TEST_NAMES if (files := find_parquet(train[0].parent, name)))
        return TableRows(_table(train)), _test(str(folder), map(_table, tests))
    if not (folder / "train").is_dir():
        raise UserError(f"{folder} has neither train.parquet nor train/<class>/; give another folder")
    rows = FolderRows(folder / "train")
    for name in TEST_NAMES:
        if (folder / name).is_dir():
            return rows, FolderRows(folder / name, rows.class_names)
    raise UserError(f"{folder} has no test split; add {folder / 'test'}/<class>/ with images")


def _table(files: list[Path]) -> Table:
    table = ParquetTable(files)
    if sum(file.stat().st_size for file in files) > LARGE:
        return load_hub("parquet", data_files={"train": [str(file) for file in files]})["train"]
    return table


def _test(source: str, tables: Iterable[Table]) -> TableRows:
    """The first table with labels; where a published test set has none, validation takes its place."""
    empty = ""
    for table in tables:
        rows = TableRows(table)
        if rows.labelled:
            return rows
        empty = f" with labels ({table.name} has none)"
    raise UserError(f"{source} has no test split{empty}; add one, e.g. test.parquet")
