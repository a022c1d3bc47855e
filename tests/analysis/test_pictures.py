"""What the pictures say: their words, numbers and legends. Pixels are for the eye."""

import re
from itertools import pairwise

import numpy as np
import pytest
import torch

from offramp.analysis import Curves, OutputInterference, Pruning, common_routes, likeness
from offramp.analysis.pictures import (
    draw_convergence,
    draw_interference,
    draw_pruning,
    draw_routes,
    draw_similarity,
)
from offramp.analysis.pictures._exits import exit_colour, exit_marker
from offramp.analysis.routes import strongest
from offramp.methods.loops import Route
from offramp.reports import Spread


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("exits", [2, 3, 7, 13])
def test_exits_darken_from_shallow_to_deep(exits):
    """Relative luminance (Rec. 709) falls, so the order is seen in grey print and by colour-blind readers."""
    colours = np.array([exit_colour(k, exits) for k in range(exits)])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert 0.5 < luminance[0] < 0.75  # seen on white
    assert (np.diff(luminance) < 0).all()
    lightness = 116 * np.cbrt(luminance) - 16  # CIE 1976; a difference of 2 or 3 is just seen
    assert (-np.diff(lightness) > 3).all()
    assert all(exit_marker(k) != exit_marker(j) for k, j in pairwise(range(exits)))


def interference(exits, batches=20, seed=0):
    scores = torch.randn(exits, 2, batches, generator=draw(seed)).tolist()
    return [OutputInterference(tuple(c), tuple(g), 0) for c, g in scores]


@pytest.mark.parametrize(("exits", "runs"), [(3, 1), (7, 2), (13, 5)])
def test_conflict_has_one_legend_and_every_r(exits, runs, drawn, texts, tmp_path):
    found = {f"a long name of a run, seed={n}": interference(exits, seed=n) for n in range(runs)}
    draw_interference(tmp_path / "conflict.png", found)
    (figure,) = drawn
    words = texts(figure)
    legends = [*figure.legends, *(legend for part in figure.subfigs for legend in part.legends)]
    assert [[text.get_text() for text in legend.get_texts()] for legend in legends] == [
        [f"exit {k + 1}" for k in range(exits)]
    ]
    assert not any(axes.get_legend() for axes in figure.axes)
    assert sum(bool(re.search(r"\nr = [+-]0\.\d\d$", word)) for word in words) == runs
    places = sorted(
        float(line.get_xdata()[0])
        for line in figure.axes[-1].lines
        if line.get_marker() != "None" and len(line.get_xdata()) == 1
    )
    assert places == pytest.approx(sorted(one.r for outputs in found.values() for one in outputs))


def test_every_batch_is_in_the_picture(drawn, tmp_path):
    gain = (0.0, 1.0, 2.0, 1.0, 0.0, 1.0, 3.0, 1.0, 2.0)
    low = OutputInterference((1.0,) * 8 + (0.0,), gain, 0)  # the last is 2.8 deviations below the mean
    draw_interference(tmp_path / "c.png", {"joint": [low, *interference(2)], "dfs": interference(3)})
    for axes in drawn[0].axes[:2]:
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        for cloud in axes.collections:
            points = np.asarray(cloud.get_offsets())
            assert ((points > [left, bottom]) & (points < [right, top])).all()


def test_a_run_without_a_correlation_says_so(drawn, texts, tmp_path):
    draw_interference(tmp_path / "conflict.png", {"joint": interference(3, batches=2)})
    assert any("no correlation" in word for word in texts(drawn[0]))


CHANGE = ((-0.30, -0.20, 0.0), (0.001, -0.05, -0.4), (0.0, 0.0, 0.0))


@pytest.mark.parametrize("runs", [1, 3])
def test_importance_says_who_loses_and_how_many_filters_it_is_about(runs, drawn, texts, tmp_path):
    pruning = Pruning(CHANGE, (7, 11, 0), 48, (50.0, 60.0, 70.0))
    draw_pruning(tmp_path / "p.png", {f"run {n}": pruning for n in range(runs)}, "without some filters")
    words = texts(drawn[0])
    assert words.count("its filters, of 48") == words.count("11") == words.count("7") == runs
    for n in range(runs):
        assert f"run {n}\nin 1 of 3 rows the exit itself loses most" in words
    numbers = list(drawn[0].axes[0].texts)
    assert [text.get_text() for text in numbers] == ["-30", "-20", "0", "0", "-5", "-40", "0", "0", "0"]
    assert [text.get_text() for text in numbers if text.get_fontweight() == "bold"] == ["-30", "-40"]
    assert not any(word in words for word in ("0.00", "1.00", "1 (7)"))


def test_importance_shows_how_many_filters_are_chance(drawn, texts, tmp_path):
    pruning = Pruning(CHANGE, (7, 11, 0), 48, (50.0, 60.0, 70.0))
    chance = {"joint": (30.5, 8.0, 1.5)}
    draw_pruning(tmp_path / "p.png", {"joint": pruning, "dfs": pruning}, "without some filters", chance)
    words = texts(drawn[0])
    assert words.count("its filters, of 48\n(line: by chance)") == words.count("its filters, of 48") == 1
    owned, without = drawn[0].axes[1], drawn[0].axes[3]
    (marks,) = (one for one in owned.collections)
    assert [segment[0][0] for segment in marks.get_segments()] == list(chance["joint"])
    assert not without.collections


@pytest.mark.parametrize("exits", [3, 13])
def test_importance_of_small_changes_has_a_decimal(exits, drawn, texts, tmp_path):
    change = torch.rand(exits, exits, generator=draw()) * -0.05 - 0.002
    pruning = Pruning(tuple(map(tuple, change.tolist())), (5,) * exits, 248, (50.0,) * exits)
    title = "accuracy without the filters that an exit needs most\n(by gradient norms; validation images)"
    draw_pruning(tmp_path / "p.png", {"joint": pruning}, title)
    texts(drawn[0])
    assert {text.get_text() for text in drawn[0].axes[0].texts} == {
        f"{100 * v:+.1f}" for v in change.flatten()
    }


def route(exits, m, n, apart=1.0):
    g = draw()
    importance = torch.rand(m, n, generator=g) + apart * torch.rand(exits, m, n, generator=g)
    return Route(tuple(range(exits)), importance, torch.ones(exits, m, n))


@pytest.mark.parametrize(("exits", "m", "n"), [(3, 8, 8), (7, 64, 64), (6, 16, 8)])
def test_routes_are_maps_with_what_all_exits_share_in_grey(exits, m, n, drawn, texts, tmp_path):
    one = route(exits, m, n)
    draw_routes(tmp_path / "routes.png", {"dr-mgf": ("stages.1.0.weight", one)})
    (figure,) = drawn
    words = texts(figure)
    kept = strongest(one.importance).numpy()
    shared = kept.all(0).sum()
    assert f"dr-mgf\nall exits share {shared} of {kept[0].sum()} connections in stages.1.0" in words
    assert len(figure.axes) == exits
    for k, axes in enumerate(figure.axes):
        (cells,) = (np.asarray(image.get_array()) for image in axes.images)
        assert cells.shape == (m, n, 3)
        grey = (cells == cells[..., :1]).all(-1) & (cells < 1).all(-1)
        own = (cells == exit_colour(k, exits)).all(-1)
        np.testing.assert_array_equal(grey, kept.all(0))
        np.testing.assert_array_equal(own, kept[k] & ~kept.all(0))


def test_similarity_is_a_distance_beside_that_of_chance(drawn, texts, tmp_path):
    found = {f"seed {n}": likeness(common_routes({"w": route(4, 8, 8, n)}, 4)) for n in (0, 1)}
    draw_similarity(tmp_path / "similarity.png", found)
    (figure,) = drawn
    words = texts(figure)
    assert any("by chance" in word for word in words)
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["seed 0"].get_ydata() == pytest.approx([1e-6] * 3)  # equal: below what is drawn
    distance = 1 - found["seed 1"].centred.numpy()
    means = [distance.diagonal(apart).mean() for apart in (1, 2, 3)]
    assert lines["seed 1"].get_ydata() == pytest.approx(means)
    assert 1.0 in [line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1]


LONG = ("dr-mgf stage_fraction=0.125 fusion_fraction=0.125 init=kaiming-apart seed 0", "joint")


@pytest.mark.parametrize("exits", [2, 7])
def test_long_labels_stay_on_the_page_and_on_no_other_word(exits, drawn, texts, tmp_path):
    one = route(exits, 8, 8)
    pruning = Pruning(((-0.3,) * exits,) * exits, (5,) * exits, 48, (50.0,) * exits)
    steps = tuple(Spread(10.0 * epoch, 1.0, 2) for epoch in (1, 2))
    curves = [
        Curves(label, (1.0, 2.0), (7.0, 14.0), {"val_top1_mean": steps, "val_top1_last": steps})
        for label in LONG
    ]
    draw_interference(tmp_path / "c.png", {label: interference(exits) for label in LONG})
    draw_pruning(tmp_path / "p.png", dict.fromkeys(LONG, pruning), "without some filters")
    draw_routes(tmp_path / "r.png", dict.fromkeys(LONG, ("stages.1.0.weight", one)))
    draw_similarity(tmp_path / "s.png", dict.fromkeys(LONG, likeness(common_routes({"w": one}, exits))))
    draw_convergence(tmp_path / "v.png", curves)
    for figure in drawn:
        texts(figure)
    assert len(drawn) == 5


def test_the_noise_of_r_is_that_of_the_exits_that_have_one(drawn, tmp_path):
    dead = OutputInterference((1.0,), (1.0,), 99)
    draw_interference(tmp_path / "c.png", {"joint": [*interference(3, batches=100), dead]})
    (band,) = drawn[0].axes[-1].collections
    assert band.get_paths()[0].get_extents().x1 == pytest.approx(2 / 10)
