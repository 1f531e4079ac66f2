"""Events of a space with three replicas, and of processes that the server dropped while they were frozen."""

from __future__ import annotations

import logging
import random
import threading
from datetime import timedelta
from pathlib import Path

import pytest

import happen_nb as happen
from tests.guarantees.broadcasting import Broadcasting
from tests.guarantees.processes import Processes, eventually
from tests.guarantees.servers import Cluster, Server
from tests.guarantees.witness import Witness

log = logging.getLogger(__name__)

REPLICAS = 3
TIMEOUT = 30.0


@pytest.mark.parametrize(
    "kills", [1, pytest.param(10, marks=[pytest.mark.soak, pytest.mark.timeout(900)], id="10 kills")]
)
def test_a_killed_leader_loses_no_event_and_doubles_none(
    cluster: Cluster, name: str, processes: Processes, witness: Witness, seed: int, kills: int
) -> None:
    choose = random.Random(seed)
    with happen.connect(cluster.url, name=name, replicas=REPLICAS, timeout=TIMEOUT) as space:
        peer = processes.peer(cluster.url, name, replicas=REPLICAS, timeout=TIMEOUT)
        peer.ask("handle", node="shop", pattern="tick", how="count", witness=str(witness.path))
        with Broadcasting(space) as broadcasting:
            for _ in range(kills):
                cluster.change_leader(f"KV_happen_{name}", lambda: choose.uniform(0.3, 1.0))
        sent = broadcasting.sent
        eventually(lambda: len(witness.handled("shop")) >= len(sent), within=60)

        log.info("%d leaders killed, %d events", kills, len(sent))
        assert broadcasting.failed == [], f"seed {seed}"
        assert witness.handled("shop") == sent, f"seed {seed}"
        assert [event.payload for event in space.events("tick")] == sent
        assert list(space.unhandled) == []


def test_replies_ids_and_emitting_commits_hold_on_replicas(
    cluster: Cluster, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(cluster.url, name=name, replicas=REPLICAS) as space:
        shop = space.create_node("shop", initial={"n": 0})
        peer = processes.peer(cluster.url, name, replicas=REPLICAS)
        peer.ask("handle", node="stock", pattern="*", how="echo", witness=str(witness.path))
        cluster.leader(f"KV_happen_{name}").kill()

        def pay(state: happen.State) -> dict[str, int]:
            shop.broadcast("paid", state["n"], id=f"pay-{state['n']}")
            shop.broadcast("told", state["n"])
            return {"n": state["n"] + 1}

        for _ in range(3):
            shop.state.set(pay)
        again = [shop.broadcast("paid", number, id=f"pay-{number}").repeated for number in range(3)]

        assert again == [True] * 3
        assert space.send("stock", "ask", 7).result() == {"echo": 7}
        assert [event.payload for event in space.events("paid")] == [0, 1, 2]
        kinds = [type(each).__name__ for each in space.journal()]
        assert kinds == ["Commit", *["Commit", "Event", "Event"] * 3, "Event"]
        eventually(lambda: len(witness.notes()) == 7)
        assert witness.doubled() == []


@pytest.fixture
def impatient(tmp_path: Path) -> Server:
    """A server that drops who does not answer for a second or so."""
    server = Server(tmp_path / "impatient", 'ping_interval: "300ms"\nping_max: 2').start()
    yield server
    server.kill()


def test_an_owner_that_the_server_has_dropped_handles_what_came_before_another_took_over(
    impatient: Server, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(impatient.url, name=name) as space:
        node = space.create_node("shop")
        second, first = (processes.peer(impatient.url, name) for _ in range(2))
        for peer in (second, first):
            peer.ask("handle", node="shop", pattern="tick", how="note", witness=str(witness.path))
        first.pause()
        with Broadcasting(space) as broadcasting:
            eventually(lambda: node.owner is not None and node.owner.pid == second.pid)  # it was dropped
            here = len(broadcasting.sent)
            eventually(lambda: len(broadcasting.sent) > here + 50)
            first.resume()
            eventually(lambda: len(broadcasting.sent) > here + 100)
        sent = broadcasting.sent
        eventually(lambda: len(witness.handled("shop")) >= len(sent))

        by = {note.payload: note.pid for note in witness.notes()}
        assert witness.doubled() == []
        assert sorted(witness.handled("shop")) == sent
        assert [by[number] == second.pid for number in sent] == sorted(
            by[number] == second.pid for number in sent
        )
        assert by[sent[0]] == first.pid
        eventually(
            lambda: not space.unhandled, what=lambda: space.unhandled
        )  # what was handled is noted then


def test_a_past_time_is_found_while_others_read_what_is_newest(cluster: Cluster, name: str) -> None:
    with happen.connect(cluster.url, replicas=3, name=name) as space:
        node, stop = space.create_node("n"), threading.Event()
        began = node.state.set({"n": 1}).time - timedelta(seconds=1)

        def read() -> None:
            while not stop.is_set():  # each reading stores a barrier in the place of the one before
                node.state.get(fresh=True)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            found = {len(space.at(began)) for _ in range(20)}
        finally:
            stop.set()
            reader.join()
        assert found == {0}
