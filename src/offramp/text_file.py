"""The text of a small file that a user wrote: a recipe, a sweep, a policy."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from offramp.errors import UserError
from offramp.paths import kind_of

__all__ = ["read_text"]

LONGEST = 2**20  # bytes


def read_text(path: str | Path, of: str, remedy: str, longest: int = LONGEST) -> str:
    """Read the text of a file; of pipes and devices, which may never end, none.

    Args:
        path: The file.
        of: What it holds, for the message: ``"the recipe"``.
        remedy: What to do instead: ``"give a YAML file"``.
        longest: Bytes at most.

    Raises:
        UserError: It cannot be read, is no regular file, too large, or no UTF-8 text.
    """
    try:
        return _text(path, longest)
    except FileNotFoundError:
        trouble = "there is no such file"
    except OSError as error:
        trouble = str(error.strerror)
    except UnicodeDecodeError as error:
        trouble = f"it is no UTF-8 text, at byte {error.start}"
    except UserError as error:
        trouble = str(error)
    except ValueError:  # NUL, or half of a letter
        trouble = "no name has such a character"
    raise UserError(f"cannot read {of} {path}: {trouble}; {remedy}")


def _text(path: str | Path, longest: int) -> str:
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise UserError(f"it is {kind_of(mode)}, not a file")
    with open(path, "rb") as file:
        content = file.read(longest + 1)
    if len(content) > longest:
        raise UserError(f"it has more than {longest} bytes")
    return content.decode()
