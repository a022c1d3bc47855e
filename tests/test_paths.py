"""Paths as users write them, with ``~``; and what stands where something else should."""

import os
import stat
from pathlib import Path

import pytest

from offramp.checks import path_of
from offramp.errors import UserError
from offramp.output_paths import checked_path
from offramp.paths import kind_of, user_path


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home folder of our own, and another folder to be in."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


@pytest.mark.parametrize("look", [user_path, checked_path, lambda path: path_of("out", path, "a run folder")])
def test_a_tilde_is_the_home_folder_and_only_at_the_beginning(home, look):
    assert look("~/runs/a") == look(Path("~/runs/a")) == home / "runs/a"
    assert look("~") == home
    for path in ("runs/~", "a~", "/~/a", "~nosuchuser/a"):
        assert look(path) == Path(path)


@pytest.mark.parametrize("path", ["~\0", "~a\0b/c", "~\ud800"])
def test_a_home_folder_of_nobody_is_a_name(path):
    assert user_path(path) == Path(path)
    with pytest.raises(UserError, match="no name has such a character"):
        checked_path(path)


def test_a_folder_of_that_name_can_be_meant_and_is_meant_at_every_later_look(home):
    once = user_path("./~/run")
    assert once == Path.cwd() / "~/run"
    assert user_path(once) == checked_path(once) == once


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("a file", stat.S_IFREG),
        ("a folder", stat.S_IFDIR),
        ("a pipe", stat.S_IFIFO),
        ("a socket", stat.S_IFSOCK),
        ("a device", stat.S_IFCHR),
        ("a device", stat.S_IFBLK),
    ],
)
def test_kinds(kind, mode):
    assert kind_of(mode | 0o644) == kind
    assert kind_of(os.stat("/dev/null").st_mode) == "a device"
