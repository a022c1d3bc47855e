"""Nets of the zoo on data with several targets, by the command line."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from safetensors.torch import load_file

from offramp import Run
from offramp.nets import MultiTaskNet, Separate

WORDS = ["--net", "resnet18:width=2", "--epochs", "2"]
SETTINGS = ["--set", "tasks=class:label,box:box", "batch_size=8"]
SIZES = {"class": {"kind": "class", "size": 3}, "box": {"kind": "box", "size": 4}}


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """Images with a class and, most of them, a box."""
    folder = tmp_path_factory.mktemp("boxes")
    random = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 12)):
        columns = {
            "image": [
                {"bytes": png(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))} for _ in range(count)
            ],
            "label": random.integers(0, 3, count).tolist(),
            "box": [None if k % 5 == 4 else [0.25, 0.0, 0.5, 1.0] for k in range(count)],
        }
        parquet.write_table(pa.table(columns), folder / f"{split}.parquet")
    return folder


@pytest.mark.parametrize("method", ["cagrad", "separate"])
def test_a_net_with_exits_is_trained_on_all_targets_and_opened_again(offramp, boxes, tmp_path, method):
    run = tmp_path / "run"
    words = ["train", "--data", boxes, *WORDS, *SETTINGS, "--method", method]
    code, out, err = offramp(*words, "--out", run, "--json")
    assert code == 0, err
    assert json.loads((run / "run.json").read_text())["net"] == {
        "net": "resnet18",
        "width": 2,
        "tasks": SIZES,
    }
    opened = Run.open(run)
    assert isinstance(opened.net, Separate if method == "separate" else MultiTaskNet)
    assert list(opened.net.outputs) == ["class", "box"]
    assert opened.evaluate().outputs == opened.result.outputs
    assert offramp("eval", run)[0] == 0
    assert list(json.loads(out)["outputs"]) == ["class", "box"]


def test_a_stopped_run_goes_on_to_the_same_weights(offramp, boxes, tmp_path):
    words = ["train", "--data", boxes, *WORDS, *SETTINGS, "schedule=constant", "--method", "joint"]
    assert offramp(*words, "--out", tmp_path / "whole")[0] == 0
    words[words.index("--epochs") + 1] = "1"
    assert offramp(*words, "--out", tmp_path / "begun")[0] == 0
    shutil.copytree(tmp_path / "begun", tmp_path / "moved")
    assert offramp("train", "--resume", "--out", tmp_path / "moved", "--epochs", 2)[0] == 0
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "moved"))
    assert one.keys() == two.keys() and all(one[key].equal(two[key]) for key in one)


@pytest.mark.parametrize(
    ("net", "line"),
    [
        ("segnet_mtan:width=1", "segmentation looks for 'segmentation' among the targets"),
        ("resnet18:width=2,num_classes=3", "gets a head for each of class, box"),
        ("vgg7:slice_beta=0.5", "vgg7 has forks that are not plain"),
    ],
)
def test_nets_that_cannot_predict_the_targets_are_refused(refused, boxes, tmp_path, net, line):
    words = ["train", "--data", boxes, "--net", net, *SETTINGS, "--method", "joint"]
    assert line in refused(*words, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
