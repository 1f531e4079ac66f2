"""The kernel's side of a dashboard: the messages that it sends and the requests that it handles."""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from pathlib import Path

import pytest

import happen_nb
from happen_nb import _widgets, put
from happen_nb._widgets.dashboard import MAX_CHILDREN, MAX_LOG_ENTRIES, MAX_OPEN, Dashboard
from happen_nb._widgets.following import CLOSED
from happen_nb.errors import ClosedError, HistoryGoneError
from tests.display.hostile import PAYLOADS

SCRIPTS = sorted(Path(_widgets.__file__).parent.glob("static/*.js"))


class Browser:
    """The browser's side: sends requests and receives messages."""

    def __init__(self, space, monkeypatch, until):
        self.received = []
        self._requests = itertools.count(1)
        self._until = until
        self.shown = {}  # the newest of what ticks have sent
        monkeypatch.setattr(Dashboard, "send", self._receive)
        self.dashboard = Dashboard(space)

    def _receive(self, message, buffers=None):
        self.received.append(message)
        if message["type"] == "tick":
            self.shown |= message

    def request(self, do, **message):
        """Send a request; return its number."""
        request = next(self._requests)
        self.dashboard._on_message(
            None, {"do": do, "request": request, **json.loads(json.dumps(message))}, []
        )
        return request

    def receives(self, type, **values):
        """Return the next message of a type with these values, and skip the messages before it."""

        def found():
            return [
                (at, each)
                for at, each in enumerate(self.received)
                if each["type"] == type and all(each.get(key) == value for key, value in values.items())
            ]

        self._until(found)
        at, message = found()[0]
        del self.received[: at + 1]
        return json.loads(json.dumps(message))

    def receives_tick(self, condition):
        """Return the next tick that satisfies a condition."""
        while True:
            if condition(tick := self.receives("tick")):
                return tick

    def open(self, node, *path, limit=100):
        self.request("open", node=node, path=path, limit=limit)
        return self.receives("children")


@pytest.fixture
def browser(space, orders, monkeypatch, until):
    browser = Browser(space, monkeypatch, until)
    yield browser
    browser.dashboard.close()


def text(line):
    return "".join(part for part, _ in line)


def entries(message):
    return [
        (kind, what, who, to, text(preview or []))
        for _, _, kind, _, what, who, to, preview, _ in message["log"]
    ]


def test_a_view_that_opens_receives_everything(space, browser):
    request = browser.request("hello")
    received = browser.receives("all", request=request)
    assert received["space"] == space.name
    assert [(node["name"], node["revision"], text(node["line"])) for node in received["nodes"]] == [
        ("orders", 1, "{open: 1}")
    ]
    assert entries(received) == [("commit", "orders · 1", None, None, "")]


def test_events_and_commits_are_sent_in_order_with_the_changed_paths(space, orders, browser):
    orders.on("order.*", lambda event: orders.state.set(put("open", 2)))
    browser.open("orders")
    space.broadcast("order.paid", {"id": "o1"})
    seen, changed = [], []
    while len(seen) < 2 or not changed:  # a tick may have a newer state than its log
        tick = browser.receives("tick")
        seen += entries(tick)
        changed += [tick] if tick["changed"] else []
    assert seen == [
        ("event", "order.paid", "notebook", None, '{id: "o1"}'),
        ("commit", "orders · 2", "orders", None, ""),
    ]
    (tick,) = changed
    assert [node["name"] for node in tick["nodes"]] == ["orders"]
    assert tick["children"][0]["items"] == [["open", "open", [["2", "num"]], False]]
    assert tick["changed"] == [["orders", [["open"]]]]


def test_a_dashboard_has_all_of_a_long_type(space, orders, browser):
    long = "order." + "a-part-of-a-long-type." * 9
    space.broadcast(long, after=3600)
    assert long in browser.receives_tick(lambda tick: tick.get("scheduled"))["scheduled"][0]["text"]
    space.broadcast(long)
    assert browser.receives_tick(lambda tick: tick["log"])["log"][0][4] == long
    browser.request("unhandled")
    assert long in browser.receives("unhandled")["unhandled"][0]["line"][0]


def test_the_first_change_after_opening_sends_only_the_changed_nodes(space, orders, monkeypatch, until):
    orders.state.set({"open": 1, "items": {"o1": 1}})
    browser = Browser(space, monkeypatch, until)
    browser.request("hello")
    browser.open("orders")
    orders.state.set(put("open", 2))
    tick = browser.receives_tick(lambda tick: tick["nodes"])
    assert (tick["whole"], tick["changed"]) == (False, [["orders", [["open"]]]])
    browser.dashboard.close()


def test_nodes_of_other_processes_come_and_go(browser, other):
    other.do("stock = space.create_node('stock', initial={'pens': 1})")
    tick = browser.receives_tick(lambda tick: tick["nodes"])
    assert (tick["whole"], [node["name"] for node in tick["nodes"]]) == (True, ["orders", "stock"])
    other.do("stock.delete()")
    tick = browser.receives_tick(lambda tick: tick["whole"])
    assert [node["name"] for node in tick["nodes"]] == ["orders"]


def test_many_changes_are_sent_at_most_ten_times_a_second_and_always_the_last(orders, browser):
    begun = time.monotonic()
    for number in range(400):
        orders.state.set({"open": number})
    took = time.monotonic() - begun
    ticks, newest = [], ""
    # A tick may have a newer state than its log: the next one has the rest.
    while newest != "{open: 399}" or sum(len(tick["log"]) for tick in ticks) < 400:
        ticks.append(browser.receives_tick(lambda tick: tick["nodes"] or tick["log"]))
        newest = text(ticks[-1]["nodes"][0]["line"]) if ticks[-1]["nodes"] else newest
    assert len(ticks) <= 2 + 10 * (time.monotonic() - begun + took)


def test_a_large_state_is_sent_by_its_first_children_and_more_on_request(space, browser):
    orders = {f"order-{n:05}": {"status": "open", "note": "x" * 100} for n in range(10_000)}
    space.create_node("large", initial={"orders": orders})
    root = browser.open("large")
    assert len(json.dumps(root)) < 1_000
    inner = browser.open("large", "orders")
    assert (len(inner["items"]), inner["size"]) == (100, 10_000)
    assert len(browser.open("large", "orders", limit=200)["items"]) == 200
    assert len(browser.open("large", "orders", limit=10**6)["items"]) == MAX_CHILDREN
    deep = browser.open("large", "orders", "order-00042")
    assert [item[1] for item in deep["items"]] == ["status", "note"]
    assert len(json.dumps(inner)) < 30_000


def test_the_number_of_containers_that_are_followed_is_limited(browser):
    for number in range(MAX_OPEN + 50):
        browser.request("open", node="orders", path=[str(number)], limit=100)
    assert len(browser.dashboard._open) == MAX_OPEN


def test_the_log_is_limited_and_earlier_entries_are_read_on_request(space, orders, monkeypatch, until):
    monkeypatch.setattr("happen_nb._widgets.dashboard.FIRST_WINDOW", 10)
    monkeypatch.setattr("happen_nb._widgets.dashboard.EARLIER_WINDOW", 20)
    for number in range(40):
        space.broadcast(f"e{number}", number)
    browser = Browser(space, monkeypatch, until)
    browser.request("hello")
    received = browser.receives("all")
    assert received["earlier"]
    seen = [entry[1] for entry in entries(received)]
    while True:
        browser.request("earlier")
        received = browser.receives("earlier")
        seen = [entry[1] for entry in entries(received)] + seen
        if not received["earlier"]:
            break
    assert seen == ["orders · 1", *(f"e{number}" for number in range(40))]
    assert browser.dashboard._log.maxlen == MAX_LOG_ENTRIES
    browser.dashboard.close()


def test_previews_of_stored_events_are_read_on_request(space, orders, monkeypatch, until):
    orders.state.set(lambda s: space.broadcast("with.commit", [1, 2]) and {**s, "open": 3})
    event = space.broadcast("alone", {"a": 1})
    browser = Browser(space, monkeypatch, until)
    browser.request("hello")
    log = browser.receives("all")["log"]
    assert [entry[7] for entry in log if entry[2] == "event"][-1] is None
    browser.request("previews", positions=[entry[:2] for entry in log if entry[2] == "event"])
    previews = {tuple(position): text(line) for *position, line in browser.receives("previews")["previews"]}
    assert previews[event.sequence, 0] == "{a: 1}"
    assert "[1, 2]" in previews.values()
    browser.dashboard.close()


def test_an_event_and_a_commit_are_sent_in_full_on_request(space, orders, browser):
    event = space.broadcast("order.paid", {"id": "o1", "lines": ["pen", "ink"]})
    commit = orders.state.set({"open": 7})
    browser.request("detail", sequence=event.sequence, index=0)
    assert '"lines": [\n    "pen",' in browser.receives("detail")["text"]
    browser.request("detail", sequence=commit.sequence, index=-1)
    assert "open  1 → 7" in browser.receives("detail")["text"]


def test_the_slider_moves_states_to_any_point_in_time_and_back(space, orders, browser):
    first = orders.state.set({"open": 2})
    browser.open("orders")
    orders.state.set({"open": 3})
    stock = space.create_node("stock", initial={"pens": 1})
    browser.request("at", sequence=first.sequence)
    moment = browser.receives("snapshot", at=first.sequence)
    assert [(node["name"], node["revision"], text(node["line"])) for node in moment["nodes"]] == [
        ("orders", 2, "{open: 2}")
    ]
    assert moment["children"][0]["items"] == [["open", "open", [["2", "num"]], False]]

    request = browser.request("hello")
    another = browser.receives("all", request=request)
    assert another["past"] == first.sequence
    assert another["nodes"] == moment["nodes"]
    assert another["newest"][:2] == moment["newest"][:2] == [first.sequence, -1]

    stock.state.set({"pens": 5})
    tick = browser.receives_tick(entries)
    assert "nodes" not in tick
    browser.request("at", sequence=None)
    moment = browser.receives("snapshot", at=None)
    assert [text(node["line"]) for node in moment["nodes"]] == ["{open: 3}", "{pens: 5}"]
    orders.state.set({"open": 4})
    browser.receives_tick(lambda tick: tick["nodes"])


def test_a_trimmed_state_is_sent_as_an_error(store, monkeypatch, until):
    import happen_nb

    with happen_nb.connect(store=store, name="trimmed_dashboard", fresh=True) as space:
        node = space.create_node("orders", initial={"open": 1})
        first = node.state.set({"open": 2})
        node.state.set({"open": 3})
        gone = HistoryGoneError('node "orders": it is not stored any more')

        async def at(past, position):
            return {"orders": gone}

        monkeypatch.setattr("happen_nb._runtime.replica.SnapshotCache.at", at)
        browser = Browser(space, monkeypatch, until)
        browser.request("at", sequence=first.sequence)
        (received,) = browser.receives("snapshot")["nodes"]
        assert text(received["line"]) == 'HistoryGoneError: node "orders": it is not stored any more'
        browser.open("orders")
        browser.dashboard.close()


def test_it_sends_events_and_sets_states_and_reports_the_results(space, orders, browser):
    orders.on("double", lambda event: event.payload * 2)
    orders.on("fail", lambda event: 1 / 0)

    def act(kind, name, value, node=""):
        request = browser.request("act", kind=kind, name=name, value=value, node=node)
        while True:
            answer = browser.receives("answer", request=request)
            if "accepted" not in answer["text"]:
                return answer["text"], answer["error"]

    assert act("broadcast", "order.paid", '{"id": "o1"}')[0].startswith("Event order.paid · notebook → all")
    assert act("send", "double", "21", "orders") == ("Reply of orders · double · done\n  42", False)
    received, error = act("send", "fail", "", "orders")
    assert "ZeroDivisionError" in received
    assert error
    received, error = act("set", "limits.open", "5", "orders")
    assert orders.state.get("limits.open") == 5
    assert act("set", '["a.b", "c"]', '"x"', "orders")[1] is False
    assert orders.state.get(("a.b", "c")) == "x"
    for kind, what, value, node, why in [
        ("broadcast", "", "", "", "type"),
        ("broadcast", "order", "{a: 1}", "", "the payload is not JSON"),
        ("set", "a", "", "orders", "the value is not JSON"),
        ("set", "open.x", "1", "orders", "open"),
        ("set", "a", "1", "ordrs", "did you mean orders"),
        ("send", "x", "1", "nobody", "nobody"),
        ("set", "a", "NaN", "orders", "nan"),
        ("set", "[1", "1", "orders", "JSON"),
    ]:
        received, error = act(kind, what, value, node)
        assert error, received
        assert why in received


def test_failures_are_listed_and_retried(space, orders, browser, capsys):
    broken = True

    @orders.on("order")
    def take(event):
        if broken:
            raise ValueError("<b>not now</b>")

    space.broadcast("order")
    space.broadcast("order")
    problems = browser.receives_tick(lambda tick: len(tick.get("failures", ())) == 2)["failures"]
    assert "<b>not now</b>" in text(problems[0]["line"])
    assert "Traceback" in problems[0]["detail"]
    browser.request("retry", id=problems[0]["id"])
    assert "not now" in browser.receives("failures")["status"]
    broken = False
    browser.request("retry", id=problems[0]["id"])
    received = browser.receives("failures")
    assert (received["status"], [each["id"] for each in received["failures"]]) == (
        "succeeded",
        [problems[1]["id"]],
    )
    browser.request("retry_all")
    assert browser.receives("failures")["failures"] == []
    assert len(space.failures) == 0
    capsys.readouterr()


def test_unhandled_events_are_listed_with_the_reason_and_retried(space, orders, browser):
    space.broadcast("order.payed")
    orders.on("order.paid", lambda event: None)
    browser.request("unhandled")
    (received,) = browser.receives("unhandled")["unhandled"]
    assert "order.payed" in text(received["line"])
    assert "no owner" in text(received["line"])
    browser.request("retry_unhandled", id=received["id"])
    assert "no handler" in browser.receives("unhandled")["status"]
    seen = []
    orders.on("order.payed", lambda event: seen.append(event.type))
    browser.request("retry_unhandled", id=received["id"])
    assert browser.receives("unhandled")["unhandled"] == []
    assert seen == ["order.payed"]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_messages_can_be_shown_as_they_are(space, orders, browser, payload):
    orders.state.set({payload: {payload: payload}})
    if "\x00" not in payload:
        space.broadcast(payload, {payload: payload})
    browser.request("hello")
    received = json.dumps(browser.receives("all"), ensure_ascii=False)
    assert "\u202e" not in received
    assert "\x00" not in received


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_only_scripts_that_show_what_the_kernel_has_rendered_make_markup(script):
    if script.name not in ("html_pane.js", "live_picture.js"):
        ways = (
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|eval\(|srcdoc"
        )
        assert not re.search(ways, script.read_text("utf-8"))
    assert "http" not in script.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")


def test_its_static_fallback_has_the_states_and_the_newest_events(space, orders, browser, until):
    space.broadcast("order.<b>", {"id": 1})
    until(lambda: "order.<b>" in repr(browser.dashboard))
    assert "orders" in repr(browser.dashboard)
    assert "order.&lt;b&gt;" in browser.dashboard._picture()["text/html"]


def test_messages_stay_bounded_with_200_nodes_and_10_000_entries(space, browser):
    for number in range(200):
        space.create_node(f"node-{number}", initial={"text": "x" * 1000, "n": number})
    dashboard = browser.dashboard
    entry = [1, 0, "event", 1, "order.paid", "orders", None, [["{id: 1}", ""]]]
    dashboard._log.extend([entry] * MAX_LOG_ENTRIES)
    browser.request("hello")
    received = browser.receives("all")
    assert len(received["log"]) == MAX_LOG_ENTRIES
    assert len(received["nodes"]) == 201
    assert len(json.dumps(received["nodes"])) < 100_000


def test_closing_unregisters_all_listeners(space, orders, monkeypatch, until, comms):
    browser = Browser(space, monkeypatch, until)
    log = space._log
    listeners = len(log.replica.on_commit), len(log.on_event)
    assert comms() == 2
    browser.dashboard.close()
    assert comms() == 0
    until(lambda: len(log.replica.on_commit) == listeners[0] - 1)
    until(lambda: len(log.on_event) == listeners[1] - 1)


def test_a_view_that_opens_after_the_space_was_closed_receives_the_last_states(store, monkeypatch, until):
    with happen_nb.connect(store=store, name="closed_before_a_view_opens") as space:
        orders = space.create_node("orders", initial={"open": 1})
        browser = Browser(space, monkeypatch, until)
        orders.state.set({"open": 2})
        orders.broadcast("order.paid")

    received = browser.receives("all", request=browser.request("hello"))
    assert [(node["name"], text(node["line"])) for node in received["nodes"]] == [("orders", "{open: 2}")]
    assert [what for _, what, _, _, _ in entries(received)] == ["orders · 1", "orders · 2", "order.paid"]
    assert CLOSED in browser.dashboard._dom_classes
    browser.dashboard.close()


def test_a_dashboard_that_shows_the_past_of_a_space_shows_its_last_states_when_it_closes(
    store, monkeypatch, until
):
    with happen_nb.connect(store=store, name="closed_while_in_the_past") as space:
        orders = space.create_node("orders", initial={"open": 1})
        browser = Browser(space, monkeypatch, until)
        browser.request("at", sequence=orders.state.history()[0].sequence)
        browser.receives("snapshot")
        orders.state.set({"open": 2})
        space.create_node("stock", initial={"pens": 3})

    shown = browser.receives("snapshot", at=None)
    assert [text(node["line"]) for node in shown["nodes"]] == ["{open: 2}", "{pens: 3}"]
    browser.request("at", sequence=1)  # of a view that does not know yet that it is closed
    received = browser.receives("all", request=browser.request("hello"))
    assert received["past"] is None
    assert [text(node["line"]) for node in received["nodes"]] == ["{open: 2}", "{pens: 3}"]
    browser.dashboard.close()


@pytest.mark.parametrize("asked", [{"do": "previews", "positions": [[1, 0]]}, {"do": "unhandled"}])
def test_a_view_of_a_closed_space_that_asks_for_more_hears_calmly_that_it_is_closed(
    store, monkeypatch, until, asked
):
    with happen_nb.connect(store=store, name="closed_and_asked") as space:
        browser = Browser(space, monkeypatch, until)

    answer = browser.receives("answer", request=browser.request(**asked))
    assert (answer["error"], answer["text"]) == (False, "the space is closed")
    browser.dashboard.close()


def test_a_space_that_closes_leaves_what_is_shown(store, monkeypatch, until):
    with happen_nb.connect(store=store, name="closes_under_a_dashboard") as space:
        node = space.create_node("orders")
        browser = Browser(space, monkeypatch, until)
        node.state.set({"open": 3})
        browser.receives_tick(lambda tick: [text(node["line"]) for node in tick["nodes"]] == ["{open: 3}"])
    assert [message for message in browser.received if message.get("nodes") or message.get("whole")] == []
    with pytest.raises(ClosedError):
        Dashboard(space)
    browser.dashboard.close()


def test_the_changes_of_commits_are_sent_on_request_new_or_old(space, orders, monkeypatch, until):
    old = orders.state.set({"open": 2})
    browser = Browser(space, monkeypatch, until)
    new = orders.state.set({"open": 5, "note": "<b>"})
    gone = orders.delete() or space.journal()[-1]
    browser.receives_tick(lambda tick: any(entry[0] == gone.sequence for entry in tick["log"]))
    browser.request("previews", positions=[[each.sequence, -1] for each in (old, new, gone)])
    lines = {sequence: text(line) for sequence, _, line in browser.receives("previews")["previews"]}
    assert lines == {old.sequence: "~ open  1 → 2", new.sequence: "~ open, + note", gone.sequence: "deleted"}
    browser.dashboard.close()


def test_then_is_compared_with_now(space, orders, browser):
    then = orders.state.set({"open": 2, "gone": True})
    orders.state.set({"open": 7, "new": [1]})
    browser.request("at", sequence=then.sequence)
    browser.receives("snapshot", at=then.sequence)
    browser.request("compare", node="orders")
    received = browser.receives("comparison", node="orders", at=then.sequence)
    rows = [(sign, path, text(line)) for sign, path, line in received["changes"]]
    assert sorted(rows) == [("+", "new", "[1]"), ("-", "gone", "True"), ("~", "open", "2 → 7")]
    assert received["more"] == 0


def test_it_reverts_a_node_and_forks_the_space_from_a_point_in_time(space, orders, browser):
    then = orders.state.set({"open": 2})
    orders.state.set({"open": 7})
    stock = space.create_node("stock", initial={"pens": 1})
    browser.request("at", sequence=then.sequence)
    browser.receives("snapshot", at=then.sequence)
    browser.request("revert", node="orders")
    assert browser.receives("done")["text"] == "orders has the state of revision 2 again, as revision 4"
    assert orders.state.get() == {"open": 2}
    browser.request("revert", node="stock")
    assert 'node "stock" had no state then' in browser.receives("answer", error=True)["text"]
    assert stock.state.get() == {"pens": 1}

    name = f"{space.name[:40]}-what-if"
    browser.request("fork", name=name)
    assert f'happen.connect(name="{name}")' in browser.receives("done")["text"]
    with happen_nb.connect(store=space.server.store, name=name) as forked:
        assert {node: view.get() for node, view in forked.views.items()} == {"orders": {"open": 2}}
        forked.drop()
    browser.request("fork", name="not a name")
    assert "not a name" in browser.receives("answer", error=True)["text"]
    browser.request("at", sequence=None)
    browser.receives("snapshot", at=None)
    browser.request("revert", node="orders")
    assert "go to a point in time first" in browser.receives("answer", error=True)["text"]


def test_the_events_that_wait_for_a_node_are_counted(space, orders, browser):
    gate = threading.Event()
    orders.on("slow", lambda event: gate.wait(30))
    for _ in range(4):
        space.broadcast("slow")
    tick = browser.receives_tick(lambda tick: tick["queues"].get("orders", [0, 0])[1] == 3)
    assert tick["queues"].keys() == {"orders"}
    gate.set()
    space.settle()
    space.broadcast("other")
    browser.receives_tick(lambda tick: not tick["queues"])


# -- pausing -----------------------------------------------------------------------------------------------


def test_it_pauses_steps_and_resumes_and_tells_how_much_waits(space, orders, browser, until):
    orders.on("order.*", lambda event: orders.state.set(put("open", event.payload)))
    browser.request("hello")
    assert browser.receives("all")["pace"] == {"paused": None, "slow": None, "held": 0}
    browser.request("pause")
    browser.receives_tick(lambda tick: tick["pace"]["paused"] == "**")
    for number in (7, 8):
        space.broadcast("order.paid", number)
    tick = browser.receives_tick(lambda tick: tick["pace"]["held"] == 2)
    assert tick["queues"]["orders"][1] == 2
    browser.request("step")
    assert browser.receives("done")["text"] == "orders handled order.paid · 1 commit"
    assert orders.state.get("open") == 7
    until(lambda: browser.shown["pace"]["held"] == 1)  # its tick may come before the answer
    browser.request("resume")
    browser.receives_tick(lambda tick: tick["pace"]["paused"] is None)
    space.settle()
    assert orders.state.get("open") == 8


def test_a_step_of_a_space_that_another_process_has_resumed_is_an_answer(browser):
    request = browser.request("step")
    answer = browser.receives("answer", request=request)
    assert (answer["error"], "is not paused" in answer["text"]) == (True, True)


def test_it_counts_what_waits_in_other_processes(space, browser, other):
    other.do("space.create_node('there').on('order', lambda event: None)")
    space.pause()
    browser.receives_tick(lambda tick: tick["pace"]["paused"] == "**")  # it asks no more than once a second
    space.broadcast("order")
    browser.receives_tick(lambda tick: tick["pace"]["held"] == 1)


# -- what is to come ---------------------------------------------------------------------------------


def due(tick):
    return [(each["text"], each["ms"]) for each in tick.get("scheduled", [])]


def test_what_is_to_come_is_listed_by_due_time_until_it_is_cancelled(space, orders, browser, until):
    browser.request("hello")
    assert (due(browser.receives("all")), browser.dashboard._scheduled.message()["toCome"]) == ([], 0)
    later = orders.broadcast("order.expired", after=7200)
    soon = orders.send("orders", "remind", after=3600).event
    tick = browser.receives_tick(lambda tick: len(due(tick)) == 2)
    assert due(tick) == [
        ("remind · orders → orders", int(soon.due.timestamp() * 1000)),
        ("order.expired · orders", int(later.due.timestamp() * 1000)),
    ]
    assert tick["toCome"] == 2
    assert "to come" in repr(browser.dashboard)
    assert "remind" in repr(browser.dashboard)
    browser.request("cancel_scheduled", id=tick["scheduled"][0]["id"])
    assert browser.receives("done")["text"] == "cancelled"
    until(lambda: [text for text, _ in due(browser.shown)] == ["order.expired · orders"])
    browser.request("cancel_scheduled", id=soon.id)
    assert browser.receives("done")["text"] == "too late: the event is no longer scheduled"
    assert [event.type for event in space.scheduled] == ["order.expired"]


def test_what_was_delivered_is_to_come_no_longer(browser, orders):
    orders.broadcast("order.expired", after=1.5)
    browser.receives_tick(lambda tick: len(due(tick)) == 1)
    tick = browser.receives_tick(lambda tick: tick.get("toCome") == 0)
    assert due(tick) == []


def test_on_a_manual_clock_the_log_has_the_times_of_the_space_too(store, monkeypatch, until):
    with happen_nb.connect(store=store, name="manual", clock="manual", fresh=True) as space:
        orders = space.create_node("orders")
        orders.broadcast("early")
        space.advance(days=1)
        browser = Browser(space, monkeypatch, until)
        request = browser.request("hello")
        received = browser.receives("all", request=request)
        day = 86_400_000
        start = 10_957 * day  # 2000-01-01
        assert [entry[8] for entry in received["log"] if entry[4] == "early"] == [start]
        assert received["now"] == start + day
        space.advance(days=2)
        orders.broadcast("late")
        tick = browser.receives_tick(lambda tick: tick["log"])
        assert [entry[8] for entry in tick["log"]] == [tick["now"]] == [start + 3 * day]
        browser.dashboard.close()


def test_on_a_real_clock_there_is_no_other_time(space, browser):
    request = browser.request("hello")
    received = browser.receives("all", request=request)
    assert received["now"] is None
    assert {entry[8] for entry in received["log"]} == {None}
