"""State handlers whose transforms run ahead of their commits: in order, once, none holds up the others."""

import threading
import time
from contextlib import suppress

import happen_nb as happen
from happen_nb._runtime import commit_turns, lanes
from happen_nb._runtime.evaluation import Item


def count(state, _event):
    return {**state, "n": state.get("n", 0) + 1}


def test_many_events_of_a_node_are_applied_one_by_one_in_order(space):
    node = space.create_node("log", initial={"seen": []})
    node.state.on("n", lambda state, event: {"seen": [*state["seen"], event.payload]})
    space.replay([{"n": n} for n in range(300)], type="n").wait(30)
    space.settle(30)
    assert [each["n"] for each in node.state.get("seen")] == list(range(300))
    assert node.state.revision == 301


def test_what_others_commit_between_is_not_lost_and_nothing_is_applied_twice(space):
    node = space.create_node("log", initial={"n": 0, "person": 0})
    node.state.on("n", count)
    node.state.on("n", lambda state, _event: {**state, "other": state.get("other", 0) + 1}, name="other")
    replay = space.replay([{"n": n} for n in range(300)], type="n")
    for _ in range(40):
        node.state.set(happen.put("person", lambda n: n + 1))
    replay.wait(30)
    space.settle(30)
    assert node.state.get() == {"n": 300, "person": 40, "other": 300}


def test_what_is_evaluated_again_after_another_commit_keeps_its_order(space, monkeypatch):
    monkeypatch.setattr(commit_turns, "MAX_IN_A_ROW", 1)
    monkeypatch.setattr(commit_turns, "PAUSE_SECONDS", 20)  # after 0, so that 1 and 2 are only evaluated
    monkeypatch.setattr(commit_turns, "MAX_PAUSE_SECONDS", 20)
    node = space.create_node("log", initial={"seen": []})
    reached, gate = threading.Event(), threading.Event()

    def append(state, event):
        if event.payload == 2 and not reached.is_set():
            time.sleep(0.1)  # what was evaluated until here is handed over
        elif event.payload == 3:
            reached.set()
            gate.wait(20)
        return {**state, "seen": [*state["seen"], event.payload]}

    for number in range(4):
        space.broadcast("n", number)
    node.state.on("n", append, start="beginning")
    reached.wait(20)
    node.state.wait_for(lambda state: list(state["seen"]) == [0])
    node.state.set(happen.put("person", 1))
    monkeypatch.undo()
    gate.set()
    space.settle(10)
    assert list(node.state.get("seen")) == [0, 1, 2, 3]


def test_a_transform_that_fails_is_called_once_and_those_around_it_are_applied(space):
    node = space.create_node("log", initial={"n": 0})
    calls = []

    def apply(state, event):
        calls.append(event.payload["n"])
        if event.payload["n"] % 10 == 3:
            raise ValueError("no")
        return {"n": state["n"] + 1}

    node.state.on("n", apply)
    space.replay([{"n": n} for n in range(50)], type="n").wait(30)
    space.settle(30)
    assert node.state.get("n") == 45
    assert [each.event.payload["n"] for each in space.failures] == [3, 13, 23, 33, 43]
    assert [n for n in calls if n % 10 == 3] == [3, 13, 23, 33, 43]
    space.failures.clear()


def test_each_failure_takes_the_same_work_however_many_events_wait_behind_it(space, monkeypatch):
    compared = []
    order = Item.order.fget
    monkeypatch.setattr(Item, "order", property(lambda item: compared.append(item) or order(item)))
    node = space.create_node("log")
    gate = threading.Event()

    def fail(_state, event):
        gate.wait(20)
        raise ValueError(event.payload)

    node.state.on("n", fail)
    for number in range(200):
        space.broadcast("n", number)
    gate.set()
    space.settle(30)
    assert [failure.event.payload for failure in space.failures] == list(range(200))
    assert len(compared) < 10 * 200  # not with each other


def test_a_transform_that_takes_long_does_not_hold_up_other_nodes(space):
    slow, *others = (space.create_node(name) for name in ("slow", "a", "b", "c"))
    go_on = threading.Event()
    slow.state.on("n", lambda state, _event: [go_on.wait(20), count(state, None)][1], name="slow")
    for node in others:
        node.state.on("n", count)
    space.broadcast("n")
    for node in others:
        node.state.wait_for(lambda state: state.get("n") == 1)
    assert slow.state.get() == {}
    go_on.set()
    space.settle(10)
    assert slow.state.get("n") == 1


def test_what_a_slow_transform_returned_is_stored_before_the_next_one_ends(space):
    node, seen = space.create_node("node"), []

    @node.state.on("n")
    def slow(state, event):
        number = event.payload["n"]
        if number == 0:
            time.sleep(0.1)
        elif number == 1:
            deadline = time.monotonic() + 10
            while node.state.get("n") != 0 and time.monotonic() < deadline:
                time.sleep(0.01)
            seen.append(node.state.get("n"))
        return {"n": number}

    space.replay([{"n": n} for n in range(5)], type="n").wait(30)
    space.settle()
    assert seen == [0]


def test_the_node_goes_on_without_a_transform_that_was_unregistered_while_it_ran(space):
    node = space.create_node("stuck")
    begun, go_on = threading.Event(), threading.Event()

    def stuck(state, event):
        begun.set()
        go_on.wait(20)
        return {**state, "stuck": True}

    node.state.on("n", stuck)
    node.state.on("n", count)
    space.broadcast("n")
    assert begun.wait(10)
    node.off(stuck)
    node.state.wait_for(lambda state: state.get("n") == 1)
    go_on.set()
    space.settle(10)
    assert node.state.get() == {"n": 1}


def test_so_many_missed_events_are_folded(space, monkeypatch):
    monkeypatch.setattr(lanes, "MAX_UNFOLDED", 100)
    monkeypatch.setattr(lanes, "WINDOW_MESSAGES", 50)
    space.replay([{"n": n} for n in range(400)], type="n").wait(30)
    node = space.create_node("late", initial={"n": 0})
    node.state.on("n", count, start="beginning")
    space.settle(30)
    assert node.state.get("n") == 400
    assert node.state.revision < 100


def test_few_missed_events_are_committed_one_by_one(space, monkeypatch):
    monkeypatch.setattr(lanes, "MAX_UNFOLDED", 100)
    monkeypatch.setattr(lanes, "WINDOW_MESSAGES", 50)
    space.replay([{"n": n} for n in range(90)], type="n").wait(30)
    node = space.create_node("late")
    node.state.on("n", count, start="beginning")
    space.settle(30)
    assert node.state.revision == node.state.get("n") == 90


def test_a_clear_drops_what_waits_and_what_comes_later_is_applied(space):
    node = space.create_node("log")
    node.state.on("n", lambda state, _event: [time.sleep(0.002), count(state, None)][1], name="slow")
    with suppress(happen.OutcomeUnknownError):  # a part of the replay may be stored before the clear
        space.replay([{"n": n} for n in range(200)], type="n").wait(30)
    space.clear(force=True)
    space.settle(30)
    before = node.state.get("n") or 0
    space.broadcast("n")
    space.settle(30)
    assert node.state.get("n") == before + 1
