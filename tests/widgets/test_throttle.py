"""Updates at a bounded rate."""

from __future__ import annotations

import contextvars
import threading
import time
from itertools import pairwise

from happen_nb._widgets.following import Throttle

here = contextvars.ContextVar("here", default="nowhere")


def test_it_is_called_at_most_once_an_interval_and_after_the_last_change(space, until):
    value, seen = 0, []
    throttle = Throttle(space, lambda: seen.append((time.monotonic(), value)), interval=0.05)
    for value in range(1, 2001):
        throttle.trigger()
        if value % 100 == 0:
            threading.Event().wait(0.01)
    until(lambda: seen and seen[-1][1] == 2000)
    times = [moment for moment, _ in seen]
    assert all(later - earlier >= 0.05 for earlier, later in pairwise(times))


def test_two_calls_never_overlap(space):
    inside, most, calls = 0, 0, 0
    lock = threading.Lock()

    def work():
        nonlocal inside, most, calls
        with lock:
            inside += 1
            most = max(most, inside)
        threading.Event().wait(0.02)
        with lock:
            inside -= 1
            calls += 1

    throttle = Throttle(space, work, interval=0.0)

    def trigger():
        while calls < 5:
            throttle.trigger()

    threads = [threading.Thread(target=trigger) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    throttle.stop()
    assert (most, calls >= 5) == (1, True)


def test_nothing_is_called_after_stop(space):
    seen = []
    throttle = Throttle(space, lambda: seen.append(1))
    throttle.stop()
    throttle.trigger()
    space.settle()
    assert seen == []


def test_it_is_called_in_the_context_that_made_it(space, until):
    seen = []
    token = here.set("in the cell")
    throttle = Throttle(space, lambda: seen.append(here.get()))
    here.reset(token)
    throttle.trigger()
    until(lambda: seen)
    assert seen == ["in the cell"]


def test_following_triggers_on_what_is_stored_in_other_processes_too(space, other, until):
    known = space._log.replica.newest("orders")
    seen = []
    throttle = Throttle(space, lambda: seen.append(1))
    throttle.follow(lambda: space._log.replica.newest("orders") is not known)
    other.do("space.create_node('orders', initial={'open': 1})")
    until(lambda: seen)
    throttle.stop()


def test_no_thread_is_kept_while_nothing_changes(space, orders):
    before = threading.active_count()
    throttles = [Throttle(space, lambda: None) for _ in range(50)]
    for throttle in throttles:
        throttle.follow(lambda: False)
    orders.state.set({"open": 2})
    assert threading.active_count() < before + len(throttles) / 2
    for throttle in throttles:
        throttle.stop()


def test_an_error_is_logged_and_the_next_change_calls_it_again(space, until, caplog):
    seen = []

    def work():
        seen.append(1)
        if len(seen) == 1:
            raise SystemExit("out")

    throttle = Throttle(space, work, interval=0.0)
    throttle.trigger()
    until(lambda: "an update of a display failed" in caplog.text)
    throttle.trigger()
    until(lambda: len(seen) == 2)
    throttle.stop()


def test_a_first_call_that_never_returns_is_not_waited_for(space):
    may_go = threading.Event()
    throttle = Throttle(space, lambda: may_go.wait(60))
    throttle.update_now(0.05)
    throttle.stop()
    assert not may_go.is_set()
    may_go.set()


def test_calls_that_never_return_leave_the_workers_to_others(space, until):
    may_go, seen = threading.Event(), []
    throttles = [Throttle(space, lambda: may_go.wait(60)) for _ in range(70)]
    for throttle in throttles:
        throttle.trigger()
    other = Throttle(space, lambda: seen.append(1))
    other.trigger()
    until(lambda: seen)
    may_go.set()
    for throttle in [*throttles, other]:
        throttle.stop()
