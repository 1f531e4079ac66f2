"""Each message that the page on the wire format shows is what is stored, and is read as what it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from happen_nb.journal import wire
from happen_nb.journal.stream import Options, Stream
from happen_nb.journal.subjects import Subjects
from happen_nb.model.commits import CommitRecord, EventRecord, OwnerRecord

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
    """What is stored for an item, with the expectation and the time to live that the page shows."""
    expected, ttl = (int(shown.headers.get(name, 0)) for name in (wire.EXPECTED, wire.TTL))
    match item:
        case CommitRecord():
            commit = wire.encode_commit(
                SHOP,
                item.node,
                item.body,
                id=item.id,
                revision=item.revision,
                read=item.read,
                expected=expected,
                origin=item.origin,
            )
            (commit,) = wire.with_events(SHOP, commit, item.events, ttl=ttl)
            guarded = wire.EXPECTED_SUBJECT in shown.headers
            return wire.guard_all(SHOP, commit, expected) if guarded else commit
        case EventRecord():
            return wire.encode_event(SHOP, item, ttl=ttl)
        case OwnerRecord():
            return wire.encode_owner(SHOP, item, expected=expected)
        case wire.Handled():
            return wire.encode_handled(SHOP, item.records(), by=item.by, ttl=ttl)
        case wire.Clear():
            return wire.encode_clear(SHOP, item.owners, id=item.id, expected=expected)
        case wire.Other() if shown.subject == SHOP.sync:
            return wire.encode_sync(SHOP)
        case wire.Other() if shown.subject == SHOP.guard:
            return wire.encode_guard(SHOP, "stock", expected)
    raise AssertionError(f"{shown.subject} was read as {item}")


MESSAGES = list(blocks())


@pytest.mark.parametrize("shown", MESSAGES)
def test_a_message_of_the_page_is_read_and_stored_so(shown):
    item = wire.decode(SHOP, shown.subject, shown.headers, shown.body, 50, 0)
    stored = encoded(shown, item)
    if BATCH[0] in shown.headers:
        number, last = int(shown.headers[BATCH[1]]), BATCH[2] in shown.headers
        sent = wire.batch([stored] * (number if last else number + 1), shown.headers[BATCH[0]])
        stored = sent[number - 1]
    assert stored == shown
    assert list(stored.headers) == list(shown.headers)


def test_every_kind_of_stored_message_is_on_the_page():
    shown = {param.values[0].subject for param in MESSAGES}
    kinds = (SHOP.states, SHOP.events, SHOP.owners, SHOP.handled, SHOP.clear, SHOP.sync, SHOP.guard)
    for kind in kinds:
        assert any(subject.startswith(kind.rstrip(">*")) for subject in shown), kind


def test_the_stream_is_configured_as_the_page_shows():
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert json.loads(shown) == Stream(None, SHOP, 1.0)._config(Options(1000, 604_800))


def test_the_limits_of_a_header_are_those_of_the_page():
    text = " ".join(PAGE.split())
    assert f"over {wire.HEADER_LIMIT:,} bytes of JSON, or the state over {wire.BODY_LIMIT:,}," in text
