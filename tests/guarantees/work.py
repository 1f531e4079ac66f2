"""Loads that run in processes of their own: ``work.py <load> <arguments as JSON>``.

A load says ``ready`` and begins when it gets a line; what it reports is JSON, one a line.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import happen_nb as happen
from happen_nb._journal import stream

AMOUNT = 10


def report(what: Any) -> None:
    os.write(1, (json.dumps(what) + "\n").encode())  # one write: whole, or not there when killed


def wait_for_start() -> None:
    report("ready")
    sys.stdin.readline()


def increment(url: str, space: str, node: str, count: int) -> None:
    """Count a node up, and look at it after each commit; reports what the commits were."""
    with happen.connect(url, name=space, timeout=60) as connected:
        state = connected.create_node(node).state
        view = connected.views[node]
        wait_for_start()
        commits, unread = [], 0
        for _ in range(count):
            commit = state.set(lambda s: {"n": s["n"] + 1})
            commits.append((commit.revision, commit.before["n"], commit.after["n"]))
            own = commit.revision, commit.after["n"]
            unread += (state.revision, state.get("n")) < own or (view.revision, view.get("n")) < own
    report({"commits": commits, "unread": unread})


def increment_until_killed(url: str, space: str, node: str) -> None:
    """Count a node up for ever; reports each commit once it is acknowledged."""
    wait_for_start()
    state = happen.connect(url, name=space).create_node(node, initial={"n": 0}).state
    while True:
        commit = state.set(lambda s: {"n": s["n"] + 1})
        report([commit.revision, commit.after["n"]])


# -- cheques to bearer: see test_isolation.py ------------------------------------------------------------


def worth(accounts: dict[str, Any]) -> int:
    """All money: what the accounts hold, and the cheques that nobody has cashed."""
    cashed = {cheque for account in accounts.values() for cheque in account["cashed"]}
    held: int = sum(account["balance"] for account in accounts.values())
    return held + AMOUNT * sum(c not in cashed for a in accounts.values() for c in a["cheques"])


def write_cheque(cheque: str) -> Callable[[Any], Any]:
    def transform(account: Any) -> Any:
        if account["balance"] < AMOUNT:
            return account
        return {
            **account,
            "balance": account["balance"] - AMOUNT,
            "cheques": [*account["cheques"], cheque],
        }

    return transform


def cash_cheque(names: list[str]) -> Callable[[Any, happen.Views], Any]:
    def transform(account: Any, views: happen.Views) -> Any:
        accounts = views.collect(dict.fromkeys(names, ())).values()
        cashed = {cheque for other in accounts for cheque in other["cashed"]}
        unpaid = sorted(cheque for other in accounts for cheque in other["cheques"] if cheque not in cashed)
        if not unpaid:
            return account
        return {
            **account,
            "balance": account["balance"] + AMOUNT,
            "cashed": [*account["cashed"], unpaid[0]],
        }

    return transform


def move_money(url: str, space: str, names: list[str], moves: int, seed: int) -> None:
    """Write cheques on random accounts and cash what is there into others."""
    choose = random.Random(seed)
    with happen.connect(url, name=space, timeout=60) as connected:
        accounts = {name: connected.create_node(name).state for name in names}
        wait_for_start()
        cashed = 0
        for number in range(moves):
            accounts[choose.choice(names)].set(write_cheque(f"{seed}-{number}"))
            cashing = accounts[choose.choice(names)].set(cash_cheque(names), serializable=True)
            cashed += cashing.changed
    report({"cashed": cashed})


def read_money(url: str, space: str, names: list[str], total: int) -> None:
    """Read all accounts in one cut, again and again, until told to stop."""
    with happen.connect(url, name=space) as connected:
        wait_for_start()
        stop = threading.Event()

        def wait_for_stop() -> None:
            sys.stdin.readline()
            stop.set()

        threading.Thread(target=wait_for_stop, daemon=True).start()
        cuts, wrong, last = 0, [], None
        while not stop.is_set():
            accounts = connected.views.collect(dict.fromkeys(names, ()))
            cuts += accounts != last
            last = accounts
            if worth(accounts) != total:
                wrong.append(worth(accounts))
    report({"cuts": cuts, "wrong": wrong})


# -- a wrong clock -----------------------------------------------------------------------------------------


def commit_by_a_wrong_clock(
    url: str, space: str, ahead: float, young: float, commits: int, *, emit: bool
) -> None:
    """Commit with a clock that is ahead by so many seconds; with `emit`, every tenth commit emits.

    Reports how many ``commits`` and how many ``events`` are still stored after that.
    """
    right = time.time, time.time_ns
    time.time, time.time_ns = lambda: right[0]() + ahead, lambda: right[1]() + round(ahead * 1e9)
    stream.MIN_COMMIT_AGE_SECONDS = young
    with happen.connect(url, name=space, history=10, event_ttl=timedelta(hours=1)) as connected:
        node = connected.create_node("orders")

        def step(state: Any) -> dict[str, Any]:
            n = state.get("n", 0) + 1
            if emit and n % 10 == 0:
                node.broadcast("tenth", n)
            return {"n": n}

        wait_for_start()
        for _ in range(commits):
            node.state.set(step)
        report({"commits": len(node.state.history()), "events": len(connected.events("tenth"))})


# -- many writers ------------------------------------------------------------------------------------------


def write_in_threads(url: str, space: str, label: str, threads: int, replicas: int) -> None:
    """Threads that each write a node of their own, and every fifth time a shared one, until told to stop.

    Reports ``acknowledged``: [node, revision, token] each; ``failed``; and the ``longest`` call in seconds.
    """
    with happen.connect(url, name=space, replicas=replicas) as connected:
        stop = threading.Event()
        acknowledged: list[tuple[str, int, str]] = []
        failed: list[str] = []
        calls: list[float] = []
        shared = connected.create_node("shared").state

        def write(number: int) -> None:
            own = connected.create_node(f"{label}-{number}").state
            for count in itertools.count():
                if stop.is_set():
                    return
                node = own if count % 5 else shared
                token = f"{label}-{number}-{count}"
                begun = time.monotonic()
                try:
                    commit = node.set(lambda s, token=token: {"token": token})
                except Exception as error:
                    failed.append(f"{type(error).__name__}: {error}")
                else:
                    acknowledged.append((commit.node, commit.revision, token))
                calls.append(time.monotonic() - begun)

        workers = [threading.Thread(target=write, args=(number,)) for number in range(threads)]
        wait_for_start()
        for worker in workers:
            worker.start()
        sys.stdin.readline()
        stop.set()
        for worker in workers:
            worker.join()
    report({"acknowledged": acknowledged, "failed": failed, "longest": max(calls)})


LOADS: dict[str, Callable[..., None]] = {
    load.__name__: load
    for load in (
        increment,
        increment_until_killed,
        move_money,
        read_money,
        commit_by_a_wrong_clock,
        write_in_threads,
    )
}

if __name__ == "__main__":
    LOADS[sys.argv[1]](**json.loads(sys.argv[2]))
