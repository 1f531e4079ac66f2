"""The position of a state handler survives what others do to its node, and the end of its process.

In each test, a rule of `docs/wire.md` decides whether an event is applied twice, never, or out of order.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from nats.js.kv import KeyValue

import happen_nb as happen
from happen_nb._runtime.io import on_io, run_blocking
from tests.guarantees.applying import add, add_again, add_if_open
from tests.guarantees.processes import Peer, Processes, eventually
from tests.guarantees.proxy import Proxy
from tests.guarantees.servers import Foreign


@pytest.fixture
def space(url: str, name: str) -> Iterator[happen.Space]:
    with happen.connect(url, name=name) as space:
        yield space


@pytest.fixture
def stock(space: happen.Space) -> happen.Node:
    return space.create_node("stock")


@pytest.fixture
def peer(processes: Processes, url: str, name: str) -> Peer:
    return processes.peer(url, name)


@pytest.fixture
def other(processes: Processes, url: str, name: str) -> Peer:
    return processes.peer(url, name)


def emit(space: happen.Space, *payloads: Any) -> None:
    for payload in payloads:
        space.broadcast("n", payload)


def emit_and_wait(space: happen.Space, payload: Any) -> None:
    """Emit an event, and wait until it is stored that it was handled."""
    event = space.broadcast("n", payload)
    eventually(lambda: event.handled_by)


def applied(node: happen.Node, *expected: Any) -> bool:
    """Wait until the node has applied these, and nothing else."""
    return eventually(
        lambda: list(node.state.get("seen") or ()) == list(expected), what=lambda: node.state.get("seen")
    )


# -- order ---------------------------------------------------------------------------------------------------


def test_refused_commits_change_neither_order_nor_number(
    space: happen.Space, stock: happen.Node, peer: Peer
) -> None:
    stock.state.on("n", add)
    stock.state.on("n", add_again)
    space.settle()
    replay = space.replay(({"n": n} for n in range(150)), type="n")
    others = 0
    while not replay.done or others < 50:
        others = peer.ask("add", node="stock", times=10)[1]
    space.settle(timeout=30)
    applied(stock, *(item for n in range(150) for item in ({"n": n}, [{"n": n}])))
    assert stock.state.get("n") == others


def test_two_handlers_apply_what_they_missed_in_one_order(
    space: happen.Space, stock: happen.Node, peer: Peer, other: Peer
) -> None:
    for each in (other, peer):
        each.ask("apply", node="stock", pattern="n", how="add")
        each.ask("apply", node="stock", pattern="n", how="add_again")
    eventually(lambda: len(owner_of(space).state_handlers) == 2)
    peer.kill()
    emit(space, 0, 1, 2)  # before the other one has taken over
    applied(stock, 0, [0], 1, [1], 2, [2])


def test_a_process_that_dies_between_the_commits_of_two_handlers_leaves_the_second_to_the_next(
    space: happen.Space, stock: happen.Node, peer: Peer, tmp_path: Path
) -> None:
    peer.ask("apply", node="stock", pattern="n", how="add")
    peer.ask("apply", node="stock", pattern="n", how="die", name="second")
    # Beside a plain handler, nothing is evaluated ahead.
    peer.ask("handle", node="stock", pattern="other", how="note", witness=str(tmp_path / "notes"))
    emit(space, 0)
    eventually(lambda: not peer.running)
    applied(stock, 0)
    stock.state.on("n", add)
    stock.state.on("n", add_again, name="second")
    applied(stock, 0, [0])


def test_an_event_whose_process_died_after_the_commit_is_not_unhandled(
    space: happen.Space, stock: happen.Node, peer: Peer, tmp_path: Path
) -> None:
    peer.ask("apply", node="stock", pattern="n", how="add")
    peer.ask("apply", node="other", pattern="end", how="die")
    # Beside a plain handler, nothing is evaluated ahead.
    peer.ask("handle", node="other", pattern="another", how="note", witness=str(tmp_path / "notes"))
    space.broadcast("end")  # it ends the process when the commit is there
    emit(space, 0)
    eventually(lambda: not peer.running)
    applied(stock, 0)
    assert len(space.unhandled) == 0


# -- what other clients store on the key ---------------------------------------------------------------------


def test_what_another_client_writes_hides_no_position_from_those_who_follow(
    space: happen.Space, stock: happen.Node, peer: Peer, foreign: Foreign, bucket: KeyValue
) -> None:
    stock.state.on("n", add)
    emit(space, 0)
    applied(stock, 0)
    foreign.run(bucket.put("stock", b'{"put": 1}'))
    stock.state.wait_for(lambda state: "put" in state)
    stock.state.set(happen.put("set", 1))  # carries the positions on
    stock.off("n")
    peer.ask("apply", node="stock", pattern="n", how="add")
    emit(space, 1)
    applied(stock, 1)


def test_what_another_client_writes_hides_no_position_from_a_process_that_starts(
    space: happen.Space,
    stock: happen.Node,
    peer: Peer,
    processes: Processes,
    url: str,
    name: str,
    foreign: Foreign,
    bucket: KeyValue,
) -> None:
    peer.ask("apply", node="stock", pattern="n", how="add")
    emit(space, 0)
    applied(stock, 0)
    peer.kill()
    foreign.run(bucket.put("stock", b'{"put": 1}'))
    other = processes.peer(url, name)
    other.ask("apply", node="stock", pattern="n", how="add")
    emit(space, 1)
    applied(stock, 1)


def test_a_purge_counts_as_a_position(
    space: happen.Space,
    stock: happen.Node,
    processes: Processes,
    url: str,
    name: str,
    foreign: Foreign,
    bucket: KeyValue,
) -> None:
    stock.state.on("n", add)
    emit(space, 0)
    applied(stock, 0)
    foreign.run(bucket.purge("stock"))
    stock.state.wait_for(lambda state: not state)
    emit(space, 1)
    applied(stock, 1)
    foreign.run(bucket.purge("stock"))
    stock.off("n")
    fresh = processes.peer(url, name)
    fresh.ask("apply", node="stock", pattern="n", how="add")
    emit(space, 2)
    applied(stock, 2)


def test_the_first_state_that_another_client_stores_passes_over_no_event(
    space: happen.Space, stock: happen.Node, peer: Peer, foreign: Foreign, bucket: KeyValue
) -> None:
    peer.ask("apply", node="stock", pattern="n", how="die")
    emit(space, 0)
    eventually(lambda: not peer.running)
    foreign.run(bucket.put("stock", b"{}"))
    stock.state.on("n", add, name="n die")
    applied(stock, 0)


# -- starts --------------------------------------------------------------------------------------------------


def test_the_first_process_decides_where_a_handler_starts(
    space: happen.Space, stock: happen.Node, peer: Peer
) -> None:
    peer.ask("apply", node="stock", pattern="n", how="die", name="it")
    peer.kill()
    stock.on("something else", print)  # the new owner's record does not list the handler
    emit(space, 0)
    stock.state.on("n", add, name="it", start="now")
    applied(stock, 0)


def test_a_clear_keeps_a_handler_and_drops_what_waited_before_it(
    space: happen.Space, stock: happen.Node, peer: Peer
) -> None:
    peer.ask("apply", node="stock", pattern="n", how="add")
    peer.kill()
    emit(space, 0)
    space.clear(force=True)
    emit(space, 1)
    stock.state.on("n", add)
    applied(stock, 1)


def test_a_clear_keeps_a_handler_that_the_owner_lacks(
    space: happen.Space, stock: happen.Node, peer: Peer
) -> None:
    peer.ask("apply", node="stock", pattern="n", how="add")
    stock.on("something else", print)
    peer.ask("settle_all")
    space.clear(force=True)
    emit(space, 0)
    applied(stock, 0)
    space.clear(force=True)
    eventually(lambda: starts(space))
    peer.kill()
    emit(space, 1)
    stock.state.on("n", add)
    applied(stock, 1)


def test_a_space_that_is_deleted_and_made_again_starts_its_handlers_over(
    space: happen.Space, stock: happen.Node, url: str, name: str, processes: Processes, foreign: Foreign
) -> None:
    stock.state.on("n", add)
    emit(space, *range(20))
    applied(stock, *range(20))
    foreign.api(f"STREAM.DELETE.KV_happen_{name}")
    maker = processes.peer(url, name)
    maker.ask("broadcast", node="maker", type="n", payload=20)
    applied(stock, 20)
    emit(space, 21)
    applied(stock, 20, 21)
    stock.off(add)
    emit(space, 22)
    stock.state.on("n", add)  # it continues where it was
    emit(space, 23)
    applied(stock, 20, 21, 22, 23)


def test_after_a_deletion_a_handler_begins_anew(space: happen.Space, stock: happen.Node, peer: Peer) -> None:
    peer.ask("apply", node="stock", pattern="n", how="add")
    emit(space, 0)
    applied(stock, 0)
    peer.ask("delete", node="stock")
    emit(space, 1)
    peer.ask("apply", node="stock", pattern="n", how="add")
    emit(space, 2)
    applied(stock, 2)


def test_a_fork_starts_its_handlers_anew(space: happen.Space, stock: happen.Node) -> None:
    stock.state.on("n", add)
    for number in range(5):
        emit(space, number)
    space.settle()
    with space.fork(f"{space.name}-fork") as fork:
        emit(fork, "there")  # at a position that the original has passed
        fork.create_node("stock").state.on("n", add, start="beginning")
        applied(fork.nodes["stock"], 0, 1, 2, 3, 4, "there")


# -- events without a commit ---------------------------------------------------------------------------------


def test_an_event_that_changed_nothing_is_not_applied_to_a_later_state(
    space: happen.Space, stock: happen.Node, peer: Peer
) -> None:
    peer.ask("apply", node="stock", pattern="n", how="add_if_open")
    emit_and_wait(space, 0)
    peer.kill()
    stock.state.set({"open": True})
    stock.state.on("n", add_if_open)
    emit(space, 1)
    applied(stock, 1)


def test_a_process_that_starts_knows_of_events_that_changed_nothing(
    space: happen.Space,
    stock: happen.Node,
    peer: Peer,
    processes: Processes,
    url: str,
    name: str,
    foreign: Foreign,
    bucket: KeyValue,
) -> None:
    stock.state.set({"open": False})
    peer.ask("apply", node="stock", pattern="n", how="add_if_open")
    emit_and_wait(space, 0)
    peer.kill()
    foreign.run(bucket.put("stock", b'{"open": true}'))
    other = processes.peer(url, name)
    other.ask("apply", node="stock", pattern="n", how="add_if_open")
    emit(space, 1)
    applied(stock, 1)


# -- failures ------------------------------------------------------------------------------------------------


def test_the_newest_hundred_failures_can_be_applied_late_and_older_ones_say_why_not(
    space: happen.Space, stock: happen.Node
) -> None:
    broken = [True]

    def careful(state: Any, event: happen.Event) -> Any:
        if broken and event.payload < 120:
            raise ValueError("not yet")
        return add(state, event)

    stock.state.on("n", careful)
    emit(space, *range(121))
    space.settle()
    broken.clear()
    oldest, newest = space.failures[0], space.failures[-1]
    with pytest.raises(happen.HistoryGoneError, match="broadcast it again"):
        oldest.retry()
    newest.retry()
    newest.retry()
    applied(stock, 120, 119)
    assert len(space.failures) == 119


def test_two_processes_apply_a_failed_event_late_only_once(
    space: happen.Space, stock: happen.Node, peer: Peer
) -> None:
    stock.state.on("n", lambda state, event: 1 / 0, name="it")
    emit_and_wait(space, 0)
    peer.ask("apply", node="stock", pattern="n", how="add", name="it")
    emit(space, 1)
    applied(stock, 1)
    peer.ask("retry_event", node="stock", number=0)
    applied(stock, 1, 0)
    stock.off("n")
    stock.state.on("n", add, name="it")
    space.failures.retry()
    emit(space, 2)
    applied(stock, 1, 0, 2)


def test_a_process_that_is_not_the_owner_passes_over_no_event_that_fails_only_there(
    space: happen.Space, stock: happen.Node, peer: Peer, other: Peer
) -> None:
    peer.ask("apply", node="stock", pattern="n", how="add_but_1", name="it")
    other.ask("apply", node="stock", pattern="n", how="add", name="it")
    stock.on("something else", print)  # now the owner has no such handler
    peer.ask("settle_all")
    other.ask("settle_all")
    other.pause()
    emit(space, *range(5))
    applied(stock, 0)
    time.sleep(0.2)  # the first process has failed meanwhile, and waits
    assert list(stock.state.get("seen")) == [0]
    other.resume()
    applied(stock, *range(5))
    assert peer.ask("failures") == []


def test_an_event_that_fails_in_all_processes_that_are_not_the_owner_is_passed_over(
    space: happen.Space, stock: happen.Node, peer: Peer, other: Peer
) -> None:
    for each in (peer, other):
        each.ask("apply", node="stock", pattern="n", how="add_but_1", name="it")
    stock.on("something else", print)  # now the owner has no such handler
    for each in (peer, other):
        each.ask("settle_all")
    emit(space, *range(3))
    applied(stock, 0, 2)
    eventually(lambda: peer.ask("failures") + other.ask("failures"))


# -- lost answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [True, False])
def test_a_commit_whose_outcome_is_unknown_is_neither_lost_nor_repeated(
    space: happen.Space,
    stock: happen.Node,
    processes: Processes,
    proxy: Proxy,
    tmp_path: Path,
    *,
    stored: bool,
) -> None:
    behind = processes.peer(proxy.url, space.name, timeout=2)
    behind.ask("apply", node="stock", pattern="n", how="add_at_gate")
    gate, calls = tmp_path / "gate", tmp_path / "calls"
    emit(space, {"n": 0, "gate": str(gate), "calls": str(calls)})
    eventually(calls.exists)
    if stored:
        proxy.swallow_answers()
    else:
        proxy.black_hole()
    gate.touch()
    behind.fail("get", node="stock", fresh=True)  # its calls time out, that of the commit too
    assert bool(stock.state.get("seen", fresh=True)) is stored
    proxy.cut()
    proxy.heal()
    emit(space, {"n": 1, "gate": str(gate), "calls": str(calls)})
    applied(stock, 0, 1)
    behind.ask("settle_all")
    assert [event.payload for event in space.events("added")] == [0, 1]
    assert stock.state.revision == 2


# -- old positions -------------------------------------------------------------------------------------------


def test_a_handler_for_which_nothing_waits_does_not_lag(space: happen.Space, stock: happen.Node) -> None:
    stock.state.on("rare", add)
    stock.state.on("n", add, fold=True)
    space.broadcast("rare", 0).settle()
    space.replay([{"n": n} for n in range(1500)], type="n").wait()
    space.broadcast("n", 1).settle()
    position, _ = positions_of(space)["rare add"].position
    assert position > space.events("rare")[0].sequence + 500


def test_a_handler_that_nobody_has_any_more_leaves_the_header_when_its_events_have_expired(
    url: str, name: str
) -> None:
    with happen.connect(url, name=name, event_ttl=timedelta(seconds=1)) as space:
        stock = space.create_node("stock")
        stock.state.on("n", add, name="old")
        space.broadcast("n", 0).settle()
        stock.off("n")
        stock.state.on("n", add, name="still young")
        space.broadcast("n", 1).settle()
        assert {"old", "still young"} == positions_of(space).keys()
        eventually(lambda: len(space.events("n")) == 0)
        stock.off("n")
        stock.state.on("n", add, name="new")
        space.broadcast("n", 2).settle()
        assert "old" not in positions_of(space)
        stock.off("n")
        stock.state.on("n", add, name="old")
        space.broadcast("n", 3).settle()
        assert list(stock.state.get("seen")).count(0) == 1  # it went on after what it had applied


def test_events_that_expired_while_nobody_was_there_are_one_failure(url: str, name: str) -> None:
    with happen.connect(url, name=name, event_ttl=timedelta(seconds=1)) as space:
        stock = space.create_node("stock")
        stock.state.on("n", add)
        emit(space, 0)
        applied(stock, 0)
        stock.off("n")
        emit(space, 1, 2, 3)
        eventually(lambda: len(space.events("n")) == 0)
        stock.state.on("n", add)
        emit(space, 4)
        space.settle()
        applied(stock, 0, 4)
        (failure,) = space.failures
        assert isinstance(failure.exception, happen.HistoryGoneError)
        assert "events expired" in str(failure.exception)
        stock.off("n")
        stock.state.on("n", add)
        space.settle()
        assert len(space.failures) == 1  # reported once
        assert failure.attempts == 1


def positions_of(space: happen.Space) -> Any:
    """The positions that the newest commit of the node carries."""
    record = space._runtime.log.replica.newest("stock")
    assert record is not None
    return record.positions


def owner_of(space: happen.Space) -> Any:
    """The newest record of who owns the node."""
    return space._runtime.ownership.record("stock")


def starts(space: happen.Space) -> Any:
    """The stored starts of state handlers."""
    stream = space._runtime.log.stream

    async def read() -> Any:
        return await on_io(stream.read(stream.subjects.starts))

    return run_blocking(read())
