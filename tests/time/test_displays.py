"""Scheduled events and the clock in what a notebook shows."""

import re
import threading

from happen_nb._api.base import bundle_of
from happen_nb._model.schedules import from_ns
from happen_nb._widgets.live_plot import LivePlot


def test_a_scheduled_event_shows_that_it_is(manual):
    event = manual.create_node("orders").broadcast("order.expired", {"id": "o1"}, after=3600)
    assert repr(event).splitlines()[0].startswith("Event order.expired · orders → all · scheduled")
    assert "due 2000-01-01 01:00" in bundle_of(event)["text/html"]


def test_what_is_to_come_is_a_table_by_due_time(manual):
    orders = manual.create_node("orders")
    for hours in (2, 1):
        orders.broadcast("order.expired", {"hours": hours}, after=hours * 3600)
    assert repr(manual.scheduled).splitlines() == [
        "Scheduled in manual · 2 events · to come",
        "  sender  type           payload",
        "  orders  order.expired  {hours: 1}",
        "  orders  order.expired  {hours: 2}",
    ]
    html = bundle_of(manual.scheduled)["text/html"]
    assert list(dict.fromkeys(re.findall(r"0[12]:00:00", html))) == ["01:00:00", "02:00:00"]
    assert list(manual.scheduled.to_frame()["payload.hours"]) == [1, 2]


def test_a_table_of_very_many_is_cut(manual):
    orders = manual.create_node("orders")
    orders.state.set(
        lambda s: {"n": [orders.broadcast("n", "x" * 1000, after=n).type for n in range(1, 200)]}
    )
    bundle = bundle_of(manual.scheduled)
    assert "later" in bundle["text/plain"]
    assert len(bundle["text/html"]) < 100_000


def test_an_advance_shows_counts_and_the_time(manual):
    orders = manual.create_node("orders", initial={})
    orders.on("order.expired", lambda event: orders.state.set({"expired": 1}))
    orders.broadcast("order.expired", after=60)
    advance = manual.advance(hours=1)
    assert repr(advance) == "Advance · 1 event · 1 commit · now 2000-01-01 01:00:00"
    assert "01:00:00" in bundle_of(advance)["text/html"]
    assert repr(manual.advance(to="next")) == "Advance · now 2000-01-01 01:00:00"


def test_a_space_shows_its_time_and_what_is_to_come(manual):
    orders = manual.create_node("orders", initial={})
    orders.broadcast("order.expired", after=3600)
    manual.advance(60)
    head = repr(manual).splitlines()[0]
    assert "at 2000-01-01 00:01:00 · 1 scheduled" in head
    assert (manual.clock, manual.to_come) == ("manual", 1)


def test_a_space_with_a_real_clock_shows_no_time(space):
    space.create_node("orders", initial={}).broadcast("order.expired", after=3600)
    assert "· 1 scheduled" in repr(space).splitlines()[0]
    assert " at " not in repr(space).splitlines()[0]
    assert space.clock == "real"


def test_a_trace_shows_a_delayed_effect(manual):
    orders = manual.create_node("orders")
    orders.on("order.placed", lambda event: orders.broadcast("order.expired", after=60))
    placed = orders.broadcast("order.placed")
    manual.advance(hours=1)
    assert [node.event.type for node in manual.trace(placed)] == ["order.placed", "order.expired"]
    assert "order.expired after 1 min" in repr(manual.trace(placed))


def test_a_trace_on_a_real_clock_shows_a_delay_in_seconds(space, orders, heard, until):
    orders.on("placed", lambda event: orders.broadcast("expired", after=1))
    placed = orders.broadcast("placed")
    until(lambda: "expired" in heard)
    assert re.search(r"expired after [1-9] s", repr(space.trace(placed)))  # the handler begins late, perhaps


def test_a_display_takes_no_turn_of_the_handlers(manual):
    agent, shown, done = manual.create_node("agent", initial={"n": 0}), threading.Event(), threading.Event()

    @agent.state.every(60)
    def count(state, event):
        return {"n": event.payload["n"]}

    def draw(n):
        shown.set()
        done.wait(100)
        return str(n)

    live = agent.state.live("n", render=draw)
    manual.advance(minutes=1)
    assert shown.wait(20)
    try:  # with a second of patience for each, it would take longer than a test may
        manual.advance(minutes=130)
        assert agent.state.get("n") == 131
    finally:
        done.set()
        live.close()


def days(milliseconds):
    return [from_ns(round(ms * 1_000_000)).isoformat(sep=" ")[:16] for ms in milliseconds]


def count_days(manual, number):
    orders = manual.create_node("orders", initial={"n": 0})
    orders.state.every(86_400, lambda state, event: {"n": state["n"] + 1})
    manual.advance(days=number)
    return orders


def test_values_are_drawn_over_the_time_of_the_space(manual):
    orders = count_days(manual, 2)
    manual.advance(hours=6)
    orders.state.set({"n": 9})
    expected = ["2000-01-01 00:00", "2000-01-02 00:00", "2000-01-03 00:00", "2000-01-03 06:00"]
    history = orders.state.history()
    for figure in (history.plot("n"), manual.plot({"n": (orders, "n")})):
        assert figure.layout.xaxis.title.text == "time of the space, UTC"
        assert sorted(set(days(figure.data[0].x)))[:4] == expected
    assert history.plot("n", x="occurred").layout.xaxis.title.text == "when it occurred, UTC"
    assert history.plot("n", x="revision").layout.xaxis.title.text == "revision"


def test_a_history_of_a_closed_space_is_drawn_over_the_time_of_a_real_clock(space):
    history = space.create_node("orders", initial={"n": 0}).state.history()
    space.close()
    figure = history.plot("n")
    assert figure.layout.xaxis.title.text == "time, UTC"
    assert days(figure.data[0].x)[0] == str(history[0].time)[:16]


def test_a_live_plot_follows_the_time_of_the_space(manual, monkeypatch, until):
    monkeypatch.setattr(LivePlot, "send", lambda *_: None)
    orders = count_days(manual, 1)
    plot = orders.state.live_plot("n", window="2d")
    (line,) = plot._lines
    assert days(ms for ms, _ in line.points) == ["2000-01-01 00:00", "2000-01-02 00:00"]
    manual.advance(days=3)
    until(lambda: [value for _, value in line.points] == [2, 3, 4])  # the first holds where the window begins
    assert days([plot._now, line.points[-1][0]]) == ["2000-01-05 00:00"] * 2
