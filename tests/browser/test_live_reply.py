"""A reply that ends a cell, in JupyterLab: it is followed while it comes, and its last picture stays."""

from __future__ import annotations

import json
import urllib.request

import nbformat

SET_UP = """
import threading
import happen_nb as happen
space = happen.connect(name="live_reply", fresh=True)
orders = space.create_node("orders")
may_go = threading.Semaphore(0)

@orders.on("pack")
def pack(event):
    for done in range(1, 5):
        may_go.acquire()
        yield {"done": done, "total": 4, "item": f"parcel-{done}"}
    may_go.acquire()
    if event.payload == "bad":
        raise ValueError("no box is large enough")
    return {"packed": 4, "weight": 12.5}
"""
SEND = ["space.send('orders', 'pack')", "space.send('orders', 'pack', 'bad')", "space.send('orders', 'pack')"]


def save(lab, name, cells):
    """Put a notebook where JupyterLab finds it."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    body = json.dumps({"type": "notebook", "format": "json", "content": notebook}).encode()
    url = f"{lab.origin}/api/contents/{name}?token={lab.token}"
    urllib.request.urlopen(urllib.request.Request(url, data=body, method="PUT")).close()


def run_next(tab, times=1):
    for _ in range(times):
        tab.command("notebook:run-cell-and-select-next")


def shown(tab, cell, text):
    """Wait for a text in the one output of a cell."""
    output = (
        tab.page.locator(".jp-Notebook .jp-CodeCell")
        .nth(cell)
        .locator(".jp-OutputArea-output .happen:not(.hn-cancel)")
    )
    output.filter(has_text=text).wait_for()
    assert output.count() == 1
    return output.inner_text()


def test_a_reply_is_followed_and_its_last_picture_stays(lab, tab):
    save(lab, "live_reply.ipynb", [SET_UP, *SEND, "may_go.release(2)", "may_go.release(8)"])
    tab.open("live_reply.ipynb")
    run_next(tab, 4)
    assert "accepted" in shown(tab, 1, "pack")
    run_next(tab)
    assert "item: " in shown(tab, 1, "2 of 4")
    progress = tab.page.locator(".jp-Notebook .jp-CodeCell").nth(1).locator("progress")
    assert progress.evaluate("bar => [bar.value, bar.max]") == [0.5, 1]
    tab.shoot("live_reply-half")
    run_next(tab)
    assert "weight: 12.5" in shown(tab, 1, "done")
    assert "ValueError: no box is large enough" in shown(tab, 2, "failed")
    tab.page.get_by_role("button", name="cancel").press("Enter")
    assert "was cancelled" in shown(tab, 3, "cancelled")
    tab.page.locator(".hn-cancel").wait_for(state="detached")
    tab.shoot("live_reply-done")
    assert tab.console_errors == []
    assert tab.off_site == []
