"""Each message that the page on the wire format shows is what is stored, and is read as what it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from happen_nb._journal import decoding, encoding, presence, scheduled, wire
from happen_nb._journal.stream import DEFAULT_EVENT_TTL_SECONDS, DEFAULT_HISTORY, Options, Stream
from happen_nb._journal.wire import MAX_HANDLED_BYTES, MAX_HANDLINGS, Subjects
from happen_nb._model.pace import Pace
from happen_nb._model.records import MAX_PATH_CHARACTERS, CommitRecord, EventRecord, Origin, OwnerRecord
from happen_nb._model.schedules import Alarm, ClockRecord
from happen_nb._runtime import reply_ends

PAGE = (Path(__file__).parents[2] / "docs/wire.md").read_text("utf-8")
SHOP = Subjects("shop")
BATCH = ("Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Batch-Commit")


def blocks():
    for block in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL):
        head, _, body = block.partition("\n\n")
        subject, *lines = head.splitlines()
        headers = dict(line.split(": ", 1) for line in lines)
        yield pytest.param(wire.Message(subject, body.strip().encode(), headers), id=subject)


def encoded(shown, item):
    """Return what is stored for an item, with the expectation and the time to live that the page shows."""
    expected, ttl = (int(shown.headers.get(name, 0)) for name in (wire.EXPECTED, wire.TTL))
    match item:
        case CommitRecord():
            commit = encoding.encode_commit(SHOP, item, expected)
            (commit,) = encoding.with_events(SHOP, commit, item.events, ttl=ttl)
            guarded = wire.EXPECTED_SUBJECT in shown.headers
            return encoding.guard_all(SHOP, commit, expected) if guarded else commit
        case EventRecord(alarm=str()) | scheduled.Scheduled() | scheduled.Ended() | ClockRecord():
            return encoded_for_later(shown, item, expected, ttl)
        case EventRecord():
            return encoding.encode_event(SHOP, item, ttl=ttl)
        case OwnerRecord():
            return encoding.encode_owner(SHOP, item, expected=expected)
        case decoding.Handled():
            ((message, _),) = encoding.encode_handled(SHOP, item.records(), by=item.by, ttl=ttl)
            return message
        case decoding.Passed():
            return encoding.encode_passed(SHOP, item.node, item.base, item.positions)
        case Pace():
            return encoding.encode_pace(SHOP, item._replace(sequence=expected))
        case decoding.Clear():
            return encoding.encode_clear(SHOP, item.owners, limit=1_000_000, id=item.id, expected=expected)
        case decoding.Other():
            return encoded_other(shown, expected, ttl)
    raise AssertionError(f"{shown.subject} was read as {item}")


def encoded_for_later(shown, item, expected, ttl):
    """Return the message of a scheduled event, of its delivery or its cancel, or of the time."""
    match item:
        case EventRecord(alarm=str()):
            id, _, nonce = item.alarm.partition(" ")
            alarm = Alarm(id, nonce, expected, item.due, shown.subject, item)
            return encoding.encode_delivery(SHOP, alarm, ttl=ttl)
        case scheduled.Scheduled():
            ttl = int(shown.headers[wire.SCHEDULE_TTL].removesuffix("s"))
            read = int(shown.headers[wire.READ])
            return encoding.encode_alarm(SHOP, item.alarm.event, ttl=ttl, expected=expected, read=read)
        case scheduled.Ended():
            id, _, nonce = item.alarm.partition(" ")
            event = item.event
            alarm = Alarm(
                id, nonce, event.scheduled, event.due, shown.subject, None, event.type, event.sender
            )
            origin = Origin(path=(item.cause,), by=item.by)
            ttl -= wire.CANCEL_MARGIN_SECONDS
            return encoding.encode_cancel(
                SHOP, alarm, ttl=ttl, origin=origin, key=item.key, goes_on=item.goes_on
            )
        case ClockRecord():
            return encoding.encode_clock(SHOP, item.now, expected=expected)
    raise AssertionError(f"{shown.subject} was read as {item}")


def encoded_other(shown, expected, ttl):
    """Return a message that changes nothing for those who follow."""
    if shown.subject.startswith(SHOP.start_prefix):
        about = json.loads(shown.body)
        return encoding.encode_start(SHOP, "stock", about["handler"], about["pattern"], about["at"])
    if shown.subject.startswith(SHOP.durable_prefix):
        about = json.loads(shown.body)
        key, pattern, at = about["handler"], about["pattern"], about["at"]
        return encoding.encode_durable(SHOP, "billing", key, pattern, at, expected=expected)
    if shown.subject.startswith(SHOP.once_prefix):
        event, node, name = shown.subject.removeprefix(SHOP.once_prefix).split(".")
        assert shown.subject == SHOP.once(event, node, name)
        return encoding.encode_result(
            shown.subject, json.loads(shown.body), ttl=ttl, arguments=shown.headers[wire.ARGUMENTS]
        )
    if shown.subject == SHOP.sync:
        return encoding.encode_barrier(SHOP)
    assert shown.subject == SHOP.guard
    return encoding.encode_guard(SHOP, SHOP.state("stock"), expected)


MESSAGES = list(blocks())


@pytest.mark.parametrize("shown", MESSAGES)
def test_a_message_of_the_page_is_read_and_stored_so(shown):
    item = decoding.decode(SHOP, shown.subject, shown.headers, shown.body, 50, 0)
    stored = encoded(shown, item)
    if BATCH[0] in shown.headers:
        number, last = int(shown.headers[BATCH[1]]), BATCH[2] in shown.headers
        sent = encoding.batch([stored] * (number if last else number + 1), shown.headers[BATCH[0]])
        stored = sent[number - 1]
    assert stored == shown
    assert list(stored.headers) == list(shown.headers)


def test_every_kind_of_stored_message_is_on_the_page():
    shown = {param.values[0].subject for param in MESSAGES}
    kinds = (
        SHOP.states,
        SHOP.events,
        SHOP.owners,
        SHOP.handled,
        SHOP.start_prefix,
        SHOP.durable_prefix,
        SHOP.once_prefix,
        SHOP.clear,
        SHOP.sync,
        SHOP.guard,
    )
    for kind in kinds:
        assert any(subject.startswith(kind.rstrip(">*")) for subject in shown), kind


def test_the_stream_is_configured_as_the_page_shows():
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert json.loads(shown) == Stream(None, SHOP, 1.0).configuration(Options(1000, 604_800))


def test_the_limits_are_those_of_the_page():
    text = " ".join(PAGE.split())
    header, state = wire.MAX_HEADER_BYTES, wire.MAX_STATE_BYTES_WITH_EVENTS
    assert f"more than {header:,} bytes, or the state more than {state:,}," in text
    assert f"at most {wire.MAX_BATCH_MESSAGES} messages" in text
    assert f"cut at {wire.MAX_PATTERN_BYTES:,} bytes" in text
    assert f"at most {MAX_HANDLINGS} handlings and {MAX_HANDLED_BYTES:,} bytes" in text
    assert f"path of more than {MAX_PATH_CHARACTERS:,} characters" in text
    assert f"{DEFAULT_EVENT_TTL_SECONDS:,} seconds (7 days)" in text
    assert f"{DEFAULT_HISTORY:,} commits per node" in text


def test_the_states_and_kinds_of_a_reply_are_those_of_the_page():
    _, _, replies = PAGE.partition("### Replies")
    assert set(re.findall(r'"state": "(\w+)"', replies)) == presence.STATES
    for kind in ("HandlerError", *reply_ends.ERROR_KINDS):
        assert f"`{kind}`" in replies


def test_a_long_path_is_as_the_page_shows():
    origin = Origin()
    for number in range(400):
        origin = origin.then(f"{number:0>128}", cause="c", correlation="r", by="b")
    assert origin.depth == 400
    assert (origin.path[0], origin.path[-1]) == (f"{0:0>128}", f"{399:0>128}")
    assert sum(map(len, origin.path)) + 3 * len(origin.path) <= MAX_PATH_CHARACTERS
    commit = encoding.encode_commit(SHOP, CommitRecord("orders", 0, 1, 0, b"{}", "i-1", 0, origin), 0)
    assert commit.header_size < wire.MAX_HEADER_BYTES
    read = decoding.decode(SHOP, commit.subject, commit.headers, commit.body, 50, 0)
    assert read.origin == origin
    event = EventRecord("e-1", "t", "s", 1, None, "c", "r", origin.path, omitted=origin.omitted)
    (riding,) = encoding.with_events(
        SHOP, wire.Message(SHOP.state("orders"), b"{}", {wire.COMMIT: "i-1 1 0"}), [event], ttl=1
    )
    (found,) = decoding.decode(SHOP, riding.subject, riding.headers, riding.body, 50, 0).events
    assert (found.path, found.omitted) == (origin.path, origin.omitted)
