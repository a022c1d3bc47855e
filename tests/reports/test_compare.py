import json

import pytest
from scipy import stats

from offramp.errors import UserError
from offramp.reports import compare


def test_seeds_of_a_method_are_one_group_and_the_first_method_is_the_baseline(make_run):
    joint = [make_run(f"j{s}", (50.0 + s, 60.0), seed=s) for s in range(3)]
    dfs = [
        make_run(f"d{s}", (52.0 + 2 * s, 59.0), method="dfs", options={"beta": 0.5}, seed=s)
        for s in (2, 0, 1)
    ]
    comparison = compare([*joint, *dfs])
    assert [(g.label, g.seeds) for g in comparison.groups] == [("joint", [0, 1, 2]), ("dfs", [0, 1, 2])]
    assert not comparison.notes

    document = comparison.to_dict()
    json.dumps(document, allow_nan=False)
    assert [run["seed"] for run in document["runs"]] == [0, 1, 2, 0, 1, 2]
    assert document["groups"][0]["exits"][0]["top1"] == {"mean": 51.0, "std": 1.0, "n": 3}
    (difference,) = document["differences"]
    expected = stats.ttest_rel([52, 54, 56], [50, 51, 52]).confidence_interval(0.95)
    first = difference["exits"][0]["top1"]
    assert (first["mean"], first["low"], first["high"]) == pytest.approx((3.0, expected.low, expected.high))
    assert difference["exits"][1]["top1"]["mean"] == -1.0
    assert difference["average_top1"]["mean"] == 1.0
    assert difference["ensemble_top1"]["mean"] == 0.0


def test_pairs_are_the_common_seeds_only(make_run):
    joint = [make_run(f"j{s}", (50.0 + s, 60.0), seed=s) for s in (0, 1, 2)]
    dfs = [make_run(f"d{s}", (51.0 + s, 60.0), method="dfs", seed=s) for s in (1, 2, 7)]
    (_, group) = (comparison := compare([*joint, *dfs])).groups
    assert [d.n for d in group.minus(comparison.groups[0])] == [2] * 4
    assert group.minus(comparison.groups[0])[0].mean == 1.0


def test_no_common_seed_is_said_and_not_computed(make_run):
    comparison = compare([make_run("j", seed=0), make_run("d", method="dfs", seed=1)])
    assert "no common seed" in comparison.table()
    assert comparison.to_dict()["differences"] == []


def test_options_other_than_the_defaults_make_a_method_of_their_own(make_run):
    runs = [make_run(f"d{b}", method="dfs", options={"beta": b}) for b in (0.5, 0.9)]
    comparison = compare(runs)
    assert [group.label for group in comparison.groups] == ["dfs", "dfs beta=0.9"]
    assert any("one common seed" in note for note in comparison.notes)


def test_recipes_that_differ_are_noted_and_kept_apart(make_run):
    comparison = compare(
        [make_run("a"), make_run("b", recipe={"lr": 0.05}), make_run("c", recipe={"seed": 5}, seed=5)]
    )
    assert [group.label for group in comparison.groups] == ["joint lr=0.1", "joint lr=0.05"]
    assert comparison.groups[0].seeds == [0, 5]
    assert "recipes differ in lr" in comparison.table()


def test_table_holds_costs_means_and_differences(make_run):
    runs = [make_run(f"{m}{s}", (50.0 + s, 60.0), method=m, seed=s) for m in ("joint", "dfs") for s in (0, 1)]
    lines = compare(runs).table().splitlines()
    assert lines[0].startswith("vgg7:width=16 on digits")
    assert lines[4].split("  ")[0] == "1"
    assert lines[4].split() == ["1", "1.50k", "2.00M", "50.50", "±", "0.71", "50.50", "±", "0.71"]
    assert [line.split()[0] for line in lines[4:10]] == ["1", "2", "average", "ensemble", "seeds", "seconds"]
    assert lines[9].split() == ["seconds", "12.0", "12.0"]
    assert lines[-1].split(maxsplit=1) == ["ensemble", "+0.00 [+0.00, +0.00]"]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"net": {"net": "vgg7", "width": 8}}, "the net differs (vgg7:width=16 and vgg7:width=8)"),
        ({"data": "cifar10"}, "the data differs (digits and cifar10)"),
        ({"recipe": {"test_limit": 100}}, "the test_limit differs (None and 100)"),
        ({"top1": (1.0, 2.0, 3.0)}, "the number of exits differs (2 and 3)"),
        ({}, "the same method, recipe and seed (0)"),
    ],
)
def test_what_cannot_be_compared_is_refused(make_run, other, says):
    with pytest.raises(UserError) as error:
        compare([make_run("a"), make_run("b", **other)])
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_finished_run_is_named(make_run, tmp_path):
    with pytest.raises(UserError, match=r"no run folder .*nowhere"):
        compare([tmp_path / "nowhere"])
    with pytest.raises(UserError, match=r"has no run\.json; give a folder that"):
        compare([tmp_path])
    unfinished = make_run("unfinished")
    (unfinished / "result.json").unlink()
    with pytest.raises(UserError, match=r"unfinished has no result\.json; .*--resume"):
        compare([unfinished])
    (unfinished / "result.json").write_text('{"exits": [')
    with pytest.raises(UserError, match=r"result\.json is damaged"):
        compare([unfinished])
    (unfinished / "result.json").write_text("{}")
    with pytest.raises(UserError, match="no 'data' in its"):
        compare([unfinished])
    with pytest.raises(UserError, match="give one or more"):
        compare([])
