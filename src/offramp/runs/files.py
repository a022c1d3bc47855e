"""Files that are wholly there or not at all, whatever kills the process; refusals in a line."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from offramp.errors import UserError
from offramp.places import REMEDIES

__all__ = ["RESTORE", "disk_errors", "read_errors", "write_file", "write_folder"]

RESTORE = "restore it from a copy, or train anew into another folder"


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal (a full disk, no permission, a file in the way) into one line.

    Raises:
        UserError: In place of an OSError.
    """
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(
            f"cannot write {path}: a file stands where a folder must be; move it away, or give another folder"
        ) from error
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "make room or fix the permissions")
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; {remedy}, "
            "then resume the run: what was saved before is intact"
        ) from error


@contextlib.contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turn the refusal to read (no file, a folder in its place, no permission) into one line.

    Raises:
        UserError: In place of an OSError.
    """
    try:
        yield
    except PermissionError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; fix the permissions") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; {RESTORE}") from error


def write_file(path: Path, data: bytes) -> None:
    """Write beside, flush to the disk, then rename over the old file.

    Raises:
        UserError: The disk is full or not writable; the old file stays as it is.
    """
    beside = path.with_name(f".{path.name}.new")
    with disk_errors(path):
        try:
            _write(beside, data)
            os.replace(beside, path)
            _sync(path.parent)
        except OSError:
            beside.unlink(missing_ok=True)
            raise


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a new folder beside, flush it to the disk, then rename it into place.

    Raises:
        UserError: The disk is full or not writable; no folder appears.
    """
    beside = path.with_name(f".{path.name}.new")
    with disk_errors(path):
        try:
            shutil.rmtree(beside, ignore_errors=True)  # what a killed process left
            beside.mkdir(parents=True)
            for name, data in files.items():
                _write(beside / name, data)
            _sync(beside)
            os.replace(beside, path)
            _sync(path.parent)
        except OSError:
            shutil.rmtree(beside, ignore_errors=True)
            raise


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make a rename in the folder last (a no-op where folders cannot be opened, as on Windows)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
