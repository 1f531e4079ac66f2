"""Whatever another client wrote, a decoder returns the promised types or a record that changes nothing."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from happen_nb._journal import decoding, fields, presence, wire
from happen_nb._journal.decoding import OUTCOMES, Handled
from happen_nb._journal.wire import Subjects
from happen_nb._model.arguments import is_name
from happen_nb._model.patterns import Pattern
from happen_nb._model.records import CommitRecord, EventRecord, OwnerRecord
from happen_nb.errors import StateError
from tests.journal import garbage

SHOP = Subjects("shop")
UNSAFE = re.compile(r"[\s\x00-\x1f\x7f]")
MANY = settings(max_examples=80, deadline=None)
TAILS = st.sampled_from(["orders", "a.b.c", "<img/src=x>", "größe", "", "~.e1", "x.e1.order%2Epaid", "\x1b"])


def decode(subject, headers, body):
    return decoding.decode(SHOP, subject, headers, body, 50, 1_000)


def check_event(event):
    for mark in (event.id, event.cause, event.correlation, *event.path):
        assert mark is None or not UNSAFE.search(mark), "it goes into a header"
    assert not set(event.id) & set(".*>"), "it goes into a subject"
    assert isinstance(event.type, str)
    assert isinstance(event.sender, str)
    assert event.target is None or isinstance(event.target, str)
    assert event.publish_id is None or isinstance(event.publish_id, str)
    assert type(event.path) is tuple
    assert 0 <= event.omitted <= fields.LARGEST
    json.dumps(event.payload, allow_nan=False)


@MANY
@given(TAILS, garbage.texts(garbage.EVENTS), garbage.bodies(garbage.VALUES))
def test_an_event_is_read_with_its_types_or_changes_nothing(tail, header, body):
    found = decode(SHOP.event_prefix + tail, {wire.EVENT: header}, body)
    if isinstance(found, EventRecord):
        check_event(found)
    else:
        assert found == decoding.Other(50)


COMMITS = st.one_of(
    st.text(max_size=30),
    st.tuples(st.sampled_from(["x-1", "a\tb", ""]), st.integers(-5, 10**30), st.integers(-5, 10**30)).map(
        lambda parts: " ".join(map(str, parts))
    ),
)


@MANY
@given(
    TAILS,
    st.fixed_dictionaries(
        {},
        optional={
            wire.COMMIT: COMMITS,
            wire.CAUSE: st.text(max_size=9),
            wire.CORRELATION: st.text(max_size=9),
            wire.BY: st.text(max_size=9),
            wire.PATH: st.text(max_size=30),
            wire.OMITTED: st.text(max_size=5),
            wire.OPERATION: st.sampled_from(["DEL", "PURGE", "PUT", ""]),
            wire.EVENTS: garbage.texts(st.lists(garbage.RIDING, max_size=3)),
        },
    ),
    garbage.bodies(garbage.VALUES),
)
def test_a_state_is_a_commit_whatever_its_headers_are(tail, headers, body):
    found = decode(SHOP.state_prefix + tail, headers, body)
    assert isinstance(found, CommitRecord)
    assert found.node == tail
    assert 0 <= found.revision <= fields.LARGEST
    assert 0 <= found.read_position <= fields.LARGEST
    for mark in (found.id, found.origin.cause, found.origin.correlation, *found.origin.path):
        assert mark is None or not UNSAFE.search(mark)
    for event in found.events:
        check_event(event)
    if found.is_readable:
        assert found.peek() == found.state
    else:
        with pytest.raises(StateError, match="another client wrote"):
            _ = found.state


@MANY
@given(TAILS, garbage.bodies(garbage.OWNERS))
def test_an_owner_is_a_process_that_can_be_asked_or_nobody(tail, body):
    found = decode(SHOP.owner_prefix + tail, {}, body)
    if not isinstance(found, OwnerRecord):
        assert found == decoding.Other(50)
        assert not is_name(tail)
        return
    assert (found.node, found.sequence) == (tail, 50)
    assert found.incarnation is None or is_name(found.incarnation)
    for pattern in found.patterns:
        Pattern.of(pattern)
    assert isinstance(found.host, str)
    assert isinstance(found.takeover, bool)
    assert 0 <= found.claimed <= fields.LARGEST


@MANY
@given(garbage.bodies(st.lists(garbage.OWNERS, max_size=3)))
def test_a_clear_carries_the_owners_that_can_be_read(body):
    found = decode(SHOP.clear, {wire.ROLLUP: "all"}, body)
    assert isinstance(found, decoding.Clear)
    assert all(is_name(owner.node) for owner in found.owners)


def test_a_mark_that_removed_nothing_is_not_a_clear():
    for headers in ({}, {wire.ROLLUP: "sub"}):
        assert decode(SHOP.clear, headers, b"[]") == decoding.Other(50)


@MANY
@given(TAILS, garbage.bodies(st.lists(garbage.HANDLINGS, max_size=3)))
def test_handlings_are_read_with_their_types_or_left_out(tail, body):
    found = decode(SHOP.handled_prefix + tail, {}, body)
    assert isinstance(found, Handled)
    for record in found.records():
        assert isinstance(record.event, str)
        assert is_name(record.node)
        assert fields.is_label(record.handler)
        assert record.outcome in OUTCOMES
        assert math.isfinite(record.duration)
        assert record.duration >= 0
        assert record.error is None or isinstance(record.error, str)
        assert record.attempts >= 1


@pytest.mark.parametrize("more", [[], ["note"], [1, {"lane": "x"}, None]])
def test_members_that_a_newer_version_adds_are_ignored(more):
    body = json.dumps([[*garbage.HANDLING, *more]]).encode()
    (record,) = decode(SHOP.handled_prefix + "p", {}, body).records()
    assert record[:7] == tuple(garbage.HANDLING)
    owner = decode(SHOP.owner_prefix + "orders", {}, json.dumps({**garbage.OWNER, "later": more}).encode())
    assert owner == OwnerRecord("orders", "5d0f9c1e7a2b", ("order.*",), 4711, "laptop", sequence=50)
    event = decode(SHOP.event_prefix + "x", {wire.EVENT: json.dumps({**garbage.EVENT, "later": more})}, b"1")
    assert event.id == garbage.EVENT["id"]


def test_one_bad_handling_does_not_hide_the_others():
    bad = [["e"], "n", "f", "done", 0.1, None, 1]
    body = json.dumps([bad, garbage.HANDLING, 7, "text", {}]).encode()
    assert len(decode(SHOP.handled_prefix + "p", {}, body).records()) == 1


def read(decoder, *arguments):
    """Return what a decoder makes of it; None for what it says it cannot read."""
    try:
        return decoder(*arguments)
    except fields.UNREADABLE:
        return None


@MANY
@given(garbage.bodies(garbage.REPLIES))
def test_a_reply_is_read_with_its_types_or_refused(body):
    said = read(fields.read_json, body)
    reply = None if said is None else read(presence.decode_reply, "e1", said)
    if reply is None:
        return
    assert reply["event"] == "e1"
    assert reply["state"] in presence.STATES
    json.dumps([reply.get("value"), reply.get("progress", [])], allow_nan=False)
    assert isinstance(reply.get("progress", []), list)
    if reply["state"] == "failed":
        texts = [reply["kind"], reply["message"], *reply["trace"].values()]
        assert all(isinstance(text, str) for text in texts)
        assert set(reply["trace"]) == {"node", "error", "remote_traceback"}


@MANY
@given(garbage.bodies(garbage.QUESTIONS))
def test_a_question_has_the_known_types_or_is_refused(body):
    question = read(presence.decode_question, body)
    if question is not None:
        assert all(isinstance(question.get(name, ""), str) for name in ("send", "cancel", "from"))
        assert all(isinstance(id, str) for id in question.get("events", []))


@MANY
@given(st.sampled_from([{}, {"events": ["e1"]}, {"send": "e1"}]), garbage.bodies(garbage.ANSWERS))
def test_an_answer_has_the_known_types_or_is_refused(question, body):
    answer = read(presence.decode_answer, question, body)
    if answer is None:
        return
    if "events" in question:
        assert 0 <= answer["position"] <= fields.LARGEST
        assert all(isinstance(id, str) for id in answer["open"])
    else:
        assert 0 <= answer["waiters"] <= fields.LARGEST


@pytest.mark.parametrize(
    "body", [b'{"n": 18446744073709551616}', b'{"n": [-9223372036854775809]}', b'{"n": ' + b"1" * 400 + b"}"]
)
def test_an_integer_beyond_64_bits_is_an_unreadable_state_and_no_float(body):
    record = decode(SHOP.state("orders"), {}, body)
    assert not record.is_readable
    with pytest.raises(StateError, match=r"another client wrote|infinity"):
        record.peek()
    assert decode(
        SHOP.event_prefix + "x.e1.t", {wire.EVENT: json.dumps(garbage.EVENT)}, body
    ) == decoding.Other(50)


@pytest.mark.parametrize(
    "value", [2**64 - 1, -(2**63), 1e300, 0.00012345678901234567, "99999999999999999999", {"1" * 30: -1}]
)
def test_what_looks_like_a_long_integer_is_read_as_it_is(value):
    record = decode(SHOP.state("orders"), {}, json.dumps({"n": value}).encode())
    assert record.state == {"n": value}
    assert type(record.state["n"]) in (type(value), type(record.state))
