"""Widgets in JupyterLab: they follow, and do what is done to them."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.test_live_reply import save

SET_UP = """
import happen_nb as happen
from happen_nb.bind import bind
from happen_nb.dashboard import Dashboard
import ipywidgets as w
BAD = "<img src=x onerror=alert(1)>"
space = happen.connect(name="widgets", fresh=True)
items = {f"o{n}": {"status": "new", "total": n * 1.5, "note": "x" * 40} for n in range(10_000)}
orders = space.create_node("orders", initial={"open": 1, BAD: {BAD: BAD}, "items": items})
stock = space.create_node("stock", initial={"pens": 12, "tags": {f"t{n}": "x" * 30 for n in range(4)}})

@orders.on("order.*")
def take(event):
    if event.payload == "bad":
        raise ValueError(BAD)
    orders.state.set(happen.put("open", lambda n: n + 1))
    return {"taken": BAD}
"""
OPEN = "orders.state.set(happen.put('open', {})); None"
SELECT = "at => { jupyterapp.shell.currentWidget.content.activeCellIndex = at }"


def run(tab, *cells):
    for at in cells:
        tab.page.evaluate(SELECT, at)
        tab.command("notebook:run-cell")


def cell(tab, at):
    return tab.page.locator(".jp-Notebook .jp-CodeCell").nth(at)


def output(tab, at, text):
    """The one output of a cell that is to be seen, which has this text."""
    seen = cell(tab, at).locator(".jp-OutputArea-child:visible")
    expect(seen.filter(has_text=text).first).to_be_visible(timeout=30_000)
    expect(seen).to_have_count(1)
    return seen


def test_a_live_state_follows_and_what_was_folded_stays_so(lab, tab):
    part = "orders.state.live('open', render=lambda n: f'{n} <b>open</b>')"
    save(lab, "live.ipynb", [SET_UP, "stock.state.live()", part, OPEN.format(2), PENS])
    tab.open("live.ipynb")
    run(tab, 0, 1, 2)
    output(tab, 2, "1 <b>open</b>")
    output(tab, 1, "pens 12").locator("summary").first.press("Enter")
    run(tab, 4, 3)
    output(tab, 2, "2 <b>open</b>")
    shown = output(tab, 1, "pens 11")
    assert shown.locator("details").first.get_attribute("open") is None
    tab.shoot("live")
    assert tab.error_outputs() == tab.console_errors == tab.off_site == []


PENS = "stock.state.set(happen.put('pens', 11)); None"


def test_a_bound_widget_is_moved_by_both_sides_and_marked_where_it_cannot_follow(lab, tab):
    slider = "slider = w.IntSlider(max=10); binding = bind(slider, orders, 'open'); binding"
    cells = [SET_UP, slider, "orders.state.live('open')", OPEN.format(7), OPEN.format(99)]
    save(lab, "bind.ipynb", cells)
    tab.open("bind.ipynb")
    run(tab, 0, 1, 2)
    handle = cell(tab, 1).get_by_role("slider")
    handle.press("ArrowRight")
    output(tab, 2, "2")
    run(tab, 3)
    expect(handle).to_have_attribute("aria-valuenow", "7.0")
    run(tab, 4)
    output(tab, 1, "the state has 99, which this IntSlider cannot show")
    output(tab, 2, "99")
    tab.shoot("bind")
    assert tab.error_outputs() == tab.console_errors == tab.off_site == []


SEND = "orders.broadcast(BAD, {BAD: BAD}); orders.broadcast('order.a', 'bad'); space.settle()"
BUSY = """
import time
for n in range(20):
    orders.broadcast('order.paid', {'n': n}); time.sleep(0.05)
"""


def show_dashboard(lab, tab, name):
    """A dashboard of two nodes in the third cell, after an event that nobody took and a failure."""
    save(lab, name, [SET_UP, SEND, "Dashboard(space)", BUSY])
    tab.page.on("dialog", lambda dialog: tab.console_errors.append(f"a dialog: {dialog.message}"))
    tab.open(name)
    run(tab, 0, 1, 2)
    dashboard = cell(tab, 2).locator(".hn-dash")
    return dashboard, dashboard.get_by_role("treeitem").filter(has_text="open:")


def test_a_dashboard_can_be_used_by_keyboard_and_goes_to_any_moment(lab, tab):
    dashboard, orders = show_dashboard(lab, tab, "dashboard_keys.ipynb")
    orders.focus()
    keys = tab.page.keyboard
    keys.press("ArrowRight")
    expect(dashboard.get_by_role("treeitem", name="open 1")).to_be_visible()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight"):
        keys.press(key)
    expect(dashboard.get_by_role("treeitem", name="o99 ")).to_be_visible()
    expect(dashboard.get_by_text("9,900 more")).to_be_visible()

    run(tab, 3)
    expect(orders).to_contain_text("open: 21")
    log = dashboard.get_by_role("listbox")
    dashboard.get_by_label("Filter the log").fill("order.paid 3")
    expect(log.get_by_role("option")).to_have_count(2)
    log.focus()
    keys.press("Home")
    keys.press("Enter")
    expect(dashboard.locator(".hn-status")).to_have_text("past")
    expect(orders).to_contain_text("open: 4")
    tab.shoot("dashboard-past")
    dashboard.get_by_role("slider").press("End")
    expect(dashboard.locator(".hn-status")).to_have_text("live")
    expect(orders).to_contain_text("open: 21")
    assert tab.page.locator(".jp-Notebook .jp-CodeCell").count() == 4
    assert tab.console_errors == tab.off_site == []


def test_a_dashboard_sends_shows_hostile_texts_as_such_and_fits_a_narrow_window(lab, tab):
    dashboard, orders = show_dashboard(lab, tab, "dashboard_send.ipynb")
    dashboard.get_by_role("tab", name="Events").press("ArrowRight")
    dashboard.locator("select").select_option("send")
    dashboard.locator("[name=node]").fill("orders")
    dashboard.locator("[name=what]").fill("order.new")
    dashboard.locator("[name=what]").press("Enter")
    expect(dashboard.locator(".hn-form .hn-detail")).to_contain_text("onerror")
    expect(orders).to_contain_text("open: 2")
    dashboard.get_by_role("tab", name="Failures 1").click()
    dashboard.locator("summary").first.click()
    expect(dashboard.get_by_text("Traceback")).to_be_visible()
    dashboard.get_by_role("tab", name="Unhandled").click()
    expect(dashboard.get_by_text("no pattern").first).to_be_visible()
    tab.shoot("dashboard")
    assert dashboard.locator("img, svg, script, iframe").count() == 0

    tab.page.set_viewport_size({"width": 700, "height": 900})
    assert dashboard.evaluate("element => element.scrollWidth - element.clientWidth") <= 0
    assert tab.console_errors == tab.off_site == []


RUNNING = "() => { jupyterapp.commands.execute('notebook:run-cell'); }"
STORM = """
import time
for n in range(120):
    orders.broadcast('order.paid', {'n': n}); stock.state.set(happen.put('pens', 100 + n)); time.sleep(0.05)
"""


def press(tab, box):
    """Click there as a person does, who takes a moment between press and release."""
    tab.page.mouse.move(box["x"] + 60, box["y"] + 12)
    tab.page.mouse.down()
    tab.page.wait_for_timeout(250)
    tab.page.mouse.up()


def test_a_click_counts_though_all_is_drawn_anew_meanwhile(lab, tab):
    save(lab, "clicks.ipynb", [SET_UP, "Dashboard(space)", "stock.state.live()", STORM])
    tab.open("clicks.ipynb")
    run(tab, 0, 1, 2)
    dashboard, live = cell(tab, 1).locator(".hn-dash"), cell(tab, 2).locator(".hn-alive")
    expect(live.locator("details")).to_have_attribute("open", "")
    fold, log = live.locator("summary").bounding_box(), dashboard.get_by_role("listbox").bounding_box()
    tab.page.evaluate(SELECT, 3)
    tab.page.evaluate(RUNNING)
    expect(live).to_contain_text(re.compile(r"pens 1\d\d"))
    press(tab, fold)
    expect(live.locator("details")).not_to_have_attribute("open", "")
    press(tab, log)
    expect(live).to_contain_text("pens 219", timeout=30_000)
    expect(dashboard.get_by_role("button", name="show this moment")).to_be_visible()
    assert tab.error_outputs() == tab.console_errors == tab.off_site == []
