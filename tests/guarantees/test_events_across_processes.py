"""Events of one process as others see them: what they caused, what is followed, cleared and deleted."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

import happen_nb as happen
from happen_nb._runtime.peers import Peers
from tests.guarantees.processes import Peer, Processes, eventually
from tests.guarantees.proxy import Proxy
from tests.guarantees.servers import Server
from tests.guarantees.witness import Witness


def _handling(
    processes: Processes,
    url: str,
    name: str,
    witness: Witness,
    how: str = "note",
    node: str = "shop",
    pattern: str = "*",
) -> Peer:
    """A process whose node handles what matches in one way."""
    peer = processes.peer(url, name)
    peer.ask("handle", node=node, pattern=pattern, how=how, witness=str(witness.path))
    return peer


def test_settling_an_event_waits_for_what_it_causes_in_all_processes(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        for node in ("ping", "pong"):
            _handling(processes, url, name, witness, "tell_next", node, node)
        chain = ["ping", "pong"] * 5
        event = space.broadcast(chain[0], chain[1:])
        trace = event.settle()

        assert [note.node for note in witness.notes()] == chain
        types = [each.event.type for each in trace if each.event is not None]
        commits = [each.commit.node for each in trace if each.commit is not None]
        assert (types, commits) == (chain, chain[:-1])
        assert [each.handled[0].outcome for each in trace if each.event is not None] == ["done"] * 10
        assert space.create_node("ping").state.get("n") == 5  # it is here already


def test_a_process_that_handles_nothing_can_settle_too(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name):
        _handling(processes, url, name, witness, "tell_next", "ping", "*")
        peer = processes.peer(url, name)
        assert peer.ask("settle", node="me", type="a", payload=["b", "c"]) == ["a", "b", "c"]
        assert len(witness.notes()) == 3


def test_a_process_that_still_handles_is_asked_once_and_answers_when_it_has_ended(
    url: str,
    name: str,
    processes: Processes,
    witness: Witness,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []
    ask = Peers.ask

    async def counted(self: Peers, incarnation: str, question: dict[str, Any], timeout: float) -> Any:
        asked.append(question)
        return await ask(self, incarnation, question, timeout)

    monkeypatch.setattr(Peers, "ask", counted)
    with happen.connect(url, name=name) as space:
        _handling(processes, url, name, witness, "pass_gate")
        gate = tmp_path / "gate"
        event = space.broadcast("paid", {"gate": str(gate)})
        opening = threading.Timer(0.5, gate.touch)
        opening.start()
        event.settle()
        assert gate.exists()
        assert len(witness.notes("ended")) == 1
        assert len([each for each in asked if "events" in each]) <= 2  # asking again and again took 9
        opening.join()


def test_settling_does_not_wait_for_a_process_that_was_killed(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        _handling(processes, url, name, witness).kill()
        trace = space.broadcast("paid").settle()
        assert [each.handled for each in trace] == [()]


def test_every_process_can_tell_who_has_handled_an_event(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        for node in ("shop", "stock"):
            _handling(processes, url, name, witness, node=node)
        _handling(processes, url, name, witness, node="office", pattern="other")
        event = space.broadcast("paid")
        event.settle()

        assert sorted(event.handled_by) == ["shop", "stock"]
        assert sorted(space.events("paid")[0].handled_by) == ["shop", "stock"]
        space.close()
        with happen.connect(url, name=name) as later:
            assert sorted(later.events("paid")[0].handled_by) == ["shop", "stock"]
            assert len(later.unhandled) == 0


def test_an_event_of_another_process_can_be_waited_for(url: str, name: str, processes: Processes) -> None:
    with happen.connect(url, name=name) as space:
        peer = processes.peer(url, name)
        start = space.broadcast("start")
        peer.tell("wait_for", pattern="order.*", since=start.sequence)
        peer.tell("broadcast", node="me", type="answer", payload=2)
        space.create_node("n").broadcast("order.paid", 1)

        assert peer.answer() == 1
        assert space.wait_for("answer", since=start).payload == 2
        event = space.wait_for("answer", lambda e: e.payload == 2, since=start)
        assert (event.sender, event.sequence) == ("me", peer.answer()[1])


def test_clearing_keeps_who_handles_what(url: str, name: str, processes: Processes, witness: Witness) -> None:
    with happen.connect(url, name=name) as space:
        peer = _handling(processes, url, name, witness, "count")
        for times in range(1, 4):
            space.broadcast("paid", "before").settle()
            space.clear(force=True)
            assert len(space.events()) == len(space.unhandled) == 0
            space.broadcast("paid", "after").settle()

            assert witness.handled() == ["before", "after"] * times
            assert space.create_node("shop").state.get("n") == 1
            owner = space.create_node("shop").owner
            assert owner is not None
            assert owner.pid == peer.pid
        newcomer = processes.peer(url, name)
        assert newcomer.ask("owner", node="shop") == peer.pid


def test_after_clearing_a_killed_owner_is_replaced_and_another_can_claim(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        heir, owner = (_handling(processes, url, name, witness) for _ in range(2))
        node = space.create_node("shop")
        space.clear(force=True)
        owner.kill()
        eventually(lambda: node.owner is not None and node.owner.pid == heir.pid)
        claiming = _handling(processes, url, name, witness)
        space.broadcast("paid").settle()

        assert [note.pid for note in witness.notes()] == [claiming.pid]


def test_deleting_a_node_takes_off_its_handlers_in_other_processes(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        peer = _handling(processes, url, name, witness, "count")
        space.broadcast("paid", "before").settle()
        node = space.create_node("shop")
        node.delete()
        eventually(lambda: node.owner is None)
        space.broadcast("paid", "after")

        assert peer.ask("handlers", node="shop") == []
        assert [(each.event.payload, each.reason) for each in space.unhandled] == [("after", "no owner")]
        assert witness.handled() == ["before"]
        peer.ask("handle", node="shop", pattern="*", how="count", witness=str(witness.path))
        space.broadcast("paid", "again").settle()
        assert witness.handled() == ["before", "again"]
        assert node.state.get() == {"n": 1}


def test_an_event_right_after_the_deletion_is_not_handled(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        peer = _handling(processes, url, name, witness, "count")
        space.broadcast("paid", "before").settle()
        peer.pause()  # so that it gets both at once
        space.create_node("shop").delete()
        space.broadcast("paid", "after")
        peer.resume()
        eventually(lambda: peer.ask("handlers", node="shop") == [])
        space.broadcast("done").settle()

        assert witness.handled() == ["before"]


@pytest.mark.parametrize("cut", ["cut", "black_hole"])
def test_a_follower_that_was_cut_off_handles_what_it_missed_once(
    url: str, name: str, processes: Processes, witness: Witness, proxy: Proxy, cut: str
) -> None:
    with happen.connect(url, name=name) as space:
        _handling(processes, proxy.url, name, witness, "count")
        sent = 0
        for _ in range(3):
            getattr(proxy, cut)()
            for _ in range(50):
                space.broadcast("paid", sent := sent + 1)
            proxy.heal()
        eventually(lambda: len(witness.notes()) >= sent)
        space.broadcast("paid", sent + 1).settle()

        assert witness.handled() == list(range(1, sent + 2))
        assert space.create_node("shop").state.get("n") == sent + 1
        assert len(space.unhandled) == 0


def test_what_a_cut_off_owner_missed_is_its_own_also_if_it_was_replaced(
    url: str, name: str, processes: Processes, witness: Witness, proxy: Proxy
) -> None:
    with happen.connect(url, name=name) as space:
        heir = _handling(processes, url, name, witness)
        owner = _handling(processes, proxy.url, name, witness)
        node = space.create_node("shop")
        proxy.cut()
        number = 0
        while node.owner is None or node.owner.pid != heir.pid:
            space.broadcast("paid", number := number + 1)
            time.sleep(0.01)
        space.broadcast("paid", number := number + 1).settle()
        proxy.heal()
        eventually(lambda: {*range(1, number + 1)} <= {*witness.handled()})

        assert witness.doubled() == []
        assert {note.pid for note in witness.notes()} == {heir.pid, owner.pid}
        assert [note.pid for note in witness.notes() if note.payload == number] == [heir.pid]
        mine = [note.payload for note in witness.notes() if note.pid == owner.pid]
        assert mine == list(range(1, len(mine) + 1))


def test_a_killed_server_loses_and_doubles_no_event(
    mortal: Server, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(mortal.url, name=name, timeout=30) as space:
        _handling(processes, mortal.url, name, witness, "count")
        sent = 0
        for _ in range(4):
            for _ in range(50):
                space.broadcast("paid", sent := sent + 1)
            mortal.kill()
            mortal.start()
        eventually(lambda: len(witness.notes()) >= sent)
        space.broadcast("paid", sent + 1).settle()

        assert witness.handled() == list(range(1, sent + 2))
        assert space.create_node("shop").state.get("n") == sent + 1
