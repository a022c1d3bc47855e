"""Paths: words that no file system takes, in place of every path of the command line."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from junk import texts
from oracle import command, examples

ODD = (
    "", " ", ".", "..", "/", "//", "~", "~nosuchuser", "~nosuchuser/x", "a\0b", "\0", "\ud800", "\udcff",
    "a\nb", "x" * 255, "x" * 256, "x/" * 2500, "-x", "--", "-", "=", "a=b", "a:b", "fifo", "loop",
    "dangling", "file", "file/inside", "folder", "folder/", "file/", "/dev/null", "/dev/zero",
    "/proc/self/mem", "/etc/passwd/x", "*", "?", "[x]", "%s", "${HOME}", "é", "\u202e", "http://x/y",
    "org/set/more", "C:\\x", "denied", "denied/x",
)  # fmt: skip
paths = st.one_of(st.sampled_from(ODD), texts.map(lambda text: text.lstrip("/")))
COMMANDS = (
    ("train", "--data", "{}", "--net", "vgg7:width=2", "--method", "dfs", "--out", "new"),
    ("train", "--data", "a={}", "b={}", "--net", "vgg7:width=2", "--method", "dfs", "--out", "new"),
    ("train", "--data", "./nowhere", "--net", "vgg7:width=2", "--method", "dfs", "--out", "{}"),
    (
        "train",
        "--data",
        "./nowhere",
        "--net",
        "vgg7:width=2",
        "--method",
        "dfs",
        "--out",
        "new",
        "--recipe",
        "{}",
    ),
    (
        "train",
        "--data",
        "folder",
        "--net",
        "vgg7:width=2",
        "--method",
        "dfs",
        "--out",
        "new",
        "--tokenizer",
        "{}",
    ),
    ("train", "--resume", "--out", "{}"),
    ("train", "--data", "./nowhere", "--net", "{}:build", "--method", "dfs", "--out", "new"),
    ("cost", "--net", "{}.py:build"),
    ("eval", "{}"),
    ("eval", "folder", "--policy", "{}"),
    ("eval", "folder", "--baseline", "{}"),
    ("predict", "folder", "{}"),
    ("predict", "{}", "file"),
    ("predict-maps", "{}"),
    ("compare", "{}"),
    ("compare", "folder", "--out", "{}"),
    ("compare", "folder", "{}", "--baseline", "{}"),
    ("budget", "{}"),
    ("diagnose", "{}"),
    ("calibrate", "{}", "--budget", "60%", "--out", "new.json"),
    ("calibrate", "folder", "--budget", "60%", "--out", "{}"),
    ("sweep", "{}"),
)


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """A folder with things that are no runs, in which all of it happens."""
    folder = tmp_path_factory.mktemp("paths")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.chdir(folder)
    os.mkfifo("fifo")
    os.symlink("loop", "loop")
    os.symlink("nowhere", "dangling")
    os.mkdir("folder")
    os.mkdir("denied", 0o000)
    (folder / "file").write_text("hello\n")
    yield
    os.chmod("denied", 0o700)
    monkeypatch.undo()


@examples(120)
@given(st.sampled_from(COMMANDS), paths)
def test_anywhere(words, path):
    command(*(word.replace("{}", path) for word in words), notes=True)
