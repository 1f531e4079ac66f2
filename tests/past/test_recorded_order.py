"""The order of a second run: what comes next is put in or goes at once, everything else waits."""

from __future__ import annotations

import pytest

from happen_nb._model.orders import Choice
from happen_nb._model.past import Past, Put, commit_key
from happen_nb._model.records import CommitRecord, EventRecord, Origin
from happen_nb._runtime.first_run import RecordedOrder

FIRST, SECOND, THIRD = (
    EventRecord(f"e{number}", "sold", "shop", {}, sequence=sequence)
    for number, sequence in enumerate((1, 3, 4), 1)
)
BEGIN = Choice("stock", "begin", FIRST, "take", FIRST.position)
COMMIT = BEGIN._replace(what="commit", target="stock")


@pytest.fixture
def order():
    """Three events, and the commit that the handler of the first has stored before the second."""
    puts = [Put(event.position, event=event) for event in (FIRST, SECOND, THIRD)]
    storings = {commit_key("stock", "stock", "e1"): [(2, -1)]}
    past = Past(puts, storings, {("e1", "stock", "take"): [(1, 1 << 30)]}, {}, {})
    sent = []
    order = RecordedOrder(past, puts, sent.append, [])
    order.sent = sent
    return order


def commit():
    return CommitRecord("stock", 7, 1, 0, b"{}", origin=Origin("e1", "e1", "stock"))


def test_events_are_put_in_when_all_that_came_before_has_come_again(order):
    assert order.next_put() is None
    assert [put.event.id for put in order.sent] == ["e1"]
    assert order.next_one([BEGIN]) is BEGIN
    assert order.next_one([COMMIT]) is COMMIT
    assert len(order.sent) == 1, "the commit is not stored yet"
    order.stored(commit())
    assert order.next_one([COMMIT]) is None
    assert [put.event.id for put in order.sent] == ["e1", "e2", "e3"], "they came one after the other"


def test_nothing_goes_before_what_came_first(order):
    order.next_put()
    assert order.next_one([COMMIT]) is None, "its handler began before"
    assert order.choose([COMMIT]) is None, "that event has not arrived"
    assert order.arrived("e1")
    assert order.choose([COMMIT]) is COMMIT, "the handler never begins, so it is passed over"


def test_what_never_comes_again_is_passed_over_when_nothing_else_goes(order):
    order.next_put()
    order.arrived("e1")
    assert order.next_put() is None
    assert [put.event.id for put in order.sent] == ["e1", "e2", "e3"]
    assert order.is_in_flight


def test_nothing_overtakes_what_is_being_put_in():
    delivery = EventRecord("e1", "sold", "shop", {}, sequence=1, alarm="e1 1", due="")
    puts = [Put(event.position, event=event) for event in (delivery, SECOND)]
    sent = []
    order = RecordedOrder(Past(puts, {}, {}, {}, {}), puts, sent.append, [])
    assert order.next_put() is puts[0]
    assert order.next_one([BEGIN]) is None
    assert sent == [], "the delivery is not stored yet"
    order.note_put_stored()
    assert order.next_put() is None
    assert sent == [puts[1]]
