"""A durable handler ends once for each event, and each of its steps is stored once, whatever is killed."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

import happen_nb as happen
from happen_nb._runtime.clock import Clock
from tests.guarantees import charging
from tests.guarantees.processes import Load, Processes, eventually
from tests.guarantees.proxy import Proxy
from tests.guarantees.servers import Cluster

log = logging.getLogger(__name__)

SOAK = [pytest.mark.soak, pytest.mark.timeout(900)]


def _start(processes: Processes, url: str, name: str, calls: Path, patience: float = 5.0) -> Load:
    process = processes.load(
        "charge", "charging.py", url=url, space=name, calls=str(calls), patience=patience
    )
    process.wait_ready()
    return process


class Held:
    """A function of a handler that waits until the test lets it go on."""

    def __init__(self) -> None:
        self._begun, self._released = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self._begun.set()
        self._released.wait(90)

    def wait(self) -> None:
        """Wait until the handler waits."""
        assert self._begun.wait(30)

    def go_on(self) -> None:
        self._released.set()


def _settle(process: Load) -> None:
    process.say()
    assert process.hear(90) == []


def _check(space: happen.Space, events: int) -> None:
    everything = list(range(events))
    billing, audit, mail = (
        space.create_node(name).state.get(fresh=True) for name in ("billing", "audit", "mail")
    )
    assert list(map(list, billing["paid"])) == [[number, f"receipt {number}"] for number in everything]
    assert list(map(list, billing["priced"])) == [[number, 2 * number] for number in everything]
    for found in (audit["noted"], audit["done"], mail["written"], mail["thanked"]):
        assert list(found) == everything
    assert list(map(list, audit["cancelled"])) == [[True, False]] * events
    assert len(space.scheduled) == 0
    assert space.views["stock"].get("sold") == events
    once = Counter(everything)
    for type in ("price", "stock.sold", "noted", "written"):
        assert Counter(event.payload for event in space.events(type)) == once, type
    assert Counter(event.payload[0] for event in space.events("paid")) == once
    assert {each.event.type for each in space.unhandled} <= {"stock.sold", "noted", "written"}


@pytest.mark.parametrize(("events", "kills"), [(60, 4), pytest.param(400, 40, marks=SOAK)])
def test_each_step_is_stored_once_though_the_only_process_is_killed(
    url: str, name: str, processes: Processes, tmp_path: Path, seed: int, events: int, kills: int
) -> None:
    choose, calls = random.Random(seed), tmp_path / "calls"
    space = happen.connect(url, name=name, timeout=30)
    process = _start(processes, url, name, calls)
    for number in range(events):
        space.broadcast("order", number)
        if number % (events // kills) == events // kills // 2:
            time.sleep(choose.random() * 0.15)
            process.kill()
            process = _start(processes, url, name, calls)
    _settle(process)

    _check(space, events)
    called = Counter(map(int, calls.read_text().split()))
    assert set(called) == set(range(events))
    assert sum(called.values()) <= events + kills
    log.info("%d events, %d kills, %d calls: each step once", events, kills, sum(called.values()))
    space.close()


@pytest.mark.parametrize(("events", "kills"), [(20, 1), pytest.param(100, 6, marks=SOAK)])
def test_it_holds_on_three_servers_whose_leader_is_killed(
    cluster: Cluster, name: str, processes: Processes, tmp_path: Path, events: int, kills: int
) -> None:
    calls = tmp_path / "calls"
    space = happen.connect(cluster.url, name=name, replicas=3, timeout=30)
    process = _start(processes, cluster.url, name, calls)
    for number in range(events):
        space.broadcast("order", number)
        if number % (events // kills) == events // kills // 2:
            leader = cluster.leader(f"KV_happen_{name}")
            leader.kill()
            process.kill()
            process = _start(processes, cluster.url, name, calls)
            leader.start()
            cluster.wait_whole(f"KV_happen_{name}")
    _settle(process)

    _check(space, events)
    called = Counter(map(int, calls.read_text().split()))
    assert set(called) == set(range(events))
    assert sum(called.values()) <= events + kills
    space.close()


def test_a_process_that_was_frozen_and_one_that_took_over_store_each_step_once(
    url: str, name: str, processes: Processes, tmp_path: Path
) -> None:
    events, calls = 40, tmp_path / "calls"
    space = happen.connect(url, name=name, timeout=30)
    first = _start(processes, url, name, calls)
    for number in range(events):
        space.broadcast("order", number)
    space.wait_for("paid", lambda event: event.payload[0] == events // 4, timeout=30)
    first.pause()
    second = _start(processes, url, name, calls, patience=0.5)
    space.wait_for("paid", lambda event: event.payload[0] == events // 2, timeout=60)
    first.resume()
    _settle(second)
    _settle(first)

    _check(space, events)
    space.close()


@pytest.mark.parametrize("load", ["remind", "remind-and-hang"])
def test_what_another_process_has_cancelled_is_not_scheduled_again(
    url: str, name: str, proxy: Proxy, processes: Processes, load: str
) -> None:
    begun, released, scheduled, checked = (threading.Event() for _ in range(4))

    def before() -> None:
        begun.set()
        released.wait(30)

    def between() -> None:
        scheduled.set()
        checked.wait(30)

    space = happen.connect(proxy.url, name=name, timeout=30)
    assert space.broadcast("reminder", after=3600).cancel()  # the first one takes more than one message
    charging.register_reminder(space, before, between)
    space.broadcast("order")
    assert begun.wait(30)
    sent = proxy.sent
    if load == "remind":
        proxy.black_hole()
        released.set()
        eventually(lambda: proxy.sent > sent + 300)  # what schedules the event is on its way
    else:
        proxy.cut()  # the alarm, which its cancel removes, never arrives
        released.set()
    second = processes.load(load, "charging.py", url=url, space=name, calls="", patience=0.2)
    second.wait_ready()
    if load == "remind":
        _settle(second)
    proxy.heal()

    assert scheduled.wait(30)
    assert len(space.scheduled) == 0
    checked.set()
    space.settle(timeout=30)
    assert len(space.scheduled) == 0
    assert not space.failures
    space.close()


def test_what_another_process_has_scheduled_again_is_not_cancelled(
    url: str, name: str, proxy: Proxy, processes: Processes
) -> None:
    held = Held()
    space = happen.connect(proxy.url, name=name, timeout=90)
    space.broadcast("reminder", "first", after=3600, id="reminder")
    charging.register_renewal(space, held)
    space.broadcast("order")
    held.wait()
    proxy.black_hole()
    sent = proxy.sent
    held.go_on()
    eventually(lambda: proxy.sent > sent + 300)  # the cancel is on its way
    second = processes.load("renew", "charging.py", url=url, space=name, calls="", patience=0.2)
    second.wait_ready()
    _settle(second)
    proxy.heal()

    space.settle(timeout=30)
    assert [event.payload for event in space.scheduled] == ["renewed"]
    assert not space.failures
    space.close()


def test_what_another_process_has_cancelled_is_not_emitted_when_its_time_is_past(
    url: str, name: str, proxy: Proxy, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, now = Held(), Clock.now
    space = happen.connect(proxy.url, name=name, timeout=90)
    charging.register_dated(space, held)
    space.broadcast("order", (space.now + timedelta(hours=1)).isoformat())
    held.wait()
    proxy.black_hole()
    second = processes.load("remind-at", "charging.py", url=url, space=name, calls="", patience=0.2)
    second.wait_ready()
    _settle(second)
    sent = proxy.sent
    monkeypatch.setattr(Clock, "now", lambda clock: now(clock) + timedelta(hours=2))
    held.go_on()
    eventually(lambda: proxy.sent > sent + 300)  # the event is on its way
    proxy.heal()

    space.settle(timeout=30)
    assert len(space.events("reminder")) == 0
    assert not space.failures
    space.close()


def test_the_next_process_goes_on_when_the_owner_is_killed(
    url: str, name: str, processes: Processes, tmp_path: Path
) -> None:
    events, calls = 30, tmp_path / "calls"
    space = happen.connect(url, name=name, timeout=30)
    second, first = (_start(processes, url, name, calls) for _ in range(2))  # the newest owns the nodes
    for number in range(events):
        space.broadcast("order", number)
    space.wait_for("paid", lambda event: event.payload[0] == events // 3, timeout=30)
    first.kill()
    space.wait_for("paid", lambda event: event.payload[0] == events - 1, timeout=60)
    _settle(second)

    _check(space, events)
    assert sum(Counter(calls.read_text().split()).values()) <= events + 1
    space.close()
