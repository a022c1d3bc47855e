"""``offramp train --resume`` needs the run folder alone."""

from __future__ import annotations

import json

import pytest
from unchecked import unchecked

from offramp.training._trainer import Trainer

SET = [
    "--set",
    "train_limit=200",
    "test_limit=50",
    "batch_size=64",
    "schedule=constant",
    "checkpoint_every=1",
]
WORDS = ["train", "--data", "digits", "--method", "dfs", *SET, "beta=0.75", "--seed", "3"]
VGG = ["--net", "vgg7:width=4"]


@pytest.fixture
def killed(offramp, monkeypatch):
    """Trains until the end of the first epoch, before its checkpoint, or does not begin."""

    def train(folder, *words, before="_end_phase"):
        def die(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, before, die)
            assert offramp(*words, "--out", folder)[0] == 130
        assert not (folder / "result.json").exists()

    return train


def assert_same(folder, other):
    for name in ("weights.safetensors", "result.json", "run.json"):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("before", ["_end_phase", "train"])
def test_the_folder_alone_goes_on(offramp, killed, tmp_path, before):
    killed(tmp_path / "run", *WORDS, *VGG, "--epochs", "2", before=before)
    code, out, err = offramp("train", "--resume", "--out", tmp_path / "run", "--json")
    assert code == 0, err
    assert offramp(*WORDS, *VGG, "--epochs", "2", "--out", tmp_path / "straight")[0] == 0
    assert_same(tmp_path / "run", tmp_path / "straight")
    assert json.loads(out) == json.loads((tmp_path / "run" / "result.json").read_text())


def test_more_epochs_extend_it(offramp, tmp_path):
    assert offramp(*WORDS, *VGG, "--epochs", "1", "--out", tmp_path / "run")[0] == 0
    code, _, err = offramp("train", "--resume", "--out", tmp_path / "run", "--epochs", "2")
    assert code == 0, err
    assert offramp(*WORDS, *VGG, "--epochs", "2", "--out", tmp_path / "straight")[0] == 0
    assert_same(tmp_path / "run", tmp_path / "straight")
    assert (tmp_path / "run" / "epochs-1" / "result.json").is_file()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--epochs", "2"], "schedule onecycle follows the number of epochs"),
        (["--seed", "1"], "seed was 0, is 1"),
        (["--set", "lr=1"], "lr was 0.1, is 1"),
        (["--set", "beta=0.9"], "'joint' has no option 'beta'"),
        (["--method", "dfs"], "a run of method joint, not dfs"),
        (["--net", "vgg7:width=8"], "another net: width was 4, is 8"),
        (["--data", "no/such/folder"], "no such folder"),
        (["--recipe", "papre"], "papre"),
    ],
)
def test_what_is_given_besides_must_be_the_runs(refused, runs, words, says):
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()}
    assert says in refused("train", "--resume", "--out", runs / "joint", *words)
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("words", [["--method", "joint"], ["--net", "vgg7:width=4"], ["--seed", "0"], []])
def test_what_is_the_runs_may_be_said_again(offramp, runs, words):
    assert offramp("train", "--resume", "--out", runs / "joint", *words)[0] == 0


def test_without_a_run_it_asks_for_the_rest(refused, tmp_path):
    line = refused("train", "--resume", "--out", tmp_path / "run", "--net", "vgg7")
    assert "no run in" in line
    assert "start one with --data, --method" in line
    (tmp_path / "run").mkdir()  # as a process leaves it that is killed before it has written anything
    assert "no run in" in refused("train", "--resume", "--out", tmp_path / "run")
    (tmp_path / "run" / "notes.txt").touch()
    assert "is no run folder" in refused("train", "--resume", "--out", tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_a_net_of_ones_own_is_asked_for(offramp, refused, killed, tmp_path):
    own = tmp_path / "mine.py"
    own.write_text(
        "from offramp.nets import create\n"
        "def build(num_classes):\n    return create('vgg7', width=4, num_classes=num_classes)\n"
    )
    words = [*WORDS, "--net", f"{own}:build", "--epochs", "1"]
    killed(tmp_path / "run", *words)
    line = refused("train", "--resume", "--out", tmp_path / "run")
    assert "a network of your own" in line
    assert "--net" in line
    resume = ["train", "--resume", "--net", f"{own}:build", "--out", tmp_path / "run"]
    assert offramp(*resume)[0] == 0
    assert offramp(*words, "--out", tmp_path / "straight")[0] == 0
    assert_same(tmp_path / "run", tmp_path / "straight")


def test_data_that_does_not_open_again_is_asked_for(refused, killed, tmp_path):
    killed(tmp_path / "run", *WORDS, *VGG, "--epochs", "1")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    record["data"]["source"] = "an object"
    (unchecked(tmp_path / "run") / "run.json").write_text(json.dumps(record))
    line = refused("train", "--resume", "--out", tmp_path / "run")
    assert "was trained on 'an object'" in line
    assert "--data" in line
