"""`offramp report`, and `offramp train --report`: what the page shows of runs that were really trained."""

import base64
import html
import io
import json
import re
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from offramp import Router
from offramp.cli import _live_report
from offramp.cli._report import full_page
from offramp.exits import PathCosts, path_times
from offramp.exits.budget_curve import budget_curve
from offramp.exits.exit_logits import ExitLogits
from offramp.runs import Run


def data_of(page):
    """The JSON that the page's script reads."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def test_the_slider_s_positions_are_the_budget_curve_s(report_of_two, runs):
    run = Run.open(runs / "dfs")
    val, test = (ExitLogits.of(run.net, run.batches(split)) for split in ("val", "test"))
    costs = PathCosts(run.net)
    curve = budget_curve(val, test, costs)
    [slider] = data_of(report_of_two.read_text())["sliders"]
    assert len(slider["cells"]) == 40
    for at, fitted in enumerate(curve.published):
        point = fitted.point
        right, _, share, time, thresholds = slider["cells"][at][1]
        assert (right, share, time) == (f"{point.top1:.2f}", f"{100 * point.executed / costs.static:.1f}", "")
        assert len(thresholds.split(" · ")) == run.net.num_exits - 1
        [dot] = [each for each in slider["charts"]["leaving-accuracy"][at] if each["of"] == "dfs"]
        assert dot["y"] == pytest.approx(point.top1)
        taken = [each["share"] for each in slider["charts"]["leaving-exits"][at] if each["of"] == "dfs"]
        assert taken == pytest.approx([100 * share for share in point.shares])


def test_the_pictures_are_of_those_that_leave(report_of_two):
    page = report_of_two.read_text()
    galleries = [part.split("</details>")[0] for part in page.split("<summary>")[1:]]
    assert [gallery.split("<")[0] for gallery in galleries] == ["joint", "dfs"]
    for gallery in galleries:
        shares = [float(share) for share in re.findall(r"<small>([\d.]+) % leave here", gallery)]
        assert sum(shares) == pytest.approx(100, abs=0.5)
        for section, share in zip(gallery.split("<h4>")[1:], shares, strict=True):
            shown = section.count('<img src="data:image/webp;base64,')
            assert shown == min(16, round(share * 50 / 100))  # eight first and eight last of 50 samples
            for row in section.split('<span class="when">')[1:]:
                sure = [float(value) for value in re.findall(r'class="sure">([\d.]+)', row)]
                assert sure == sorted(sure, reverse=True)


def test_a_picture_is_of_the_sample_that_leaves_there(report_of_two, runs):
    """Read back from the page, the surest sample of each exit is one that the router lets leave there."""
    page = report_of_two.read_text()
    start = int(re.search(r'id="thresholds"[^>]* value="(\d+)"', page)[1])
    run = Run.open(runs / "joint")
    val, test = (ExitLogits.of(run.net, run.batches(split)) for split in ("val", "test"))
    policy = budget_curve(val, test, PathCosts(run.net)).published[start].policy
    levels = run.open_data().test.images.float()
    answer = Router(run.net, policy)(torch.cat([batch.inputs for batch in run.batches("test")]))
    gallery = page.split("<summary>")[1].split("</details>")[0]
    for exit, section in enumerate(gallery.split("<h4>")[1:], 1):
        shown = re.findall(r'webp;base64,([^"]+)".*?class="sure">([\d.]+)', section)
        if not shown:
            assert not (answer.exit == exit).any()
            continue
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown[0][0]))).convert("RGB"))
        distances = (levels - torch.tensor(pixels).permute(2, 0, 1)).abs().mean((1, 2, 3))
        at = int(distances.argmin())
        assert distances[at] < 10 < distances.topk(2, largest=False).values[1]  # a lossy copy of one of them
        assert answer.exit[at] == exit
        surest = answer.confidence[answer.exit == exit].max()
        assert float(shown[0][1]) == pytest.approx(float(surest), abs=1e-3)
        assert float(answer.confidence[at]) == pytest.approx(float(surest), abs=1e-3)


def test_conflict_and_cost_of_the_stages_are_there(report_of_two, result_of, runs):
    page = report_of_two.read_text()
    assert "C / G by output" in page and "Cost of each stage" in page
    values = [spec["data"].get("values") or [{}] for spec in data_of(page)["charts"].values()]
    [stages] = [each for each in values if "part" in each[0]]
    total = sum(value["y"] for value in stages if value["part"] == "stage")
    [head] = [value["y"] for value in stages if value.get("of") == "6"]
    assert total + head == result_of(runs / "joint")["exits"][-1]["flops"]  # thop: the exit's own head


def test_pages_of_equal_runs_are_equal_to_the_byte(report_of_two, offramp, runs, tmp_path):
    for name in ("joint", "dfs"):
        shutil.copytree(runs / name, tmp_path / name)
    words = ("--out", tmp_path / "again.html", "--no-times", "--batches", 2)
    assert offramp("report", tmp_path / "joint", tmp_path / "dfs", *words)[0] == 0
    assert (tmp_path / "again.html").read_bytes() == report_of_two.read_bytes()


def test_times_are_measured_unless_they_are_left_out(offramp, runs, tmp_path, monkeypatch):
    monkeypatch.setattr(path_times, "ENOUGH", 0.0)  # seconds
    code, out, err = offramp("report", runs / "dfs", "--out", tmp_path / "r.html", "--batches", 0, "--json")
    assert code == 0, err
    assert json.loads(out) == {"runs": [str(runs / "dfs")], "report": str(tmp_path / "r.html")}
    page = (tmp_path / "r.html").read_text()
    [slider] = data_of(page)["sliders"]
    assert all(re.fullmatch(r"[\d.e-]+ m?s", cells[0][3]) for cells in slider["cells"])
    assert "C / G by output" not in page


def test_names_of_all_kinds_are_text_and_what_is_missing_is_a_line(offramp, tmp_path, grey):
    folder = grey(8)
    names = {"1": '<img src=x onerror="window.hacked=1">', "2": "\u2028'&amp;", "3": "{{ 7 * 7 }}"}
    for split in ("train", "test"):
        for old, new in names.items():
            (folder / split / old).rename(folder / split / new)
    run, out = tmp_path / "r<b>un", tmp_path / "r.html"
    words = ("train", "--data", folder, "--net", "vgg7:width=4", "--method", "joint", "--epochs", 1)
    settings = ("--set", "batch_size=8", "augment=none", "val_fraction=0.2", "size=8")
    assert offramp(*words, *settings, "--out", run)[0] == 0
    assert offramp("report", run, "--out", out, "--batches", 0, "--no-times")[0] == 0
    page = out.read_text()
    assert "<img src=x" not in page and "<b>un" not in page
    assert {*names.values()} <= set(map(html.unescape, re.findall('alt="([^"]*)"', page)))
    shutil.rmtree(folder)
    assert offramp("report", run, "--out", out)[0] == 0
    page = html.unescape(out.read_text())
    assert page.count("nothing to show: ") == 2  # leaving early, and the conflict
    assert "<img src=x" not in out.read_text() and "Cost of each stage" in page


def test_a_method_whose_samples_cannot_leave_early_does_not_hide_the_others(offramp, small, runs, tmp_path):
    assert offramp(*small, "--method", "separate", "--out", tmp_path / "separate")[0] == 0
    words = ("report", runs / "joint", tmp_path / "separate", "--out", tmp_path / "r.html")
    code, _, err = offramp(*words, "--batches", 1, "--no-times")
    assert code == 0, err
    page = (tmp_path / "r.html").read_text()
    assert "separate is not shown: samples leave a MultiExitNet early" in page
    assert page.count("separate is not shown: ") == 2
    assert len(data_of(page)["sliders"][0]["cells"][0]) == 1
    assert "C / G by output" in page


def test_mistakes_are_one_line(refused, runs, tmp_path):
    out = ("--out", tmp_path / "r.html")
    assert "give one or more run folders" in refused("report", *out)
    assert "is no run folder" in refused("report", tmp_path, *out)
    assert "--batches is -1, must be 0 or more" in refused("report", runs / "joint", *out, "--batches", -1)
    (tmp_path / "mine.html").write_text("mine")
    assert "is no report" in refused("report", runs / "joint", "--out", tmp_path / "mine.html")
    assert not (tmp_path / "r.html").exists()


def test_a_training_keeps_a_page_up_to_date(offramp, small, tmp_path, monkeypatch):
    pages = []
    write = _live_report.write_page

    def kept(path, page):
        pages.append(page)
        write(path, page)

    monkeypatch.setattr(_live_report, "REST", 0)
    monkeypatch.setattr(_live_report, "write_page", kept)
    monkeypatch.setattr(_live_report, "full_page", partial(full_page, times=False, batches=1))  # soon done
    run, page = tmp_path / "run", tmp_path / "run" / "report.html"
    assert offramp(*small, "--epochs", 2, "--method", "joint", "--out", run, "--report", page)[0] == 0
    assert len(pages) == 3
    for epoch, text in enumerate(pages[:2], 1):
        assert f"{epoch} of 2<" in text and 'http-equiv="refresh"' in text
        losses = [c["data"]["values"] for c in data_of(text)["charts"].values()][-1]
        assert {value["x"] for value in losses} == {*range(1, epoch + 1)}
    assert 'http-equiv="refresh"' not in pages[2] and "Exits taken" in pages[2]
    assert page.read_text() == pages[2]


def test_a_training_that_is_stopped_leaves_a_page_with_all_its_epochs(offramp, small, tmp_path, monkeypatch):
    heard, run, page = _live_report.LiveReport.epoch, tmp_path / "run", tmp_path / "r.html"

    def epoch(live):
        heard(live)
        if len((run / "metrics.csv").read_text().splitlines()) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(_live_report.LiveReport, "epoch", epoch)
    assert offramp(*small, "--epochs", 3, "--method", "joint", "--out", run, "--report", page)[0] == 130
    assert "2 of 3<" in page.read_text()


def test_a_page_that_cannot_be_written_is_one_warning(offramp, small, result_of, tmp_path, monkeypatch):
    def full(path, page):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_live_report, "write_page", full)
    monkeypatch.setattr(_live_report, "full_page", lambda folders, net: "")
    words = (*small, "--epochs", 2, "--method", "joint", "--out", tmp_path / "run")
    code, _, err = offramp(*words, "--report", tmp_path / "r.html")
    assert code == 0
    assert [line for line in err.splitlines() if "warning" in line] == [
        "offramp train: warning: the report is not up to date: [Errno 28] No space left on device"
    ]
    assert result_of(tmp_path / "run")["method"] == "joint"


def test_a_page_in_a_bad_place_is_told_before_the_training(refused, small, tmp_path):
    words = (*small, "--method", "joint", "--out", tmp_path / "run", "--report")
    assert "there is no folder" in refused(*words, tmp_path / "new" / "r.html")
    (tmp_path / "mine.html").write_text("mine")
    assert "is no report" in refused(*words, tmp_path / "mine.html")
    assert not (tmp_path / "run").exists()
