"""Whatever is gathered into a message is bounded by bytes, and what a batch takes by number."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import happen_nb as happen
from happen_nb._journal import decoding, encoding, wire
from happen_nb._journal.decoding import Handled
from happen_nb._journal.publish import store_messages
from happen_nb._journal.wire import MAX_HANDLINGS, Subjects
from happen_nb._model.freeze import freeze
from happen_nb._model.records import CommitRecord, EventRecord, HandledRecord, Origin, OwnerRecord
from happen_nb._runtime.io import io_thread

SHOP = Subjects("shop")
COMMIT = wire.Message(SHOP.state("orders"), b"{}", {wire.EXPECTED: "0", wire.COMMIT: "a-1 1 0"})


@st.composite
def emitted(draw):
    """The events of a transform: how many, how large, with which ids and how long a path."""
    size, depth = draw(st.integers(0, 2_000)), draw(st.sampled_from([0, 3, 900]))
    path = tuple(f"5d0f9c1e7a2b44c1-{number}" for number in range(depth))
    letter = draw(st.sampled_from(["x", "é", "\x01"]))
    keyed = draw(st.sampled_from([set(), {0}, {2}]))
    return [
        EventRecord(
            f"e-{n}", "t", "s", freeze(letter * size), None, "c", "r", path, None, "k" if n in keyed else None
        )
        for n in range(draw(st.integers(1, 60)))
    ]


@settings(max_examples=60, deadline=None)
@given(emitted(), st.integers(5, 80), st.sampled_from([b"{}", b"{" + b" " * 9_000 + b"}"]))
def test_a_commit_and_its_events_fit_into_their_headers_and_keep_their_order(events, most, body):
    commit = wire.Message(COMMIT.subject, body, COMMIT.headers)
    messages = encoding.with_events(SHOP, commit, events, ttl=60, most=most)
    found = []
    for sequence, message in enumerate(encoding.batch(messages, "b" * 16), 1):
        assert message.header_size < 64_000
        item = decoding.decode(SHOP, message.subject, message.headers, message.body, sequence, 0)
        found += item.events if isinstance(item, CommitRecord) else [item]
    assert [event.id for event in found] == [event.id for event in events]
    assert [event.payload for event in found] == [event.payload for event in events]
    assert [event.path for event in found] == [event.path for event in events]
    assert [event.position for event in found] == sorted(event.position for event in found)
    assert messages[0].header_size <= wire.MAX_HEADER_BYTES


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(["z", "é", "\ud800", "\x00"])), max_size=40),
    st.sampled_from([5_000, 100_000, 1_000_000]),
)
def test_handlings_are_stored_in_messages_of_so_many_bytes_and_none_is_lost(errors, limit):
    records = [
        HandledRecord(f"e-{n}", "node", "handler", "failed", 0.5, letter * size, 1, "p", late=(("f", n),))
        for n, (size, letter) in enumerate(errors)
    ]
    messages = list(encoding.encode_handled(SHOP, records, by="p", ttl=60, limit=limit))
    assert all(len(message.body) <= limit + 2 for message, _ in messages)
    found = [record for message, _ in messages for record in Handled(1, "p", message.body).records()]
    assert [record.event for record in found] == [record.event for record in records]
    assert sum(number for _, number in messages) == len(records)
    for record, stored in zip(records, found, strict=True):
        assert record.error.startswith(stored.error)
        if limit > 100_000:
            assert stored == record


def test_so_many_handlings_are_in_one_message():
    records = [HandledRecord(f"e-{n}", "node", "handler", "done") for n in range(1_201)]
    messages = encoding.encode_handled(SHOP, records, by="p", ttl=60, limit=1_000_000)
    assert [number for _, number in messages] == [MAX_HANDLINGS, MAX_HANDLINGS, 201]


def test_a_clear_without_room_for_patterns_still_carries_every_owner():
    owners = [OwnerRecord(f"n{n}", "5d0f9c1e7a2b", tuple(f"{p:0>900}" for p in range(90))) for n in range(30)]
    for limit, patterns in [(5_000_000, 90), (1_000_000, 0)]:
        message = encoding.encode_clear(
            SHOP, [*owners, OwnerRecord("free", None)], limit=limit, id="c", expected=0
        )
        assert len(message.body) <= limit
        found = decoding.decode(SHOP, message.subject, message.headers, message.body, 9, 0)
        assert [owner.node for owner in found.owners] == [owner.node for owner in owners]
        assert {len(owner.patterns) for owner in found.owners} == {patterns}


def test_the_patterns_of_an_owner_are_cut():
    owner = OwnerRecord("n", "5d0f9c1e7a2b", tuple(f"{number:0>2000}" for number in range(500)))
    message = encoding.encode_owner(SHOP, owner, expected=0)
    assert len(message.body) < wire.MAX_PATTERN_BYTES + 500
    kept = json.loads(message.body)["patterns"]
    assert kept == list(owner.patterns[: len(kept)])
    assert len(kept) == 49


@pytest.mark.parametrize(
    ("guards", "events", "advice"),
    [(999, 0, "view fewer nodes"), (10, 990, "schedule or cancel fewer")],
)
def test_guards_count_too_and_nothing_is_sent(space, guards, events, advice):
    messages = [encoding.encode_guard(SHOP, SHOP.state(f"n{number}"), 0) for number in range(guards)]
    messages.append(COMMIT)
    messages += [
        encoding.encode_event(SHOP, EventRecord(f"e-{number}", "t", "s"), ttl=60) for number in range(events)
    ]
    log = space._log
    before = io_thread().run(log.stream.info()).last
    with pytest.raises(happen.TooLargeError, match=f"at most 999[.].*{advice}"):
        io_thread().run(
            store_messages(log.connection, messages, timeout=5, what='state.set of node "orders"')
        )
    assert io_thread().run(log.stream.info()).last == before


def test_a_path_is_counted_as_it_is_written():
    origin = Origin()
    for _ in range(300):
        origin = origin.then("ü" * 60, cause="c", correlation="r", by="b")
    assert origin.depth == 300
    assert len(json.dumps(origin.path)) <= 41_000
