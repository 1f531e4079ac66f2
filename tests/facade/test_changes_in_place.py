"""In-place changes of frozen containers by C code are detected, and never stored."""

import bisect
import collections
import heapq
import operator
import random

import pytest

from happen_nb.errors import FrozenStateError, HandlerError, HappenError
from tests.guarantees.servers import Foreign

STATE = {"queue": [2, 5], "by": {"a": 1, "b": 2}, "n": 1}

WRITERS = {
    "heappush": lambda s: heapq.heappush(s["queue"], 1),
    "heappop": lambda s: heapq.heappop(s["queue"]),
    "heapreplace": lambda s: heapq.heapreplace(s["queue"], 9),
    "insort": lambda s: bisect.insort(s["queue"], 3),
    "shuffle by list": lambda s: list.reverse(s["queue"]),
    "list.append": lambda s: list.append(s["queue"], 7),
    "list.append of a mutable": lambda s: list.append(s["queue"], {"x": 1}),
    "list.sort": lambda s: list.sort(s["queue"], reverse=True),
    "list.__setitem__ of an equal number": lambda s: list.__setitem__(s["queue"], 0, 2.0),
    "list.__init__": lambda s: list.__init__(s["queue"], [1]),
    "dict.update": lambda s: dict.update(s, n=2),
    "dict.update inside": lambda s: dict.update(s["by"], a=True),
    "dict.pop": lambda s: dict.pop(s["by"], "a"),
    "dict.clear": dict.clear,
    "dict.__ior__": lambda s: dict.__ior__(s["by"], {"c": 1}),
    "dict.setdefault": lambda s: dict.setdefault(s, "x", 1),
    "a key that is no text": lambda s: dict.__setitem__(s["by"], 5, 1),
    "exec": lambda s: exec("n = 5", s),
    "no json": lambda s: list.append(s["queue"], object()),
    "a cycle": lambda s: list.append(s["queue"], s["queue"]),
}
REFUSED = {
    "shuffle": lambda s: random.shuffle(s["queue"]),
    "operator.setitem": lambda s: operator.setitem(s, "n", 2),
    "operator.ior": lambda s: operator.ior(s, {"n": 2}),
    "counting": lambda s: collections.Counter.update(s, "ab"),
    "vars": vars,
    "object.__setattr__": lambda s: object.__setattr__(s, "x", 1),
    "exec with locals": lambda s: exec("n = 5", {}, s),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_transform_that_writes_past_the_methods_commits_nothing(space, write):
    node = space.create_node("clinic", initial=STATE)

    def change(state):
        write(state)
        return {**state, "m": 2}

    with pytest.raises(FrozenStateError, match="clinic"):
        node.state.set(change)
    assert node.state.get() == STATE
    assert node.state.history()[-1].after == STATE
    assert node.state.set(lambda state: {**state, "m": 2}).diff[0].path == ("m",)


@pytest.mark.parametrize("write", REFUSED.values(), ids=REFUSED)
def test_what_calls_the_methods_is_refused_at_once(space, write):
    node = space.create_node("clinic", initial=STATE)
    with pytest.raises((FrozenStateError, TypeError, AttributeError)):
        write(node.state.get())
    assert node.state.get() == STATE


@pytest.mark.parametrize("many", [1, 5000])
def test_the_error_names_the_node_the_place_and_what_to_do(space, many):
    state = {"wards": {f"w{i}": {"queue": [{"id": 2}, {"id": 5}], "open": True} for i in range(many)}, "n": 0}
    node = space.create_node("clinic", initial=state)

    def change(state):
        list.reverse(state["wards"]["w0"]["queue"])
        return {**state, "n": 1}

    with pytest.raises(FrozenStateError, match=r'"clinic" was .*wards\.w0\.queue: heapq.*copy'):
        node.state.set(change)
    assert node.state.get() == state
    commit = node.state.set(lambda s: {**s, "n": 1})
    assert [change.path for change in commit.diff] == [("n",)]


def test_it_is_noticed_where_the_result_does_not_hold_what_was_damaged(space):
    node = space.create_node("clinic", initial=STATE)
    with pytest.raises(FrozenStateError):
        node.state.set(lambda s: {**s, "queue": [heapq.heappop(s["queue"])]})
    assert node.state.get() == STATE


def test_damage_outside_of_a_transform_is_noticed_by_the_next_one(space):
    node = space.create_node("clinic", initial=STATE)
    heapq.heappush(node.state.get("queue"), 1)
    with pytest.raises(FrozenStateError, match="at queue"):
        node.state.set({**STATE, "queue": [1, 5, 2]})
    assert node.state.set({**STATE, "queue": [1, 5, 2]}).changed
    heapq.heappush(node.state.get("queue"), 1)
    with pytest.raises(FrozenStateError, match="at queue"):
        node.state.get(fresh=True)
    assert node.state.get("queue") == [1, 5, 2]


def test_a_node_without_commits_stays_empty(space):
    node, other = space.create_node("clinic"), space.create_node("other")
    dict.update(node.state.get(), x=1)
    with pytest.raises(FrozenStateError, match="clinic"):
        node.state.set(lambda s: {**s, "n": 1})
    assert node.state.get() == other.state.get() == {}


def test_a_transform_that_raises_leaves_nothing_of_it(space):
    node = space.create_node("clinic", initial=STATE)

    def change(state):
        raise ZeroDivisionError(heapq.heappop(state["queue"]))

    with pytest.raises(ZeroDivisionError) as raised:
        node.state.set(change)
    assert any("changed in place at queue" in note for note in raised.value.__notes__)
    assert node.state.get() == STATE


def test_a_viewed_state_is_checked_too(space):
    clinic, other = space.create_node("clinic", initial=STATE), space.create_node("other")
    with pytest.raises(FrozenStateError, match=r'"clinic".* at queue'):
        other.state.set(lambda s, views: {"first": heapq.heappop(views.clinic.get("queue"))})
    assert other.state.get() == {}
    assert clinic.state.get() == STATE


def test_a_state_that_another_client_wrote_is_no_damage(space):
    node = space.create_node("clinic", initial=STATE)
    with Foreign(space.server.url, token=space.server.token) as client:
        body = b'{"queue": [2, 5.0],  "by": {"\\u0061": 1, "b": 2}, "n": 1}'
        client.publish(f"$KV.happen_{space.name}.clinic", body)
    state = node.state.get(fresh=True)
    assert not node.state.set({"n": 1, "by": {"b": 2, "a": 1}, "queue": [2, 5.0]}).changed
    assert node.state.get() is state
    list.append(state["queue"], 1)
    with pytest.raises(FrozenStateError):
        node.state.set(lambda s: {**s, "m": 1})
    assert node.state.get("queue") == [2, 5.0]


def test_a_fork_begins_with_what_is_stored(space):
    node = space.create_node("clinic", initial=STATE)
    heapq.heappush(node.state.get("queue"), 1)
    with pytest.raises(FrozenStateError, match="at queue"):
        space.fork(f"{space.name[:50]}-f")
    with space.fork(f"{space.name[:50]}-f") as fork:
        assert fork.views.clinic.get() == STATE
        fork.drop()


# -- payloads ----------------------------------------------------------------------------------------


def test_a_handler_that_changes_its_payload_fails_and_the_others_see_what_was_sent(space):
    one, two, seen = space.create_node("one"), space.create_node("two"), []
    one.on("job", lambda event: heapq.heappop(event.payload["queue"]))
    one.on("job", lambda event: seen.append([*event.payload["queue"]]))
    two.on("job", lambda event: seen.append([*event.payload["queue"]]), where=lambda event: seen)
    event = space.broadcast("job", {"queue": [2, 5]})
    space.settle()
    assert all(each == [2, 5] for each in seen)
    assert seen
    (failure,) = space.failures
    assert type(failure.exception) is FrozenStateError
    assert "at queue" in str(failure.exception)
    assert event.payload == {"queue": [2, 5]}


def test_a_sender_learns_that_its_handler_changed_the_payload(space):
    node = space.create_node("one")
    node.on("job", lambda event: list.append(event.payload, 1))
    with pytest.raises(HandlerError, match="changed in place"):
        space.send("one", "job", [3]).result(5)


def test_a_pending_payload_that_was_changed_is_not_stored(space):
    node = space.create_node("one")

    def change(state):
        event = node.broadcast("job", {"queue": [2, 5]})
        heapq.heappop(event.payload["queue"])
        return {**state, "n": 1}

    with pytest.raises(HappenError, match=r'"job" was changed in place at queue'):
        node.state.set(change)
    assert (len(space.events()), node.state.revision) == (0, 0)


def test_a_replay_of_events_sends_what_they_were(space):
    event = space.broadcast("job", {"queue": [2, 5]})
    heapq.heappop(event.payload["queue"])
    with pytest.raises(FrozenStateError):
        space.replay([event]).wait(10)
    assert space.replay([event]).wait(10).stored == 1
    assert space.events()[-1].payload == {"queue": [2, 5]}


def test_a_look_back_at_the_newest_revision_is_checked(space):
    node = space.create_node("clinic", initial=STATE)
    for look in (lambda: node.state.at(1), lambda: node.state.at(node.state.history()[-1].time)):
        heapq.heappush(node.state.get("queue"), 1)
        with pytest.raises(FrozenStateError, match="at queue"):
            look()
        assert look() == STATE
