"""Live displays in JupyterLab and Notebook 7: readable whatever becomes of the page and the kernel."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import take_screenshot
from tests.browser.test_live_reply import save
from tests.browser.test_widgets import cell, run

RESTART = "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
PLACES = {"lab": "lab/tree", "notebook": "notebooks"}
TABS = {"lab": "tab", "notebook": "own_tab"}
SET_UP = """
import threading
import ipywidgets
import happen_nb as happen
space = happen.connect(name="survives", fresh=True)
stock = space.create_node("stock", initial={"pens": 12, "ink": 3})
may_go = threading.Semaphore(0)

@stock.on("count")
def count(event):
    yield {"done": 1, "total": 4}
    may_go.acquire()
    return {"counted": 40}
"""
SHOWN = [
    "stock.state.live()",
    "stock.state.live('pens', render=lambda pens: f'{pens} pens are left')",
    "space.views.stock.live('pens')",
    "slider = ipywidgets.IntSlider(max=50); happen.bind(slider, stock, 'pens')",
    "space.send('stock', 'count')",
    "space.replay([{'n': n} for n in range(30)], type='row')",
    "space.dashboard()",
]
CHANGE = "stock.state.set(happen.put('pens', {})); None"
CELLS = [SET_UP, *SHOWN, CHANGE.format(34), "may_go.release(); space.settle()", CHANGE.format(17)]
LAST = len(SHOWN) + 1
TEXTS = {
    1: "pens {}",
    2: "{} pens are left",
    3: "{}",
    4: "{}",
    5: "counted: 40",
    6: "30 events",
    7: "pens: {}",
}
"""What each cell shows of the number of pens."""
WIDGETS = (1, 2, 3, 4, 7)
"""The cells that show a widget as long as there is a kernel."""
RESTORED = """widgets => {
    const cells = document.querySelectorAll(".jp-Notebook .jp-CodeCell");
    const shown = widgets.map(at => cells[at]);
    if (shown.every(cell => cell?.querySelector(".hn-alive"))) return "alive";
    return shown.some(cell => cell?.textContent.includes("model not found")) && "lost";
}"""
KEPT = """([widgets, pens]) => {
    const cells = jupyterapp.shell.currentWidget.content.model.cells;
    const text = output => [output.data?.["text/plain"] ?? ""].flat().join("");
    return widgets.every(at => cells.get(at).outputs.toJSON().some(output => text(output).includes(pens)));
}"""
LOADINGS = 3


def readable(tab, pens):
    """Wait until each display tells what is there now."""
    for at, text in TEXTS.items():
        expect(cell(tab, at).locator(".jp-OutputArea")).to_contain_text(text.format(pens), timeout=30_000)


def readable_at_first(tab):
    expect(cell(tab, 5).locator(".jp-OutputArea")).to_contain_text("1 of 4", timeout=30_000)
    expect(cell(tab, 2).locator(".jp-OutputArea")).to_contain_text("12 pens are left")


@pytest.mark.parametrize("place", PLACES)
def test_the_last_value_is_readable_after_a_reload_and_without_the_kernel(lab, request, place):
    tab, name = request.getfixturevalue(TABS[place]), f"survives_{place}.ipynb"
    save(lab, name, CELLS)
    if place == "lab":
        tab.open(name)
    else:
        tab.load(name, PLACES[place])
    show(tab)

    save_and_load(tab, name, place)
    readable(tab, 34)
    wait_for_widgets(tab, name, place)
    run(tab, LAST + 2)
    for at in WIDGETS:  # they go on
        expect(cell(tab, at).locator(".jp-OutputArea")).to_contain_text(TEXTS[at].format(17), timeout=30_000)
    assert tab.error_outputs() == []

    show(tab)
    # What the notebook keeps may be a second behind the widgets.
    tab.page.wait_for_function(KEPT, arg=[WIDGETS, "34"], timeout=30_000)
    tab.page.evaluate(RESTART)
    readable(tab, 34)
    save_and_load(tab, name, place)
    readable(tab, 34)
    take_screenshot(tab.page, f"survives-{place}")
    assert tab.off_site == []


def show(tab):
    """Run the displays, and change what they show."""
    run(tab, *range(LAST))
    readable_at_first(tab)
    run(tab, LAST, LAST + 1)
    readable(tab, 34)


def wait_for_widgets(tab, name, place):
    """Wait until JupyterLab has asked the kernel for its widgets.

    In a busy page it sometimes shows the outputs before, and then never shows a widget that the kernel has,
    until the page is loaded again.
    """
    for _ in range(LOADINGS):
        found = tab.page.wait_for_function(RESTORED, arg=WIDGETS, timeout=60_000).json_value()
        if found == "alive":
            return
        tab.load(name, PLACES[place])
    pytest.fail(f"JupyterLab has lost its widgets {LOADINGS} times")


def save_and_load(tab, name, place):
    tab.command("docmanager:save")
    tab.load(name, PLACES[place])
