"""News at a bounded rate."""

from __future__ import annotations

import contextvars
import threading
import time
from itertools import pairwise

from happen_nb._widgets.throttle import Pulse

here = contextvars.ContextVar("here", default="nowhere")


def test_it_is_called_at_most_once_an_interval_and_with_the_last_news(space, until):
    value, seen = 0, []
    pulse = Pulse(space, lambda: seen.append((time.monotonic(), value)), interval=0.05)
    for value in range(1, 2001):
        pulse.tell()
        if value % 100 == 0:
            threading.Event().wait(0.01)
    until(lambda: seen[-1][1] == 2000)
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

    pulse = Pulse(space, work, interval=0.0)

    def tell():
        while calls < 5:
            pulse.tell()

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    pulse.stop()
    assert (most, calls >= 5) == (1, True)


def test_nothing_is_called_after_stop(space):
    seen = []
    pulse = Pulse(space, lambda: seen.append(1))
    pulse.stop()
    pulse.tell()
    space.settle()
    assert seen == []


def test_it_is_called_in_the_context_that_made_it(space, until):
    seen = []
    token = here.set("in the cell")
    pulse = Pulse(space, lambda: seen.append(here.get()))
    here.reset(token)
    pulse.tell()
    until(lambda: seen)
    assert seen == ["in the cell"]


def test_following_tells_of_what_is_stored_in_other_processes_too(space, other, until):
    known = space._session.replica.newest("orders")
    seen = []
    pulse = Pulse(space, lambda: seen.append(1))
    pulse.follow(lambda: space._session.replica.newest("orders") is not known)
    other.do("space.create_node('orders', initial={'open': 1})")
    until(lambda: seen)
    pulse.stop()


def test_no_thread_is_kept_while_there_is_no_news(space, orders):
    before = threading.active_count()
    pulses = [Pulse(space, lambda: None) for _ in range(50)]
    for pulse in pulses:
        pulse.follow(lambda: False)
    orders.state.set({"open": 2})
    assert threading.active_count() < before + len(pulses) / 2
    for pulse in pulses:
        pulse.stop()


def test_an_error_is_logged_and_the_next_news_calls_it_again(space, until, caplog):
    seen = []

    def work():
        seen.append(1)
        if len(seen) == 1:
            raise SystemExit("out")

    pulse = Pulse(space, work, interval=0.0)
    pulse.tell()
    until(lambda: "could not be drawn" in caplog.text)
    pulse.tell()
    until(lambda: len(seen) == 2)
    pulse.stop()


def test_a_first_call_that_never_returns_is_not_waited_for(space):
    may_go = threading.Event()
    pulse = Pulse(space, lambda: may_go.wait(60))
    pulse.begin(0.05)
    pulse.stop()
    assert not may_go.is_set()
    may_go.set()


def test_calls_that_never_return_leave_the_workers_to_others(space, until):
    may_go, seen = threading.Event(), []
    pulses = [Pulse(space, lambda: may_go.wait(60)) for _ in range(70)]
    for pulse in pulses:
        pulse.tell()
    other = Pulse(space, lambda: seen.append(1))
    other.tell()
    until(lambda: seen)
    may_go.set()
    for pulse in [*pulses, other]:
        pulse.stop()
