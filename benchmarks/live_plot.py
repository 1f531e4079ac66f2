"""A live plot in JupyterLab at ten commits a second: the kernel's work, and the page's memory.

Run it with ``python benchmarks/live_plot.py [--minutes 5]``; it needs Chromium, as the browser tests do.
Another process makes the commits, so that the kernel works for the plot alone.
"""

import argparse
import subprocess
import sys
import time

from in_lab import draw_all, heap, notebook, run_cell

from tests.browser.conftest import IDLE

RATE, LOOK = 10, 30
SET_UP = """
import time
import happen_nb as happen
space = happen.connect(name="plotted", fresh=True)
room = space.create_node("room", initial={"temp": 20.0, "status": "calm"})
"""
PLOT = "plot = room.state.live_plot('temp', 'status', window='1min'); plot"
PLOT_CELL, CLOCKS_CELL = 1, 2
PEER = f"""
import math, time
import happen_nb as happen
space = happen.connect(name="plotted")
room, begun = space.create_node("room"), time.monotonic()
for number in range(10**9):
    time.sleep(max(0, begun + number / {RATE} - time.monotonic()))
    status = "busy" if number // 100 % 2 else "calm"
    room.state.set({{"temp": round(20 + 5 * math.sin(number / 40), 2), "status": status}})
"""
CLOCKS = "print(time.perf_counter(), time.process_time())"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--minutes", type=float, default=5)
    minutes = arguments.parse_args().minutes
    with notebook([SET_UP, PLOT, CLOCKS]) as tab:
        draw_all(tab)
        run(tab, 0)
        peer = subprocess.Popen([sys.executable, "-c", PEER], env=tab.lab.env)
        try:
            time.sleep(5)
            begun = clocks(tab)
            time.sleep(30)
            print(f"kernel without a plot     {share(begun, clocks(tab)):5.1%} of a core", flush=True)
            run_cell(tab, PLOT_CELL, ".hn-plot svg path")
            time.sleep(65)
            begun, memory = clocks(tab), [heap(tab)]
            until = time.monotonic() + 60 * minutes
            while time.monotonic() < until:
                time.sleep(LOOK)
                memory.append(heap(tab))
                print(f"page {memory[-1][0]:6.1f} MB, {memory[-1][1]:,} nodes", flush=True)
            print(f"kernel with a plot        {share(begun, clocks(tab)):5.1%} of a core   bar 5 %")
            print(f"page {memory[0][0]:.1f} MB to {memory[-1][0]:.1f} MB in {minutes:g} minutes")
            print(f"nodes {memory[0][1]:,} to {memory[-1][1]:,}")
        finally:
            peer.kill()
            peer.wait()


def run(tab, at):
    tab.page.evaluate("at => { jupyterapp.shell.currentWidget.content.activeCellIndex = at }", at)
    tab.command("notebook:run-cell")
    tab.page.wait_for_function(IDLE)


def clocks(tab):
    """Seconds that have passed, and that the kernel has worked, as the kernel measures them."""
    run(tab, CLOCKS_CELL)
    text = (
        tab.page.locator(".jp-Notebook .jp-CodeCell")
        .nth(CLOCKS_CELL)
        .locator(".jp-OutputArea-output")
        .inner_text()
    )
    return [float(each) for each in text.split()]


def share(before, after):
    return (after[1] - before[1]) / (after[0] - before[0])


if __name__ == "__main__":
    main()
