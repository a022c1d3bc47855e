"""The published rows against what this library counts, and against the paper's own claims."""

import numpy as np
import pytest

from offramp.counting import cost
from offramp.nets import create
from offramp.papers._dfs import (
    EARLIER_FPS,
    STEP_TIMES,
    STEP_TIMES_BY_BETA,
    TABLE_1,
    TABLE_2,
    TABLE_3,
    TABLE_4,
)
from offramp.papers._dfs_curves import FIGURE_3

TABLES = [TABLE_1, TABLE_2, TABLE_3, TABLE_4]


def printed(counts, unit):
    return [f"{count / unit:.2f}" for count in counts]


def counted(table, convention=None):
    exits = cost(create(table.net), convention=convention).exits
    return printed([e.params for e in exits], table.params_unit), printed(
        [e.flops for e in exits], table.flops_unit
    )


@pytest.mark.parametrize("table", [TABLE_2, TABLE_3, TABLE_4], ids=lambda t: t.net)
def test_published_costs_come_out_as_printed(table):
    assert not table.cost_remark
    params, flops = counted(table)
    assert params == printed(table.params, 1)
    assert flops == printed(table.flops, 1)


def test_the_costs_of_table_1_are_not_reproduced_and_it_says_so():
    params, flops = counted(TABLE_1)
    assert params == ["0.48", "1.02", "3.17", "11.22"]
    assert flops == ["167.73", "298.36", "429.21", "557.93"]
    _, macs = counted(TABLE_1, "macs-own")
    assert macs == ["165.16", "295.79", "426.64", "555.47"]
    for found in (params, flops, macs):
        assert ", ".join(found) in TABLE_1.cost_remark
    assert not set(params) & set(printed(TABLE_1.params, 1))
    assert not set(flops + macs) & set(printed(TABLE_1.flops, 1))
    off = [abs(float(f) / p - 1) for f, p in zip(flops, TABLE_1.flops, strict=True)]
    assert max(off) < 0.012


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.source)
def test_every_row_has_a_value_per_column_and_is_labelled(table):
    assert table.label == "published"
    assert all(len(row) == len(table.columns) for row in table.top1.values())
    exits = create(table.net).num_exits
    assert len(table.params) == len(table.flops) == exits
    assert [c for c in table.columns if c.isdigit()] == [str(k + 1) for k in range(exits)]


def test_table_1_has_the_gains_that_the_paper_states():
    gain = np.subtract(TABLE_1.top1["dfs"], TABLE_1.top1["joint"])
    assert gain[[0, 1, 4]] == pytest.approx([6.94, 3.63, 1.62])
    assert TABLE_1.top1["dfs"][4] - TABLE_1.top1["byot"][4] == pytest.approx(1.22)


@pytest.mark.parametrize(
    ("table", "gains", "overall"),
    [
        (TABLE_2, [6.64, 5.72, 4.86, 4.47, 4.42, 3.99, 3.76], 4.84),
        (TABLE_3, [4.33, 2.98, 2.04, 1.31, 1.10], 2.35),
    ],
    ids=["2", "3"],
)
def test_mean_gains_over_the_baselines_are_those_that_the_paper_states(table, gains, overall):
    exits = len(gains)
    rows = {name: np.array(row[:exits]) for name, row in table.top1.items()}
    gain = np.mean([rows["dfs"] - row for name, row in rows.items() if name != "dfs"], axis=0)
    assert gain == pytest.approx(gains, abs=0.0061)
    assert gain.mean() == pytest.approx(overall, abs=0.0061)


def test_averages_of_table_3_are_averages():
    for name, (*exits, average) in TABLE_3.top1.items():
        assert np.mean(exits) == pytest.approx(average, abs=0.0061), name


def test_the_best_beta_of_table_4_grows_with_depth():
    rows = list(TABLE_4.top1.values())
    assert np.argmax(rows, axis=0).tolist() == [0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize("step", [*STEP_TIMES, *STEP_TIMES_BY_BETA], ids=str)
def test_the_phases_of_a_step_add_up_to_its_speed(step):
    assert step.label == "published"
    if step.other is None:
        assert step.forward + step.backward < step.batch / step.fps
    else:
        seconds = step.forward + step.backward + step.data + step.other
        assert step.batch / seconds == pytest.approx(step.fps, rel=2e-3)


@pytest.mark.parametrize(
    ("net", "baseline", "gains"),
    [
        ("vgg7", "joint", [9.64, 10.99, 14.43]),
        ("vgg7", "byot", [34.32, 50.00, 38.51]),
        ("vgg16", "joint", [11.24, 14.16, 14.99]),
        ("vgg16", "byot", [20.0, 21.5, 22.23]),
    ],
)
def test_speed_gains_are_those_that_the_paper_states(net, baseline, gains):
    fps = {(s.method, s.batch): s.fps for s in STEP_TIMES if s.net == net}
    batches = (300, 400, 500) if net == "vgg7" else (128, 192, 256)
    found = [100 * (fps["dfs", b] / fps[baseline, b] - 1) for b in batches]
    assert found == pytest.approx(gains, abs=0.05)


def test_the_earlier_timings_peak_at_half_at_two_batch_sizes_only():
    dfs = {name: fps for name, fps in EARLIER_FPS.items() if name.startswith("dfs")}
    best = {b: max(dfs, key=lambda name, b=b: dfs[name][b]) for b in EARLIER_FPS["joint"]}
    assert [b for b, name in best.items() if name == "dfs"] == [500, 750]


def test_figure_3_has_forty_points_per_method_at_rising_cost_within_the_exits():
    assert [*FIGURE_3.points] == ["joint", "ge", "meta-gf", "dfs"]
    for points in FIGURE_3.points.values():
        flops = [x for x, _ in points]
        assert len(flops) == 40
        assert flops == sorted(flops)
        assert FIGURE_3.flops[0] < flops[0] < flops[-1] < FIGURE_3.flops[-1]


def test_figure_3_starts_where_its_thresholds_plan_to():
    """At p = 1 the samples are spread over the exits by 0.05^k, at a cost that no test set moves by much."""
    shares = 0.05 ** np.arange(1, 8)
    planned = np.dot(shares / shares.sum(), FIGURE_3.flops)
    assert planned == pytest.approx(58.80, abs=0.005)
    for points in FIGURE_3.points.values():
        assert points[0][0] == pytest.approx(planned, abs=0.7)


def test_figure_3_has_the_gains_that_the_paper_states():
    curves = {name: np.array(points).T for name, points in FIGURE_3.points.items()}
    at_170 = {name: np.interp(170, *curve) for name, curve in curves.items()}
    assert at_170["dfs"] - at_170["meta-gf"] == pytest.approx(2.5, abs=0.05)
    best = curves["meta-gf"][:, np.argmax(curves["meta-gf"][1])]
    same = curves["dfs"][0][np.argmax(curves["dfs"][1] > best[1] - 0.2)]
    assert best[0] / same == pytest.approx(2, abs=0.01)
