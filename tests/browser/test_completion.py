"""Completion in JupyterLab with the IPython extension: the tab key in a cell that is being written."""

from __future__ import annotations

from tests.browser.conftest import take_screenshot
from tests.browser.test_live_reply import run_next, save

SET_UP = """
import happen_nb as happen
%load_ext happen_nb
space = happen.connect(name="completion", fresh=True)
orders = space.create_node("orders", initial={"orders": {"o1": {"status": "open", "total": 3}}})
stock = space.create_node("stock", initial={"pens": 3})
service = space.create_node("customer-service", initial={})
stock.on("order.{paid,sent}", lambda event: None)
orders.broadcast("order.lost")
"""
CASES = [
    (
        'orders.send("stock", "order.")',
        2,
        ["order.lost", "order.paid", "order.sent"],
        'orders.send("stock", "order.lost")',
    ),
    (
        'orders.state.get("orders.o1.',
        0,
        ["orders.o1.status", "orders.o1.total"],
        'orders.state.get("orders.o1.status',
    ),
    (
        'print("🙂"); space.send("cu")',
        2,
        ["customer-service"],
        'print("🙂"); space.send("customer-service")',
    ),
    (
        "lambda state, views: views.",
        0,
        ["customer_service", "orders", "stock", "collect", "get", "items", "keys", "space", "values"],
        "lambda state, views: views.customer_service",
    ),
]
"""What is typed, how far the cursor goes back, what is offered, and what becomes of it."""
UPPER = {"x": 0, "y": 0, "width": 1000, "height": 700}
EDITOR = "() => jupyterapp.shell.currentWidget.content.activeCell.editor"


def typed(page, text, left=0):
    """Type into the cell, go back by some characters, and press the tab key."""
    page.evaluate(f"() => ({EDITOR})().model.sharedModel.setSource('')")
    page.evaluate(f"text => ({EDITOR})().replaceSelection(text)", text)
    for _ in range(left):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Tab")


def listed(page):
    """Return what the popup offers."""
    page.locator(".jp-Completer-item").first.wait_for()
    return page.locator(".jp-Completer-item .jp-Completer-match").all_inner_texts()


def becomes(page, source):
    """Wait until the cell is that."""
    page.wait_for_function(f"source => ({EDITOR})().model.sharedModel.getSource() === source", arg=source)


def test_the_popup_lists_what_fits_and_enter_takes_it(lab, tab):
    save(lab, "completion.ipynb", [SET_UP, ""])
    tab.open("completion.ipynb")
    run_next(tab)
    tab.page.wait_for_function("() => jupyterapp.shell.currentWidget.content.activeCellIndex === 1")
    tab.command("notebook:enter-edit-mode")
    for number, (text, left, offered, source) in enumerate(CASES, start=1):
        typed(tab.page, text, left)
        assert listed(tab.page) == offered
        take_screenshot(tab.page, f"completion-{number}", clip=UPPER)
        tab.page.keyboard.press("Enter")
        becomes(tab.page, source)
    assert tab.console_errors == []
    assert tab.off_site == []
