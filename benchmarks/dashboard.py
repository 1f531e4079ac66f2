"""A dashboard in JupyterLab over 200 nodes, 10,000 events and a state of 1.4 MB: opening it, going back.

Run it with ``python benchmarks/dashboard.py``; it needs Chromium, as the browser tests do. What is timed ends
when it is painted: an opening begins with sending the cell, a move with the slider's input.
"""

import json
import random
import sys

from in_lab import notebook, run_cell, spread

OPENINGS, MOVES, DRAGS = 7, 40, 7
SET_UP = """
import asyncio, json
import happen_nb as happen
space = happen.connect(name="large", fresh=True)
items = {f"order-{n:05}": {"status": "open", "note": "x" * 90, "total": n * 1.5} for n in range(10_000)}
orders = space.create_node("a-large", initial={"open": 0, "items": items})
clock = space.create_node("a-clock", initial={"at": -1})
nodes = [space.create_node(f"node-{n:03}", initial={"n": 0, "text": "x" * 200}) for n in range(198)]
ticks = []
for hundred in range(100):
    happened = [nodes[n].abroadcast("order.paid", {"id": f"o{n}", "total": 40}) for n in range(100)]
    await asyncio.gather(*happened)
    for n in range(5):
        await nodes[(5 * hundred + n) % len(nodes)].state.aset(happen.put("n", hundred))
    if not hundred % 10:
        await orders.state.aset(happen.put(("items", "order-00003", "status"), f"step {hundred}"))
    ticks.append((await clock.state.aset({"at": hundred})).sequence)
print(json.dumps(ticks))
"""
SHOW = "space.dashboard()"
MOVE = """async ([sequences, revision]) => {
    const shown = document.querySelector(".hn-dash");
    const slider = shown.querySelector("input[type=range]");
    const clock = [...shown.querySelectorAll(".hn-row")].find(row => row.textContent.startsWith("a-clock "));
    const there = () => clock.querySelector(".hn-revision").textContent === String(revision);
    const drawn = new Promise(done => {
        const watch = new MutationObserver(() => there() && (watch.disconnect(), done()));
        watch.observe(clock, { childList: true, subtree: true, characterData: true });
    });
    let begun;
    for (const sequence of sequences) {
        begun = performance.now();
        slider.value = sequence;
        slider.dispatchEvent(new Event("input"));
        if (sequences.length > 1) await new Promise(requestAnimationFrame);
    }
    await drawn;
    await new Promise(done => requestAnimationFrame(() => setTimeout(done)));  // it is painted
    return performance.now() - begun;
}"""

LOAD_ALL = """async () => {
    const buttons = [...document.querySelectorAll(".hn-dash button")];
    const button = buttons.find(each => each.textContent === "load earlier");
    while (!button.hidden) {
        const count = button.previousElementSibling;
        const loaded = new Promise(done => {
            const watch = new MutationObserver(() => (watch.disconnect(), done()));
            watch.observe(count, { childList: true });
        });
        button.click();
        await loaded;
    }
}"""


def report(what, times, bar=None):
    met = "" if bar is None else f"   slowest {max(times):.0f} ms   bar {bar} ms"
    print(f"{what:<46} {spread(times)}{met}", flush=True)


def go(tab, ticks, to, through=()):
    """Move the slider to the moment of a tick, through those of others."""
    return tab.page.evaluate(MOVE, [[ticks[each] for each in (*through, to)], to + 2])


def moves(tab, ticks, what):
    """Far and near moves; the first is to where nothing was looked at before."""
    print(f"{what}, the first move".ljust(46), f"{go(tab, ticks, 50):7.1f} ms")
    anywhere = random.Random(1).sample([each for each in range(98) if each != 50], MOVES)
    report(f"{what}, a move to anywhere", [go(tab, ticks, each) for each in anywhere], 100)
    go(tab, ticks, 0)
    report(f"{what}, a move to the next", [go(tab, ticks, each) for each in range(1, MOVES)], 100)
    times = [go(tab, ticks, 20 + n, through=range(90 - n, 30, -1)) for n in range(DRAGS)]
    report(f"{what}, a drag through 60, its last move", times)
    tab.page.locator(".hn-dash").get_by_text("back to now").click()


def load_all(tab):
    """Let the log show all that happened."""
    tab.page.evaluate(LOAD_ALL)


def main():
    with notebook([SET_UP, SHOW]) as tab:
        run_cell(tab, 0, ".jp-OutputArea-output")
        ticks = json.loads(tab.page.locator(".jp-OutputArea-output").first.inner_text())
        run_cell(tab, 1, ".hn-entry")
        report("opening", [run_cell(tab, 1, ".hn-entry") for _ in range(OPENINGS)], 1000)
        load_all(tab)
        moves(tab, ticks, "all folded")
        dashboard = tab.page.locator(".hn-dash")
        dashboard.get_by_role("treeitem").filter(has_text="a-large").click()
        dashboard.get_by_role("treeitem").filter(has_text="items {").click()
        dashboard.get_by_text("9,900 more").wait_for()
        moves(tab, ticks, "100 orders unfolded")
        if tab.console_errors:
            sys.exit("\n".join(tab.console_errors))


if __name__ == "__main__":
    main()
