"""A run folder has one writer, and what has gone from under a training is neither made anew nor a success."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from processes import fork_server
from tiny_runs import Tripwire, tiny_data, tiny_net

from offramp import Recipe, Run, UserError, fit
from offramp.runs import beginning, checkpoint, files, lock
from offramp.runs.beginning import begin
from offramp.runs.folder import RunFolder
from offramp.runs.record import check_checkpoint, is_run
from offramp.runs.recorded import recorded_net

fit_module = sys.modules[fit.__module__]
RECIPE = Recipe(epochs=3, batch_size=8, lr=0.05, augment="none")
ROUNDS = 40


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE", 0.1)


def train(folder, method="dfs", resume=False, at=-1, act=None, test=None, recipe=RECIPE):
    data = tiny_data(split=Tripwire)
    data.train.at, data.train.act = at, act
    if test is not None:
        load = data._load_test
        data._load_test = lambda: (test(), load())[1]
    return fit(tiny_net(), data, method, recipe, folder, resume=resume, quiet=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return train(tmp_path_factory.mktemp("alone") / "run")


def same(run, other):
    tensors = (each.net.state_dict() for each in (run, other))
    return run.result == other.result and all(map(torch.equal, *(state.values() for state in tensors)))


def race(folder, together, mine):
    """Begin the same runs as another process does, at the same moments; half of them without locks."""
    lock.PATIENCE = 0.01
    for number in range(ROUNDS):
        lock.fcntl = None if number >= ROUNDS // 2 else lock.fcntl
        together.wait(60)
        try:
            held = begin(folder / f"{number}", mine * 1000)
        except UserError as refusal:
            (folder / f"{number}-{mine.decode()}").write_text(str(refusal))
        else:
            together.wait(60)
            held.release()
            continue
        together.wait(60)


def test_of_two_that_begin_together_one_does(tmp_path):
    context = fork_server()
    together = context.Barrier(2)
    processes = [context.Process(target=race, args=(tmp_path, together, mine)) for mine in (b"a", b"b")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
        assert process.exitcode == 0
    for number in range(ROUNDS):
        winner = files.read_bytes(tmp_path / f"{number}" / "run.json")[:1].decode()
        (refused,) = tmp_path.glob(f"{number}-*")
        assert refused.name[-1] != winner
        told = refused.read_text()
        assert "has a writer: process" in told or "another process has begun a run in" in told
        assert {path.name for path in (tmp_path / f"{number}").iterdir()} - {".lock"} == {
            "run.json",
            "SHA256SUMS",
        }


@pytest.mark.parametrize(("method", "resume"), [("dfs", True), ("dfs", False), ("joint", True)])
def test_a_run_in_training_is_left_alone(tmp_path, alone, method, resume):
    told = []

    def second():
        with pytest.raises(UserError) as refused, torch.random.fork_rng():
            train(tmp_path / "run", method, resume)
        told.append(str(refused.value))

    assert same(train(tmp_path / "run", at=7, act=second), alone)
    assert (
        f"has a writer: process {os.getpid()}" in told[0] if resume else "exists; choose another" in told[0]
    )
    assert not (tmp_path / "run" / ".lock").exists()


def test_readers_of_other_runs_take_no_lock(tmp_path, alone):
    reads = []
    with lock.Lock(alone.folder):
        train(tmp_path / "run", at=7, act=lambda: reads.append(Run.open(alone.folder, tiny_net()).result))
    assert reads == [alone.result]


@pytest.mark.parametrize("resume", [True, False])
def test_a_run_that_another_process_begins_meanwhile_is_its_own(tmp_path, monkeypatch, resume):
    own = RunFolder.begin

    def late(self, record, before):
        begin(self.path, b"{}").release()
        own(self, record, before)

    monkeypatch.setattr(RunFolder, "begin", late)
    with pytest.raises(UserError, match=r"another process has begun a run in .*; choose another folder"):
        train(tmp_path / "run", resume=resume)
    assert (tmp_path / "run" / "run.json").read_bytes() == b"{}"
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_a_run_that_begins_between_two_looks_is_not_gone_on_with(tmp_path, monkeypatch, alone):
    """The folder was empty when the lock would have been taken, and held a run when it was read."""
    own = RunFolder.claim

    def early(self):
        own(self)
        shutil.copytree(alone.folder, self.path)
        (self.path / "result.json").unlink()

    monkeypatch.setattr(RunFolder, "claim", early)
    with pytest.raises(UserError, match="another process has begun a run in"):
        train(tmp_path / "run", resume=True)


@pytest.mark.parametrize("method", ["joint", "dr-mgf"])
def test_checkpoints_of_another_run_that_begins_meanwhile_are_not_read(tmp_path, monkeypatch, alone, method):
    own = fit_module.set_up

    def late(net, data, method, recipe, folder, **rest):
        setup = own(net, data, method, recipe, folder, **rest)
        shutil.copytree(alone.folder, folder)
        return setup

    monkeypatch.setattr(fit_module, "set_up", late)
    with pytest.raises(UserError, match="another process has begun a run in"):
        train(tmp_path / "run", method, resume=True)


@pytest.mark.parametrize("leftovers", [[], [".lock"], [".lock", ".run.json.12ab.new"]])
@pytest.mark.parametrize("resume", [True, False])
def test_what_a_process_left_that_was_killed_before_the_record_is_no_run(tmp_path, alone, leftovers, resume):
    (tmp_path / "run").mkdir()
    for name in leftovers:
        (tmp_path / "run" / name).write_text("junk")
    assert same(train(tmp_path / "run", resume=resume), alone)


def test_a_folder_of_something_else_is_not_begun_in(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"exists and holds no run; choose another folder$"):
        train(tmp_path / "run")
    with pytest.raises(UserError, match="no run folder"):
        train(tmp_path / "run", resume=True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def moved(folder):
    folder.rename(folder.with_name("elsewhere"))


def replaced(folder):
    moved(folder)
    shutil.copytree(folder.with_name("elsewhere"), folder)


def mend(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_name("elsewhere").rename(folder)


def without_record(folder):
    (folder / "run.json").rename(folder.with_name("record"))


def mend_record(folder):
    folder.with_name("record").rename(folder / "run.json")


def without_lock(folder):
    (folder / ".lock").unlink()


GONE = {
    "moved": (
        moved,
        mend,
        r"run was moved to .*elsewhere during the training, which ends here; what was kept",
    ),
    "replaced": (replaced, mend, r"run was moved to .*elsewhere during"),
    "without a record": (
        without_record,
        mend_record,
        r"run\.json was removed during the training.*put it back",
    ),
    "without its lock": (without_lock, lambda folder: None, r"\.lock was removed during the training"),
}


@pytest.mark.parametrize("when", ["in an epoch", "at the end"])
@pytest.mark.parametrize("case", GONE)
def test_a_folder_that_changes_hands_in_training_is_no_success(tmp_path, alone, case, when):
    spoil, put_back, says = GONE[case]
    folder = tmp_path / "run"
    where = (
        {"at": 7, "act": lambda: spoil(folder)} if when == "in an epoch" else {"test": lambda: spoil(folder)}
    )
    with pytest.raises(UserError, match=says) as refused:
        train(folder, **where)
    assert "\n" not in str(refused.value)
    assert not (folder / "result.json").exists()
    assert folder.exists() == (case != "moved")
    put_back(folder)
    assert same(train(folder, resume=True), alone)


@pytest.mark.parametrize("at", [2, 7, 14])
def test_a_folder_that_is_removed_is_not_made_anew(tmp_path, at):
    with pytest.raises(UserError, match="run was moved or removed during the training, which ends here"):
        train(tmp_path / "run", at=at, act=lambda: shutil.rmtree(tmp_path / "run"))
    assert not [*tmp_path.iterdir()]


def test_a_finished_run_in_a_folder_that_is_not_writable_is_returned(tmp_path, monkeypatch, alone):
    def denied(path, mode, **rest):
        return mode != os.W_OK

    monkeypatch.setattr(os, "access", denied)
    monkeypatch.setattr(lock.Lock, "_taken", lambda self: pytest.fail("it tried to write"))
    assert same(train(alone.folder, resume=True), alone)


def test_a_file_that_the_disk_has_spoilt_is_no_success(tmp_path, monkeypatch):
    own = files.write_file

    def spoilt(path, data):
        own(path, data)
        if path.name == "weights.safetensors":
            path.write_bytes(data[:-1] + b"x")

    monkeypatch.setattr(files, "write_file", spoilt)
    with pytest.raises(UserError, match=r"weights\.safetensors is cut short, damaged or changed"):
        train(tmp_path / "run", recipe=RECIPE.replace(epochs=1))


def test_a_record_that_could_not_be_read_again_is_not_begun(tmp_path, monkeypatch):
    """Whatever may come into a record: what reads it decides."""
    from offramp.runs import record

    for content, says in (([1, 2], "'data.classes.*'"), ({1, 2}, "not JSON serializable")):
        monkeypatch.setattr(record, "targets_to_json", lambda targets, content=content: {"classes": content})
        with pytest.raises(UserError, match=f"such a run could not be opened again: .*{says}") as refused:
            train(tmp_path / "run")
        assert "\n" not in str(refused.value)
        assert not (tmp_path / "run").exists()


def test_a_full_disk_at_the_beginning_leaves_no_folder(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_write", full)
    with pytest.raises(UserError, match=r"cannot write .*run\.json: No space left on device; make room"):
        train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_hard_links_a_run_begins_all_the_same(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refused)
    begin(tmp_path / "run", b"{}").release()
    assert is_run(tmp_path / "run") and not beginning.may_begin(tmp_path / "run")
    assert not files.create_file(tmp_path / "run" / "run.json", b"other")
    assert checkpoint.last(tmp_path / "run") is None


def test_a_checkpoint_of_another_run_is_not_gone_on_from(tmp_path, alone):
    """Its files fit each other and the net; an old run's checkpoint, which does not tell, is taken."""
    other = train(tmp_path / "other", recipe=RECIPE.replace(seed=1))
    one = tmp_path / "one"
    for checkpoints, says in (
        (other.folder, r"seed was 1, is 0\); restore it from a copy"),
        (alone.folder, ""),
    ):
        shutil.rmtree(one, ignore_errors=True)
        shutil.copytree(alone.folder, one)
        (one / "result.json").unlink()
        shutil.rmtree(one / "checkpoint")
        shutil.copytree(checkpoints / "checkpoint", one / "checkpoint")
        if not says:
            assert same(train(one, resume=True), alone)
            continue
        with pytest.raises(UserError, match=rf"state\.pt is of another training than this one \(.*{says}"):
            train(one, resume=True)


@pytest.mark.parametrize("junk", ["", "[]", "{}", "[" * 5000, 3, None, {"a": torch.ones(2)}])
def test_a_checkpoint_of_no_run_is_one_line(tmp_path, alone, junk):
    with pytest.raises(UserError, match=r"state\.pt is of another training than this one") as refused:
        check_checkpoint(alone.folder, junk, alone.record)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 1000


def test_a_net_is_built_from_a_record_while_a_training_replaces_checkpoints(tmp_path, monkeypatch):
    """The size of the weights is looked at, of a checkpoint that has gone by then."""
    record = {"net": {"net": "vgg7", "num_classes": 3}, "data": {"input_size": [3, 32, 32]}}
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    assert recorded_net(tmp_path, record).input_size == (3, 32, 32)
