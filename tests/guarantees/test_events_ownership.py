"""Each event is handled once a node, by the process that owned it when the event was stored."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import happen_nb as happen
from tests.guarantees.processes import Peer, Processes, eventually
from tests.guarantees.proxy import Proxy
from tests.guarantees.witness import Witness

CLASS = [8, pytest.param(30, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]


def test_the_newest_to_register_owns_and_both_sides_are_told(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        first, second = (processes.peer(url, name) for _ in range(2))
        node = space.create_node("orders")
        assert node.owner is None
        for peer in (first, second):
            peer.ask("handle", node="orders", pattern="*", how="note", witness=str(witness.path))
            space.broadcast("paid", peer.pid).settle()
            owner = eventually(lambda: node.owner)
            assert (owner.pid, owner.here) == (peer.pid, False)

        assert [(note.pid, note.payload) for note in witness.notes()] == [
            (first.pid, first.pid),
            (second.pid, second.pid),
        ]
        assert first.ask("owner", node="orders") == second.pid
        lost = 'another process now owns node "orders"'
        eventually(lambda: lost in first.errors, what=lambda: first.errors)
        gained = 'this process now owns node "orders" (before: another process)'
        eventually(lambda: gained in second.errors, what=lambda: second.errors)


def test_running_the_registration_again_takes_it_back(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        peers = [processes.peer(url, name) for _ in range(2)]
        for peer in (*peers, peers[0]):
            peer.ask("handle", node="orders", pattern="paid", how="note", witness=str(witness.path))
        space.broadcast("paid", 1).settle()

        assert {note.pid for note in witness.notes()} == {peers[0].pid}
        assert len(witness.notes()) == 2  # both of its handlers
        assert peers[1].ask("handlers", node="orders") == ["paid"]


def test_a_killed_owner_is_replaced(url: str, name: str, processes: Processes, witness: Witness) -> None:
    with happen.connect(url, name=name) as space:
        heir, owner = (_handling(processes, url, name, witness) for _ in range(2))
        node = space.create_node("orders")
        owner.kill()
        space.broadcast("paid", "between")
        eventually(lambda: node.owner is not None and node.owner.pid == heir.pid)
        space.broadcast("paid", "after").settle()

        assert [(note.pid, note.payload) for note in witness.notes()] == [(heir.pid, "after")]
        assert [(each.event.payload, each.reason) for each in space.unhandled] == [("between", "owner died")]
        assert heir.ask("unhandled") == [["between", "owner died"]]


def test_a_node_of_a_killed_owner_is_unknown_when_it_is_deleted(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        owner = _handling(processes, url, name, witness)
        node = space.create_node("orders")
        node.state.set({"n": 1})
        owner.kill()
        node.delete()

        assert list(space.views) == []
        with pytest.raises(happen.UnknownNodeError):
            space.views["orders"].get()


def test_a_closed_space_hands_its_nodes_over(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        heir, owner = (_handling(processes, url, name, witness) for _ in range(2))
        node = space.create_node("orders")
        owner.ask("close")
        eventually(lambda: node.owner is not None and node.owner.pid == heir.pid)
        space.broadcast("paid", "after").settle()

        assert [note.pid for note in witness.notes()] == [heir.pid]
        assert len(space.unhandled) == 0


def test_a_closed_space_begins_with_none_of_what_waits_and_that_is_unhandled(
    url: str, name: str, processes: Processes, witness: Witness, tmp_path: Path
) -> None:
    with happen.connect(url, name=name) as space:
        owner = _handling(processes, url, name, witness, "pass_gate")
        gate = {"gate": str(tmp_path / "gate")}
        events = [space.broadcast("paid", gate) for _ in range(20)]
        eventually(witness.notes)
        owner.ask("close")
        (tmp_path / "gate").touch()
        outcomes = lambda: [each.outcome for each in space.trace(events[0]).root.handled]  # noqa: E731
        eventually(lambda: outcomes() == ["cancelled"])  # the one that ran longer than a close waits

        assert [note.event for note in witness.notes()] == [events[0].id]
        assert [each.event.id for each in space.unhandled][-19:] == [event.id for event in events[1:]]


def test_a_close_lets_what_runs_come_to_its_end(
    url: str, name: str, processes: Processes, witness: Witness, tmp_path: Path
) -> None:
    with happen.connect(url, name=name) as space:
        owner = _handling(processes, url, name, witness, "pass_gate")
        event = space.broadcast("paid", {"gate": str(tmp_path / "gate")})
        eventually(witness.notes)
        owner.tell("close")
        eventually(lambda: space.create_node("orders").owner is None)
        (tmp_path / "gate").touch()
        owner.answer()

        assert [note.event for note in witness.notes("ended")] == [event.id]
        assert event.handled_by == ("orders",)


def test_a_node_without_a_waiting_process_has_no_owner_after_its_end(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        owner = _handling(processes, url, name, witness)
        node = space.create_node("orders")
        eventually(lambda: node.owner)
        owner.ask("close")
        eventually(lambda: node.owner is None)
        space.broadcast("paid", 1)

        assert [each.reason for each in space.unhandled] == ["no owner"]
        with pytest.raises(happen.NoHandlerError):
            space.send("orders", "paid").result()


def test_a_frozen_owner_keeps_its_nodes_and_handles_what_it_missed(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        _heir, owner = (_handling(processes, url, name, witness) for _ in range(2))
        owner.pause()
        deadline = time.monotonic() + 2  # how long it is frozen
        sent = 0
        while time.monotonic() < deadline:
            space.broadcast("paid", sent := sent + 1)
        owner.resume()
        eventually(lambda: len(witness.notes()) >= sent)

        assert [(note.pid, note.payload) for note in witness.notes()] == [
            (owner.pid, number) for number in range(1, sent + 1)
        ]


def test_what_a_busy_owner_has_still_to_handle_is_neither_unhandled_nor_settled(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        owner = _handling(processes, url, name, witness)
        owner.pause()
        event = space.broadcast("paid", 1)

        assert list(space.unhandled) == []
        with pytest.raises(happen.HappenTimeoutError):
            event.settle(timeout=0.1)
        space.unhandled.retry()
        owner.resume()
        event.settle()
        assert [note.payload for note in witness.notes()] == [1]
        assert list(space.unhandled) == []


def test_what_a_replaced_owner_has_still_to_handle_is_neither_unhandled_nor_settled(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        heir, owner = (_handling(processes, url, name, witness) for _ in range(2))
        node = space.create_node("orders")
        owner.pause()
        event = space.broadcast("paid", 1)
        heir.ask("handle", node="orders", pattern="refunded", how="note", witness=str(witness.path))
        assert eventually(lambda: node.owner.pid == heir.pid)

        assert list(space.unhandled) == []
        with pytest.raises(happen.HappenTimeoutError):
            event.settle(timeout=0.1)
        owner.resume()
        event.settle()
        assert [(note.pid, note.payload) for note in witness.notes()] == [(owner.pid, 1)]
        assert list(space.unhandled) == []


def test_an_owner_that_was_replaced_while_frozen_handles_only_what_came_before(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        heir, owner = (_handling(processes, url, name, witness) for _ in range(2))
        owner.pause()
        for number in range(50):
            space.broadcast("paid", number)
        heir.ask("handle", node="orders", pattern="refunded", how="note", witness=str(witness.path))
        for number in range(50, 100):
            space.broadcast("paid", number)
        eventually(lambda: len(witness.notes()) == 50)
        owner.resume()
        eventually(lambda: len(witness.notes()) >= 100)
        space.broadcast("paid", 100).settle()

        by = {note.payload: note.pid for note in witness.notes()}
        assert by == {number: owner.pid if number < 50 else heir.pid for number in range(101)}
        assert witness.doubled() == []


def _handling(processes: Processes, url: str, name: str, witness: Witness, how: str = "note") -> Peer:
    """A process that handles what is paid at the node orders; mostly it only notes it."""
    peer = processes.peer(url, name)
    peer.ask("handle", node="orders", pattern="paid", how=how, witness=str(witness.path))
    return peer


def test_an_owner_that_was_away_while_two_others_came_handles_nothing_of_theirs(
    url: str, name: str, processes: Processes, witness: Witness, proxy: Proxy
) -> None:
    with happen.connect(url, name=name) as space:
        owner = _handling(processes, proxy.url, name, witness)
        space.broadcast("paid", "first").settle()
        proxy.cut()
        second = _handling(processes, url, name, witness)
        space.broadcast("paid", "second").settle()
        third = _handling(processes, url, name, witness)
        space.broadcast("paid", "third").settle()
        proxy.heal()
        eventually(lambda: owner.ask("owner", node="orders") == third.pid)
        space.broadcast("paid", "fourth").settle()

        assert [(note.pid, note.payload) for note in witness.notes()] == [
            (owner.pid, "first"),
            (second.pid, "second"),
            (third.pid, "third"),
            (third.pid, "fourth"),
        ]


@pytest.mark.parametrize("size", CLASS)
def test_a_class_that_shares_a_space_handles_nothing_twice(
    url: str, name: str, processes: Processes, witness: Witness, size: int
) -> None:
    with happen.connect(url, name=name) as space:
        peers = _class(processes, url, name, size)
        for number, peer in enumerate(peers):
            for node in ("shared", f"own-{number}"):
                peer.tell("handle", node=node, pattern="*", how="note", witness=str(witness.path))
        for number, peer in enumerate(peers):
            peer.tell("broadcast_many", node=f"own-{number}", type="early", payloads=[number] * 5)
        for peer in peers:
            for _ in range(3):
                peer.answer()
        nodes = {"shared", *(f"own-{number}" for number in range(size))}
        space.create_node("shared").state.get(fresh=True)  # until here, each claim has arrived
        owners = {node: owner.pid for node in nodes if (owner := space.create_node(node).owner)}
        for number, peer in enumerate(peers):
            peer.tell("broadcast_many", node=f"own-{number}", type="late", payloads=[number] * 5)
        late = [event for peer in peers for event in peer.answer()]
        everywhere = {(event, node) for event in late for node in owners}
        eventually(lambda: everywhere <= {(note.event, note.node) for note in witness.notes()}, 60)

        assert witness.doubled() == []
        assert set(owners) == nodes
        assert {note.node: note.pid for note in witness.notes() if note.type == "late"} == owners
        assert all(owners[f"own-{number}"] == peer.pid for number, peer in enumerate(peers))


def test_a_node_with_a_handler_and_no_commit_is_seen_by_other_processes(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        _handling(processes, url, name, witness)
        space.broadcast("paid").settle()

        assert list(space.views) == ["orders"]
        assert (space.views.orders.get(), space.views.orders.revision) == ({}, 0)


def _class(processes: Processes, url: str, name: str, size: int) -> list[Peer]:
    """So many processes in one space, started side by side."""
    peers = [processes.peer() for _ in range(size)]
    for peer in peers:
        peer.tell("connect", url=url, name=name)
    for peer in peers:
        peer.answer()
    return peers
