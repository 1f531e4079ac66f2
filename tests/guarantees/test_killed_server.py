"""nats-server is killed under many writers and started again on the same store and port."""

from __future__ import annotations

import logging
import random
import time
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

import happen_nb as happen
from happen_nb._journal.stream import Info, Stream
from happen_nb.learn import kill_server
from tests.guarantees.processes import Processes, start_together
from tests.guarantees.servers import Foreign, Server
from tests.guarantees.writing import Told, assert_stored_as_told, wait_for_each

log = logging.getLogger(__name__)

CURRENT_WITHIN = 10.0  # it takes much less than a second, but not on a machine that is busy


@pytest.mark.parametrize(
    ("kills", "writers"),
    [(3, 6), pytest.param(20, 20, marks=[pytest.mark.soak, pytest.mark.timeout(900)])],
)
def test_a_killed_server_loses_nothing_and_fails_no_call(
    mortal: Server, name: str, processes: Processes, seed: int, kills: int, writers: int
) -> None:
    choose = random.Random(seed)
    with happen.connect(mortal.url, name=name, history=1_000_000) as space:
        marker = space.create_node("marker", initial={"n": 0})
        loads = [
            processes.load(
                "write_in_threads",
                url=mortal.url,
                space=name,
                label=f"w{process}",
                threads=writers // 4,
                replicas=1,
            )
            for process in range(4)
        ]
        start_together(loads)
        wait_for_each(space, len(loads), writers // 4)
        for kill in range(1, kills + 1):
            time.sleep(choose.uniform(0.2, 1.5))  # the random moment itself
            mortal.kill()
            time.sleep(choose.uniform(0.0, 0.5))  # how long it is away
            mortal.start()
            _commit_elsewhere(mortal.url, name, kill)
            marker.state.wait_for(partial(_is_at, kill), timeout=CURRENT_WITHIN)
            wait_for_each(space, len(loads), writers // 4)
        told = Told.by(loads)

        log.info("%d kills, %d commits, longest call %.2f s", kills, told.count, told.longest)
        assert_stored_as_told(space, told, f"seed {seed}")


def _is_at(n: int, marker: Any) -> bool:
    return bool(marker["n"] == n)


def _commit_elsewhere(url: str, space: str, n: int) -> None:
    """Change the marker by another client, as soon as the server takes it."""
    with Foreign(url) as client:
        deadline = time.monotonic() + 10
        body = b'{"n": %d}' % n
        while client.publish(f"$KV.happen_{space}.marker", body).get("seq") is None:
            assert time.monotonic() < deadline, "the server does not store anything"


@pytest.mark.parametrize("kills", [8, pytest.param(200, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_a_space_is_opened_while_the_server_is_killed(store: Path, name: str, kills: int) -> None:
    with happen.connect(store=store, name=name) as space:
        space.create_node("n", initial={"n": 0})
        for kill in range(kills):
            killing = Timer(kill % 8 * 0.0008, kill_server, [space])
            killing.start()
            fork = space.fork(f"{name[:40]}-{kill}")
            killing.join()
            assert fork.views.n.get() == {"n": 0}
            fork.drop()


@pytest.mark.parametrize("kills", [8, pytest.param(300, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_a_space_is_cleared_while_the_server_is_killed(store: Path, name: str, kills: int) -> None:
    with happen.connect(store=store, name=name) as space:
        node = space.create_node("n", initial={"n": 0})
        for kill in range(kills):
            space.broadcast("before")
            killing = Timer(kill % 8 * 0.0002, kill_server, [space])
            killing.start()
            space.clear(force=True)
            killing.join()
            assert node.state.set({"n": kill}).revision == 1
            assert len(space.events()) == 0


def test_a_message_that_is_no_clear_removes_nothing(url: str, name: str) -> None:
    with happen.connect(url, name=name) as space:
        space.create_node("n", initial={"n": 0})
        space.broadcast("before")
    with Foreign(url) as other:
        other.publish(f"happen.{name}.clear", b"[]", {"Happen-Clear": "0123456789abcdef"})
    with happen.connect(url, name=name) as space:
        assert space.views.n.get() == {"n": 0}
        assert space.create_node("n").state.set({"n": 1}).revision == 2
        assert [event.type for event in space.events()] == ["before"]
        space.clear(force=True)
        assert space.create_node("n").state.set({"n": 1}).revision == 1


def test_what_a_killed_server_has_kept_of_a_cleared_space_is_removed(
    url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, call, purges = Stream.info, Stream._api, []

    async def with_old_messages(stream: Stream, **options: Any) -> Info:
        return (await info(stream, **options))._replace(first=1)

    async def noted(stream: Stream, verb: str, body: Any = None, **options: Any) -> Any:
        purges.extend([body] if verb == "PURGE" else [])
        return await call(stream, verb, body, **options)

    with happen.connect(url, name=name) as space:
        node = space.create_node("n", initial={"n": 0})
        space.clear(force=True)
        monkeypatch.setattr(Stream, "info", with_old_messages)
        monkeypatch.setattr(Stream, "_api", noted)
        node.state.get(fresh=True)
        assert purges == [{"seq": space._log.cleared}]
