"""Waiting for events and reading: ``wait_for``, ``events``, ``at``, and views of nodes without commits."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import happen_nb as happen


def later(act, until, space):
    """Do something as soon as somebody waits for events."""
    listening = len(space._log.on_event)

    def wait():
        until(lambda: len(space._log.on_event) > listening)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


# -- wait_for ------------------------------------------------------------------------------------------------


def test_wait_for_gives_the_next_event_of_the_kind(space, orders, until):
    orders.broadcast("order.paid", 0)

    def act():
        orders.broadcast("other")
        orders.broadcast("order.paid", 1)
        orders.broadcast("order.paid", 2)

    thread = later(act, until, space)
    event = space.wait_for("order.*")
    thread.join()
    assert event.payload == 1
    assert not event.pending


def test_wait_for_filters_further(space, orders, until):
    thread = later(lambda: [orders.broadcast("a", n) for n in range(5)], until, space)
    assert space.wait_for("a", lambda event: event.payload > 2).payload == 3
    thread.join()


def test_wait_for_ends_in_time_though_its_filter_is_slow_and_much_has_come(space, orders, until):
    def slow(event):
        time.sleep(0.2)

    thread = later(lambda: [orders.broadcast("a", n) for n in range(100)], until, space)
    with pytest.raises(happen.HappenTimeoutError, match=r"`where` rejected \d of this type"):
        space.wait_for("a", slow, timeout=1.5)
    thread.join()


def test_wait_for_takes_a_predicate(space, orders, until):
    thread = later(lambda: [orders.broadcast(type_) for type_ in ("a", "B", "C")], until, space)
    assert space.wait_for(str.isupper).type == "B"
    thread.join()


def test_wait_for_without_since_ignores_what_is_stored(space, orders):
    orders.broadcast("a")
    with pytest.raises(happen.HappenTimeoutError, match=r'"a" arrived within 0\.05 s; pass since='):
        space.wait_for("a", timeout=0.05)


def test_wait_for_since_gives_the_first_after_it_stored_or_not(space, orders, until):
    events = [orders.broadcast("a", n) for n in range(3)]
    assert space.wait_for("a", since=events[0], timeout=1).payload == 1
    assert space.wait_for("a", since=events[1], timeout=0).payload == 2
    assert space.wait_for("a", since=0, timeout=1).payload == 0
    thread = later(lambda: orders.broadcast("a", 3), until, space)
    assert space.wait_for("a", since=events[2]).payload == 3
    thread.join()


def test_wait_for_since_a_commit_gives_what_rode_on_it(space, orders):
    commit = orders.state.set(lambda s: orders.broadcast("a", 1) and {"n": 1})
    assert space.wait_for("a", since=commit, timeout=1).payload == 1


def test_wait_for_since_one_of_a_commits_events_gives_the_next_of_them(space, orders):
    events = []
    orders.state.set(lambda s: events.extend(orders.broadcast("a", n) for n in range(3)) or {"n": 1})
    assert space.wait_for("a", since=events[0], timeout=1).payload == 1
    assert space.wait_for("a", since=events[1], timeout=1).payload == 2


def test_wait_for_since_a_moment_that_has_not_come_waits_for_what_is_after_it(space, orders, until):
    first = orders.broadcast("a", 0)
    thread = later(lambda: [orders.broadcast("a", n) for n in range(1, 6)], until, space)
    assert space.wait_for("a", since=first.sequence + 3).payload == 4
    thread.join()


def test_wait_for_since_a_pending_event_is_refused(space, orders):
    events = []
    with pytest.raises(ZeroDivisionError):
        orders.state.set(lambda s: events.append(orders.broadcast("a")) or 1 / 0)
    for call in (space.wait_for, space.events):
        with pytest.raises(ValueError, match="pending"):
            call("a", since=events[0])
    for call in (space.at, orders.state.at):
        with pytest.raises(ValueError, match="pending"):
            call(events[0])


def test_what_a_filter_raises_comes_out_of_wait_for(space, orders):
    start = orders.broadcast("start")
    orders.broadcast("a")
    with pytest.raises(ZeroDivisionError):
        space.wait_for("a", lambda event: 1 / 0, since=start)


def test_a_bad_pattern_is_refused_by_wait_for_and_events(space):
    for call in (space.wait_for, space.events):
        with pytest.raises(happen.PatternError):
            call("a{b")


def test_waiting_in_a_plain_handler_works(space, orders, stock, until):
    got = []
    orders.on("go", lambda event: got.append(space.wait_for("answer", since=event).payload))
    space.broadcast("go")
    stock.broadcast("answer", 42)
    space.settle()
    assert got == [42]


def test_it_is_awaited_in_a_loop_and_in_an_async_handler(space, orders):
    got = []

    async def handler(event):
        got.append((await space.await_for("answer", since=event)).payload)

    orders.on("go", handler)

    async def use():
        start = await space.abroadcast("go")
        await space.abroadcast("answer", 42)
        return (await space.await_for("answer", since=start)).payload

    assert asyncio.run(use()) == 42
    space.settle()
    assert got == [42]


# -- events --------------------------------------------------------------------------------------------------


@pytest.fixture
def told(space, orders, stock):
    """Seven events, three of them on commits."""
    events = [orders.broadcast("a.one", {"n": 0})]
    orders.state.set(lambda s: events.append(orders.broadcast("a.two", {"n": 1})) or {"n": 1})

    def two(state):
        events.append(stock.broadcast("b", [2]))
        events.append(orders.broadcast("a.one", {"n": 3, "m": "x"}))
        return {"n": 2}

    stock.state.set(two)
    events.append(space.broadcast("b"))
    events.append(space.broadcast("c", 5))
    events.append(stock.broadcast("a.one", {"n": 6}))
    return events


def ids(events):
    return [event.id for event in events]


def test_events_are_all_in_their_order_newest_last(space, told):
    assert ids(space.events()) == ids(told)
    assert ids(space.events()[-2:]) == ids(told[-2:])
    assert space.events()[0].payload == {"n": 0}


@pytest.mark.parametrize(
    ("pattern", "numbers"),
    [
        ("a.*", [0, 1, 3, 6]),
        ("b", [2, 4]),
        ("{b,c}", [2, 4, 5]),
        ("nothing", []),
        (lambda t: t < "b", [0, 1, 3, 6]),
    ],
)
def test_events_of_a_pattern(space, told, pattern, numbers):
    assert ids(space.events(pattern)) == [told[n].id for n in numbers]


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 100])
def test_a_limit_keeps_the_newest(space, told, limit):
    assert ids(space.events(limit=limit)) == ids(told[max(0, len(told) - limit) :])
    assert ids(space.events("a.*", limit=limit)) == ids([told[n] for n in (0, 1, 3, 6)][max(0, 4 - limit) :])


def test_since_takes_an_event_a_commit_a_moment_or_a_sequence(space, orders, stock, told):
    for n, event in enumerate(told):
        assert ids(space.events(since=event)) == ids(told[n + 1 :])
    commit = stock.state.history()[-1]
    assert ids(space.events(since=commit)) == ids(told[2:])
    assert ids(space.events(since=commit.sequence)) == ids(told[4:])
    assert ids(space.events(since=0)) == ids(told)
    assert ids(space.events(since=told[4].time)) in (ids(told[4:]), ids(told[5:]))
    assert ids(space.events(since=datetime.now(UTC) - timedelta(hours=1))) == ids(told)
    assert ids(space.events(since=datetime.now() + timedelta(hours=1))) == []  # noqa: DTZ005 - local time
    assert ids(space.events("a.*", since=told[1], limit=1)) == [told[6].id]


@pytest.mark.parametrize("wrong", ["yesterday", 1.5, True, object()])
def test_a_since_that_is_no_moment_is_refused(space, told, wrong):
    with pytest.raises(TypeError):
        space.events(since=wrong)


def test_a_negative_limit_is_refused(space):
    with pytest.raises(ValueError, match="limit"):
        space.events(limit=-1)


def test_events_are_awaited_too(space, told):
    assert ids(asyncio.run(space.aevents("b", limit=1))) == [told[4].id]


def test_a_frame_has_one_row_an_event_and_one_column_a_key(space, told):
    frame = space.events().to_frame()
    assert frame.index.name == "sequence"
    assert list(frame.index) == [event.sequence for event in told]
    assert list(frame.columns) == [
        "time",
        "type",
        "sender",
        "id",
        "cause",
        "correlation",
        "payload.n",
        "payload.m",
        "payload",
    ]
    assert isinstance(frame["time"].dtype, pd.DatetimeTZDtype)
    assert str(frame["time"].dt.tz) == "UTC"
    assert list(frame["type"]) == [event.type for event in told]
    assert list(frame["sender"]) == ["orders", "orders", "stock", "orders", "notebook", "notebook", "stock"]
    assert frame["payload.m"].dropna().tolist() == ["x"]
    assert frame["payload"].dropna().tolist() == [[2], 5]


def test_a_frame_without_flattening_has_the_payloads(space, told):
    frame = space.events().to_frame(flatten=False)
    assert frame["payload"].tolist() == [{"n": 0}, {"n": 1}, [2], {"n": 3, "m": "x"}, None, 5, {"n": 6}]


@pytest.mark.parametrize(
    ("times", "dtype"),
    [
        (["2024-05-01T12:00", None], "datetime64[us]"),
        (["2024-05-01T12:00+02:00", "2024-07-01T12:00-05:00", None], "datetime64[us, UTC]"),
        (["2024-05-01T12:00", "2024-05-01T12:00+02:00"], "object"),
    ],
)
def test_a_frame_has_the_event_times_as_they_were_given(space, times, dtype):
    space.broadcast("other")
    assert "occurred" not in space.events().to_frame()
    for each in times:
        space.broadcast("row", occurred=each)
    for frame in (space.events("row").to_frame(), space.journal().to_frame().query("type == 'row'")):
        assert [None if pd.isna(found) else found for found in frame["occurred"]] == [
            None if each is None else datetime.fromisoformat(each) for each in times
        ]
        assert frame["occurred"].dtype == dtype


def test_an_empty_frame_has_the_same_kind_of_times_as_another_one(space, orders):
    empty = [space.events().to_frame(), orders.state.history().to_frame(), space.scheduled.to_frame()]
    orders.broadcast("seen")
    orders.state.set({"n": 1})
    orders.broadcast("due", after=1000)
    filled = [space.events().to_frame(), orders.state.history().to_frame(), space.scheduled.to_frame()]
    for before, now in zip(empty, filled, strict=True):
        assert before["time"].dtype == now["time"].dtype
        assert len(pd.merge_asof(now, before[["time"]], on="time")) == 1
    assert empty[2]["due"].dtype == filled[2]["due"].dtype


def test_an_empty_frame_has_its_columns(space):
    frame = space.events().to_frame()
    assert len(frame) == 0
    assert list(frame.columns[:6]) == ["time", "type", "sender", "id", "cause", "correlation"]
    assert isinstance(frame["time"].dtype, pd.DatetimeTZDtype)


def test_the_newest_of_a_rare_kind_are_whole_and_in_order(space):
    rows = [{"n": number} for number in range(1_600)]
    space.replay(rows, type=lambda row: "common" if row["n"] % 5 else "rare").wait()
    assert [event.payload for event in space.events("rare", limit=300)] == rows[100::5]


def test_a_thousand_events_are_read_in_order_and_limited(space, orders):
    for n in range(100):
        orders.state.set(lambda s, n=n: [orders.broadcast("a", 10 * n + k) for k in range(10)] and {"n": n})
    assert [event.payload for event in space.events()] == list(range(1000))
    assert [event.payload for event in space.events(limit=300)] == list(range(700, 1000))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3)), max_size=8), st.data())
def test_any_reading_is_what_a_plain_list_says(space, orders, script, data):
    start = orders.broadcast("start")
    told = []

    def tell(state, kind, count, n):
        told.extend(orders.broadcast(kind, k) for k in range(count))
        return {"n": n}

    for n, (kind, count) in enumerate(script):
        if count:
            orders.state.set(lambda s, kind=kind, count=count, n=n: tell(s, kind, count, n))
        else:
            told.append(orders.broadcast(kind))
    after = data.draw(st.integers(-1, len(told) - 1))
    limit = data.draw(st.none() | st.integers(0, 10))
    kind = data.draw(st.sampled_from(["a", "b", "**"]))

    expected = [event for event in told[after + 1 :] if kind in ("**", event.type)]
    expected = expected if limit is None else expected[max(0, len(expected) - limit) :]
    since = start if after < 0 else told[after]
    assert ids(space.events(kind, since=since, limit=limit)) == ids(expected)
    if expected and limit is None:
        assert space.wait_for(kind, since=since, timeout=1).id == expected[0].id


# -- at ------------------------------------------------------------------------------------------------------


def test_at_an_event_all_commits_before_it_are_in(space, orders, stock):
    orders.state.set({"n": 1})
    event = space.broadcast("a")
    orders.state.set({"n": 2})
    stock.state.set({"n": 3})

    assert dict(space.at(event)) == {"orders": {"n": 1}}
    assert orders.state.at(event) == {"n": 1}
    assert stock.state.at(event) == {}


def test_at_an_event_that_rode_on_a_commit_that_commit_is_in(space, orders, stock):
    stock.state.set({"m": 1})
    events = []
    orders.state.set(lambda s: events.append(orders.broadcast("a")) or {"n": 1})
    orders.state.set({"n": 2})
    assert dict(space.at(events[0])) == {"orders": {"n": 1}, "stock": {"m": 1}}
    assert orders.state.at(events[0]) == {"n": 1}


def test_at_an_event_is_what_its_handler_saw_at_least(space, orders, stock):
    seen = []
    stock.on("a", lambda event: seen.append((event, orders.state.get("n"))))
    for n in range(20):
        orders.state.set({"n": n})
        space.broadcast("a")
    space.settle()
    assert [orders.state.at(event)["n"] for event, _ in seen] == list(range(20))
    assert all(found >= n for n, (_, found) in enumerate(seen))


def test_at_is_awaited_in_a_handler(space, orders):
    got = []

    async def handler(event):
        got.append(dict(await space.aat(event)))
        got.append(await orders.state.aat(event))

    orders.state.set({"n": 1})
    orders.on("a", handler)
    space.broadcast("a")
    space.settle()
    assert got == [{"orders": {"n": 1}}, {"n": 1}]


# -- views ---------------------------------------------------------------------------------------------------


def test_a_node_with_a_handler_and_no_commit_is_in_the_views_as_empty(space, orders):
    orders.on("a", print)
    view = space.views["orders"]
    assert (view.get(), view.revision) == ({}, 0)
    assert "orders" in space.views
    seen = []
    space.create_node("stock").state.set(lambda s, views: seen.append(views.orders.get()) or {"n": 1})
    assert seen == [{}]
    assert space.views.collect({"orders": len}) == {"orders": 0}


def test_an_event_that_rode_on_a_commit_expires_as_one_with_a_message_of_its_own(store, until):
    def emit(state):
        orders.broadcast("rides")
        return {"n": 1}

    with happen.connect(store=store, name="expiring", fresh=True, event_ttl=timedelta(seconds=1)) as space:
        orders = space.create_node("orders")
        orders.state.set(emit)
        orders.broadcast("walks")

        def types(**options):
            orders.state.set(happen.put("n", lambda n: n + 1))  # the newest message tells the time
            return [event.type for event in space.events(**options)]

        assert set(types()) <= {"rides", "walks"}
        until(lambda: "rides" not in types())
        until(lambda: types() == [])
        assert types(limit=10) == []
        assert list(space.unhandled) == []
        late = []
        until(lambda: late.append(orders.broadcast("late")) or types()[-1:] == ["late"])
        assert {event.id for event in space.events()} <= {event.id for event in late}
        assert len(orders.state.history()) > 2


# -- points in time ----------------------------------------------------------------------------------


def test_a_timeout_of_wait_for_counts_the_events_that_where_refused(space, orders):
    start = orders.broadcast("order.paid", 9)
    for n in range(3):
        orders.broadcast("order.paid", n)

    with pytest.raises(happen.HappenTimeoutError, match=r"`where` rejected 3 of this type$"):
        space.wait_for("order.*", lambda event: event.payload > 2, since=start, timeout=0.05)


def test_a_timeout_of_wait_for_names_the_types_of_other_events(space, orders):
    async def work():
        waiting = asyncio.create_task(space.await_for("order.paid", timeout=2))
        await asyncio.sleep(0)
        for type_ in ("order.payed", "order.payed", "tick"):
            await orders.abroadcast(type_)
        await waiting

    with pytest.raises(happen.HappenTimeoutError, match=r'3 of other types arrived: "order.payed", "tick"$'):
        asyncio.run(work())


MISUSED = {
    "since": (
        lambda space, event: space.events(since=event),
        lambda space, event: space.journal(since=event),
        lambda space, event: space.wait_for("a", since=event, timeout=0),
        lambda space, event: space.timeline(since=event),
        lambda space, event: space.graph(since=event),
    ),
    "at": (
        lambda space, event: space.at(event),
        lambda space, event: space.nodes["orders"].state.at(event),
    ),
    "trace": (lambda space, event: space.trace(event),),
}


@pytest.mark.parametrize("call", MISUSED)
def test_an_event_of_another_space_is_refused_where_its_position_counts(space, orders, store, call):
    with happen.connect(store=store, name="another_space") as other:
        event = other.broadcast("a")
        for misuse in MISUSED[call]:
            with pytest.raises(ValueError, match=rf'{call}: .*"another_space", not to "{space.name}"'):
                misuse(space, event)
        other.drop()


@pytest.mark.parametrize("call", MISUSED)
def test_a_pending_event_is_refused_where_its_position_counts(space, orders, call):
    def transform(state):
        pending.append(orders.broadcast("a"))
        raise LookupError

    pending = []
    with pytest.raises(LookupError):
        orders.state.set(transform)

    for misuse in MISUSED[call]:
        with pytest.raises(ValueError, match="pending"):
            misuse(space, pending[0])


def test_a_timeline_refuses_a_node_of_another_space(space, store):
    with happen.connect(store=store, name="another_space") as other:
        with pytest.raises(ValueError, match='"another_space", not to'):
            space.timeline(nodes=[other.create_node("orders")])
        other.drop()


def test_an_event_that_is_not_stored_has_no_trace(space):
    with pytest.raises(happen.UnknownEventError, match="nope") as caught:
        space.trace("nope")

    assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize("call", ["trace", "sequence"])
def test_a_type_in_place_of_an_id_is_refused_with_the_way_to_its_newest_event(space, orders, call):
    orders.broadcast("order.shipped")
    for text in ("order.shiped", "order.shipped"):
        with pytest.raises(happen.UnknownEventError) as caught:
            getattr(space, call)(text)
        assert str(caught.value) == (
            f"{call}: no event with the id '{text}' is stored; "
            "the newest of a type is space.events('order.shipped')[-1]"
        )
    with pytest.raises(TypeError, match=f"^{call}: event is 3; pass an Event, or the id of one$"):
        getattr(space, call)(3)


def test_a_slow_predicate_blocks_nothing_else(space, orders, gate):
    begun = threading.Event()

    def slow(kind):
        begun.set()
        return gate.wait(10)

    orders.broadcast("a")
    reading = threading.Thread(target=space.events, args=[slow])
    reading.start()
    assert begun.wait(10)
    orders.state.set({"n": 1})
    assert orders.state.get(fresh=True) == {"n": 1}
    gate.set()
    reading.join(10)


def test_a_predicate_and_a_limit_give_the_newest_that_match(space, orders):
    for n in range(5):
        orders.broadcast("even" if n % 2 == 0 else "odd", n)
    found = space.events(lambda kind: kind == "even", limit=2)
    assert [event.payload for event in found] == [2, 4]


@pytest.mark.parametrize("picture", ["timeline", "graph"])
def test_a_slow_predicate_of_a_picture_blocks_nothing_else(space, orders, gate, picture):
    begun = threading.Event()

    def slow(kind):
        begun.set()
        return gate.wait(10)

    orders.broadcast("a")
    reading = threading.Thread(target=getattr(space, picture), args=[slow])
    reading.start()
    assert begun.wait(10)
    assert orders.state.get(fresh=True) == {}
    gate.set()
    reading.join(10)


# -- equality ------------------------------------------------------------------------------------------------


def test_an_event_is_equal_to_itself_however_it_is_read(space, orders):
    handled = []
    orders.on("order.*", handled.append)
    first, second = (orders.broadcast("order.paid", number) for number in (1, 1))
    assert list(space.events("order.*")) == [first, second]
    space.settle()
    assert handled == [first, second]
    assert {first, second} == {*handled, *space.events()}
    assert first != second
    assert first != first.id


def test_events_of_tests_are_equal_by_their_id():
    first, second = happen.event("order.paid"), happen.event("order.paid")
    assert first == first  # noqa: PLR0124
    assert (first == second) is (first.id == second.id)


def test_events_of_two_spaces_are_never_equal(space, orders):
    first = orders.broadcast("order.paid", id="o1")
    with space.fork("another") as fork:
        assert fork.broadcast("order.paid", id="o1") != first
