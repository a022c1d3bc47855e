import re
from itertools import pairwise

import pytest

from offramp.errors import UserError
from offramp.reports import compare, plot, write_report

MANY = [f"method{n}" for n in range(16)]


@pytest.fixture
def comparison(make_run):
    methods = {"joint": 50.0, "dfs": 50.2}
    return compare(
        [
            make_run(f"{m}{s}", (y + s, y + 10.0), method=m, seed=s)
            for m, y in methods.items()
            for s in range(3)
        ]
    )


def names_of_lines(svg, names):
    """How far down the page each name of a line stands; these are the bold ones."""
    return sorted(
        float(re.search(r' y="([^"]+)"', attributes)[1])
        for attributes, text in re.findall(r"<text([^>]*)>([^<]+)<", svg)
        if text in names and "font-weight: 700" in attributes
    )


def test_picture_names_the_axes_and_every_method(comparison, tmp_path):
    svg = plot(comparison, tmp_path / "picture.svg").read_text()
    for text in ("FLOPs per image (M)", "top-1 %", "vgg7:width=16 on digits", "joint", "dfs"):
        assert f">{text}<" in svg


def test_map_shows_each_difference_and_marks_what_is_decided(comparison, tmp_path):
    svg = plot(comparison, tmp_path / "picture.svg").read_text()
    texts = re.findall(r"<text[^>]*>([^<]+)<", svg)
    # exits 1 and 2 and their average are 0.2 above for all seeds, the ensemble is the same
    numbers = [text for text in texts if re.fullmatch(r"[+-]?\d\.\d\d\*?", text)]
    assert numbers[-4:] == ["+0.20*", "+0.20*", "+0.20*", "0.00"]  # before them, the ticks of the axes
    assert {"exit 1", "exit 2", "average", "ensemble"} <= set(texts)
    assert any(text.startswith("difference to joint in points; *") for text in texts)


def test_no_star_and_no_word_of_stars_on_two_seeds(make_run, tmp_path):
    runs = [
        make_run(f"{m}{s}", (y + s, y), method=m, seed=s)
        for m, y in (("joint", 50.0), ("dfs", 49.95))
        for s in (0, 1)
    ]
    svg = plot(compare(runs), tmp_path / "picture.svg").read_text()
    assert svg.count(">-0.05<") == 3
    assert "*" not in "".join(re.findall(r"<text[^>]*>([^<]+)<", svg))


def test_one_group_has_no_map(make_run, tmp_path):
    assert ">ensemble<" not in plot(compare([make_run("j")]), tmp_path / "p.svg").read_text()


@pytest.mark.parametrize("names", [["joint", "dfs"], MANY])
def test_labels_of_close_lines_do_not_overlap(make_run, tmp_path, names):
    runs = [make_run(name, (50.0, 60 + 0.01 * n), method=name) for n, name in enumerate(names)]
    svg = plot(compare(runs), tmp_path / "picture.svg").read_text()
    places = names_of_lines(svg, names)
    assert len(places) == len(names)
    assert min(b - a for a, b in pairwise(places)) > 11  # the letters are 11 points high
    assert places[0] > 11  # and the highest name is on the page


def test_png_is_written(comparison, tmp_path):
    assert plot(comparison, str(tmp_path / "p.png")).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_report_is_three_files(comparison, tmp_path):
    document = write_report(comparison, tmp_path)
    assert document.items() >= comparison.to_dict().items()
    assert (tmp_path / "comparison.txt").read_text() == comparison.table() + "\n"
    assert '"differences"' in (tmp_path / "comparison.json").read_text()
    assert document["picture"] == str(tmp_path / "comparison.png")
    assert (tmp_path / "comparison.png").stat().st_size > 10_000


def test_bad_names_are_refused_in_one_line(comparison, tmp_path):
    with pytest.raises(UserError, match=r"end the name in \.png"):
        plot(comparison, tmp_path / "picture.docx")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=r"folder\.png': Is a directory; give another name"):
        plot(comparison, tmp_path / "folder.png")
    with pytest.raises(UserError, match="there is no folder"):
        plot(comparison, tmp_path / "none" / "picture.png")


def test_long_labels_take_lines_and_not_the_room(make_run, tmp_path):
    long = {"aggregator": "AlignedMTL", "arguments": {"scale_mode": "median"}, "shared": "union"}
    runs = [make_run("j"), make_run("a", method="aggregate", options=long)]
    svg = plot(compare(runs), tmp_path / "picture.svg").read_text()
    words = re.findall(r">([^<>]*(?:aggregate|Aligned|median|union)[^<>]*)<", svg)
    assert max(map(len, words)) <= 30
    assert len(words) >= 4  # at the line's end and beside the map


def test_dollars_in_a_name_make_no_formula(make_run, tmp_path):
    svg = plot(compare([make_run("j", data="prices in $x^$")]), tmp_path / "picture.svg").read_text()
    assert ">vgg7:width=16 on prices in $x^$<" in svg
