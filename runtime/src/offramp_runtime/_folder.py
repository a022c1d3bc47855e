"""The folder of a bundle: it holds the files that its checksums name, unchanged, and nothing else."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from offramp_runtime._errors import BundleError, shown

__all__ = ["MANIFEST", "check_folder", "check_unchanged", "plain_name", "read_file"]

SUMS = "SHA256SUMS"
MANIFEST = "manifest.json"
LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")  # which leads out of no folder
LARGEST_SUMS = 2**20  # bytes
# Not through a link, and not waiting for the other end of a pipe.
FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def check_folder(folder: Path) -> dict[str, str]:
    """Check every file of a bundle against its checksum.

    Returns:
        The SHA-256 of each, by its name.

    Raises:
        BundleError: It is no folder; a file was changed, is missing, has no checksum, or is none.
    """
    regular = _entries(folder)
    for name in (SUMS, MANIFEST):
        if name not in regular:
            raise BundleError(
                f"{folder} is no bundle: it has no {name}; give a folder that offramp export wrote"
            )
    if odd := [name for name, plain in regular.items() if not plain]:
        raise BundleError(f"{shown(min(odd))} is a folder, a link or a device; a bundle holds plain files")
    sums = _sums(read_file(folder, SUMS, LARGEST_SUMS))
    if missing := sums.keys() - regular.keys():
        raise _damaged(f"{min(missing)} is missing")
    if unknown := regular.keys() - sums.keys() - {SUMS}:
        raise BundleError(f"{shown(min(unknown))} has no checksum in {SUMS}; remove it from the bundle")
    for name, expected in sums.items():
        if _digest(folder, name) != expected:
            raise _damaged(f"{name} was changed since it was written")
    return sums


def check_unchanged(folder: Path, sums: Mapping[str, str]) -> None:
    """Check that no file of a bundle has changed since its checksums were read.

    Args:
        folder: The bundle.
        sums: The SHA-256 that each had, by its name.

    Raises:
        BundleError: One was changed, or another bundle is there.
    """
    if check_folder(folder) != sums:
        raise BundleError(f"{folder} holds another bundle than when it was loaded; load it again")


def plain_name(name: str) -> bool:
    """Whether a name is that of a file in a flat folder: letters, digits, ``_``, ``-`` and dots."""
    return NAME.fullmatch(name) is not None


def read_file(folder: Path, name: str, largest: int) -> bytes:
    """The content of a small file of a bundle.

    Raises:
        BundleError: It cannot be read, is no regular file, or has more bytes than are allowed.
    """
    try:
        with _opened(folder / name) as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise _unreadable(name, error) from None
    if len(content) > largest:
        raise _damaged(f"{name} has more than {largest} bytes")
    return content


def _entries(folder: Path) -> dict[str, bool]:
    """What is in the folder, and whether it is a regular file."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
    except (OSError, ValueError) as error:  # the latter where the path holds a NUL
        reason = getattr(error, "strerror", None) or error
        raise BundleError(
            f"cannot read the bundle {folder}: {reason}; give a folder that offramp export wrote"
        ) from None


def _sums(content: bytes) -> dict[str, str]:
    try:
        lines = content.decode("ascii").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise _damaged(f"{SUMS} is no text of checksums") from None
    sums: dict[str, str] = {}
    for line in lines:
        match = LINE.fullmatch(line)
        if match is None:
            raise _damaged(f"{SUMS} has a line that is no checksum with a name: {shown(line)}")
        if not plain_name(match[2]) or match[2] == SUMS:
            raise _damaged(f"{SUMS} names {shown(match[2])}, which is no file of a bundle")
        if match[2] in sums:
            raise _damaged(f"{SUMS} names {match[2]} twice")
        sums[match[2]] = match[1]
    return sums


def _digest(folder: Path, name: str) -> str:
    digest = hashlib.sha256()
    try:
        with _opened(folder / name) as file:
            while block := file.read(2**20):
                digest.update(block)
    except OSError as error:
        raise _unreadable(name, error) from None
    return digest.hexdigest()


def _opened(path: Path) -> BinaryIO:
    """Open a regular file.

    Raises:
        OSError: It is something else, a link too, or cannot be opened.
    """
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | FLAGS))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError("it is no regular file")
    return file


def _unreadable(name: str, error: OSError) -> BundleError:
    return BundleError(f"cannot read {name} of the bundle: {error.strerror or error}")


def _damaged(what: str) -> BundleError:
    return BundleError(f"the bundle is damaged: {what}; copy or export it again")
