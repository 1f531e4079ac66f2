"""Processes that make, empty, copy and remove spaces while others use them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

import happen_nb as happen
from tests.guarantees.processes import Peer, Processes, eventually
from tests.guarantees.servers import Server


def _all_at_once(peers: list[Peer], do: str, arguments: Sequence[dict[str, Any]]) -> list[Any]:
    for peer, own in zip(peers, arguments, strict=True):
        peer.tell(do, **own)
    return [peer.answer() for peer in peers]


@pytest.mark.parametrize("turns", [5, pytest.param(50, marks=[pytest.mark.soak, pytest.mark.timeout(600)])])
def test_a_space_that_many_make_at_once_is_one(url: str, name: str, processes: Processes, turns: int) -> None:
    peers = [processes.peer() for _ in range(4)]
    for turn in range(turns):
        space = f"{name}_{turn}"
        _all_at_once(peers, "connect", [{"url": url, "name": space, "history": 100 + k} for k in range(4)])
        _all_at_once(peers, "add", [{"node": "n"}] * 4)

        assert [peer.ask("get", node="n", fresh=True) for peer in peers] == [{"n": 4}] * 4
        _all_at_once(peers, "close", [{}] * 4)


def test_a_space_is_made_though_the_server_is_just_removing_the_folder_of_all_spaces(
    mortal: Server, name: str
) -> None:
    folder = mortal.folder / "store" / "jetstream" / "$G" / "streams"
    folder.parent.mkdir(parents=True)
    folder.touch()  # as no folder; the server fails as it does if that vanishes now, and removes this, too
    with happen.connect(mortal.url, name=name) as space:
        assert space.create_node("n").state.set({"n": 1}).revision == 1


def test_of_many_initial_states_one_wins_and_nobody_fails(url: str, name: str, processes: Processes) -> None:
    peers = [processes.peer(url, name) for _ in range(4)]
    for turn in range(20):
        node = f"node{turn}"
        wishes = [{"node": node, "initial": {"by": k}} for k in range(4)]
        got = _all_at_once(peers, "create", wishes)

        assert got[0] in [{"by": k} for k in range(4)]
        assert got == [got[0]] * 4, node
        assert peers[0].ask("states")[node][0] == 1


def test_fresh_is_refused_while_another_process_is_connected(
    url: str, name: str, processes: Processes
) -> None:
    other = processes.peer(url, name)
    other.ask("add", node="n")
    pid = other.ask("connect", url=url, name=name)

    with pytest.raises(happen.SpaceInUseError, match=rf"process {pid} .*force"):
        happen.connect(url, name=name, fresh=True)
    assert other.ask("states") == {"n": [1, {"n": 1}]}
    with happen.connect(url, name=name, fresh="force") as space:
        assert list(space.views) == []
        eventually(lambda: other.ask("states") == {})
        assert other.ask("add", node="n") == [1, 1]
        eventually(lambda: "n" in space.views)


def test_fresh_is_not_refused_when_the_other_process_was_killed(
    url: str, name: str, processes: Processes
) -> None:
    other = processes.peer(url, name)
    other.ask("add", node="n")
    other.kill()

    with happen.connect(url, name=name, fresh=True) as space:
        assert list(space.views) == []


def test_fresh_waits_for_a_process_that_is_ending(url: str, name: str, processes: Processes) -> None:
    other = processes.peer(url, name)
    other.ask("add", node="n")
    ending = threading.Timer(0.7, other.kill)
    ending.start()
    try:
        with happen.connect(url, name=name, fresh=True) as space:
            assert list(space.views) == []
    finally:
        ending.join()


def test_clear_empties_the_space_for_every_process(url: str, name: str, processes: Processes) -> None:
    with happen.connect(url, name=name) as space:
        node = space.create_node("n", initial={"n": 5})
        other = processes.peer(url, name)
        assert other.ask("states") == {"n": [1, {"n": 5}]}

        with pytest.raises(happen.SpaceInUseError, match="clear"):
            space.clear()
        space.clear(force=True)

        assert (node.state.get(), node.state.revision) == ({}, 0)
        eventually(lambda: other.ask("states") == {})
        assert other.ask("add", node="n") == [1, 1]
        assert node.state.get("n", fresh=True) == 1


def test_writers_go_on_while_a_space_is_cleared(url: str, name: str, processes: Processes) -> None:
    writers = [processes.peer(url, name) for _ in range(3)]
    with happen.connect(url, name=name) as space:
        state = space.create_node("n").state
        for writer in writers:
            writer.tell("add", node="n", times=300)
        for _ in range(100):
            space.clear(force=True)
        for writer in writers:
            writer.answer()
        left = state.get(lambda s: s.get("n", 0), fresh=True)

        assert state.revision == left
        for more, writer in enumerate(writers, 1):
            assert writer.ask("add", node="n") == [left + more, left + more]


def test_drop_is_refused_while_another_process_is_connected(
    url: str, name: str, processes: Processes
) -> None:
    other = processes.peer(url, name)
    other.ask("add", node="n")
    space = happen.connect(url, name=name)

    with pytest.raises(happen.SpaceInUseError, match="drop"):
        space.drop()
    other.ask("close")
    space.drop()

    with pytest.raises(happen.ClosedError):
        space.create_node("n")
    assert other.ask("connect", url=url, name=name)
    assert other.ask("states") == {}


def test_a_fork_has_the_states_and_leaves_the_original_alone(
    url: str, name: str, processes: Processes
) -> None:
    other = processes.peer(url, name)
    other.ask("add", node="n", times=3)
    with happen.connect(url, name=name) as space:
        before = space.create_node("n").state.set({"n": 30})
        other.ask("add", node="n")

        with space.fork(f"{name}-now") as now, space.fork(f"{name}-then", at=before) as then:
            assert now.views.n.get() == {"n": 31}
            assert then.views.n.get() == {"n": 3}  # what that commit saw
            assert now.views.n.revision == then.views.n.revision == 1
            follower = processes.peer(url, now.name)
            now.create_node("n").state.set({"n": 0})
            eventually(lambda: follower.ask("states") == {"n": [2, {"n": 0}]})
            assert other.ask("get", node="n", fresh=True) == {"n": 31}
            with pytest.raises(ValueError, match="not empty"):
                space.fork(now.name)


def test_a_deleted_node_is_unknown_in_every_process(url: str, name: str, processes: Processes) -> None:
    other = processes.peer(url, name)
    other.ask("add", node="other")
    with happen.connect(url, name=name) as space:
        node = space.create_node("n", initial={"n": 1})
        eventually(lambda: "n" in other.ask("states"))
        node.delete()

        eventually(lambda: list(other.ask("states")) == ["other"])
        with pytest.raises(happen.UnknownNodeError):
            space.views["n"]
        assert other.ask("add", node="n") == [3, 1]
