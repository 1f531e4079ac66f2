"""The graph of a space in a browser: with the fonts that are there, and while it follows the space."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from happen_nb._display.page import style
from happen_nb._display.plots.graph import graph
from happen_nb._display.plots.graph_drawing import draw
from tests.browser.conftest import take_screenshot
from tests.browser.test_live_reply import save
from tests.browser.test_widgets import cell, output, run
from tests.display.plots.made import orders, ring, shop, town

WIDTHS = (700, 1000, 1400)
COVERED = """() => {
    const shrunk = ({left, right, top, bottom}) =>
        ({left: left + 2, right: right - 2, top: top + 2, bottom: bottom - 2});
    const inside = (box, {x, y}) => box.left < x && x < box.right && box.top < y && y < box.bottom;
    const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
    const holds = (a, b) => a.left <= b.left && b.right <= a.right && a.top <= b.top && b.bottom <= a.bottom;
    const svg = document.querySelector("svg"), at = svg.getBoundingClientRect();
    const all = (name) => [...svg.querySelectorAll(name)];
    const texts = all("text").map((text) => [text.textContent, shrunk(text.getBoundingClientRect())]);
    const nodes = all("rect").map((rect) => rect.getBoundingClientRect()).filter((box) => box.width > 20);
    const points = all("[data-way]").flatMap((path) => {
        const length = path.getTotalLength();
        return Array.from({length: 60}, (_, n) => path.getPointAtLength(length * n / 59));
    }).map(({x, y}) => ({x: at.left + x, y: at.top + y}));
    return texts.filter(([text, box], index) =>
        nodes.some((node) => overlap(node, box) && !holds(node, box))
        || points.some((point) => inside(box, point))
        || texts.some(([, other], place) => place < index && overlap(other, box))
        || box.right > at.right
    ).map(([text]) => text);
}"""
SMALLEST = """() => Math.min(...[...document.querySelectorAll("svg text, svg tspan")]
    .map((each) => parseFloat(getComputedStyle(each).fontSize)))"""
SCROLLS = """() => [...document.querySelectorAll(".hn-drawn")]
    .some((box) => box.scrollWidth > box.clientWidth)"""
FITS = "() => document.documentElement.scrollWidth <= innerWidth"


@pytest.fixture
def show(chromium):
    """Shows a picture in a window of its width."""
    page = chromium.new_page()

    def show(svg, width, theme="light"):
        page.set_viewport_size({"width": width, "height": 700})
        page.emulate_media(color_scheme=theme)
        markup = f"<style>{style()}body{{margin:0;background:light-dark(#fff,#16181b)}}</style>"
        page.set_content(f'<body style="color-scheme:{theme}">{markup}<div class="happen">{svg}</div>')
        return page

    yield show
    page.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_with_real_fonts_no_text_of_a_graph_covers_anything(show, width):
    for number, made in enumerate((orders, shop, town, lambda: ring(9))):
        page = show(draw(graph(made().slice), width=width).svg, width)
        assert page.evaluate(COVERED) == []
        assert page.evaluate(SMALLEST) >= 12
        assert page.evaluate(FITS)
        if width != WIDTHS[1]:
            take_screenshot(page, f"graph-{number}-{width}", full_page=True)


GRAPH_SET_UP = """
import happen_nb as happen
space = happen.connect(name="graph", fresh=True)
orders = space.create_node("orders")
BAD = "<img src=x onerror=alert(1)>"
orders.on("**", lambda event: None)
for number in range(12):
    space.create_node(f"p{number}").on("day", lambda event: orders.broadcast("seen", event.payload))
space.broadcast(BAD, {BAD: BAD}).settle()
space.broadcast("day").settle()
"""


def test_a_graph_follows_opens_its_groups_and_is_drawn_anew_for_another_width(lab, tab):
    save(lab, "graph.ipynb", [GRAPH_SET_UP, "space.graph()", "space.broadcast('day', 1).settle(); None"])
    tab.open("graph.ipynb")
    run(tab, 0, 1)
    shown = output(tab, 1, "12 nodes").locator(".hn-picture")
    tips = "() => [...document.querySelectorAll('.hn-drawn svg')].map((each) => each.getAttribute('width'))"
    (width,) = tab.page.evaluate(tips)
    tab.page.set_viewport_size({"width": 900, "height": 1400})
    tab.page.wait_for_function(f"(before) => ({tips})()[0] !== before", arg=width)
    assert not tab.page.evaluate(SCROLLS)

    run(tab, 2)
    expect(shown.locator("circle.hn-dot").first).to_be_attached()
    expect(shown.locator("svg")).to_contain_text("27 events")
    expect(shown.locator("circle.hn-dot")).to_have_count(0, timeout=20_000)

    shown.get_by_role("button", name="p*: 12 nodes").press("Enter")
    expect(shown.locator("svg")).to_contain_text("p11")
    shown.get_by_role("button", name="▾ p*").click()
    expect(shown.locator("svg")).to_contain_text("12 nodes")

    mark = shown.locator("[data-key^=w]").first
    mark.click()
    panel = shown.get_by_role("region", name="Details")
    expect(panel).to_contain_text("<img src=x onerror=alert(1)>")
    mark.press("Escape")
    expect(panel).to_be_hidden()
    mark.press("End")
    expect(shown.locator("[data-key]").last).to_be_focused()
    tab.shoot("graph")
    assert cell(tab, 1).locator("img").count() == 0
    assert tab.console_errors == tab.off_site == tab.error_outputs() == []
