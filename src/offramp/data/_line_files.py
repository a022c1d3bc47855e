"""Files of a line for each row: ``train.csv`` with a header, or ``train.jsonl`` of JSON objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from offramp.data._extra import extra
from offramp.data._files import open_regular
from offramp.errors import UserError, error_text

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LineTable", "find_line_file"]

ENDINGS = (".csv", ".jsonl")
DEEP = 64  # brackets of a line that are looked at one by one


def find_line_file(folder: Path, split: str) -> Path | None:
    """The file of a split in a folder, if it has one."""
    return next((file for end in ENDINGS if (file := folder / f"{split}{end}").is_file()), None)


class LineTable:
    """The rows of such a file as a table in memory; the columns have the types that their values show.

    Raises:
        UserError: The file cannot be read.
    """

    order = None

    def __init__(self, file: Path) -> None:
        self.name, self.folder = str(file), file.parent
        try:
            self._table: pa.Table = _read(file)
        except (extra("pyarrow").ArrowException, OSError) as error:
            raise UserError(f"{file} cannot be read ({error_text(error)}); correct or replace it") from error
        self.schema: pa.Schema = self._table.schema
        self.num_rows: int = self._table.num_rows

    def column(self, name: str) -> pa.ChunkedArray:
        """One column."""
        return self._table.column(name)

    def location(self, row: int) -> str:
        """The file and the row in it, from 0, a header not counted."""
        return f"{self.name}, row {row}"


def _read(file: Path) -> pa.Table:
    if file.suffix == ".csv":
        csv = extra("pyarrow.csv")
        return csv.read_csv(file, parse_options=csv.ParseOptions(newlines_in_values=True))
    _check_lines(file)
    return extra("pyarrow.json").read_json(file)


def _check_lines(file: Path) -> None:
    """Check that every line is the beginning of an object, not nested without end: others crash pyarrow.

    Raises:
        UserError: One is not.
    """
    with open_regular(file) as lines:
        for number, line in enumerate(lines, 1):
            if line.lstrip()[:1] not in (b"", b"{"):
                raise UserError(f"{file}, line {number} is no JSON object {{...}}; correct or remove it")
            if line.count(b"[") + line.count(b"{") > DEEP:
                try:
                    json.loads(line)
                except RecursionError:
                    raise UserError(f"{file}, line {number} is nested without end; correct it") from None
                except ValueError:  # pyarrow says what is wrong
                    return
