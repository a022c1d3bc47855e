import json
import os
import re
import warnings

import numpy as np
import pytest
import torch
from unchecked import unchecked

from offramp import Run
from offramp.cli import main
from offramp.exits import Policy


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Images of many kinds and sizes in class folders."""
    pil = pytest.importorskip("PIL.Image")
    folder = tmp_path_factory.mktemp("photos")
    draws = np.random.default_rng(0)
    kinds = {"a.png": "RGB", "b.png": "L", "c.png": "P", "d.png": "RGBA", "e.jpg": "CMYK", "f.png": "1"}
    for split in ("train", "test"):
        for label, name in enumerate(("cat", "dog", "fox")):
            (inside := folder / split / name / "deeper").mkdir(parents=True)
            for number, (file, mode) in enumerate(kinds.items()):
                shape = (int(draws.integers(30, 60)), int(draws.integers(30, 60)), 3)
                pixels = draws.integers(0, 100, shape) + 60 * label
                pixels[: shape[0] // 2] //= 2  # the upper half is darker
                image = pil.fromarray(pixels.astype(np.uint8)).convert(mode)
                image.save((inside if number % 2 else inside.parent) / file)
            exif = pil.Exif()
            exif[274] = 6  # taken with the camera on its side
            pil.fromarray(pixels.astype(np.uint8)).save(inside / "g.jpg", exif=exif)
    return folder


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """A run on these images, cut to squares."""
    out = tmp_path_factory.mktemp("run") / "run"
    words = ["--net", "vgg7:width=4", "--method", "joint", "--epochs", "2", "--out", str(out)]
    settings = ["size=32", "batch_size=7", "val_fraction=0", "lr=0.02"]
    assert main(["train", "--data", str(photos), *words, "--set", *settings]) == 0
    return out


@pytest.fixture(scope="module")
def logits(run):
    """The logits of the test images in the order of their files, ``[K, N, classes]``, as evaluated."""
    opened = Run.open(run)
    with torch.no_grad():
        batches = [torch.stack(opened.net(batch.inputs)) for batch in opened.batches("test")]
    return torch.cat(batches, 1)


@pytest.fixture(scope="module")
def policy(logits, tmp_path_factory):
    """The file of a policy by which half of the test images would leave at each exit but the second."""
    sorted_ = logits[:-1].softmax(-1).amax(-1).sort().values
    thresholds = ((sorted_[:, 9] + sorted_[:, 10]) / 2).tolist()  # far from every confidence
    thresholds[1] = None
    Policy(thresholds).save(file := tmp_path_factory.mktemp("policy") / "policy.json")
    return file


def asked(offramp, *words):
    code, out, err = offramp("predict", *words, "--json")
    assert code == 0, err
    return json.loads(out)


def test_without_a_policy_files_get_the_answer_that_evaluation_gives_at_the_last_exit(
    offramp, run, photos, logits
):
    document = asked(offramp, run, photos / "test")
    assert document["policy"] is None
    assert document["unread"] == []
    found = document["predictions"]
    files = sorted((photos / "test").rglob("*.??g"))
    assert [each["image"] for each in found] == [str(file) for file in files]
    assert len(files) == 21
    likely = logits[-1].softmax(-1).max(-1)
    assert [each["class"] for each in found] == [("cat", "dog", "fox")[k] for k in likely.indices]
    assert [each["confidence"] for each in found] == pytest.approx(likely.values.tolist(), abs=1e-5)
    assert {each["exit"] for each in found} == {6}


def test_with_a_policy_each_leaves_at_the_first_exit_that_is_sure(offramp, run, photos, logits, policy):
    found = asked(offramp, run, photos / "test", "--policy", policy)["predictions"]
    expected = []
    for sample in logits.unbind(1):
        for exit, threshold in enumerate((*Policy.open(policy).thresholds, 0), 1):
            if threshold is not None and sample[exit - 1].softmax(-1).max() >= threshold:
                expected.append((exit, ("cat", "dog", "fox")[sample[exit - 1].argmax()]))
                break
    assert [(each["exit"], each["class"]) for each in found] == expected
    assert len({exit for exit, _ in expected}) > 2, "samples shall leave at several exits"


def test_files_are_taken_by_name_and_each_once(offramp, run, photos):
    folder = photos / "test" / "dog"
    found = asked(offramp, run, folder / "c.png", folder, folder / "c.png")["predictions"]
    assert found[0]["image"] == str(folder / "c.png")
    assert len(found) == 7


def test_a_damaged_file_does_not_lose_the_answers_of_the_others(offramp, run, photos, tmp_path):
    whole = (photos / "test" / "cat" / "a.png").read_bytes()
    (tmp_path / "whole.png").write_bytes(whole)
    for name, content in (("cut.png", whole[:200]), ("words.png", b"no image"), ("empty.jpg", b"")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "notes.txt").write_text("not looked at in a folder")
    (tmp_path / ".hidden.png").write_bytes(b"")
    code, out, err = offramp("predict", run, tmp_path, "--json")
    assert code == 2
    assert err.startswith("offramp predict: 3 of 4 images cannot be read: ")
    assert err.count("\n") == 1
    document = json.loads(out)
    assert [each["image"] for each in document["predictions"]] == [str(tmp_path / "whole.png")]
    assert len(document["unread"]) == 3
    for name, line in zip(("cut.png", "empty.jpg", "words.png"), document["unread"], strict=True):
        assert line.startswith(f"{tmp_path / name}: ")
        assert name in err


def test_pictures_show_the_exits_on_the_way(offramp, run, photos, logits, policy, tmp_path):
    words = (run, photos / "test", "--picture", tmp_path / "walk.svg")
    found = asked(offramp, *words, "--policy", policy)["predictions"][:8]
    texts = re.findall(r"<text[^>]*>([^<]+)<", (tmp_path / "walk.svg").read_text())
    for number, (each, sample) in enumerate(zip(found, logits.unbind(1), strict=False)):
        assert f"exit {each['exit']}: {each['class']}" in texts, number
        likely = sample[each["exit"] - 1].softmax(-1).max()
        assert f"{each['class']} {likely:.2f}" in texts
    passed = sum(each["exit"] > 1 for each in found)
    assert texts.count("exit 1") == passed
    assert texts.count("exit 2") == 0, "an exit that is not evaluated says nothing"
    code, out, _ = offramp("predict", *words[:-1], tmp_path / "all.svg")
    assert code == 0
    assert out.endswith(f"picture: {tmp_path / 'all.svg'} (the first 8 images)\n")
    texts = re.findall(r"<text[^>]*>([^<]+)<", (tmp_path / "all.svg").read_text())
    assert texts.count("exit 1") == texts.count("exit 5") == 8, "without a policy all exits are asked"


def test_names_may_hold_anything(offramp, run, photos, tmp_path):
    content = (photos / "test" / "cat" / "a.png").read_bytes()
    names = [b"a $\\no$ math.png", b"not \xff utf-8.png", "漢字.png".encode()]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(content)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # which a font may lack
        code, out, err = offramp("predict", run, tmp_path, "--picture", tmp_path / "walk.png")
    assert code == 0, err
    assert "not \\udcff utf-8.png" in out
    assert len(out.splitlines()) == 2 + 3 + 3


def test_images_of_another_size_are_cut_where_that_is_asked_for(offramp, refused, runs, photos, tmp_path):
    image = photos / "test" / "cat" / "a.png"
    line = refused("predict", runs / "joint", image)
    assert "where the net reads 32x32; have images cut to squares by --cut" in line
    assert line.startswith(f"offramp predict: {image}: ")
    assert len(asked(offramp, runs / "joint", image, "--cut")["predictions"]) == 1


def test_mistakes_are_one_line(refused, runs, photos, tmp_path):
    image = photos / "test" / "cat" / "a.png"
    assert "no such file or folder: 'nowhere.png'" in refused("predict", runs / "joint", "nowhere.png")
    assert "no images given" in refused("predict", runs / "joint")
    (tmp_path / "bare" / "inner").mkdir(parents=True)
    assert "bare holds no images" in refused("predict", runs / "joint", tmp_path / "bare")
    (tmp_path / "notes.txt").write_text("no image")
    assert "notes.txt: cannot decode the image" in refused("predict", runs / "joint", tmp_path / "notes.txt")
    assert "no run folder" in refused("predict", tmp_path, image)
    assert "cannot read the policy" in refused("predict", runs / "joint", image, "--policy", "none.json")
    assert "end the name in .png" in refused("predict", runs / "joint", image, "--picture", "walk.doc")
    Policy((0.5,)).save(tmp_path / "other.json")
    line = refused("predict", runs / "joint", image, "--policy", tmp_path / "other.json")
    assert "the policy is for 2 exits, the net has 6" in line


def test_a_run_that_image_files_do_not_fit_says_so(refused, runs, photos, tmp_path):
    image = photos / "test" / "cat" / "a.png"
    changes = {
        "floats": ("normalisation", {"mean": [0.1, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}),
        "channels": ("data", {"input_size": [2, 32, 32]}),
        "words": ("data", {"input_size": [32]}),
        "wide": ("data", {"input_size": [3, 32, 48]}),
    }
    lines = {}
    for name, (key, change) in changes.items():
        (tmp_path / name).mkdir()
        for file in (runs / "joint").iterdir():
            if file.is_file():
                (tmp_path / name / file.name).write_bytes(file.read_bytes())
        record = json.loads((unchecked(tmp_path / name) / "run.json").read_text())
        record[key] |= change
        channels = {"channels": 2, "words": 0}.get(name, 3)
        for key in ("mean", "std"):
            record["normalisation"][key] = record["normalisation"][key][:channels]
        (tmp_path / name / "run.json").write_text(json.dumps(record))
        words = ("--net", "vgg7:width=4") if name == "channels" else ()
        lines[name] = refused("predict", tmp_path / name, image, "--cut", *words)
    assert "floats on a scale of their own" in lines["floats"]
    assert "2 channels, and image files have 1, 3 or 4" in lines["channels"]
    assert "reads no images" in lines["words"]
    assert "cut to squares only" in lines["wide"]


def test_separate_networks_have_no_exits_in_a_row(offramp, refused, small, photos, tmp_path):
    assert offramp(*small, "--method", "separate", "--out", tmp_path / "run")[0] == 0
    line = refused("predict", tmp_path / "run", photos / "test", "--cut")
    assert "Separate has no exits in a row" in line
