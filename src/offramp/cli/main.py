"""The entry point: finds the command, runs it, prints its answer and returns the exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from offramp import __version__
from offramp.cli._answer import Answer, emit
from offramp.cli._commands import COMMANDS, load
from offramp.cli._guard import guarded
from offramp.errors import UserError, guess, shown
from offramp.plain_json import plain_json

__all__ = ["main"]

USAGE = "usage: offramp COMMAND [OPTIONS]"
EXAMPLES = """\
examples:
  offramp train --data digits --net vgg7:width=8 --method joint --epochs 5 --out runs/joint
  offramp train --data digits --net vgg7:width=8 --method dfs --epochs 5 --out runs/dfs
  offramp compare runs/joint runs/dfs --out picture.png

`offramp COMMAND --help` tells the rest. Every command takes --json, for programs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after ``offramp``; by default the process's own.

    Returns:
        The exit code: 0, 2 for a user's mistake, 128 + n after signal n, 1 for a fault of offramp's.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    name = words[0] if words and words[0] in COMMANDS else ""
    with guarded(name, debug="--debug" in words, program=argv is None) as outcome:
        if name:
            _run(name, words[1:])
        else:
            _no_command(words)
    return outcome.code


def _run(name: str, words: Sequence[str]) -> None:
    from offramp.cli._parse import parse  # says so where tyro is missing

    command = parse(load(name), f"offramp {name}", words)
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for the answer alone
        answer: Answer = command.run()
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ["RANK"] != "0":
        return  # under torchrun the first process answers for all
    emit(plain_json(answer.document, indent=2) if command.output.json else answer.text)
    if answer.trouble is not None:
        raise answer.trouble


def _no_command(words: Sequence[str]) -> None:
    word = words[0] if words else ""
    if word in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        lines = [f"  {name:{width}}  {summary}" for name, (_, _, summary) in COMMANDS.items()]
        emit("\n".join([USAGE, "", "commands:", *lines, "", EXAMPLES]))
    elif word == "--version":
        emit(f"offramp {__version__}")
    else:
        mistake = f"no command {shown(word)}{guess(word, COMMANDS)}" if word else "no command given"
        raise UserError(f"{mistake}; there are: {', '.join(COMMANDS)}; see offramp --help")
