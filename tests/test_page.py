"""Pages: one file, escaped, readable offline, and what a browser makes of them."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

import stories
from unstuck.diagnose.diagnosis import Diagnosis, LayerRow
from unstuck.diagnose.finding import Finding, TreatmentRef
from unstuck.diagnose.outcome import Outcome
from unstuck.report import charts
from unstuck.report.case_page import case_page
from unstuck.report.page import diagnosis_fragment, diagnosis_page
from unstuck.trace.recording import Series

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
CURVE = Series(np.array([0, 1, 10]), np.array([1.25, 0.6, 0.45]))


def evil_diagnosis():
    finding = Finding(
        EVIL, EVIL, "error", EVIL, 0, 0.9, EVIL, rival=EVIL, treatments=(TreatmentRef(EVIL, EVIL),)
    )
    rows = (LayerRow(EVIL, EVIL, 0.1, 1e-3, 1.0),)
    return Diagnosis((finding,), Outcome("not learned", 1.25, 0.45, 0.44, EVIL), layers=rows, name=EVIL)


def evil_case():
    case = stories.case()
    main = case.main
    layers = tuple(replace(layer, name=EVIL, type=EVIL) for layer in main.layers)
    main = replace(main, key=EVIL, title=EVIL, about=EVIL, layers=layers, diagnosis=evil_diagnosis())
    return replace(case, question=EVIL, data=EVIL, conclusions=(EVIL,), readings=(main, *case.readings[1:]))


@pytest.mark.parametrize(
    "page",
    [
        lambda: diagnosis_page(evil_diagnosis(), CURVE),
        lambda: diagnosis_fragment(evil_diagnosis()),
        lambda: case_page(evil_case()),
    ],
    ids=["diagnosis", "fragment", "case"],
)
def test_names_are_escaped(page):
    html = page()
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;alert(1)" in html


@pytest.mark.parametrize(
    "page", [lambda: diagnosis_page(evil_diagnosis()), lambda: case_page(stories.case())]
)
def test_a_page_refers_to_no_other_file(page):
    html = page()
    assert not re.findall(r"(?:src|href)=\"(?!data:)[^\"]*\"|url\(|@import|https?://", html)


def test_a_page_tells_what_the_terminal_tells():
    html = case_page(stories.case())
    for part in (
        "My own CNN converges, but its weights hardly change. Why?",
        "faulty: ",
        "100 % of that is what a constant prediction explains: nothing was learned beyond it",
        "The dense layers start at zero: draw them at random.",
        "<td>init=glorot_uniform*4</td>",
        "healthy: nothing is wrong, it learns",
        "diverged",
    ):
        assert part in html


def test_the_loss_chart_shows_the_constant_prediction_where_it_lies():
    svg = charts.loss_chart(Series(np.array([0, 100]), np.array([1.0, 0.0])), 0.5)
    constant = float(re.search(r'class="constant"[^>]*y1="([\d.]+)"', svg)[1])
    points = re.search(r'class="curve" points="([^"]*)"', svg)[1]
    (x0, y0), (x1, y1) = [map(float, point.split(",")) for point in points.split()]
    assert x0 < x1
    assert y0 < y1  # down the page is down the axis
    assert constant == pytest.approx((y0 + y1) / 2, abs=0.2)
    assert "<title>Loss by update" in svg


@pytest.mark.parametrize(
    "svg",
    [
        charts.loss_chart(Series(np.array([0]), np.array([1.0])), 0.5),
        charts.loss_chart(Series(np.array([0, 1]), np.array([math.nan, math.inf])), 0.5),
        charts.share_chart([("a", None), ("b", math.nan)]),
        charts.step_chart([("a", None, 0.0)], ("x", "y")),
    ],
)
def test_without_numbers_nothing_is_drawn(svg):
    assert svg == ""


@pytest.mark.parametrize(
    "svg",
    [
        charts.loss_chart(Series(np.array([0, 1, 2]), np.array([0.0, 0.0, 0.0])), math.nan),
        charts.loss_chart(Series(np.array([0, 1, 2]), np.array([-5.0, math.inf, 1e30])), 2.0),
        charts.share_chart([("a", -3.0), ("b", 4.0), ("c", None)]),
        charts.step_chart([("a", 1e-30, None), ("b", 0.0, 1e5)], ("x", "y")),
    ],
)
def test_odd_numbers_are_drawn_inside_the_chart(svg):
    height = float(re.search(r'viewBox="0 0 \d+ (\d+)"', svg)[1])
    assert "nan" not in svg
    assert "inf" not in svg
    xs = [float(x) for x in re.findall(r'\b(?:x|x1|x2|cx)="([-\d.]+)"', svg)]
    ys = [float(y) for y in re.findall(r'\b(?:y|y1|y2|cy)="([-\d.]+)"', svg)]
    assert all(0 <= x <= charts.WIDTH for x in xs)
    assert all(0 <= y <= height for y in ys)


def test_bars_are_as_long_as_their_shares():
    svg = charts.share_chart([("a", 0.75), ("b", 0.25), ("c", -0.25)])
    a, b, c = (float(width) for width in re.findall(r'class="bar"[^>]*width="([\d.]+)"', svg))
    assert a == pytest.approx(3 * b, abs=0.2)
    assert b == pytest.approx(c, abs=0.2)


@pytest.fixture(scope="module")
def browser(chromium):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


PAGES = {
    "case": lambda: case_page(stories.case()),
    "evil case": lambda: case_page(evil_case()),
    "faulty": lambda: diagnosis_page(stories.diagnosis(zero=True), CURVE),
    "healthy": lambda: diagnosis_page(stories.diagnosis(zero=False)),
    "fragment": lambda: diagnosis_fragment(evil_diagnosis()),
}


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("name", PAGES)
def test_a_browser_shows_the_page(browser, tmp_path, name, width):
    file = tmp_path / "page.html"
    file.write_text(PAGES[name](), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 800})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    assert page.locator("h1").count() == 1
    assert page.locator("h1").inner_text()
    assert page.locator(".verdict").count() >= 1
    for details in page.locator("details").all():
        details.evaluate("element => { element.open = true }")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == 1


def test_the_page_of_a_case_has_its_headings_and_charts(browser, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(case_page(stories.case()), encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri())
    headings = page.locator("h2, h3").all_inner_texts()
    for heading in ("In short", "What was tried, one change at a time", "Layer by layer"):
        assert heading in headings
    drawn = page.locator("svg[role=img]")
    assert drawn.count() == 6
    assert (
        drawn.first.get_attribute("aria-label")
        == "Loss by update, beside that of the best constant prediction"
    )
    assert all(text.strip().endswith(".") for text in page.locator("figure .reading").all_text_contents())
    page.close()


def test_dark_pages_are_dark(browser, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(diagnosis_page(stories.diagnosis(zero=False)), encoding="utf-8")
    brightness = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(file.as_uri())
        colours = "getComputedStyle(document.querySelector('main'))"
        back, front = (
            sum(int(part) for part in re.findall(r"\d+", page.evaluate(f"{colours}.{what}"))[:3])
            for what in ("backgroundColor", "color")
        )
        brightness[scheme] = back - front
        page.close()
    assert brightness["light"] > 300
    assert brightness["dark"] < -300
