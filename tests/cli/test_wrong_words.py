"""Every command with words that are wrong: one line, exit code 2, and nothing written."""

from __future__ import annotations

import pytest

TRAIN = ["train", "--data", "digits", "--net", "vgg7:width=4", "--method", "joint", "--out", "new"]

# words after the command (a file "file", a folder "folder" and a run "run" are there) -> what the line says
WRONG = [
    ([*TRAIN, "--recipe", "papre"], "no recipe of that name"),
    ([*TRAIN, "--recipe", "folder"], "no such file"),
    ([*TRAIN, "--set", "beta"], "key=value"),
    ([*TRAIN, "--set", "lrr=1"], "did you mean"),
    ([*TRAIN, "--epochs", "1.5"], "--epochs"),
    ([*TRAIN, "--sed", "1"], "did you mean '--seed'?"),
    ([*TRAIN, "--net", "vgg77"], "did you mean"),
    ([*TRAIN, "--net", "nowhere.py:build"], "nowhere.py"),
    ([*TRAIN, "--method", "jiont"], "did you mean 'joint'?"),
    ([*TRAIN, "--data", "digit"], "did you mean 'digits'?"),
    ([*TRAIN, "--data", "file"], "file"),
    ([*TRAIN, "--out", "folder"], "exists"),
    ([*TRAIN, "--out", "file"], "exists"),
    ([*TRAIN, "--out", "file", "--resume"], "is no run folder"),
    (["train", "--resume"], "missing: --out"),
    (["train", "--resume", "--out", "nowhere"], "no run in nowhere"),
    (["eval", "nowhere"], "nowhere"),
    (["eval", "file"], "file"),
    (["eval", "folder"], "is no run folder"),
    (["eval"], "--help"),
    (["eval", "run", "--data", "digit"], "did you mean 'digits'?"),
    (["eval", "run", "--net", "vgg77"], "did you mean"),
    (["sweep", "nowhere.yaml"], "nowhere.yaml"),
    (["sweep", "folder"], "folder"),
    (["sweep", "file"], "file"),
    (["sweep", "file", "--jobs", "two"], "--jobs"),
    (["compare", "nowhere"], "nowhere"),
    (["compare", "file"], "file"),
    (["compare", "run", "--out", "nowhere/deep.xyz"], "nowhere"),
    (["compare"], "give one or more run folders"),
    (["diagnose", "nowhere"], "nowhere"),
    (["compare", "folder"], "is no run folder"),
    (["diagnose", "folder"], "is no run folder"),
    (["diagnose", "run", "--wat"], "no flag --wat"),
    (["toy", "--methods", "jiont"], ""),
    (["toy", "--wat"], "no flag --wat"),
    (["cost", "--net", "vgg77"], "did you mean"),
    (["cost", "--net", "vgg7:widht=4"], "did you mean 'width'?"),
    (["cost", "--net", "vgg7", "--method", "jiont"], "did you mean 'joint'?"),
    (["cost"], "--net"),
    (["nets", "vgg7"], "vgg7"),
    (["methods", "--jsn"], "did you mean '--json'?"),
    (["tarin"], "did you mean 'train'?"),
]


@pytest.fixture
def place(tmp_path, monkeypatch, runs):
    (tmp_path / "file").write_text("neither: [YAML, nor")
    (tmp_path / "folder").mkdir()
    (tmp_path / "run").symlink_to(runs / "joint")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in [*folder.rglob("*"), *(folder / "run").rglob("*")]}


@pytest.mark.parametrize("json_mode", [False, True])
@pytest.mark.parametrize(("words", "says"), WRONG, ids=lambda value: " ".join(value) if value != "" else "")
def test_one_line_code_2_and_nothing_written(refused, place, words, says, json_mode):
    before = contents(place)
    line = refused(*words, *["--json"] * json_mode)
    assert line.startswith("offramp")
    assert says in line
    assert contents(place) == before


def test_every_command_is_tried():
    from offramp.cli._commands import COMMANDS

    assert COMMANDS.keys() <= {words[0] for words, _ in WRONG}
