"""A reply that ends a cell is followed by the cell's output, in a real kernel."""

from __future__ import annotations

import threading
import time

import nbformat
import pytest
from nbclient import NotebookClient

from happen_nb._display import live_output
from happen_nb._display.live_output import GRACE_SECONDS, MIN_INTERVAL_SECONDS, LiveOutput, publisher
from tests.accidents.kernels import WITHIN, Kernel

WIDGET = "application/vnd.jupyter.widget-view+json"
PICTURES = ("display_data", "update_display_data", "execute_result")

PACK = """
import asyncio, threading
from IPython.display import display
may_go = threading.Semaphore(0)

@orders.on('pack')
def pack(event):
    for done in range(1, 4):
        may_go.acquire()
        yield {'done': done, 'total': 3}
    may_go.acquire()
    if event.payload == 'bad':
        raise ValueError('no box')
    return 'packed'

@orders.on('quick')
def quick(event):
    return 'at once'
"""
STARTED = "Reply of orders · pack · accepted"
PACKED = 'Reply of orders · pack · done\n  "packed"'


@pytest.fixture(scope="module")
def shared_kernel(tmp_path_factory):
    kernel = Kernel(tmp_path_factory.mktemp("kernel"))
    kernel.do("import happen_nb as happen")
    yield kernel
    kernel.end()


@pytest.fixture
def kernel(shared_kernel):
    """A kernel with a node `orders` that packs as far as `may_go` lets it."""
    shared_kernel.do("space = happen.connect(name='live', fresh=True); orders = space.create_node('orders')")
    shared_kernel.do(PACK)
    yield shared_kernel
    shared_kernel.do("may_go.release(99); space.drop()")


def pictures(run):
    """Kind and text of everything that was shown below a cell, in its order."""
    shown = [message for message in run.messages if message["msg_type"] in PICTURES]
    datas = [(message["msg_type"], message["content"]["data"]) for message in shown]
    return [(kind, data["text/plain"]) for kind, data in datas if WIDGET not in data]  # the button is one


def ids(run):
    shown = [message for message in run.messages if message["msg_type"] in PICTURES]
    shown = [message for message in shown if WIDGET not in message["content"]["data"]]
    return {message["content"].get("transient", {}).get("display_id") for message in shown}


def ends(run, text):
    run.until(lambda run: pictures(run) and pictures(run)[-1][1] == text)


def test_a_reply_that_ends_a_cell_is_followed_there_also_while_other_cells_run(kernel):
    cell = kernel.do("space.send('orders', 'pack')")
    assert pictures(cell) == [("display_data", STARTED)]
    others = []
    for done in range(1, 4):
        others.append(kernel.do("may_go.release()"))
        cell.until(lambda run, done=done: f"{done} of 3" in pictures(run)[-1][1])
    others.append(kernel.do("may_go.release()"))
    ends(cell, PACKED)

    assert [kind for kind, _ in pictures(cell)] == ["display_data"] + ["update_display_data"] * 4
    assert [pictures(other) for other in others] == [[]] * 4
    assert len(ids(cell)) == 1


@pytest.mark.parametrize(
    "show",
    [
        "threading.Thread(target=display, args=[reply]).start()",
        "await asyncio.to_thread(display, reply)",
        "display(reply)",
    ],
)
def test_a_reply_can_be_shown_from_any_thread(kernel, show):
    cell = kernel.do(f"reply = space.send('orders', 'pack')\n{show}").until(pictures)
    other = kernel.begin("may_go.release(4); print(reply.result())")  # a plain thread's updates may come here
    other.until(lambda run: PACKED in dict(pictures(cell) + pictures(run)).values())
    assert [kind for kind, _ in pictures(cell) + pictures(other)].count("display_data") == 1
    assert len(ids(cell) | ids(other)) == 1


def test_it_is_followed_while_its_own_cell_still_runs(kernel):
    cell = kernel.do(
        "reply = space.send('orders', 'pack'); display(reply); may_go.release(4); space.settle()"
    )
    ends(cell, PACKED)
    assert other_than_updates(cell) == [("display_data", STARTED)]


def other_than_updates(run):
    return [(kind, text) for kind, text in pictures(run) if kind != "update_display_data"]


def test_an_error_and_a_cancellation_are_the_last_picture(kernel):
    failing = kernel.do("space.send('orders', 'pack', 'bad')")
    kernel.do("may_go.release(4)")
    failing.until(lambda run: "no box" in pictures(run)[-1][1])

    cancelled = kernel.do("reply = space.send('orders', 'pack'); reply")
    kernel.do("reply.cancel(); may_go.release(4)")
    cancelled.until(lambda run: "cancelled" in pictures(run)[-1][1])


@pytest.mark.parametrize("code", ["space.send('orders', 'quick')", "_.result(); _", "display(_)"])
def test_a_finished_reply_is_shown_once_and_the_same_each_time(kernel, code):
    kernel.do("from happen_nb._display import live_output\nlive_output.GRACE_SECONDS = 20")
    try:
        kernel.do("space.send('orders', 'quick')")
        runs = [kernel.do(code) for _ in range(5)]
    finally:
        kernel.do(f"live_output.GRACE_SECONDS = {GRACE_SECONDS}")
    expected = 'Reply of orders · quick · done\n  "at once"'
    for run in runs:
        (shown,) = pictures(run)
        assert shown == ("display_data" if "display" in code else "execute_result", expected)
        assert ids(run) == {None} or "display" in code


def test_a_cell_that_runs_again_follows_its_new_reply_only(kernel):
    first = kernel.do("space.send('orders', 'pack')", cell="a")
    kernel.do("may_go.release()")
    first.until(lambda run: "1 of 3" in pictures(run)[-1][1])
    before = len(pictures(first))

    again = kernel.do("space.send('orders', 'pack')", cell="a")
    kernel.do("may_go.release(7)")
    ends(again, PACKED)
    assert len(pictures(first)) == before
    assert ids(first).isdisjoint(ids(again))


def test_following_leaves_no_thread_behind(kernel):
    kernel.do("replies = [space.send('orders', 'pack') for _ in range(3)]; display(*replies)")
    kernel.do("may_go.release(12); [reply.result() for reply in replies]")
    deadline = time.monotonic() + WITHIN
    while kernel.ask("[t.name for t in threading.enumerate() if t.name == 'happen_nb-live']"):
        assert time.monotonic() < deadline


def test_a_cell_that_waits_for_a_reply_saves_its_last_picture(tmp_path, monkeypatch):
    monkeypatch.setenv("HAPPEN_STORE", ":memory:")
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    connect = (
        "import happen_nb\nspace = happen_nb.connect(name='saved')\norders = space.create_node('orders')\n"
    )
    send = "reply = space.send('orders', 'pack')\ndisplay(reply)\n"
    cells = [connect + PACK]
    for finish in ("may_go.release(4)\nreply.result()", "may_go.release(4)\nawait reply"):
        cells += [send, finish, send + finish]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=WITHIN, kernel_name="python3").execute(cwd=str(tmp_path))
    for cell in (notebook.cells[index] for index in (1, 3, 4, 6)):
        assert cell.outputs[0]["data"]["text/plain"] == PACKED
        assert "packed" in cell.outputs[0]["data"]["text/html"]


class Recorder:
    """A publisher that keeps what it gets, and when."""

    def __init__(self):
        self.shown = []
        self.at = []

    def publish(self, data, *, transient, update):
        self.at.append(time.monotonic())
        self.shown.append((data["text/plain"], update))


class Counter:
    """Counts up to a limit; reports each step."""

    def __init__(self, limit):
        self.limit = limit
        self.number = 0
        self.recorder = Recorder()
        self.live = LiveOutput(lambda: {"text/plain": str(self.number)}, lambda: self.done)

    @property
    def done(self):
        return self.number >= self.limit

    def step(self):
        self.number += 1
        self.live.changed()

    def wait(self):
        deadline = time.monotonic() + WITHIN
        while self.recorder.shown[-1][0] != str(self.limit):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_there_are_at_most_ten_pictures_a_second_and_the_last_one_always():
    counter = Counter(5000)
    counter.live.start(counter.recorder)
    for _ in range(50):
        threading.Event().wait(0.01)
        for _ in range(100):
            counter.step()
    counter.wait()
    gaps = [
        later - earlier for earlier, later in zip(counter.recorder.at, counter.recorder.at[1:], strict=False)
    ]
    assert min(gaps) >= MIN_INTERVAL_SECONDS
    assert counter.recorder.shown[0] == ("0", False)
    assert counter.recorder.shown[-1] == ("5000", True)


def test_the_same_picture_is_not_shown_again():
    counter = Counter(1)
    counter.live.start(counter.recorder)
    for _ in range(3):
        counter.live.changed()
        threading.Event().wait(2 * MIN_INTERVAL_SECONDS)
    counter.step()
    counter.wait()
    assert counter.recorder.shown == [("0", False), ("1", True)]


def test_nothing_follows_after_stop():
    counter = Counter(9)
    counter.live.start(counter.recorder)
    counter.live.stop()
    counter.step()
    threading.Event().wait(2 * MIN_INTERVAL_SECONDS)
    assert counter.recorder.shown == [("0", False)]


def test_the_first_picture_waits_a_moment_for_the_end(monkeypatch):
    assert not Counter(1).live.done_soon()
    monkeypatch.setattr(live_output, "GRACE_SECONDS", 20)
    counter = Counter(1)
    threading.Timer(0.05, counter.step).start()
    assert counter.live.done_soon()


def test_where_nothing_can_be_updated_a_reply_is_shown_as_anything_else(space):
    orders = space.create_node("orders")
    orders.on("quick", lambda event: 1)
    reply = space.send("orders", "quick")
    assert publisher() is None
    with pytest.raises(NotImplementedError):
        reply._ipython_display_()
    reply.result()
    assert repr(reply) == "Reply of orders · quick · done\n  1"
