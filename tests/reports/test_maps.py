"""Maps of test images: what is predicted, its own metrics, and a picture with every class that is seen."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import offramp
from offramp import Recipe, UserError, fit
from offramp.cli import main
from offramp.data import open_data
from offramp.nets.text import build
from offramp.reports.maps import predicted_maps
from offramp.reports.plot_maps import class_colours, plot_maps
from offramp.tasks import Depth, Segmentation

ROOMS = "rooms:images=12,height=32,width=32"
RECIPE = Recipe(epochs=1, batch_size=4, lr=0.01)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.manual_seed(0)
    data = open_data(ROOMS)
    net = build("segnet_split:width=2", input_size=(3, 32, 32), targets=data.targets)
    return fit(net, data, "joint", RECIPE, tmp_path_factory.mktemp("maps") / "run", quiet=True)


def test_maps_are_the_net_s_and_the_truth_is_the_set_s(run):
    (image,) = predicted_maps(run, [1])
    data = open_data(ROOMS)
    torch.testing.assert_close(image.image, data.test.sample(2)[1] / 255, rtol=0, atol=1e-5)
    what, depth, normals = image.maps
    assert torch.equal(what.truth, data.test.targets["segmentation"][1].long())
    assert what.predicted.shape == (32, 32)
    assert (depth.predicted.shape, normals.truth.shape) == ((1, 32, 32), (3, 32, 32))
    assert depth.value == pytest.approx((depth.predicted - depth.truth).abs().mean().item(), rel=1e-5)
    assert len(image.classes["segmentation"]) == 13


def test_a_map_without_truth_has_no_value(run, tmp_path):
    images = predicted_maps(run, [])
    assert [image.number for image in images] == [0, 1, 2, 3][: len(images)]
    blank = images[0].maps[1]._replace(truth=None, value=None)
    changed = replace(images[0], maps=(images[0].maps[0], blank))
    text = plot_maps([changed], tmp_path / "maps.svg").read_text()
    assert "not labelled" in text
    assert "segmentation:" in text


def test_colours_of_classes_differ():
    colours = class_colours(13)
    assert colours.min() >= 0
    assert colours.max() <= 1
    apart = torch.cdist(colours, colours) + torch.eye(13)
    assert apart.min() > 0.1


def test_wrong_images_and_nets_without_maps_are_one_line(run, tmp_path):
    with pytest.raises(UserError, match=r"no test image 9999; rooms:.* has \d+, give numbers from 0 to"):
        predicted_maps(run, [9999])
    net = offramp.nets.vgg7(num_classes=10, width=4)
    other = fit(net, "digits", "joint", RECIPE.replace(train_limit=40, test_limit=8), quiet=True)
    with pytest.raises(UserError, match=r"predicts no maps, its outputs are exits 1, 2, .*`offramp predict`"):
        predicted_maps(other, [0])


def test_the_command_draws_and_tells(run, tmp_path, capfd):
    words = ["predict-maps", str(run.folder), "--image", "0", "1", "--out", str(tmp_path / "m.png"), "--json"]
    assert main(words) == 0
    document = json.loads(capfd.readouterr().out)
    assert [image["image"] for image in document["images"]] == [0, 1]
    assert set(document["images"][0]["tasks"]) == {"segmentation", "depth", "normals"}
    assert (tmp_path / "m.png").read_bytes()[:4] == b"\x89PNG"
    assert main(words) == 2  # a picture is there
    assert "is there already; give another --out" in capfd.readouterr().err


def test_maps_of_several_sets_have_the_truth_of_their_own(tmp_path):
    """One set after the other, each image in its own colours."""
    decoders = {"depth": (nn.Conv2d(3, 1, 1), Depth()), "segmentation": (nn.Conv2d(3, 13, 1), Segmentation())}
    net = offramp.multi_task(nn.Conv2d(3, 3, 1), decoders, input_size=(3, 32, 32))
    sets = {"depth": open_data(f"{ROOMS},test=3"), "segmentation": open_data(f"{ROOMS},test=2,seed=1")}
    sources = {name: data.source for name, data in sets.items()}
    recipe = RECIPE.replace(augment="crop-flip")  # whose mean and deviation are each set's
    run = fit(net, sources, "joint", recipe, tmp_path / "run", quiet=True)
    assert [image.number for image in predicted_maps(run, [])] == [0, 1, 3, 4]
    near, far = predicted_maps(run, [2, 4])
    for image, name, place in ((near, "depth", 2), (far, "segmentation", 1)):
        own = sets[name].test
        torch.testing.assert_close(image.image, own.images[place] / 255, rtol=0, atol=1e-5)
        for one in image.maps:
            assert (one.truth is None) == (one.output != name)
            if one.output == name:
                torch.testing.assert_close(one.truth, own.targets[name][place], check_dtype=False)
    plot_maps([near, far], tmp_path / "maps.png")
