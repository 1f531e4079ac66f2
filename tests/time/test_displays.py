"""Scheduled events and the clock in what a notebook shows."""

import asyncio
import re
import threading
from datetime import UTC, datetime

import pytest

import happen_nb as happen
from happen_nb._api.base import bundle_of
from happen_nb._journal import slice as slice_module
from happen_nb._journal.slice import ClockReader, clocks_until
from happen_nb._model.schedules import from_ns
from happen_nb._runtime.io import io_thread
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


def test_a_narrow_page_shows_the_days_of_scheduled_events_too(manual):
    orders = manual.create_node("orders")
    for hours in (24, 25):
        orders.broadcast("order.expired", after=hours * 3600)
        orders.broadcast("order.paid")
    assert '<div class="w"><table' in bundle_of(manual.scheduled)["text/html"]
    assert '<div class="w o"><table' in bundle_of(manual.events())["text/html"]


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


def test_an_advance_does_not_count_what_came_before_the_clock_moved(manual):
    orders = manual.create_node("orders", initial={})
    may_go_on = threading.Event()

    @orders.on("order.placed")
    def place(event):
        assert may_go_on.wait(20)
        orders.state.set({"placed": 1})
        orders.broadcast("order.expired", after=60)
        orders.broadcast("order.noted")

    manual.broadcast("order.placed")
    threading.Timer(0.1, may_go_on.set).start()
    advance = manual.advance(hours=1)
    assert (advance.events, advance.commits, advance.failures) == (1, 0, 0)


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


def days_shown(shown):
    """Return the days of the times in the HTML, each once."""
    return list(dict.fromkeys(re.findall(r'datetime="([-\d]+)T', bundle_of(shown)["text/html"])))


DAYS = ["2000-01-01", "2000-01-02", "2000-01-03"]


def test_listings_show_the_time_of_the_space(manual):
    orders = count_days(manual, 1)
    orders.broadcast("order.paid")
    manual.advance(days=1)
    history, journal = orders.state.history(), manual.journal()
    assert days_shown(history) == days_shown(journal) == DAYS
    events, unhandled = manual.events("order.paid"), manual.unhandled
    for paid in (events, events[0], journal.events[-2], unhandled, unhandled[0], history[1]):
        assert days_shown(paid) == DAYS[1:2]


def test_held_events_show_the_time_of_the_space(manual):
    orders = manual.create_node("orders")
    orders.on("order.*", lambda event: None)
    manual.pause("order.*")
    orders.broadcast("order.paid", occurred=datetime(1999, 1, 1, tzinfo=UTC))
    assert days_shown(manual.held) == days_shown(manual.held[0]) == DAYS[:1]


def test_frames_and_attributes_keep_the_time_of_the_server(manual):
    orders = count_days(manual, 1)
    commit, event = orders.state.set({"n": 5}), orders.broadcast("order.paid")
    history, events = orders.state.history(), manual.events("order.paid")
    times = [commit.time, history[-1].time, history.to_frame()["time"].iloc[-1]]
    times += [event.time, events[-1].time, events.to_frame()["time"].iloc[-1]]
    assert {time.year for time in times} == {datetime.now(UTC).year}


def test_who_connects_later_sees_the_time_of_the_space_too(manual, store):
    orders = count_days(manual, 1)
    orders.broadcast("order.paid")
    manual.close()
    with happen.connect(store=store, name="manual", clock="manual") as again:
        assert days_shown(again.journal().commits) == DAYS[:2]
        assert days_shown(again.events("order.paid")) == DAYS[1:2]
        again.clear(force=True)
        again.create_node("orders", initial={"n": 0})
        assert days_shown(again.journal()) == DAYS[1:2]


def test_a_commit_and_an_event_show_the_time_of_the_space_while_it_is_known(manual):
    manual.advance(days=1)
    orders = manual.create_node("orders", initial={"n": 0})
    early, event = datetime(1999, 1, 1, tzinfo=UTC), orders.broadcast("order.paid")
    commit, unchanged = orders.state.set({"n": 1}), orders.state.set({"n": 1})
    assert days_shown(commit) == days_shown(unchanged) == days_shown(event) == DAYS[1:2]
    assert days_shown(orders.broadcast("order.paid", occurred=early)) == ["1999-01-01", *DAYS[1:2]]
    manual.advance(days=1)
    assert days_shown(commit) == days_shown(event) == DAYS[1:2]
    assert days_shown(orders.state.set({"n": 1})) == [str(commit.time.date())]  # of the newest commit


def test_a_trace_with_times_shows_those_of_the_space(manual):
    orders = manual.create_node("orders")
    orders.on("order.placed", lambda event: orders.broadcast("order.expired", after=86_400))
    placed = orders.broadcast("order.placed")
    manual.advance(days=2)
    text = repr(manual.trace(placed, times=True))
    assert re.findall(r"\d{4}-\d\d-\d\d", text) == DAYS[:2]


def test_a_live_value_shows_the_time_of_the_space(manual):
    orders = count_days(manual, 1)
    manual.advance(hours=6)
    live = orders.state.live()
    try:
        assert re.findall(r'datetime="([-\d]+)T', live._picture()["text/html"]) == DAYS[1:2]
    finally:
        live.close()


def test_events_show_their_own_time_only_if_it_differs(manual):
    orders = manual.create_node("orders")
    orders.broadcast("order.paid")
    assert "occurred" not in bundle_of(manual.events())["text/html"]
    orders.broadcast("order.paid", occurred=datetime(1999, 1, 1, tzinfo=UTC))
    assert "occurred" in bundle_of(manual.events())["text/html"]
    assert days_shown(manual.events()) == [*DAYS[:1], "1999-01-01"]


def test_only_a_manual_clock_is_read_and_only_when_it_has_moved(space, manual, monkeypatch):
    reads = []

    def read_clocks(*args, **more):
        reads.append(args)
        return clocks_until(*args, **more)

    monkeypatch.setattr(slice_module, "clocks_until", read_clocks)
    for each in (space, manual):
        node = each.create_node("orders", initial={"n": 0})
        for read in (node.state.history, each.events, each.journal, lambda each=each: each.unhandled):
            read()
        assert len(reads) == (each is manual)
    manual.advance(days=1)
    manual.journal()
    assert len(reads) == 2


def test_a_clock_that_is_read_twice_at_once_is_read_correctly(manual):
    for _ in range(3):
        manual.advance(days=1)
    log, reader = manual._log, ClockReader()

    async def both():
        return await asyncio.gather(*(reader.read(log.stream, log.clock) for _ in range(2)))

    once, again = io_thread().run(both())
    assert len(once.moments) == len(again.moments) == 4
    manual.advance(days=1)
    behind = log.clock._replace(sequence=1)
    moves = io_thread().run(reader.read(log.stream, behind, again=True))
    assert len(moves.moments) == 5


def test_frames_have_the_times_of_a_manual_clock_too(manual):
    heart = manual.create_node("heart", initial={"n": 0})
    heart.every(3600, lambda event: heart.state.set({"n": event.payload["n"]}), id="beat")
    heart.on("rest", lambda _event: None)
    manual.advance(hours=2)
    manual.pause("rest")
    manual.broadcast("rest")
    journal = manual.journal()
    frames = [heart.state.history().to_frame(), journal.commits.to_frame(), journal.events.to_frame()]
    frames += [manual.events().to_frame(), manual.held.to_frame()]
    hours = [[time.hour for time in frame["space_time"]] for frame in frames]
    assert hours == [[0, 1, 2], [0, 1, 2], [1, 2, 2], [1, 2, 2], [2]]


def test_a_plot_compares_two_runs(manual):
    stock = manual.create_node("stock", initial={"n": 0, "step": 1})
    stock.every(3600, lambda _event: stock.state.set(lambda s: {**s, "n": s["n"] + s["step"]}), id="beat")
    with manual.fork("more", handlers=True) as more:
        more.nodes["stock"].state.set(happen.put("step", 5))
        manual.advance(hours=2)
        more.advance(hours=2)
        lines = {"now": (stock, "n"), "more": (more.nodes["stock"], "n")}
        figure = manual.plot(lines)
        assert [list(dict.fromkeys(line.y)) for line in figure.data] == [[0, 1, 2], [0, 5, 10]]
        assert figure.data[0].x[0] == figure.data[1].x[0]
        with pytest.raises(ValueError, match='belongs to the space "more"'):
            manual.live_plot(lines)
        more.drop()
