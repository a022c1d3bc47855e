"""A run folder opened again."""

from __future__ import annotations

import json
import re

import pytest
import torch
from tiny_runs import tiny_data, tiny_net

from offramp import Recipe, Run, UserError, fit
from offramp.counting import cost
from offramp.nets import create
from offramp.reports import compare

RECIPE = Recipe(epochs=1, batch_size=8, lr=0.05, augment="none")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit(tiny_net(), tiny_data(), "dfs", RECIPE, tmp_path_factory.mktemp("run") / "run", quiet=True)


def test_open_gives_the_same_run(run):
    again = Run.open(run.folder, tiny_net(seed=8))
    assert again.result == run.result
    assert run.result.to_json() == json.loads((run.folder / "result.json").read_text())
    assert again.recipe == RECIPE.replace(channels_last=True, last_epochs=0)  # what it took
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
    with pytest.raises(UserError, match=r"of your own, MultiExitNet, .* give it by `net=\.\.\.`"):
        Run.open(run.folder)


def test_not_a_run_folder(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=f"{folder} is no run folder"):
            Run.open(folder)


def test_not_finished(run, tmp_path):
    (tmp_path / "run.json").write_bytes((run.folder / "run.json").read_bytes())
    with pytest.raises(UserError, match=r"not finished.*resume=True"):
        Run.open(tmp_path, tiny_net())


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("run.json", "{", "cannot be read"),
        ("run.json", "[]", "no JSON object"),
        ("run.json", "{}", r"no 'net' in its run\.json"),
        ("result.json", '{"net": ', "cannot be read"),
    ],
)
def test_damaged_files(run, tmp_path, name, text, words):
    for file in ("run.json", "result.json"):
        (tmp_path / file).write_bytes((run.folder / file).read_bytes())
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        Run.open(tmp_path, tiny_net())
    assert str(tmp_path) in str(caught.value) and name in str(caught.value)


GONE = object()


@pytest.mark.parametrize(
    "read", [lambda folder: Run.open(folder, tiny_net()), lambda folder: compare([folder])]
)
@pytest.mark.parametrize(
    ("name", "keys", "value", "words"),
    [
        ("run.json", ["net"], {}, "no 'net.net' in its run.json"),
        ("run.json", ["net"], 3, "'net' in its run.json is 3"),
        ("run.json", ["options"], None, "'options' in its run.json is None"),
        ("run.json", ["recipe"], 3, "'recipe' in its run.json is 3"),
        ("run.json", ["seed"], "one", "'seed' in its run.json is 'one'"),
        ("result.json", ["exits"], GONE, "no 'exits' in its result.json"),
        ("result.json", ["exits", 1, "top1"], GONE, "no 'exits[1].top1' in its result.json"),
        ("result.json", ["average_top1"], "high", "'average_top1' in its result.json is 'high'"),
    ],
)
def test_files_of_another_shape(run, tmp_path, read, name, keys, value, words):
    spoil(run.folder, tmp_path, name, keys, value)
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    assert re.match(rf"{re.escape(f'{tmp_path}: {words}')}(, must be [^;]*)?; restore it ", str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (["data", "source"], GONE, "no 'data.source' in its run.json"),
        (["data"], "noise", "'data' in its run.json is 'noise'"),
        (["normalisation", "mean"], [0.5, "half", 0.5], "'normalisation.mean[1]' in its run.json is 'half'"),
        (["recipe", "lr"], -1, "run.json: recipe: lr is -1"),
        (["recipe", "1"], 2, "run.json: no recipe key or method option '1'"),
    ],
)
def test_a_record_that_cannot_be_evaluated(run, tmp_path, keys, value, words):
    spoil(run.folder, tmp_path, "run.json", keys, value)
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        Run.open(tmp_path, tiny_net())
    assert str(caught.value).startswith(str(tmp_path))


def spoil(run, folder, name, keys, value):
    """Copy a run with one value changed or gone."""
    for file in ("run.json", "result.json"):
        (folder / file).write_bytes((run / file).read_bytes())
    content = inner = json.loads((folder / name).read_text())
    *outer, last = keys
    for key in outer:
        inner = inner[key]
    inner[last] = value
    if value is GONE:
        del inner[last]
    (folder / name).write_text(json.dumps(content))


def test_two_nets_of_ones_own_are_not_one_table(run, tmp_path):
    wider = fit(tiny_net(width=6), tiny_data(), "joint", RECIPE, tmp_path / "wider", quiet=True)
    twin = fit(tiny_net(seed=1), tiny_data(), "joint", RECIPE, tmp_path / "twin", quiet=True)
    with pytest.raises(UserError, match="the shape of the net's weights differs"):
        compare([run.folder, wider.folder])
    assert [group.label for group in compare([run.folder, twin.folder]).groups] == ["joint", "dfs"]


def test_keys_that_are_numbers_in_another_script_stay_text(run, tmp_path):
    spoil(run.folder, tmp_path, "run.json", ["versions", "\u00b2"], "squared")
    (tmp_path / "weights.safetensors").write_bytes((run.folder / "weights.safetensors").read_bytes())
    assert Run.open(tmp_path, tiny_net()).record["versions"]["\u00b2"] == "squared"
