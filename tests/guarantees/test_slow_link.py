"""A link that takes longer for a message than the library waits for an answer, or for a sign of life."""

from __future__ import annotations

import pytest

import happen_nb as happen
from tests.guarantees.processes import Processes, eventually
from tests.guarantees.proxy import Proxy
from tests.guarantees.servers import Foreign, Server

TIMEOUT = 30.0
SOAK = [pytest.mark.soak, pytest.mark.timeout(300)]
LINKS = pytest.mark.parametrize(
    ("size", "rate"), [(600_000, 200_000), pytest.param(4_000_000, 1_000_000, marks=SOAK)]
)
"""Bytes of a state, and bytes per second in each direction: 3 and 4 s."""


@LINKS
def test_a_large_state_is_sent_once_and_does_not_hold_up_the_next_call(
    server: Server, name: str, processes: Processes, size: int, rate: int
) -> None:
    with Proxy(server.port, rate=rate) as proxy:
        peer = processes.peer(proxy.url, name, timeout=TIMEOUT)
        before = proxy.sent
        assert peer.ask("set", node="large", value={"text": "x" * size}) == 1
        assert peer.ask("set", node="small", value={"n": 1}) == 1

        assert (proxy.sent - before) / size < 1.5


@LINKS
def test_a_process_on_a_slow_link_follows_large_states(
    server: Server, url: str, name: str, processes: Processes, size: int, rate: int
) -> None:
    with Proxy(server.port, rate=rate) as proxy, happen.connect(url, name=name) as space:
        peer = processes.peer(proxy.url, name, timeout=TIMEOUT)
        for n in range(2):
            space.create_node("large").state.set({"text": "x" * size, "n": n})

        eventually(lambda: peer.ask("states").get("large", [0])[0] == 2, within=TIMEOUT)


@LINKS
def test_a_process_on_a_slow_link_connects_to_a_space_with_a_large_state(
    server: Server, url: str, name: str, processes: Processes, size: int, rate: int
) -> None:
    with Proxy(server.port, rate=rate) as proxy, happen.connect(url, name=name) as space:
        space.create_node("large", initial={"text": "x" * size})
        peer = processes.peer(proxy.url, name, timeout=TIMEOUT)

        assert peer.ask("size", node="large") > size


def test_a_reading_may_take_longer_than_the_timeout_while_it_goes_on(
    server: Server, url: str, name: str, processes: Processes
) -> None:
    events = 1_500
    with Proxy(server.port, rate=400_000) as proxy, happen.connect(url, name=name) as space:
        space.replay([{"text": "x" * 500}] * events, type="tick").wait(60)
        peer = processes.peer(proxy.url, name, timeout=2.0)

        assert peer.ask("count_events", pattern="tick") == events


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_long_journal_is_read_within_the_default_timeout(mortal: Server, name: str) -> None:
    nodes, events = 1_500, 400_000
    happen.connect(mortal.url, name=name).close()
    _fill(mortal.url, name, nodes, events)
    mortal.kill()
    mortal.start()

    with happen.connect(mortal.url, name=name) as space:
        assert len(space.views) == nodes
        assert space.create_node("n5").state.set(lambda state: {**state, "k": 1}).revision == 2
        assert len(space.events(limit=100)) == 100
        assert len(space.events()) == events
        assert len(space.journal(limit=5_000)) == 5_000
        assert len(space.unhandled) > 0


def _fill(url: str, name: str, nodes: int, events: int) -> None:
    """Store many states and events as a plain client does."""

    async def publish() -> None:
        for number in range(nodes):
            headers = {"Happen-Commit": f"w-{number} 1 0"}
            await client.client.publish(f"$KV.happen_{name}.n{number}", b'{"text": "x"}', headers=headers)
        for number in range(events):
            headers = {"Happen-Event": f'{{"id": "x-{number}", "type": "tick", "sender": "w"}}'}
            subject = f"happen.{name}.event.w.x-{number}.tick"
            if number % 2_000 == 0 or number == events - 1:  # the answer comes when all before it is stored
                await client.client.request(subject, b"1", headers=headers, timeout=30)
            else:
                await client.client.publish(subject, b"1", headers=headers)

    with Foreign(url) as client:
        client.run(publish())
