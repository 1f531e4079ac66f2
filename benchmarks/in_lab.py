"""Shared by the benchmarks in JupyterLab: an open notebook, timed cells, and a heap."""

import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.browser.conftest import Watched, browsing, find_chromium, serving
from tests.browser.everything import WHOLE
from tests.browser.test_live_reply import save

RUN_CELL = """async ([at, source, wanted]) => {
    const notebook = jupyterapp.shell.currentWidget.content;
    const cell = notebook.widgets[at];
    if (source !== null) cell.model.sharedModel.setSource(source);
    notebook.activeCellIndex = at;
    cell.model.outputs.clear();
    await new Promise(requestAnimationFrame);
    const outputs = () => [...cell.node.querySelectorAll(".jp-OutputArea-output")];
    const drawn = () => wanted ? cell.node.querySelector(wanted)
        : outputs().some(output => output.textContent.includes(source));  // a warning may stand above it
    const shown = new Promise(done => {
        const watch = new MutationObserver(() => drawn() && (watch.disconnect(), done(performance.now())));
        watch.observe(cell.node, { childList: true, subtree: true, characterData: true });
    });
    const begun = performance.now();
    jupyterapp.commands.execute("notebook:run-cell");
    await shown;
    await new Promise(done => requestAnimationFrame(() => setTimeout(done)));  // it is painted
    return performance.now() - begun;
}"""


@contextlib.contextmanager
def notebook(cells):
    """A notebook with these cells, open in JupyterLab in Chromium."""
    if not find_chromium():
        sys.exit(
            "not run, no Chromium: install it (Debian: apt install chromium fonts-liberation) or set CHROMIUM"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving(folder) as lab, browsing(folder / "profile") as chromium:
            save(lab, "measured.ipynb", cells)
            tab = Watched(chromium.new_page(), lab)
            tab.open("measured.ipynb")
            yield tab
            tab.close()


def draw_all(tab):
    """Draw cells that are out of sight, too: else one that is pushed there is drawn when it is back."""
    tab.page.evaluate(WHOLE)


def run_cell(tab, at, wanted):
    """Milliseconds from the moment that a cell is sent until an element is painted in its output."""
    return tab.page.evaluate(RUN_CELL, [at, None, wanted])


def round_trip(tab, at, number):
    """Milliseconds from the moment that a cell of one number is sent until that number stands below it."""
    return tab.page.evaluate(RUN_CELL, [at, str(number), None])


def heap(tab):
    """The page's JavaScript heap in MB and its DOM nodes, after its garbage was collected."""
    session = tab.page.context.new_cdp_session(tab.page)
    session.send("Performance.enable")
    for _ in range(3):
        session.send("HeapProfiler.collectGarbage")
        time.sleep(0.2)
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    session.detach()
    return metrics["JSHeapUsedSize"] / 1e6, int(metrics["Nodes"])


def spread(times):
    """Median and quartiles of milliseconds, as text."""
    low, middle, high = statistics.quantiles(times, n=4)
    return f"{middle:7.1f} ms ({low:.1f} to {high:.1f})"


def report(what, times, trivial=None, bar=None):
    """Print what was timed, and how many trivial cells that is, which were timed by turns with it."""
    text = f"{what:<40} {spread(times)}"
    if trivial:
        text += f"   / a trivial cell {statistics.median(times) / statistics.median(trivial):.2f}"
    print(text + (f"   bar {bar} ms" if bar else ""), flush=True)
