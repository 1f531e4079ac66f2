"""Callbacks that follow commits: all commits in order; errors are kept; settle waits for them."""

import threading

import pytest

import happen_nb as happen


def test_a_watch_is_called_with_every_commit_in_order_off_the_main_thread(space):
    orders, seen, threads = space.create_node("orders"), [], set()

    def look(commit):
        seen.append((commit.revision, commit.after["n"]))
        threads.add(threading.current_thread())

    orders.state.watch(look)
    for n in range(1, 51):
        orders.state.set({"n": n})
    space.settle()

    assert seen == [(n, n) for n in range(1, 51)]
    assert threading.main_thread() not in threads


def test_a_stopped_watch_is_called_no_longer(space):
    orders, seen = space.create_node("orders"), []
    watch = orders.state.watch(seen.append)
    watch.stop()
    orders.state.set({"n": 1})
    space.settle()

    assert (seen, watch.active) == ([], False)


def test_a_watch_ends_with_the_deletion_of_its_node_and_misses_no_commit_before_it(space):
    orders, seen, is_deleted = space.create_node("orders"), [], threading.Event()

    def look(commit):
        is_deleted.wait(timeout=30)
        seen.append((commit.revision, commit.deleted))

    watch = orders.state.watch(look)
    for n in range(3):
        orders.state.set({"n": n})
    orders.delete()
    is_deleted.set()
    orders.state.set({"n": 4})
    space.settle()

    assert seen == [(1, False), (2, False), (3, False), (4, True)]
    assert not watch.active


def test_what_a_callback_raises_is_kept_counted_and_can_be_tried_again(space, capsys):
    orders, broken = space.create_node("orders"), [True]

    def look(commit):
        if broken[0]:
            raise ValueError("not yet")

    orders.state.watch(look)
    orders.state.set({"n": 1})
    orders.state.set({"n": 2})
    space.settle()

    (failure,) = space.failures
    assert (failure.node, failure.attempts, str(failure.exception)) == ("orders", 2, "not yet")
    assert capsys.readouterr().err.count("ValueError: not yet") == 1
    retried = space.failures.retry()
    assert (retried.failed, failure.attempts) == (1, 3)
    with pytest.raises(ValueError, match="not yet"):
        failure.retry()
    broken[0] = False
    space.failures.retry("orders")
    assert len(space.failures) == 0


def test_settle_names_what_still_runs(space):
    orders, go = space.create_node("orders"), threading.Event()
    orders.state.watch(lambda commit: go.wait(10))
    orders.state.set({"n": 1})
    try:
        with pytest.raises(happen.HappenTimeoutError, match='watching "orders"'):
            space.settle(timeout=0.05)
    finally:
        go.set()
    space.settle()


def test_settle_in_a_callback_is_refused(space):
    orders = space.create_node("orders")
    orders.state.watch(lambda commit: space.settle())
    orders.state.set({"n": 1})
    space.settle()

    assert "wait for itself" in str(space.failures[0].exception)


def test_a_callback_that_would_never_run_is_refused(space):
    async def later(commit): ...

    def generator(commit):
        yield

    orders = space.create_node("orders")
    for callback in (later, generator):
        with pytest.raises(TypeError, match="never run"):
            orders.state.watch(callback)


def test_a_failure_that_cannot_be_shown_does_not_stop_anything(space, monkeypatch):
    class Closed:
        def write(self, text):
            raise BrokenPipeError

        def flush(self): ...

    orders, seen = space.create_node("orders"), []
    orders.state.watch(lambda commit: seen.append(commit.revision) or 1 / 0)
    orders.on("a", lambda event: 1 / 0)
    orders.on("ping", lambda event: "pong")
    monkeypatch.setattr("sys.stderr", Closed())
    for n in range(3):
        orders.state.set({"n": n})
    with pytest.raises(happen.HandlerError):
        space.send("orders", "a").result(5)
    assert space.send("orders", "ping").result(5) == "pong"
    space.settle(5)
    assert seen == [1, 2, 3]
    assert len(space.failures) == 2
