"""A process that follows a space: whatever comes between, it ends with what is stored.

Each test lets a second process follow, disturbs it, and compares every node's state and revision with
those of a connection made afresh; and what its watches were told, with what may be told: each commit once,
in order.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest

import happen_nb as happen
from tests.guarantees.processes import Peer, Processes, eventually, start_together
from tests.guarantees.proxy import Proxy
from tests.guarantees.servers import Foreign

NODES = ("a", "b", "c")
SAME_WITHIN = 30.0


def _follower(processes: Processes, url: str, name: str) -> Peer:
    """A process that follows the space and watches its nodes."""
    peer = processes.peer(url, name)
    for node in NODES:
        peer.ask("watch", node=node)
    return peer


def _commit(space: happen.Space, rounds: int) -> None:
    for _ in range(rounds):
        for node in NODES:
            space.create_node(node).state.set(lambda s: {"n": s.get("n", 0) + 1})


def _afresh(processes: Processes, url: str, name: str) -> dict[str, Any]:
    """All states, as a process sees them that connects now."""
    peer = processes.peer(url, name)
    stored: dict[str, Any] = peer.ask("states")
    peer.ask("close")
    return stored


def _assert_same_as_afresh(processes: Processes, follower: Peer, url: str, name: str) -> dict[str, Any]:
    """Wait until the follower has what a process has that connects now; returns that."""
    stored = _afresh(processes, url, name)
    eventually(
        lambda: follower.ask("states") == stored,
        SAME_WITHIN,
        lambda: f"stored {stored}, followed {follower.ask('states')}",
    )
    return stored


def _told(follower: Peer) -> dict[str, list[int]]:
    """Node -> the revisions that its watch was called with."""
    assert follower.ask("failures") == []
    told: dict[str, list[int]] = {node: [] for node in NODES}
    for node, revision, _ in follower.ask("watched"):
        told[node].append(revision)
    return told


def _assert_told_every_commit(follower: Peer, first: int, stored: dict[str, Any]) -> None:
    """Wait for the last commit of each node; all from `first` on were told once, in order."""
    newest = [stored[node][0] for node in NODES]
    eventually(lambda: [max(revisions, default=0) for revisions in _told(follower).values()] == newest)
    for node, revisions in _told(follower).items():
        jumps = [(one, next) for one, next in pairwise(revisions) if next != one + 1]
        assert (revisions[0], jumps) == (first, []), node


def _commit_for(space: happen.Space, seconds: float) -> None:
    end = time.monotonic() + seconds  # how long it is away
    while time.monotonic() < end:
        _commit(space, 5)
        time.sleep(0.05)


@pytest.mark.parametrize("seconds", [4, pytest.param(30, marks=pytest.mark.soak)])
def test_a_paused_process_catches_up(url: str, name: str, processes: Processes, seconds: float) -> None:
    with happen.connect(url, name=name) as space:
        _commit(space, 1)
        follower = _follower(processes, url, name)
        follower.pause()
        _commit_for(space, seconds)
        follower.resume()
        _commit(space, 5)

        stored = _assert_same_as_afresh(processes, follower, url, name)
        _assert_told_every_commit(follower, 2, stored)


@pytest.mark.parametrize("cuts", [3, pytest.param(30, marks=[pytest.mark.soak, pytest.mark.timeout(300)])])
def test_a_cut_connection_is_made_up_for(
    url: str, name: str, processes: Processes, proxy: Proxy, cuts: int
) -> None:
    with happen.connect(url, name=name) as space:
        _commit(space, 1)
        follower = _follower(processes, proxy.url, name)
        for _ in range(cuts):
            _commit(space, 5)
            proxy.cut()
            _commit(space, 50)
            proxy.heal()
            _commit(space, 5)

        stored = _assert_same_as_afresh(processes, follower, url, name)
        _assert_told_every_commit(follower, 2, stored)


@pytest.mark.parametrize("seconds", [4, pytest.param(30, marks=pytest.mark.soak)])
def test_a_connection_that_passes_nothing_for_a_while_is_made_up_for(
    url: str, name: str, processes: Processes, proxy: Proxy, seconds: float
) -> None:
    with happen.connect(url, name=name) as space:
        _commit(space, 1)
        follower = _follower(processes, proxy.url, name)
        proxy.black_hole()
        _commit_for(space, seconds)
        proxy.heal()

        stored = _assert_same_as_afresh(processes, follower, url, name)
        _assert_told_every_commit(follower, 2, stored)


def test_a_purge_by_another_client_is_noticed(url: str, name: str, processes: Processes) -> None:
    with happen.connect(url, name=name) as space, Foreign(url) as foreign:
        _commit(space, 20)
        follower = _follower(processes, url, name)
        _commit(space, 5)
        eventually(lambda: len(follower.ask("watched")) == 5 * len(NODES))  # else they may be purged unseen
        assert foreign.api(f"STREAM.PURGE.KV_happen_{name}")["purged"] >= 75
        node = space.create_node("b")
        node.state.get(fresh=True)  # notices it; if that came during the set, its outcome would be unknown
        node.state.set({"n": "after"})

        stored = _assert_same_as_afresh(processes, follower, url, name)
        assert stored == {"b": [1, {"n": "after"}]}  # nothing is left of it that could be counted on
        sequences = sorted(sequence for _, _, sequence in follower.ask("watched"))  # watches go side by side
        assert sequences == list(range(sequences[0], sequences[0] + 15 + 1))


def test_a_stream_that_is_deleted_and_made_again_is_followed(
    url: str, name: str, processes: Processes
) -> None:
    with happen.connect(url, name=name) as space, Foreign(url) as foreign:
        _commit(space, 20)
        follower = _follower(processes, url, name)
        foreign.api(f"STREAM.DELETE.KV_happen_{name}")
        maker = processes.peer(url, name)
        maker.ask("set", node="a", value={"n": "new"})
        maker.ask("set", node="d", value={"n": "new"})

        stored = _assert_same_as_afresh(processes, follower, url, name)
        assert stored == {"a": [1, {"n": "new"}], "d": [1, {"n": "new"}]}
        node = space.create_node("a")
        node.state.get(fresh=True)  # as above
        assert node.state.set({"n": "newer"}).revision == 2
        eventually(lambda: _told(follower) == {"a": [1, 2], "b": [], "c": []})


@pytest.mark.parametrize(
    "commits", [1_000, pytest.param(20_000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
def test_a_burst_of_commits_is_followed(
    url: str, name: str, processes: Processes, proxy: Proxy, commits: int
) -> None:
    with happen.connect(url, name=name, history=100_000) as space:
        for node in NODES:
            space.create_node(node, initial={"n": 0})
        follower = _follower(processes, proxy.url, name)
        loads = [
            processes.load("increment", url=url, space=name, node=node, count=commits // 4)
            for node in (*NODES, "a")
        ]
        start_together(loads)
        for load in loads:
            load.hear(within=500)

        stored = _assert_same_as_afresh(processes, follower, url, name)
        assert sum(revision for revision, _ in stored.values()) == commits + len(NODES)
        _assert_told_every_commit(follower, 2, stored)
