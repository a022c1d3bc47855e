"""The flags of a sweep on a Ray cluster; none of these reaches one."""

import sys

import pytest
import yaml

from offramp import UserError
from offramp.sweeps import read_sweep, sweep

PLAN = {"data": "digits", "net": "vgg7:width=4", "seeds": [0], "epochs": 1, "methods": ["joint"]}


@pytest.fixture
def path(tmp_path):
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**PLAN, "out": str(tmp_path / "out")}))
    return tmp_path / "sweep.yaml"


def test_without_ray_one_line_says_what_to_install(path, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # an import of it fails
    assert refused("sweep", path, "--ray") == (
        "offramp sweep: a sweep on Ray needs ray: pip install 'offramp[ray]'"
    )
    assert not (path.parent / "out").exists()


def test_flags_that_do_not_go_together(path, refused):
    assert "leave jobs out" in refused("sweep", path, "--ray", "--jobs", "2")
    assert "give --ray too" in refused("sweep", path, "--gpus", "1")
    assert "give --ray too" in refused("sweep", path, "--cpus", "1")


@pytest.mark.parametrize("cpus", [0, -1, 1.5, "two", True, float("inf")])
def test_cpus_are_whole_or_a_share(path, cpus):
    with pytest.raises(UserError, match="must be a whole number, or a share between 0 and 1"):
        read_sweep(path, cpus=cpus)


@pytest.mark.parametrize("gpus", [2, -0.5, "one", False, float("nan")])
def test_gpus_are_a_share_of_one(path, gpus):
    with pytest.raises(UserError, match="must be a number from 0 to 1, as a run trains on one GPU"):
        read_sweep(path, gpus=gpus)


def test_a_flag_stands_over_the_file(path):
    path.write_text(path.read_text() + "cpus: 4\ngpus: 0.5\n")
    assert (read_sweep(path).cpus, read_sweep(path).gpus) == (4, 0.5)
    plan = read_sweep(path, cpus=0.5, gpus=0)
    assert (plan.cpus, plan.gpus) == (0.5, 0)


def test_an_address_is_text(path):
    with pytest.raises(
        UserError, match=r"ray is True, must be a cluster's address, e\.g\. 'ray://head:10001'"
    ):
        sweep(read_sweep(path), ray=True)
