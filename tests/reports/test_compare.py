import json
import re

import pytest
from scipy import stats

from offramp.errors import UserError
from offramp.methods import method
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
    assert [d.n for d in group.minus(comparison.groups[0]).values()] == [2] * 4
    assert group.minus(comparison.groups[0])["exit 1"].mean == 1.0


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
    assert [group.label for group in comparison.groups] == ["joint", "joint lr=0.05"]
    assert comparison.groups[0].seeds == [0, 5]
    assert "recipes differ in lr" in comparison.table()
    assert "where a label does not say otherwise: lr=0.1" in comparison.table()


def test_other_numbers_of_micro_batches_are_noted(make_run):
    runs = {make_run("a"): 1, make_run("b", method="dfs"): 4, make_run("c", method="dfs", seed=1): 2}
    assert not any("micro-batches" in note for note in compare(runs).notes)
    for folder, number in runs.items():
        result = json.loads((folder / "result.json").read_text())
        (folder / "result.json").write_text(json.dumps(result | {"micro_batches": number}))
    (note,) = (note for note in compare(runs).notes if "micro-batches" in note)
    assert "1 in joint, 2 and 4 in dfs, over which batch norm" in note


def test_samples_that_some_methods_hold_out_are_noted(make_run):
    held = [make_run("h", method="hdkd"), make_run("w", method="wpn", options={"held_out": 0.25})]
    (note,) = (note for note in compare([make_run("j"), *held]).notes if "trained no net" in note)
    assert "losses alone: 0.1 in hdkd, 0.25 in wpn held_out=0.25; epochs there" in note
    alike = compare([held[0], make_run("m", method="mixed+hdkd")])
    assert not any("trained no net" in note for note in alike.notes)


def test_joint_is_the_baseline_wherever_it_stands(make_run):
    runs = [make_run(m, method=m) for m in ("dfs", "joint", "separate")]
    comparison = compare(runs)
    assert [group.label for group in comparison.groups] == ["joint", "dfs", "separate"]
    assert {d["baseline"] for d in comparison.to_dict()["differences"]} == {"joint"}
    assert compare(runs[::2]).groups[0].label == "dfs"  # without joint, the first one


def test_table_holds_costs_means_and_differences(make_run):
    runs = [
        make_run(f"{m}{s}", (50.0 + s + (2 * s if m == "dfs" else 0), 60.0), method=m, seed=s, seconds=t)
        for m, t in (("joint", (5.5, 6.5)), ("dfs", (4.0, 5.0)))
        for s in (0, 1)
    ]
    lines = compare(runs).table().splitlines()
    assert lines[0].startswith("vgg7:width=16 on digits")
    assert [line.split() for line in lines[2:8] if "---" not in line] == [
        ["exit", "1", "2", "average", "ensemble"],
        ["params", "1.50k", "3.00k"],
        ["FLOPs", "2.00M", "4.00M"],
        ["joint", "50.50", "±", "0.71", "60.00", "±", "0.00", "55.25", "±", "0.35", "61.50", "±", "0.00"],
        ["dfs", "51.50", "±", "2.12", "60.00", "±", "0.00", "55.75", "±", "1.06", "61.50", "±", "0.00"],
    ]
    # exit 1: pairs 0 and 2, standard error 1, t(0.975; 1) = 12.7062
    (difference,) = [line.split() for line in lines if re.match(r"dfs +[+]", line)]
    assert difference[1:4] == ["+1.00", "±", "12.71"]
    assert [line.split() for line in lines[-2:]] == [
        ["joint", "0,", "1", "6.0", "1.00", "F", "+", "B", "2"],
        ["dfs", "0,", "1", "4.5", "0.75", "F", "+", "B", "2"],
    ]


def test_costs_that_differ_are_told_beside_the_methods_name(make_run):
    runs = [make_run("j"), make_run("s", method="separate")]
    result = json.loads((runs[1] / "result.json").read_text())
    result["exits"][1]["flops"] = 5_000_000
    (runs[1] / "result.json").write_text(json.dumps(result))
    lines = compare(runs).table().splitlines()
    assert [line.split() for line in lines if line.startswith("FLOPs")] == [
        ["FLOPs", "2.00M", "4.00M"],
        ["FLOPs", "separate", "2.00M", "5.00M"],
    ]


def test_a_composed_method_has_its_parts_defaults_and_passes(make_run):
    options = json.loads(json.dumps(method("dfs+kd").options))
    group = compare([make_run("c", method="dfs+kd", options=options)]).groups[0]
    assert group.label == "dfs+kd"
    assert group.passes == "F + B"


def test_a_method_that_the_library_does_not_know_is_compared_all_the_same(make_run):
    own = [make_run(f"x{n}", method="homemade", options={"depth": n, "size": [1, 4]}) for n in (2, 3)]
    assert [group.label for group in compare([*own[:1]]).groups] == ["homemade"]
    (own[0] / "metrics.csv").write_text("epoch,seconds,passes\n1,5,3.5\n2,5,7\n")
    comparison = compare([make_run("j"), *own])
    expected = [("joint", "F + B", 2), ("homemade depth=2", "", 7), ("homemade depth=3", "", None)]
    assert [(g.label, g.passes, g.runs[0].joint_epochs) for g in comparison.groups] == expected


@pytest.mark.parametrize(
    ("separate", "says"),
    [
        ((50.0, 60.0), "not above joint at any exit; separate nets differ"),
        ((51.0, 59.0), "above joint at exit 1 only"),
        ((51.0, 61.0), "above joint at every exit"),
    ],
)
def test_where_separate_is_above_joint_and_that_this_is_not_conflict_alone(make_run, separate, says):
    comparison = compare([make_run("j"), make_run("s", separate, method="separate")])
    (note,) = (note for note in comparison.notes if says in note)
    for part in ("conflict", "shared capacity", "deep supervision", "effective step"):
        assert part in note
    assert note.endswith("no measure of conflict alone")


def test_without_metrics_the_seconds_stay_empty(make_run):
    runs = [make_run("j"), make_run("d", method="dfs")]
    (runs[1] / "metrics.csv").unlink()
    comparison = compare(runs)
    groups = comparison.to_dict()["groups"]
    assert [group["relative_seconds"] for group in groups] == [1.0, None]
    assert groups[1]["seconds"] is None
    assert comparison.table().splitlines()[-3].split() == ["dfs", "0", "F", "+", "B", "2"]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"net": {"net": "vgg7", "width": 8}}, "the net differs (vgg7:width=16 and vgg7:width=8)"),
        ({"data": "cifar10"}, "the data differs (digits and cifar10)"),
        ({"recipe": {"test_limit": 100}}, "the test_limit differs (None and 100)"),
        ({"top1": (1.0, 2.0, 3.0)}, "the number of outputs differs (2 and 3)"),
        ({}, "the same method, recipe and seed (0)"),
    ],
)
def test_what_cannot_be_compared_is_refused(make_run, other, says):
    with pytest.raises(UserError) as error:
        compare([make_run("a"), make_run("b", **other)])
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_finished_run_is_named(make_run, tmp_path):
    with pytest.raises(UserError, match="nowhere is no run folder"):
        compare([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="is no run folder"):
        compare([tmp_path])
    unfinished = make_run("unfinished")
    (unfinished / "result.json").unlink()
    with pytest.raises(UserError, match=r"unfinished is not finished; .*resume=True"):
        compare([unfinished])
    (unfinished / "result.json").write_text('{"exits": [')
    with pytest.raises(UserError, match=r"result\.json cannot be read"):
        compare([unfinished])
    (unfinished / "result.json").write_text("{}")
    with pytest.raises(UserError, match="no 'data' in its"):
        compare([unfinished])
    with pytest.raises(UserError, match="give one or more"):
        compare([])


def test_joint_training_with_weights_is_not_the_baseline(make_run):
    weighted = make_run("weighted", (55.0, 65.0), options={"weights": [2, 1]})
    folders = [weighted, make_run("dfs", (51.0, 61.0), method="dfs"), make_run("joint")]
    comparison = compare(folders)
    assert [group.label for group in comparison.groups] == ["joint", "joint weights=[2, 1]", "dfs"]
    assert {d["baseline"] for d in comparison.to_dict()["differences"]} == {"joint"}


A, B = ({"source": f"runs/{name}", "digest": name * 64, "as_initialised": [], "unused": []} for name in "ab")


def test_runs_that_began_from_different_weights_are_told(make_run):
    runs = [make_run("j", init=A), make_run("d", method="dfs", init=B), make_run("k", method="kd")]
    comparison = compare(runs)
    assert [group.label for group in comparison.groups] == ["joint", "dfs", "kd"]
    assert (
        "the runs began from different weights: this compares more than methods; "
        "from runs/a: joint; from runs/b: dfs; from weights of their own: kd" in comparison.notes
    )


def test_the_weights_that_many_runs_began_from_are_told_in_short(make_run):
    methods = ("joint", "dfs", "kd", "ge", "byot", "pcgrad", "mgda")
    runs = [
        make_run(
            f"{method}{seed}", method=method, seed=seed, init={**A, "source": f"runs/{seed}"} if k else None
        )
        for k, method in enumerate(methods)
        for seed in range(5)
    ]
    (note,) = [note for note in compare(runs).notes if "began from" in note]
    assert note.endswith(
        "from weights of their own: joint; from runs/0, runs/1, runs/2, and 2 more: dfs, kd, ge, and 3 more"
    )


def test_each_seed_may_start_from_weights_of_its_own(make_run):
    runs = [
        make_run(f"{method}{seed}", method=method, seed=seed, init=init)
        for method in ("joint", "dfs")
        for seed, init in enumerate((A, B))
    ]
    comparison = compare(runs)
    assert [group.seeds for group in comparison.groups] == [[0, 1], [0, 1]]
    assert not any("weights" in note for note in comparison.notes)


def test_runs_of_one_seed_from_different_weights_are_two_groups(make_run):
    moved = {**B, "source": "runs/a"}
    for case, (starts, labels) in enumerate(
        [
            ((None, A), ["joint", "joint init=runs/a"]),
            ((A, B), ["joint init=runs/a", "joint init=runs/b"]),
            ((A, moved), ["joint init=runs/a (aaaaaaa)", "joint init=runs/a (bbbbbbb)"]),
        ]
    ):
        runs = [make_run(f"{case}{k}", init=init) for k, init in enumerate(starts)]
        assert [group.label for group in compare(runs).groups] == labels


def edit_record(folder, **data):
    """Change what a run notes of its data."""
    record = json.loads((folder / "run.json").read_text())
    record["data"] |= data
    (folder / "run.json").write_text(json.dumps(record))


def test_data_of_one_name_with_other_labels_are_told(make_run):
    runs = [make_run("a"), make_run("b", method="dfs")]
    for run, labels in zip(runs, ("aaaa0000aaaa", "bbbb0000bbbb"), strict=True):
        edit_record(run, source=f"{run.name}/photos", labels_digest=labels)
    [told] = [note for note in compare(runs).notes if "samples or labels" in note]
    assert told.endswith("they are those of a/photos, b/photos")
    for run in runs:  # one folder, in which something has changed
        edit_record(run, source="photos")
    assert "photos (aaaa000), photos (bbbb000)" in compare(runs).table()
    edit_record(runs[1], labels_digest="aaaa0000aaaa", source="copy/photos")  # the same data elsewhere
    assert "samples or labels" not in compare(runs).table()
    (run / "run.json").write_text((run / "run.json").read_text().replace("labels_digest", "digest"))
    edit_record(run, digest="cccc0000cccc")  # of data in Python
    assert "samples or labels" in compare(runs).table()


def test_small_errors_have_their_digits(make_run):
    runs = [make_run("a"), make_run("b", method="dfs")]
    for run, errors in zip(runs, ((0.00412, 0.0031), (0.00452, 0.0031)), strict=True):
        result = json.loads((run / "result.json").read_text())
        for key in ("exits", "average_top1", "ensemble_top1"):
            del result[key]
        result["outputs"] = {
            f"exit {k}": {
                "metrics": {"mae": error},
                "primary": "mae",
                "better": "lower",
                "params": 1,
                "flops": 1,
            }
            for k, error in enumerate(errors, 1)
        }
        result["ensemble"] = {"mae": 0.003}
        (run / "result.json").write_text(json.dumps(result))
    lines = [line.split() for line in compare(runs).table().splitlines()]
    assert ["joint", "0.004120", "0.003100", "0.003610", "0.003000"] in lines
    assert ["dfs", "+0.000400", "0.000000", "+0.000200", "0.000000"] in lines
