"""A page holds what the runs hold, and nothing that a browser would fetch or run besides."""

import json
import math
import re
import shutil
import statistics
from importlib.util import find_spec

import pytest
import vl_convert

from offramp import UserError
from offramp.reports.html import report, report_of_training

T95 = 4.302652729911275  # Student's t, two-sided 95 %, of two degrees of freedom


@pytest.fixture
def groups(make_run):
    """Three seeds each of two methods."""
    top1 = {
        "joint": [(50.0, 60.0), (51.0, 62.0), (49.0, 61.0)],
        "dfs": [(53.0, 60.0), (54.5, 62.5), (52.1, 60.2)],
    }
    folders = [
        make_run(f"{method}-{seed}", values, method=method, seed=seed, val=(40.0 + seed, 50.0))
        for method, of in top1.items()
        for seed, values in enumerate(of)
    ]
    return folders, top1


def test_a_browser_has_nothing_to_fetch(groups, read):
    page = read(report(groups[0], quick=True))
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    assert not {"link", "iframe", "object", "embed", "base"} & set(page.tags)
    style = page.scripts[0]
    assert "url(" not in style and "@import" not in style
    [policy] = [
        v for tag, name, v in page.attributes if tag == "meta" and name == "content" and "default-src" in v
    ]
    assert "default-src 'none'" in policy
    assert "http" not in policy and "unsafe-eval" not in policy and "script-src 'unsafe" not in policy


def test_the_tables_have_means_spreads_and_paired_intervals(groups, read):
    folders, top1 = groups
    means, differences, training = read(report(folders, quick=True)).tables
    assert means[0] == ["method", "exit 1", "exit 2", "average", "ensemble"]
    assert means[1] == ["parameters", "1.50k", "3.00k", "", ""]
    assert means[2] == ["operations", "2.00M", "4.00M", "", ""]
    for row, of in zip(means[3:], top1.values(), strict=True):
        for cell, values in zip(row[1:3], zip(*of, strict=True), strict=True):
            assert cell == f"{statistics.mean(values):.2f}± {statistics.stdev(values):.2f}"
    (label, *cells), pairs = differences[1], zip(*top1.values(), strict=True)
    assert label == "dfs"
    found = [[b - a for a, b in zip(*pair, strict=True)] for pair in pairs]
    for cell, values in zip(cells[:2], zip(*found, strict=True), strict=True):
        mean, half = statistics.mean(values), T95 * statistics.stdev(values) / math.sqrt(3)
        decided = abs(mean) > half
        assert cell == f"{'▲ ' * decided}{mean:+.2f}± {half:.2f}{'*' * decided}"
    assert cells[0].startswith("▲") and not cells[1].startswith("▲")  # or the line above shows nothing
    assert [row[:2] for row in training[1:]] == [["joint", "0, 1, 2"], ["dfs", "0, 1, 2"]]


def test_the_curves_are_the_log(make_run, read):
    folders = [make_run(f"joint-{s}", seed=s, val=(40.0 + s, 50.0)) for s in (0, 2)]
    for seed, folder in zip((0, 2), folders, strict=True):
        lines = ["epoch,seconds,train_loss_1,train_loss_2,val_top1_1,val_top1_2"]
        losses = [f"{2.5 - seed},nan", f"{2.5 - seed},nan", "nan,nan", f"{2.5 - seed},nan"]
        lines += [f"{epoch},1,{loss},{40 + seed + epoch},50" for epoch, loss in enumerate(losses, 1)]
        (folder / "metrics.csv").write_text("\n".join([*lines, ""]))
    page = read(report(folders, quick=True))
    metric, loss = (spec["data"]["values"] for spec in page.data["charts"].values())
    first = [value for value in metric if value["of"] == "exit 1"]
    assert [(value["x"], value["y"]) for value in first] == [(1, 42.0), (2, 43.0), (3, 44.0), (4, 45.0)]
    assert first[0]["high"] - first[0]["y"] == pytest.approx(statistics.stdev([41, 43]))
    assert {value["of"] for value in loss} == {"exit 1"}  # of exit 2 there is none
    assert [value["y"] for value in loss] == [1.5, 1.5, None, 1.5]  # None is a gap


def test_a_line_of_one_epoch_is_a_dot_beside_longer_lines(make_run, read):
    folders = [
        make_run("long", val=(40.0, 50.0), recipe={"epochs": 2}),
        make_run("short", val=(41.0, 51.0), recipe={"epochs": 1}, seconds=(5.5,), method="dfs"),
    ]
    for folder, epochs in zip(folders, (2, 1), strict=True):
        lines = ["epoch,train_loss_1,train_loss_2", *(f"{e},2.5,2.0" for e in range(1, epochs + 1)), ""]
        (folder / "metrics.csv").write_text("\n".join(lines))
    charts = read(report(folders, quick=True)).data["charts"].values()
    courses = [spec["data"]["values"] for spec in charts if "encoding" in spec]  # the differences have none
    assert len(courses) == 2  # the loss of each exit
    for values in courses:
        assert [value.get("single", False) for value in values] == [False, False, True]


def test_every_chart_is_one_that_vega_lite_draws(groups, read):
    for folder in groups[0]:
        lines = ["epoch,seconds,train_loss_1,train_loss_2,val_top1_1,val_top1_2"]
        lines += [f"{epoch},1,2.5,{2 / epoch},{40 + epoch},50" for epoch in (1, 2)]
        (folder / "metrics.csv").write_text("\n".join([*lines, ""]))
    specs = read(report(groups[0], quick=True)).data["charts"]
    assert len(specs) == 5  # differences, metric and loss of two exits
    for spec in specs.values():
        assert vl_convert.vegalite_to_vega(spec)["marks"]


HOSTILE = [
    "</script><script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    "\"'&amp;<b>",
    "{{ 7 * 7 }}{% raw %}",
    "line\u2028and\u2029paragraph",
    "\u202ereversed",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_all_kinds_are_text(make_run, unfinished, read, name):
    runs = [make_run("joint", data=name, val=(1.0, 2.0)), make_run("dfs", method="dfs", data=name)]
    lines = ["epoch,train_loss_" + name.replace(",", "") + ",train_loss_2", "1,1,2"]
    runs.append(unfinished("ge", lines, method="ge", data=name))
    page = report(runs, quick=True)
    parsed = read(page)
    assert parsed.tags.count("script") == 3 and "img" not in parsed.tags and "b" not in parsed.tags
    assert parsed.text.count(name) >= 2  # title and heading
    assert name in str(parsed.data).replace("\\u202e", "\u202e") or name in parsed.text
    data = page[page.index('id="data">') + 10 :]
    data = data[: data.index("</script>")]
    assert data.isascii() and not set("<>&'") & set(data)
    assert json.loads(data) == parsed.data


def test_pages_of_equal_runs_are_equal(groups, tmp_path):
    folders = groups[0]
    page = report(folders, quick=True)
    assert page == report(folders, quick=True)
    copies = [shutil.copytree(folder, tmp_path / "copy" / folder.name) for folder in folders]
    assert page == report(copies, quick=True)


def test_a_run_in_training_has_curves_and_no_result(unfinished, make_run, read):
    lines = ["epoch,seconds,train_loss_1,train_loss_2,val_top1_1", "1,1,2.5,2.25,10"]
    run = unfinished("ge", lines, method="ge")
    page = read(report_of_training(run))
    assert page.tables == [
        [
            ["method", "folder", "seed", "epochs", "losses of the last epoch"],
            ["ge", str(run), "0", "1 of 2", "2.5, 2.25"],
        ]
    ]
    assert ("meta", "http-equiv", "refresh") in page.attributes
    beside = read(report([make_run("joint"), run], quick=True))
    assert len(beside.tables) == 3
    assert ("meta", "http-equiv", "refresh") not in beside.attributes
    assert "ge seed 0, epoch 1 of 2" in beside.text
    (run / "metrics.csv").unlink()
    assert "no epoch is logged yet" in read(report_of_training(run)).text


def test_an_unfinished_run_of_another_net_with_the_same_tasks_stands_beside_others(unfinished, read):
    log = "epoch,seconds,train_loss_{},train_loss_{},val_top1_kind\n1,1,2.5,2.25,10".format
    one = unfinished("one", [log("kind", "box")], net={"net": "resnet18", "num_classes": 3})
    other = unfinished("other", [log("kind", "box")])
    page = read(report([one, other], quick=True))
    assert [row[0] for row in page.tables[0][1:]] == ["joint on resnet18", "joint on vgg7:width=16"]
    assert "joint on vgg7:width=16 seed 0, epoch 1 of 2" in page.text
    third = unfinished("third", [log("kind", "age")])
    with pytest.raises(UserError, match=r"list of tasks differs \(kind, box and kind, age\); give"):
        report([one, third], quick=True)
    exits = [unfinished(name, [log(1, 2)], net={"net": name}) for name in ("vgg7", "resnet18")]
    with pytest.raises(UserError, match=r"the net differs \(vgg7 and resnet18\)"):
        report(exits, quick=True)


def test_sixty_methods_are_told_apart_by_colour_and_dashes(make_run, read):
    folders = [
        make_run(f"run-{k}", method="joint" if k == 0 else "dfs", options={"beta": k / 60} if k else {})
        for k in range(60)
    ]
    page = report(folders, quick=True)
    keys = re.findall(r'style="stroke:([^"]+)"(?: stroke-dasharray="([^"]+)")?', page)
    assert len(set(keys)) == len(keys) == 59
    parsed = read(page)
    assert len(parsed.tables[0]) == 1 + 2 + 60
    (differences,) = parsed.data["charts"].values()
    encoding = differences["layer"][-1]["encoding"]
    looks = zip(encoding["color"]["scale"]["range"], encoding["fill"]["scale"]["range"], strict=True)
    assert len({*looks}) == 15  # a dot is full or a ring, in any of eight colours, of which joint has one


def test_runs_that_cannot_be_shown_together_are_one_line(make_run, unfinished):
    run = make_run("run")
    with pytest.raises(UserError, match="give one or more run folders"):
        report([])
    with pytest.raises(UserError, match="is no run folder"):
        report([run.parent])
    with pytest.raises(UserError, match=r"the data differs \(digits and other\)"):
        report([run, make_run("other", data="other")])
    with pytest.raises(UserError, match=r"the data differs \(digits and other\); give runs of one net"):
        report([run, unfinished("new", ["epoch"], data="other")])
    with pytest.raises(UserError, match="is one run and not two"):
        report([run, run])
    begun = unfinished("begun", ["epoch"])
    for twin in (begun, begun.parent / "run" / ".." / "begun"):
        with pytest.raises(UserError, match="begun are one run and not two; leave one of them out"):
            report([run, begun, twin], quick=True)


@pytest.mark.parametrize("missing", ["vl_convert", "jinja2"])
def test_a_missing_package_is_one_line(monkeypatch, make_run, missing):
    monkeypatch.setattr(
        "offramp.reports.html._library.find_spec", lambda name: None if name == missing else find_spec(name)
    )
    with pytest.raises(UserError, match=rf"a report needs {missing}: pip install 'offramp\[report\]'"):
        report([make_run("run")])
