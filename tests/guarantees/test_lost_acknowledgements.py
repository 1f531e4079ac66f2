"""A call whose acknowledgement is lost, in a space that is cleared before the connection is back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import happen_nb as happen
from tests.guarantees.processes import Processes, eventually
from tests.guarantees.proxy import Proxy
from tests.guarantees.servers import Foreign
from tests.guarantees.witness import Witness


def broadcast(node: happen.Node) -> None:
    node.broadcast("paid", {"amount": 1})


def broadcast_with_an_id(node: happen.Node) -> None:
    node.broadcast("paid", {"amount": 1}, id="payment-1")


def commit(node: happen.Node) -> None:
    node.state.set({"x": 1})


def commit_and_emit(node: happen.Node) -> None:
    node.state.set(lambda state: [{"x": 1}, node.broadcast("paid", {"amount": 1})][0])


def schedule(node: happen.Node) -> None:
    node.broadcast("paid", {"amount": 1}, after=0.5)


def schedule_with_an_id(node: happen.Node) -> None:
    node.broadcast("paid", {"amount": 1}, id="payment-1", after=0.5)


@contextmanager
def _without_acknowledgement(
    proxy: Proxy, act: Callable[[happen.Node], None], node: happen.Node
) -> Iterator[None]:
    """Do something whose acknowledgement does not arrive; the connection is lost and back at the end."""

    def call() -> None:
        try:
            act(node)
        except happen.HappenError as error:
            errors.append(error)

    errors: list[happen.HappenError] = []
    proxy.swallow_answers()
    calling = threading.Thread(target=call)
    calling.start()
    yield
    proxy.cut()
    proxy.heal()
    calling.join()
    assert all(isinstance(error, happen.OutcomeUnknownError) for error in errors), errors


@pytest.mark.parametrize(
    ("act", "initial"),
    [
        (broadcast, None),
        (broadcast_with_an_id, None),
        (commit, None),
        (commit, {"x": 0}),
        (commit_and_emit, {"x": 0}),
    ],
)
def test_what_was_cleared_before_it_was_acknowledged_does_not_come_back(
    url: str,
    name: str,
    processes: Processes,
    proxy: Proxy,
    witness: Witness,
    act: Callable[[happen.Node], None],
    initial: dict[str, int] | None,
) -> None:
    with happen.connect(proxy.url, name=name) as space:
        other = processes.peer(url, name)
        other.ask("handle", node="till", pattern="*", how="note", witness=str(witness.path))
        orders = space.create_node("orders", initial=initial)
        other.ask("get", node="orders", fresh=True)  # what is watched begins after the initial state
        other.ask("watch", node="orders")
        with _without_acknowledgement(proxy, act, orders):
            eventually(lambda: witness.notes() or other.ask("watched"))  # it is stored
            other.ask("clear", force=True)
        space.broadcast("end")  # comes after all that was sent again
        eventually(lambda: [note for note in witness.notes() if note.type == "end"])

        assert witness.doubled() == []
        assert len(other.ask("watched")) <= 1
        assert [note.type for note in witness.notes()] in (["end"], ["paid", "end"])


@pytest.mark.parametrize("act", [schedule, schedule_with_an_id])
def test_what_was_scheduled_and_cleared_before_it_was_acknowledged_does_not_come_back(
    url: str,
    name: str,
    processes: Processes,
    proxy: Proxy,
    foreign: Foreign,
    act: Callable[[happen.Node], None],
) -> None:
    with happen.connect(proxy.url, name=name) as space:
        _schedule_first(space)
        other = processes.peer(url, name)
        orders = space.create_node("orders")
        with _without_acknowledgement(proxy, act, orders):
            eventually(lambda: _stored(foreign, f"happen.{name}.alarm.*"))
            other.ask("clear", force=True)
        last = space.broadcast("last", after=1)
        space.wait_for("last", since=last)
        assert [event.type for event in space.events()] == ["last"]


@pytest.mark.parametrize("id", [None, "payment-1"])
@pytest.mark.parametrize("end", ["delivered", "cancelled"])
def test_what_was_scheduled_and_ended_before_it_was_acknowledged_is_not_scheduled_again(
    url: str, name: str, processes: Processes, proxy: Proxy, foreign: Foreign, id: str | None, end: str
) -> None:
    events: list[happen.Event] = []
    with happen.connect(proxy.url, name=name) as space:
        _schedule_first(space)
        other = processes.peer(url, name)
        orders = space.create_node("orders")
        with _without_acknowledgement(
            proxy, lambda node: events.append(node.broadcast("paid", id=id, after=0.5)), orders
        ):
            eventually(lambda: _stored(foreign, f"happen.{name}.alarm.*"))
            if end == "cancelled":
                assert other.ask("cancel_scheduled") == 1
            eventually(lambda: not _stored(foreign, f"happen.{name}.alarm.*"))
        if end == "cancelled":
            last = space.broadcast("last", after=1)
            space.wait_for("last", since=last)
            assert len(space.events("paid")) == 0
        else:  # it comes after what the call has returned
            assert space.wait_for("paid", since=events[0]).id == events[0].id
        assert len(space.scheduled) == 0
        subject = "~.payment-1" if id else f"orders.{events[0].id}.paid"
        assert _stored(foreign, f"happen.{name}.event.{subject}") == 1
        assert not _stored(foreign, f"happen.{name}.alarm.*")


def _schedule_first(space: happen.Space) -> None:
    """Schedule the first event of a space, which marks it as one that has some."""
    first = space.broadcast("first", after=0.01)
    space.wait_for("first", since=first)


def _stored(foreign: Foreign, subject: str) -> int:
    """Return the number of messages that are stored on a subject."""
    stream = f"KV_happen_{subject.split('.')[1]}"
    found = foreign.api(f"STREAM.INFO.{stream}", {"subjects_filter": subject})["state"].get("subjects")
    return sum((found or {}).values())


def test_a_clear_whose_acknowledgement_is_lost_does_not_clear_twice(
    url: str, name: str, processes: Processes, proxy: Proxy
) -> None:
    with happen.connect(proxy.url, name=name) as space:
        other = processes.peer(url, name)
        other.ask("set", node="before", value={"n": 1})
        with _without_acknowledgement(
            proxy, lambda node: space.clear(force=True), space.create_node("orders")
        ):
            eventually(lambda: other.ask("get", node="before", fresh=True) == {})  # it is done
            other.ask("set", node="after", value={"n": 2})

        assert other.ask("get", node="after", fresh=True) == {"n": 2}
        assert space.views.after.get() == {"n": 2}
        assert "before" not in space.views
