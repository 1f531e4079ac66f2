"""Programs in JavaScript that take part in a space, written by the page on the wire format alone."""

from __future__ import annotations

import json

import pytest

import happen_nb as happen
from tests.journal.raw import Raw


def test_a_program_reads_commits_and_emits(space, javascript):
    orders = space.create_node("orders", initial={"open": 2})
    with Raw(space.server.url, space.server.token) as client:  # any key-value client: it gives no revision
        client.publish(f"$KV.happen_{space.name}.orders".encode(), b'{"open":3}')
        client.flush()
    orders.state.wait_for(lambda state: state["open"] == 3)
    seen = []

    def on_paid(event):
        seen.append(event)
        orders.state.set(happen.put("open", lambda n: n - 2))

    orders.on("order.*", on_paid)
    process = javascript("take_part.mjs")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    first, commit, handled, last = map(json.loads, out.splitlines())

    assert first["read"]["state"] == {"open": 3}
    assert first["read"]["revision"] == 2
    assert commit["commit"]["state"] == {"open": 4, "note": "größer"}
    assert commit["commit"]["revision"] == 3
    (event,) = seen
    assert (event.type, event.sender, event.payload) == ("order.paid", "till", {"id": "o1", "größe": "ü"})
    assert handled["handled"] == {
        "id": event.id,
        "node": "orders",
        "handler": "test_a_program_reads_commits_and_emits.<locals>.on_paid",
        "outcome": "done",
    }
    assert last["read"]["state"] == {"open": 2, "note": "größer"}
    assert last["read"]["revision"] == orders.state.revision == 4
    caused = orders.state.history()[-1]
    assert caused.cause == event.id
    assert [commit.revision for commit in orders.state.history()] == [1, 2, 3, 4]


@pytest.fixture
def press(space, javascript, until):
    """The program that owns the node "press"."""
    process = javascript("own_a_node.mjs")
    line = process.stdout.readline()
    assert line == "ready\n", process.stderr.read()
    until(lambda: space._runtime.ownership.owner_of("press") is not None)
    return process


def test_a_program_owns_a_node_and_replies_with_progress_and_a_result(space, press):
    reply = space.send("press", "print.pages", {"pages": 3}, timeout=60)
    assert list(reply) == [{"done": number, "total": 3} for number in (1, 2, 3)]
    assert reply.result() == {"printed": 3, "revision": 1}
    (commit,) = [
        entry for entry in space.journal() if isinstance(entry, happen.Commit) and entry.node == "press"
    ]
    assert (commit.cause, commit.after) == (reply.event.id, {"printed": 3})
    assert list(space.unhandled) == []


def test_a_program_replies_to_what_a_transform_sends(space, press):
    orders = space.create_node("orders", initial={"open": 0})
    replies = []

    def transform(state):
        replies[:] = [orders.send("press", "print.pages", {"pages": 2}, timeout=60)]
        return {"open": state["open"] + 1}

    orders.state.set(transform)
    assert replies[0].result() == {"printed": 2, "revision": 1}


def test_an_error_in_a_program_is_a_handler_error_with_its_trace(space, press):
    with pytest.raises(happen.HandlerError, match="paper jam in tray 2") as raised:
        space.send("press", "print.jam", timeout=60).result()
    assert "own_a_node.mjs" in raised.value.remote_traceback
    with pytest.raises(happen.NoHandlerError, match="has no handler"):
        space.send("press", "print.photo", timeout=60).result()


def test_what_a_program_handles_is_in_traces(space, press, until):
    event = space.broadcast("print.pages", {"pages": 1})
    until(lambda: event.handled_by)
    until(lambda: space.views.press.get("printed") == 1)
    assert event.settle(60)
    assert "press" in repr(space.trace(event))
    jam = space.broadcast("print.jam")
    until(lambda: "paper jam" in repr(space.trace(jam)))
    assert list(space.unhandled) == []


def test_a_program_gives_the_node_to_a_newer_owner(space, press):
    here = space.create_node("press")
    here.on("print.*", lambda event: "here")
    assert space.send("press", "print.pages", {"pages": 1}, timeout=60).result() == "here"
    assert press.stdout.readline() == "lost\n"


def test_a_program_that_ends_releases_its_node(space, press, until):
    out, err = press.communicate("", timeout=60)
    assert out == "released\n", err
    until(lambda: space._runtime.ownership.owner_of("press") is None)
    with pytest.raises(happen.NoHandlerError):
        space.send("press", "print.pages", {"pages": 1}, timeout=60).result()
