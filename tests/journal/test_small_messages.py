"""On a server that takes messages of 1 MB, everything works or is a clear error before it is sent."""

from __future__ import annotations

import subprocess
import sys

import pytest

import happen_nb as happen
from tests.guarantees.servers import free_port, nats_server

MB = 1_048_576
OTHER = """
import sys, happen_nb
space = happen_nb.connect(sys.argv[1], name=sys.argv[2], timeout=20)
far = space.create_node("far")
def fail(event): raise ValueError("z" * event.payload)
def steps(event):
    for number in range(30): yield {"done": number, "blob": "y" * event.payload}
    return "end"
far.on("text", lambda event: "x" * event.payload)
far.on("fail", fail)
far.on("steps", steps)
far.on("many", lambda event: None)
print("ready", flush=True)
sys.stdin.read()
space.close()
"""


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """The address of a nats-server that was given nothing but a port and a store."""
    port, store = free_port(), tmp_path_factory.mktemp("plain")
    log = store / "server.log"
    options = ["-js", "-sd", str(store), "-a", "127.0.0.1", "-p", str(port), "-l", str(log)]
    server = subprocess.Popen([nats_server(), *options])
    yield f"nats://127.0.0.1:{port}"
    server.kill()
    server.wait()


@pytest.fixture
def space(plain, request):
    name = request.node.name.replace("[", "-").replace("]", "")[:60]
    with happen.connect(plain, name=name, timeout=20) as space:
        assert space._log.connection.max_payload == MB
        yield space


@pytest.fixture
def node(space):
    return space.create_node("node")


@pytest.fixture
def far(space, plain):
    """The name of a node that another process owns."""
    command = [sys.executable, "-c", OTHER, plain, space.name]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    yield "far"
    process.communicate(timeout=60)


def test_a_state_is_stored_up_to_the_limit(space, node):
    assert node.state.set({"pad": "x" * (MB - 5_000)}).changed
    with pytest.raises(happen.TooLargeError, match=r"1,04\d,\d{3}"):
        node.state.set({"pad": "x" * MB})
    assert len(node.state.get("pad", fresh=True)) == MB - 5_000
    assert len(space.fork(f"{space.name}-fork").views.node.get("pad")) == MB - 5_000


@pytest.mark.parametrize("way", ["broadcast", "send", "transform"])
def test_a_payload_is_stored_up_to_the_limit(space, node, way):
    node.on("size", lambda event: len(event.payload))

    def transform(size):
        node.state.set(lambda state: (node.broadcast("size", "x" * size), {"size": size})[1])
        return space.events("size")[-1]

    emit = {
        "broadcast": lambda size: node.broadcast("size", "x" * size),
        "send": lambda size: node.send("node", "size", "x" * size).event,
        "transform": transform,
    }[way]
    assert len(emit(MB - 5_000).payload) == MB - 5_000
    with pytest.raises(happen.TooLargeError, match=r"1,04\d,\d{3}"):
        emit(MB)
    assert len(space.events("size")) == 1


def near(space):
    """The same handlers in this process."""
    node = space.create_node("near")

    def fail(event):
        raise ValueError("z" * event.payload)

    def steps(event):
        for number in range(30):
            yield {"done": number, "blob": "y" * event.payload}
        return "end"

    node.on("text", lambda event: "x" * event.payload)
    node.on("fail", fail)
    node.on("steps", steps)
    return "near"


@pytest.mark.parametrize("where", ["near", "far"])
def test_results_and_errors_arrive_or_name_the_limit(space, where, request):
    target = near(space) if where == "near" else request.getfixturevalue("far")

    def ask(type, payload):
        return space.send(target, type, payload, timeout=60).result()

    assert len(ask("text", MB - 5_000)) == MB - 5_000
    with pytest.raises(happen.PayloadError, match=r"2,000,002 bytes .* at most 1,044,480"):
        ask("text", 2_000_000)
    with pytest.raises(happen.HandlerError, match="ValueError: zzz") as raised:
        ask("fail", 2_000_000)
    assert len(str(raised.value)) < 200_000
    assert len(raised.value.remote_traceback) < 200_000
    assert ask("steps", 300_000) == "end"
    with pytest.raises(happen.HandlerError, match="progress of"):
        ask("steps", MB)
    assert ask("text", 1) == "x"


def test_all_progress_of_large_values_arrives(space, far):
    reply = space.send(far, "steps", 100_000, timeout=60)
    assert [value["done"] for value in reply] == list(range(30))


def test_what_many_failing_handlers_did_is_all_stored(space, node, capfd):
    def fail(event):
        raise ValueError("é" * 9_000)

    node.on("row", fail)
    space.replay([{"i": i} for i in range(600)], type="row").wait(60)
    space.settle(100)
    assert len(space.failures) == 600
    assert list(space.unhandled) == []
    last = space.events("row")[-1]
    assert "ValueError" in repr(space.trace(last))
    assert last.handled_by
    assert "not stored" not in capfd.readouterr().err


def test_a_node_may_have_more_patterns_than_a_message_holds(space, node):
    for number in range(60):
        alternatives = ",".join(f"kind-{number}-{part:0>40}" for part in range(38))
        node.on(f"{{{alternatives}}}", lambda event: "found")
    record = space._runtime.ownership.owner_of("node")
    assert sum(map(len, record.patterns)) <= 100_000
    assert node.send("node", f"kind-59-{37:0>40}").result() == "found"


def test_a_clear_carries_more_owners_than_patterns_fit_beside(space, node, until):
    nodes = [space.create_node(f"n{number}") for number in range(14)]
    patterns = [f"{number:0>2000}" for number in range(45)]
    for each in nodes:
        for pattern in patterns:
            each.on(pattern, lambda event: "found")
    until(lambda: all(len(space._runtime.ownership.owner_of(each.name).patterns) == 45 for each in nodes))
    space.clear()
    assert all(space._runtime.ownership.is_ours(each.name) for each in nodes)
    until(lambda: all(len(space._runtime.ownership.owner_of(each.name).patterns) == 45 for each in nodes))


def test_others_are_asked_about_more_events_than_a_message_names(space, node, far):
    def emit(state):
        for number in range(900):
            node.broadcast("many", id=f"{state['round']:0>64}{number:0>64}")
        return {"round": state["round"] + 1}

    node.state.set({"round": 0})
    commits = [node.state.set(emit, timeout=60) for _ in range(4)]
    assert commits[-1].after["round"] == 4
    events = space.events("many")
    assert len(events) == 3_600
    events[-1].settle(60)
    assert list(space.unhandled) == []


def test_a_transform_emits_up_to_999_messages(space, node):
    def emit(number, size, keyed):
        def transform(state):
            for index in range(number):
                node.broadcast("row", "x" * size, id=f"{number}-{size}-{index}" if keyed else None)
            return {"n": number, "size": size}

        return transform

    node.state.set(emit(998, 300, keyed=True))
    node.state.set(emit(1_500, 1, keyed=False))  # some of them in the header of the commit
    assert len(space.events("row")) == 2_498
    positions = [event.sequence for event in space.events("row")]
    assert positions == sorted(positions)
    before = space._log.replica.position
    for number, size, keyed in [(999, 1, True), (2_500, 100, False)]:
        with pytest.raises(happen.TooLargeError, match="at most 999") as raised:
            node.state.set(emit(number, size, keyed=keyed))
        assert "emit, schedule or cancel fewer events" in str(raised.value)
    assert space._log.replica.position == before


def test_large_states_are_read_in_every_way(space, node):
    for number in range(5):
        node.state.set({"n": number, "pad": "x" * 900_000})
    history = node.state.history()
    assert [commit.after["n"] for commit in history] == list(range(5))
    assert space.at(history[2])["node"]["n"] == 1
    assert node.state.at(1)["n"] == 0
    assert node.state.revert(2).after["n"] == 1
    assert history.to_frame("n")["n"].tolist() == list(range(5))
    assert len(space.journal()) == 6
    space.timeline()
    space.clear()
    assert node.state.get(fresh=True) == {}


def test_replayed_rows_are_stored_up_to_the_limit(space):
    rows = [{"pad": "x" * 900_000} for _ in range(4)]
    space.replay(rows, type="row").wait(60)
    assert len(space.events("row")) == 4
    with pytest.raises(happen.TooLargeError, match=r"row 0: 2,000,0\d\d bytes"):
        space.replay([{"pad": "x" * 2_000_000}], type="row").wait(60)
