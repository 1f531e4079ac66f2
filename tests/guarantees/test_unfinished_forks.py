"""A fork is whole or not there, also when its process is killed; it leaves out what it cannot copy."""

from __future__ import annotations

import asyncio
import datetime as dt
import subprocess
import sys

import nats
import pytest

import happen_nb as happen
from happen_nb._runtime.io import io_thread
from tests.guarantees.processes import Processes, eventually


def half_a_fork(url: str, name: str) -> happen.Space:
    """A space as a fork leaves it that was killed."""
    half = happen.connect(url, name=name)
    io_thread().run(half._log.stream.mark_unfinished("shop"))
    half.create_node("n0", initial={"n": 0})
    return half


def test_what_a_killed_fork_left_is_no_space_and_connecting_starts_over(
    url: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    half_a_fork(url, name).close()

    with happen.connect(url, name=f"{name}_x"):
        assert name not in [space.name for space in happen.spaces()]
    with happen.connect(url, name=name) as again:
        assert list(again.views) == []
        assert "starts over" in caplog.text
        assert again.create_node("n1", initial={}).state.revision == 1
        assert name in [space.name for space in happen.spaces()]
    with happen.connect(url, name=name) as again:
        assert list(again.views) == ["n1"]


RERUN = """
import os, sys
import happen_nb as happen

url, name, end = sys.argv[1:]
space = happen.connect(url, name=name)
node = space.create_node("node")

@node.on("go")
def handle(event):
    if end == "midway" and happen.current().name != name:
        os._exit(0)

space.broadcast("go").settle()
again = space.rerun()
assert again.same
if end == "killed":
    os._exit(0)
"""


@pytest.mark.parametrize("end", ["", "killed", "midway"])
def test_a_rerun_starts_over_silently_after_the_process_of_an_earlier_one_has_ended(
    url: str, name: str, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    subprocess.run([sys.executable, "-c", RERUN, url, name, end], check=True, timeout=60)

    with happen.connect(url, name=name) as space:
        space.create_node("node").on("go", lambda event: None)
        again = space.rerun()
        assert again.same
        assert again.space.name == f"{name}-rerun-1"
    assert not caplog.records


def test_the_same_fork_works_after_one_was_killed(url: str, name: str) -> None:
    with happen.connect(url, name=name) as space:
        for n in range(3):
            space.create_node(f"n{n}", initial={"n": n})
        half_a_fork(url, f"{name}_f").close()

        with space.fork(f"{name}_f") as fork:
            assert dict(fork.views.collect({"n0": "n", "n2": "n"})) == {"n0": 0, "n2": 2}
            happen.connect(url, name=name)  # the current space again
            assert fork.name in [found.name for found in happen.spaces()]


def test_a_fork_that_still_goes_on_is_not_connected_to(url: str, name: str, processes: Processes) -> None:
    space = half_a_fork(url, name)
    error, text = processes.peer().fail("connect", url=url, name=name)

    assert error == "SpaceInUseError"
    assert 'a fork of "shop"' in text
    io_thread().run(space._log.stream.mark_unfinished(""))
    other = processes.peer(url, name)
    eventually(lambda: other.ask("states") == {"n0": [1, {"n": 0}]})
    space.close()


def test_a_change_of_options_leaves_the_mark(url: str, name: str) -> None:
    half = half_a_fork(url, name)
    happen.connect(url, name=name, history=7)
    assert (half._log.info.unfinished, half._log.info.history) == ("shop", 7)
    half.close()
    with happen.connect(url, name=name) as again:
        assert list(again.views) == []
        assert again._log.info.history == 7


@pytest.mark.parametrize("when", ["now", "then"])
def test_what_other_clients_stored_is_left_out_and_named(
    url: str, name: str, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def put(key: str, value: bytes) -> None:
        client = await nats.connect(url)
        await client.jetstream().publish(f"$KV.happen_{name}.{key}", value)
        await client.close()

    with happen.connect(url, name=name) as space:
        space.create_node("good", initial={"a": 1})
        asyncio.run(put("bad", b"[1]"))
        asyncio.run(put("a.b.c", b"{}"))
        space.create_node("good").state.get(fresh=True)
        at = dt.datetime.now(dt.UTC) if when == "then" else None

        with space.fork(f"{name}_f", at=at) as fork:
            assert {node: view.get() for node, view in fork.views.items()} == {"good": {"a": 1}}
    assert '"bad" is left out' in caplog.text
    assert '"a.b.c" is left out' in caplog.text
