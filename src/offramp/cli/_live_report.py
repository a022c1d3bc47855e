"""The page about a run in training, kept up to date."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from offramp.cli._net import net_of
from offramp.cli._report import full_page
from offramp.distributed.launch import is_first
from offramp.errors import error_text
from offramp.reports.html import check_page, report_of_training, write_page
from offramp.say import say

__all__ = ["LiveReport"]

REST = 50  # a page is written at most in every 51st part of the time


class LiveReport:
    """Writes a page about a run after its epochs, and the whole report in the end; a context of the training.

    A page that cannot be written is a warning, and the training goes on. A training that is stopped leaves a
    page with all of its epochs.

    Args:
        name: Where the page goes.
        folder: The run folder, which need not be there yet.

    Raises:
        UserError: No page can be written there.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.path = check_page(name, to_be_made=folder)
        self.folder = folder
        self._due = 0.0
        self._behind = False
        self._told = ""

    def __enter__(self) -> LiveReport:
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        if kind is not None and self._behind:
            self._write(lambda: report_of_training(self.folder))

    def epoch(self) -> None:
        """An epoch is done; its page is left out where the last one took long."""
        began = time.monotonic()
        self._behind = began < self._due
        if not self._behind:
            self._write(lambda: report_of_training(self.folder))
            ended = time.monotonic()
            self._due = ended + REST * (ended - began)

    def end(self, net: str | None) -> None:
        """The run is finished; ``net`` is the word that it was given by, if any."""
        if is_first():
            self._write(lambda: full_page([self.folder], net_of([str(self.folder)], net)))

    def _write(self, page: Callable[[], str]) -> None:
        try:
            write_page(self.path, page())
        except Exception as error:  # whatever it is, the training is worth more
            line = f"offramp train: warning: the report is not up to date: {error_text(error)}"
            if line != self._told:
                say(line)
            self._told = line
