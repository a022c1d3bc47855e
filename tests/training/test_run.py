"""A run folder opened again."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_runs import tiny_data, tiny_net

from offramp import Recipe, Run, UserError, fit
from offramp.nets import cost, create

RECIPE = Recipe(epochs=1, batch_size=8, lr=0.05, augment="none")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit(tiny_net(), tiny_data(), "dfs", RECIPE, tmp_path_factory.mktemp("run") / "run", quiet=True)


def test_open_gives_the_same_run(run):
    again = Run.open(run.folder, tiny_net(seed=8))
    assert again.result == run.result == json.loads((run.folder / "result.json").read_text())
    assert again.recipe == RECIPE
    for a, b in zip(again.net.state_dict().values(), run.net.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert again.evaluate(tiny_data()) == run.result == run.evaluate()


def test_result_shape(run):
    result = run.result
    assert (result["net"], result["method"], result["data"], result["seed"]) == (
        "MultiExitNet",
        "dfs",
        "noise",
        0,
    )
    assert [(e["params"], e["flops"]) for e in result["exits"]] == [
        (e.params, e.flops) for e in cost(run.net).exits
    ]
    assert result["average_top1"] == pytest.approx(sum(e["top1"] for e in result["exits"]) / 2)
    assert 0 <= result["ensemble_top1"] <= 100
    assert [e["top5"] for e in result["exits"]] == [100, 100]  # three classes


def test_accuracy_is_that_of_the_test_images(run):
    data = tiny_data()
    net = run.net.eval()
    images = data.test.images.float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in data.statistics)
    with torch.no_grad():
        logits = net((images - mean) / std)
    right = [100 * (z.argmax(1) == data.test.labels).double().mean().item() for z in logits]
    assert [e["top1"] for e in run.result["exits"]] == pytest.approx(right)


def test_table(run):
    lines = run.table().split("\n")
    assert lines[0].split() == ["exit", "params", "FLOPs", "top-1", "%", "top-5", "%"]
    assert [line.split()[0] for line in lines[2:]] == ["1", "2", "average", "ensemble"]
    for exit, line in zip(run.result["exits"], lines[2:], strict=False):
        assert line.split()[3:] == [f"{exit['top1']:.2f}", f"{exit['top5']:.2f}"]


def test_a_net_of_the_zoo_is_built_again(tmp_path):
    torch.manual_seed(0)
    net = create("vgg7", num_classes=3, width=4)
    data = tiny_data()
    for split in (data.train, data.val, data.test):
        split.images = split.images.repeat(1, 1, 4, 4)
    run = fit(net, data, "dfs", RECIPE.replace(reference="zero"), tmp_path / "run", quiet=True)
    again = Run.open(tmp_path / "run")
    assert again.net.spec == {"net": "vgg7", "num_classes": 3, "width": 4}
    assert again.evaluate(data) == run.result
    x = torch.randn(2, 3, 32, 32)
    for a, b in zip(again.net.eval()(x), run.net.eval()(x), strict=True):
        assert torch.equal(a, b)  # the fork that changes values is there too


def test_ones_own_net_must_be_given(run):
    with pytest.raises(UserError, match=r"MultiExitNet of your own; give it: Run\.open\(folder, net\)"):
        Run.open(run.folder)


def test_not_a_run_folder(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=f"{folder} is no run folder"):
            Run.open(folder)


def test_not_finished(run, tmp_path):
    (tmp_path / "run.json").write_bytes((run.folder / "run.json").read_bytes())
    with pytest.raises(UserError, match=r"not finished.*--resume"):
        Run.open(tmp_path, tiny_net())


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("run.json", "{", "cannot be read"),
        ("run.json", "[]", "no JSON object"),
        ("run.json", "{}", "lacks 'net'"),
        ("result.json", '{"net": ', "cannot be read"),
    ],
)
def test_damaged_files(run, tmp_path, name, text, words):
    for file in ("run.json", "result.json"):
        (tmp_path / file).write_bytes((run.folder / file).read_bytes())
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        Run.open(tmp_path, tiny_net())
    assert str(tmp_path / name) in str(caught.value)
