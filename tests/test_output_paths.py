"""Paths to write to are refused before anything is computed for them."""

from pathlib import Path

import pytest

from offramp.errors import UserError
from offramp.output_paths import checked_path


@pytest.mark.parametrize("path", ["new", "file", "nowhere/new", "", "~nosuchuser", "n" * 250, "-x", "\udcff"])
def test_what_can_be(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert checked_path(path) == Path(path)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("n" * 251, "a name has 251 bytes; give one of 250 at most"),
        ("ä" * 126, "a name has 252 bytes"),
        ("nowhere/" + "n" * 300 + "/new", "a name has 300 bytes"),
        ("n" * 256, "File name too long; give a shorter name"),
        ("n/" * 3000, "File name too long; give a shorter name"),
        ("file/new", "Not a directory; give another path"),
        ("ring/new", "mend its links"),
        ("a\0b", "no name has such a character"),
        ("a\ud800b", "no name has such a character"),
    ],
)
def test_what_cannot_be(tmp_path, monkeypatch, path, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "ring").symlink_to("ring")
    with pytest.raises(UserError, match=says):
        checked_path(path)
