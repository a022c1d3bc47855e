"""A data set per task on the command line: trained, evaluated, swept."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
import yaml

from offramp import UserError
from offramp.cli._parse import parse
from offramp.cli._train import TrainCommand
from offramp.runs.several import named_sources
from offramp.sweeps._trials import check_trials, trials
from offramp.sweeps.file import read_sweep

CODE = """
import sys
sys.path.insert(0, {tests!r})
from several_sets import two_alphabets as build
"""
LIMITS = ["train_limit=60", "test_limit=20", "batch_size=16", "epochs=1"]


def words_of(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(CODE.format(tests=str(Path(__file__).parents[1])))
    return ["--data", "left=digits", "right=digits", "--net", f"{file}:build"]


def test_sets_by_name_train_resume_and_evaluate(offramp, tmp_path, result_of):
    run = tmp_path / "run"
    sets = ["streams=in-turn", "sets={right: {train_limit: 30}}"]
    words = [*words_of(tmp_path), "--method", "pcgrad", "--out", run, "--set", *LIMITS, *sets]
    assert offramp("train", *words)[0] == 0
    record = json.loads((run / "run.json").read_text())
    assert record["data"]["source"] == "left=digits right=digits"
    assert [each["train"] for each in record["data"]["sets"].values()] == [54, 27]
    assert result_of(run)["outputs"].keys() == {"left", "right"}
    net = words_of(tmp_path)[3:]
    assert offramp("train", "--resume", "--out", run, *net)[0] == 0
    again = ["--data", "left=digits", "--data", "right=digits"]
    assert offramp("eval", *again, run, *net)[0] == 0  # the folder may stand last
    code, out, _ = offramp("eval", run, *net, "--json")
    assert code == 0
    metrics = {name: output["metrics"] for name, output in result_of(run)["outputs"].items()}
    assert json.loads(out)["tasks"] == metrics


def test_a_sweep_takes_several_sets(tmp_path):
    plan = {"data": {"left": "digits", "right": "digits"}, "net": words_of(tmp_path)[-1], "seeds": [0]}
    plan |= {"out": str(tmp_path / "out"), "methods": ["joint", "mgda"], "train_limit": 60, "batch_size": 16}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    sweep = read_sweep(tmp_path / "plan.yaml")
    runs = trials(sweep, [Fraction(1)])
    check_trials(sweep, runs)
    command = parse(TrainCommand, "offramp train", runs[0].job(sweep).words[4:])
    assert named_sources([word for words in command.data for word in words]) == plan["data"]
    assert named_sources(["rooms:images=24,seed=1"]) == "rooms:images=24,seed=1"  # one set with options
    other = read_sweep(tmp_path / "plan.yaml", data=named_sources(["left=digits", "more=digits"]))
    with pytest.raises(UserError, match="right looks for 'right' among the targets"):
        check_trials(other, trials(other, [Fraction(1)]))


def test_words_that_name_no_sets_are_one_line(refused, tmp_path):
    rest = ["--net", "vgg7", "--method", "joint", "--out", tmp_path / "run"]
    assert "several data sets are written NAME=SOURCE each; got digits" in refused(
        "train", "--data", "left=digits", "digits", *rest
    )
    assert "two data sets have one name" in refused("train", "--data", "a=digits", "a=digits", *rest)
    assert "NAME=SOURCE each; got digits rooms" in refused(
        "train", "--data", "digits", "--data", "rooms", *rest
    )
    alone = refused("train", "--data", "left=digits", *rest)
    assert "'left' names the only data set, which needs no name; give digits, or another" in alone


def test_a_source_may_hold_an_equals_sign():
    assert named_sources(["rooms:images=4,seed=1"]) == "rooms:images=4,seed=1"
    words = ["near=rooms:images=4", "far=path/to=x"]
    assert named_sources(words) == {"near": "rooms:images=4", "far": "path/to=x"}
