"""Live displays in JupyterLab and Notebook 7: readable whatever becomes of the page and the kernel."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import SHOTS
from tests.browser.test_live_reply import save
from tests.browser.test_widgets import RESTART, cell, run

PLACES = {"lab": "lab/tree", "notebook": "notebooks"}
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


def readable(tab, pens):
    """Wait until each display tells what is there now."""
    for at, text in TEXTS.items():
        expect(cell(tab, at).locator(".jp-OutputArea")).to_contain_text(text.format(pens), timeout=30_000)


@pytest.fixture(params=PLACES)
def shown(request, lab, tab):
    """The displays, run and changed since, in each front end; and how to open them again."""
    name = f"survives_{request.param}_{request.node.originalname}.ipynb"
    save(lab, name, CELLS)
    tab.open(name, PLACES[request.param])
    run(tab, *range(LAST))
    readable_at_first(tab)
    run(tab, LAST, LAST + 1)
    readable(tab, 34)

    def save_and_open_again():
        tab.command("docmanager:save")
        tab.open(name, PLACES[request.param])

    return save_and_open_again


def readable_at_first(tab):
    expect(cell(tab, 5).locator(".jp-OutputArea")).to_contain_text("1 of 4", timeout=30_000)
    expect(cell(tab, 2).locator(".jp-OutputArea")).to_contain_text("12 pens are left")


def test_after_a_reload_they_are_there_and_go_on(tab, shown):
    shown()
    readable(tab, 34)
    run(tab, LAST + 2)
    for at in (1, 2, 3, 4, 7):
        expect(cell(tab, at).locator(".jp-OutputArea")).to_contain_text(TEXTS[at].format(17), timeout=30_000)
    assert tab.error_outputs() == tab.off_site == []


def test_without_their_kernel_they_show_the_last_value(request, tab, shown):
    tab.page.evaluate(RESTART)
    readable(tab, 34)
    shown()
    readable(tab, 34)
    SHOTS.mkdir(exist_ok=True)
    tab.page.screenshot(path=SHOTS / f"survives-{request.node.callspec.params['shown']}.png")
    assert tab.off_site == []
