import json

import pytest

from offramp.errors import UserError
from offramp.reports import compare


@pytest.fixture
def search(make_run):
    """Runs of a method: one for each learning rate, seed, validation and test accuracy."""

    def make(method, *trials):
        return [
            make_run(
                f"{method}{lr}-{seed}",
                test,
                method=method,
                seed=seed,
                val=val,
                recipe={"lr": lr},
                seconds=(3, 4),
            )
            for lr, seed, val, test in trials
        ]

    return make


def test_the_rate_is_picked_on_validation_and_never_on_test(search):
    joint = search("joint", (0.1, 0, (50, 60), (50.0, 60.0)), (0.3, 0, (49, 60), (90.0, 90.0)))
    dfs = search("dfs", (0.1, 0, (50, 60), (99.0, 99.0)), (0.3, 0, (50, 61), (51.0, 62.0)))
    comparison = compare([*joint, *dfs], pick_lr=True)
    assert [g.label for g in comparison.groups] == ["joint", "dfs"]
    assert [g.runs[0].recipe["lr"] for g in comparison.groups] == [0.1, 0.3]
    assert not any("recipes differ" in note for note in comparison.notes)

    document = comparison.to_dict()
    json.dumps(document, allow_nan=False)
    assert [run["folder"] for run in document["runs"]] == [str(joint[0]), str(dfs[1])]
    assert document["differences"][0]["exits"][0]["top1"]["mean"] == 1.0
    assert document["groups"][1]["search"] == {
        "lr": 0.3,
        "tried": [
            {"lr": 0.1, "seeds": [0], "val_top1": 55.0, "seconds": 7.0},
            {"lr": 0.3, "seeds": [0], "val_top1": 55.5, "seconds": 7.0},
        ],
        "seconds": 14.0,
    }
    assert comparison.table().splitlines()[-3].split() == [
        *["dfs", "0", "3.5", "1.00", "F", "+", "B", "2", "0.3"], *["0.1:", "55.00,", "0.3:", "55.50", "14"],
    ]  # fmt: skip


def test_the_mean_over_the_seeds_decides(search):
    runs = search(
        "joint",
        (0.1, 0, (50,), (1.0,)), (0.1, 1, (54,), (2.0,)), (0.3, 0, (56,), (3.0,)), (0.3, 1, (47,), (4.0,)),
    )  # fmt: skip
    (group,) = compare(runs, pick_lr=True).groups
    assert [(run.recipe["lr"], run.seed) for run in group.runs] == [(0.1, 0), (0.1, 1)]
    assert [one.value for one in group.rates] == [52.0, 51.5]
    assert group.search_seconds == 28.0


def test_a_rate_that_failed_for_a_seed_is_out(search):
    runs = search(
        "joint", (0.1, 0, (50,), (1.0,)), (0.1, 1, (51,), (2.0,)), (0.3, 0, (80,), (3.0,)),
    )  # fmt: skip
    (group,) = compare(runs, pick_lr=True).groups
    assert group.runs[0].recipe["lr"] == 0.1


def test_what_cannot_be_picked_is_refused(search, make_run):
    with pytest.raises(UserError, match=r"has no validation metrics.*val_fraction=0\.1"):
        compare([make_run("a"), make_run("b", recipe={"lr": 0.3})], pick_lr=True)
    (twice,) = search("dfs", (0.1, 0, (50,), (1.0,)))
    with pytest.raises(UserError, match="which is one run and not two"):
        compare([twice, twice], pick_lr=True)


def test_without_picking_each_rate_stands_for_itself(search):
    runs = search("joint", (0.1, 0, (50,), (1.0,)), (0.3, 0, (51,), (2.0,)))
    comparison = compare(runs)
    assert [group.label for group in comparison.groups] == ["joint", "joint lr=0.3"]
    assert comparison.to_dict()["groups"][0]["search"] is None
