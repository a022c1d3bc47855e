"""A page goes where no file but an older page is; and its colours can be read."""

import re
from pathlib import Path

import pytest

import offramp.reports.html
from offramp import UserError
from offramp.reports.html import check_page, report, write_page

STYLE = (Path(offramp.reports.html.__file__).parent / "page.css").read_text()


def test_a_page_is_replaced_and_nothing_else_is(make_run, tmp_path):
    page = report([make_run("run")], quick=True)
    path = check_page(tmp_path / "report.html")
    write_page(path, page)
    write_page(check_page(path), page + "<!-- again -->")
    assert path.read_text().endswith("<!-- again -->")
    for name, content in {"mine.html": "<!doctype html>\n<p>mine", "empty.html": ""}.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=f"{name}' is there already, and is no report"):
            check_page(tmp_path / name)
        assert (tmp_path / name).read_text() == content
    with pytest.raises(UserError, match="is there already, and is no report"):
        check_page(tmp_path)
    (tmp_path / "dangling.html").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is there already, and is no report"):
        check_page(tmp_path / "dangling.html")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        check_page(tmp_path / "new" / "report.html")
    check_page(tmp_path / "new" / "report.html", to_be_made=tmp_path / "new")


def test_names_that_are_no_unicode_are_written(tmp_path):
    write_page(tmp_path / "page.html", "\udcff")
    assert (tmp_path / "page.html").read_bytes() == b"?"


def luminance(colour):
    """WCAG 2.1's relative luminance of #rrggbb or #rgb."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    bright, dark = sorted(map(luminance, (one, other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", range(3), ids=["light", "dark", "print"])
def test_text_and_lines_stand_out_as_wcag_asks(theme):
    block = re.findall(r":root \{(.*?)\}", STYLE, flags=re.DOTALL)[theme]
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]+)", block))
    for name in ("ink", "quiet", "accent", "better", "worse"):
        for under in ("page", "raised"):
            assert contrast(colours[name], colours[under]) >= 4.5, name
    lines = [name for name in colours if name.startswith("series-")]
    assert len(lines) == 8
    assert all(contrast(colours[name], colours["page"]) >= 3 for name in [*lines, "deep"])
