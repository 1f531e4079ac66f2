"""``state.watch``, ``state.wait_for`` and ``space.failures``."""

from __future__ import annotations

import queue
import threading

import pytest

import happen_nb as happen

DEADLINE = 20.0


@pytest.fixture
def orders(space):
    return space.create_node("orders", initial={"n": 0})


@pytest.fixture
def seen():
    return queue.Queue()


def take(seen, count):
    return [seen.get(timeout=DEADLINE) for _ in range(count)]


# -- watch -------------------------------------------------------------------------------------------


def test_a_watch_gets_every_commit_from_now_on_in_order(orders, seen):
    orders.state.set({"n": 1})
    orders.state.watch(seen.put)

    made = [orders.state.set({"n": n}) for n in range(2, 52)]

    commits = take(seen, 50)
    assert [c.revision for c in commits] == [c.revision for c in made]
    assert [c.after for c in commits] == [c.after for c in made]
    assert [c.before for c in commits] == [c.before for c in made]
    assert seen.empty()


def test_a_watch_sees_commits_of_other_processes(orders, seen, other):
    orders.state.watch(seen.put)

    other.do('space.create_node("orders").state.set({"by": "other"})')

    (commit,) = take(seen, 1)
    assert (commit.after, commit.before) == ({"by": "other"}, {"n": 0})


def test_a_watch_is_called_off_the_main_thread_one_call_at_a_time(orders, seen):
    inside = threading.Lock()

    def callback(commit):
        assert inside.acquire(blocking=False)
        seen.put(threading.current_thread())
        inside.release()

    orders.state.watch(callback)
    for n in range(1, 21):
        orders.state.set({"n": n})

    assert threading.main_thread() not in take(seen, 20)
    assert list(orders.space.failures) == []


def test_a_watch_is_not_called_for_unchanged_states_or_other_nodes(space, orders, seen):
    orders.state.watch(seen.put)

    orders.state.set({"n": 0})
    space.create_node("other", initial={"n": 1})
    orders.state.set({"n": 1})

    assert take(seen, 1)[0].after == {"n": 1}
    assert seen.empty()


def test_a_watch_sees_the_end_of_the_node_by_another_process(orders, seen, other):
    orders.state.watch(seen.put)

    other.do('space.create_node("orders").delete()')

    (commit,) = take(seen, 1)
    assert (commit.deleted, commit.after, commit.before) == (True, {}, {"n": 0})


def test_a_stopped_watch_is_called_no_more(orders, seen):
    watch = orders.state.watch(seen.put)
    still = queue.Queue()
    orders.state.watch(still.put)
    assert watch.active

    watch.stop()
    watch.stop()
    orders.state.set({"n": 1})

    take(still, 1)
    assert seen.empty()
    assert not watch.active


def test_a_watch_may_stop_itself(orders, seen):
    def once(commit):
        seen.put(commit)
        watch.stop()

    watch = orders.state.watch(once)
    still = queue.Queue()
    orders.state.watch(still.put)

    for n in range(1, 6):
        orders.state.set({"n": n})

    take(still, 5)
    assert [c.revision for c in take(seen, 1)] == [2]
    assert seen.empty()


def test_a_slow_watch_delays_neither_the_writer_nor_other_watches(orders, seen):
    may_go = threading.Event()
    orders.state.watch(lambda commit: may_go.wait(DEADLINE))
    orders.state.watch(seen.put)

    for n in range(1, 11):
        orders.state.set({"n": n})

    assert len(take(seen, 10)) == 10
    may_go.set()


def test_a_watch_may_change_states(space, orders, seen):
    mirror = space.create_node("mirror", initial={"n": 0})
    orders.state.watch(lambda commit: mirror.state.set({"n": commit.after["n"]}))

    orders.state.set({"n": 7})

    assert mirror.state.wait_for(lambda s: s["n"] == 7, timeout=DEADLINE) == {"n": 7}


def test_several_watches_and_the_same_function_twice_all_stay_in_a_script(orders, seen):
    orders.state.watch(seen.put)
    orders.state.watch(seen.put)

    orders.state.set({"n": 1})

    assert [c.revision for c in take(seen, 2)] == [2, 2]


@pytest.mark.parametrize("callback", [None, 7, "print"])
def test_what_cannot_be_called_is_a_type_error(orders, callback):
    with pytest.raises(TypeError, match="callable"):
        orders.state.watch(callback)


def test_a_watch_survives_the_space_being_cleared(space, orders, seen):
    orders.state.watch(seen.put)

    space.clear()
    orders.state.set({"n": "new"})

    (commit,) = take(seen, 1)
    assert (commit.after, commit.before, commit.revision) == ({"n": "new"}, {}, 1)


# -- failures ----------------------------------------------------------------------------------------


def test_what_a_watch_raises_is_kept_and_the_watch_goes_on(space, orders, seen):
    def callback(commit):
        seen.put(commit)
        if commit.after["n"] == 1:
            raise LookupError("no one")

    orders.state.watch(callback)
    commits = [orders.state.set({"n": 1}), orders.state.set({"n": 2})]
    space.settle()
    (failure,) = space.failures

    assert seen.qsize() == 2
    assert failure.node == "orders"
    assert "callback" in failure.handler
    assert isinstance(failure.exception, LookupError)
    assert 'LookupError("no one")' in failure.traceback
    assert failure.event.revision == commits[0].revision
    assert failure.attempts == 1


def test_failures_are_newest_last_and_what_fails_at_one_place_is_counted(space, orders, capfd):
    def callback(commit):
        if commit.after["n"] == 2:
            raise LookupError("two")
        raise ValueError(f"bad {commit.after['n']}")

    orders.state.watch(callback)
    for n in range(1, 6):
        orders.state.set({"n": n})
    space.settle()

    assert [(str(f.exception), f.attempts) for f in space.failures] == [("bad 5", 4), ("two", 1)]
    shown = capfd.readouterr().err
    assert (shown.count("ValueError: bad"), shown.count("LookupError: two")) == (1, 1)


def test_a_failure_can_be_retried_and_all_of_them_forgotten(space, orders):
    fail = True
    done = []

    def callback(commit):
        if fail:
            raise ValueError("not yet")
        done.append(commit.revision)

    orders.state.watch(callback)
    orders.state.set({"n": 1})
    space.settle()
    (failure,) = space.failures

    with pytest.raises(ValueError, match="not yet"):
        failure.retry()
    fail = False
    failure.retry()

    assert done == [2]
    assert len(space.failures) == 0


def test_failures_as_a_frame(space, orders):
    columns = ["node", "handler", "event", "time", "id", "exception", "message", "attempts"]
    assert list(space.failures.to_frame()) == columns

    orders.state.watch(lambda commit: 1 / 0)
    orders.state.set({"n": 1})
    space.settle()

    row = space.failures.to_frame().iloc[0]
    assert (row["node"], row["exception"], row["attempts"]) == ("orders", "ZeroDivisionError", 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_not_even_the_strongest_exception_ends_a_watch(space, orders, seen, error):
    def callback(commit):
        seen.put(commit)
        raise error

    orders.state.watch(callback)
    for n in range(1, 4):
        orders.state.set({"n": n})

    assert len(take(seen, 3)) == 3


# -- wait_for ----------------------------------------------------------------------------------------


def test_wait_for_returns_at_once_what_holds_already(orders):
    assert orders.state.wait_for(lambda s: s["n"] == 0, timeout=0) == {"n": 0}


def test_wait_for_waits_for_another_thread_and_returns_that_state(orders):
    writer = threading.Timer(0.05, lambda: [orders.state.set({"n": n}) for n in range(1, 6)])
    writer.start()

    assert orders.state.wait_for(lambda s: s["n"] >= 3)["n"] >= 3
    writer.join()


def test_wait_for_waits_for_another_process(orders, other):
    other.do(
        "import threading\n"
        'orders = space.create_node("orders")\n'
        "threading.Timer(0.05, lambda: orders.state.set({'n': 1})).start()\n"
    )

    assert orders.state.wait_for(lambda s: s["n"] == 1, timeout=DEADLINE) == {"n": 1}


def test_wait_for_something_that_does_not_come_is_a_timeout_error_that_names_the_node(orders):
    with pytest.raises(TimeoutError, match=r'"orders".* 0\.05 s'):
        orders.state.wait_for(lambda s: s["n"] == 1, timeout=0.05)


def test_commits_that_do_not_fulfil_the_condition_do_not_prolong_the_wait(orders):
    going = threading.Event()

    def write():
        n = 0
        while not going.is_set():
            n -= 1
            orders.state.set({"n": n})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(happen.HappenTimeoutError):
            orders.state.wait_for(lambda s: s["n"] == 1, timeout=0.2)
    finally:
        going.set()
        writer.join()


def test_what_a_condition_raises_comes_out(orders):
    with pytest.raises(KeyError, match="missing"):
        orders.state.wait_for(lambda s: s["missing"])


def test_wait_for_on_a_node_without_commits_sees_an_empty_state(space):
    assert space.create_node("new").state.wait_for(lambda s: s == {}, timeout=0) == {}


def test_what_is_waited_for_may_come_by_a_clear(space, orders):
    waiting = threading.Thread(target=orders.state.wait_for, args=[lambda state: not state], daemon=True)
    waiting.start()
    space.clear()
    waiting.join(DEADLINE)
    assert not waiting.is_alive()
