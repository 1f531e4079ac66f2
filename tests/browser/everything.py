"""A notebook in which there is everything that the package draws, made of some texts."""

from __future__ import annotations

import json

from playwright.sync_api import expect

from tests.browser.test_live_reply import run_next

SOON = 30_000.0  # ms
OURS = [".happen", ".hn-alive", ".js-plotly-plot"]
WHOLE = """async () => {
    const notebook = jupyterapp.shell.currentWidget.content;
    notebook.notebookConfig = {...notebook.notebookConfig, windowingMode: "none", maxNumberOutputs: 1000};
    for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
}"""
UNFOLDED = """() => {
    document.querySelectorAll(".happen details").forEach(fold => { fold.open = true; });
    document.querySelector(".jp-WindowedPanel-outer").scrollTop = 0;
}"""
OUT_OF_SIGHT = ".jp-OutputArea-child { content-visibility: auto; contain-intrinsic-size: auto 200px }"
"""Lays out only what is in the window: else each new output has all before it laid out again."""
REMOVED = "cells => document.querySelectorAll(cells).forEach(cell => cell.remove())"
"""Of cells that were looked at: what a page shows makes it slow."""
SPACE = """
import json, threading
import happen_nb as happen
import ipywidgets
from IPython.display import display
from happen_nb.learn import check

TEXTS = json.loads(TEXTS)
TYPES = [text.replace(chr(0), "") for text in TEXTS]  # an event's type has no control characters
space = happen.connect(name="everything", fresh=True)
notes = {text: text for text in TEXTS}
deep = {"in": {"it": notes}, "many": list(range(60))}
LONG = " ".join(TEXTS) * 9
orders = space.create_node("orders", initial={"open": 1, "notes": notes, "deep": deep, "long": LONG})
nodes = [space.create_node(f"node-{n}", initial={"text": text, text: n}) for n, text in enumerate(TEXTS)]
may_go = threading.Event()

def named(name, function):
    function.__name__ = function.__qualname__ = name
    return function

def fail(text):
    raise ValueError(text)

def handler(text, node, fails):
    def handle(event):
        yield {"done": 1, "total": 2, text: text}
        may_go.wait()
        node.broadcast(event.type + "?", {text: text})
        node.state.set({"text": text + "!", text: 1.5})
        if fails:
            node.state.set(lambda state: fail(text))
        return {text: text}
    return named(text, handle)

for n, (node, text, type) in enumerate(zip(nodes, TEXTS, TYPES)):
    pattern = type if not set(type) & set("*{}") else named(text, lambda other, type=type: other == type)
    node.on(pattern, handler(text, node, n % 2))
"""
FOREIGN = """
import nats

def state_of(text):
    key = "".join("/" if char in " ." else char for char in text if char.isprintable())
    return "$KV.happen_everything." + key

async def foreign():
    client = await nats.connect(space.server.url, token=space.server.token)
    for n, text in enumerate(TEXTS):
        fields = {"id": f"{n}{text}", "type": text, "sender": text, "target": text, "cause": text}
        fields |= {"correlation": text, "path": [text]}
        handled = [f"{n}{text}", text, text, "failed", 0.1, text, 2]
        by = {"Happen-Commit": f"c{n} {n + 1} 0", "Happen-By": text} if text.isprintable() else {}
        for subject, body, headers in (
            (f"happen.everything.event.~.foreign{n}", {text: text}, {"Happen-Event": json.dumps(fields)}),
            (f"happen.everything.handled.foreign{n}", [handled], None),
            (state_of(text), {text: text}, by),
        ):
            await client.request(subject, json.dumps(body).encode(), timeout=30, headers=headers)
    await client.close()

await foreign()
stranger = space.views[state_of(TEXTS[0]).rpartition(".")[2]]
"""
SEND = """
replies = [space.send(node, type, {text: text}) for node, text, type in zip(nodes, TEXTS, TYPES)]
for reply in replies:
    display(reply)
"""
WORK = """
may_go.set()
space.settle()
commit = orders.state.set(happen.put("notes", {**notes, TEXTS[0]: [TEXTS], "new": TEXTS[1]}))
again = orders.state.set(lambda state: {key: state[key] for key in state if key != "long"})
watches = [orders.state.watch(named(text, lambda commit, text=text: fail(text))) for text in TEXTS]
orders.state.set(happen.put("open", 2))
space.settle()
said = space.events(TYPES[0])[0]
foreign = [event for event in space.events() if event.sender not in space.nodes]
checks = [check(text, orders, lambda state, text=text: fail(text)) for text in TEXTS]
def few(items):
    return list(items)[::3]  # one after the other, where all of them would be many outputs
"""
REPRS = [
    "space, space.nodes, space.views, space.server, happen.spaces(), space.at(commit)",
    "orders, orders.state, space.views['orders'], stranger, *few(nodes)",
    "commit, again, commit.diff, again.diff, orders.state.history(), space.journal()",
    "said, space.events(), *few(foreign), *few(space.events())",
    "*(node.handlers for node in nodes), *(node.handlers[0] for node in few(nodes))",
    "space.failures, *space.failures",
    "space.unhandled, *few(space.unhandled)",
    "space.trace(said), *(space.trace(reply.event) for reply in few(replies)), *few(watches), *few(checks)",
    "*replies,",
]
DIAGRAMS = "display(space.trace(said).sequence(), space.trace(said).waterfall())"
"""Pictures of what happened, without a script."""
LIVE = """
display(orders.state.live(), orders.state.live("notes"))
for text in few(TEXTS):
    display(orders.state.live(("notes", text), render=lambda value: f"{value}"))
    display(orders.state.live(render=named(text, lambda state, text=text: fail(text))))
display(orders.state.live("notes", render="\\n".join))
display(orders.state.live_plot("open", **{text: ("notes", text) for text in TEXTS[:20]}))
display(space.live_plot({text: (orders, "open") for text in few(TEXTS)}))
"""
BIND = """
for text in few(TEXTS):
    display(happen.bind(ipywidgets.Text(description="note"), nodes[0], ("bound", text)))
    display(happen.bind(ipywidgets.IntSlider(description="note"), orders, ("deep", "in", "it", text)))
"""
PLOTS = [
    "space.timeline()",
    "space.timeline(nodes=[node.name for node in nodes], since=said.sequence - 1)",
    "space.graph()",
    "orders.state.history().plot('open', **{text: ('notes', text) for text in TEXTS})",
    "nodes[0].state.history().plot('text', x=(TEXTS[0],))",
]
DASHBOARD = "space.dashboard()"
RECEIPTS = """
receipts = happen.connect(name="everything-receipts", fresh=True, receipts=True)
shop = receipts.create_node("shop", initial={})
for text, type in zip(TEXTS, TYPES):
    shop.on(type if not set(type) & set("*{}") else lambda other, type=type: other == type,
            named(text, lambda event, text=text: fail(text)))
"""
CAUSE = """
for text, type in zip(TEXTS, TYPES):
    receipts.broadcast(type, {text: text})
    shop.state.set({text: {text: text}})
"""


RAISE = """
for text in TEXTS:
    try:
        orders.state.set(named(text, lambda state, text=text: fail(text)))
    except ValueError:
        get_ipython().showtraceback()
"""
PAST = """
past = happen.connect(name="everything-past", fresh=True)
shelf = past.create_node("shelf", initial={"left": 1})
one, other = TEXTS[:2]
shelf.on("**", named(one, lambda event: shelf.state.set({"left": 0, **event.payload})))
past.broadcast(TYPES[0], {one: other}).settle()
shelf.off("**")
shelf.on("**", named(other, lambda event: shelf.state.set({"left": -1, one: event.type})))
again = past.rerun()
display(again, again.differences, again.changed, again.timeline(), past.sequence())
rush = named(one, lambda space: space.broadcast(TYPES[1], {one: one}))
display(check(other, shelf, named(one, lambda state: state["left"] >= 0), trying=rush))
past.broadcast(TYPES[0], {one: other}, after=3600)
past.pause()
past.broadcast(TYPES[1], {one: other})
display(past.scheduled, past.held, past.step())
past.resume()
"""
"""Reruns, orders, and what waits."""


def cells(texts):
    """Its cells, the dashboard's last."""
    set_up = f"TEXTS = {json.dumps(texts)!r}\n{SPACE.strip()}"
    shown = [*(f"display({each})" for each in REPRS), DIAGRAMS]
    return [set_up, FOREIGN, SEND, WORK, *shown, LIVE, BIND, *PLOTS, RECEIPTS, CAUSE, RAISE, PAST, DASHBOARD]


def show(tab, cells):
    """Run these cells, the last ones; the dashboard once all else is drawn: anywidget waits two seconds."""
    style = tab.page.add_style_tag(content=OUT_OF_SIGHT)
    run_next(tab, len(cells) - 1)
    for drawn, cells_with in ((".js-plotly-plot .infolayer", "plot("), (".hn-picture svg", "space.")):
        number = sum(cells_with in each for each in PLOTS)
        tab.page.locator(drawn).nth(number - 1).wait_for(state="attached")
    style.evaluate("style => style.remove()")
    run_next(tab)
    dashboard = tab.page.locator(".hn-dash")
    expect(dashboard.get_by_role("treeitem").filter(has_text="node-0")).to_be_visible(timeout=SOON)
    return dashboard


def moments(dashboard):
    """A dashboard in each of its tabs, in the past, and in the present again."""
    dashboard.get_by_role("treeitem").filter(has_text="node-0").click()
    for name, shown in (
        ("Send", "payload, as JSON"),
        ("Failures", "Traceback"),
        ("Unhandled", "no pattern"),
        ("Scheduled", "scheduled"),
    ):
        dashboard.get_by_role("tab", name=name).click()
        dashboard.page.evaluate(UNFOLDED)
        expect(dashboard.get_by_text(shown).first).to_be_visible(timeout=SOON)
        yield name
    dashboard.get_by_role("tab", name="Events").click()
    dashboard.get_by_role("listbox").get_by_role("option").first.click()
    dashboard.get_by_role("button", name="go to this point in time").click()
    expect(dashboard.locator(".hn-status")).to_have_text("past", timeout=SOON)
    yield "the past"
    dashboard.get_by_role("button", name="back to now").click()
    dashboard.get_by_role("treeitem").filter(has_text="node-0").click()
