"""A call that is interrupted at any moment leaves the space as it is: usable, and with nothing left over."""

from __future__ import annotations

import gc
import logging
import signal
import threading
import time
from contextlib import suppress
from itertools import count
from random import Random

import pytest

import happen_nb as happen
from happen_nb.learn import check, wait_until

SECONDS = 30
UNSAFE = "threading", "weakref", "_weakrefset", "logging", "hypothesis."
"""Modules whose locks and finalizers an interrupt can break, or that the garbage collector calls."""
ACTIVITY = 5e-4, 2e-3, 5e-3, 1e-2, 3e-2, 0.1  # the longest time before an interrupt, in seconds


class Calls:
    """The calls that a person makes in a cell."""

    def __init__(self, space, dice):
        self.space, self.dice = space, dice
        self.a, self.b = space.create_node("a", initial={"n": 0}), space.create_node("b", initial={"n": 0})
        self.a.state.on("tick", counted)
        self.a.on("ask", lambda event: event.payload)
        self.b.on("slow", self.count_slowly)
        self.b.on("tick", self.count)
        self.numbers = count()

    def count_slowly(self, _):
        time.sleep(0.01)
        self.b.state.set(counted)

    async def count(self, _):
        await self.b.state.aset(counted)

    def do_set(self):
        self.a.state.set(lambda state: {**state, "set": state.get("set", 0) + 1})

    def do_broadcast(self):
        self.a.broadcast("tick").settle()

    def do_send(self):
        self.space.send("a", "ask", 3).result(SECONDS)

    def do_settle(self):
        self.space.broadcast("slow")
        self.space.settle(SECONDS)

    def do_replay(self):
        self.space.replay([{"n": n} for n in range(50)], type="tick").wait(SECONDS)

    def do_fork(self):
        self.space.fork(f"{self.space.name}-{next(self.numbers)}", handlers=True).drop()

    def do_rerun(self):
        self.space.rerun()

    def do_check(self):
        check("n counts", self.a, lambda state: state.get("n", 0) >= 0, trying=trying, orders=4)

    def do_read(self):
        self.space.journal(), self.a.state.history(), self.space.unhandled, self.space.timeline().svg

    def do_record(self):
        self.space.record()

    def do_pause(self):
        self.space.pause("tick")
        self.a.broadcast("tick")
        self.space.step()
        self.space.resume()

    def do_register(self):
        node = self.space.create_node(f"new{self.dice.randint(0, 3)}")
        node.state.set({"n": 1})
        node.on("tick", lambda _: None)
        node.delete()

    def do_clear(self):
        self.space.clear(force=True)

    def do_reopen(self):
        with happen.connect(self.space.server.url, token=self.space.server.token, name="other"):
            pass


def counted(state, *_):
    return {**state, "n": state.get("n", 0) + 1}


def trying(space):
    space.broadcast("tick")


CALLS = [name for name in vars(Calls) if name.startswith("do_")]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="a timer interrupts the calls")
@pytest.mark.parametrize("clock", ["real", "manual"])
@pytest.mark.parametrize(
    "calls", [60, pytest.param(3_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
)
# What is interrupted before its first step is never awaited:
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.filterwarnings("ignore:Exception ignored in. <coroutine")
def test_the_space_goes_on(store, caplog, calls, clock):
    dice, armed = Random(calls), threading.Event()

    def interrupt(_, frame):
        if armed.is_set() and frame.f_globals["__name__"].startswith(UNSAFE):
            signal.setitimer(signal.ITIMER_REAL, 1e-4)
        elif armed.is_set():
            armed.clear()
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    caplog.set_level(logging.ERROR)
    with happen.connect(store=store, name=f"interrupt-{clock}", clock=clock, fresh=True) as space:
        doing = Calls(space, dice)
        try:
            for _ in range(calls):
                name, seconds = dice.choice(CALLS), dice.choice(ACTIVITY) * dice.random()
                armed.set()
                with suppress(KeyboardInterrupt):
                    signal.setitimer(signal.ITIMER_REAL, seconds)
                    getattr(doing, name)()
                    armed.clear()
                goes_on(doing, name)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        own = f"{space.name}-rerun", f"{space.name}-orders"
        wait_until(lambda: not any(each.name.startswith(own) for each in happen.spaces()))
        for each in happen.spaces():
            if each.name.startswith(f"{space.name}-"):  # a fork whose drop was interrupted
                happen.connect(store=store, name=each.name).drop()
        space.drop()
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == []


def goes_on(doing, name):
    """Check that what was interrupted has no effect on what comes next."""
    space = doing.space
    with suppress(happen.PaceError):
        space.resume()
    space.settle(SECONDS)
    doing.a.state.set(lambda state: {**state, "last": name})
    space.settle(SECONDS)  # an interrupted event may have been stored before it
    assert doing.a.state.get()["last"] == name
    number = doing.a.state.get().get("n", 0)
    space.broadcast("tick").settle(SECONDS)
    assert doing.a.state.get()["n"] == number + 1, name
    assert space.send("a", "ask", name).result(SECONDS) == name
