"""``python -m offramp.sweeps._leashed FOLDER SECONDS WORD...``: a command that ends when its input does.

A Ray worker that is lost takes its training along in this way, at once: the run goes on elsewhere from its
last checkpoint, and two trainings never write into one folder. Where the whole machine was lost, it is the
storage that has to notice, and to give back the lock of the run's folder; NFS takes some 90 seconds.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from pathlib import Path

from offramp.errors import UserError
from offramp.runs.lock import Lock

__all__ = ["main"]


def main() -> None:
    """Wait so many seconds for the folder's lock to be free, then run the command."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    _, folder, patience, *words = sys.argv
    try:
        if Path(folder).is_dir():
            Lock(Path(folder), patience=float(patience)).release()
    except UserError as error:
        print(f"offramp {words[0]}: {error}", file=sys.stderr)
        sys.exit(2)
    sys.argv = ["offramp", *words]
    runpy.run_module("offramp", run_name="__main__")


def _end_with_input() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
