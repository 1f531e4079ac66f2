"""Scheduled events in the timeline of a space: outlined, and filled once they are delivered."""

import re
import time
from datetime import UTC, datetime

import pytest

from happen_nb._model.arguments import nanoseconds
from happen_nb._widgets.live_pictures import LivePicture
from tests.widgets.receiving import receive


@pytest.fixture
def sent(monkeypatch):
    messages = []
    monkeypatch.setattr(LivePicture, "send", lambda _, message, buffers=None: messages.append(message))
    return messages


def do(timeline, **message):
    receive(timeline, {"view": "a", **message})


def newest(sent, type, what):
    """Return the content of the newest message of a type; a picture may be drawn again at any moment."""
    return ([each[what] for each in sent if each["type"] == type] or [""])[-1]


def marks(timeline, kind):
    return [(spot.item.node, spot.item.event.type) for spot in spots(timeline) if spot.item.kind == kind]


def spots(timeline):
    return timeline._views["a"].drawn.spots


def counts(space):
    return repr(space.timeline()).splitlines()[0].partition(" · ")[2]


def test_scheduled_events_become_filled_when_the_clock_delivers_them(manual, sent, until):
    orders = manual.create_node("orders")
    orders.broadcast("order.placed")
    orders.broadcast("order.expired", after=3600)
    timeline = manual.timeline()
    do(timeline, do="draw", width=900)
    until(lambda: 'class="due"' in newest(sent, "drawn", "svg"))
    assert marks(timeline, "scheduled") == [("orders", "order.expired")]
    assert marks(timeline, "event") == [("orders", "order.placed")]
    manual.advance(hours=1)
    until(lambda: 'class="due"' not in newest(sent, "drawn", "svg"))
    assert not marks(timeline, "scheduled")
    assert len(marks(timeline, "event")) == 2


def test_the_next_tick_of_every_is_to_come_and_a_cancelled_event_is_not(manual, sent, until):
    orders = manual.create_node("orders")
    orders.every(60, lambda event: None)
    expiry = orders.broadcast("order.expired", after=3600)
    timeline = manual.timeline()
    do(timeline, do="draw", width=900)
    until(lambda: marks(timeline, "scheduled") == [("orders", "every"), ("orders", "order.expired")])
    expiry.cancel()
    until(lambda: marks(timeline, "scheduled") == [("orders", "every")])
    manual.advance(60)
    until(lambda: (marks(timeline, "event"), len(marks(timeline, "scheduled"))) == ([("orders", "every")], 1))
    orders.off("every")
    until(lambda: not marks(timeline, "scheduled"))


def test_keys_and_the_pointer_reach_what_is_to_come(manual, sent, until):
    orders = manual.create_node("orders")
    orders.on("order.placed", lambda event: orders.broadcast("order.expired", {"id": "o1"}, after=3600))
    manual.broadcast("order.placed").settle()
    timeline = manual.timeline()
    do(timeline, do="draw", width=900)
    until(lambda: marks(timeline, "scheduled"))
    (later,) = [spot for spot in spots(timeline) if spot.item.kind == "scheduled"]
    do(timeline, do="point", x=later.x, y=later.y, request=1)
    assert newest(sent, "tip", "text") == "order.expired · orders → all\ndue 2000-01-01 01:00:00 UTC"
    for to, kind in (("next", "event"), ("effect", "handling"), ("effect", "scheduled"), ("cause", "event")):
        do(timeline, do="step", to=to)
        assert timeline._views["a"].chosen[0] == kind, to
    do(timeline, do="choose", x=later.x, y=later.y)
    for text in ("order.expired", "scheduled", "o1", "01:00:00"):
        assert text in newest(sent, "panel", "html")


def test_on_a_real_clock_what_is_to_come_is_read_once_and_only_what_matches(space, monkeypatch):
    orders = space.create_node("orders")
    orders.broadcast("order.expired", {"id": "o1"}, after=3600)
    orders.broadcast("invoice.due", after=7200)
    assert counts(space) == "2 scheduled"
    assert [item.event.type for item in space.timeline("order.*")._shown.coming] == ["order.expired"]
    timeline = space.timeline()
    (first, second) = timeline._shown.coming
    assert (first.event.payload, second.event.type) == ({"id": "o1"}, "invoice.due")
    asked = []
    orders.broadcast("order.placed")
    with monkeypatch.context() as patched:
        patched.setattr("happen_nb._api.schedule.alarms_at", lambda _, sequences: nothing(asked, sequences))
        timeline._update()
    assert asked == [[]]
    assert [item.event.id for item in timeline._shown.coming] == [first.event.id, second.event.id]
    space.scheduled.cancel()
    assert counts(space) == "1 event"


async def nothing(asked, sequences):
    asked.append(sequences)
    return []


def test_of_very_many_the_next_are_shown(manual):
    orders = manual.create_node("orders")
    orders.state.set(lambda s: {"n": [orders.broadcast("n", after=n).type for n in range(1, 251)]})
    timeline = manual.timeline()
    assert len(timeline._shown.coming) == 200
    assert "250 scheduled" in repr(timeline)
    assert "next 200 of 250" in timeline.svg
    assert "… 245 more scheduled" in repr(timeline)


WIDE = 50_000  # pixels: there is room for each label, however close its mark happens to be to another one


def svg_texts(svg):
    return re.findall(r"<text[^>]*>([^<]+)</text>", svg)


def dates(rerun):
    return [text for text in svg_texts(rerun.timeline()._svg(WIDE)) if text.endswith("2000")]


def test_the_axis_of_a_manual_clock_has_the_times_of_the_space_where_they_begin(manual, sent, until):
    orders = manual.create_node("orders")
    orders.on("tick", lambda event: time.sleep(0.01))
    orders.every(86_400, lambda event: orders.broadcast("tick"))
    manual.advance(days=4)
    timeline = manual.timeline(limit=100)
    do(timeline, do="draw", width=WIDE)
    until(lambda: sent)
    texts = svg_texts(newest(sent, "drawn", "svg"))
    assert [text for text in texts if text.endswith("Jan 2000")] == [
        "2 Jan 2000",
        "3 Jan 2000",
        "4 Jan 2000",
        "5 Jan 2000",
        "5 Jan 2000",
        "6 Jan 2000",
    ]  # now, and due
    assert not [text for text in texts if str(datetime.now(UTC).year) in text]

    (first, *_) = [spot for spot in spots(timeline) if spot.item.event.type == "tick"]
    do(timeline, do="point", x=first.x, y=first.y, request=1)
    assert newest(sent, "tip", "text") == "tick · orders → all\n2000-01-02 00:00:00.000 UTC"


def test_what_is_read_later_has_the_time_of_the_space_too(manual, sent, until):
    orders = manual.create_node("orders")
    timeline = manual.timeline()
    do(timeline, do="draw", width=WIDE)
    manual.advance(days=40)
    orders.broadcast("late")
    until(lambda: "10 Feb 2000" in svg_texts(newest(sent, "drawn", "svg")))
    assert timeline._shown.time_of_space(timeline._shown.items[-1].time) == nanoseconds(manual.now)
    by_event = manual.timeline(by="occurred")
    assert by_event._shown.time_of_space(5) == 5  # its axis is in the time of the space already


def test_the_details_of_a_mark_have_the_time_of_the_space(manual, sent):
    orders = manual.create_node("orders")
    orders.on("order.paid", lambda event: orders.state.set({"paid": 1}))
    manual.advance(days=2)
    manual.broadcast("order.paid").settle()
    timeline = manual.timeline()
    this_year = str(datetime.now(UTC).year)
    for item in timeline._shown.items:
        parts = str(timeline._item_page(item).heading)
        assert "2000-01-03T00:00:00" in parts, item.kind
        assert this_year not in parts, item.kind


def test_a_graph_lists_events_with_the_times_of_the_space(manual, sent, until):
    orders = manual.create_node("orders")
    orders.on("order.paid", lambda event: None)
    manual.advance(days=1)
    manual.broadcast("order.paid").settle()
    graph = manual.graph()
    do(graph, do="draw", width=600)
    until(lambda: sent and graph._views["a"].drawn.flows)
    do(graph, do="press", key="w0", asked=1)
    until(lambda: "2000-01-02T00:00:00" in newest(sent, "panel", "html"))


def test_a_rerun_has_the_times_of_the_space_too(manual):
    orders = manual.create_node("orders")
    orders.on("order.expired", lambda event: orders.state.set({"expired": 1}))
    manual.advance(days=1)
    orders.broadcast("order.placed")
    orders.broadcast("order.expired", after=86_400)
    manual.advance(days=1)
    assert dates(manual.rerun()) == ["2 Jan 2000", "3 Jan 2000"]
    assert dates(manual.rerun(manual.events("order.expired")[0])) == ["3 Jan 2000"]
