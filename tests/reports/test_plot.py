import re

import pytest

from offramp.errors import UserError
from offramp.reports import compare, plot


@pytest.fixture
def comparison(make_run):
    methods = {"joint": 50.0, "dfs": 50.2}
    return compare(
        [make_run(f"{m}{s}", (y + s, y + 10), method=m, seed=s) for m, y in methods.items() for s in (0, 1)]
    )


def test_picture_names_the_axes_and_every_method(comparison, tmp_path):
    svg = plot(comparison, tmp_path / "picture.svg").read_text()
    for text in ("FLOPs per image (M)", "top-1 accuracy (%)", "vgg7:width=16 on digits", "joint", "dfs"):
        assert f">{text}<" in svg


def test_labels_of_close_lines_do_not_overlap(comparison, tmp_path):
    svg = plot(comparison, tmp_path / "picture.svg").read_text()
    heights = [float(y) for y in re.findall(r'<text[^>]* y="([^"]+)"[^>]*>(?:joint|dfs)<', svg)]
    assert len(heights) == 2
    assert abs(heights[0] - heights[1]) > 11  # the letters are 11 points high


def test_png_is_written(comparison, tmp_path):
    assert plot(comparison, str(tmp_path / "p.png")).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_bad_names_are_refused_in_one_line(comparison, tmp_path):
    with pytest.raises(UserError, match=r"end the name in \.png"):
        plot(comparison, tmp_path / "picture.docx")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=r"folder\.png': Is a directory; give another name"):
        plot(comparison, tmp_path / "folder.png")
    with pytest.raises(UserError, match="there is no folder"):
        plot(comparison, tmp_path / "none" / "picture.png")
