import json

import pytest

from offramp.cli import main

SMALL = ["train", "--data", "digits", "--net", "vgg7:width=4", "--epochs", "1"]
SMALL += ["--set", "train_limit=200", "test_limit=50"]


@pytest.fixture
def small():
    """The words of a training that takes a second, without method and run folder."""
    return SMALL


@pytest.fixture
def offramp(capfd):
    """Runs a command in this process: exit code, stdout, stderr."""

    def run(*words):
        capfd.readouterr()
        code = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def refused(offramp):
    """Runs a command that is a user's mistake; checks how it is told, and returns the line."""

    def run(*words):
        code, out, err = offramp(*words)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        return err.strip()

    return run


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Two finished runs, joint and dfs, by the command line."""
    folder = tmp_path_factory.mktemp("runs")
    for method in ("joint", "dfs"):
        assert main([*SMALL, "--method", method, "--out", str(folder / method)]) == 0
    return folder


@pytest.fixture(scope="session")
def report_of_two(runs, tmp_path_factory):
    """The page about the two runs, without times."""
    page = tmp_path_factory.mktemp("report") / "report.html"
    words = [str(runs / "joint"), str(runs / "dfs"), "--out", str(page), "--no-times", "--batches", "2"]
    assert main(["report", *words]) == 0
    return page


@pytest.fixture
def result_of():
    """The content of a run's result.json."""
    return lambda folder: json.loads((folder / "result.json").read_text())


@pytest.fixture
def grey(tmp_path):
    """Writes an image folder of greys, ten classes."""
    pil = pytest.importorskip("PIL.Image")

    def write(side):
        for label in range(10):
            for split in ("train", "test"):
                (folder := tmp_path / "grey" / split / str(label)).mkdir(parents=True)
                for number in range(5):
                    image = pil.new("RGB", (side, side), (25 * label + number,) * 3)
                    image.save(folder / f"{number}.png")
        return tmp_path / "grey"

    return write
