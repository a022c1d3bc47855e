"""``offramp train --init`` starts from weights of a run or a file; ``sweep`` and ``compare`` know of it."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file

from offramp.sweeps._trials import check_trials, trials
from offramp.sweeps.file import read_sweep

SET = ("--epochs", "1", "--set", "train_limit=200", "test_limit=50")
CODE = """
import offramp
from torch import nn

class Backbone(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, 2, 1)
        self.layer1 = nn.Conv2d(4, 8, 3, 2, 1)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.fc(self.layer1(self.conv1(x).relu()).relu().mean((2, 3)))

def build(num_classes=10):
    return offramp.attach(Backbone(num_classes), at=["conv1"])
"""


def record(folder):
    return json.loads((folder / "run.json").read_text())


@pytest.fixture
def words(tmp_path):
    """Begins the training of a net whose backbone is the user's own."""
    (tmp_path / "mine.py").write_text(CODE)
    return ("train", "--data", "digits", "--net", f"{tmp_path}/mine.py:build", "--method", "joint", *SET)


def test_a_backbone_of_other_classes(offramp, words, tmp_path):
    state = {"conv1.weight": torch.ones(4, 3, 3, 3), "conv1.bias": torch.zeros(4)}
    state |= {"layer1.weight": torch.ones(8, 4, 3, 3), "layer1.bias": torch.zeros(8)}
    state |= {"fc.weight": torch.ones(1000, 8), "fc.bias": torch.zeros(1000)}
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "w.pth")
    still = ("lr=1e-20", "weight_decay=0")
    code, _, err = offramp(*words, *still, "--init", tmp_path / "w.pth", "--out", tmp_path / "run")
    assert code == 0, err
    assert f"as initialised, since {tmp_path / 'w.pth'} has none that fit: heads.0, heads.1\n" in err
    assert record(tmp_path / "run")["init"]["as_initialised"] == ["heads.0", "heads.1"]
    weights = load_file(tmp_path / "run" / "weights.safetensors")
    torch.testing.assert_close(weights["stages.0.conv1.weight"], state["conv1.weight"])


def test_from_a_run_on_and_resumed_without_it(offramp, refused, small, runs, tmp_path):
    words = (*small, "--method", "joint", "--out", tmp_path / "run")
    assert offramp(*words, "--init", runs / "dfs")[0] == 0
    assert record(tmp_path / "run")["init"]["source"] == str(runs / "dfs")
    assert offramp("train", "--resume", "--out", tmp_path / "run")[0] == 0
    assert offramp("train", "--resume", "--out", tmp_path / "run", "--init", runs / "dfs")[0] == 0
    line = refused("train", "--resume", "--out", tmp_path / "run", "--init", runs / "joint")
    assert f"holds a run that began with other weights, those of {runs / 'dfs'} with SHA-256 " in line
    code, out, err = offramp("compare", runs / "joint", tmp_path / "run")
    assert code == 0, err
    assert f"joint init={runs / 'dfs'}" in out
    assert "the runs began from different weights: this compares more than methods" in out


def test_mistakes_are_one_line_before_any_image_is_read(refused, small, runs, tmp_path, monkeypatch):
    monkeypatch.setattr("offramp.runs.sets.open_set", None)
    words = (*small, "--method", "joint", "--out", tmp_path / "run", "--init")
    assert "there is no nowhere.pt; give a finished run, or a file of weights, as init" in refused(
        *words, "nowhere.pt"
    )
    assert "is a folder and no run; give a file of weights" in refused(*words, tmp_path)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "run.json").write_bytes((runs / "dfs" / "run.json").read_bytes())
    assert "half is not finished; finish it before others start from it" in refused(*words, tmp_path / "half")


def test_a_net_of_another_width_is_one_line(refused, runs, tmp_path):
    words = ("train", "--data", "digits", "--net", "vgg7:width=6", "--method", "dfs", *SET)
    line = refused(*words, "--init", runs / "dfs", "--out", tmp_path / "run")
    assert (
        "31 of the net's 43 weights have another shape or kind: stages.0.0.weight ([4, 3, 3, 3], not" in line
    )
    assert not (tmp_path / "run").exists()


def test_a_sweep_checks_the_weights_before_its_first_run(runs, tmp_path, capfd):
    plan = {"data": "digits", "net": "vgg7:width=4", "seeds": [0], "epochs": 1, "train_limit": 64}
    plan |= {"out": str(tmp_path / "out"), "init": str(runs / "dfs"), "batch_size": 16}
    plan["methods"] = ["joint", {"method": "dfs", "init": None}]
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(plan))
    sweep = read_sweep(tmp_path / "sweep.yaml")
    check_trials(sweep, trials(sweep, [1]))
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**plan, "net": "vgg7:width=6"}))
    sweep = read_sweep(tmp_path / "sweep.yaml")
    with pytest.raises(ValueError, match="is of another network"):
        check_trials(sweep, trials(sweep, [1]))


@pytest.mark.parametrize("method", ["ztw", "imta-2", "disjoint"])
def test_heads_alone_need_a_trained_backbone(refused, small, tmp_path, method):
    alone = ("--set", "backbone_share=0") if method == "disjoint" else ()
    line = refused(*small, "--method", method, *alone, "--out", tmp_path / "run")
    assert (
        f"'{method}' trains heads on a backbone that is trained already, and 'vgg7:width=4' has random"
        in line
    )
    assert "give those of a finished run, or of a file, e.g. --init runs/joint" in line
    plan = {"data": "digits", "net": "vgg7:width=4", "seeds": [0], "epochs": 3, "train_limit": 64}
    plan["methods"] = [{"method": method, **({"backbone_share": 0} if alone else {})}]
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**plan, "out": str(tmp_path / "out")}))
    assert "has random weights; give those of a finished run" in refused("sweep", tmp_path / "sweep.yaml")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["ztw", "imta-2"])
def test_heads_on_a_trained_backbone_from_training_to_early_exit(offramp, runs, tmp_path, method):
    run = tmp_path / "run"
    words = ("train", "--data", "digits", "--net", "vgg7:width=4", "--method", method, "--epochs", "2")
    words += ("--set", "train_limit=200", "test_limit=50", "val_fraction=0.2")
    code, _, err = offramp(*words, "--init", runs / "joint", "--out", run)
    assert code == 0, err
    assert offramp("train", "--resume", "--out", run)[0] == 0
    code, out, err = offramp("eval", run, "--json")
    assert code == 0, err
    result = json.loads((run / "result.json").read_text())
    assert json.loads(out)["exits"] == result["exits"]
    assert offramp("calibrate", run, "--budget", "70%", "--out", tmp_path / "policy.json")[0] == 0
    code, _, err = offramp("eval", run, "--policy", tmp_path / "policy.json")
    assert code == 0, err
    code, out, err = offramp("cost", "--net", "vgg7:width=4", "--method", method, "--json")
    assert code == 0, err
    before = json.loads((runs / "joint" / "result.json").read_text())
    assert result["exits"][1]["flops"] > before["exits"][1]["flops"]  # heads so far


def test_a_sweep_finds_too_few_epochs_before_its_first_run(refused, runs, tmp_path):
    plan = {"data": "digits", "net": "vgg7:width=4", "seeds": [0], "epochs": 1, "train_limit": 64}
    plan |= {"init": str(runs / "joint"), "methods": ["joint", "ztw"], "out": str(tmp_path / "out")}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**plan, "batch_size": 16}))
    line = refused("sweep", tmp_path / "sweep.yaml")
    assert "methods: ztw: epochs is 1, and the last 1 train ensembles" in line
    assert not (tmp_path / "out").exists()
