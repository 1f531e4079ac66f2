"""The page of a recording, opened as a file without a network: it plays, and runs nothing of the data."""

from __future__ import annotations

from base64 import b64decode

import pytest
from axe_playwright_python.base import AXE_SCRIPT

import happen_nb as happen
from tests.browser import firefox
from tests.browser.conftest import KEEPS_SHOTS, SHOTS
from tests.display.hostile import PAYLOADS

THEMES = ("light", "dark")
WIDTHS = (700, 1400)
LOOK = """async () => {
    const {violations} = await axe.run({resultTypes: ["violations"]});
    return violations.flatMap(({id, impact, nodes}) => nodes.map(({html, failureSummary}) =>
        `${id} (${impact}): ${html} ${failureSummary}`));
}"""
SIDEWAYS = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
SMALL = """() => [...document.querySelectorAll("body *")]
    .filter(each => each.checkVisibility())
    .filter(each => [...each.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
    .filter(each => parseFloat(getComputedStyle(each).fontSize) < 12)
    .map(each => each.outerHTML)"""


@pytest.fixture(scope="module")
def recording(_server, store, tmp_path_factory):
    """A run with hostile texts wherever texts are shown, failures, and values that JavaScript lacks."""
    with happen.connect(store=store, name="hostile-recording") as space:
        node = space.create_node(
            "orders", initial={"__proto__": {"x": 1}, "big": 2**63 - 1, "one": 1.0, "no": {}}
        )

        @node.on("**")
        def handle(event):
            """</script><script>alert(1)</script>."""
            node.state.set(happen.put((event.type, "constructor"), event.payload))
            if event.type == PAYLOADS[0]:
                raise ValueError(PAYLOADS[2])

        for text in PAYLOADS:
            kind = "".join(letter for letter in text if letter.isprintable())[:200]
            space.broadcast(kind, {text: [text, {"deep": text}]})
        space.settle()
        file = tmp_path_factory.mktemp("recording") / "hostile.html"
        yield space.record(file, title=f"{PAYLOADS[1]} \ud800")


OFFLINE = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}


@pytest.fixture
def page(chromium):
    """A tab without a network, and what it did that it should not."""
    tab = chromium.new_page()
    tab.wrong = []
    tab.on("dialog", lambda dialog: (tab.wrong.append(dialog.message), dialog.dismiss()))
    tab.on("request", lambda request: request.url.startswith("file:") or tab.wrong.append(request.url))
    tab.on("console", lambda message: tab.wrong.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: tab.wrong.append(str(error)))
    # Not `set_offline` of the context: JupyterLab in its other tabs would tell that it has lost its server.
    network = chromium.new_cdp_session(tab)
    network.send("Network.enable")
    network.send("Network.emulateNetworkConditions", OFFLINE)
    yield tab
    tab.close()


def open_file(page, recording):
    page.goto(recording.path.as_uri())
    page.locator("body[data-ready]").wait_for()


def test_hostile_texts_are_shown_and_never_run(page, recording):
    open_file(page, recording)
    steps = sum(recording.counts)
    assert page.locator("h1").inner_text() == recording.title
    seen = set()
    page.keyboard.press("Home")
    for _ in range(steps):
        seen.add(page.locator("#now h2").inner_text())
        page.keyboard.press("ArrowRight")
    assert PAYLOADS[3] in seen
    assert "\N{MULTIPLICATION SIGN} orders failed" in seen
    assert page.locator("#now pre").inner_text().count("</script><script>alert(1)</script>") == 1
    state = page.locator(".card .tree").inner_text()
    assert "__proto__ {x: 1}" in state
    assert "big 9223372036854775807" in state
    assert "one 1.0" in state
    assert "no {}" in state.splitlines()
    assert page.evaluate("() => [{}.x, document.scripts.length]") == [None, 2]
    assert page.wrong == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_accessible_in_both_themes_and_never_scrolls_sideways(page, recording, width):
    page.set_viewport_size({"width": width, "height": 900})
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)
        open_file(page, recording)
        page.get_by_role("button", name="Next failure").click()
        assert page.evaluate("() => document.documentElement.dataset.theme") == theme
        page.evaluate(AXE_SCRIPT)
        assert page.evaluate(LOOK) == []
        assert page.evaluate(SIDEWAYS) <= 0
        assert page.evaluate(SMALL) == []
        if KEEPS_SHOTS:
            SHOTS.mkdir(exist_ok=True)
            page.screenshot(path=SHOTS / f"recording-{width}-{theme}.png", full_page=True)
    assert page.wrong == []


@pytest.mark.usefixtures("_server")
def test_in_a_notebook_it_has_the_colours_of_the_front_end(store, page):
    with happen.connect(store=store, name="recording-colours") as space:
        space.create_node("orders", initial={"open": 1})
        shown = space.record()._repr_mimebundle_()["text/html"]
    page.emulate_media(color_scheme="null")
    for light, theme in (("false", "dark"), ("true", "light")):
        page.set_content(f'<body data-jp-theme-light="{light}">{shown}')
        page.frame_locator("iframe").locator(f'html[data-theme="{theme}"] body[data-ready]').wait_for()
    page.evaluate("() => { document.body.dataset.jpThemeLight = false; }")
    page.frame_locator("iframe").locator('html[data-theme="dark"]').wait_for()
    assert page.wrong == []


@pytest.mark.usefixtures("_server")
def test_a_key_stands_before_its_value_in_languages_from_right_to_left_too(page, store, tmp_path):
    with happen.connect(store=store, name="recording-right-to-left") as space:
        node = space.create_node("orders", initial={"inner": {"שם": "שלי", "n": 1}, "": "nameless"})
        file = space.record(tmp_path / "right-to-left.html")
        shown = node._repr_mimebundle_()["text/html"]
    open_file(page, file)
    assert is_before(page, "שם", '"שלי"')
    assert is_before(page, '""', '"nameless"')
    page.goto("about:blank")
    page.set_content(shown)
    assert is_before(page, "שם", '"שלי"')


def is_before(page, key, value):
    one, other = (page.get_by_text(text, exact=True).first.bounding_box() for text in (key, value))
    return one["x"] < other["x"]


def test_it_plays_to_the_end_and_is_controlled_by_keys(page, recording):
    page.emulate_media(color_scheme="light")
    open_file(page, recording)
    where, play = page.locator("#where"), page.locator("#play")
    steps = sum(recording.counts)
    assert where.inner_text().startswith(f"{steps} of {steps}"), "it opens at its end"
    page.keyboard.press("Home")
    assert where.inner_text().startswith(f"1 of {steps}")
    page.keyboard.press("End")
    page.keyboard.press("Shift+ArrowLeft")
    assert where.inner_text().startswith(f"{steps - 10} of")
    page.keyboard.press("ArrowUp")
    assert page.locator("#now h3").first.inner_text().startswith("Handled by 1")
    page.keyboard.press("Home")
    for _ in range(2):
        page.keyboard.press("+")
    page.keyboard.press(" ")
    assert "Pause" in play.inner_text()
    page.wait_for_function(
        "end => document.querySelector('#where').textContent.startsWith(end)", arg=f"{steps} of"
    )
    assert "Play" in play.inner_text()
    page.get_by_role("button", name="Dark theme").click()
    page.emulate_media(media="print")
    assert not play.is_visible()
    assert page.locator("#now").is_visible()
    page.emulate_media(media="screen")
    assert page.wrong == []


def test_its_address_can_ask_to_play_but_not_against_the_wish_of_the_reader(page, recording):
    page.goto(f"{recording.path.as_uri()}#play")
    page.locator("#play", has_text="Pause").wait_for()
    page.emulate_media(reduced_motion="reduce")
    page.goto("about:blank")
    page.goto(f"{recording.path.as_uri()}#play")
    page.locator("body[data-ready]").wait_for()
    assert "Play" in page.locator("#play").inner_text()
    assert page.wrong == []


def test_on_a_manual_clock_it_shows_the_time_of_the_space(page, store, tmp_path):
    with happen.connect(store=store, name="recorded-clock", clock="manual", fresh=True) as space:
        orders = space.create_node("orders")
        orders.broadcast("early")
        orders.broadcast("late", after=86_400)
        space.advance(days=2)
        orders.broadcast("last")
        open_file(page, space.record(tmp_path / "clock.html"))
    assert page.locator("#where").inner_text() == "3 of 3 · 2000-01-03 00:00:00"
    page.keyboard.press("ArrowLeft")
    assert "2000-01-02 00:00:00 UTC" in page.locator("#now").inner_text()
    assert page.locator("#axis", has_text="2000-01-0").count() == 1
    assert page.wrong == []


def test_a_notebook_plays_it_in_a_frame_that_may_only_run_its_script(page, recording):
    shown = happen.recorded(recording.path)
    shown.path = None
    page.set_content(shown._repr_mimebundle_()["text/html"])
    frame = page.frame_locator("iframe")
    frame.locator("body[data-ready]").wait_for()
    frame.get_by_role("button", name="Last record").click()
    assert frame.locator("#where").inner_text().startswith(f"{sum(recording.counts)} of")
    assert page.wrong == []


@pytest.fixture(scope="module")
def fox(tmp_path_factory):
    """Firefox."""
    with firefox.browsing(tmp_path_factory.mktemp("firefox")) as browser:
        yield browser


def test_firefox_shows_and_plays_it_too_and_runs_nothing(fox, recording):
    steps, url = sum(recording.counts), recording.path.as_uri()
    where = "document.querySelector('#where').textContent"
    for width in WIDTHS:
        fox.open(url, width)
        fox.wait_for("document.body.dataset.ready")
        assert fox.evaluate(f"({SIDEWAYS})()") <= 0
        assert fox.evaluate(f"({SMALL})()") == []
        fox.run("document.querySelector('#failure').click()")
        fox.run(AXE_SCRIPT)
        assert fox.evaluate(f"({LOOK})()") == []
        if KEEPS_SHOTS:
            SHOTS.mkdir(exist_ok=True)
            (SHOTS / f"recording-firefox-{width}.png").write_bytes(b64decode(fox.screenshot()))
    fox.press("End")
    assert fox.evaluate(where).startswith(f"{steps} of {steps}")
    fox.press("Shift", "Left")
    assert fox.evaluate(where).startswith(f"{steps - 10} of")
    fox.press("Home")
    for key in "++ ":
        fox.press(key)
    assert "Pause" in fox.evaluate("document.querySelector('#play').textContent")
    fox.wait_for(f"{where}.startsWith('{steps} of')")
    assert fox.evaluate("document.querySelector('h1').textContent") == recording.title
    assert {address.partition(":")[0] for address in fox.requested} <= {"file", "about"}
    assert fox.wrong == []
