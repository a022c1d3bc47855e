import json

import pytest
import torch
from safetensors.torch import load_file


def test_json_is_the_result_and_the_log_goes_to_stderr(offramp, small, tmp_path, result_of):
    words = [*small, "--method", "dfs", "--out", tmp_path / "run", "--seed", 3, "--json"]
    code, out, err = offramp(*words)
    assert code == 0
    document = json.loads(out)
    assert document == result_of(tmp_path / "run")
    assert (document["net"], document["method"], document["data"], document["seed"]) == (
        "vgg7",
        "dfs",
        "digits",
        3,
    )
    assert len(document["exits"]) == 6
    for e in document["exits"]:
        assert e.keys() == {"top1", "top5", "params", "flops"}
        assert 0 <= e["top1"] <= e["top5"] <= 100
    assert document["average_top1"] == pytest.approx(sum(e["top1"] for e in document["exits"]) / 6)
    assert "epoch 1/1" in err


def test_text_is_a_table_of_the_exits(offramp, small, tmp_path):
    code, out, _ = offramp(*small, "--method", "joint", "--out", tmp_path / "run")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[2:]] == [*"123456", "average", "ensemble"]


def test_classes_settings_and_options_reach_the_run(offramp, small, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("lr: 0.05\nbatch_size: 50\nseed: 7\n")
    words = [*small, "--set", "beta=0.75", "batch_size=40", "--recipe", recipe, "--method", "dfs"]
    assert offramp(*words, "--out", tmp_path / "run")[0] == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["net"] == {"net": "vgg7", "num_classes": 10, "width": 4}
    assert record["options"]["beta"] == 0.75
    assert [record["recipe"][k] for k in ("lr", "batch_size", "train_limit", "epochs")] == [0.05, 40, 200, 1]
    assert record["seed"] == 7


def test_the_same_words_give_the_same_weights_and_another_seed_others(offramp, small, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        words = [*small, "--method", "joint", "--seed", seed, "--out", tmp_path / name]
        assert offramp(*words)[0] == 0
    a, b, c = (load_file(tmp_path / name / "weights.safetensors") for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)


def test_digits_is_the_embedded_set_and_not_a_folder_of_that_name(
    offramp, refused, small, tmp_path, monkeypatch
):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    words = [*small, "--method", "joint", "--out", "run"]
    assert offramp(*words)[0] == 0
    words[words.index("digits")] = "./digits"
    assert f"{tmp_path / 'digits'} has neither" in refused(*words)


def test_size_cuts_the_images(offramp, small, grey, tmp_path):
    words = [*small[:-1], "test_limit=20", "train_limit=40", "batch_size=10", "size=32", "augment=imagenet"]
    words[words.index("digits")] = grey(48)
    code, _, err = offramp(*words, "--method", "joint", "--out", tmp_path / "run")
    assert code == 0, err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["data"]["input_size"] == [3, 32, 32]


def test_resume_of_a_finished_run_gives_its_result(offramp, small, runs, result_of):
    words = [*small, "--method", "joint", "--out", runs / "joint", "--resume", "--json"]
    code, out, _ = offramp(*words)
    assert code == 0
    assert json.loads(out) == result_of(runs / "joint")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"--data": "no/such/folder"}, "no/such/folder"),
        ({"--data": "d" * 300}, "no data set 'ddd"),
        ({"--net": "vgg8"}, "did you mean 'vgg7'?"),
        ({"--net": "vgg7:widht=4"}, "did you mean 'width'?"),
        ({"--net": "vgg7:4"}, "write name:key=value"),
        ({"--method": "dsf"}, "did you mean 'dfs'?"),
        ({"--epochs": "0"}, "epochs is 0"),
        ({"--epochs": "many"}, "--epochs"),
        ({"--recipe": "nowhere.yaml"}, "nowhere.yaml"),
        ({"--set": "learning_rate=1"}, "learning_rate"),
        ({"--set": "beta"}, "'beta' must read key=value"),
        ({"--set": "beta=1.5", "--method": "dfs"}, "beta is 1.5, must be a number above 0 and below 1"),
        ({"--set": "beta=0.5"}, "'joint' has no option 'beta'"),
        ({"--set": "kd.alpha=0.5"}, "'joint' has no option 'kd.alpha'"),
        ({"--set": "scales=all", "--method": "dfs+ge"}, "say which: dfs.scales or ge.scales"),
        ({"--set": "kd.alpha=1", "--method": "dfs+kd"}, "alpha is 1, must be a number from 0 to below 1"),
    ],
)
def test_mistakes_are_one_line(refused, tmp_path, change, says):
    words = {"--data": "digits", "--net": "vgg7:width=4", "--method": "joint", "--out": tmp_path / "run"}
    words |= {"--epochs": "1", "--set": "train_limit=200", **change}
    line = refused("train", *(part for pair in words.items() for part in pair))
    assert line.startswith("offramp train: ")
    assert says in line
    assert not (tmp_path / "run").exists()


def test_a_folder_that_exists_is_refused_and_left_alone(refused, small, runs):
    before = sorted(path.stat().st_mtime_ns for path in (runs / "joint").rglob("*"))
    line = refused(*small, "--method", "joint", "--out", runs / "joint")
    assert "exists" in line
    assert "--resume" in line
    assert before == sorted(path.stat().st_mtime_ns for path in (runs / "joint").rglob("*"))
