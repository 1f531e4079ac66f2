"""Processes that own nodes in turn, while they are killed, frozen and closed, and the server is killed.

One process broadcasts numbers all the while. Whatever happens, each is handled at most once, and what nobody
has handled is in `space.unhandled`.
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass
from typing import Any

import pytest

import happen_nb as happen
from tests.guarantees.broadcasting import Broadcasting
from tests.guarantees.processes import Peer, Processes, eventually
from tests.guarantees.servers import Server
from tests.guarantees.witness import Witness

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The number of processes, and what happens to them, in random order.

    When there are fewer than `least`, some are added.
    """

    crowd: int
    least: int
    kill: int = 0
    freeze: int = 0
    claim: int = 0
    close: int = 0
    kill_server: int = 0

    def acts(self, choose: random.Random) -> list[str]:
        """The names of what happens."""
        names = ("kill", "freeze", "claim", "close", "kill_server")
        acts = [name for name in names for _ in range(getattr(self, name))]
        choose.shuffle(acts)
        return acts


class Crowd:
    """Processes that all handle the events of one node."""

    def __init__(
        self,
        processes: Processes,
        server: Server,
        space: happen.Space,
        witness: Witness,
        least: int,
        seed: int,
    ) -> None:
        self.killed: list[int] = []
        self.takeovers: list[float] = []
        self._processes = processes
        self._least = least
        self._server = server
        self._space = space
        self._witness = witness
        self._node = space.create_node("shared")
        self._choose = random.Random(seed)
        self._peers: dict[int, Peer] = {}

    def add(self, count: int) -> None:
        """More of them, started side by side."""
        new = [self._processes.peer() for _ in range(count)]
        for peer in new:
            peer.tell("connect", url=self._server.url, name=self._space.name, timeout=30)
        for peer in new:
            peer.answer()
        for peer in new:
            self._register(peer, "tick")
            self._peers[peer.pid] = peer

    def _register(self, peer: Peer, pattern: str) -> None:
        """Register a handler, and so own the node."""
        path = str(self._witness.path)
        peer.ask("handle", node=self._node.name, pattern=pattern, how="count", witness=path)

    def do(self, act: str) -> None:
        """Do one act of a `Plan` at a random moment."""
        time.sleep(self._choose.uniform(0, 0.3))  # the random moment itself
        getattr(self, f"_{act}")()
        if len(self._peers) < self._least:
            self.add(max(2, self._least // 4))

    def _owner(self) -> Peer:
        return eventually(lambda: self._peers.get(self._owner_pid()))

    def _owner_pid(self) -> int:
        owner = self._node.owner
        return 0 if owner is None else owner.pid

    def _await_another(self, than: Peer) -> None:
        eventually(lambda: self._owner_pid() in self._peers.keys() - {than.pid})

    def _kill(self) -> None:
        owner = self._owner()
        begun = time.monotonic()
        owner.kill()
        del self._peers[owner.pid]
        self.killed.append(owner.pid)
        self._await_another(owner)
        self.takeovers.append(time.monotonic() - begun)

    def _close(self) -> None:
        owner = self._owner()
        owner.ask("close")
        del self._peers[owner.pid]
        self._await_another(owner)

    def _claim(self) -> None:
        peer = self._anyone()
        self._register(peer, "never")
        eventually(lambda: self._owner_pid() == peer.pid)

    def _freeze(self) -> None:
        frozen = self._choose.choice([self._owner(), self._anyone()])
        frozen.pause()
        time.sleep(self._choose.uniform(0.2, 2))  # how long it is frozen
        if self._choose.random() < 0.5 and (claiming := self._anyone()) is not frozen:
            self._register(claiming, "never")
        frozen.resume()

    def _kill_server(self) -> None:
        self._server.kill()
        time.sleep(self._choose.uniform(0, 0.5))  # how long it is away
        self._server.start()

    def _anyone(self) -> Peer:
        return self._choose.choice(list(self._peers.values()))


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(Plan(4, 2, kill=4, claim=2, close=1), id="4 kills"),
        pytest.param(
            Plan(20, 16, kill=25, freeze=14, claim=10, close=5, kill_server=5),
            marks=[pytest.mark.soak, pytest.mark.timeout(1200)],
            id="25 kills",
        ),
    ],
)
def test_whatever_happens_to_owners_no_event_is_handled_twice_and_each_unhandled_one_is_listed(
    mortal: Server, name: str, processes: Processes, witness: Witness, seed: int, plan: Plan
) -> None:
    with happen.connect(mortal.url, name=name, timeout=30) as space:
        crowd = Crowd(processes, mortal, space, witness, plan.least, seed)
        crowd.add(plan.crowd)
        with Broadcasting(space) as broadcasting:
            for act in plan.acts(random.Random(seed)):
                crowd.do(act)
        unhandled = eventually(lambda: _all_accounted_for(space, broadcasting.sent, witness))

        what = f"seed {seed}"
        handled = witness.handled("shared")
        told_so_too = _both(handled, unhandled)
        log.info(
            "%d events, %d handled, %d unhandled, of these %d handled by killed ones; takeovers up to %.2f s",
            len(broadcasting.sent),
            len(handled),
            len(unhandled),
            len(told_so_too),
            max(crowd.takeovers),
        )
        assert broadcasting.failed == [], what
        assert witness.doubled() == [], what
        by = {note.payload: note.pid for note in witness.notes()}
        assert {by[number] for number in told_so_too} <= {*crowd.killed}, what
        assert {each.reason for each in space.unhandled} <= {"owner died", "no owner"}, what
        _assert_counted(space, handled, crowd, what)


def _all_accounted_for(space: happen.Space, sent: list[int], witness: Witness) -> list[int]:
    """Return what is unhandled, once that and what is handled is all; empty before."""
    handled = {*witness.handled("shared")}
    unhandled = [each.event.payload for each in space.unhandled]
    return [*unhandled] if {*sent} <= handled | {*unhandled} else []


def _both(handled: list[Any], unhandled: list[Any]) -> set[Any]:
    return {*handled} & {*unhandled}


def _assert_counted(space: happen.Space, handled: list[Any], crowd: Crowd, what: str) -> None:
    """Each handling committed once; one that was killed may not have come to it."""
    counted = space.create_node("shared").state.get("n", fresh=True)
    assert len(handled) - len(crowd.killed) <= counted <= len(handled), what
