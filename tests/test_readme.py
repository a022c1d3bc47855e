"""The README's Python runs as it stands there, and its commands are what the command line takes."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from offramp import UserError
from offramp.cli.main import COMMANDS, EXAMPLES
from offramp.cli.parse import parse

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


def commands(text: str) -> list[list[str]]:
    """The words after ``offramp`` of each line that begins so; dots stand for those of the line before."""
    found: list[list[str]] = []
    for line in re.findall(r"^ *offramp (.*)", text, flags=re.MULTILINE):
        name, *words = shlex.split(re.sub(r" {2,}\(.*", "", line), comments=True)
        if words[:1] == ["..."]:
            words = [*found[-1][1:], *words[1:]]
        found.append([name, *words])
    return found


def understood(name: str, *words: str) -> object:
    return parse(kind(name), f"offramp {name}", words)


def kind(name: str) -> type:
    module, command, _ = COMMANDS[name]
    return getattr(import_module(f"offramp.cli.{module}"), command)


def test_the_commands_of_the_readme():
    lines = commands("".join(blocks("")))
    assert {name for name, *_ in lines} == set(COMMANDS)
    for words in lines:
        understood(*words)
    with pytest.raises(UserError, match="no flag --dataset"):
        understood(*("--dataset" if word == "--data" else word for word in lines[0]))


def test_the_examples_of_the_help():
    texts = [EXAMPLES, *(kind(name).EXAMPLES for name in COMMANDS)]
    lines = [words for text in texts for words in commands(text)]
    assert {name for name, *_ in lines} == set(COMMANDS)
    for words in lines:
        understood(*words)
