"""A process counts as present while it is connected, also when it does nothing but be busy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import nats
import pytest

import happen_nb as happen
from happen_nb._journal.connection import Connection
from happen_nb._journal.wire import Subjects
from happen_nb.learn import wait_until
from tests.guarantees.processes import Processes
from tests.guarantees.servers import Cluster

EMPTYING: dict[str, Callable[[str, str], object]] = {
    "fresh": lambda url, name: happen.connect(url, name=name, fresh=True),
    "clear": lambda url, name: happen.connect(url, name=name).clear(),
    "drop": lambda url, name: happen.connect(url, name=name).drop(),
}


@pytest.mark.parametrize("call", EMPTYING)
def test_nothing_is_emptied_while_a_process_that_cannot_answer_is_connected(
    url: str, name: str, processes: Processes, call: str
) -> None:
    other = processes.peer(url, name)
    other.ask("add", node="n")
    other.pause()
    try:
        with pytest.raises(happen.SpaceInUseError, match=f"process {other.pid} on "):
            EMPTYING[call](url, name)
    finally:
        other.resume()
    assert other.ask("get", node="n", fresh=True) == {"n": 1}
    happen.connect(url, name=name).close()


def test_a_space_in_which_somebody_waits_is_no_target_of_a_fork(
    url: str, name: str, processes: Processes
) -> None:
    other = processes.peer(url, f"{name}_there")
    other.pause()
    try:
        with happen.connect(url, name=name) as space:
            space.create_node("n", initial={"a": 1})
            with pytest.raises(happen.SpaceInUseError, match=f"fork: .*process {other.pid}"):
                space.fork(f"{name}_there")
    finally:
        other.resume()
    assert other.ask("add", node="n") == [1, 1]


def test_a_client_that_listens_without_answering_counts_and_one_that_watches_everything_does_not(
    url: str, name: str
) -> None:
    async def listen(subject: str) -> None:
        client = await nats.connect(url, name="other language")
        await client.subscribe(subject)
        await client.flush()
        try:
            await happen.aconnect(url, name=name, fresh=True)
        finally:
            await client.close()

    asyncio.run(listen(">"))
    with pytest.raises(happen.SpaceInUseError, match="other language"):
        asyncio.run(listen(f"_happen.{name}.who"))
    happen.connect(url, name=name).close()


def test_a_space_is_cleared_though_a_killed_server_took_the_first_question_with_it(
    url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    send = Connection.send

    async def lose_the_first(self: Connection, subject: str, *args: Any, **options: Any) -> None:
        sent.append(subject)
        if sent.count(subject) > 1 or not subject.endswith(".who"):
            await send(self, subject, *args, **options)

    monkeypatch.setattr(Connection, "send", lose_the_first)
    with happen.connect(url, name=name) as space:
        space.create_node("n", initial={"a": 1})
        space.clear()
        assert not space.journal()


def test_in_a_cluster_the_processes_of_every_server_count(
    cluster: Cluster, name: str, processes: Processes
) -> None:
    first, second, _ = cluster.servers.values()
    other = processes.peer(second.url, name)
    subject = Subjects(name).who
    wait_until(lambda: subject in str(first.monitor("routez?subs=1")))  # the routes go through proxies
    other.pause()
    with happen.connect(first.url, name=name) as space:
        with pytest.raises(happen.SpaceInUseError, match=f"process {other.pid} on "):
            space.clear()
        other.kill()
        space.clear()
