"""A recording of 1,000 events and 1,000 commits: its size, opening it in Chromium, and playing it.

Run it with ``python benchmarks/recording.py``; it needs Chromium, as the browser tests do, and takes half a
minute. The times are those of the page's main thread, without what it waits for.
"""

import tempfile
from pathlib import Path
from statistics import median

from playwright.sync_api import sync_playwright

import happen_nb as happen
from tests.browser.conftest import FLAGS, find_chromium

EVENTS, OPENINGS, PLAYED_MS = 1_000, 5, 3_000
PLAY_FAST = """played => new Promise(done => {
    document.querySelector("#speeds").lastElementChild.click();
    document.querySelector("#play").click();
    const start = performance.now();
    let frames = 0;
    const next = () => {
        if (performance.now() - start > played) return done(frames);
        frames++;
        requestAnimationFrame(next);
    };
    requestAnimationFrame(next);
})"""


def record(file):
    """Let 1,000 events change four nodes, and record that."""
    with happen.connect(store=":memory:", name="recorded") as space:
        orders = {f"o{n}": {"status": "new"} for n in range(50)}
        nodes = [space.create_node(f"stock{n}", initial={"orders": orders}) for n in range(4)]

        def ship(state, event):
            order = ("orders", event.payload["id"])
            return happen.put(order, {"status": "sent", "n": event.payload["n"]})(state)

        for node in nodes:
            node.state.on(f"order.{node.name}", ship)
        for number in range(EVENTS):
            space.broadcast(f"order.stock{number % 4}", {"id": f"o{number % 50}", "n": number})
        space.settle(timeout=120)
        return space.record(file)


def busy(session):
    """Seconds for which the page's main thread has worked."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(each["value"] for each in metrics if each["name"] == "TaskDuration")


def open_and_play(browser, file):
    """Return milliseconds of work until it is drawn, and for each frame while it plays."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(file.as_uri())
    page.locator("body[data-ready]").wait_for()
    page.evaluate("() => new Promise(requestAnimationFrame)")
    drawn = busy(session)
    frames = page.evaluate(PLAY_FAST, PLAYED_MS)
    played = busy(session) - drawn
    page.close()
    return 1000 * drawn, 1000 * played / frames


def main():
    """Record, open and play."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        recording = record(Path(folder, "recording.html"))
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        turns = [open_and_play(browser, recording.path) for _ in range(OPENINGS)]
        browser.close()
    drawn, frame = (median(each) for each in zip(*turns, strict=True))
    print(
        f"{recording}\n{recording.bytes:,} bytes, drawn after {drawn:.0f} ms, {frame:.1f} ms for each frame"
    )


if __name__ == "__main__":
    main()
