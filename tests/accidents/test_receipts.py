"""Receipts: what each cell caused, below it, in a real kernel."""

from __future__ import annotations

import itertools

import pytest

from tests.accidents.kernels import SAY_WHEN_IT_WAITS, Kernel

HANDLERS = """\
@stock.on("order.*")
def book(event):
    stock.state.set(happen.put("n", lambda n: n - 1))

@stock.on("bad")
def bad(event):
    raise ValueError("no such thing")
"""
GATE = """\
import threading
gate = threading.Event()

@stock.on("slow")
def slow(event):
    gate.wait(60)
"""
THREAD = """\
import threading
thread = threading.Thread(target=space.broadcast, args=["order.paid"])
thread.start()
thread.join()
"""
BROKEN = """\
class Broken(Exception):
    def __str__(self):
        raise RuntimeError("no text")

@stock.on("broken")
def broken(event):
    raise Broken

@stock.on("huge")
def huge(event):
    raise ValueError("7;" * 500_000)
"""
_count = itertools.count()


@pytest.fixture
def receipts(shared_kernel: Kernel):
    """A kernel with receipts, and a node `stock` that handles orders."""
    shared_kernel.do(
        f"space = happen.connect(name='receipts_{next(_count)}', receipts=True)\n"
        "stock = space.create_node('stock', initial={'n': 3})"
    )
    shared_kernel.do(HANDLERS, cell="handlers")
    yield shared_kernel
    shared_kernel.do("space.drop()")


def test_a_cell_shows_what_it_caused_once_that_is_done(receipts: Kernel) -> None:
    run = receipts.do("space.broadcast('order.paid')\nstock.state.set({'n': 9})\nNone")

    receipt = run.shown[0].splitlines()
    assert receipt[:2] == ["1 event, 2 commits", "  order.paid  notebook → stock"]
    assert receipt[2].startswith("    stock revision")
    assert receipt[3].startswith("  stock revision")


def test_it_is_one_line_that_unfolds(receipts: Kernel) -> None:
    run = receipts.do("space.broadcast('order.paid')\nNone")

    (html,) = [m["content"]["data"]["text/html"] for m in run.messages if m["msg_type"] == "display_data"]
    assert html.count("<details>") == 1
    assert '<summary><span class="p">1 event</span>, <span class="p">1 commit</span></summary>' in html


def test_a_cell_that_causes_nothing_shows_nothing(receipts: Kernel) -> None:
    assert receipts.do("1 + 1").shown == []
    assert receipts.do("stock.state.set(lambda state: state)\nNone").shown == []


def test_failures_and_unhandled_events_are_counted(receipts: Kernel) -> None:
    run = receipts.do("space.broadcast('bad')\nspace.broadcast('unknown')\nNone")

    receipt = run.shown[-1].splitlines()
    assert receipt[0] == "2 events, 1 failure, 1 unhandled"
    assert "    ! stock bad  ValueError: no such thing" in receipt


def html_of(run) -> str:
    (html,) = [m["content"]["data"]["text/html"] for m in run.messages if m["msg_type"] == "display_data"]
    return html


def test_an_event_that_nobody_needs_to_handle_is_no_error(receipts: Kernel) -> None:
    assert '<span class="p">1 unhandled</span>' in html_of(receipts.do("space.broadcast('stock.low')\nNone"))


def test_an_event_that_a_pattern_misses_by_a_typo_is_marked(receipts: Kernel) -> None:
    run = receipts.do("space.broadcast('ordr.paid')\nNone")
    assert run.shown[-1].splitlines()[0] == "1 event, 1 unhandled (nearly matches order.*)"
    assert '<span class="e">1 unhandled (nearly' in html_of(run)


def test_facts_are_not_counted_as_unhandled(receipts: Kernel) -> None:
    run = receipts.do("space.facts.add('*.low')\nspace.broadcast('stock.low')\nNone")
    assert run.shown[-1].splitlines()[0] == "1 event"


def test_a_handler_with_a_broken_message_leaves_the_receipt_readable(receipts: Kernel) -> None:
    receipts.do(BROKEN)
    run = receipts.do("space.broadcast('broken')\nspace.broadcast('huge')\nspace.settle()\nNone")
    receipt = run.shown[-1]
    assert receipt.startswith("2 events, 2 failures\n")
    assert len(receipt) < 10_000
    assert len(html_of(run)) < 100_000


def test_a_cell_that_raises_shows_it_too(receipts: Kernel) -> None:
    run = receipts.run("space.broadcast('order.paid')\n1 / 0")

    assert run.error.startswith("ZeroDivisionError")
    assert run.shown[0].startswith("1 event, 1 commit\n")


@pytest.mark.parametrize(
    "code",
    [
        "await space.abroadcast('order.paid')\nNone",
        "%%time\nspace.broadcast('order.paid')\nNone",
        "%%capture\nspace.broadcast('order.paid')",
        THREAD,
    ],
    ids=["await", "time", "capture", "thread"],
)
def test_cells_of_all_kinds_have_one(receipts: Kernel, code: str) -> None:
    shown = [text for text in receipts.do(code).shown if text.startswith("1 event")]

    assert [text.splitlines()[0] for text in shown] == ["1 event, 1 commit"]


def test_a_cell_that_is_run_again_tells_what_changed(receipts: Kernel) -> None:
    assert receipts.do(HANDLERS, cell="handlers").shown == ["2 registrations replaced"]
    receipts.do("space.broadcast('order.paid', id='o1')\nNone", cell="once")

    assert receipts.do("space.broadcast('order.paid', id='o1')\nNone", cell="once").shown == [
        "1 already stored"
    ]


def test_what_an_earlier_cell_left_running_is_not_waited_for(receipts: Kernel) -> None:
    receipts.do(GATE + "happen.connect(name=space.name, receipts=False)\nspace.broadcast('slow')")
    receipts.do("happen.connect(name=space.name, receipts=True)")
    receipts.do(
        "till = space.create_node('till')\ntill.on('sold', lambda event: till.state.set({'n': 1}))\nNone"
    )
    run = receipts.do("space.broadcast('sold')\nNone")
    receipts.do("gate.set()\nspace.settle()")

    assert run.shown == ["1 event, 1 commit\n  sold  notebook → till\n    till revision 1  + n  1"]


@pytest.mark.parametrize("call", ["space.broadcast('slow')", "await space.abroadcast('slow')"])
def test_the_stop_button_ends_the_waiting(receipts: Kernel, call: str) -> None:
    receipts.do(f"{SAY_WHEN_IT_WAITS}\n{GATE}")
    run = receipts.begin(f"{call}\nsay_when_it_waits('/_api/receipts.py')")
    run.until(lambda run: "it waits" in run.stdout)
    receipts.press_stop()
    run.wait()
    receipts.do("gate.set()\nspace.settle()")

    assert run.shown == ["1 event, wait interrupted\n  slow  notebook → stock running"]
    assert run.error == ""


def test_what_another_kernel_does_meanwhile_is_not_counted(receipts: Kernel, tmp_path) -> None:
    name = receipts.ask("space.name")
    other = Kernel(tmp_path, HAPPEN_STORE=str(receipts.folder / ".happen"))
    try:
        other.do(f"import happen_nb as happen\nother = happen.connect(name={name!r})")
        other.do("import threading\nstop = threading.Event()")
        other.do(
            "def talk():\n    while not stop.wait(0.001):\n        other.broadcast('noise')\n"
            "threading.Thread(target=talk, daemon=True).start()"
        )
        receipts.do("space.wait_for('noise')\nNone")
        run = receipts.do("import time\nspace.broadcast('order.paid')\ntime.sleep(0.1)")
    finally:
        other.do("stop.set()\nother.close()")
        other.end()

    assert run.shown[0].splitlines()[0] == "1 event, 1 commit"


def test_what_follows_in_another_kernel_is_waited_for(receipts: Kernel, tmp_path) -> None:
    name = receipts.ask("space.name")
    other = Kernel(tmp_path, HAPPEN_STORE=str(receipts.folder / ".happen"))
    try:
        other.do(f"import happen_nb as happen, time\nother = happen.connect(name={name!r})")
        other.do(
            "far = other.create_node('far')\n"
            "far.on('ask', lambda event: (time.sleep(0.3), far.state.set({'asked': 1})) and None)\nNone"
        )
        run = receipts.do("space.broadcast('ask')\nNone")
    finally:
        other.do("other.close()")
        other.end()

    assert run.shown == ["1 event, 1 commit\n  ask  notebook → far\n    far revision 1  + asked  1"]


def test_many_are_counted_and_waited_for(receipts: Kernel) -> None:
    run = receipts.do("for number in range(1100):\n    space.broadcast('order.paid', number)")

    assert run.shown == ["1,100 events, too many effects to follow"]
    assert receipts.ask("stock.state.get('n')") == 3 - 1100


def test_without_receipts_nothing_is_shown(receipts: Kernel) -> None:
    receipts.do("happen.connect(name=space.name)\nNone")  # leaves it as it is
    assert receipts.do("space.broadcast('order.paid')\nNone").shown != []
    receipts.do("happen.connect(name=space.name, receipts=False)\nNone")

    assert receipts.do("space.broadcast('order.paid')\nNone").shown == []


def test_a_closed_space_has_none(own_kernel: Kernel) -> None:
    own_kernel.do("space = happen.connect(receipts=True)")
    run = own_kernel.do("space.broadcast('order.paid')\nspace.close()")

    assert run.shown == []
    assert "Error in callback" not in run.output
    assert own_kernel.do("1 + 1").output == ""
