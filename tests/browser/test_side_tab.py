"""The dashboard in a tab beside the notebook."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import DEADLINE, IDLE
from tests.browser.test_live_reply import save

SET_UP = """
import happen_nb as happen
space = happen.connect(name="beside", fresh=True)
orders = space.create_node("orders", initial={"open": 1})
"""
RESTART = "() => { jupyterapp.commands.execute('notebook:restart-run-all'); }"
SOON = 30_000.0  # ms
FILLED = """() => {
    const dashboard = document.querySelector(".hn-dash"), tab = dashboard.parentElement;
    return Math.abs(dashboard.offsetHeight - tab.clientHeight) < 3 && tab.scrollHeight <= tab.clientHeight;
}"""


def test_the_dashboard_stays_beside_the_notebook_when_its_cells_run_again(lab, own_tab):
    save(lab, "beside.ipynb", [SET_UP, "space.dashboard()", "orders.state.set({'open': 2})"])
    page = own_tab.page
    own_tab.open("beside.ipynb")
    own_tab.run_all()
    beside = page.locator(".hn-dash:not(.jp-Notebook *)")
    in_the_cell = page.locator(".jp-Notebook .hn-dash")
    expect(in_the_cell.get_by_role("treeitem").filter(has_text="open: 2")).to_be_visible(timeout=SOON)
    page.get_by_role("button", name="side tab").click()
    expect(beside.get_by_role("treeitem").filter(has_text="open: 2")).to_be_visible()
    expect(in_the_cell).to_have_count(0)
    page.wait_for_function(FILLED)
    own_tab.run_all()
    expect(beside.locator(".hn-status")).to_have_text("live", timeout=SOON)
    page.evaluate(RESTART)
    page.locator(".jp-Dialog .jp-mod-accept").click()
    page.get_by_text("This dashboard has ended.").wait_for()
    expect(beside.locator(".hn-status")).to_have_text("live", timeout=SOON)
    page.wait_for_function(IDLE, timeout=DEADLINE * 1000)
    expect(in_the_cell).to_have_count(0)
    page.get_by_role("tab", name="beside", exact=True).locator(".lm-TabBar-tabCloseIcon").click()
    expect(in_the_cell.get_by_role("treeitem").filter(has_text="open: 2")).to_be_visible()
    page.get_by_role("button", name="side tab").click()
    page.get_by_role("button", name="bring it back").click()
    expect(in_the_cell).to_be_visible()
    assert in_the_cell.get_by_role("separator").get_attribute("aria-valuenow") == "320"
    expect(beside).to_have_count(0)
    assert own_tab.error_outputs() == own_tab.console_errors == own_tab.off_site == []
