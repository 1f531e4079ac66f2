"""Very many scheduled events."""

import time
from datetime import timedelta

import pytest

import happen_nb as happen
from happen_nb._api.base import bundle_of
from happen_nb._journal import alarms

AT_ONCE = 900
YEAR = timedelta(days=365)


def schedule(node, count):
    """Schedule events, as many as a commit can at once, in the reverse order of their times."""
    last = node.space.now + YEAR + timedelta(seconds=count)
    for first in range(0, count, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, count))

        def some(state, numbers=numbers):
            for number in numbers:
                node.broadcast("due", number, at=last - timedelta(seconds=number))
            return {"scheduled": numbers.stop}

        node.state.set(some, timeout=60)


@pytest.mark.parametrize("clock", ["real", "manual"])
@pytest.mark.parametrize(
    "count", [1_800, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(1200)])]
)
def test_they_are_listed_in_order_shown_in_brief_and_kept(store, clock, count):
    name = f"many-{clock}"
    with happen.connect(store=store, name=name, clock=clock, fresh=True) as space:
        schedule(space.create_node("node"), count)
        assert space.to_come == count
    begun = time.monotonic()
    space.close()
    assert time.monotonic() - begun < 5
    with happen.connect(store=store, name=name, timeout=120) as space:
        scheduled = space.scheduled
        assert [event.payload for event in scheduled] == list(reversed(range(count)))
        assert len(bundle_of(scheduled)["text/html"]) < 100_000
        assert scheduled[0].cancel()
        assert space.to_come == count - 1
        if clock == "manual":
            assert space.advance(to="next").events == 1
        space.clear()
        assert space.to_come == 0


def test_too_many_are_refused(space, monkeypatch):
    monkeypatch.setattr(alarms, "MAX_SCHEDULED_EVENTS", 3)
    node, times = space.create_node("node"), {"after": YEAR}
    for number in range(2):
        node.broadcast("due", number, id=f"due-{number}", **times)
    with pytest.raises(
        happen.TooLargeError, match=r'"late" is not scheduled: the space .* has 2 scheduled events'
    ):
        node.state.set(lambda s: {"ids": [node.broadcast(type, **times).id for type in ("in time", "late")]})
    node.broadcast("due", 2, **times)
    for call in (lambda: node.broadcast("late", **times), lambda: node.send("node", "late", **times)):
        with pytest.raises(happen.TooLargeError, match="has 3 scheduled events"):
            call()
    node.broadcast("due", 5, id="due-1", **times)  # it takes the place of another one
    node.cancel("due-0")
    node.broadcast("due", 3, **times)
    assert [event.payload for event in space.scheduled] == [2, 5, 3]
