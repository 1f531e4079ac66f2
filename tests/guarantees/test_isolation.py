"""The promise of ``serializable=True``, shown by invariants that a stale view breaks.

Money: ten accounts, each a node, and cheques to bearer. A commit changes one node, so money moves in two:
an account writes a cheque (its balance falls, the cheque is worth that much), and any account cashes it
(its balance rises, and it notes the cheque as cashed) if its views show that *no* account has cashed it
yet. The sum of all balances and of the cheques that nobody has cashed never changes. It would in two
ways: if a view is stale at the commit, two accounts cash one cheque and there is more money; and if a
reader's cut is not of one moment, it sees a cheque cashed that it does not see written.

Doctors: each of two may go off call if, in its view, the other is on call. One of them always is.
"""

from __future__ import annotations

import pytest

import happen_nb as happen
from tests.guarantees.processes import Peer, Processes, start_together
from tests.guarantees.work import worth

ACCOUNTS = [f"account{number}" for number in range(10)]
TOTAL = 1000


@pytest.mark.parametrize("moves", [30, pytest.param(500, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_the_sum_of_all_accounts_is_right_in_every_cut(
    url: str, name: str, processes: Processes, seed: int, moves: int
) -> None:
    with happen.connect(url, name=name) as space:
        for account in ACCOUNTS:
            space.create_node(account, initial={"balance": TOTAL // 10, "cheques": [], "cashed": []})
        common = {"url": url, "space": name, "names": ACCOUNTS}
        movers = [processes.load("move_money", **common, moves=moves, seed=seed + k) for k in range(4)]
        readers = [processes.load("read_money", **common, total=TOTAL) for _ in range(2)]
        start_together([*readers, *movers])
        cashed = sum(mover.hear(within=600)["cashed"] for mover in movers)
        for reader in readers:
            reader.say()

        for report in (reader.hear() for reader in readers):
            assert report["wrong"] == [], f"seed {seed}"
            assert report["cuts"] > 10
        space.create_node(ACCOUNTS[0]).state.get(fresh=True)
        accounts = space.views.collect(dict.fromkeys(ACCOUNTS, ()))
        assert worth(accounts) == TOTAL, f"seed {seed}"
        assert sum(len(account["cashed"]) for account in accounts.values()) == cashed > moves


def test_two_doctors_cannot_both_go_off_call_when_serializable(
    url: str, name: str, processes: Processes
) -> None:
    with happen.connect(url, name=name) as space:
        runs = _both_leave_at_once(space, processes, url, serializable=True)

        assert runs == 2  # the one that was overtaken looked again
        assert _on_call(space) == [True, False]


def test_without_serializable_two_doctors_can_both_go_off_call(
    url: str, name: str, processes: Processes
) -> None:
    with happen.connect(url, name=name) as space:
        runs = _both_leave_at_once(space, processes, url, serializable=False)

        assert runs == 1
        assert _on_call(space) == [False, False]


@pytest.mark.parametrize(
    "rounds", [40, pytest.param(1000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
def test_a_doctor_stays_on_call_however_often_both_want_to_leave(
    url: str, name: str, processes: Processes, rounds: int
) -> None:
    with happen.connect(url, name=name) as space:
        doctors = _hire(space, processes, url)
        for number in range(rounds):
            _call_in_both(space)
            _leave(doctors, serializable=True)

            assert any(_on_call(space)), f"round {number}"


def _hire(space: happen.Space, processes: Processes, url: str) -> list[Peer]:
    for doctor in ("alice", "bob"):
        space.create_node(doctor, initial={"on_call": True})
    return [processes.peer(url, space.name) for _ in range(2)]


def _call_in_both(space: happen.Space) -> None:
    for doctor in ("alice", "bob"):
        space.create_node(doctor).state.set({"on_call": True})


def _leave(doctors: list[Peer], *, serializable: bool) -> None:
    alice, bob = doctors
    alice.tell("go_off_call", node="alice", other="bob", serializable=serializable)
    bob.tell("go_off_call", node="bob", other="alice", serializable=serializable)
    alice.answer()
    bob.answer()


def _both_leave_at_once(space: happen.Space, processes: Processes, url: str, *, serializable: bool) -> int:
    """Bob leaves while Alice's transform runs; how often that ran."""
    alice, bob = _hire(space, processes, url)
    alice.tell("go_off_call", node="alice", other="bob", serializable=serializable, hold=True)
    assert alice.answer() == "holding"
    bob.ask("go_off_call", node="bob", other="alice", serializable=serializable)
    alice.say()
    runs: int = alice.answer()
    return runs


def _on_call(space: happen.Space) -> list[bool]:
    space.create_node("alice").state.get(fresh=True)
    return list(space.views.collect({"alice": "on_call", "bob": "on_call"}).values())
