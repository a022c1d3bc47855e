"""`offramp predict` and `offramp serve` on bundles."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import offramp_runtime
import pytest
from PIL import Image
from tiny_bundles import ImageNet, write_bundle

from offramp.cli.main import main


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("commands") / "bundle", ImageNet())


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder, draws = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for place in range(3):
        Image.fromarray(draws.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(folder / f"{place}.png")
    return folder


def run(capsys, *words):
    code = main([*map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_predict_by_a_bundle_says_what_the_runtime_says(capsys, bundle, photos):
    code, out, err = run(capsys, "predict", bundle, photos, "--json")
    assert (code, err) == (0, "")
    found, files = json.loads(out)["predictions"], sorted(photos.iterdir())
    model = offramp_runtime.load(bundle)
    answer = model.predict(np.stack([*map(model.image_of, files)]))
    assert [each["image"] for each in found] == [*map(str, files)]
    assert [each["exit"] for each in found] == answer.exit.tolist()
    assert [each["cost"] for each in found] == answer.cost.tolist()
    assert [each["class"] for each in found] == [model.classes[label] for label in answer.prediction]
    assert [each["confidence"] for each in found] == answer.confidence.tolist()
    code, out, _ = run(capsys, "predict", bundle, files[0])
    assert out.splitlines()[0].split() == ["image", "class", "confidence", "exit"]
    assert code == 0


def test_images_that_cannot_be_read_and_damage_are_one_line(capsys, bundle, photos, tmp_path):
    (tmp_path / "no.png").write_bytes(b"no")
    code, out, err = run(capsys, "predict", bundle, photos, tmp_path / "no.png")
    assert code == 2
    assert len(out.splitlines()) == 7  # a header and a rule, three images, a gap, and what by
    assert "offramp predict: 1 of 4 images cannot be read" in err
    (tmp_path / "manifest.json").write_text("{}")
    code, _, err = run(capsys, "predict", tmp_path, photos)
    assert code == 2
    assert err.count("\n") == 1
    assert "is no bundle" in err


@pytest.mark.parametrize(
    "words", [["--policy", "p.json"], ["--cut"], ["--picture", "w.png"], ["--net", "vgg7"], ["--averaged"]]
)
def test_a_bundle_says_itself_how_it_predicts(capsys, bundle, photos, words):
    code, _, err = run(capsys, "predict", bundle, photos, *words)
    assert code == 2
    assert f"leave {words[0]} out" in err


def test_serve_hands_its_flags_to_the_server(capsys, bundle, monkeypatch):
    called = {}
    server = SimpleNamespace(serve=lambda bundle, **settings: called.update(settings, bundle=bundle))
    monkeypatch.setitem(sys.modules, "offramp_runtime.server", server)
    code, out, _ = run(capsys, "serve", bundle, "--port", 0, "--capacity", 7, "--threads", 1)
    assert code == 0
    assert called == {"bundle": str(bundle), "host": "127.0.0.1", "port": 0, "threads": 1,
                      "max_batch": 64, "max_wait": 0.02, "capacity": 7}  # fmt: skip
    assert "stopped" in out


@pytest.mark.parametrize("command", ["predict", "serve"])
def test_a_missing_runtime_is_told_with_how_to_get_it(capsys, bundle, photos, monkeypatch, command):
    def refuse(name, *_):
        raise ImportError(f"no {name}", name=name)

    monkeypatch.setattr("offramp.cli._bundle.import_module", refuse)
    photos = [photos] if command == "predict" else []
    code, _, err = run(capsys, command, bundle, *photos)
    assert code == 2
    assert "pip install 'offramp-runtime[images,server]'" in err
    assert err.count("\n") == 1
