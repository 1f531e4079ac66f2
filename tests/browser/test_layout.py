"""The displays in a narrow window: words and names stay whole, tables scroll instead."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.display import reading
from tests.display import standins as a

LAB = "<style>.jp-OutputArea-output pre { word-break: break-all; }</style>"
LINES = """selector => [...document.querySelectorAll(selector)].map(element => {
    const range = document.createRange();
    range.selectNodeContents(element);
    return new Set([...range.getClientRects()].map(rect => Math.round(rect.bottom))).size;
})"""
SIGNS = """() => [...document.querySelectorAll('summary > i, td > i')].map(sign =>
    Math.abs(sign.getBoundingClientRect().top - sign.nextElementSibling.getBoundingClientRect().top)
)"""
WORDS = """word => {
    const text = document.querySelector('pre').firstChild, range = document.createRange(), lines = [];
    for (let at = text.data.indexOf(word); at >= 0; at = text.data.indexOf(word, at + 1)) {
        range.setStart(text, at);
        range.setEnd(text, at + word.length);
        lines.push(range.getClientRects().length);
    }
    return lines;
}"""
GAPS = """() => [...document.querySelectorAll("tr")].flatMap(row => {
    const edges = [...row.children].map(cell => {
        const range = document.createRange();
        range.selectNodeContents(cell);
        return range.getBoundingClientRect();
    });
    return edges.slice(1).map(({left}, at) => left - edges[at].right);
})"""
TWO_CHARACTERS = 15.5  # pixels, of the font in the tests
HIDDEN_WIDTH = """() => {
    const {scrollWidth, clientWidth} = document.querySelector(".happen");
    return scrollWidth - clientWidth;
}"""
STATES = [
    {"stock-room": 1},
    {"stock-room": 1, "ink-bottle": 2, "paper-and-pens": 3, "t": 4, "long-path-of-a-key": {"in-it": 5}},
    {"stock-room": 1, "t": {"note": "as much as fits into no line of a narrow window " * 3}},
]


@pytest.fixture
def show(chromium):
    """Shows HTML as an output of a notebook in a window of some width."""
    page = chromium.new_page()

    def show(made, width):
        page.set_viewport_size({"width": width, "height": 800})
        page.set_content(f'{LAB}<div class="jp-OutputArea-output jp-RenderedHTMLCommon">{made}</div>')
        return page

    yield show
    page.close()


@pytest.mark.parametrize("width", [500, 900])
def test_short_cells_and_paths_keep_their_line_and_signs_their_path(show, width):
    history = a.history(STATES)
    for commit in history:
        commit.node = commit.by = "stock-room"
    spaces = a.Spaces([a.SpaceInfo("space-of-the-shop", 3, 357), a.SpaceInfo("other-space", 3, 3_400_000)])
    for made in (reading.html(history), reading.html(a.Journal(history)), reading.html(spaces)):
        page = show(made, width)
        assert set(page.evaluate(LINES, "td:not(.l), td .k")) == {1}
        assert max(page.evaluate(SIGNS), default=0) < 4


def test_a_table_of_one_day_fits_a_narrow_window_without_the_day(show):
    events = a.Events(a.Event(f"order.{n}", {"id": f"o{n}", "to": "someone@example.org"}) for n in range(3))
    later = a.Events([*events, a.Event("late", None, time=a.NOON + timedelta(days=1))])
    for made, days in ((events, 0), (later, 4)):
        page = show(reading.html(made), 560)
        assert page.locator("time span:visible").count() == days
    page = show(reading.html(events), 560)
    assert page.evaluate(HIDDEN_WIDTH) <= 0


NAMES = [f"the-{what}-of-the-northern-warehouse.in-{what}" for what in ("shelf", "office", "loading_bay")]


def tables_of_long_names():
    sender, target, node = NAMES
    payload = {"customer": "someone-else@example.org", "note": "two words and many more of them " * 3}
    long = [
        a.Event(f"{kind}.of.{node}.{sender}", payload, sender=sender, target=target)
        for kind in ("order", "parcel")
    ]
    history = a.history([{node: 1}, {node: 2, sender: {target: payload}}, {node: 3}])
    for commit in history:
        commit.node, commit.by = node, sender
    yield a.Events(long)
    yield a.Events([*long, a.Event("late", None, time=a.NOON + timedelta(days=1), sender=sender)])
    yield a.Journal([*long, *history])
    yield history
    yield a.UnhandledEvents(
        [a.Unhandled(each, "no handler of its node matches", long[1].type) for each in long]
    )
    yield a.Held(a.HeldEvent(node, each) for each in long)
    yield a.Handlers([a.Registration(f"{NAMES[0]}.*", name=f"{NAMES[1]}.take")])


def test_columns_stay_apart_in_a_narrow_window(show):
    page = show(reading.html(a.history(STATES[:1])), 500)
    assert min(page.evaluate(GAPS)) >= TWO_CHARACTERS


@pytest.mark.parametrize("width", [560, 860, 1260])  # of an output in a window of 700, 1000 and 1400 pixels
def test_tables_of_long_names_never_scroll_sideways(show, width):
    for made in tables_of_long_names():
        page = show(reading.html(made), width)
        assert page.evaluate(HIDDEN_WIDTH) <= 0
        page.evaluate("() => document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
        assert page.evaluate(HIDDEN_WIDTH) <= 0


@pytest.mark.parametrize("width", [500, 900])
def test_unfolded_text_breaks_between_words(show, width):
    page = show(reading.html(a.node("orders", {"note": "warehouse parcels " * 60})), width)
    page.locator("summary").click()
    assert set(page.evaluate(WORDS, "warehouse") + page.evaluate(WORDS, "parcels")) == {1}
