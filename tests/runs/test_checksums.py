"""No bit of a run's files can flip unseen; a reader and a killed writer always find files with their sums."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import subprocess

import pytest
import torch
from tiny_runs import Tripwire, tiny_data, tiny_net

from offramp import Recipe, Run, UserError, compare, fit
from offramp.runs import checkpoint, files
from offramp.runs.files import read_bytes, remove_file, write_files, write_folder

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.05, schedule="constant", average=0.9)
FLIPS = 30  # places in each file


def train(folder, **rest):
    return fit(tiny_net(), tiny_data(**rest), "dfs", RECIPE, folder, resume=True, quiet=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return train(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped") / "run"

    class Stopped(Tripwire):
        at = 7

        @staticmethod
        def act():
            raise KeyError("stop")

    with pytest.raises(KeyError):
        train(folder, split=Stopped)
    return folder


def with_sums(folder):
    """The files of a run that have checksums, and the checksums."""
    return sorted(
        path for path in folder.rglob("*") if path.is_file() and path.parent.joinpath("SHA256SUMS").exists()
    )


def flips(path):
    """The content with one bit flipped, at places that are spread over the file."""
    good, draw = path.read_bytes(), random.Random(path.name)
    for part in range(FLIPS):
        bad = bytearray(good)
        start, end = part * len(good) // FLIPS, (part + 1) * len(good) // FLIPS
        bad[draw.randrange(start, max(end, start + 1))] ^= 1 << draw.randrange(8)
        yield bytes(bad)


def test_every_file_has_its_sum_as_sha256sum_writes_it(finished):
    folder = finished.folder
    names = {path.relative_to(folder).parts[-1] for path in with_sums(folder)}
    there = {path.name for path in folder.rglob("*") if path.is_file() and "tensorboard" not in path.parts}
    assert names == there >= {"run.json", "result.json", "state.pt", "average.safetensors", "metrics.csv"}
    for sums in folder.rglob("SHA256SUMS"):
        lines = dict(line.split("  ")[::-1] for line in sums.read_text().splitlines())
        others = [path for path in sums.parent.iterdir() if path.is_file() and path != sums]
        assert lines == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in others}
        if shutil.which("sha256sum"):
            subprocess.run(["sha256sum", "-c", "--quiet", "--strict", sums.name], cwd=sums.parent, check=True)


def read_all(folder):
    """What those read that do not train."""
    run, averaged = Run.open(folder, tiny_net(seed=9)), Run.open(folder, tiny_net(seed=9), averaged=True)
    seconds = compare([folder]).groups[0].seconds_per_epoch
    return run.net.state_dict(), averaged.net.state_dict(), run.result, run.record, seconds


def assert_same(found, expected):
    for tensors, wanted in zip(found[:2], expected[:2], strict=True):
        torch.testing.assert_close(tensors, wanted, rtol=0, atol=0)
    assert found[2:] == expected[2:]


def test_no_flipped_bit_of_a_finished_run_gives_other_numbers(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    expected, refused = read_all(folder), 0
    for path in [path for path in with_sums(folder) if path.parent == folder]:
        good = path.read_bytes()
        for bad in flips(path):
            path.write_bytes(bad)
            try:
                assert_same(
                    read_all(folder), expected
                )  # a flipped name in SHA256SUMS leaves a file unchecked
            except UserError as error:
                refused += 1
                assert path.name in str(error) and "restore it from a copy" in str(error)
                assert "\n" not in str(error)
            else:
                assert path.name == "SHA256SUMS"
        path.write_bytes(good)
    assert refused > 5 * FLIPS


def test_no_flipped_bit_of_a_checkpoint_is_trained_on(stopped, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    at, net = checkpoint.last(folder), tiny_net()
    state, refused = checkpoint.load(at, net), 0
    for path in with_sums(at):
        good = path.read_bytes()
        for bad in flips(path):
            path.write_bytes(bad)
            again = tiny_net(seed=9)
            try:
                found = checkpoint.load(at, again)
                torch.testing.assert_close(found["loop"], state["loop"], rtol=0, atol=0)
                torch.testing.assert_close(again.state_dict(), net.state_dict(), rtol=0, atol=0)
            except UserError as error:
                refused += 1
                assert path.name in str(error) and "\n" not in str(error)
            else:
                assert path.name == "SHA256SUMS"
        path.write_bytes(good)
    assert refused > 2 * FLIPS


def test_a_flipped_bit_is_refused_by_fit_and_the_run_goes_on_when_it_is_mended(stopped, finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    path = checkpoint.last(folder) / "weights.safetensors"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(
        UserError, match=r"weights\.safetensors is cut short, damaged or changed: its SHA-256"
    ):
        train(folder)
    path.write_bytes(good)
    assert train(folder).result == finished.result


@pytest.mark.parametrize("ended", [True, False], ids=["finished", "all epochs done"])
def test_no_resume_leaves_a_flipped_bit_of_the_log(finished, tmp_path, ended):
    """Nothing of metrics.csv is read there, nor written again."""
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    if not ended:
        remove_file(folder / "result.json")
    log = folder / "metrics.csv"
    good = log.read_bytes()
    for bad in flips(log):
        log.write_bytes(bad)
        with pytest.raises(UserError, match=r"metrics\.csv is cut short, damaged or changed"):
            train(folder)
        assert log.read_bytes() == bad
    log.write_bytes(good)
    train(folder)
    assert (folder / "result.json").read_bytes() == (finished.folder / "result.json").read_bytes()


def test_what_a_user_changes_is_read_once_its_line_is_gone(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    (folder / "metrics.csv").write_text("epoch,seconds\n1,2\n2,4\n")
    with pytest.raises(UserError, match=r"if the change is yours, delete its line in SHA256SUMS"):
        compare([folder])
    sums = folder / "SHA256SUMS"
    sums.write_text("".join(line for line in sums.read_text().splitlines(True) if "metrics" not in line))
    assert compare([folder]).groups[0].seconds_per_epoch.mean == 3


def test_a_run_without_its_sums_says_so_and_an_older_one_does_not(finished, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    Run.open(folder, tiny_net())
    assert capsys.readouterr().err == ""
    (folder / "SHA256SUMS").unlink()
    assert Run.open(folder, tiny_net()).result == finished.result
    assert (
        capsys.readouterr().err == f"{folder / 'SHA256SUMS'} is missing: the files there are read unchecked\n"
    )
    record = (folder / "run.json").read_text()
    (folder / "run.json").write_text(record.replace('"format": 3', '"format": 2'))
    Run.open(folder, tiny_net())
    assert capsys.readouterr().err == ""


class Killed(BaseException):
    pass


@pytest.mark.parametrize("listed", [True, False])
def test_files_can_be_read_whenever_their_writer_is_killed(tmp_path, monkeypatch, listed):
    """Also those of an older run, which no list names."""
    replace = files.os.replace
    for deadly in range(1, 6):
        folder = tmp_path / f"{deadly}"
        folder.mkdir()
        old, new = ({name: name.encode() * n for name in "ab"} for n in (1, 2))
        write_files(folder, old)
        if not listed:
            (folder / "SHA256SUMS").unlink()
        left = iter(range(deadly, 0, -1))

        def killing(*paths, left=left):
            if next(left) == 1:
                raise Killed
            replace(*paths)

        with monkeypatch.context() as patch:
            patch.setattr(files.os, "replace", killing)
            if deadly < 5:
                with pytest.raises(Killed):
                    write_files(folder, new)
            else:
                write_files(folder, new)
        for name in "ab":
            assert read_bytes(folder / name) in (old[name], new[name])
        write_files(folder, new)
        assert {name: read_bytes(folder / name) for name in "ab"} == new
        assert len((folder / "SHA256SUMS").read_text().splitlines()) == 2


def test_a_reader_looks_again_where_a_file_is_being_replaced(tmp_path, monkeypatch):
    write_files(tmp_path, {"a": b"old"})
    looks = iter([lambda: write_files(tmp_path, {"a": b"new"}), lambda: None])
    own = files._sums

    def meanwhile(folder):
        if own is not None:
            monkeypatch.setattr(files, "_sums", own)
            next(looks)()
        return own(folder)

    monkeypatch.setattr(files, "_sums", meanwhile)
    assert read_bytes(tmp_path / "a") == b"new"


@pytest.mark.parametrize("junk", [b"\xff\n", b"no line\n", b"ab  a\n", b"\n"])
def test_damaged_sums_are_a_line(tmp_path, junk):
    write_files(tmp_path, {"a": b"content"})
    (tmp_path / "SHA256SUMS").write_bytes(junk)
    with pytest.raises(UserError, match=r"SHA256SUMS is damaged .*or delete it to read the files unchecked"):
        read_bytes(tmp_path / "a")
    (tmp_path / "SHA256SUMS").unlink()
    assert read_bytes(tmp_path / "a") == b"content"


def test_a_file_that_is_removed_is_listed_no_more(tmp_path):
    write_files(tmp_path, {"a": b"1", "b": b"2"})
    remove_file(tmp_path / "a")
    assert [line.split()[1] for line in (tmp_path / "SHA256SUMS").read_text().splitlines()] == ["b"]


def test_a_folder_is_made_in_one_that_is_there_and_not_at_an_odd_place(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        write_folder(tmp_path / "gone" / "checkpoint", {"a": b"1"})
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["weights.safetensors", "SHA256SUMS"])
def test_a_pipe_is_not_read(tmp_path, name):
    (tmp_path / "weights.safetensors").touch()
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match=f"{name}: it is a pipe, not a file; restore it"):
        read_bytes(tmp_path / "weights.safetensors")


@pytest.mark.parametrize(
    "stopped_by", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")]
)
def test_what_stops_the_writing_of_a_folder_or_file_leaves_nothing(tmp_path, monkeypatch, stopped_by):
    written = files._write

    def stop(path, data):
        if path.name != "first":
            path.write_bytes(data[:1])
            raise stopped_by
        written(path, data)

    monkeypatch.setattr(files, "_write", stop)
    contents = {"first": b"123", "second": b"456"}
    for again, write in (
        ("export again", lambda then: write_folder(tmp_path / "bundle", contents, then)),
        ("save it again", lambda then: files.write_file(tmp_path / "policy.json", b"{}", then)),
    ):
        with pytest.raises((KeyboardInterrupt, UserError)) as raised:
            write(again)
        assert not [*tmp_path.iterdir()]
        if isinstance(stopped_by, OSError):
            assert str(raised.value).endswith(f"No space left on device; make room, then {again}")
