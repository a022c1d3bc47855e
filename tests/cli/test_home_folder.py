"""``~`` in every path of the command line, also in words that no shell expands: ``--out=~/run``."""

import pytest

from offramp.sweeps import read_sweep


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def test_a_run_goes_there_and_is_found_there_again(home, offramp, small, image_files):
    (home / "quick.yaml").write_text("lr: 0.05\n")
    words = [*small, "--method=joint", "--recipe=~/quick.yaml"]
    assert offramp(*words, "--out=~/runs/joint")[0] == 0
    assert (home / "runs" / "joint" / "result.json").is_file()
    assert offramp("train", "--resume", "--out=~/runs/joint")[0] == 0
    assert offramp("calibrate", "~/runs/joint", "--budget=60%", "--out=~/policy.json")[0] == 0
    assert offramp("eval", "~/runs/joint", "--policy=~/policy.json")[0] == 0
    assert offramp("predict", "~/runs/joint", "~/images", "--picture=~/walk.png")[0] == 0
    compared = offramp("compare", "~/runs/joint", "--baseline", "~/runs/joint", "--out=~/compared.png")
    assert compared[0] == 0
    assert offramp("diagnose", "~/runs/joint", "--what", "convergence", "--out=~/diagnosis")[0] == 0
    made = {"compared.png", "diagnosis", "policy.json", "walk.png"}
    assert made <= {path.name for path in home.iterdir()}
    assert not [*(home.parent / "here").iterdir()]


@pytest.fixture
def image_files(home):
    from PIL import Image

    (home / "images").mkdir()
    Image.new("RGB", (32, 32), "red").save(home / "images" / "red.png")


def test_a_sweep_file_and_a_net_of_ones_own_may_say_it_too(home, offramp):
    (home / "sweep.yaml").write_text(
        "{data: digits, net: vgg7, out: ~/runs, seeds: [0], methods: [joint], recipe: ~/quick.yaml}"
    )
    (home / "quick.yaml").write_text("lr: 0.05\n")
    sweep = read_sweep("~/sweep.yaml")
    assert (sweep.out, sweep.entries[0].recipe.lr) == (home / "runs", 0.05)
    (home / "net.py").write_text(
        "import offramp\n\n\ndef build(num_classes=3):\n    return offramp.nets.vgg7(num_classes, width=2)\n"
    )
    assert offramp("cost", "--net=~/net.py:build")[0] == 0
