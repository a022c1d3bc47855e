"""docs/analysis.md says what the command takes, and its links lead somewhere."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "analysis.md"


@pytest.fixture
def text():
    return PAGE.read_text()


def test_commands_and_flags(text):
    from offramp.cli._diagnose import DiagnoseCommand
    from offramp.cli._parse import parse

    commands = re.findall(r"^offramp diagnose (.*)", text, flags=re.MULTILINE)
    assert len(commands) == 3
    for words in commands:
        parse(DiagnoseCommand, "offramp diagnose", shlex.split(words, comments=True))
    flags = {field.name for field in dataclasses.fields(DiagnoseCommand)} | {"json"}
    assert {word.replace("-", "_") for word in re.findall(r"--([a-z][a-z-]*)", text)} <= flags


def test_every_topic_and_its_pictures(text):
    from offramp.analysis.settings import TOPICS

    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", text, flags=re.MULTILINE)
    assert list(dict.fromkeys(topic for topic, _ in rows)) == list(TOPICS)
    code = (PAGE.parents[1] / "src" / "offramp" / "analysis" / "diagnosis.py").read_text()
    drawn = set(re.findall(r'draw\(\s*"([a-z-]+)"', code))
    assert drawn == {name for _, cell in rows for name in re.findall(r"`([a-z-]+)\.png`", cell)}


def test_names_and_links(text):
    import offramp.analysis

    for names in re.findall(r"from offramp\.analysis import (.*)", text):
        assert all(hasattr(offramp.analysis, name) for name in names.split(", "))
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (PAGE.parent / target).exists(), target
