"""A data set per task on the command line: trained, stopped nowhere, evaluated, swept, opened again."""

import json

import yaml

CODE = """
import sys
sys.path.insert(0, {tests!r})
from several_sets import two_alphabets as build
"""
LIMITS = ["train_limit=60", "test_limit=20", "batch_size=16", "epochs=1"]


def words_of(tmp_path):
    from pathlib import Path

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
    code, out, _ = offramp("eval", run, *net, "--json")
    assert code == 0
    assert json.loads(out)["outputs"] == result_of(run)["outputs"]


def test_a_sweep_takes_several_sets(offramp, tmp_path):
    words = words_of(tmp_path)
    plan = {
        "data": {"left": "digits", "right": "digits"}, "net": words[-1], "out": str(tmp_path / "out"),
        "seeds": [0], "methods": ["joint", "mgda"], "train_limit": 60, "test_limit": 20, "epochs": 1,
        "batch_size": 16,
    }  # fmt: skip
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    code, out, err = offramp("sweep", tmp_path / "plan.yaml")
    assert code == 0, err
    assert "left" in out
    assert "mgda" in out


def test_words_that_name_no_sets_are_one_line(refused, tmp_path):
    rest = ["--net", "vgg7", "--method", "joint", "--out", tmp_path / "run"]
    assert "each is given by a name, NAME=SOURCE; got digits" in refused(
        "train", "--data", "left=digits", "digits", *rest
    )
    assert "two data sets have one name" in refused("train", "--data", "a=digits", "a=digits", *rest)
