"""The SegNets on rooms: trained, opened again, stopped and resumed to the bit."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

import offramp
from offramp import Recipe, Run
from offramp.data import open_data
from offramp.nets.text import build

ROOMS = "rooms:images=8,height=32,width=32"
RECIPE = Recipe(batch_size=4, schedule="constant", epochs=1, train_limit=5, test_limit=2)


def net_for(data, text):
    torch.manual_seed(0)
    return build(text, input_size=data.input_size, targets=data.targets)


@pytest.mark.parametrize("name", ["segnet_split", "segnet_mtan", "segnet_cross_stitch"])
def test_a_run_is_opened_again_from_its_record(name, tmp_path):
    data = open_data(ROOMS, train_limit=5, test_limit=2)
    run = offramp.fit(net_for(data, f"{name}:width=2"), data, "joint", RECIPE, tmp_path / "run", quiet=True)
    assert list(run.result.outputs) == ["segmentation", "depth", "normals"]
    again = Run.open(tmp_path / "run")
    assert again.record["net"] == {"net": name, "num_classes": 13, "width": 2}
    assert again.net.input_size == (3, 32, 32)
    assert again.evaluate().outputs == run.result.outputs


def test_a_run_goes_on_to_the_bit(tmp_path):
    data = open_data(ROOMS, train_limit=5, test_limit=2)
    two = RECIPE.replace(epochs=2)
    for folder, recipe in (("more", RECIPE), ("more", two), ("two", two)):
        net = net_for(data, "segnet_mtan:width=2")
        offramp.fit(net, data, "pcgrad", recipe, tmp_path / folder, resume=True, quiet=True)
    weights = [load_file(tmp_path / folder / "weights.safetensors") for folder in ("more", "two")]
    assert all(weights[0][key].equal(weights[1][key]) for key in weights[1])


def test_independent_nets_are_the_single_task_nets():
    data = open_data(ROOMS, train_limit=5, test_limit=2)
    net = net_for(data, "segnet_split:width=2")
    run = offramp.fit(net, data, "separate", RECIPE, quiet=True)
    alone = [net_for(data, f"segnet:width=2,task={task}") for task in net.outputs]
    expected = [sum(p.numel() for p in each.parameters()) for each in alone]
    assert [sum(p.numel() for p in each.parameters()) for each in run.net.nets] == expected
    assert [output.params for output in run.result.outputs.values()] == expected
