"""A writer that lags behind the others is served, too."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import orjson
import pytest

import happen_nb as happen
from tests.guarantees.processes import Processes, eventually
from tests.guarantees.proxy import Proxy
from tests.guarantees.servers import Foreign

VALID_SECONDS = 1.0
"""Time for which a writer waits after a request."""
DELAY = 0.1
"""Seconds in each direction: many commits of the other process."""
WITHIN = 5.0
EVENTS = 1_000
Busy = Callable[[happen.Node], AbstractContextManager[None]]


@contextmanager
def applying_events(node: happen.Node) -> Iterator[None]:
    """Let a state handler of a node apply many events, one after the other."""

    def apply(state: Any, event: happen.Event) -> dict[str, int]:
        time.sleep(0.002)
        return {**state, "last": event.payload["n"]}

    node.space.replay(({"n": n} for n in range(EVENTS)), type="n").wait(30)
    node.state.on("n", apply, start="beginning")
    yield
    node.off("n")


@contextmanager
def setting(node: happen.Node) -> Iterator[None]:
    """Let two threads set the state of a node, each as often as it can."""
    stop = threading.Event()

    def set_again_and_again() -> None:
        while not stop.is_set():
            node.state.set(lambda state: {**state, "last": state.get("last", 0) + 1})

    threads = [threading.Thread(target=set_again_and_again) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("busy", [applying_events, setting])
def test_a_writer_on_a_slow_link_is_not_overtaken_forever(
    url: str, name: str, proxy: Proxy, processes: Processes, busy: Busy
) -> None:
    with happen.connect(url, name=name) as space:
        node = space.create_node("busy", initial={})
        peer = processes.peer(proxy.url, name, timeout=30.0)
        proxy.delay = DELAY
        with busy(node):
            eventually(lambda: node.state.get("last"))
            began = time.monotonic()
            peer.ask("add", node="busy")
            took, last = time.monotonic() - began, node.state.get("last")
            proxy.delay = 0.0
            assert took < WITHIN
            eventually(lambda: node.state.get("last") > last)  # and the others go on


def test_a_state_handler_on_a_slow_link_is_not_overtaken_forever(
    url: str, name: str, proxy: Proxy, processes: Processes
) -> None:
    with happen.connect(url, name=name) as space:
        node = space.create_node("busy", initial={})
        peer = processes.peer(proxy.url, name, timeout=30.0)
        peer.ask("apply", node="busy", pattern="n", how="add")
        proxy.delay = DELAY
        with setting(node):
            eventually(lambda: node.state.get("last"))
            for number in range(2):
                space.broadcast("n", number)
            node.state.wait_for(lambda state: len(state.get("seen", ())) == 2, timeout=2 * WITHIN)
        proxy.delay = 0.0


def test_a_state_handler_that_is_registered_on_a_slow_link_beside_a_busy_writer_applies_its_events(
    url: str, name: str, proxy: Proxy, processes: Processes
) -> None:
    with happen.connect(url, name=name) as space:
        node = space.create_node("busy", initial={})
        peer = processes.peer(proxy.url, name, timeout=30.0)
        proxy.delay = DELAY
        with setting(node):
            eventually(lambda: node.state.get("last"))
            peer.ask("apply", node="busy", pattern="n", how="add")
            space.broadcast("n", 0)
            node.state.wait_for(lambda state: "seen" in state, timeout=4 * WITHIN)
        proxy.delay = 0.0


def test_a_writer_waits_for_another_one_until_that_is_done_or_gone(
    url: str, name: str, foreign: Foreign
) -> None:
    def ask(**more: object) -> None:
        request = orjson.dumps({"node": "busy", "id": "elsewhere-1", **more})
        foreign.run(foreign.client.publish(f"_happen.{name}.first", request))
        foreign.run(foreign.client.flush())

    with happen.connect(url, name=name) as space, ThreadPoolExecutor() as threads:
        node, other = space.create_node("busy", initial={}), space.create_node("other", initial={})
        ask(waited=60_000)
        other.state.set({"n": 0})  # by then the request has arrived
        waiting = threads.submit(node.state.set, {"n": 1})
        going_on = threads.submit(other.state.set, {"n": 1})
        while not going_on.done():
            ask(waited=60_000)
            time.sleep(VALID_SECONDS / 10)
        assert not waiting.done()
        ask(done=True)
        waiting.result(WITHIN)

        began = time.monotonic()
        ask(waited=60_000)
        other.state.set({"n": 2})
        node.state.set({"n": 2})  # nobody has asked again
        assert VALID_SECONDS * 0.9 < time.monotonic() - began < WITHIN
