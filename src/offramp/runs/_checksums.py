"""``SHA256SUMS``: the SHA-256 of every file of a folder, as the command ``sha256sum`` writes and checks it.

A file may have several lines: while it is replaced, the old and the new sum stand, so that it can be read
whenever its writer is killed. A file without a line, as older versions left them, is not checked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

__all__ = ["SHA256SUMS", "as_text", "checksum", "parsed"]

SHA256SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def checksum(data: bytes) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def as_text(sums: Mapping[str, Sequence[str]]) -> bytes:
    """The content of the file: a line for each sum of each name."""
    lines = (f"{each}  {name}\n" for name in sorted(sums) for each in dict.fromkeys(sums[name]))
    return "".join(lines).encode()


def parsed(text: bytes) -> dict[str, list[str]]:
    """The sums of each name.

    Raises:
        ValueError: The text is damaged.
    """
    sums: dict[str, list[str]] = {}
    for line in text.decode().removesuffix("\n").split("\n") if text else ():
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError("a line is no checksum with a name")
        sums.setdefault(match[2], []).append(match[1])
    return sums
