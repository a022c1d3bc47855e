"""Small text files are read, and what is none is refused at once."""

import os
import stat

import pytest

from offramp.errors import UserError
from offramp.text_file import read_text


def test_a_text_is_read(tmp_path):
    (tmp_path / "a").write_bytes("ä: 漢\r\n".encode())
    (tmp_path / "link").symlink_to("a")
    for place in (tmp_path / "a", str(tmp_path / "link")):
        assert read_text(place, "the recipe", "give a YAML file") == "ä: 漢\r\n"


@pytest.fixture
def places(tmp_path):
    (tmp_path / "file").write_text("a: 1\n")
    (tmp_path / "bytes").write_bytes(b"ab\xff")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    os.mknod(tmp_path / "socket", stat.S_IFSOCK | 0o600)
    (tmp_path / "ring").symlink_to("ring")
    (tmp_path / "nowhere").symlink_to("not there")
    (tmp_path / "device").symlink_to("/dev/zero")
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(2**40)  # a sparse file
    return tmp_path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none", "there is no such file"),
        ("nowhere", "there is no such file"),
        ("folder", "it is a folder, not a file"),
        ("pipe", "it is a pipe, not a file"),
        ("socket", "it is a socket, not a file"),
        ("device", "it is a device, not a file"),
        ("huge", "more than"),
        ("bytes", "no UTF-8 text, at byte 2"),
        ("ring", "Too many levels of symbolic links"),
        ("file/deeper", "Not a directory"),
        ("n" * 300, "File name too long"),
        ("a\0b", "no name has such a character"),
        ("a\ud800b", "no name has such a character"),
    ],
)
def test_what_is_no_text_file_is_refused(places, name, says):
    with pytest.raises(UserError) as caught:
        read_text(places / name, "the recipe", "give a YAML file")
    line = str(caught.value)
    assert line.startswith("cannot read the recipe ") and line.endswith("; give a YAML file")
    assert says in line and line.count(";") == 1
