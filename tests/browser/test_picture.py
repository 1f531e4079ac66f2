"""The picture of the README: how the real thing looks."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import SHOTS
from tests.browser.test_live_reply import save
from tests.browser.test_widgets import cell, run

SET_UP = """
import time
import happen_nb as happen
space = happen.connect(name="shop", fresh=True)
orders = space.create_node("orders", initial={"open": 0})
stock = space.create_node("stock", initial={"lamps": 40, "desks": 3})
shipping = space.create_node("shipping", initial={"parcels": {}})

@orders.on("order.placed")
def take(event):
    orders.state.set(happen.put("open", lambda n: n + 1))
    time.sleep(0.02)
    orders.broadcast("order.paid", event.payload)

@stock.on("order.paid")
def reserve(event):
    time.sleep(0.01)
    stock.state.set(happen.put(event.payload["item"], lambda left: left - 1))
    if stock.state.get(event.payload["item"]) < 0:
        raise ValueError(f"no {event.payload['item']} left")
    stock.broadcast("stock.reserved", event.payload)

@shipping.on("stock.reserved")
def pack(event):
    time.sleep(0.015)
    shipping.state.set(happen.put(("parcels", event.payload["id"]), {"item": event.payload["item"]}))
"""
ORDERS = """
for n in range(9):
    item = "desks" if n in (1, 4, 5, 7) else "lamps"
    space.broadcast("order.placed", {"id": f"o{n}", "item": item})
    time.sleep(0.05)
    if n == 6:
        space.broadcast("parcel.lost", {"id": "o3"})
space.settle()
"""


def test_the_picture_of_the_readme_can_be_taken_again(lab, tab):
    save(lab, "picture.ipynb", [SET_UP, "space.dashboard()", "space.timeline()", ORDERS])
    tab.open("picture.ipynb")
    run(tab, 0, 1)
    dashboard = cell(tab, 1).locator(".hn-dash")
    expect(dashboard).to_be_visible()
    run(tab, 3, 2)
    expect(cell(tab, 2).locator(".hn-picture svg")).to_be_visible()
    stock = dashboard.get_by_role("treeitem").filter(has_text="lamps:")
    stock.press("ArrowRight")
    expect(dashboard.get_by_text("stock.reserved").first).to_be_visible()
    tab.page.set_viewport_size({"width": 1000, "height": 1500})
    tab.page.evaluate("jupyterapp.commands.execute('application:toggle-left-area')")
    boxes = [cell(tab, at).locator(".jp-OutputArea").bounding_box() for at in (1, 2)]
    top, bottom = boxes[0]["y"], boxes[1]["y"] + boxes[1]["height"]
    SHOTS.mkdir(exist_ok=True)
    shot = SHOTS / "readme.png"
    clip = {"x": boxes[0]["x"], "y": top - 40, "width": boxes[0]["width"], "height": bottom - top + 44}
    tab.page.screenshot(path=shot, clip=clip)
    assert shot.stat().st_size < 300_000
    assert tab.off_site == []
