"""Runs on sets with a target for every pixel: trained, resumed, opened again."""

from __future__ import annotations

import json

import pytest
import torch

import offramp
from offramp import Recipe, Run, UserError, fit
from offramp.data import DenseStream, _dense_opening

ROOMS = "rooms:images=7,test=2,height=32,width=64"
RECIPE = Recipe(epochs=3, batch_size=3, lr=1e-3, schedule="constant", val_fraction=0.15)


def net():
    torch.manual_seed(0)
    net = offramp.nets.segnet_mtan(width=1)
    net.input_size = (3, 32, 64)
    return net


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rooms") / "run"
    return fit(net(), ROOMS, "joint", RECIPE, folder, quiet=True)


@pytest.mark.parametrize("streams", [False, True])
def test_a_run_on_rooms_resumes_to_the_same_bits(left_alone, tmp_path, monkeypatch, streams):
    """Its rooms are rendered again by their text; in memory or as they are read."""
    if streams:
        monkeypatch.setattr(_dense_opening, "MAX_BYTES", 1000)
        monkeypatch.setattr(DenseStream, "workers", 0)
    fit(net(), ROOMS, "joint", RECIPE.replace(epochs=1), tmp_path / "run", quiet=True)
    run = fit(net(), ROOMS, "joint", RECIPE, tmp_path / "run", resume=True, quiet=True)
    for name, value in left_alone.net.state_dict().items():
        assert torch.equal(run.net.state_dict()[name], value), name
    assert run.result.outputs == left_alone.result.outputs


def test_what_a_run_on_rooms_records(left_alone):
    recorded = json.loads((left_alone.path / "run.json").read_text())
    assert (recorded["data"]["name"], recorded["data"]["source"]) == (ROOMS, ROOMS)
    assert recorded["data"]["targets"]["segmentation"]["classes"][:2] == ["bed", "books"]
    assert recorded["recipe"]["augment"] == "nyuv2"
    assert recorded["normalisation"] == {"mean": [0.0] * 3, "std": [1.0] * 3}
    again = Run.open(left_alone.path)
    assert again.evaluate() == left_alone.result
    assert again.evaluate("rooms:images=1,test=3,height=32,width=64,seed=1") != left_alone.result


def test_other_rooms_are_not_gone_on_with(left_alone):
    with pytest.raises(UserError, match="another data"):
        fit(net(), f"{ROOMS},seed=1", "joint", RECIPE, left_alone.path, resume=True, quiet=True)
