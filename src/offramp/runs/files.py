"""Files that are wholly there or not at all, whatever kills the process; refusals in a line.

Files of a run are written by :func:`write_files` or :func:`write_folder`, which keep their checksums in
``SHA256SUMS`` beside them, and read by :func:`read_bytes`, which compares these.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import uuid4

from offramp.errors import UserError
from offramp.output_paths import REMEDIES
from offramp.paths import kind_of
from offramp.runs._checksums import SHA256SUMS, as_text, checksum, parsed
from offramp.say import say

__all__ = [
    "ANEW",
    "RESTORE",
    "SHA256SUMS",
    "check_files",
    "create_file",
    "disk_errors",
    "read_bytes",
    "read_errors",
    "remove_file",
    "say_if_unchecked",
    "write_file",
    "write_files",
    "write_folder",
]

ANEW = "train anew into another folder"
RESTORE = f"restore it from a copy, or {ANEW}"
RESUME = "resume the run: what was saved before is intact"


@contextlib.contextmanager
def disk_errors(path: Path, then: str = RESUME) -> Iterator[None]:
    """Turn the operating system's refusal (a full disk, no permission, a file in the way) into one line.

    Args:
        path: What is written.
        then: What is to be done once the reason is gone.

    Raises:
        UserError: In place of an OSError.
    """
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        folder = isinstance(error, IsADirectoryError)
        there, wanted = ("folder", "file") if folder else ("file", "folder")
        raise UserError(
            f"cannot write {path}: a {there} stands where a {wanted} must be; move it away, or give another "
            "folder"
        ) from error
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "make room or fix the permissions")
        raise UserError(f"cannot write {path}: {error.strerror or error}; {remedy}, then {then}") from error


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


def read_bytes(path: Path) -> bytes:
    """Read a file of a run, and check it if ``SHA256SUMS`` beside it has its sum.

    Raises:
        UserError: It cannot be read, or is not the file that was written.
    """
    for _ in range(2):  # a training may replace the file between a look at it and one at the sums
        data = _read(path)
        sums = _sums(path.parent).get(path.name)
        if sums is None or checksum(data) in sums:
            return data
    raise UserError(
        f"{path} is cut short, damaged or changed: its SHA-256 is not the one in {SHA256SUMS} beside it; "
        f"restore it from a copy, or, if the change is yours, delete its line in {SHA256SUMS}"
    )


def check_files(folder: Path) -> None:
    """Compare the files of a folder of a run with their checksums, all that are there.

    Raises:
        UserError: A file cannot be read, or is not the one that was written.
    """
    for name in _sums(folder):
        if (folder / name).is_file():
            read_bytes(folder / name)


def _read(path: Path) -> bytes:
    """The content of a file, and no waiting for that of a pipe."""
    with read_errors(path):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise UserError(f"cannot read {path}: it is {kind_of(mode)}, not a file; {RESTORE}")
        return path.read_bytes()


def say_if_unchecked(folder: Path) -> None:
    """Tell the user that a folder of a run has lost its checksums."""
    if not (folder / SHA256SUMS).exists():
        say(f"{folder / SHA256SUMS} is missing: the files there are read unchecked")


def _sums(folder: Path) -> dict[str, list[str]]:
    """The checksums of a folder's files by name; none in a folder without them."""
    path = folder / SHA256SUMS
    if not path.exists():
        return {}
    text = _read(path)
    try:
        return parsed(text)
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}); restore it from a copy, or delete it to read the files unchecked"
        ) from None


def write_file(path: Path, data: bytes, then: str = RESUME) -> None:
    """Write beside, flush to the disk, then rename over the old file.

    Args:
        path: The file.
        data: Its content.
        then: As of :func:`disk_errors`.

    Raises:
        UserError: The disk is full or not writable; the old file stays as it is.
    """
    beside = path.with_name(f".{path.name}.new")
    with disk_errors(path, then):
        try:
            _write(beside, data)
            os.replace(beside, path)
            _sync(path.parent)
        except BaseException:  # Ctrl+C too
            beside.unlink(missing_ok=True)
            raise


def create_file(path: Path, data: bytes) -> bool:
    """Write a file, whole at once, and its checksum, if none of its name is there.

    Returns:
        Whether this call has created it: of several processes one at most has.

    Raises:
        UserError: The disk is full or not writable.
    """
    beside = path.with_name(f".{path.name}.{uuid4().hex}.new")
    with disk_errors(path):
        try:
            _write(beside, data)
            try:
                os.link(beside, path)
            except FileExistsError:
                return False
            except OSError:  # a file system without hard links
                if path.exists():
                    return False
                os.replace(beside, path)
            _sync(path.parent)
        finally:
            beside.unlink(missing_ok=True)
    write_file(path.parent / SHA256SUMS, as_text({path.name: [checksum(data)]}))
    return True


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write or replace files of a run folder, each whole at every moment, and their checksums.

    Raises:
        UserError: The disk is full or not writable; each file is the old or the new one.
    """
    sums = _sums(folder)
    old = {name: sums.get(name) or _own_sum(folder / name) for name in files}
    new = {name: [checksum(data)] for name, data in files.items()}
    write_file(folder / SHA256SUMS, as_text(sums | {name: [*old[name], *new[name]] for name in files}))
    for name, data in files.items():
        write_file(folder / name, data)
    write_file(folder / SHA256SUMS, as_text(sums | new))


def _own_sum(path: Path) -> list[str]:
    """The checksum of a file as it is, if it is there."""
    return [checksum(_read(path))] if path.is_file() else []


def remove_file(path: Path) -> None:
    """Delete a file of a run folder, then its checksum.

    Raises:
        UserError: The disk is not writable.
    """
    with disk_errors(path):
        path.unlink()
        _sync(path.parent)
    sums = _sums(path.parent)
    if sums.pop(path.name, None):
        write_file(path.parent / SHA256SUMS, as_text(sums))


def write_folder(path: Path, files: Mapping[str, bytes], then: str = RESUME) -> None:
    """Write a new folder and its checksums beside, flush it to the disk, then rename it into place.

    Args:
        path: The folder, in one that is there.
        files: Its files by name.
        then: As of :func:`disk_errors`.

    Raises:
        UserError: The disk is full or not writable; no folder appears.
    """
    sums = as_text({name: [checksum(data)] for name, data in files.items()})
    beside = path.with_name(f".{path.name}.new")
    with disk_errors(path, then):
        try:
            shutil.rmtree(beside, ignore_errors=True)  # what a killed process left
            beside.mkdir()
            for name, data in {**files, SHA256SUMS: sums}.items():
                _write(beside / name, data)
            _sync(beside)
            os.replace(beside, path)
            _sync(path.parent)
        except BaseException:  # Ctrl+C too
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
