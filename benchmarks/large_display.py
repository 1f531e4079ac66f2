"""A node of 1.4 MB, and a timeline of 10,000 events: how large their displays are, and how long they take.

Run it with ``python benchmarks/large_display.py``; it needs Chromium, as the browser tests do. What is timed
in JupyterLab begins with sending the cell, and ends when it is painted.
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
nodes = [space.create_node(f"node-{n}") for n in range(10)]
for node in nodes:
    node.on("order.*", lambda event: None)
rows = [{"n": n} for n in range(10_000)]
space.replay(rows, type=lambda row: f"order.t{row['n'] % 7}").wait()
space.settle(120)

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
read, _ = timed(lambda: space.timeline(limit=10_000), 5)
worked, _ = timed(lambda: space.timeline(limit=10_000), 5, time.process_time)
figure = space.timeline(limit=10_000)
drawn, picture = timed(lambda: figure._picture(), 5)
sizes = {kind: len(json.dumps(each)) for kind, each in picture.items()}
page = sum(map(len, page.values()))
told = {"shown": shown, "page": page, "read": read, "worked": worked, "drawn": drawn, "sizes": sizes}
print(json.dumps(told))
"""
FIGURE, MADE, REPR, TRIVIAL = 2, 3, 4, 5


def main():
    cells = [SET_UP, MEASURE, "space.timeline(limit=10_000)", "figure", "orders", "0"]
    with notebook(cells) as tab:
        tab.command("notebook:run-cell")
        run_cell(tab, 1, ".jp-OutputArea-output")
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        told = json.loads(tab.page.locator(".jp-OutputArea-output").first.inner_text())
        report("the representation of a node of 1.4 MB", told["shown"], bar=20)
        print(f"  {told['page'] / 1000:.1f} kB of text and HTML   bar 100 kB")
        report("a timeline of 10,000 events, from the journal", told["read"])
        report("  the same, in processor time", told["worked"])
        report("its static picture", told["drawn"])
        print("  " + ", ".join(f"{size / 1000:.0f} kB of {kind}" for kind, size in told["sizes"].items()))
        numbers = count(1000)
        for what, at, wanted, bar in (
            ("the timeline, painted", FIGURE, ".hn-picture svg", 1000),
            ("  one that is made already", MADE, ".hn-picture svg", None),
            ("the node, painted", REPR, ".happen", None),
        ):
            pairs = [(run_cell(tab, at, wanted), round_trip(tab, TRIVIAL, next(numbers))) for _ in range(5)]
            report(what, *zip(*pairs, strict=True), bar=bar)


if __name__ == "__main__":
    main()
