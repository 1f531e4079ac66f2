"""A forked child: what it inherited says that it is the parent's, and its own connection works."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import happen_nb as happen
from tests.guarantees.processes import eventually

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


@pytest.fixture
def node(url: str, name: str) -> Iterator[happen.Node]:
    with happen.connect(url, name=name) as space:
        yield space.create_node("n", initial={"n": 0})


def in_child(work: Callable[[], Any]) -> Any:
    """The result of `work`, in a forked child that then ends."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            result = {"ok": work()}
        except BaseException as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        os.write(writing, json.dumps(result).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        answer = json.loads(answers.read() or b'{"error": "the child said nothing"}')
    os.waitpid(child, 0)
    assert "error" not in answer, answer["error"]
    return answer["ok"]


def _increment(url: str, name: str) -> int:
    """Connect anew, as a child should."""
    with happen.connect(url, name=name) as space:
        after = space.create_node("n").state.set(lambda s: {"n": s["n"] + 1}).after
        n: int = after["n"]
        return n


USES: dict[str, Callable[[happen.Node], object]] = {
    "get": lambda node: node.state.get(),
    "fresh get": lambda node: node.state.get(fresh=True),
    "revision": lambda node: node.state.revision,
    "set": lambda node: node.state.set({"n": 5}),
    "history": lambda node: node.state.history(),
    "at": lambda node: node.state.at(1),
    "watch": lambda node: node.state.watch(print),
    "wait_for": lambda node: node.state.wait_for(bool, timeout=1),
    "delete": lambda node: node.delete(),
    "create_node": lambda node: node.space.create_node("m", initial={}),
    "views": lambda node: node.space.views.n.get(),
    "collect": lambda node: node.space.views.collect({"n": "n"}),
    "journal": lambda node: node.space.journal(),
    "clear": lambda node: node.space.clear(),
    "fork": lambda node: node.space.fork("other"),
    "drop": lambda node: node.space.drop(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_what_a_child_inherited_says_to_connect_there(
    node: happen.Node, use: Callable[[happen.Node], object]
) -> None:
    def attempt() -> None:
        with pytest.raises(happen.ForkedError, match=r"call connect\(\) in the child"):
            use(node)

    in_child(attempt)
    assert node.state.set(lambda s: {"n": s["n"] + 1}).revision == 2


def test_connecting_in_the_child_works(node: happen.Node, url: str, name: str) -> None:
    assert in_child(lambda: _increment(url, name)) == 1
    assert node.state.get("n", fresh=True) == 1


def test_the_childs_end_does_not_disturb_the_parent(node: happen.Node, url: str, name: str) -> None:
    told: list[int] = []
    node.state.watch(lambda commit: told.append(commit.revision))

    in_child(node.space.close)
    in_child(lambda: None)
    in_child(lambda: _increment(url, name))
    node.state.set(lambda s: {"n": s["n"] + 1})

    assert node.state.get("n") == 2
    eventually(lambda: told == [2, 3], what=lambda: told)


def test_a_process_that_multiprocessing_forks_ends_as_usual(node: happen.Node, url: str, name: str) -> None:
    forking = multiprocessing.get_context("fork")
    process = forking.Process(target=_increment, args=(url, name))
    process.start()
    process.join(30)

    assert process.exitcode == 0
    assert node.state.get("n", fresh=True) == 1


def test_the_childs_end_leaves_the_embedded_server_running(space: happen.Space, store: Path) -> None:
    node = space.create_node("n", initial={"n": 0})

    def child() -> int:
        with happen.connect(store=store, name=space.name) as own:
            return own.create_node("n").state.set(lambda s: {"n": s["n"] + 1}).revision

    assert in_child(child) == 2
    in_child(lambda: None)

    assert space.server is not None
    assert space.server.running
    assert node.state.set(lambda s: {"n": s["n"] + 1}).after == {"n": 2}


def test_a_pool_of_forked_processes_counts_right(node: happen.Node, url: str, name: str) -> None:
    forking = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(4, mp_context=forking) as pool:
        counts = list(pool.map(_increment, [url] * 20, [name] * 20))

    assert sorted(counts) == list(range(1, 21))
    assert node.state.get("n", fresh=True) == 20


def test_a_childs_child_connects_too(node: happen.Node, url: str, name: str) -> None:
    def child() -> int:
        with happen.connect(url, name=name) as space:
            own = space.create_node("n")
            assert in_child(lambda: _increment(url, name)) == 1
            return own.state.set(lambda s: {"n": s["n"] + 1}, timeout=5).revision

    assert in_child(child) == 3
    assert node.state.get("n", fresh=True) == 2


def test_forking_in_the_middle_of_commits_harms_neither(node: happen.Node, url: str, name: str) -> None:
    stop = threading.Event()
    committed = []

    def commit() -> None:
        while not stop.is_set():
            committed.append(node.state.set(lambda s: {"n": s["n"] + 1}).revision)

    writers = [threading.Thread(target=commit) for _ in range(3)]
    for writer in writers:
        writer.start()
    for _ in range(15):
        in_child(lambda: _increment(url, name))
    stop.set()
    for writer in writers:
        writer.join()

    total = node.state.get("n", fresh=True)
    assert total == len(committed) + 15
    assert len(set(committed)) == len(committed)


def test_forking_before_the_first_connection_is_nothing_special(url: str, name: str) -> None:
    def first() -> int:
        with happen.connect(url, name=name) as space:
            space.create_node("n", initial={"n": 0})
            return in_child(lambda: _increment(url, name))  # type: ignore[no-any-return]

    assert in_child(first) == 1
