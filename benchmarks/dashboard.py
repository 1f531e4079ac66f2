"""A dashboard in JupyterLab over 200 nodes, 10,000 events and 1.4 MB: opening it, and going back in time.

Run it with ``python benchmarks/dashboard.py``; it needs Chromium, as the browser tests do, and takes a
minute.
What is timed ends when it is painted: an opening begins with sending the cell, a move with the slider's
input. Beside it stands how many round trips of a trivial cell it takes, which were timed by turns.
"""

import json
import os
import random
import sys
from itertools import count

from in_lab import notebook, report, round_trip, run_cell

OPENINGS, MOVES, DRAGS, TRIVIAL = 9, 40, 7, 2
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


def go(tab, ticks, to, through=()):
    """Move the slider to the moment of a tick, through those of others."""
    return tab.page.evaluate(MOVE, [[ticks[each] for each in (*through, to)], to + 2])


def moves(tab, ticks, what, numbers):
    """Far and near moves; the first is to where nothing was looked at before."""
    report(f"{what}: the first move", [go(tab, ticks, 50)] * 2)
    anywhere = random.Random(1).sample([each for each in range(98) if each != 50], MOVES)
    by_turns(tab, ticks, f"{what}: a move to anywhere", anywhere, numbers)
    by_turns(tab, ticks, f"{what}: a move there again", anywhere, numbers)
    go(tab, ticks, 0)
    by_turns(tab, ticks, f"{what}: a move to the next", range(1, MOVES), numbers)
    times = [go(tab, ticks, 20 + n, through=range(90 - n, 30, -1)) for n in range(DRAGS)]
    report(f"{what}: the last move of a drag of 60", times)
    tab.page.locator(".hn-dash").get_by_text("back to now").click()


def by_turns(tab, ticks, what, where, numbers):
    """Moves and trivial cells by turns, so that both meet the same machine."""
    pairs = [(go(tab, ticks, each), round_trip(tab, TRIVIAL, next(numbers))) for each in where]
    report(what, *zip(*pairs, strict=True), bar=100)


def load_all(tab):
    """Let the log show all that happened."""
    tab.page.evaluate(LOAD_ALL)


def main():
    with notebook([SET_UP, SHOW, "0"]) as tab:
        run_cell(tab, 0, ".jp-OutputArea-output")
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        ticks = json.loads(tab.page.locator(".jp-OutputArea-output").first.inner_text())
        run_cell(tab, 1, ".hn-entry")
        numbers = count(1000)
        pairs = [
            (run_cell(tab, 1, ".hn-entry"), round_trip(tab, TRIVIAL, next(numbers))) for _ in range(OPENINGS)
        ]
        report("opening", *zip(*pairs, strict=True), bar=1000)
        load_all(tab)
        moves(tab, ticks, "all folded", numbers)
        dashboard = tab.page.locator(".hn-dash")
        dashboard.get_by_role("treeitem").filter(has_text="a-large").click()
        dashboard.get_by_role("treeitem").filter(has_text="items {").click()
        dashboard.get_by_text("9,900 more").wait_for()
        moves(tab, ticks, "100 orders unfolded", numbers)
        if tab.console_errors:
            sys.exit("\n".join(tab.console_errors))


if __name__ == "__main__":
    main()
