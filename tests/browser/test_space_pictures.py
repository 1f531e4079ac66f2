"""The graph and the timeline of a space in a browser: with real fonts, and while they follow the space."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from happen_nb._display.page import style
from happen_nb._display.plots.graph import graph
from happen_nb._display.plots.graph_drawing import draw_graph
from happen_nb._display.plots.timeline import Timeline
from happen_nb._display.plots.timeline_drawing import draw_timeline
from tests.browser.conftest import take_screenshot
from tests.browser.test_live_reply import save
from tests.browser.test_widgets import cell, output, run
from tests.display.plots.made import crowd, orders, ring, shop, town

BAD = "<img src=x onerror=alert(1)>"
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
BOXES = """texts => texts.map((text) => {
    const {left, top, right, bottom} = text.getBoundingClientRect();
    return [text.textContent, left + 1, top + 3, right - 1, bottom - 3];
})"""
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
        page = show(draw_graph(graph(made().slice), width=width).svg, width)
        assert page.evaluate(COVERED) == []
        assert page.evaluate(SMALLEST) >= 12
        assert page.evaluate(FITS)
        if width != WIDTHS[1]:
            take_screenshot(page, f"graph-{number}-{width}", full_page=True)


@pytest.mark.parametrize("width", WIDTHS)
def test_with_real_fonts_no_text_of_a_timeline_covers_anything(show, width):
    for number, made in enumerate((orders, lambda: crowd(300), town)):
        shown = Timeline(made().slice)
        drawn = draw_timeline(shown, width=width, chosen=shown.story())
        page = show(drawn.svg, width, "dark" if number == 1 else "light")
        boxes = page.locator("text").evaluate_all(BOXES)
        for spot in drawn.spots:
            assert not [
                text
                for text, left, top, right, bottom in boxes
                if left < spot.x < right and top < spot.y < bottom
            ]
        assert page.evaluate(COVERED) == []
        assert page.evaluate(SMALLEST) >= 12
        assert page.evaluate(FITS)
        if width != WIDTHS[1]:
            take_screenshot(page, f"timeline-{number}-{width}", full_page=True)


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


TIMELINE_SET_UP = """
import happen_nb as happen
space = happen.connect(name="timeline", fresh=True)
BAD = "<img src=x onerror=alert(1)>"
orders = space.create_node("orders", initial={"open": 0})
stock = space.create_node("stock")
orders.on("order.*", lambda event: orders.broadcast("reserve", event.payload))

@stock.on("reserve")
def take_from_stock(event):
    raise ValueError(BAD)

for number in range(3):
    space.broadcast("order.made", {BAD: number}).settle()
"""


def resting_place(tab, mark):
    """Return the box of a mark once it does not move any more: each record that arrives draws all anew."""
    box = None
    while box is None or box != mark.bounding_box():
        box = mark.bounding_box()
        tab.page.wait_for_timeout(500)
    return box


def test_a_timeline_follows_and_shows_what_is_pressed_selected_and_found(lab, tab):
    save(
        lab,
        "timeline.ipynb",
        [
            TIMELINE_SET_UP,
            "space.timeline()",
            "space.broadcast('order.late').settle(); None",
            "stock.broadcast('restock', after=3600); None",
        ],
    )
    tab.open("timeline.ipynb")
    run(tab, 0, 1)
    shown = output(tab, 1, "6 events").locator(".hn-picture")
    picture = shown.locator("svg")
    run(tab, 2)
    expect(picture).to_contain_text("8 events · 1 commit · 4 failures")

    ring = resting_place(tab, shown.locator("circle.chosen"))
    x, y = ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2
    tab.page.mouse.move(x, y)
    expect(shown.locator(".hn-tip")).to_contain_text("take_from_stock")
    tab.page.mouse.click(x, y)
    panel = shown.get_by_role("region", name="Details")
    expect(panel).to_contain_text(BAD)
    expect(panel).to_contain_text("def take_from_stock(event):")
    tab.shoot("timeline")

    drawn = shown.locator(".hn-drawn")
    drawn.focus()
    drawn.press("ArrowUp")
    expect(panel).to_contain_text("reserve")
    drawn.press("Escape")
    expect(panel).to_be_hidden()

    box = drawn.bounding_box()
    tab.page.mouse.move(box["x"] + box["width"] * 0.3, y)
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + box["width"] * 0.9, y, steps=4)
    tab.page.mouse.up()
    expect(panel).to_contain_text("Selected")
    shown.get_by_role("button", name="Show only the selected time").click()
    expect(shown.get_by_role("button", name="Show everything")).to_be_enabled()
    drawn.press("0")
    expect(shown.get_by_role("button", name="Show everything")).to_be_disabled()

    run(tab, 3)
    expect(picture.locator("path.due")).to_have_count(2)  # on the lane, and in the legend
    expect(picture).to_contain_text("restock")
    tab.shoot("timeline-to-come")

    shown.get_by_role("searchbox").fill("order.late")
    expect(picture.locator("g[opacity]")).to_have_count(1)
    assert not tab.page.evaluate(SCROLLS)
    assert cell(tab, 1).locator("img").count() == 0
    assert tab.console_errors == tab.off_site == []
