"""A notebook in which there is everything that the package draws, made of some texts."""

from __future__ import annotations

import json

TYPES = "TYPES = [text.replace(chr(0), '') for text in TEXTS]  # an event's type has no control characters"
SPACE = """
import json, threading
import happen_nb as happen
import ipywidgets
from IPython.display import display
from happen_nb.learn import check

TEXTS = json.loads(TEXTS)
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
            await client.request(subject, json.dumps(body).encode(), headers=headers)
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
handled = space.events()[-1]
said = space.events(TYPES[0])[0]
"""
REPRS = [
    "space, space.nodes, space.views, space.server, happen.spaces()",
    "orders, orders.state, space.views['orders'], stranger, *nodes",
    "commit, again, commit.diff, again.diff, orders.state.history(), space.journal()",
    "said, handled, space.events(), *(event for event in space.events() if event.sender not in space.nodes)",
    "*(node.handlers for node in nodes), *(node.handlers[0] for node in nodes)",
    "space.failures, *space.failures",
    "space.unheard, *(each for each in space.unheard if each.event.sender in space.nodes)",
    "space.trace(said), *(space.trace(reply.event) for reply in replies)",
    "*watches, *(check(text, orders, lambda state, text=text: fail(text)) for text in TEXTS)",
    "*replies,",
]
LIVE = """
display(orders.state.live(), orders.state.live("notes"))
for text in TEXTS:
    display(orders.state.live(("notes", text)))
    display(orders.state.live(("notes", text), render=lambda value: f"{value}"))
    display(orders.state.live(render=named(text, lambda state, text=text: fail(text))))
"""
BIND = """
for text in TEXTS:
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


def cells(texts):
    """Its cells; those of a plot come last but one another, each by itself."""
    shown = [f"display({each})" for each in REPRS]
    set_up = f"TEXTS = {json.dumps(texts)!r}\n{SPACE.strip()}".replace("may_go =", f"{TYPES}\nmay_go =")
    return [set_up, FOREIGN, SEND, WORK, *shown, LIVE, BIND, *PLOTS, DASHBOARD, RECEIPTS, CAUSE]
