"""How many threads each run of a sweep has: one number for all its runs, kept in the sweep's folder."""

from __future__ import annotations

from pathlib import Path

from offramp.checks import MOST_THREADS, is_thread_count
from offramp.errors import UserError
from offramp.plain_json import parse_json
from offramp.runs.files import read_bytes, write_files
from offramp.runs.record import as_json

__all__ = ["settled_threads"]

DEFAULT = 1  # the same on every machine; more runs at a time make better use of cores than more threads


def settled_threads(out: Path, asked: int | None) -> int:
    """The number of threads with which a sweep began, noted in its ``sweep.json`` if it begins now.

    Args:
        out: Folder of the runs.
        asked: What its file asks for.

    Raises:
        UserError: It began with another number than is asked for, or the note is damaged.
    """
    path = out / "sweep.json"
    if not path.exists():
        threads = DEFAULT if asked is None else asked
        write_files(out, {path.name: as_json({"threads": threads})})
        return threads
    text = read_bytes(path)
    try:
        threads = parse_json(text)["threads"]
    except (KeyError, TypeError, ValueError):
        threads = 0
    if not is_thread_count(threads):
        raise UserError(
            f"{path} does not say how many threads the runs have, from 1 to {MOST_THREADS}; restore it from "
            "a copy, or delete it and give their number as threads in the sweep's file"
        )
    if asked not in (None, threads):
        raise UserError(
            f"threads is {asked}, but the runs in {out} began with {threads}, and another number gives other "
            f"weights; take threads: {threads} in the sweep's file, or another out folder"
        )
    return threads
