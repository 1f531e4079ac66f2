"""``space.replay``: rows become events, in order, each once."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import threading
import time
from collections import UserDict
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import happen_nb as happen
from happen_nb._api.replay import ReplayPace
from happen_nb._runtime import bulk

NAN = float("nan")


def payloads(space, pattern="**"):
    return [event.payload for event in space.events(pattern)]


def numbered(count):
    return [{"n": n} for n in range(count)]


# -- what is stored ----------------------------------------------------------------------------------


def test_rows_become_events_in_their_order(space):
    replay = space.replay(numbered(1234), type="row").wait()

    events = space.events()
    assert [event.payload["n"] for event in events] == list(range(1234))
    assert {(event.type, event.sender, event.cause, event.path) for event in events} == {
        ("row", "notebook", None, ())
    }
    assert len({event.id for event in events}) == 1234
    assert (replay.state, replay.done, replay.stored, replay.total) == ("done", True, 1234, 1234)


@pytest.mark.parametrize("step", ["_runtime.in_flight.InFlight.start", "_runtime.bulk.BulkPublisher.start"])
def test_one_that_is_interrupted_while_it_starts_leaves_nothing(space, monkeypatch, step):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"happen_nb.{step}", interrupt)
        with pytest.raises(KeyboardInterrupt):
            space.replay(numbered(20), type="row")
    space.settle(5)
    assert len(space.events()) == 0


def test_handlers_get_them_in_their_order_and_settle_waits_for_replay_and_handlers(space, orders):
    got = []
    orders.on("row", lambda event: got.append(event.payload["n"]))

    replay = space.replay(numbered(2000), type="row")
    space.settle(60)

    assert got == list(range(2000))
    assert replay.state == "done"


def test_settle_names_the_replay_that_it_waits_for(space):
    gate = threading.Event()
    replay = space.replay(iter(gate.wait, None), type="row")

    with pytest.raises(happen.HappenTimeoutError, match="replay of rows, 0 of them stored"):
        space.settle(0.05)
    replay.stop()
    gate.set()
    space.settle()


def test_a_frame_keeps_the_order_of_its_rows_whatever_its_index(space):
    frame = pd.DataFrame({"n": [3, 1, 2], "name": ["c", "a", "b"]}, index=[7, 7, 0])

    space.replay(frame, type="row").wait()

    assert payloads(space) == [{"n": 3, "name": "c"}, {"n": 1, "name": "a"}, {"n": 2, "name": "b"}]


def test_a_frame_larger_than_a_chunk_is_whole(space):
    frame = pd.DataFrame({"n": range(1300)})
    space.replay(frame, type="row").wait()
    assert [each["n"] for each in payloads(space)] == list(range(1300))


def test_a_frame_that_is_changed_while_it_is_replayed_is_replayed_as_it_was(space):
    frame = pd.DataFrame({"n": range(3), "at": pd.to_datetime([0, 1, 1], unit="h", utc=True)})
    replay = space.replay(frame, type="row", time="at", speed=36_000)
    frame["more"] = 1
    replay.wait()
    assert payloads(space) == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_any_mapping_is_a_row_and_is_not_changed(space):
    row = {"n": NAN, "at": date(2024, 5, 1)}
    space.replay([row, UserDict(n=2, at=None)], type="row", time="at").wait()

    assert payloads(space) == [{"n": None}, {"n": 2}]
    assert list(row) == ["n", "at"]
    assert math.isnan(row["n"])


def test_a_function_gives_the_type_of_each_row(space):
    frame = pd.DataFrame({"sensor": ["a", "b"], "heat": [1.5, 2.5]})

    replay = space.replay(frame, type=lambda row: f"heat.{row['sensor']}", sender="probe").wait()

    assert [(event.type, event.sender) for event in space.events()] == [
        ("heat.a", "probe"),
        ("heat.b", "probe"),
    ]
    assert replay.what == ""


def test_a_node_can_be_the_sender(space, orders):
    space.replay(numbered(1), type="row", sender=orders).wait()
    assert space.events()[0].sender == "orders"


@pytest.mark.parametrize("rows", [[], pd.DataFrame({"n": []}), iter(())], ids=["list", "frame", "iterator"])
def test_no_rows_are_no_events(space, rows):
    assert space.replay(rows, type="row").wait().state == "done"
    assert payloads(space) == []


def test_two_replays_at_once_keep_their_own_order(space):
    replays = [space.replay(numbered(700), type=type) for type in ("one", "two")]
    for replay in replays:
        replay.wait()
    for type in ("one", "two"):
        assert [each["n"] for each in payloads(space, type)] == list(range(700))


# -- events again ------------------------------------------------------------------------------------


def test_a_node_of_another_space_cannot_be_the_sender(space, store):
    with happen.connect(store=store, name="another_space") as other:
        node = other.create_node("orders")
        with pytest.raises(ValueError, match='"another_space", not to'):
            space.replay(numbered(1), type="row", sender=node)
        for wrong in (other, other.views, node.state):
            with pytest.raises(happen.InvalidNameError):
                space.replay(numbered(1), type="row", sender=wrong)
        other.drop()


def test_events_are_emitted_again_with_their_type_payload_and_time(space, orders):
    orders.broadcast("order.paid", {"id": "o1"}, occurred="2024-05-01T12:00:00+02:00")
    orders.broadcast("order.sent", None)
    first = space.events()

    space.replay(first).wait()

    again = space.events(since=first[-1])
    assert [(e.type, e.payload, e.occurred, e.sender) for e in again] == [
        (e.type, e.payload, e.occurred, "notebook") for e in first
    ]
    assert {e.id for e in again}.isdisjoint(e.id for e in first)


@pytest.mark.parametrize("choose", [list, iter, lambda events: (e for e in events if e.type != "b")])
def test_some_events_of_another_space_can_be_replayed(space, store, choose):
    space.replay(numbered(5), type="a").wait()
    with happen.connect(store=store, name=f"{space.name[:40]}_other") as other:
        other.replay(choose(space.events())).wait()
        assert payloads(other) == numbered(5)
        other.drop()


def test_events_can_be_given_another_type(space):
    space.replay(numbered(2), type="a").wait()
    space.replay(space.events(), type=lambda event: f"again.{event.type}").wait()
    assert [event.type for event in space.events()] == ["a", "a", "again.a", "again.a"]


# -- times -------------------------------------------------------------------------------------------


def test_the_time_column_becomes_occurred_and_leaves_the_payload(space):
    times = pd.to_datetime(["2024-01-31 23:30", None, "2024-07-01 12:00"]).tz_localize("America/New_York")
    space.replay(pd.DataFrame({"at": times, "n": [1, 2, 3]}), type="row", time="at").wait()

    events = space.events()
    assert [event.payload for event in events] == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert [event.occurred for event in events] == [
        datetime(2024, 2, 1, 4, 30, tzinfo=UTC),
        None,
        datetime(2024, 7, 1, 16, tzinfo=UTC),
    ]
    assert str(events[0].occurred) == "2024-01-31 23:30:00-05:00"


@pytest.mark.parametrize(
    "value",
    [
        datetime(2024, 5, 1, 12),  # noqa: DTZ001 - naive is what is given
        "2024-05-01T12:00",
        pd.Timestamp("2024-05-01 12:00"),
        np.datetime64("2024-05-01T12:00"),
        np.datetime64("2024-05-01T12:00:00.000000000"),
    ],
    ids=lambda value: value.__class__.__name__,
)
def test_a_naive_time_stays_as_it_is(space, value):
    space.replay([{"at": value}], type="row", time="at").wait()
    assert space.events()[0].occurred == datetime(2024, 5, 1, 12)  # noqa: DTZ001


def test_the_index_of_a_frame_can_be_the_time(space):
    frame = pd.DataFrame({"n": [1]}, index=pd.DatetimeIndex(["2024-05-01"], tz="UTC", name="at"))
    space.replay(frame, type="row", time="at").wait()
    (event,) = space.events()
    assert (event.payload, event.occurred) == ({"n": 1}, datetime(2024, 5, 1, tzinfo=UTC))


def test_pictures_take_occurred_for_the_time(space, orders):
    @orders.on("row")
    def add(event):
        orders.broadcast("added")
        orders.state.set({"n": event.payload["n"]})

    rows = [{"n": n, "at": f"2013-01-01T0{n}:00:00Z"} for n in range(3)]
    orders.on("added", lambda _: orders.state.set(lambda state: {**state, "told": True}))
    first = orders.state.set({"n": -1})
    space.replay(rows, type="row", time="at")
    space.settle()

    drawn = orders.state.history().plot("n", "told", x="occurred")
    hours = [datetime.fromtimestamp(x / 1000, UTC).strftime("%Y %H") for x in drawn.data[0].x[:-1]]
    assert sorted(set(hours)) == ["2013 00", "2013 01", "2013 02"]
    assert drawn.layout.xaxis.title.text == "when it occurred, UTC"
    timeline = space.timeline(by="occurred", since=first)
    assert "1 Jan 2013" in timeline.svg


def test_a_history_without_event_times_is_a_clear_error(space, orders):
    orders.state.set({"n": 1})
    drawn = orders.state.history().plot("n", x="occurred")
    assert "has no value" in str(drawn.layout.annotations)


# -- what is missing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("nan", [None, 0, "?"])
def test_what_is_missing_becomes_nan(space, nan):
    frame = pd.DataFrame(
        {
            "float": [1.5, NAN],
            "text": ["a", None],
            "whole": pd.array([1, None], dtype="Int64"),
            "time": pd.to_datetime(["2024-05-01", None]),
            "kind": pd.Categorical(["x", None]),
        }
    ).astype({"text": "str"})

    space.replay(frame, type="row", nan=nan).wait()

    assert payloads(space) == [
        {"float": 1.5, "text": "a", "whole": 1, "time": "2024-05-01T00:00:00", "kind": "x"},
        dict.fromkeys(frame.columns, nan),
    ]


@pytest.mark.parametrize(
    "value", [NAN, np.float32("nan"), np.float64("nan"), pd.NaT, pd.NA, np.datetime64("NaT")], ids=repr
)
def test_what_is_missing_in_a_mapping_becomes_nan_however_deep(space, value):
    space.replay([{"a": value, "b": [value, {"c": (value, 1)}], "d": None}], type="row", nan=0).wait()
    assert payloads(space) == [{"a": 0, "b": [0, {"c": [0, 1]}], "d": None}]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.floats(allow_infinity=False),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(), parts, max_size=3),
    max_leaves=8,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.dictionaries(st.text(), json_values, max_size=4), max_size=5))
def test_any_rows_come_back_as_they_were_but_for_nan(space, rows):
    space.clear()
    space.replay(rows, type="row", nan="nan").wait()
    assert payloads(space) == [without_nan(row) for row in rows]


def without_nan(value):
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, dict):
        return {key: without_nan(part) for key, part in value.items()}
    return [without_nan(part) for part in value] if isinstance(value, list) else value


# -- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "options", "error", "message"),
    [
        (numbered(1), {}, ValueError, "rows have no type of their own"),
        (pd.DataFrame({"n": [1]}), {}, ValueError, "rows have no type of their own"),
        (numbered(1), {"type": ""}, happen.EventTypeError, "type"),
        (numbered(1), {"type": 7}, TypeError, "type is 7"),
        (numbered(1), {"type": "a", "speed": 60}, ValueError, "speed needs the times"),
        (numbered(1), {"type": "a", "time": "n", "speed": 0}, ValueError, "speed is 0"),
        (numbered(1), {"type": "a", "time": "n", "speed": NAN}, ValueError, "speed is nan"),
        (numbered(1), {"type": "a", "sender": "a b"}, happen.InvalidNameError, "a b"),
        (numbered(1), {"type": "a", "sender": 7}, happen.InvalidNameError, "7"),
        (numbered(1), {"type": "a", "nan": NAN}, happen.PayloadError, "replay: nan"),
        ({"n": 1}, {"type": "a"}, TypeError, "one row is"),
        ("rows.csv", {"type": "a"}, TypeError, "of type str"),
        (7, {"type": "a"}, TypeError, "of type int"),
        (
            pd.DataFrame({"n": [1]}),
            {"type": "a", "time": "m"},
            ValueError,
            'no column "m"; the columns are n',
        ),
        (pd.DataFrame([[1, 2]]), {"type": "a"}, happen.PayloadError, "frame.rename"),
        (pd.DataFrame([[1, 2]], columns=["n", "n"]), {"type": "a"}, ValueError, 'more than one column "n"'),
    ],
)
def test_what_cannot_be_replayed_is_refused_at_once(space, rows, options, error, message):
    with pytest.raises(error, match=message):
        space.replay(rows, **options)
    assert payloads(space) == []
    space.settle()


async def no_rows():
    yield {}


def test_an_async_generator_is_refused_with_a_hint(space):
    with pytest.raises(TypeError, match="make it a list"):
        space.replay(no_rows(), type="a")


class Unreadable(Mapping):
    """A mapping whose items cannot be read."""

    def __len__(self):
        return 1

    def __iter__(self):
        raise RuntimeError("no items")

    def __getitem__(self, key):
        raise KeyError(key)


def endless():
    """Return a list that contains itself."""
    items = []
    items.append(items)
    return items


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"price": math.inf}, happen.PayloadError, "row 700 at price: inf"),
        ({"price": {1, 2}}, happen.PayloadError, r"row 700 at price: .*set.*sorted"),
        ({"a": {"b": b""}}, happen.PayloadError, "row 700 at a.b: "),
        ({1: 2}, happen.PayloadError, "row 700: the key 1"),
        (
            {"a": Unreadable()},
            happen.PayloadError,
            "row 700 at a: .*Unreadable raised .*no items",
        ),
        ({"a": endless()}, happen.PayloadError, "row 700 at a.*"),
        ({"n": "x" * 9_000_000}, happen.TooLargeError, "row 700: 9,000"),
        ([1, 2], TypeError, "row 700 is of type list"),
    ],
    ids=lambda value: "" if isinstance(value, dict | list | type) else value[:12],
)
@pytest.mark.parametrize("make", [list, iter], ids=["list", "iterator"])
def test_a_bad_row_ends_it_and_what_was_before_is_stored(space, bad, error, message, make):
    replay = space.replay(make([*numbered(700), bad, *numbered(9)]), type="row")

    for _ in range(2):
        with pytest.raises(error, match=message):
            replay.wait()
    assert payloads(space) == numbered(700)
    assert (replay.state, replay.stored) == ("failed", 700)
    assert isinstance(replay.error, error)


def test_a_bad_column_of_a_frame_is_named(space):
    frame = pd.DataFrame({"n": [1, 2], "took": [pd.Timedelta(0), pd.Timedelta(1, "h")]})
    with pytest.raises(happen.PayloadError, match="row 0 at took"):
        space.replay(frame, type="row").wait()


@pytest.mark.parametrize("value", ["noon", 1_700_000_000, [1]])
def test_what_is_no_time_is_named(space, value):
    with pytest.raises(ValueError, match=r"row 1 at at: .* is not a time"):
        space.replay([{"at": None}, {"at": value}], type="row", time="at").wait()


def test_a_row_that_lacks_the_time_is_named(space):
    with pytest.raises(ValueError, match='row 1 has no "at"; it has n'):
        space.replay([{"at": None}, {"n": 1}], type="row", time="at").wait()


def test_events_take_no_time(space):
    space.broadcast("a")
    with pytest.raises(ValueError, match="have their own times"):
        space.replay(space.events(), time="at").wait()


def test_an_invalid_type_is_reported_with_its_row(space):
    with pytest.raises(happen.EventTypeError, match="replay: row 2: "):
        space.replay(numbered(5), type=lambda row: "ab"[row["n"] :]).wait()
    assert len(space.events()) == 2


def test_what_the_rows_or_the_type_raise_comes_out_of_wait_unchanged(space):
    def rows():
        yield {"n": 1}
        raise LookupError("no more of them")

    with pytest.raises(LookupError, match="no more of them"):
        space.replay(rows(), type="row").wait()
    with pytest.raises(KeyError, match="sensor"):
        space.replay(numbered(1), type=lambda row: row["sensor"]).wait()
    assert payloads(space) == [{"n": 1}]


def test_an_unobserved_error_is_logged(space, caplog, monkeypatch, until):
    monkeypatch.setattr("happen_nb._api.replay.LOG_ERROR_SECONDS", 0.01)
    with caplog.at_level(logging.WARNING, "happen_nb"):
        space.replay([*numbered(3), 7], type="row")
        until(lambda: "a replay ended at row 3: replay: row 3 is of type int" in caplog.text)


def test_in_a_transform_and_in_a_handler_it_is_refused(space, orders):
    with pytest.raises(happen.TransformError, match="may run more than once"):
        orders.state.set(lambda state: space.replay(numbered(1), type="row") or state)

    orders.on("go", lambda event: space.replay(numbered(1), type="row"))
    with pytest.raises(happen.HandlerError, match="would not wait for it"):
        space.send("orders", "go").result()
    assert payloads(space, "row") == []


def test_a_handler_may_not_wait_for_a_replay_that_may_wait_for_it(space, orders):
    gate = threading.Event()
    replay = space.replay(iter(gate.wait, None), type="row")
    orders.on("go", lambda event: replay.wait() and None)
    with pytest.raises(happen.HandlerError, match=r"replay\.wait: called in .* it would wait for itself"):
        space.send("orders", "go").result()
    replay.stop()
    gate.set()


# -- how fast ----------------------------------------------------------------------------------------


class Clock:
    """Stands still, but for who waits."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


def test_rows_are_due_when_they_occurred_divided_by_the_speed(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("happen_nb._api.replay.clock", clock)
    pace = ReplayPace(60)
    at = partial(datetime, 2024, 5, 1)

    assert pace.pause(at(12, tzinfo=UTC)) == 0.0
    assert pace.pause(at(13, tzinfo=UTC)) == 60.0
    clock.now += 60
    assert pace.pause(None) == 0.0
    assert pace.pause(at(12, 30, tzinfo=UTC)) == 0.0  # out of order: at once
    assert pace.pause(at(14)) == 60.0
    clock.now += 90
    assert pace.pause(at(14, 1)) == 0.0  # late: at once, and the next in time again
    assert pace.pause(at(15)) == 30.0


def test_with_a_speed_a_row_waits_until_it_is_due(space):
    rows = [{"n": n, "at": datetime(2024, 5, 1, hour, tzinfo=UTC)} for n, hour in enumerate([0, 0, 0, 23])]
    replay = space.replay(rows, type="row", time="at", speed=1)

    space.wait_for("row", lambda event: event.payload["n"] == 2, since=0)
    assert (replay.state, len(space.events())) == ("running", 3)
    replay.stop()
    assert (replay.state, len(space.events())) == ("stopped", 3)


def test_with_a_high_speed_all_come(space):
    rows = [{"n": n, "at": datetime(2024, 5, 1, n, tzinfo=UTC)} for n in range(10)]
    replay = space.replay(rows, type="row", time="at", speed=360_000).wait()
    assert [each["n"] for each in payloads(space)] == list(range(10))
    assert replay.occurred == datetime(2024, 5, 1, 9, tzinfo=UTC)


def test_events_are_paced_by_their_event_time_or_time_of_storage(space):
    space.broadcast("a")
    space.broadcast("b", occurred="2999-01-01T00:00:00Z")
    replay = space.replay(space.events(), speed=1)

    space.wait_for("a", since=space.events()[1])
    assert replay.state == "running"
    replay.stop()
    assert [event.type for event in space.events()] == ["a", "b", "a"]


# -- how much ----------------------------------------------------------------------------------------


def test_a_generator_is_read_only_a_little_ahead(space):
    stored, most_ahead = threading.Event(), 0

    def rows():
        nonlocal most_ahead
        for n in range(3000):
            most_ahead = max(most_ahead, n - replay.stored if stored.is_set() else 0)
            yield {"n": n}

    replay = None
    gate = threading.Event()
    replay = space.replay(itertools.chain(itertools.takewhile(lambda _: gate.wait(), ()), rows()), type="row")
    stored.set()
    replay.wait()

    assert replay.stored == 3000
    assert 0 < most_ahead <= bulk.MAX_AHEAD + bulk.BATCH_EVENTS + 1


def test_a_row_that_comes_late_is_not_waited_for_before_the_others_are_stored(space):
    gate = threading.Event()

    def rows():
        yield from numbered(3)
        gate.wait()
        yield {"n": 3}

    replay = space.replay(rows(), type="row")
    space.wait_for("row", lambda event: event.payload["n"] == 2, since=0)
    assert replay.state == "running"
    gate.set()
    replay.wait()
    assert payloads(space) == numbered(4)


def test_it_waits_for_handlers_that_do_not_follow(space, orders, gate, monkeypatch, until):
    monkeypatch.setattr(bulk, "MAX_BACKLOG", 300)
    got = []
    orders.on("row", lambda event: gate.wait() and got.append(event.payload["n"]))

    replay = space.replay(numbered(5000), type="row")
    until(lambda: "waits for handlers" in repr(replay))
    assert 300 <= replay.stored <= 300 + 2 * bulk.BATCH_EVENTS
    assert "waits for handlers" in repr(replay)
    gate.set()
    space.settle(60)
    assert got == list(range(5000))


def test_large_rows_go_in_smaller_batches(space):
    rows = [{"n": n, "pad": "x" * 400_000} for n in range(12)]
    space.replay(rows, type="row").wait()
    assert [each["n"] for each in payloads(space)] == list(range(12))


# -- the end -----------------------------------------------------------------------------------------


def test_after_stop_nothing_more_is_stored(space):
    replay = space.replay(({"n": n} for n in itertools.count()), type="row")
    space.wait_for("row", lambda event: event.payload["n"] > 600, since=0)

    replay.stop()
    events = space.events()
    space.broadcast("after")

    assert [event.payload["n"] for event in events] == list(range(replay.stored))
    assert [event.type for event in space.events(since=events[-1])] == ["after"]
    assert replay.wait() is replay
    assert (replay.state, replay.error) == ("stopped", None)
    replay.stop()
    space.settle()


def test_stop_does_not_wait_for_rows_that_do_not_come(space):
    gate = threading.Event()
    replay = space.replay(iter(gate.wait, None), type="row")
    replay.stop()
    assert replay.state == "stopped"
    gate.set()


def test_waiting_may_end_before_the_replay(space):
    gate = threading.Event()
    replay = space.replay((gate.wait() and row for row in numbered(2)), type="row")
    with pytest.raises(happen.HappenTimeoutError, match="the replay continues"):
        replay.wait(0.01)
    gate.set()
    assert replay.wait().stored == 2


def test_it_can_be_awaited(space):
    async def main():
        return await space.replay(numbered(300), type="row")

    assert asyncio.run(main()).stored == 300


def test_awaiting_a_replay_raises_its_error(space):
    async def main():
        await space.replay([7], type="row")

    with pytest.raises(TypeError, match="row 0"):
        asyncio.run(main())


def test_giving_up_to_await_leaves_it_running(space):
    gate = threading.Event()
    replay = space.replay((gate.wait() and row for row in numbered(2)), type="row")

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(replay, 0.01)

    asyncio.run(main())
    assert replay.state == "running"
    gate.set()
    assert replay.wait().stored == 2


def test_closing_the_space_ends_it(store, space):
    with happen.connect(store=store, name=f"{space.name[:40]}_closed") as other:
        replay = other.replay(({"n": n} for n in itertools.count()), type="row")
        other.wait_for("row", since=0)
    with pytest.raises(happen.ClosedError, match="space was closed"):
        replay.wait()
    assert replay.state == "failed"
    with happen.connect(store=store, name=other.name) as other:
        assert [each["n"] for each in payloads(other)][: replay.stored] == list(range(replay.stored))
        other.drop()


def test_a_closed_space_replays_nothing(store, space):
    with happen.connect(store=store, name=f"{space.name[:40]}_closed") as other:
        other.drop()
    with pytest.raises(happen.ClosedError):
        other.replay(numbered(1), type="row")


def test_no_thread_and_nothing_open_is_left(space, until):
    space.replay(numbered(300), type="row").wait()
    with pytest.raises(TypeError):
        space.replay([7], type="row").wait()
    until(lambda: "happen_nb-replay" not in [thread.name for thread in threading.enumerate()])
    dispatcher = space._runtime.dispatcher
    assert (dispatcher.publishers, dispatcher.contexts) == (set(), {})
    assert not space._runtime.in_flight.pending().works


def test_the_text_of_a_replay_does_not_vary(space):
    assert (
        repr(space.replay(numbered(300), type="row.seen").wait()) == "Replay of row.seen · done · 300 events"
    )
    assert repr(space.replay(space.events(limit=1)).wait()) == "Replay · done · 1 event"
    rows = [{"at": "2024-05-01T00:00:00Z"}]
    replay = space.replay(iter(rows), type="a", time="at").wait()
    assert repr(replay) == "Replay of a · done · 1 event"
    assert "2024-05-01" in replay._repr_mimebundle_()["text/html"]


def test_a_failed_replay_shows_its_error(space):
    replay = space.replay([{"n": 1}, {"n": math.inf}], type="<b>")
    with pytest.raises(happen.PayloadError):
        replay.wait()
    assert repr(replay).splitlines()[0] == "Replay of <b> · failed · 1 of 2 events"
    assert "PayloadError: replay: row 1 at n: inf" in repr(replay)
    assert "<b>&lt;b&gt;</b>" in replay._repr_mimebundle_()["text/html"]


def test_other_calls_go_on_meanwhile(space, orders):
    replay = space.replay(({"n": n} for n in itertools.count()), type="row")
    begun = time.monotonic()
    for n in range(20):
        orders.state.set({"n": n})
    assert replay.state == "running", time.monotonic() - begun
    replay.stop()
    assert orders.state.get("n") == 19
