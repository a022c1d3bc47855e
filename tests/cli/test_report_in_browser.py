"""The page in a headless Chromium: it draws, follows the slider, and fetches nothing."""

import json
import os
import re
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


@pytest.fixture(scope="module")
def browser():
    with pytest.importorskip("playwright.sync_api").sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def shown(browser):
    """Opens a page, drawn; what it asked for, and what went wrong, are in its lists."""
    contexts = []

    def show(file, *, width=1100, scheme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.asked, page.trouble = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.trouble.append(message.text))
        page.on("pageerror", lambda error: page.trouble.append(str(error)))
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-drawn]", timeout=60_000)
        return page

    yield show
    for context in contexts:
        context.close()


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1100), ("dark", 1100), ("light", 375), ("dark", 375)]
)
def test_it_draws_everything_and_fetches_nothing(shown, report_of_two, scheme, width):
    page = shown(report_of_two, width=width, scheme=scheme)
    assert page.trouble == []
    assert [url for url in page.asked if not url.startswith("data:")] == [report_of_two.as_uri()]
    charts = page.locator(".chart")
    assert charts.count() > 10
    for at in range(charts.count()):
        assert charts.nth(at).locator("svg").count() == 1
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    level = sum(
        map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor")))
    )
    assert level < 150 if scheme == "dark" else level > 700
    drawn = page.locator(".chart svg .mark-text text").first.evaluate("e => getComputedStyle(e).fill")
    assert re.fullmatch(r"rgb\(\d+, \d+, \d+\)", drawn)  # the page's own colour


def test_the_slider_moves_table_dots_and_bars(shown, report_of_two):
    page = shown(report_of_two)
    [slider] = json.loads(page.locator("#data").text_content())["sliders"]
    table = page.locator("[data-slider] + .part tbody")

    def texts():
        return [row.locator("td").all_text_contents() for row in table.locator("tr").all()]

    def drawn(name):
        return page.locator(f'[data-name="{name}"] svg').inner_html()

    start = int(page.locator("#thresholds").input_value())
    assert texts() == slider["cells"][start]
    before = {name: drawn(name) for name in slider["charts"]}
    page.locator("#thresholds").focus()
    page.keyboard.press("End")
    assert texts() == slider["cells"][39] != slider["cells"][start]
    page.wait_for_function(
        "([name, old]) => document.querySelector(`[data-name='${name}'] svg`).innerHTML !== old",
        arg=["leaving-exits", before["leaving-exits"]],
    )
    assert drawn("leaving-accuracy") != before["leaving-accuracy"]
    right, _, share = slider["cells"][39][0][:3]
    told = page.locator("#thresholds").get_attribute("aria-valuetext")
    assert told == f"{right} % right at {share} % of the operations"
    page.keyboard.press("Home")
    assert texts() == slider["cells"][0]


def test_bars_have_the_whole_names_of_their_methods_on_a_phone(shown, report_of_two, tmp_path):
    long, other = "dfs weights=[1, 1, 2] own_to_shared=0.5", tmp_path / "long.html"
    other.write_text(report_of_two.read_text().replace('"dfs"', f'"{long}"'))
    texts = shown(other, width=375).locator('[data-name="leaving-exits"] svg .mark-text text')
    assert {long, "joint"} <= {*texts.all_text_contents()}


def test_names_of_all_kinds_run_nothing(shown, report_of_two, tmp_path):
    text = report_of_two.read_text()
    hostile = "&lt;/script&gt;&lt;img src=x onerror=window.hacked=1&gt;"
    inside = r"\u003c/script\u003e\u003cimg src=x onerror=window.hacked=1\u003e"
    head, data = text.split('<script type="application/json"', 1)
    data, rest = data.split("</script>", 1)
    data = data.replace('"dfs"', f'"{inside}"')
    other = tmp_path / "hostile.html"
    other.write_text(f'{head.replace("dfs", hostile)}<script type="application/json"{data}</script>{rest}')
    page = shown(other)
    assert page.trouble == []
    page.locator(".chart svg .mark-symbol path").last.hover(force=True)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x]").count() == 0


def test_a_script_that_slips_in_does_not_run(shown, report_of_two, tmp_path):
    other = tmp_path / "slipped.html"
    other.write_text(report_of_two.read_text().replace("<main>", "<main><script>window.hacked=1</script>", 1))
    page = shown(other)
    assert page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in line for line in page.trouble)


@pytest.mark.slow
def test_it_prints(shown, report_of_two, tmp_path):
    page = shown(report_of_two, scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator(".slider").is_visible()
    page.pdf(path=tmp_path / "page.pdf")
    assert os.path.getsize(tmp_path / "page.pdf") > 10_000
