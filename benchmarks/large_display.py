"""A node of 1.4 MB, and timelines of 10,000 events with commits and of 20,000 events of 200 nodes.

Run it with ``python benchmarks/large_display.py``; it needs Chromium, as the browser tests do. It prints how
large the displays are, and how long they take. What is timed in JupyterLab begins with sending the cell, and
ends when it is painted. Processor time is that of the kernel, without the server.
"""

import json
import os
from itertools import count

from in_lab import notebook, report, round_trip, run_cell

SET_UP = """
import json, time
import happen_nb as happen
space = happen.connect(name="large", fresh=True)
items = {f"o{n}": {"status": "new", "total": n * 1.5, "note": "x" * 100} for n in range(10_000)}
orders = space.create_node("orders", initial={"items": items})

def fill(name, events, nodes, commits):
    space = happen.connect(name=name, fresh=True)
    def add(number):
        node = space.create_node(f"p{number}", initial={"n": 0, "text": "x" * 100})
        commit = lambda event: node.state.set(happen.put("n", event.payload["n"]))
        node.on(f"meet.{number}", commit if commits else (lambda event: None))
    for number in range(nodes):
        add(number)
    space.replay([{"n": n} for n in range(events)], type=lambda row: f"meet.{row['n'] % nodes}").wait()
    space.settle(600)
    return space

busy, wide = fill("busy", 10_000, 10, True), fill("wide", 20_000, 200, False)

def timed(call, times=9, clock=time.perf_counter):
    taken = []
    for _ in range(times):
        begun = clock()
        made = call()
        taken.append((clock() - begun) * 1000)
    return taken, made
"""
MEASURE = """
shown, page = timed(lambda: orders._repr_mimebundle_())
told = {"shown": shown, "page": sum(map(len, page.values()))}
for filled in (busy, wide):
    read, _ = timed(lambda: filled.timeline(limit=20_000).close(), 5)
    worked, _ = timed(lambda: filled.timeline(limit=20_000).close(), 5, time.process_time)
    figure = filled.timeline(limit=20_000)
    drawn, picture = timed(lambda: figure._picture(), 5, time.process_time)
    sizes = {kind: len(json.dumps(each)) for kind, each in picture.items()}
    told[filled.name] = {"read": read, "worked": worked, "drawn": drawn, "sizes": sizes}
figure = busy.timeline(limit=20_000)
print(json.dumps(told))
"""
FIGURE, MADE, REPR, TRIVIAL = 2, 3, 4, 5


def main():
    cells = [SET_UP, MEASURE, "busy.timeline(limit=20_000)", "figure", "orders", "0"]
    with notebook(cells) as tab:
        tab.command("notebook:run-cell")
        run_cell(tab, 1, ".jp-OutputArea-output")
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        told = json.loads(tab.page.locator(".jp-OutputArea-output").first.inner_text())
        report("the representation of a node of 1.4 MB", told["shown"], bar=20)
        print(f"  {told['page'] / 1000:.1f} kB of text and HTML   bar 100 kB")
        for space, what in (("busy", "10,000 events with commits"), ("wide", "20,000 events of 200 nodes")):
            each = told[space]
            report(f"a timeline of {what}, read", each["read"], bar=1500)
            report("  the same, in processor time", each["worked"])
            report("  its static picture, in processor time", each["drawn"])
            print("  " + ", ".join(f"{size / 1000:.0f} kB of {kind}" for kind, size in each["sizes"].items()))
        numbers = count(1000)
        for what, at, wanted, bar in (
            ("the timeline with commits, painted", FIGURE, ".hn-picture svg", 2000),
            ("  one that is made already", MADE, ".hn-picture svg", None),
            ("the node, painted", REPR, ".happen", None),
        ):
            pairs = [(run_cell(tab, at, wanted), round_trip(tab, TRIVIAL, next(numbers))) for _ in range(5)]
            report(what, *zip(*pairs, strict=True), bar=bar)


if __name__ == "__main__":
    main()
