"""Curves over seeds and beside published ones: documents, tables and pictures of made logits."""

import re
import statistics
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from offramp import UserError
from offramp.exits import ExitLogits, PathCosts
from offramp.exits.budget_curve import budget_curve
from offramp.nets import MultiExitNet
from offramp.papers.catalogue import published_curve
from offramp.reports import Group, read_run
from offramp.reports._published_curve import unlike
from offramp.reports.budget import Budget, budget
from offramp.reports.budget_groups import BudgetGroup
from offramp.reports.canvas import canvas
from offramp.reports.plot_budget import plot_budget

PRINTED = (56.43, 101.00, 155.31, 198.10, 249.53, 298.05, 340.64)  # Deep Feature Surgery, Table 2


def curve_of(seed):
    net = MultiExitNet(
        [nn.Linear(8, 8), nn.Linear(8, 8)], [nn.Linear(8, 4), nn.Linear(8, 4)], input_size=(8,)
    )
    draws = torch.Generator().manual_seed(seed)

    def logits():
        labels = torch.randint(4, (40,), generator=draws)
        noise = torch.randn(2, 40, 4, generator=draws)
        return ExitLogits(noise + 2 * nn.functional.one_hot(labels, 4), labels)

    return budget_curve(logits(), logits(), PathCosts(net))


@pytest.fixture
def found(make_run):
    """Two methods, the first of two seeds, beside a published curve."""
    curves = {"joint": [curve_of(0), curve_of(1)], "dfs": [curve_of(2)]}
    groups = []
    for method, of in curves.items():
        runs = [read_run(make_run(f"{method}{s}", method=method, seed=s)) for s, _ in enumerate(of)]
        groups.append(BudgetGroup(Group(method, tuple(runs)), tuple(of)))
    return Budget(tuple(groups), ("a remark",), ("dfs-fig3", published_curve("dfs-fig3")))


def test_points_are_means_over_the_seeds_at_the_same_p(found):
    document = found.to_dict()
    joint, dfs = document["groups"]
    assert joint["seeds"] == [0, 1]
    for p in (1, 17, 40):
        runs = [run["points"][p - 1] for run in joint["runs"]]
        point = joint["points"][p - 1]
        assert {point["p"], *(run["p"] for run in runs)} == {p}
        for name in ("top1", "flops", "executed"):
            values = [run[name] for run in runs]
            mean, std = statistics.fmean(values), statistics.stdev(values)
            assert point[name] == {"mean": pytest.approx(mean), "std": pytest.approx(std), "n": 2}
    assert dfs["points"][0]["top1"]["std"] is None
    assert [len(joint[key]) for key in ("points", "best", "exits")] == [40, 0, 2]
    assert len(joint["runs"][0]["points"][0]["thresholds"]) == 1
    assert document["notes"] == ["a remark"]


def test_published_points_say_that_they_are(found):
    published = found.to_dict()["published"]
    assert published["source"] == "Gong et al., Deep Feature Surgery, ECCV 2024, Fig 3"
    assert published["methods"][-1]["label"] == "dfs (published)"
    assert published["methods"][-1]["points"][18] == {"flops": 169.20e6, "top1": 79.87}
    table = found.table()
    assert (
        "published: Gong et al., Deep Feature Surgery, ECCV 2024, Fig 3; msdnet_cifar on CIFAR-100" in table
    )
    assert re.search(r"p = 19 .*  169M  79\.87$", table, re.MULTILINE)
    assert table.endswith("note: a remark")


def test_the_table_has_every_point_of_every_method(found):
    table = found.table()
    assert len(re.findall(r"^p = \d+  ", table, re.MULTILINE)) == 3 * 40  # the published ones too
    for name in ("exit 1", "exit 2", "oracle", "static"):
        assert len(re.findall(rf"^{name} ", table, re.MULTILINE)) == 2
    assert "FLOPs are counted as macs" in table


def test_the_picture_names_both_conventions_and_every_curve(found, tmp_path):
    texts = re.findall(r"<text[^>]*>([^<]+)<", plot_budget(found, tmp_path / "budget.svg").read_text())
    assert "mean FLOPs per sample (k), all heads, as published" in texts
    assert "mean FLOPs per sample (k), as the router executes" in texts
    names = ["joint", "dfs", "each exit by itself", "oracle", "static network"]
    names += [f"{method} (published)" for method in ("joint", "ge", "meta-gf", "dfs")]
    assert all(texts.count(name) == 1 for name in names)
    with pytest.raises(UserError, match="end the name in"):
        plot_budget(found, tmp_path / "budget.doc")


def test_long_labels_leave_the_panels_their_places(found, tmp_path, monkeypatch):
    groups = [
        BudgetGroup(Group("nash-mtl shared=union every=8 lr=0.3 and more", each.group.runs), each.curves)
        for each in found.groups
    ]
    figures = []

    @contextmanager
    def kept(*args, **kwargs):
        with canvas(*args, **kwargs) as figure:
            yield figure
            figures.append(figure)

    monkeypatch.setattr("offramp.reports.plot_budget.canvas", kept)
    plot_budget(Budget((*groups, *groups, *groups), (), None), tmp_path / "budget.png")
    (figure,) = figures
    figure.draw_without_rendering()
    left, right = (axes.xaxis.label.get_window_extent() for axes in figure.axes)
    assert left.x1 < right.x0
    assert all(axes.get_window_extent().height > 0.4 * figure.bbox.height for axes in figure.axes)


@pytest.mark.parametrize(
    ("net", "data", "factor", "shown"),
    [
        ("msdnet_cifar", "cifar100", 1, True),
        ("msdnet_cifar", "CIFAR-100", 1, True),
        ("msdnet_cifar", "cifar10", 1, False),
        ("msdnet_cifar", "cifar100", 1.1, False),
        ("vgg7", "cifar100", 1, False),
    ],
)
def test_a_published_curve_stands_beside_the_same_net_and_data_alone(make_run, net, data, factor, shown):
    folder = make_run("run", [50.0] * 7, net={"net": net}, data=data)
    run = read_run(folder)
    for output, flops in zip(run.result.outputs.values(), PRINTED, strict=True):
        object.__setattr__(output, "flops", round(factor * flops * 1e6))
    reason = unlike(published_curve("dfs-fig3"), run)
    assert (reason is None) == shown
    assert shown or "it is of msdnet_cifar on CIFAR-100, and these runs are of" in reason


def test_a_wrong_curve_is_told_before_any_run_is_read():
    with pytest.raises(UserError, match=r"dfs-fig4.*there are: dfs-fig3 \(msdnet_cifar on CIFAR-100\)"):
        budget(["nowhere"], published="dfs-fig4")
