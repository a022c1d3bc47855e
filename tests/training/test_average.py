"""The moving average of the weights, against torch's AveragedModel."""

from __future__ import annotations

import json
from statistics import fmean

import pytest
import safetensors.torch
import torch
from tiny_runs import assert_a_stopped_run_goes_on, tiny_data, tiny_net
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from offramp import Recipe, Run, UserError, fit
from offramp.data import pipeline
from offramp.tasks.evaluation import evaluate
from offramp.training._average import Average

DECAY = 0.9
RECIPE = Recipe(epochs=2, batch_size=8, lr=0.05, average=DECAY, checkpoint_every=2)


def test_it_is_that_of_torch():
    net = tiny_net()
    net.register_buffer("low", torch.rand(3, dtype=torch.float16))
    net.register_buffer("table", torch.arange(50))
    ours = Average(net, DECAY)
    theirs = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(DECAY), use_buffers=True)
    draws = torch.Generator().manual_seed(1)
    for _ in range(7):
        net(torch.rand(4, 3, 8, 8, generator=draws))  # moves the running statistics
        with torch.no_grad():
            for tensor in (*net.parameters(), net.low):
                tensor += torch.rand(tensor.shape, generator=draws)
        ours.update()
        theirs.update_parameters(net)
    expected = dict(theirs.module.named_parameters()) | dict(theirs.module.named_buffers())
    assert ours.tensors.keys() == expected.keys()
    for name, tensor in ours.tensors.items():
        if tensor.is_floating_point():
            assert torch.equal(tensor, expected[name]), name
        else:  # torch's rounds p d + p (1 - d) down, so that a table of indices drifts
            assert torch.equal(tensor, net.get_buffer(name)), name


def test_lending_leaves_the_net_as_it_was():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = Average(net, DECAY)
    average.update()
    first = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with torch.no_grad():
        net[0].weight += 1
        net[1].running_mean += 1
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(KeyError), average.applied(net):
        torch.testing.assert_close(dict(net.state_dict()), first, rtol=0, atol=0)
        raise KeyError
    torch.testing.assert_close(dict(net.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize("method", ["joint", "dfs", "separate", "pcgrad"])
def test_it_is_evaluated_and_kept_beside_the_weights(method, tmp_path):
    folder, data = tmp_path / "run", tiny_data()
    run = fit(tiny_net(), data, method, RECIPE, folder, quiet=True)
    plain = fit(tiny_net(), data, method, RECIPE.replace(average=0.0), quiet=True)
    torch.testing.assert_close(dict(run.net.state_dict()), dict(plain.net.state_dict()), rtol=0, atol=0)
    written = json.loads((folder / "result.json").read_text())
    found = written.pop("averaged_weights")
    assert written == plain.result.to_json()

    opened = Run.open(folder, tiny_net(), averaged=True)
    kept = safetensors.torch.load_file(folder / "average.safetensors")
    torch.testing.assert_close(dict(opened.net.state_dict()), kept, rtol=0, atol=0)
    assert opened.evaluate(data)["exits"][0]["top1"] == found["exits"][0]["top1"]
    assert not torch.equal(next(opened.net.parameters()), next(run.net.parameters()))
    _, clean = pipeline(RECIPE.augment, data)
    batches = data.test.batches(8, transform=clean, device="cpu")
    expected = evaluate(opened.net, opened.net.outputs, batches)
    assert found["exits"] == [*expected.outputs.values()]
    assert found["average_top1"] == fmean(values["top1"] for values in expected.outputs.values())
    assert found["ensemble_top1"] == expected.ensemble["top1"]

    header, _, first, *_ = run.table().splitlines()
    assert header.endswith("averaged top-1 %  averaged top-5 %")
    assert first.split()[-2:] == [f"{value:.2f}" for value in expected.outputs["exit 1"].values()]
    assert "averaged" not in plain.table()


def test_a_stopped_run_goes_on_to_the_bit(tmp_path):
    alone, stopped = assert_a_stopped_run_goes_on(tmp_path, RECIPE)
    found = [(folder / "average.safetensors").read_bytes() for folder in (alone, stopped)]
    assert found[0] == found[1]


def test_a_run_without_one_says_so(tmp_path):
    fit(tiny_net(), tiny_data(), "joint", RECIPE.replace(average=0.0, epochs=1), tmp_path / "run", quiet=True)
    with pytest.raises(UserError, match=r"keeps no moving average .* without `averaged=True`"):
        Run.open(tmp_path / "run", tiny_net(), averaged=True)


@pytest.mark.parametrize("method", ["meta-gf", "dr-mgf"])
def test_loops_of_stages_say_why_not(method):
    with pytest.raises(UserError, match=f"'{method}' keeps a stage's temporary weights .* leave average out"):
        fit(tiny_net(), tiny_data(), method, RECIPE, quiet=True)


@pytest.mark.parametrize("value", [1, -0.1, "0.9", True])
def test_checked_when_the_recipe_is_built(value):
    with pytest.raises(UserError, match=r"recipe: average is .*, must be a number from 0 to below 1"):
        Recipe(average=value)


def test_one_that_is_lost_is_told(tmp_path, capsys):
    folder = tmp_path / "run"
    done = fit(tiny_net(), tiny_data(), "joint", RECIPE.replace(epochs=1), folder, quiet=True)
    assert not capsys.readouterr().err
    (folder / "average.safetensors").unlink()
    again = fit(tiny_net(), tiny_data(), "joint", RECIPE.replace(epochs=1), folder, resume=True, quiet=True)
    assert again.result == done.result
    told = capsys.readouterr().err
    assert told.startswith(f"{folder / 'average.safetensors'} is missing: ") and told.count("\n") == 1
    with pytest.raises(UserError, match=r"average\.safetensors is missing; restore it from a copy, or open"):
        Run.open(folder, tiny_net(), averaged=True)
