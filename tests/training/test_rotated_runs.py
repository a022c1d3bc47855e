"""A run with rotations: what is measured on the way is the rotated net, and what is kept the plain one."""

from __future__ import annotations

from statistics import fmean

import pytest
import safetensors.torch
import torch
from tiny_runs import Tripwire, rows, tiny_data, tiny_net

from offramp import Recipe, Run, fit
from offramp.counting import cost
from offramp.forks import Fork, rotations_of
from offramp.methods import method

TURNING = method("rotograd", rotation_lr=0.2)
RECIPE = Recipe(epochs=3, batch_size=8, lr=0.05, schedule="constant", augment="none")


def validated(**sizes):
    """Data whose validation and test splits are one."""
    data = tiny_data(**sizes)
    data.val = data.test
    return data


def train(recipe=RECIPE, out=None, data=None):
    return fit(tiny_net(), data or validated(), TURNING, recipe, out, quiet=True)


def test_the_rotated_net_is_measured_and_the_plain_one_kept(tmp_path):
    run = train(out=tmp_path / "run")
    assert all(type(fork) is Fork for fork in run.net.forks)
    assert run.net.state_dict().keys() == tiny_net().state_dict().keys()
    last = rows(tmp_path / "run")[-1]
    found = {f"val_top1_{k}": run.result["exits"][k - 1]["top1"] for k in (1, 2)}
    assert {key: float(last[key]) for key in found} == pytest.approx(found)
    opened = Run.open(tmp_path / "run", tiny_net())
    assert opened.evaluate(validated())["exits"] == run.result["exits"]
    counted = cost(tiny_net())
    assert [exit["flops"] for exit in run.result["exits"]] == [exit.flops for exit in counted.exits]


def test_the_checkpoint_holds_the_rotations_beside_the_net(tmp_path):
    run = train(out=tmp_path / "run")
    (kept,) = (tmp_path / "run").glob("checkpoint/*")
    weights = next(path for path in kept.iterdir() if path.suffix == ".safetensors")
    rotated = safetensors.torch.load_file(weights)
    assert rotated.keys() == run.net.state_dict().keys()
    final = run.net.state_dict()
    assert (rotated["heads.0.3.weight"] - final["heads.0.3.weight"]).abs().max() > 0.05
    assert torch.equal(rotated["heads.1.3.weight"], final["heads.1.3.weight"])  # behind no fork


def test_the_mean_of_the_last_epochs_is_that_of_runs_that_end_there():
    finals = [train(RECIPE.replace(epochs=n)).result for n in (1, 2, 3)]
    found = train(RECIPE.replace(last_epochs=3)).result
    for name, output in found.last_epochs.metrics.outputs.items():
        expected = fmean(each.outputs[name].metrics["top1"] for each in finals)
        assert output["top1"] == pytest.approx(expected)


def test_the_average_is_that_of_the_nets_that_would_come_out(tmp_path):
    """Epochs of one step: runs of one, two and three epochs leave the nets after each step."""
    data = validated(train=8)
    after = [train(RECIPE.replace(epochs=n), data=data).net.state_dict() for n in (1, 2, 3)]
    train(RECIPE.replace(average=0.5), tmp_path / "run", data)
    kept = safetensors.torch.load_file(tmp_path / "run" / "average.safetensors")
    for name in ("heads.0.3.weight", "stages.0.0.weight"):
        expected = after[0][name]
        for weights in after[1:]:
            expected = 0.5 * expected + 0.5 * weights[name]
        torch.testing.assert_close(kept[name], expected)


def test_an_error_leaves_a_plain_net_that_computes_the_same():
    class Stop(Exception):
        pass

    net, images = tiny_net(), torch.rand(3, 3, 8, 8)
    found = []

    def stop():
        net.eval()
        assert (rotations_of(net)[0].matrices[0] - torch.eye(4)).abs().max() > 0.1
        found.extend(net(images))
        raise Stop

    data = tiny_data(split=Tripwire)
    data.train.at, data.train.act = 12, stop
    with pytest.raises(Stop):
        fit(net, data, TURNING, RECIPE, quiet=True)
    assert all(type(fork) is Fork for fork in net.forks)
    net.eval()
    for plain, rotated in zip(net(images), found, strict=True):
        torch.testing.assert_close(plain, rotated)
