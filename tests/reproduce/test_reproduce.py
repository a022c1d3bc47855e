"""Reproductions end to end: trained once, resumed, and reported beside what was published."""

import json

import pytest

import offramp
from offramp import UserError
from offramp.cli import main
from offramp.nets.text import build
from offramp.papers.catalogue import TABLES
from offramp.reports import compare
from offramp.reproduce import plan, reproduce
from offramp.sweeps import SweepResult

TABLE_4 = ["reproduce", "dfs-table4", "--stand-in", "CIFAR-100=digits", "--scale", "1/300"]


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    out = tmp_path_factory.mktemp("reproduced") / "out"
    words = [*TABLE_4, "--out", str(out), "--only", "dfs beta=0.1", "dfs beta=0.9", "--jobs", "2"]
    assert main([*words, "--json"]) == 0
    return out, words


def printed(capfd, *words):
    capfd.readouterr()
    assert main([str(word) for word in words]) == 0
    return capfd.readouterr()


@pytest.mark.slow
def test_ours_stand_beside_what_was_published(reproduced):
    out, _ = reproduced
    document = json.loads((out / "reproduction.json").read_text())
    assert document["stands_in"] is True
    assert document["title"].endswith(":width=6 on digits, which stands in for CIFAR-100, at scale 1/300")
    for row, beta in zip(document["rows"], (0.1, 0.9), strict=True):
        folder = out / f"dfs-beta={beta}" / "seed-0"
        result = json.loads((folder / "result.json").read_text())
        assert row["label"] == f"dfs beta={beta}"
        assert [*row["published"].values()] == [*TABLES["dfs-table4"].top1[row["label"]]]
        assert [row["ours"][f"exit {k}"]["mean"] for k in range(1, 7)] == [
            each["top1"] for each in result["exits"]
        ]
    assert [group["label"] for group in document["comparison"]["groups"]] == ["dfs beta=0.1", "dfs beta=0.9"]
    text = (out / "reproduction.txt").read_text()
    assert "dfs beta=0.1 (published)  22.81  41.56" in text
    assert "differs: training images 167, published: 50000" in text
    assert "on CIFAR-100" not in text.splitlines()[0]
    assert (out / "comparison.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_same_command_goes_on_and_trains_nothing_twice(reproduced, capfd):
    out, words = reproduced
    before = {path: path.stat().st_mtime_ns for path in out.rglob("seed-*/*")}
    said = printed(capfd, *words)
    assert "2 runs, 2 finished" in said.err
    assert said.out == (out / "reproduction.txt").read_text()
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("seed-*/*")}
    said = printed(capfd, "sweep", out / "sweep.yaml")  # which is what it was
    assert "2 runs, 2 finished" in said.err


def test_files_of_another_origin_are_not_replaced(tmp_path):
    planned = plan("dfs-table4", stand_in="CIFAR-100=digits", scale="1/300", out=tmp_path)
    comparison = [f"comparison.{kind}" for kind in ("txt", "json", "png")]
    for name in ("sweep.yaml", "reproduction.txt", "reproduction.json", *comparison):
        (tmp_path / name).write_text("mine")
        with pytest.raises(UserError, match=f"{name} is there.* (may|would) replace it"):
            reproduce(planned, quiet=True)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()


def test_pictures_of_another_origin_are_not_replaced_by_those_of_a_figure(tmp_path, monkeypatch):
    out = tmp_path / "figure"
    out.mkdir()
    (out / "mine.png").write_text("mine")
    planned = plan("dr-mgf-fig3", out=out, scale="1/100")
    with pytest.raises(UserError, match=r"mine\.png is there, and the report of dr-mgf-fig3 may replace it"):
        reproduce(planned)
    assert [path.name for path in out.iterdir()] == ["mine.png"]


def test_the_report_of_another_figure_is_not_replaced(tmp_path):
    reproduce(plan("dr-mgf-fig3", out=tmp_path, scale="1/100"))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    reproduce(plan("dr-mgf-fig3", out=tmp_path, scale="1/100"))
    planned = plan("dfs-table4", stand_in="CIFAR-100=digits", scale="1/300", out=tmp_path)
    with pytest.raises(UserError, match="with the reproduction of 'dr-mgf-fig3', and"):
        reproduce(planned, quiet=True)
    assert before.keys() == {*tmp_path.iterdir()}
    assert before[tmp_path / "reproduction.txt"] == (tmp_path / "reproduction.txt").read_bytes()


def test_a_dry_run_writes_nothing(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = printed(capfd, *TABLE_4, "--dry-run", "--only", "dfs beta=0.5", "--jobs", "2")
    assert said.out.startswith("# dfs-table4 (Gong et al.")
    assert "out: runs/dfs-table4\n" in said.out
    assert "hours of this machine with nothing else on it, 2 runs at a time" in said.out
    assert [*tmp_path.iterdir()] == []
    document = json.loads(printed(capfd, *TABLE_4, "--dry-run", "--only", "dfs beta=0.5", "--json").out)
    assert document["sweep"]["methods"] == [{"method": "dfs", "beta": 0.5}]
    assert document["estimate"]["hours"] > 0


def test_the_list_names_every_row_and_why_one_is_not_trained(capfd):
    text = printed(capfd, "reproduce", "--list").out
    document = json.loads(printed(capfd, "reproduce", "--list", "--json").out)
    assert {each["name"] for each in document} >= TABLES.keys()
    for each in document:
        assert f"{each['name']}: {each.get('source', each.get('not_known'))}" in text
        for row in each.get("rows", ()):
            assert row["label"] in text
            if row["untrained"]:
                assert f"{row['label']} (not trained: {row['untrained']})" in text
    one = json.loads(printed(capfd, "reproduce", "dfs-table4", "--list", "--json").out)
    assert [each["name"] for each in one] == ["dfs-table4"]


def test_tasks_stand_beside_theirs_with_delta_m_to_independent_networks(tmp_path):
    planned = plan(
        "dr-mgf-table6", stand_in="NYUv2=rooms:images=4,test=2,height=32,width=32", scale="1/200",
        only=["Independent", "MTAN", "DR-MGF"], seeds=[0], out=tmp_path,
    )  # fmt: skip
    folders = {}
    for entry in planned.sweep.entries[:2]:  # the third has failed
        net = build(entry.net, input_size=planned.data.input_size, targets=planned.data.targets)
        folder = tmp_path / entry.label.split(":")[0] / "seed-0"
        recipe = entry.recipe.replace(options={})
        offramp.fit(net, planned.sweep.data, entry.method, recipe, folder, quiet=True)
        folders[entry.label] = (folder,)
    folders[planned.sweep.entries[2].label] = ()
    finished = tuple(folder for each in folders.values() for folder in each)
    report = planned.experiment.report(planned, SweepResult(finished, (), folders))
    independent, mtan, dr_mgf = report.document["rows"]
    assert dr_mgf["ours"] is None
    assert dr_mgf["published"]["delta_m"] == -8.39
    assert "delta_m" not in independent["ours"]
    losses = compare(finished, baseline=[str(finished[0])]).groups[1].last_epochs
    assert (
        mtan["ours"]["segmentation miou"]["mean"]
        == (losses.runs[0].result.outputs["segmentation"].metrics["miou"])
    )
    assert mtan["published"]["depth abs_err"] == 0.5493
    assert "MTAN (published)" in report.text
