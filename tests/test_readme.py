"""The README's Python runs as it stands there, and its commands are what the command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from offramp.cli.main import COMMANDS

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language; every other piece between fences is prose."""
    fenced = re.split(r"^```", README.read_text(), flags=re.MULTILINE)[1::2]
    return [body for word, _, body in (block.partition("\n") for block in fenced) if word == language]


def test_the_python_of_the_readme(capsys):
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, str(README), "exec"), names)
    assert "ensemble" in capsys.readouterr().out
    assert len(names["logits"]) == 3


def test_the_commands_of_the_readme():
    lines = [line for block in blocks("") for line in block.splitlines() if line.startswith("offramp ")]
    assert {shlex.split(line, comments=True)[1] for line in lines} == set(COMMANDS)
