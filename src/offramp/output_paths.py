"""Paths that a user gives to write to, checked before anything is computed for them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from offramp.errors import UserError, shown
from offramp.paths import user_path

__all__ = ["REMEDIES", "checked_path", "new_path"]

LONGEST = 250  # bytes of a name: most file systems have 255, and what replaces a file is called .NAME.new

# What the operating system refuses and the user can mend, and how.
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "fix the permissions"),
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "mend its links, which lead in a circle",
}


def checked_path(path: str | os.PathLike[str]) -> Path:
    """The path, its ``~`` as a home folder, if a file system can have it; whether anything is there or not.

    Raises:
        UserError: It holds characters that no name has, a name that is too long, or leads through a file.
    """
    path = user_path(path)
    try:
        longest = max((len(os.fsencode(name)) for name in path.parts), default=0)
        os.lstat(path)
    except (FileNotFoundError, PermissionError):
        pass
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "give another path")
        raise UserError(f"cannot write {shown(path)}: {error.strerror}; {remedy}") from error
    except ValueError:  # NUL, or half of a letter
        raise UserError(
            f"cannot write {shown(path)}: no name has such a character; give another path"
        ) from None
    if longest > LONGEST:
        raise UserError(
            f"cannot write {shown(path)}: a name has {longest} bytes; give one of {LONGEST} at most"
        )
    return path


def new_path(path: str | os.PathLike[str], option: str) -> Path:
    """Check that a file or folder can be made there, before what it holds is computed.

    Args:
        path: Where.
        option: By which option that was said, as a message has it.

    Raises:
        UserError: Something is there already, which is never overwritten, or the folder around it is not.
    """
    path = checked_path(path)
    if os.path.lexists(path):
        raise UserError(f"{path} is there already; give another {option}, or move it away")
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    return path
