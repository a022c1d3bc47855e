"""Hugging Face data sets: from the hub, by name, and as Python objects."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from offramp.data._extra import extra
from offramp.errors import UserError, shown

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

__all__ = ["HubTable", "load_hub"]


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Silence the hub client's messages on its retries; what comes of them is said once, by us."""
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(max(logger.getEffectiveLevel(), logging.ERROR))
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class HubTable:
    """One split of a `datasets.DatasetDict`: Arrow files, mapped into memory."""

    folder = Path()

    def __init__(self, name: str, data: datasets.Dataset) -> None:
        self.name = name
        self.schema: pa.Schema = data.features.arrow_schema
        self.num_rows = len(data)
        self._table: pa.Table = data.data.table
        indices = data._indices  # of one that was shuffled, selected from or split
        self.order: np.ndarray | None = None if indices is None else indices.column(0).to_numpy()

    def column(self, name: str) -> pa.ChunkedArray:
        """A column, not copied."""
        return self._table.column(name)

    def location(self, row: int) -> str:
        """Name of a row in an error: its split and number."""
        return f"{self.name}, row {row}"


def load_hub(name: str, **files: object) -> dict[str, HubTable]:
    """Load a data set of the hub, which is fetched into the local cache unless it is there.

    Args:
        name: ``organisation/set``, or a builder such as ``parquet`` with its `files`.
        files: Passed on to ``datasets.load_dataset``.

    Raises:
        UserError: `datasets` is not installed, the hub cannot be reached, or has no such set.
    """
    datasets = extra("datasets")
    try:
        with _quiet_hub():
            splits = datasets.load_dataset(name, **files)
    except Exception as error:  # network, authorisation, configuration, builder: a dozen unrelated types
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"no folder {shown(name)} here, and the hub does not give it ({reason}); check name and network, "
            "or give a folder with train.parquet and test.parquet"
        ) from error
    return {split: HubTable(f"{name} {split}", data) for split, data in splits.items()}
