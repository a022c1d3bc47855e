"""Every output of a net finds its target, of the kind that it learns from and as large as it says."""

from __future__ import annotations

import pytest
from torch import nn
from two_targets import KINDS, TASKS, TwoHeads, two_heads, two_targets

import offramp
from offramp import UserError
from offramp.data import Target, open_data
from offramp.runs.fits import check_fits
from offramp.runs.targets import targets_from_json, targets_to_json
from offramp.tasks import Boxes, Classification, Depth

MISFITS = {
    "lacking": (
        {"class": Classification(target="class"), "where": Boxes(target="where")},
        (3, 4),
        "where looks for 'where' among the targets, and shapes has 'class', 'box'; give data that have it, "
        "name its column by `tasks=...` if there is one, or train it",
    ),
    "of another kind": (
        {"class": Classification(target="box"), "box": Boxes(target="box")},
        (3, 4),
        "class is Classification, which learns from a target of kind 'class', and 'box' of shapes is of kind",
    ),
    "too many classes": (
        TASKS,
        (5, 4),
        "the net's outputs for 'class' tell 5 classes apart, shapes has 3; build it with .*num_classes=3",
    ),
    "too few numbers": (
        TASKS,
        (3, 2),
        r"box gives \[2\] for a sample, and .* needs \[4\]; build",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_misfit_is_one_line(case):
    tasks, sizes, line = MISFITS[case]
    with pytest.raises(UserError, match=line) as caught:
        check_fits(TwoHeads(tasks, sizes), two_targets())
    assert "\n" not in str(caught.value)


def test_classes_in_another_order_than_those_trained_on():
    trained_on = {**KINDS, "class": Target("class", ("gray", "dark", "bright"))}
    check_fits(two_heads(), two_targets(), KINDS)
    with pytest.raises(UserError, match=r"trained on the classes .*'gray', 'dark'"):
        check_fits(two_heads(), two_targets(), trained_on)


def test_targets_survive_a_record():
    several = {**KINDS, "pose": Target("values", size=3), "tags": Target("labels", ("a", "b"))}
    assert targets_from_json(targets_to_json(several)) == several
    one = {"label": KINDS["class"]}
    assert targets_to_json(one) == {"num_classes": 3, "classes": ("dark", "gray", "bright")}
    assert targets_from_json(targets_to_json(one)) == one


def test_maps_are_not_told_to_be_cut():
    """Of a set with dense targets `size` is refused, so that no line proposes it."""
    decoders = {"depth": (nn.Conv2d(3, 1, 1), Depth())}
    net = offramp.multi_task(nn.Conv2d(3, 3, 1), decoders, input_size=(3, 32, 32))
    rooms = open_data("rooms:images=2,test=1,height=40,width=48")
    with pytest.raises(UserError, match=r"has \(3, 40, 48\); give images of that size, or take a net"):
        check_fits(net, rooms)
    unsaid = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 1))  # does not say what it takes
    unsaid.outputs = {"depth": Depth()}
    with pytest.raises(UserError, match="give images that it takes, or take another net"):
        check_fits(unsaid, rooms)


def test_a_task_that_no_output_learns():
    tasks = {"class": "label", "box": "box", "pose": "pose"}
    with pytest.raises(UserError, match="tasks names 'pose', and no output of the net has such a target"):
        check_fits(two_heads(), two_targets(), tasks=tasks)
