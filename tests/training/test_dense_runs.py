"""Runs on sets with a target for every pixel: trained, resumed, opened again."""

from __future__ import annotations

import json

import pytest
import torch

import offramp
from offramp import Recipe, Run, UserError, fit
from offramp.data import DenseStream, _dense_opening
from offramp.tasks import Depth, Normals, Segmentation

ROOMS = "rooms:images=7,test=2,height=16,width=24"
SIZES = {"segmentation": 13, "depth": 1, "normals": 3}
RECIPE = Recipe(epochs=3, batch_size=3, lr=1e-3, schedule="constant", val_fraction=0.15)


def net():
    """A convolution, and one for each task."""
    torch.manual_seed(0)
    trunk = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU())
    tasks = {"segmentation": Segmentation(), "depth": Depth(), "normals": Normals()}
    decoders = {name: (torch.nn.Conv2d(8, size, 1), tasks[name]) for name, size in SIZES.items()}
    return offramp.multi_task(trunk, decoders, input_size=(3, 16, 24))


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rooms") / "run"
    return folder, fit(net(), ROOMS, "joint", RECIPE, folder, quiet=True)


@pytest.mark.parametrize("streams", [False, True])
def test_a_run_on_rooms_resumes_to_the_same_bits(left_alone, tmp_path, monkeypatch, streams):
    """Its rooms are rendered again by their text; in memory or as they are read."""
    if streams:
        monkeypatch.setattr(_dense_opening, "MAX_BYTES", 1000)
        monkeypatch.setattr(DenseStream, "workers", 0)
    fit(net(), ROOMS, "joint", RECIPE.replace(epochs=1), tmp_path / "run", quiet=True)
    run = fit(net(), ROOMS, "joint", RECIPE, tmp_path / "run", resume=True, quiet=True)
    _, expected = left_alone
    for name, value in expected.net.state_dict().items():
        assert torch.equal(run.net.state_dict()[name], value), name
    assert run.result.outputs == expected.result.outputs


def test_what_a_run_on_rooms_records(left_alone):
    folder, run = left_alone
    recorded = json.loads((folder / "run.json").read_text())
    assert (recorded["data"]["name"], recorded["data"]["source"]) == (ROOMS, ROOMS)
    assert recorded["data"]["targets"]["segmentation"]["classes"][:2] == ["bed", "books"]
    assert recorded["recipe"]["augment"] == "nyuv2"
    assert recorded["normalisation"] == {"mean": [0.0] * 3, "std": [1.0] * 3}
    again = Run.open(folder, net=net())
    assert again.evaluate().outputs == run.result.outputs
    assert again.evaluate("rooms:images=1,test=3,height=16,width=24,seed=1").outputs != run.result.outputs


def test_other_rooms_are_not_gone_on_with(left_alone):
    folder, _ = left_alone
    with pytest.raises(UserError, match="another data"):
        fit(net(), f"{ROOMS},seed=1", "joint", RECIPE, folder, resume=True, quiet=True)
