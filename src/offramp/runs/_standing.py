"""The folder that a training began in is looked at before every write; one that has gone is not made anew."""

from __future__ import annotations

import os
from pathlib import Path

from offramp.errors import UserError
from offramp.runs.files import read_errors
from offramp.runs.lock import Lock

__all__ = ["Standing"]


class Standing:
    """A run folder by what the system knows it by, device and inode, and not by its name.

    Args:
        folder: The folder.
        lock: Its lock.
    """

    def __init__(self, folder: Path, lock: Lock) -> None:
        self.folder, self.lock = folder, lock
        with read_errors(folder):
            self._stat = folder.stat()

    def check(self, checkpoint: Path | None) -> None:
        """Check that the folder is still that one, holds a run, and is locked.

        Args:
            checkpoint: The last one, for the message.

        Raises:
            UserError: It was moved, removed or replaced; the line tells what is where.
        """
        kept = f"what was kept ends with {checkpoint.name}" if checkpoint else "nothing was kept yet"
        if not self._stands():
            place = self.lock.place
            raise UserError(
                f"{self.folder} was moved{f' to {place}' if place else ' or removed'} during the training, "
                f"which ends here; {kept}: move it back and go on with it by `resume=True`, or train anew"
            )
        if not (self.folder / "run.json").is_file():
            raise UserError(
                f"{self.folder / 'run.json'} was removed during the training, which ends here; {kept}: put "
                "it back and go on with the run by `resume=True`, or train anew into another folder"
            )
        if not self.lock.stands:
            raise UserError(
                f"{self.lock.path} was removed during the training, which ends here, since another one may "
                f"have begun; {kept}: see that there is no other, and go on with the run by `resume=True`"
            )

    def _stands(self) -> bool:
        with read_errors(self.folder):
            try:
                return os.path.samestat(self._stat, self.folder.stat())
            except (FileNotFoundError, NotADirectoryError):
                return False
