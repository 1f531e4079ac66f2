"""``broadcast``: stored and refused events, and ids that store an event once."""

from __future__ import annotations

import math
from collections import UserDict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import happen_nb as happen


def types(space):
    return [event.type for event in space.events()]


def test_a_broadcast_is_stored_when_it_returns(space, orders):
    event = orders.broadcast("order.paid", {"id": "o1"})

    (stored,) = space.events()
    assert (stored.id, stored.type, stored.payload, stored.sender) == (
        event.id,
        "order.paid",
        {"id": "o1"},
        "orders",
    )
    assert (stored.sequence, stored.time) == (event.sequence, event.time)
    assert not event.pending
    assert not event.repeated


def test_what_the_person_at_the_keyboard_says_comes_from_the_notebook(space):
    event = space.broadcast("hello")

    assert (event.sender, event.payload, event.target) == ("notebook", None, None)
    assert (event.cause, event.correlation, event.path) == (None, event.id, ())


def test_the_mapping_form_says_the_same(space, orders):
    event = orders.broadcast(
        {"type": "order.paid", "payload": [1], "id": "k1", "occurred": "2024-05-01T12:00:00"}
    )

    assert (event.type, event.payload, event.id) == ("order.paid", [1], "k1")
    assert event.occurred == datetime(2024, 5, 1, 12)  # noqa: DTZ001 - naive is what was given
    assert orders.broadcast(UserDict(type="other")).payload is None


@pytest.mark.parametrize("wrong", [{}, {"payload": 1}, {"type": "a", "payloads": 1}, {"type": None}])
def test_a_mapping_that_is_no_event_is_refused(space, orders, wrong):
    with pytest.raises(happen.EventTypeError):
        orders.broadcast(wrong)
    assert types(space) == []


def test_a_mapping_and_arguments_beside_it_are_refused(space, orders):
    with pytest.raises(TypeError, match="mapping with type and payload"):
        orders.broadcast({"type": "a"}, {"n": 1})


def test_handlers_of_every_node_get_it_the_sender_too(space, orders, stock):
    got = []
    orders.on("order.paid", lambda event: got.append("orders"))
    stock.on("order.paid", lambda event: got.append("stock"))

    orders.broadcast("order.paid")
    space.settle()

    assert sorted(got) == ["orders", "stock"]


def test_a_payload_is_frozen_and_its_own(space, orders):
    given_ = {"items": ["pen"]}
    event = orders.broadcast("order.paid", given_)
    given_["items"].append("cap")

    assert event.payload == {"items": ["pen"]}
    with pytest.raises(happen.FrozenStateError):
        event.payload["items"].append("cap")


@dataclass
class Point:
    x: int


def test_payloads_are_converted_as_states_are(space, orders):
    payload = {"at": date(2024, 5, 1), "p": Point(1), "t": (1, 2), "n": np.int64(3), "na": pd.NA}

    assert orders.broadcast("a", payload).payload == {
        "at": "2024-05-01",
        "p": {"x": 1},
        "t": [1, 2],
        "n": 3,
        "na": None,
    }


@pytest.mark.parametrize(
    "wrong", [math.nan, math.inf, {1}, b"a", 2**64, {1: 2}, lambda: 1, pd.DataFrame(), "\ud800", object()]
)
def test_a_payload_without_a_json_form_is_refused_with_its_place(space, orders, wrong):
    with pytest.raises(happen.PayloadError, match="deep"):
        orders.broadcast("a", {"deep": [wrong]})
    assert types(space) == []


def test_a_payload_that_holds_itself_is_refused(space, orders):
    circle = []
    circle.append(circle)
    with pytest.raises(happen.PayloadError):
        orders.broadcast("a", circle)


def test_a_payload_that_is_too_large_is_refused_before_it_is_sent(space, orders):
    with pytest.raises(happen.TooLargeError, match="8,"):
        orders.broadcast("a", "x" * (8 << 20))
    orders.on("a", print)
    with pytest.raises(happen.TooLargeError, match=r"^send .*8,"):
        orders.send("orders", "a", "x" * (8 << 20))
    assert types(space) == []


def test_a_payload_of_almost_the_limit_arrives(space, orders):
    got = []
    orders.on("a", lambda event: got.append(len(event.payload)))
    orders.broadcast("a", "x" * (7 << 20))
    space.settle()
    assert got == [7 << 20]


@pytest.mark.parametrize(
    "wrong", ["", "a\nb", "a\x00", "\x7f", "\x85", "\ud800", "x" * 257, "." * 86, "\N{SNOWMAN}" * 29, None, 3]
)
def test_a_type_that_no_event_may_have_is_refused(space, orders, wrong):
    with pytest.raises(happen.EventTypeError):
        orders.broadcast(wrong)
    with pytest.raises(happen.EventTypeError):
        orders.send("orders", wrong)
    assert types(space) == []


ODD_TYPES = ["a b", "*", "**", ">", "a.>.b", "{a,b}", "%41", "..", "~", "\N{SNOWMAN}", "x" * 256, "." * 85]


@pytest.mark.parametrize("type_", ODD_TYPES)
def test_any_other_type_arrives_as_it_is(space, orders, type_):
    got = []
    orders.on(lambda each: each == type_, lambda event: got.append(event.type))

    orders.broadcast(type_)
    space.settle()

    assert (got, types(space)) == ([type_], [type_])


TEXT = st.text(st.characters(exclude_categories=("Cs",)))
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
PAYLOADS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)
TYPES = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(" a ", "\r\n", "with an id")
@example(" ", {"\x00": "\u2028"}, "on a commit")
@given(TYPES, PAYLOADS, st.sampled_from(["alone", "with an id", "on a commit", "on a commit with an id"]))
def test_every_type_and_payload_comes_back_from_the_journal(space, orders, type_, payload, way):
    told = []
    given_id = None if "id" not in way else f"k{orders.state.revision}-{len(space.events())}"

    def tell(state):
        told.append(orders.broadcast(type_, payload, id=given_id))
        return {"n": 1}

    if "commit" in way:
        orders.state.set(tell)
    else:
        tell(None)

    (stored,) = space.events(since=told[-1].sequence - 1)
    assert (stored.type, stored.payload, stored.id) == (type_, payload, told[-1].id)
    assert (told[-1].type, told[-1].payload) == (type_, payload)


# -- occurred ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        datetime(2020, 1, 2, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        datetime(2020, 1, 2, 3),  # noqa: DTZ001 - naive is what is meant
        pd.Timestamp("2020-01-02T03:04:05Z"),
    ],
)
def test_when_it_occurred_comes_back_as_it_was_given(space, orders, moment):
    got = []
    orders.on("a", lambda event: got.append(event.occurred))

    event = orders.broadcast("a", occurred=moment)
    space.settle()

    assert event.occurred == moment
    assert got == [moment]
    assert space.events()[0].occurred == moment
    assert orders.broadcast("a").occurred is None


def test_iso_text_and_dates_are_moments_too(space, orders):
    assert orders.broadcast("a", occurred="2020-01-02T03:04:05+00:00").occurred.tzinfo is not None
    assert orders.broadcast("a", occurred=date(2020, 1, 2)).occurred.date() == date(2020, 1, 2)


@pytest.mark.parametrize("wrong", ["yesterday", 5, 5.0, object(), pd.NaT, ""])
def test_what_is_no_moment_is_refused(space, orders, wrong):
    with pytest.raises((TypeError, ValueError), match="occurred"):
        orders.broadcast("a", occurred=wrong)
    assert types(space) == []


# -- ids -----------------------------------------------------------------------------------------------------


def test_an_id_is_stored_once_and_handled_once(space, orders):
    got = []
    orders.on("order.paid", lambda event: got.append(event.id))

    first = orders.broadcast("order.paid", {"n": 1}, id="pay-1")
    again = orders.broadcast("order.paid", {"n": 1}, id="pay-1")
    space.settle()

    assert (first.repeated, again.repeated) == (False, True)
    assert (again.sequence, again.id, again.time) == (first.sequence, "pay-1", first.time)
    assert got == ["pay-1"]
    assert types(space) == ["order.paid"]


def test_an_id_is_one_over_all_senders(space, orders, stock):
    first = orders.broadcast("order.paid", {"n": 1}, id="pay-1")
    again = stock.broadcast("order.paid", {"n": 1}, id="pay-1")

    assert again.repeated
    assert (again.sender, again.sequence) == ("orders", first.sequence)


@pytest.mark.parametrize(
    ("type_", "payload"), [("order.paid", {"n": 2}), ("order.paid", {"n": 1.0}), ("order.sent", {"n": 1})]
)
def test_an_id_with_another_content_is_refused(space, orders, type_, payload):
    orders.broadcast("order.paid", {"n": 1}, id="pay-1")

    with pytest.raises(ValueError, match=r"pay-1.*another content"):
        orders.broadcast(type_, payload, id="pay-1")
    assert types(space) == ["order.paid"]


def test_an_id_with_its_keys_in_another_order_is_the_same(space, orders):
    orders.broadcast("a", {"x": 1, "y": 2}, id="k")
    assert orders.broadcast("a", {"y": 2, "x": 1}, id="k").repeated


@pytest.mark.parametrize("wrong", ["", "a b", "a.b", "x" * 129, 5, "\N{SNOWMAN}", "a\n"])
def test_an_id_that_is_none_is_refused(space, orders, wrong):
    with pytest.raises(TypeError if wrong == 5 else ValueError, match="id is"):
        orders.broadcast("a", id=wrong)


def test_the_longest_id_is_taken(space, orders):
    assert orders.broadcast("a", id="x" * 128).id == "x" * 128


def test_many_at_once_with_one_id_are_one(space, orders):
    import asyncio

    async def all_at_once():
        return await asyncio.gather(*(orders.abroadcast("a", 1, id="k") for _ in range(50)))

    events = asyncio.run(all_at_once())

    assert len({event.sequence for event in events}) == 1
    assert [event.repeated for event in events].count(False) == 1


# -- the async variant --------------------------------------------------------------------------------------


def test_the_awaitable_twin_says_the_same(space, orders):
    import asyncio

    event = asyncio.run(orders.abroadcast("a", {"n": 1}, id="k"))
    assert (event.sender, event.payload) == ("orders", {"n": 1})
    assert asyncio.run(space.abroadcast({"type": "b"})).sender == "notebook"


def test_thousands_from_many_threads_are_all_stored_and_handled_once(space, orders):
    import threading

    got = []
    orders.on("a", lambda event: got.append(event.payload))

    def tell(k):
        for n in range(100):
            space.broadcast("a", k * 100 + n)

    threads = [threading.Thread(target=tell, args=(k,)) for k in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    space.settle()

    assert sorted(got) == list(range(500))
    assert [event.payload for event in space.events()] == got
