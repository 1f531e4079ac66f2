"""The cache of past states: a record is not read again, unless it has changed."""

from __future__ import annotations

import pytest

from happen_nb._api.history import Snapshot
from happen_nb._journal.commits import commits_at_position
from happen_nb._model.records import CommitRecord
from happen_nb._runtime import replica
from happen_nb._runtime.io import on_io, run_blocking
from happen_nb._runtime.replica import SnapshotCache
from happen_nb.errors import HistoryGoneError, StateError


@pytest.fixture
def states_at(space):
    past = SnapshotCache(space._log)

    async def at(position):
        return await on_io(past.at(position))

    def states_at(commit):
        return dict(Snapshot(run_blocking(at(commit.sequence))))

    return states_at


@pytest.fixture
def asked(monkeypatch):
    """The names of the nodes that were asked for, a list for each time."""
    asked = []

    async def noted(stream, nodes, position):
        asked.append(sorted(nodes))
        return await commits_at_position(stream, nodes, position)

    monkeypatch.setattr(replica, "commits_at_position", noted)
    return asked


def test_moments_are_what_a_space_was_in_any_order(space, states_at):
    orders = space.create_node("orders")
    stock = space.create_node("stock")
    commits, expected = [], []
    for number in range(6):
        node, value = (orders, stock)[number % 2], {"n": number}
        commits.append(node.state.set(value))
        expected.append({**(expected[-1] if expected else {}), node.name: value})
    for at in (5, 2, 4, 0, 3, 1, 5, 0):
        there = {name: state for name, state in states_at(commits[at]).items() if state}
        assert there == expected[at]


def test_what_a_node_was_is_asked_for_once(space, states_at, asked):
    orders = space.create_node("orders", initial={"n": 0})
    stock = space.create_node("stock", initial={"n": 0})
    commits = [orders.state.set({"n": number}) for number in range(1, 5)]
    stock.state.set({"n": 1})
    states_at(commits[2])
    states_at(commits[1])
    states_at(commits[2])
    states_at(commits[1])
    assert asked == [["orders", "stock"], ["orders"], [], []]


def test_a_cleared_past_is_gone_although_it_was_read(space, states_at):
    orders = space.create_node("orders", initial={"n": 0})
    first = orders.state.set({"n": 1})
    orders.state.set({"n": 2})
    assert states_at(first) == {"orders": {"n": 1}}
    space.clear()
    orders.state.set({"n": 3})
    with pytest.raises(HistoryGoneError):
        states_at(first)


def test_more_nodes_than_one_request_takes_are_all_found(space, states_at, monkeypatch):
    monkeypatch.setattr("happen_nb._journal.commits.MAX_NODES_PER_REQUEST", 3)
    nodes = [space.create_node(f"node-{number}", initial={"n": 0}) for number in range(8)]
    then = nodes[-1].state.set({"n": 1})
    for node in nodes:
        node.state.set({"n": 2})
    assert states_at(then) == {**{f"node-{n}": {"n": 0} for n in range(7)}, "node-7": {"n": 1}}


def test_a_glimpse_is_the_state_and_keeps_nothing():
    record = CommitRecord("orders", 1, 1, 0, b'{"items": [1, {"a": 2}]}')
    assert record.peek() == {"items": [1, {"a": 2}]}
    assert type(record.peek()) is dict
    assert record.state == record.peek()
    assert record.peek() is record.state


@pytest.mark.parametrize("body", [b"no", b"[1]"])
def test_a_glimpse_of_what_is_no_state_is_the_same_error(body):
    with pytest.raises(StateError, match="no readable state"):
        CommitRecord("orders", 1, 1, 0, body).peek()


LARGE_INTEGERS = {
    b'{"a":18446744073709551616}': None,
    b'{"a":[-9223372036854775809]}': None,
    b'{"a":' + b"9" * 300 + b"}": None,
    b'{"a":18446744073709551615}': 2**64 - 1,
    b'{"a":-9223372036854775808}': -(2**63),
    b'{"a":1234567890123456789012.5}': 1234567890123456789012.5,
    b'{"a":"18446744073709551616"}': "18446744073709551616",
}


@pytest.mark.parametrize(("body", "wanted"), LARGE_INTEGERS.items(), ids=range(len(LARGE_INTEGERS)))
def test_an_integer_beyond_64_bits_of_another_client_is_no_float(body, wanted):
    record = CommitRecord("orders", 1, 1, 0, body)
    if wanted is None:
        with pytest.raises(StateError, match=r"an integer below -2\*\*63 or above"):
            _ = record.state
    else:
        assert record.state["a"] == wanted
