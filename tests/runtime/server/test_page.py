"""The page shows an image's way through the exits: in a real browser, light and dark, as wide as a phone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fake_model import FakeModel, sample
from offramp_runtime.server import _app
from running import png, running

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no browser {CHROMIUM}")
PHONE, DESK = {"width": 375, "height": 700}, {"width": 1100, "height": 800}


@pytest.fixture(scope="module")
def url():
    with running(FakeModel()) as client:
        yield str(client.base_url)


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[("light", PHONE), ("dark", PHONE), ("light", DESK)], ids=str)
def page(browser, url, request):
    scheme, size = request.param
    context = browser.new_context(color_scheme=scheme, viewport=size, reduced_motion="reduce")
    page = context.new_page()
    page.troubles = []
    page.on("console", lambda message: page.troubles.append(message.text))
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("request", lambda asked: page.troubles.append(asked.url) if foreign(asked.url, url) else None)
    page.goto(url)
    yield page
    context.close()


def foreign(asked, url):
    return not asked.startswith((url, "blob:", "data:"))


def upload(page, image, name="image.png"):
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": image})


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_an_image_walks_up_to_the_exit_it_leaves_at(page):
    upload(page, png(sample(7, 0.2, 0.9, 0.95)))
    page.wait_for_selector("li.left")
    assert page.inner_text("#answer") == "class 7 at exit 2, after 66.7\u00a0% of the operations."
    rows = [row.inner_text() for row in page.query_selector_all("#exits li")]
    assert "confidence 0.200 < 0.800" in rows[0]
    assert "confidence 0.902 ≥ 0.800" in rows[1]
    assert "not computed" in rows[2] and "confidence" not in rows[2]
    classes = [row.get_attribute("class") for row in page.query_selector_all("#exits li")]
    assert classes == ["reached", "reached left", None]
    assert overflow(page) == 0
    assert page.troubles == []


def test_the_slider_moves_the_exit_and_the_button_moves_it_back(page):
    upload(page, png(sample(7, 0.2, 0.9, 0.95)))
    page.wait_for_selector("li.left")
    page.fill("#threshold", "0.1")
    page.wait_for_selector("#answer:has-text('at exit 1,')")
    assert page.inner_text("#value") == "0.10"
    page.press("#reset", "Enter")
    page.wait_for_selector("#answer:has-text('at exit 2,')")
    assert page.evaluate("document.activeElement.id") == "threshold"  # the button is hidden
    assert page.troubles == []


def test_what_is_no_image_is_said_to_be_none(page):
    upload(page, b"not an image", name="x" * 200 + ".png")
    page.wait_for_selector("#error:not([hidden])")
    assert "not an image" in page.inner_text("#error")
    assert overflow(page) == 0
    upload(page, png(sample(3, 0.9)))
    page.wait_for_selector("li.left")
    assert page.is_hidden("#error")
    assert "class 3" in page.inner_text("#answer")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_text_stands_out_from_its_ground(browser, url, scheme):
    """By WCAG 2.2: contrast of at least 4.5."""
    page = browser.new_page(color_scheme=scheme, reduced_motion="reduce")
    page.goto(url)
    upload(page, png(sample(7, 0.9)))
    page.wait_for_selector("li.left")
    for text, ground in (("--ink", "--card"), ("--soft", "--card"), ("--go", "--card"), ("--bad", "--card"),
                         ("--ink", "--go-soft"), ("--soft", "--go-soft"), ("--soft", "--page")):  # fmt: skip
        assert contrast(colour(page, text), colour(page, ground)) >= 4.5, (text, ground)
    page.close()


def colour(page, name):
    value = page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('{name}')").strip()
    return [int(value[place : place + 2], 16) / 255 for place in (1, 3, 5)]


def contrast(one, other):
    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_page_loads_nothing_from_elsewhere():
    text = _app.PAGE.read_text()
    assert not re.findall(r"(?:src|href)\s*=\s*\"(?!data:)|url\(|@import|https?://", text)
