"""Messages that earlier versions have stored are read, and work together with those of this version."""

from __future__ import annotations

import pytest

import happen_nb as happen
from happen_nb._journal import decoding, scheduled, wire
from happen_nb._model.records import HandledRecord, OwnerRecord
from tests.journal.raw import Raw

OWNER = (
    b'{"node": "stock", "incarnation": "5d0f9c1e7a2b", "patterns": ["order.*"], "pid": 4711, '
    b'"host": "laptop", "since": 0, "takeover": false}'
)
EVENTS = [("5d0f9c1e7a2b44c1-1", "order.placed"), ("5d0f9c1e7a2b44c1-2", "order.paid")]
HANDLED = b'[["5d0f9c1e7a2b44c1-1","stock","count","done",0.001234,null,1]]'
COMMIT = {
    "Nats-Expected-Last-Subject-Sequence": "0",
    "Happen-Commit": "5d0f9c1e7a2b44c1-3 1 2",
    "Happen-Cause": "5d0f9c1e7a2b44c1-1",
    "Happen-By": "stock",
    "Happen-Path": "5d0f9c1e7a2b44c1-1",
}


def block(headers: dict[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


@pytest.fixture
def stored(space: happen.Space) -> happen.Space:
    """A space with a commit, two events, an owner that has ended, and what it has handled."""
    prefix = f"happen.{space.name}".encode()
    with Raw(space.server.url, space.server.token) as raw:
        raw.publish(prefix + b".owner.stock", OWNER, block({wire.EXPECTED: "0"}))
        for id, type in EVENTS:
            about = f'{{"id":"{id}","type":"{type}","sender":"orders"}}'
            headers = {wire.EXPECTED: "0", wire.EVENT: about, wire.TTL: "604800"}
            subject = prefix + f".event.orders.{id}.{wire.quote_type(type)}".encode()
            raw.publish(subject, b'{"id":"o1"}', block(headers))
        raw.publish(f"$KV.happen_{space.name}.stock".encode(), b'{"open":1}', block(COMMIT))
        raw.store(prefix + b".handled.5d0f9c1e7a2b", HANDLED, block({wire.TTL: "604800"}))
    return space


def test_a_space_of_an_earlier_version_is_read_and_goes_on(stored: happen.Space) -> None:
    stock = stored.create_node("stock")
    assert stock.state.get(fresh=True) == {"open": 1}
    placed, paid = stored.events()
    assert placed.handled_by == ("stock",)
    assert [each.event.id for each in stored.unhandled] == [paid.id]
    assert "stock revision 1" in repr(stored.trace(placed))

    @stock.on("order.*", durable=True)
    def count(event: happen.Event) -> None:
        stock.state.set(happen.put("paid", event.payload["id"]))

    stored.broadcast("order.paid", {"id": "o2"}).settle()
    assert stock.state.get() == {"open": 1, "paid": "o2"}
    assert stored.unhandled.retry().succeeded == 1
    assert stock.state.get("paid") == "o1"


def test_records_of_an_earlier_version_have_no_more_members() -> None:
    shop = wire.Subjects("shop")
    owner = decoding.decode(shop, "happen.shop.owner.stock", {}, OWNER, 1, 0)
    assert owner == OwnerRecord("stock", "5d0f9c1e7a2b", ("order.*",), 4711, "laptop", sequence=1)
    handled = decoding.decode(shop, "happen.shop.handled.p", {}, HANDLED, 1, 0)
    assert isinstance(handled, decoding.Handled)
    record = HandledRecord("5d0f9c1e7a2b44c1-1", "stock", "count", "done", 0.001234, by="p")
    assert handled.records() == [record]


@pytest.mark.parametrize(
    "about", [None, "[", "[]", "{}", '{"sequence":51,"due":"soon","type":"t","sender":"s"}']
)
def test_a_cancel_counts_whatever_it_reports_of_its_event(about: str | None) -> None:
    shop = wire.Subjects("shop")
    headers = {wire.ALARM: "e 5d0f9c1e7a2b44c1-105", wire.SCHEDULER: "happen.shop.alarm.e"}
    if about is not None:
        headers[wire.SCHEDULED] = about
    item = decoding.decode(shop, "happen.shop.event.~.e", headers, b"", 60, 0)
    assert item == scheduled.Ended(60, "e 5d0f9c1e7a2b44c1-105")


def test_members_of_a_later_version_are_ignored() -> None:
    shop = wire.Subjects("shop")
    item = b'["e-1","stock","count","done",0.5,null,1,0.25,"3",55,"c4b6",{"more":1},2]'
    handled = decoding.decode(shop, "happen.shop.handled.p", {}, b"[" + item + b"]", 1, 0)
    assert isinstance(handled, decoding.Handled)
    (record,) = handled.records()
    assert record == HandledRecord("e-1", "stock", "count", "done", 0.5, None, 1, "p", 0.25, "3", 55, "c4b6")
    later = OWNER.replace(b"}", b', "sources": {"order.* count": "d1"}, "durable": ["order.*"], "more": 1}')
    owner = decoding.decode(shop, "happen.shop.owner.stock", {}, later, 1, 0)
    assert isinstance(owner, OwnerRecord)
    assert (owner.durable, owner.sources) == (("order.*",), (("order.* count", "d1"),))
