"""A network of a user's own goes through every command that takes a net, under the name that it was given."""

import json
import shutil
from fractions import Fraction

import pytest
import yaml

import offramp as library
from offramp.nets.text import build
from offramp.sweeps._trials import check_trials, trials
from offramp.sweeps.file import read_sweep

CODE = """
import offramp
from torch import nn

def backbone(width=4, num_classes=10):
    conv = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, 8, 3, 2, 1), nn.ReLU())
    return nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))

def build(width=4, num_classes=10):
    return offramp.attach(backbone(width, num_classes), at=["0.1"])

net = build()
"""
LIMITS = ("--set", "train_limit=200", "test_limit=50")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where mine.py lies."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "mine.py").write_text(CODE)
    return folder


@pytest.fixture
def train(offramp, folder, monkeypatch):
    """Trains mine.py's net in its folder."""
    monkeypatch.chdir(folder)

    def run(net, out, *words):
        words = ("train", "--data", "digits", "--net", net, "--epochs", 1, *LIMITS, "--out", out, *words)
        code, _, err = offramp(*words)
        assert code == 0, err

    return run


def test_one_name_from_training_to_the_tables(offramp, refused, train, folder, result_of):
    train("mine.py:build:width=6", "joint", "--method", "joint")
    train("mine.py:build:width=6", "dfs", "--method", "dfs")
    assert result_of(folder / "dfs")["net"] == "mine.py:build"
    shutil.move("mine.py", "elsewhere.py")  # tables need no code
    code, out, _ = offramp("compare", "joint", "dfs")
    assert code == 0
    assert out.startswith("mine.py:build:width=6 on digits")
    words = ("diagnose", "joint", "dfs", "--out", "found", "--batches", 2, "--step", 0.01)
    assert offramp(*words, "--what", "convergence")[0] == 0
    shutil.move("elsewhere.py", "mine.py")

    for command in (("eval", "dfs"), words):
        line = refused(*command)
        assert (
            "of your own, mine.py:build:width=6, whose code is not run unasked; give it by --net ..." in line
        )
    code, out, _ = offramp("eval", "dfs", "--net", "mine.py:build:width=6", "--json")
    assert code == 0
    assert json.loads(out) == result_of(folder / "dfs")
    code, _, err = offramp(*words, "--net", "mine.py:build:width=6", "--what", "conflict", "importance")
    assert code == 0, err

    assert "dfs/weights.safetensors is of another network" in refused("eval", "dfs", "--net", "mine.py:build")
    assert "dfs/weights.safetensors is of another network" in refused("eval", "dfs", "--net", "vgg7")
    assert "make one of it, e.g. by offramp.attach" in refused("eval", "dfs", "--net", "mine.py:backbone")


def test_a_module_level_net_starts_from_the_seed_and_goes_on(offramp, refused, train, folder, monkeypatch):
    train("mine:net", "whole", "--method", "joint")
    words = ("train", "--data", "digits", "--epochs", 1, *LIMITS, "--method", "joint", "--out", "whole")
    assert offramp(*words, "--net", "mine:net", "--resume")[0] == 0
    line = refused(*words, "--net", "mine:build:width=5", "--resume")
    assert "holds a run with another net: shapes was" in line


def test_a_stopped_run_goes_on_from_another_folder(offramp, train, folder, tmp_path, monkeypatch):
    """The place of the code is spelled otherwise there; what counts is that it builds such a net."""
    train("mine.py:build:width=5", "here", "--method", "joint")
    before = (folder / "here" / "run.json").read_bytes()
    (folder / "here" / "result.json").unlink()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    shutil.copy(folder / "mine.py", tmp_path / "mine.py")
    words = ("train", "--resume", "--out", folder / "here", "--net", "../mine.py:build:width=5")
    code, _, err = offramp(*words)
    assert code == 0, err
    assert (folder / "here" / "run.json").read_bytes() == before
    result = json.loads((folder / "here" / "result.json").read_text())
    assert result["net"] == "mine.py:build"  # as it was called when the run began


def test_a_run_of_python_is_opened_by_the_commands(offramp, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    recipe = library.Recipe(epochs=1, train_limit=200, test_limit=50)
    net = build("mine.py:build")
    net.spec = {"net": "two convolutions"}
    run = library.fit(net, "digits", recipe=recipe, out=tmp_path / "run", quiet=True)
    assert offramp("compare", tmp_path / "run")[1].startswith("two convolutions on digits")
    code, out, _ = offramp("eval", tmp_path / "run", "--net", "mine.py:build", "--json")
    assert code == 0
    assert json.loads(out)["exits"] == run.result["exits"]


def test_cost(offramp, refused, folder, monkeypatch):
    monkeypatch.chdir(folder)
    code, out, err = offramp(
        "cost", "--net", "mine:build:width=6", "--classes", 5, "--method", "dfs", "--json"
    )
    assert code == 0, err
    document = json.loads(out)
    assert (document["net"], document["arguments"]) == ("mine:build", {"width": 6})
    assert document["params"] == sum(p.numel() for p in build("mine:build:width=6", 5).parameters())
    assert "mine:net is no function and takes no arguments" in refused(
        "cost", "--net", "mine:net", "--classes", 5
    )


def test_a_sweep_checks_it_and_hands_it_to_its_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    plan = {
        "data": "digits", "net": "mine.py:net", "out": "swept", "seeds": [0, 1], "epochs": 1,
        "methods": ["dfs", "joint"], "train_limit": 200, "test_limit": 50,
    }  # fmt: skip
    (folder / "sweep.yaml").write_text(yaml.safe_dump(plan))
    sweep = read_sweep("sweep.yaml")
    runs = trials(sweep, [Fraction(1)])
    check_trials(sweep, runs)  # joint trains a net of its own, not the one that dfs has prepared
    words = runs[0].job(sweep).words
    assert "--net=mine.py:net" in words


def test_an_error_in_the_users_file_is_told_with_its_line(refused, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    (tmp_path / "broken.py").write_text("import torch\nx = torch.zeros(2) @ torch.zeros(3)\n")
    place = f"{tmp_path}/broken.py:build"
    line = refused("train", "--data", "digits", "--net", place, "--method", "joint", "--out", "never")
    assert line.startswith(
        f"offramp train: cannot import {tmp_path}/broken.py: {tmp_path}/broken.py, line 2: Run"
    )
    assert not (folder / "never").exists()
    (tmp_path / "swept.yaml").write_text(
        f"data: digits\nnet: {place}\nout: never\nseeds: [0]\nmethods: [joint]"
    )
    assert "broken.py, line 2: RuntimeError" in refused("sweep", tmp_path / "swept.yaml")
    assert not (folder / "never").exists()
