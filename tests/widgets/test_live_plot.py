"""Plots that move: what they send to the browser, and what they keep."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest

from happen_nb import put
from happen_nb._widgets import live_plot as module
from happen_nb._widgets.live_plot import LivePlot
from happen_nb.errors import ClosedError, PathError, UnknownNodeError
from tests.display.hostile import PAYLOADS


@pytest.fixture
def sent(monkeypatch):
    messages = []

    def send(_, message, buffers=None):
        messages.append(json.loads(json.dumps(message)))

    monkeypatch.setattr(LivePlot, "send", send)
    return messages


def points(sent):
    return [(line, value) for each in sent if each["type"] == "points" for line, _, value in each["points"]]


def everything(plot, sent):
    plot._on_message(None, {"do": "hello"}, [])
    (*_, message) = [each for each in sent if each["type"] == "all"]
    return message


def test_a_view_that_opens_receives_the_stored_values_and_then_each_new_one(orders, sent, until):
    for number in (2, 3):
        orders.state.set({"open": number, "status": "busy"})
    plot = orders.state.live_plot("open", "status", "gone")
    received = everything(plot, sent)
    assert [(name, [value for _, value in line]) for name, line in received["lines"]] == [
        ("open", [1, 2, 3]),
        ("status", [None, "busy"]),
        ("gone", [None]),
    ]
    orders.state.set({"open": 4, "status": "busy"})
    until(lambda: points(sent) == [(0, 4)])
    assert repr(plot) == "Live plot of orders\n  open  4\n  status  busy\n  gone  None"


def test_many_commits_are_sent_at_most_ten_times_a_second_and_always_the_last(orders, sent, until):
    orders.state.live_plot("open")
    begun = time.monotonic()
    for number in range(300):
        orders.state.set({"open": number + 2})
    until(lambda: points(sent)[-1:] == [(0, 301)])
    assert len(points(sent)) == 300
    assert len(sent) <= 3 + 10 * (time.monotonic() - begun)


def test_a_window_forgets_what_is_older_but_for_the_value_that_holds_where_it_begins(orders, sent, until):
    plot = orders.state.live_plot("open", window="0.3s")
    for number in (2, 3, 4):
        orders.state.set({"open": number})
    until(lambda: [value for _, value in everything(plot, sent)["lines"][0][1]] == [4])
    assert everything(plot, sent)["span"] == 300


def test_a_window_moves_on_while_nothing_is_committed(orders, sent, until):
    orders.state.live_plot("open", window=timedelta(seconds=5))
    until(lambda: len([each for each in sent if each["type"] == "points"]) >= 2)
    first, second = [each["now"] for each in sent if each["type"] == "points"][:2]
    assert 500 <= second - first <= 10_000


@pytest.mark.parametrize(
    ("window", "why"), [("1 minute", "a number and a unit"), ("0s", "unit"), (0, "above 0"), (-1, "above 0")]
)
def test_a_wrong_window_is_an_error_that_says_what_to_give(orders, window, why):
    with pytest.raises(ValueError, match=why):
        orders.state.live_plot("open", window=window)


def test_a_line_without_a_window_is_thinned_but_keeps_its_ends_and_extremes(orders, monkeypatch, sent, until):
    monkeypatch.setattr(module, "MAX_POINTS", 100)
    plot = orders.state.live_plot("open")
    values = [each % 7 for each in range(300)]
    values[150], values[-1] = 999, -1
    for value in values:
        orders.state.set({"open": value})
    until(lambda: everything(plot, sent)["lines"][0][1][-1][1] == -1)
    line = [value for _, value in everything(plot, sent)["lines"][0][1]]
    assert len(line) <= 100
    assert line[0] == 1
    assert 999 in line


def test_several_nodes_are_drawn_in_one_plot_and_named_by_title(space, orders, sent, until, other):
    other.do("stock = space.create_node('stock', initial={'pens': 7})")
    until(lambda: "stock" in space.views)
    lines = {"open orders": (orders, "open"), "pens": ("stock", lambda state: state["pens"])}
    plot = space.live_plot(lines, window="1min")
    assert [name for name, _ in everything(plot, sent)["lines"]] == ["open orders", "pens"]
    other.do("stock.state.set({'pens': 6})")
    until(lambda: points(sent) == [(1, 6)])
    figure = space.plot(lines)
    assert [(line.name, line.yaxis, line.showlegend) for line in figure.data] == [
        ("open orders", "y", True),
        ("pens", "y", True),
    ]


@pytest.mark.parametrize(
    ("lines", "error", "why"),
    [
        ({}, TypeError, "map titles"),
        ({"a": "orders.open"}, TypeError, "pass its node and a path"),
        ({"a": ("ordrs", "open")}, UnknownNodeError, "orders"),
        ({"a": ("orders", 3)}, PathError, "path"),
        ({f"line {n}": ("orders", "open") for n in range(30)}, ValueError, "too many"),
    ],
)
def test_a_wrong_line_is_an_error_that_names_it(space, orders, lines, error, why):
    with pytest.raises(error, match=why):
        space.live_plot(lines)
    with pytest.raises(error, match=why):
        space.plot(lines)


def test_a_path_with_a_typo_is_logged_with_the_right_one(orders, sent, caplog):
    orders.state.set({"open": 1})
    orders.state.live_plot("opne")
    orders.state.live_plot("later", lambda state: state["opne"])
    assert caplog.messages == ['live plot of node "orders": nothing at opne; there is open']


def test_without_paths_the_plain_values_at_the_top_are_drawn(orders, sent):
    orders.state.set({"open": 1, "status": "calm", "items": {}})
    assert [name for name, _ in everything(orders.state.live_plot(), sent)["lines"]] == ["open", "status"]
    orders.state.set({"items": {}})
    with pytest.raises(ValueError, match="pass a path"):
        orders.state.live_plot()


def test_an_error_of_a_function_leaves_a_gap_and_becomes_one_failure(space, orders, sent, until, capsys):
    plot = orders.state.live_plot(ratio=lambda state: 1 / state["open"])
    for value in (0, 0, 4):
        orders.state.set(lambda state, value=value: {"open": value, "n": state.get("n", 0) + 1})
    until(lambda: points(sent) == [(0, None), (0, 0.25)])
    (failure,) = space.failures
    assert (failure.node, failure.doing) == ("orders", 'plotting "orders"')
    assert "ZeroDivisionError" in everything(plot, sent)["note"]
    capsys.readouterr()


def test_a_node_that_is_deleted_and_a_space_that_is_cleared_leave_a_gap(space, orders, sent, until):
    plot = orders.state.live_plot("open")
    orders.delete()
    until(lambda: points(sent) == [(0, None)])
    space.create_node("orders", initial={"open": 5})
    until(lambda: points(sent)[1:] == [(0, 5)])
    space.clear()
    until(lambda: points(sent)[2:] == [(0, None)])
    assert repr(plot).endswith("open  None")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_messages_and_the_static_picture_can_be_shown_as_they_are(orders, sent, payload):
    orders.state.set({payload: payload})
    plot = orders.state.live_plot((payload,), a=(payload,))
    received = json.dumps(everything(plot, sent), ensure_ascii=False)
    assert "\u202e" not in received
    assert "\x00" not in received
    shown = plot._picture()["text/html"]
    assert '</style><img src="data:image/svg+xml;base64,' in shown
    assert shown.count("<") == shown.count(">") == 5  # of a box, its style and the image


def test_closing_ends_it_and_frees_what_it_used(store, orders, space, comms, until):
    import happen_nb

    listeners = len(space._log.replica.on_commit)
    plot = orders.state.live_plot("open")
    assert comms() == 2
    plot.close()
    assert comms() == 0
    until(lambda: len(space._log.replica.on_commit) == listeners)
    with happen_nb.connect(store=store, name="closes_under_a_plot") as other:
        node = other.create_node("orders", initial={"open": 1})
        left = node.state.live_plot("open")
        node.state.set(put("open", 2))
    assert repr(left).endswith("open  2")
    with pytest.raises(ClosedError):
        node.state.live_plot("open")
