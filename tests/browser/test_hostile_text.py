"""Texts that try to be more than text, in all that is drawn in JupyterLab: they are read, and never run."""

from __future__ import annotations

import re
import time

from playwright.sync_api import expect

from happen_nb._display import clean
from tests.browser import everything
from tests.browser.everything import (
    BIND,
    DIAGRAMS,
    FOREIGN,
    OURS,
    PAST,
    PLOTS,
    RAISE,
    RECEIPTS,
    REMOVED,
    SEND,
    SOON,
    UNFOLDED,
    WHOLE,
    WORK,
    moments,
    show,
)
from tests.browser.test_live_reply import run_next, save
from tests.browser.test_widgets import run
from tests.display.hostile import PAYLOADS

BEGINNING = 18  # characters of a text that are not cut off where it has least room
MARKS = 24  # of a figure, which are pointed at
CONTROL = """
from IPython.display import HTML
HTML(next(text for text in TEXTS if text.endswith(" onerror=alert(1)>")))
"""
# What the payloads call is noted with its caller, in frames too; what is not replaced here would be a dialog.
# It ends with null, as Playwright would call a function.
NOTED = "top.ran ??= []; window.alert = () => { top.ran.push(new Error().stack); }; null"
TEXT = """all => all.map(each => {
    const copy = each.cloneNode(true);
    copy.querySelectorAll("style").forEach(style => style.remove());
    return copy.textContent;
}).join("\\n")"""
STRAY = """ours => {
    const never = "script, iframe, object, base, a, img, image, foreignObject, svg, math, mjx-container";
    const drawn = ".modebar *, .plot-img, .main-svg, .hn-arrows, .hn-diagram, "
        + ".hn-lines, .hn-spark, .hn-marks";
    const runs = ({name}) => name.startsWith("on") || ["srcdoc", "formaction", "href", "src"].includes(name);
    return ours.flatMap(each => [...document.querySelectorAll(`${each}, ${each} *`)])
        .filter(each => !each.matches(drawn) && (each.matches(never) || [...each.attributes].some(runs)))
        .map(each => each.outerHTML.slice(0, 300));
}"""
TALL = {"width": 1200, "height": 1800}
CENTRES = """figure => [...figure.querySelectorAll(".point")].map(mark => {
    const {left, top, width, height} = mark.getBoundingClientRect();
    return [left + width / 2, top + height / 2];
})"""
LABELS = """async ([figure, there]) => {
    const labels = () => [...figure.querySelectorAll(".hovertext")].map(label => label.textContent);
    for (let frames = 0; labels().length > 0 !== there; frames++) {
        if (frames > 1000) throw new Error(there ? "a mark shows no label" : "the label of a mark stays");
        await new Promise(requestAnimationFrame);
    }
    return labels();
}"""


def plain(text):
    """Without what quoting and wrapping add."""
    return re.sub(r"\s+", " ", text.replace("\\", ""))


def readable(text, payload):
    """Return True if a text has the beginning of a payload; a type has no control characters."""
    return any(
        plain(clean(each))[:BEGINNING] in plain(text) for each in (payload, payload.replace("\x00", ""))
    )


def unread(text, payloads=PAYLOADS):
    return [payload for payload in payloads if not readable(text, payload)]


def shown(tab, at):
    """All that stands below a cell."""
    cell = tab.page.locator(".jp-Notebook .jp-CodeCell").nth(at)
    return cell.locator(".jp-OutputArea-output").evaluate_all(TEXT)


def read_all(tab, at, payloads):
    """Wait until payloads are to be read below a cell: JupyterLab may draw them after the kernel is idle."""
    until = time.monotonic() + SOON / 1000
    while unread(shown(tab, at), payloads) and time.monotonic() < until:
        tab.page.wait_for_timeout(100)
    cell = tab.page.locator(".jp-Notebook .jp-CodeCell").nth(at)
    assert unread(shown(tab, at), payloads) == [], cell.inner_text()


def pointed_at(page, figure):
    """Return what is shown where the mouse points at marks of a figure."""
    figure.scroll_into_view_if_needed()
    centres, box, handle = figure.evaluate(CENTRES), figure.bounding_box(), figure.element_handle()
    told = []
    for x, y in centres[:: 1 + len(centres) // MARKS]:
        page.mouse.move(box["x"] + 1, box["y"] + box["height"] - 1)
        page.evaluate(LABELS, [handle, False])
        page.mouse.move(x, y)
        told += page.evaluate(LABELS, [handle, True])
        assert page.evaluate(STRAY, [".hoverlayer"]) == []
    assert page.evaluate(STRAY, OURS) == []
    return told


def test_what_tries_to_be_more_than_text_is_read_and_never_run(lab, tab):
    page, dialogs = tab.page, []
    page.set_viewport_size(TALL)  # the mouse has to reach each mark of the tallest figure
    page.add_init_script(NOTED)  # of frames that are still to come
    page.evaluate(f"delete top.ran; {NOTED}")
    page.on("dialog", lambda dialog: [dialogs.append(dialog.message), dialog.dismiss()])
    cells = everything.cells(PAYLOADS)
    save(lab, "hostile.ipynb", [*cells, CONTROL])
    tab.open("hostile.ipynb")
    page.evaluate(WHOLE)

    sent = cells.index(SEND) + 1
    run_next(tab, sent)
    for reply in page.locator(".happen:not(.hn-cancel)").all():
        expect(reply).to_contain_text("1 of 2", timeout=SOON)
    assert unread(shown(tab, sent - 1)) == []
    dashboard = show(tab, cells[sent:])
    for _ in moments(dashboard):
        assert page.evaluate(STRAY, OURS) == []
    page.evaluate(UNFOLDED)
    for at, cell in enumerate(cells):
        read_all(tab, at, payloads_in(cell))
    page.evaluate(REMOVED, ".jp-Notebook .jp-Cell:has(.happen)")
    told = [text for figure in page.locator(".js-plotly-plot").all() for text in pointed_at(page, figure)]
    told += page.locator(".hn-picture svg").all_text_contents()
    assert unread("\n".join(told)) == []
    assert (page.evaluate("top.ran"), dialogs, tab.console_errors, tab.off_site) == ([], [], [], [])

    run(tab, len(cells))
    page.wait_for_function("top.ran.length > 0")  # so nothing but the package kept them from it


def payloads_in(cell):
    """Return the payloads to be read below a cell: fewer where only some are shown, or Python shows them."""
    if cell in {WORK, RAISE}:
        return [payload for payload in PAYLOADS if payload.isprintable()]
    if cell == BIND:
        return PAYLOADS[::3]
    if cell == PAST:
        return PAYLOADS[:2]
    return [] if cell in {FOREIGN, RECEIPTS, DIAGRAMS, *PLOTS} or cell.startswith("TEXTS =") else PAYLOADS
