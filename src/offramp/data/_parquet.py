"""Parquet files in the Hugging Face layout: ``train.parquet`` or ``data/train-00000-of-00001.parquet``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from offramp.data._extra import extra
from offramp.data._files import hidden
from offramp.errors import UserError, cut, error_text, shown

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

__all__ = ["ParquetTable", "find_parquet"]

MOST_ROWS = 10**9  # for each of which 8 bytes of an index are kept; what says more is damaged


def find_parquet(folder: Path, split: str) -> list[Path]:
    """The files of a split, in the folder itself, in ``data/``, or in the one subfolder that has them.

    Raises:
        UserError: Several subfolders have such files, or a shard of a set is missing.
    """
    subfolders = sorted(path for path in folder.iterdir() if path.is_dir() and not hidden(path))
    for folders in ([folder], [folder / "data"], subfolders):
        candidates = [files for parent in folders if (files := _files(parent, split))]
        if len(candidates) > 1:
            names = ", ".join(str(files[0].parent) for files in candidates)
            raise UserError(f"{folder} holds several data sets ({names}); give one of these folders")
        if candidates:
            return candidates[0]
    return []


def _files(folder: Path, split: str) -> list[Path]:
    whole = folder / f"{split}.parquet"
    if whole.is_file():
        return [whole]
    shards = sorted(folder.glob(f"{split}-*.parquet"))
    for shard in shards:
        if not shard.is_file():
            raise UserError(f"{shard} is no file; replace or remove it")
    total = re.search(r"-of-(\d+)", shards[0].name) if shards else None
    if total and int(total[1]) != len(shards):
        raise UserError(
            f"{folder} has {len(shards)} of {int(total[1])} files {split}-*.parquet; fetch the rest"
        )
    return shards


class ParquetTable:
    """The parquet files of one split as one table. Opening it reads the footers only.

    Raises:
        UserError: A file is not parquet, is cut short, or differs in columns from the first.
    """

    order = None

    def __init__(self, files: Sequence[Path]) -> None:
        self.name = str(files[0]) if len(files) == 1 else f"{files[0].parent} ({len(files)} files)"
        self.folder = files[0].parent
        self._files = files
        self._counts: list[int] = []
        for file in files:
            with _open_parquet(file) as parquet_file:
                self._counts.append(_rows_of(parquet_file, file))
                if file == files[0]:
                    self.schema: pa.Schema = parquet_file.schema_arrow
                elif parquet_file.schema_arrow.names != self.schema.names:
                    raise UserError(f"{file} has other columns than {files[0].name}; fetch or make it again")
        self.num_rows = sum(self._counts)

    def column(self, name: str) -> pa.ChunkedArray:
        """Read one column of all files."""
        chunks: list[pa.Array] = []
        for file, count in zip(self._files, self._counts, strict=True):
            with _open_parquet(file) as parquet_file:
                found = parquet_file.read(columns=[name])
            if found.num_rows != count or name not in found.column_names:
                raise UserError(
                    f"{file} is not as it was when it was opened, or not as it says: {found.num_rows:,} rows "
                    f"of {count:,}, columns {cut(', '.join(found.column_names), 200)}; fetch or make it again"
                )
            chunks += found.column(name).chunks
            if chunks and chunks[-1].type != chunks[0].type:
                here, there = (cut(str(chunks[place].type), 100) for place in (-1, 0))
                kinds = f"{here}, in {self._files[0].name} {there}"
                raise UserError(
                    f"{file}: column {shown(name)} holds {kinds}; make it again with the same columns"
                )
        return extra("pyarrow").chunked_array(chunks)

    def location(self, row: int) -> str:
        """Name of a row in an error: its file, and its number in that."""
        file = 0
        while row >= self._counts[file]:
            row -= self._counts[file]
            file += 1
        return f"{self._files[file]}, row {row}"


@contextmanager
def _open_parquet(file: Path) -> Iterator[ParquetFile]:
    parquet = extra("pyarrow.parquet")
    try:
        with parquet.ParquetFile(file) as parquet_file:
            yield parquet_file
    except MemoryError:  # which pyarrow's is too
        raise
    except (extra("pyarrow").ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{file} is not a whole parquet file ({error_text(error)}); fetch or make it again"
        ) from error


def _rows_of(parquet_file: ParquetFile, file: Path) -> int:
    """How many rows a file says that it has.

    Raises:
        UserError: Its parts have not as many, or no file has.
    """
    metadata = parquet_file.metadata
    rows: int = metadata.num_rows
    parts = sum(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    if rows != parts or not 0 <= rows <= MOST_ROWS:
        raise UserError(
            f"{file} says that it has {rows:,} rows, and {parts:,} in its parts; fetch or make it again"
        )
    return rows
