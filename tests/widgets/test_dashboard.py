"""A dashboard's half in the kernel: what it tells the browser, and what it does when asked."""

from __future__ import annotations

import itertools
import json
import re
import time
from pathlib import Path

import pytest

import happen_nb
from happen_nb import _widgets, put
from happen_nb._widgets.dashboard.widget import MAX_CHILDREN, MAX_LOG_ENTRIES, MAX_OPEN, Dashboard
from happen_nb.errors import ClosedError, HistoryGoneError
from tests.display.hostile import PAYLOADS

SCRIPTS = sorted(Path(_widgets.__file__).parent.glob("static/*.js"))


class Browser:
    """The other half: asks, and hears what is told."""

    def __init__(self, space, monkeypatch, until):
        self.told = []
        self._requests = itertools.count(1)
        self._until = until
        monkeypatch.setattr(Dashboard, "send", lambda _, message, buffers=None: self.told.append(message))
        self.dashboard = Dashboard(space)

    def ask(self, do, **message):
        """Ask for something; gives its number."""
        request = next(self._requests)
        self.dashboard._on_message(
            None, {"do": do, "request": request, **json.loads(json.dumps(message))}, []
        )
        return request

    def hears(self, type, **values):
        """The next message of a type with these values; from then on only what comes later counts."""

        def found():
            return [
                (at, each)
                for at, each in enumerate(self.told)
                if each["type"] == type and all(each.get(key) == value for key, value in values.items())
            ]

        self._until(found)
        at, message = found()[0]
        del self.told[: at + 1]
        return json.loads(json.dumps(message))

    def sees(self, what):
        """Wait for a tick with something in it."""
        while True:
            if what(tick := self.hears("tick")):
                return tick

    def open(self, node, *path, limit=100):
        self.ask("open", node=node, path=path, limit=limit)
        return self.hears("children")


@pytest.fixture
def browser(space, orders, monkeypatch, until):
    browser = Browser(space, monkeypatch, until)
    yield browser
    browser.dashboard.close()


def text(line):
    return "".join(part for part, _ in line)


def entries(message):
    return [
        (kind, what, who, to, text(preview or [])) for _, _, kind, _, what, who, to, preview in message["log"]
    ]


def test_a_view_that_opens_is_told_all(space, browser):
    request = browser.ask("hello")
    told = browser.hears("all", request=request)
    assert told["space"] == space.name
    assert [(node["name"], node["revision"], text(node["line"])) for node in told["nodes"]] == [
        ("orders", 1, "{open: 1}")
    ]
    assert entries(told) == [("commit", "orders · 1", None, None, "")]


def test_events_and_commits_are_told_in_their_order_with_what_changed(space, orders, browser):
    orders.on("order.*", lambda event: orders.state.set(put("open", 2)))
    browser.open("orders")
    space.broadcast("order.paid", {"id": "o1"})
    seen = []
    while len(seen) < 2:
        tick = browser.hears("tick")
        seen += entries(tick)
    assert seen == [
        ("event", "order.paid", "notebook", None, '{id: "o1"}'),
        ("commit", "orders · 2", "orders", None, ""),
    ]
    assert [node["name"] for node in tick["nodes"]] == ["orders"]
    assert tick["children"][0]["items"] == [["open", "open", [["2", "num"]], False]]
    assert tick["changed"] == [["orders", [["open"]]]]


def test_the_first_change_after_opening_tells_only_what_changed(space, orders, monkeypatch, until):
    orders.state.set({"open": 1, "items": {"o1": 1}})
    browser = Browser(space, monkeypatch, until)
    browser.ask("hello")
    browser.open("orders")
    orders.state.set(put("open", 2))
    tick = browser.sees(lambda tick: tick["nodes"])
    assert (tick["whole"], tick["changed"]) == (False, [["orders", [["open"]]]])
    browser.dashboard.close()


def test_nodes_of_other_processes_come_and_go(browser, other):
    other.do("stock = space.create_node('stock', initial={'pens': 1})")
    tick = browser.sees(lambda tick: tick["nodes"])
    assert (tick["whole"], [node["name"] for node in tick["nodes"]]) == (True, ["orders", "stock"])
    other.do("stock.delete()")
    tick = browser.sees(lambda tick: tick["whole"])
    assert [node["name"] for node in tick["nodes"]] == ["orders"]


def test_many_changes_are_told_at_most_ten_times_a_second_and_the_last_always(orders, browser):
    begun = time.monotonic()
    for number in range(400):
        orders.state.set({"open": number})
    took = time.monotonic() - begun
    ticks = []
    while not ticks or text(ticks[-1]["nodes"][0]["line"]) != "{open: 399}":
        ticks.append(browser.sees(lambda tick: tick["nodes"]))
    assert len(ticks) <= 2 + 10 * (time.monotonic() - begun + took)
    assert sum(len(tick["log"]) for tick in ticks) >= 400


def test_a_large_state_is_told_by_its_first_children_and_more_when_asked(space, browser):
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


def test_only_so_many_containers_are_followed(browser):
    for number in range(MAX_OPEN + 50):
        browser.ask("open", node="orders", path=[str(number)], limit=100)
    assert len(browser.dashboard._open) == MAX_OPEN


def test_the_log_keeps_so_many_and_earlier_ones_are_read_when_asked(space, orders, monkeypatch, until):
    monkeypatch.setattr("happen_nb._widgets.dashboard.widget.FIRST_WINDOW", 10)
    monkeypatch.setattr("happen_nb._widgets.dashboard.widget.EARLIER_WINDOW", 20)
    for number in range(40):
        space.broadcast(f"e{number}", number)
    browser = Browser(space, monkeypatch, until)
    browser.ask("hello")
    told = browser.hears("all")
    assert told["earlier"]
    seen = [entry[1] for entry in entries(told)]
    while True:
        browser.ask("earlier")
        told = browser.hears("earlier")
        seen = [entry[1] for entry in entries(told)] + seen
        if not told["earlier"]:
            break
    assert seen == ["orders · 1", *(f"e{number}" for number in range(40))]
    assert browser.dashboard._log.maxlen == MAX_LOG_ENTRIES
    browser.dashboard.close()


def test_previews_of_stored_events_are_read_when_they_are_in_sight(space, orders, monkeypatch, until):
    orders.state.set(lambda s: space.broadcast("with.commit", [1, 2]) and {**s, "open": 3})
    event = space.broadcast("alone", {"a": 1})
    browser = Browser(space, monkeypatch, until)
    browser.ask("hello")
    log = browser.hears("all")["log"]
    assert [entry[7] for entry in log if entry[2] == "event"][-1] is None
    browser.ask("previews", positions=[entry[:2] for entry in log if entry[2] == "event"])
    previews = {tuple(position): text(line) for *position, line in browser.hears("previews")["previews"]}
    assert previews[event.sequence, 0] == "{a: 1}"
    assert "[1, 2]" in previews.values()
    browser.dashboard.close()


def test_an_event_and_a_commit_are_told_in_full_when_asked(space, orders, browser):
    event = space.broadcast("order.paid", {"id": "o1", "lines": ["pen", "ink"]})
    commit = orders.state.set({"open": 7})
    browser.ask("detail", sequence=event.sequence, index=0)
    assert '"lines": [\n    "pen",' in browser.hears("detail")["text"]
    browser.ask("detail", sequence=commit.sequence, index=-1)
    assert "open  1 → 7" in browser.hears("detail")["text"]


def test_the_slider_moves_states_to_any_moment_and_back(space, orders, browser):
    first = orders.state.set({"open": 2})
    browser.open("orders")
    orders.state.set({"open": 3})
    stock = space.create_node("stock", initial={"pens": 1})
    browser.ask("at", sequence=first.sequence)
    moment = browser.hears("snapshot", at=first.sequence)
    assert [(node["name"], node["revision"], text(node["line"])) for node in moment["nodes"]] == [
        ("orders", 2, "{open: 2}")
    ]
    assert moment["children"][0]["items"] == [["open", "open", [["2", "num"]], False]]

    request = browser.ask("hello")
    another = browser.hears("all", request=request)
    assert another["past"] == first.sequence
    assert another["nodes"] == moment["nodes"]
    assert another["newest"][:2] == moment["newest"][:2] == [first.sequence, -1]

    stock.state.set({"pens": 5})
    tick = browser.sees(entries)
    assert "nodes" not in tick
    browser.ask("at", sequence=None)
    moment = browser.hears("snapshot", at=None)
    assert [text(node["line"]) for node in moment["nodes"]] == ["{open: 3}", "{pens: 5}"]
    orders.state.set({"open": 4})
    browser.sees(lambda tick: tick["nodes"])


def test_a_state_that_was_trimmed_is_told_as_such(store, monkeypatch, until):
    import happen_nb

    with happen_nb.connect(store=store, name="trimmed_dashboard", fresh=True) as space:
        node = space.create_node("orders", initial={"open": 1})
        first = node.state.set({"open": 2})
        node.state.set({"open": 3})
        gone = HistoryGoneError('node "orders": it is not stored any more')

        async def at(past, position):
            return {"orders": gone}

        monkeypatch.setattr("happen_nb._runtime.snapshots.SnapshotCache.at", at)
        browser = Browser(space, monkeypatch, until)
        browser.ask("at", sequence=first.sequence)
        (told,) = browser.hears("snapshot")["nodes"]
        assert text(told["line"]) == 'HistoryGoneError: node "orders": it is not stored any more'
        browser.open("orders")
        browser.dashboard.close()


def test_it_sends_and_sets_and_tells_what_came_of_it(space, orders, browser):
    orders.on("double", lambda event: event.payload * 2)
    orders.on("fail", lambda event: 1 / 0)

    def act(kind, name, value, node=""):
        request = browser.ask("act", kind=kind, name=name, value=value, node=node)
        while True:
            answer = browser.hears("answer", request=request)
            if "accepted" not in answer["text"]:
                return answer["text"], answer["error"]

    assert act("broadcast", "order.paid", '{"id": "o1"}')[0].startswith("Event order.paid · notebook → all")
    assert act("send", "double", "21", "orders") == ("Reply of orders · double · done\n  42", False)
    told, error = act("send", "fail", "", "orders")
    assert "ZeroDivisionError" in told
    assert error
    told, error = act("set", "limits.open", "5", "orders")
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
        told, error = act(kind, what, value, node)
        assert error, told
        assert why in told


def test_failures_are_told_and_tried_again(space, orders, browser, capsys):
    broken = True

    @orders.on("order")
    def take(event):
        if broken:
            raise ValueError("<b>not now</b>")

    space.broadcast("order")
    space.broadcast("order")
    problems = browser.sees(lambda tick: len(tick.get("failures", ())) == 2)["failures"]
    assert "<b>not now</b>" in text(problems[0]["line"])
    assert "Traceback" in problems[0]["detail"]
    browser.ask("retry", id=problems[0]["id"])
    assert "not now" in browser.hears("failures")["status"]
    broken = False
    browser.ask("retry", id=problems[0]["id"])
    told = browser.hears("failures")
    assert (told["status"], [each["id"] for each in told["failures"]]) == (
        "succeeded",
        [problems[1]["id"]],
    )
    browser.ask("retryAll")
    assert browser.hears("failures")["failures"] == []
    assert len(space.failures) == 0
    capsys.readouterr()


def test_unhandled_events_are_told_with_the_reason_and_handled_late(space, orders, browser):
    space.broadcast("order.payed")
    orders.on("order.paid", lambda event: None)
    browser.ask("unhandled")
    (told,) = browser.hears("unhandled")["unhandled"]
    assert "order.payed" in text(told["line"])
    assert "no owner" in text(told["line"])
    browser.ask("retryUnhandled", id=told["id"])
    assert "no handler" in browser.hears("unhandled")["status"]
    seen = []
    orders.on("order.payed", lambda event: seen.append(event.type))
    browser.ask("retryUnhandled", id=told["id"])
    assert browser.hears("unhandled")["unhandled"] == []
    assert seen == ["order.payed"]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_is_told_can_be_shown_as_it_is(space, orders, browser, payload):
    orders.state.set({payload: {payload: payload}})
    if "\x00" not in payload:
        space.broadcast(payload, {payload: payload})
    browser.ask("hello")
    told = json.dumps(browser.hears("all"), ensure_ascii=False)
    assert "\u202e" not in told
    assert "\x00" not in told


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_script_of_the_dashboard_makes_markup_of_text(script):
    if script.name != "html_pane.js":
        ways = (
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|eval\(|srcdoc"
        )
        assert not re.search(ways, script.read_text("utf-8"))
    assert "http" not in script.read_text("utf-8")


def test_its_twin_is_text_and_html_of_the_states_and_the_newest_events(space, orders, browser, until):
    space.broadcast("order.<b>", {"id": 1})
    until(lambda: "order.<b>" in repr(browser.dashboard))
    assert "orders" in repr(browser.dashboard)
    assert "order.&lt;b&gt;" in browser.dashboard._picture()["text/html"]


def test_200_nodes_and_10_000_entries_are_told_in_bounds(space, browser):
    for number in range(200):
        space.create_node(f"node-{number}", initial={"text": "x" * 1000, "n": number})
    dashboard = browser.dashboard
    entry = [1, 0, "event", 1, "order.paid", "orders", None, [["{id: 1}", ""]]]
    dashboard._log.extend([entry] * MAX_LOG_ENTRIES)
    browser.ask("hello")
    told = browser.hears("all")
    assert len(told["log"]) == MAX_LOG_ENTRIES
    assert len(told["nodes"]) == 201
    assert len(json.dumps(told["nodes"])) < 100_000


def test_closing_ends_all_that_it_follows_by(space, orders, monkeypatch, until, comms):
    browser = Browser(space, monkeypatch, until)
    log = space._log
    listeners = len(log.replica.on_commit), len(log.on_event)
    assert comms() == 2
    browser.dashboard.close()
    assert comms() == 0
    until(lambda: len(log.replica.on_commit) == listeners[0] - 1)
    until(lambda: len(log.on_event) == listeners[1] - 1)


def test_a_view_that_opens_when_the_space_is_closed_is_told_what_was_there_last(store, monkeypatch, until):
    with happen_nb.connect(store=store, name="closed_before_a_view_opens") as space:
        orders = space.create_node("orders", initial={"open": 1})
        browser = Browser(space, monkeypatch, until)
        orders.state.set({"open": 2})
        orders.broadcast("order.paid")

    told = browser.hears("all", request=browser.ask("hello"))
    assert [(node["name"], text(node["line"])) for node in told["nodes"]] == [("orders", "{open: 2}")]
    assert [what for _, what, _, _, _ in entries(told)] == ["orders · 1", "orders · 2", "order.paid"]
    browser.dashboard.close()


def test_a_space_that_closes_leaves_what_is_shown(store, monkeypatch, until):
    with happen_nb.connect(store=store, name="closes_under_a_dashboard") as space:
        node = space.create_node("orders")
        browser = Browser(space, monkeypatch, until)
        node.state.set({"open": 3})
    with pytest.raises(ClosedError):
        Dashboard(space)
    browser.dashboard.close()
