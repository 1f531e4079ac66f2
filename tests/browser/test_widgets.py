"""Widgets in JupyterLab: they follow, and do what is done to them."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import IDLE, Watched
from tests.browser.test_live_reply import save

SET_UP = """
import happen_nb as happen
from happen_nb._widgets.bind import bind
from happen_nb._widgets.dashboard import Dashboard
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
RESTART = "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
CRASH = """() => {
    const { kernel } = jupyterapp.shell.currentWidget.sessionContext.session;
    kernel.requestExecute({ code: "import os; os._exit(1)" });
}"""
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

    expect(shown.locator("b.f")).to_have_text("pens")  # the last change is marked
    shown.locator("time").first.hover()
    assert re.fullmatch(r"\d+ (second|minute)s? ago", shown.locator("time").first.get_attribute("title"))
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


SEND = """
orders.broadcast(BAD, {BAD: BAD}); orders.broadcast("order.a", "bad"); orders.broadcast(BAD, after=3600)
space.settle()
"""
BUSY = """
import time
for n in range(20):
    orders.broadcast('order.paid', {'n': n}); time.sleep(0.05)
"""


STEADY = BUSY.replace("time.sleep(0.05)", "space.settle()")  # each commit before the next event


def show_dashboard(lab, tab, name, then=BUSY):
    """A dashboard of two nodes in the third cell, after an event that nobody took and a failure."""
    save(lab, name, [SET_UP, SEND, "Dashboard(space)", then])
    tab.page.on("dialog", lambda dialog: tab.console_errors.append(f"a dialog: {dialog.message}"))
    tab.open(name)
    run(tab, 0, 1, 2)
    dashboard = cell(tab, 2).locator(".hn-dash")
    return dashboard, dashboard.get_by_role("treeitem").filter(has_text="open:")


def test_the_notebook_has_no_colour_and_a_node_without_a_state_no_revision(lab, tab):
    idle = "space.create_node('idle')\nspace.broadcast('order.a')"
    save(lab, "dashboard_nodes.ipynb", [SET_UP, idle, "Dashboard(space)"])
    tab.page.set_viewport_size({"width": 2000, "height": 900})
    tab.open("dashboard_nodes.ipynb")
    run(tab, 0, 1, 2)
    dashboard = cell(tab, 2).locator(".hn-dash")
    marks = dashboard.locator(".hn-marks path")
    expect(marks).to_have_count(3)
    assert marks.evaluate_all(OWN_COLOURS) == ["var(--c0)", "var(--c1)", "var(--hn-quiet)"]
    revisions = dashboard.locator(".hn-revision").evaluate_all(TEXTS_BEFORE)
    assert revisions == ["none", '"revision "', '"revision "']


MANUAL = """
import happen_nb as happen
from happen_nb._widgets.dashboard import Dashboard
space = happen.connect(name="simulated", clock="manual", fresh=True)
orders = space.create_node("orders")
orders.broadcast("order.early")
space.advance(days=30)
orders.broadcast("order.late")
None
"""


def test_on_a_manual_clock_the_dashboard_shows_the_time_of_the_space(lab, tab):
    save(lab, "dashboard_time.ipynb", [MANUAL, "Dashboard(space)", "space.advance(hours=12)\nNone"])
    tab.open("dashboard_time.ipynb")
    run(tab, 0, 1)
    dashboard = cell(tab, 1).locator(".hn-dash")
    expect(dashboard.locator(".hn-entry time")).to_have_text(["2000-01-01 00:00:00", "2000-01-31 00:00:00"])
    expect(dashboard.locator(".hn-time output")).to_have_text("now 2000-01-31 00:00:00 UTC")
    run(tab, 2)
    expect(dashboard.locator(".hn-time output")).to_have_text("now 2000-01-31 12:00:00 UTC")
    dashboard.get_by_role("button", name="Previous entry").click()
    expect(dashboard.locator(".hn-time output")).to_have_text("2000-01-31 00:00:00 UTC · order.late")
    assert tab.error_outputs() == tab.console_errors == []


OWN_COLOURS = "marks => marks.map(mark => mark.style.getPropertyValue('--hn-own').trim())"
TEXTS_BEFORE = "all => all.map(each => getComputedStyle(each, '::before').content)"


def test_a_dashboard_can_be_used_by_keyboard_and_goes_to_any_moment(lab, tab):
    dashboard, orders = show_dashboard(lab, tab, "dashboard_keys.ipynb", STEADY)
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
    expect(dashboard.locator(".hn-compare")).to_contain_text("orders: then → now · 1 difference")
    expect(dashboard.locator(".hn-compare")).to_contain_text("~ open  4 → 21")
    tab.shoot("dashboard-past")
    orders.press("n")
    expect(orders).to_contain_text("open: 5")
    orders.press("c")
    expect(dashboard.locator(".hn-outcome")).to_have_text("copied orders")
    dashboard.get_by_role("button", name="Play").press("Enter")
    expect(dashboard.locator(".hn-status")).to_have_text("live", timeout=30_000)
    dashboard.get_by_role("separator").press("PageDown")
    assert dashboard.get_by_role("separator").get_attribute("aria-valuenow") == "420"
    dashboard.get_by_role("slider").press("Home")
    expect(dashboard.locator(".hn-status")).to_have_text("past")
    dashboard.get_by_role("slider").press("End")
    expect(dashboard.locator(".hn-status")).to_have_text("live")
    expect(orders).to_contain_text("open: 21")
    dashboard.get_by_role("slider").press("ArrowLeft")
    expect(dashboard.locator(".hn-status")).to_have_text("past")
    moment = dashboard.locator(".hn-time output")
    for _ in range(3):  # each to another entry, whatever is stored between two of them
        shown = moment.inner_text()
        dashboard.get_by_role("slider").press("ArrowLeft")
        expect(moment).not_to_have_text(shown)
    for _ in range(4):
        dashboard.get_by_role("slider").press("ArrowRight")
    expect(dashboard.locator(".hn-status")).to_have_text("live")
    heights = []
    for each in dashboard.get_by_role("tab").all():
        each.click()
        heights.append(round(dashboard.bounding_box()["height"]))
    assert len(set(heights[1:])) == 1  # and that of the events is higher by the entry that is open
    for key in ("d", "d", "x", "a", "b"):  # which in JupyterLab delete and insert cells
        dashboard.get_by_role("button", name="Play").press(key)
    assert tab.page.locator(".jp-Notebook .jp-CodeCell").count() == 4
    assert tab.console_errors == tab.off_site == []


@pytest.mark.parametrize(("end", "name"), [(RESTART, "restarted"), (CRASH, "crashed")])
def test_a_dashboard_whose_kernel_has_ended_reports_that_it_gets_no_answer(lab, tab, end, name):
    dashboard, _ = show_dashboard(lab, tab, f"dashboard_{name}.ipynb", "stock.state.live_plot('pens')")
    run(tab, 3)
    plot = cell(tab, 3).locator(".hn-plot")
    for each in (dashboard, plot):
        expect(each.locator(".hn-status")).to_have_text("live")
    tab.page.evaluate(end)
    for each in (dashboard, plot):
        expect(each.locator(".hn-status")).to_have_text("no answer from the kernel", timeout=30_000)
    tab.page.wait_for_function(IDLE)
    for dialog in tab.page.locator(".jp-Dialog .jp-mod-accept").all():  # which reports the crash
        dialog.click()
    expect(dashboard.get_by_text("run the notebook again")).to_be_visible()
    for control in (
        dashboard.get_by_role("slider"),
        dashboard.get_by_role("button", name="pause", exact=True),
    ):
        expect(control).to_be_disabled()
    assert tab.console_errors == tab.off_site == []


def test_a_dashboard_pauses_and_steps_by_keyboard(lab, tab):
    dashboard, orders = show_dashboard(lab, tab, "dashboard_pause.ipynb")
    pause = dashboard.get_by_role("group", name="Pace").get_by_role("button").last
    step = dashboard.get_by_role("button", name="step", exact=True)
    expect(step).to_be_disabled()
    pause.press("Enter")
    expect(pause).to_have_text("resume")
    run(tab, 3)
    expect(dashboard.get_by_text("paused · 20 held")).to_be_visible()
    tab.shoot("dashboard-paused")
    pause.press("Shift+Tab")
    expect(step).to_be_focused()
    tab.page.keyboard.press("Enter")
    expect(dashboard.locator(".hn-outcome")).to_have_text("orders handled order.paid · 1 commit")
    expect(dashboard.get_by_text("paused · 19 held")).to_be_visible()
    expect(orders).to_contain_text("open: 2")
    pause.press("Enter")
    expect(orders).to_contain_text("open: 21")
    expect(pause).to_have_text("pause")
    expect(step).to_be_disabled()
    assert tab.console_errors == tab.off_site == []


def test_a_dashboard_sends_shows_hostile_texts_as_such_and_fits_a_narrow_window(lab, tab):
    dashboard, orders = show_dashboard(lab, tab, "dashboard_send.ipynb")
    dashboard.get_by_role("tab", name="Events").press("ArrowRight")
    dashboard.get_by_label("action").select_option("send")
    dashboard.locator("[name=node]").fill("orders")
    dashboard.locator("[name=name]").fill("order.new")
    dashboard.locator("[name=name]").press("Enter")
    expect(dashboard.locator(".hn-form .hn-detail")).to_contain_text("onerror")
    expect(orders).to_contain_text("open: 2")
    dashboard.get_by_role("tab", name="1 failure").click()
    dashboard.locator("summary").first.click()
    expect(dashboard.get_by_text("Traceback")).to_be_visible()
    dashboard.get_by_role("tab", name="Unhandled").click()
    expect(dashboard.get_by_text("no pattern").first).to_be_visible()
    tab.shoot("dashboard")
    dashboard.get_by_role("tab", name="1 scheduled").click()
    expect(dashboard.locator(".hn-due li")).to_contain_text("<img src=x onerror=alert(1)> · orders")
    tab.shoot("dashboard-scheduled")
    dashboard.get_by_role("button", name="cancel").press("Enter")
    expect(dashboard.get_by_text("nothing is scheduled")).to_be_visible()
    expect(dashboard.get_by_role("tab", name="Scheduled")).to_have_attribute("aria-selected", "true")
    assert dashboard.locator("img, script, iframe, svg :not(path)").count() == 0

    tab.page.set_viewport_size({"width": 700, "height": 900})
    assert dashboard.evaluate("element => element.scrollWidth - element.clientWidth") <= 0
    assert tab.console_errors == tab.off_site == []


RUNNING = "() => { jupyterapp.commands.execute('notebook:run-cell'); }"
STORM = """
import time
for n in range(120):
    orders.broadcast('order.paid', {'n': n}); stock.state.set(happen.put('pens', 100 + n)); time.sleep(0.05)
"""


def press(tab, locator):
    """Click there as a person does, who takes a moment between press and release."""
    while (box := locator.bounding_box()) is None:  # it is just being replaced
        tab.page.wait_for_timeout(10)
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
    tab.page.evaluate(SELECT, 3)
    tab.page.evaluate(RUNNING)
    expect(live).to_contain_text(re.compile(r"pens 1\d\d"))
    press(tab, live.locator("summary"))
    expect(live.locator("details")).not_to_have_attribute("open", "")
    press(tab, dashboard.get_by_role("listbox"))
    expect(live).to_contain_text("pens 219", timeout=30_000)
    expect(dashboard.get_by_role("button", name="go to this point in time")).to_be_visible()
    assert tab.error_outputs() == tab.console_errors == tab.off_site == []


FIGURES = """
class Own:
    def __init__(self, number):
        self.number = number

    def _ipython_display_(self):
        display(f"{self.number} displayed")
"""
RANGE = "figure => figure._fullLayout.xaxis.range.map(each => Math.round(each * 1000))"


def test_a_figure_and_anything_displayable_are_drawn_in_place_and_keep_the_zoom(lab, tab):
    plot = "orders.state.live(render=lambda _: orders.state.history().plot('open', x='revision'))"
    own = "orders.state.live('open', render=Own)"
    save(lab, "figures.ipynb", [SET_UP + FIGURES, plot, own, *map(OPEN.format, (2, 3, 4))])
    tab.open("figures.ipynb")
    run(tab, 0, 1, 2)
    figure = output(tab, 1, "open").locator(".js-plotly-plot")
    output(tab, 2, "1 displayed")
    figure.evaluate("figure => { figure.marked = true }")
    figure.hover()
    before = figure.evaluate(RANGE)
    figure.locator("[data-title='Zoom in']").click()
    tab.page.wait_for_function(
        f"([figure, before]) => String(({RANGE})(figure)) !== before",
        arg=[figure.element_handle(), ",".join(map(str, before))],
    )
    zoomed = figure.evaluate(RANGE)
    run(tab, 3, 4, 5)
    output(tab, 2, "4 displayed")
    tab.page.wait_for_function("figure => figure.data[0].x.length >= 4", arg=figure.element_handle())
    assert figure.evaluate(RANGE) == zoomed
    assert figure.evaluate("figure => figure.marked")
    assert tab.page.locator(".js-plotly-plot").count() == 1
    tab.shoot("figures")
    assert tab.page.evaluate(SAVED) < 200_000
    assert tab.error_outputs() == tab.console_errors == tab.off_site == []


SAVED = "() => JSON.stringify(jupyterapp.shell.currentWidget.content.model.toJSON()).length"


def test_a_mistyped_path_is_named_where_it_is_shown(lab, tab):
    binding = "happen.bind(w.IntText(), orders, 'opn')"
    save(lab, "typo.ipynb", [SET_UP, "orders.state.live('opn')", "stock.state.live('pns')", binding])
    tab.open("typo.ipynb")
    run(tab, 0, 1, 2, 3)
    output(tab, 2, "nothing at pns; there is pens")
    output(tab, 3, "nothing at opn; there is open")
    output(tab, 1, "0")
    assert tab.error_outputs() == tab.console_errors == tab.off_site == []


SCROLLED_UP = "([box, by]) => box.scrollHeight - box.clientHeight - box.scrollTop >= by"
AT_END = "box => box.scrollTop + box.clientHeight >= box.scrollHeight - 22"
SAY = "for n in range({}): orders.broadcast('order.paid', {{'n': n}})"


def test_a_log_follows_until_a_person_scrolls_and_again_when_told_to(lab, tab):
    cells = [SET_UP, "space.dashboard()", SAY.format(60), SAY.format(12), SAY.format(5)]
    save(lab, "follows.ipynb", cells)
    tab.open("follows.ipynb")
    run(tab, 0, 1)
    dashboard = cell(tab, 1).locator(".hn-dash")
    log, newest = dashboard.get_by_role("listbox"), dashboard.locator(".hn-newest")
    dashboard.get_by_role("tab", name="Send").click()  # the box has no height now
    run(tab, 2)
    expect(dashboard.get_by_role("treeitem").filter(has_text="open: 61")).to_be_visible()
    dashboard.get_by_role("tab", name="Events").click()
    expect(log.get_by_role("option").last).to_contain_text("orders · 61")
    expect(newest).to_be_hidden()
    for theme in ("dark", "light"):  # which hides all for a moment
        tab.show_theme(theme)
        expect(log.get_by_role("option").last).to_contain_text("orders · 61")

    log.hover()
    tab.page.mouse.wheel(0, -1)  # as slowly as a touchpad does
    expect(newest).to_be_visible()
    tab.page.mouse.wheel(0, 1)
    expect(newest).to_be_hidden()
    tab.page.mouse.wheel(0, -8)
    expect(newest).to_be_visible()
    tab.page.mouse.wheel(0, -400)
    tab.page.wait_for_function(SCROLLED_UP, arg=[log.element_handle(), 400])
    expect(newest).to_have_text("go to newest")
    top = log.evaluate("box => box.scrollTop")
    run(tab, 3)
    expect(newest).to_have_text("24 new, go to newest")
    assert log.evaluate("box => box.scrollTop") == top
    tab.shoot("dashboard-scrolled")
    newest.click()
    expect(newest).to_be_hidden()
    run(tab, 4)
    expect(log.get_by_role("option").last).to_contain_text("orders · 78")

    tab.command("docmanager:save")
    tab.load("follows.ipynb")
    expect(dashboard.locator(".hn-status")).to_have_text("live", timeout=30_000)
    expect(log.get_by_role("option").last).to_contain_text("orders · 78")
    assert log.evaluate(AT_END)
    assert tab.error_outputs() == tab.console_errors == tab.off_site == []


FOLLOWING = {
    ".hn-plot": "orders.state.live_plot('open')",
    ".hn-picture": "space.timeline()",
    ".hn-dash": "space.dashboard()",
}


@pytest.mark.parametrize(("widget", "shown"), FOLLOWING.items())
def test_the_static_picture_is_shown_until_a_busy_kernel_answers(lab, tab, widget, shown):
    name, free = f"busy{widget}.ipynb", f"free{widget}.ipynb"
    busy = f"import os, time\nwhile not os.path.exists({free!r}): time.sleep(0.05)"
    save(lab, name, [SET_UP, shown, busy])
    tab.open(name)
    tab.page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells') }")
    static = cell(tab, 1).locator(".hn-static")
    expect(static).to_have_count(1, timeout=30_000)
    expect(static).to_be_visible()
    widget = cell(tab, 1).locator(widget)
    expect(widget).to_have_count(1)
    expect(widget).to_be_hidden()
    save(lab, free, [])
    expect(widget).to_be_visible(timeout=30_000)
    expect(static).to_be_hidden()
    assert tab.error_outputs() == tab.console_errors == tab.off_site == []


DEAF = """
answers, hello = False, Dashboard._on_hello
Dashboard._on_hello = lambda self, message: answers and hello(self, message)
"""
RESTORE = "Dashboard._on_hello = hello"
SHOW = "shown = space.dashboard(); shown"


def test_a_dashboard_asks_again_until_the_kernel_answers(lab, tab):
    save(lab, "deaf.ipynb", [SET_UP + DEAF, SHOW, "answers = True", RESTORE, "space.close()", "shown"])
    tab.open("deaf.ipynb")
    run(tab, 0, 1)
    status = cell(tab, 1).locator(".hn-status")
    expect(status).to_have_text("connecting", timeout=30_000)
    expect(status).to_have_text("no answer from the kernel", timeout=30_000)
    run(tab, 2)
    expect(status).to_have_text("live", timeout=30_000)
    expect(cell(tab, 1).get_by_role("treeitem").filter(has_text="pens:")).to_be_visible()
    run(tab, 3, 4)
    expect(status).to_have_text("closed", timeout=30_000)
    run(tab, 5)  # a view that opens later
    later = cell(tab, 5).locator(".hn-dash")
    expect(later.locator(".hn-status")).to_have_text("closed", timeout=30_000)
    expect(later.get_by_role("treeitem").filter(has_text="pens:")).to_be_visible()
    later.get_by_role("tab", name="Unhandled").click()
    tab.shoot("dashboard-closed")
    expect(later).not_to_contain_text("ClosedError")
    assert tab.error_outputs() == tab.console_errors == tab.off_site == []


FOLLOWED = [
    "space.dashboard()",
    "stock.state.live_plot('pens')",
    "space.timeline()",
    "stock.state.live('pens')",
    "slider = w.IntSlider(max=30); happen.bind(slider, stock, 'pens')",
]
CLOSE = "space.create_node('late', initial={'n': 5}); space.close()"


def test_a_closed_space_is_shown_as_closed_with_its_last_states_and_nothing_that_cannot_work(lab, tab):
    save(lab, "closed.ipynb", [SET_UP.replace("10_000", "3"), SEND, *FOLLOWED, PENS, CLOSE])
    tab.open("closed.ipynb")
    run(tab, *range(8))
    cells = [cell(tab, at) for at in range(2, 7)]
    dashboard, plot, timeline, live, bound = cells[0].locator(".hn-dash"), *cells[1:]
    stock = dashboard.get_by_role("treeitem").filter(has_text="pens:")
    handle = bound.get_by_role("slider")
    expect(handle).to_have_attribute("aria-valuenow", "11.0")
    expect(plot.locator(".hn-status")).to_have_text("live")
    dashboard.get_by_role("slider").press("Home")
    expect(stock).to_be_hidden()
    run(tab, 8)

    for each in (dashboard, plot):
        expect(each.locator(".hn-status")).to_have_text("closed")
    expect(dashboard.get_by_text("The space is closed")).to_be_visible()
    expect(dashboard.get_by_role("treeitem").filter(has_text="n: 5")).to_be_visible()
    expect(stock).to_contain_text("pens: 11")
    expect(dashboard.get_by_role("slider")).to_be_disabled()
    expect(dashboard.get_by_role("button", name="back to now")).to_be_hidden()
    stock.press("N")
    log = dashboard.get_by_role("listbox")
    log.press("Home")
    log.press("Enter")
    expect(dashboard.locator(".hn-time output")).to_be_empty()
    tab.shoot("closed")
    for name in ("Send", "failure", "unhandled", "scheduled", "Events"):
        dashboard.get_by_role("tab", name=name).click()
        enabled = dashboard.locator("button:enabled:visible:not([role=tab], .hn-copy)")
        assert set(enabled.all_inner_texts()) <= {"side tab", "go to newest"}
        expect(dashboard.locator(":is(textarea, select, .hn-form input):enabled")).to_have_count(0)
    for each in (timeline, live, bound):
        expect(each.get_by_text("closed", exact=True)).to_be_visible()
    expect(bound.locator(".widget-slider [disabled]")).to_have_count(1)
    assert tab.console_errors == tab.off_site == []


def drag(page, handle, by):
    """Drag a slider fast, in many steps, as a hand does."""
    page.bring_to_front()  # in the background, each step takes a third of a second
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by, y, steps=60)
    page.mouse.up()


def test_two_browsers_that_drag_one_slider_fast_agree_and_nothing_goes_back(lab, tab, chromium):
    slider = "slider = w.IntSlider(max=1000); happen.bind(slider, orders, 'open')"
    seen = "seen = []; orders.state.watch(lambda commit: seen.append(commit.after['open'])); None"
    check = "space.settle(); print(seen == sorted(seen), len(seen) > 3, seen[-1] == orders.state.get('open'))"
    save(lab, "two.ipynb", [SET_UP, slider, "orders.state.live('open')", seen, check])
    tab.open("two.ipynb")
    run(tab, 0, 1, 2, 3)
    tab.command("docmanager:save")
    other = Watched(chromium.new_page(), lab)
    other.load("two.ipynb")
    here, there = (cell(each, 1).get_by_role("slider") for each in (tab, other))
    drag(tab.page, here, 100)
    expect(here).not_to_have_attribute("aria-valuenow", "1.0")
    value = here.get_attribute("aria-valuenow")
    expect(there).to_have_attribute("aria-valuenow", value)
    output(tab, 2, value.removesuffix(".0"))
    run(tab, 4)
    expect(cell(tab, 4).locator(".jp-OutputArea")).to_contain_text("True True True")
    drag(other.page, there, -60)
    expect(there).not_to_have_attribute("aria-valuenow", value)
    value = there.get_attribute("aria-valuenow")
    expect(here).to_have_attribute("aria-valuenow", value)
    output(tab, 2, value.removesuffix(".0"))
    assert tab.console_errors == other.console_errors == tab.off_site == []
    other.page.close()


def test_a_view_beside_the_notebook_shows_the_same_widget(lab, tab):
    slider = "slider = w.IntSlider(max=10); happen.bind(slider, orders, 'open')"
    save(lab, "beside.ipynb", [SET_UP, slider, OPEN.format(7)])
    tab.open("beside.ipynb")
    run(tab, 0, 1)
    tab.page.evaluate(SELECT, 1)
    notebook = tab.page.evaluate("jupyterapp.shell.currentWidget.id")
    tab.command("notebook:create-output-view")
    beside = tab.page.locator(".jp-LinkedOutputView").get_by_role("slider")
    expect(beside).to_be_visible()
    tab.page.evaluate("id => jupyterapp.shell.activateById(id)", notebook)
    run(tab, 2)
    for handle in (beside, cell(tab, 1).get_by_role("slider")):
        expect(handle).to_have_attribute("aria-valuenow", "7.0")
    assert tab.console_errors == tab.off_site == []


AT_ONCE = """() => {  // before anything can be loaded
    hnTimeout = AbortSignal.timeout;
    AbortSignal.timeout = () => {
        const controller = new AbortController();
        queueMicrotask(() => controller.abort());
        return controller.signal;
    };
}"""
AS_BEFORE = "() => { AbortSignal.timeout = hnTimeout; }"


def test_a_widget_that_starts_late_in_a_busy_page_follows_nevertheless(lab, tab):
    shown = ["stock.state.live()", "stock.state.live_plot('pens')", "space.graph()", "space.dashboard()"]
    late = f"space.broadcast('order.late').settle(); {PENS}"
    save(lab, "late.ipynb", [SET_UP.replace("10_000", "3"), *shown, late])
    tab.open("late.ipynb")
    errors = []
    tab.page.on("pageerror", lambda error: errors.append(str(error)))
    tab.page.evaluate(AT_ONCE)
    try:
        run(tab, *range(6))
        output(tab, 1, "pens 11")
        output(tab, 2, "pens 11")
        output(tab, 3, "order.late")
        output(tab, 4, "pens: 11")
    finally:
        tab.page.evaluate(AS_BEFORE)
    assert any("Failed to initialize model" in error for error in errors)
    assert tab.error_outputs() == tab.console_errors == tab.off_site == []
