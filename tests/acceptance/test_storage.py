"""NATS JetStream Key-Value Store Integration: persistence, distributed access, consistency."""

from __future__ import annotations

import socket
import time
from urllib.parse import urlsplit

import happen_nb as happen

DEADLINE = 30.0


def wait_until_gone(url):
    """Wait until nothing listens at a URL any more."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        try:
            socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=1).close()
        except OSError:
            return
        time.sleep(0.05)
    raise AssertionError(f"{url} is still there")


# -- persistence -------------------------------------------------------------------------------------


def test_state_and_history_outlive_the_server(tmp_path):
    with happen.connect(store=tmp_path / ".happen", name="shop") as before:
        before.create_node("orders", initial={"n": 0}).state.set({"n": 1})
        url = before.server.url
    wait_until_gone(url)

    with happen.connect(store=tmp_path / ".happen", name="shop") as after:
        state = after.create_node("orders", initial={"n": "new"}).state
        assert state.get() == {"n": 1}
        assert [commit.after for commit in state.history()] == [{"n": 0}, {"n": 1}]
        assert state.set({"n": 2}).revision == 3


def test_state_outlives_the_process_that_made_it(space, other):
    other.do('space.create_node("orders").state.set({"made": "there"})')
    other.do("space.close()")

    assert space.create_node("orders").state.get(fresh=True) == {"made": "there"}


# -- distributed access ------------------------------------------------------------------------------


def test_another_process_uses_the_same_calls_on_the_same_state(space, other):
    here = space.create_node("orders", initial={"orders": {}})

    other.do('orders = space.create_node("orders", initial={"never": "used"})')
    other.do('orders.state.set(lambda s: {**s, "orders": {"o1": {"status": "open"}}})')

    assert here.state.get("orders.o1.status", fresh=True) == "open"
    here.state.set(happen.put("orders.o1.status", "paid"))
    assert other.ask('orders.state.get("orders.o1.status", fresh=True)') == "paid"


def test_the_same_space_is_reached_by_url_instead_of_store(space, store):
    node = space.create_node("orders", initial={"n": 1})

    by_url = happen.connect(space.server.url, token=space.server.token, name=space.name)

    assert by_url.views.orders.get("n") == node.state.get("n") == 1


# -- consistency -------------------------------------------------------------------------------------


def test_a_node_that_another_process_has_just_made_is_changed_from_the_state_that_it_has(space, other):
    other.do("import time\nfrom happen_nb._runtime.io import io_thread")
    other.do("io_thread().call_soon(time.sleep, 0.5)")  # it hears of nothing meanwhile

    counter = space.create_node("counter", initial={"n": 1})
    other.do('space.create_node("counter").state.set(lambda s: {"n": s["n"] + 1})')

    assert counter.state.get("n", fresh=True) == 2


def test_concurrent_increments_of_two_processes_lose_nothing(space, other):
    counter = space.create_node("counter", initial={"n": 0})
    other.do(
        "import threading\n"
        "def count():\n"
        "    for _ in range(200):\n"
        '        space.create_node("counter").state.set(lambda s: {"n": s["n"] + 1})\n'
        "counting = threading.Thread(target=count)\n"
        "counting.start()\n"
    )

    for _ in range(200):
        counter.state.set(lambda s: {"n": s["n"] + 1})

    other.do("counting.join()")
    assert counter.state.get("n", fresh=True) == 400
    assert [commit.after["n"] for commit in counter.state.history()] == list(range(401))


def test_a_writer_reads_its_own_writes_at_once(space):
    counter = space.create_node("counter")

    read = []
    for n in range(100):
        counter.state.set({"n": n})
        read.append(counter.state.get("n"))

    assert read == list(range(100))


def test_who_has_seen_an_effect_has_seen_its_cause(space, other):
    """The other process writes b from what it saw of a; no reader here may see b without that a."""
    a, b = space.create_node("a", initial={"n": 0}), space.create_node("b", initial={"of": 0})
    other.do(
        "a, b = space.create_node('a'), space.create_node('b')\n"
        "watch = a.state.watch(lambda commit: b.state.set({'of': commit.after['n']}))\n"
    )

    for n in range(1, 101):
        a.state.set({"n": n})
    b.state.wait_for(lambda s: s["of"] == 100)

    for commit in b.state.history():
        assert space.at(commit)["a"]["n"] >= commit.after["of"]
