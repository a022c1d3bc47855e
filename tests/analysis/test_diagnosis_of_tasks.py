"""The diagnosis of a net with several tasks: by their names, with each task's own metric and direction."""

from __future__ import annotations

import json

import pytest
import torch

from offramp import Recipe, UserError, fit
from offramp.analysis import PairConflict, Settings, curves, diagnose
from offramp.analysis.gradients import TaskGradients
from offramp.data import open_data
from offramp.nets.text import build
from offramp.reports import compare

ROOMS = "rooms:images=16,height=32,width=32"
TASKS = ["segmentation", "depth", "normals"]
RECIPE = Recipe(epochs=1, batch_size=4, lr=0.001, test_limit=4)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder, data = tmp_path_factory.mktemp("tasks"), open_data(ROOMS, test_limit=4)
    for name in ("joint", "dr-mgf"):
        torch.manual_seed(0)
        net = build("segnet_split:width=2", input_size=(3, 32, 32), targets=data.targets)
        fit(net, data, name, RECIPE, folder / name, quiet=True)
    return folder


def test_every_topic_names_the_tasks(folders, tmp_path):
    runs = [folders / "joint", folders / "dr-mgf"]
    found = diagnose(runs, Settings(batches=2, step=0.01, split="test"))
    document = found.write(tmp_path)
    json.dumps(document, allow_nan=False)
    assert {"conflict", "conflict-pairs", "filters", "importance", "convergence"} <= set(document["pictures"])
    assert {"routes", "routes-importance", "similarity"} <= set(document["pictures"])
    joint = document["runs"][0]
    assert joint["outputs"] == TASKS
    cosines = torch.tensor(joint["cosines"]["mean"])
    assert torch.equal(cosines, cosines.T)
    assert torch.equal(cosines.diagonal(), torch.ones(3))
    text = found.table()
    assert "exit" not in text
    for name in TASKS:
        assert f"train loss {name}" in text
    outcome = compare(runs).result.outputs
    assert joint["importance"]["accuracy"] == pytest.approx([outcome[name].value for name in TASKS])


def test_a_loss_is_below_0_where_lower_is_better(folders):
    """Relative change with its sign turned: the depth's absolute error, which rises without filters, say."""
    (run,) = diagnose([folders / "joint"], Settings(("importance",), batches=1, split="test")).runs
    miou, error, angle = run.pruning.accuracy
    assert (miou >= 0, error > 0, angle > 0) == (True, True, True)
    assert len(run.pruning.change) == 3
    better = [0.0 if value == 0 else value for row in run.pruning.change for value in row]
    assert all(value <= 1 for value in better[1::3])  # an error falls by all of itself at most


def test_each_task_has_its_own_loss_by_epoch(folders):
    (course,) = [curves(group) for group in compare([folders / "joint"]).groups]
    assert course.tasks == tuple(TASKS)
    assert {f"train_loss_{name}" for name in TASKS} <= set(course.values)
    assert "val_abs_err_depth" in course.values
    assert len(course.values["train_loss_depth"]) == 1


def test_cosines_are_those_of_the_shared_weights():
    draw = torch.Generator().manual_seed(0)
    pairs, expected, opposed = PairConflict(), [], 0
    for _ in range(5):
        shared = torch.randn(2, 4, 3, generator=draw)
        own = torch.randn(2, generator=draw)
        gradients = ({"w": shared[0], "first": own}, {"w": shared[1], "second": own}, {"third": own})
        pairs.add(TaskGradients((1.0, 1.0, 1.0), gradients, lambda: (1.0, 1.0, 1.0)))
        expected.append(torch.cosine_similarity(shared[0].flatten(), shared[1].flatten(), dim=0).item())
        opposed += expected[-1] < 0
    found = pairs.cosines()
    assert found.mean[0][1] == found.mean[1][0] == pytest.approx(sum(expected) / 5)
    assert found.opposed[0][1] == opposed / 5
    assert found.mean[2] == (None, None, 1.0)  # shares nothing


def test_several_nets_are_refused(folders, tmp_path):
    data = open_data(ROOMS, test_limit=4)
    other = build("segnet_split:width=4", input_size=(3, 32, 32), targets=data.targets)
    fit(other, data, "joint", RECIPE, tmp_path / "other", quiet=True)
    with pytest.raises(UserError, match=r"of several nets, segnet_split:width=2, segnet_split:width=4; diag"):
        diagnose([folders / "joint", tmp_path / "other"], Settings(("convergence",)))
