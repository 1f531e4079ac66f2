"""Events sent to a node of another process get a reply, or the sender learns why not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import happen_nb as happen
from happen_nb._runtime.dispatcher import Dispatcher
from happen_nb._runtime.reply_ends import PendingReply
from tests.guarantees.processes import Peer, Processes, eventually
from tests.guarantees.proxy import Proxy
from tests.guarantees.servers import Server
from tests.guarantees.witness import Witness


def _handling(
    processes: Processes, url: str, name: str, witness: Witness, how: str, node: str = "shop"
) -> Peer:
    """A process whose node handles everything in one way."""
    peer = processes.peer(url, name)
    peer.ask("handle", node=node, pattern="*", how=how, witness=str(witness.path))
    return peer


def _await_begun(witness: Witness, times: int = 1) -> None:
    eventually(lambda: len(witness.notes()) >= times)


def _owner(space: happen.Space) -> int | None:
    owner = space.create_node("shop").owner
    return None if owner is None else owner.pid


# -- results ---------------------------------------------------------------------------------------------


def test_a_result_comes_back(url: str, name: str, processes: Processes, witness: Witness) -> None:
    with happen.connect(url, name=name) as space:
        _handling(processes, url, name, witness, "echo")
        replies = [space.send("shop", "echo", number) for number in range(50)]

        assert [reply.result() for reply in replies] == [{"echo": number} for number in range(50)]
        assert [reply.state for reply in replies] == ["done"] * 50


@pytest.mark.parametrize("how", ["count_to", "count_to_async"])
def test_progress_comes_in_order_and_then_the_result(
    url: str, name: str, processes: Processes, witness: Witness, how: str
) -> None:
    with happen.connect(url, name=name) as space:
        _handling(processes, url, name, witness, how)
        reply = space.send("shop", "count", 100)

        assert list(reply) == list(range(100))
        assert (reply.result(), reply.progress) == ("counted", 99)


def test_a_handler_that_raises_is_told_with_its_traceback(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        _handling(processes, url, name, witness, "fail")
        with pytest.raises(happen.HandlerError) as caught:
            space.send("shop", "buy", "pens").result()

        error = caught.value
        assert (error.node, error.error) == ("shop", "ValueError: there is no pens")
        assert "event_peer.py" in error.remote_traceback
        assert 'raise ValueError(f"there is no {event.payload}")' in str(error)


def test_a_result_that_is_asked_for_late_is_still_there(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        _handling(processes, url, name, witness, "echo")
        reply = space.send("shop", "echo", 1)
        eventually(lambda: reply.done)
        assert [reply.result(), reply.result()] == [{"echo": 1}] * 2


# -- cancelling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["sleep_async", "pass_gate_step_by_step"])
def test_cancelling_stops_the_handler_in_the_other_process(
    url: str, name: str, processes: Processes, witness: Witness, tmp_path: Path, how: str
) -> None:
    with happen.connect(url, name=name) as space:
        peer = _handling(processes, url, name, witness, how)
        reply = space.send("shop", "wait", {"gate": str(tmp_path / "never")})
        _await_begun(witness)
        eventually(lambda: reply.state == "accepted")
        reply.cancel()
        eventually(lambda: witness.notes("cancelled"))

        with pytest.raises(happen.CancelledHandlingError):
            reply.result()
        peer.ask("handle", node="shop", pattern="echo", how="echo", witness=str(witness.path))
        assert peer.ask("failures") == []


def test_a_cancelled_plain_handler_goes_on_and_changes_nothing(
    url: str, name: str, processes: Processes, witness: Witness, tmp_path: Path
) -> None:
    with happen.connect(url, name=name) as space:
        _handling(processes, url, name, witness, "pass_gate")
        gates = [tmp_path / "first", tmp_path / "second"]
        first, second = (space.send("shop", "wait", {"gate": str(gate)}) for gate in gates)
        _await_begun(witness)
        first.cancel()
        gates[1].touch()

        assert second.result() == "passed"  # the node goes on without it
        gates[0].touch()
        space.send("shop", "wait", {"gate": str(gates[1])}).result()
        assert [note.payload["gate"] for note in witness.notes("ended")] == [str(gates[1])] * 2
        assert [c.after for c in space.create_node("shop").state.history()] == [{"passed": str(gates[1])}]


# -- circles ---------------------------------------------------------------------------------------------


def test_nodes_of_two_processes_that_wait_for_each_other_are_told(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        for node in ("a", "b"):
            _handling(processes, url, name, witness, "ask_next", node)
        with pytest.raises(happen.HandlerError, match="DeadlockError") as caught:
            space.send("a", "ask", ["b", "a"]).result(timeout=20)

        assert 'send of "ask" to node "a": its handler waits' in str(caught.value)
        assert [note.node for note in witness.notes()] == ["a", "b"]
        assert space.send("a", "ask", ["b"]).result() == ["a", "the end"]  # both go on


def test_a_circle_over_three_processes_is_told_too(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        for node in ("a", "b", "c"):
            _handling(processes, url, name, witness, "ask_next", node)
        with pytest.raises(happen.HandlerError, match="DeadlockError"):
            space.send("a", "ask", ["b", "c", "a"]).result(timeout=20)

        assert space.send("a", "ask", ["b", "c"]).result() == ["a", ["b", "the end"]]


# -- owners that are gone, or away -----------------------------------------------------------------------


def test_nobody_there_is_told_at_once(url: str, name: str, processes: Processes, witness: Witness) -> None:
    with happen.connect(url, name=name) as space:
        _handling(processes, url, name, witness, "echo")
        with pytest.raises(happen.NoHandlerError, match="did you mean shop"):
            space.send("shopp", "echo").result(timeout=1)


def test_no_handler_of_that_type_is_told(url: str, name: str, processes: Processes, witness: Witness) -> None:
    with happen.connect(url, name=name) as space:
        peer = processes.peer(url, name)
        peer.ask("handle", node="shop", pattern="echo", how="echo", witness=str(witness.path))
        with pytest.raises(happen.NoHandlerError, match='no handler of "sing"; it handles echo'):
            space.send("shop", "sing").result()


def test_an_owner_that_was_killed_before_it_accepted_is_told(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        _handling(processes, url, name, witness, "echo").kill()
        reply = space.send("shop", "echo", "lost")
        with pytest.raises(happen.NoHandlerError, match="ended before it accepted"):
            reply.result(timeout=10)

        assert [each.event.payload for each in space.unhandled] == ["lost"]


def test_an_owner_that_was_killed_after_it_accepted_is_told(
    url: str, name: str, processes: Processes, witness: Witness, tmp_path: Path
) -> None:
    with happen.connect(url, name=name) as space:
        owner = _handling(processes, url, name, witness, "pass_gate")
        reply = space.send("shop", "wait", {"gate": str(tmp_path / "never")})
        _await_begun(witness)
        eventually(lambda: reply.state == "accepted")
        owner.kill()
        with pytest.raises(happen.ReplyLostError):
            reply.result(timeout=10)


def test_an_heir_does_not_handle_what_was_sent_to_the_owner_before(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        heir, owner = (_handling(processes, url, name, witness, "echo") for _ in range(2))
        owner.kill()
        with pytest.raises(happen.NoHandlerError):
            space.send("shop", "echo", "lost").result(timeout=10)
        eventually(lambda: _owner(space) == heir.pid)

        assert space.send("shop", "echo", "found").result() == {"echo": "found"}
        assert [(note.pid, note.payload) for note in witness.notes()] == [(heir.pid, "found")]


def test_what_was_sent_to_a_dead_owner_is_told_also_if_an_heir_came_right_after(
    url: str, name: str, processes: Processes, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    with happen.connect(url, name=name) as space:
        heir, owner = (_handling(processes, url, name, witness, "echo") for _ in range(2))
        sent = Dispatcher.track

        async def sent_late(dispatch: Dispatcher, request: PendingReply) -> None:
            await asyncio.to_thread(eventually, lambda: _owner(space) == heir.pid)
            await sent(dispatch, request)

        monkeypatch.setattr(Dispatcher, "track", sent_late)
        owner.kill()
        with pytest.raises(happen.NoHandlerError, match="ended before it accepted"):
            space.send("shop", "echo", "lost").result(timeout=10)


def test_a_frozen_owner_replies_when_it_goes_on(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        owner = _handling(processes, url, name, witness, "echo")
        owner.pause()
        reply = space.send("shop", "echo", 1)
        with pytest.raises(happen.HappenTimeoutError, match="the handling continues"):
            reply.result(timeout=2)
        owner.resume()

        assert reply.result() == {"echo": 1}
        assert len(witness.notes()) == 1


# -- lost messages ---------------------------------------------------------------------------------------


def test_a_reply_that_was_said_while_the_sender_was_cut_off_still_comes(
    url: str, name: str, processes: Processes, witness: Witness, tmp_path: Path, proxy: Proxy
) -> None:
    gate = tmp_path / "gate"
    with happen.connect(proxy.url, name=name) as space:
        _handling(processes, url, name, witness, "pass_gate")
        reply = space.send("shop", "wait", {"gate": str(gate)})
        _await_begun(witness)
        proxy.cut()
        gate.touch()
        eventually(lambda: witness.notes("ended"))
        proxy.heal()

        assert reply.result() == "passed"
        assert len(witness.notes()) == 1


def test_a_reply_that_was_swallowed_on_its_way_still_comes(
    url: str, name: str, processes: Processes, witness: Witness, tmp_path: Path, proxy: Proxy
) -> None:
    gate = tmp_path / "gate"
    with happen.connect(proxy.url, name=name) as space:
        _handling(processes, url, name, witness, "pass_gate")
        reply = space.send("shop", "wait", {"gate": str(gate)})
        _await_begun(witness)
        proxy.black_hole()
        gate.touch()
        eventually(lambda: witness.notes("ended"))
        proxy.cut()  # what is on its way is lost
        proxy.heal()

        assert reply.result() == "passed"
        assert len(witness.notes()) == 1


def test_a_short_cut_of_the_owner_loses_no_reply(
    url: str, name: str, processes: Processes, witness: Witness, proxy: Proxy
) -> None:
    with happen.connect(url, name=name) as space:
        _handling(processes, proxy.url, name, witness, "echo")
        replies = []
        for number in range(30):
            replies.append(space.send("shop", "echo", number))
            if number % 10 == 5:
                proxy.cut()
                proxy.heal()

        assert [reply.result() for reply in replies] == [{"echo": number} for number in range(30)]
        assert witness.doubled() == []


def test_a_killed_server_loses_no_reply(
    mortal: Server, name: str, processes: Processes, witness: Witness, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with happen.connect(mortal.url, name=name) as space:
        _handling(processes, mortal.url, name, witness, "pass_gate")
        reply = space.send("shop", "wait", {"gate": str(gate)})
        _await_begun(witness)
        mortal.kill()
        mortal.start()
        gate.touch()

        assert reply.result() == "passed"
        for _ in range(3):
            mortal.kill()
            mortal.start()
            assert space.send("shop", "wait", {"gate": str(gate)}).result() == "passed"
        assert witness.doubled() == []


def test_a_reply_comes_to_each_of_two_processes(
    url: str, name: str, processes: Processes, witness: Witness
) -> None:
    with happen.connect(url, name=name) as space:
        owner = _handling(processes, url, name, witness, "echo")
        other = processes.peer(url, name)
        numbers = [other.ask("send", node="buyer", target="shop", type="echo", payload=n) for n in range(5)]
        mine = [space.send("shop", "echo", -n).result() for n in range(5)]

        assert [other.ask("result", reply=number) for number in numbers] == [{"echo": n} for n in range(5)]
        assert mine == [{"echo": -n} for n in range(5)]
        assert {note.pid for note in witness.notes()} == {owner.pid}
        assert _senders(space) == {"buyer": 5, "notebook": 5}


def _senders(space: happen.Space) -> dict[str, int]:
    counts: dict[str, Any] = {}
    for event in space.events():
        counts[event.sender] = counts.get(event.sender, 0) + 1
    return counts
