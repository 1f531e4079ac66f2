"""A space that closes, whatever goes on in it: no call waits on, no thread stays, no error is logged."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress

import pytest

import happen_nb as happen

SECONDS = 30


class Activity:
    """Activities of a space; a call that takes long runs in a thread."""

    def __init__(self, space, pool, dice):
        self.space, self.pool, self.dice = space, pool, dice
        self.calls = []
        self.a, self.b, self.c = (space.create_node(name, initial={"n": 0}) for name in "abc")
        self.a.state.on("x", lambda state, _: {**state, "n": state.get("n", 0) + 1})
        self.b.state.on("x", lambda state, _, views: {**state, "seen": views.a.get().get("n", 0)})
        self.c.on("x", self.count)
        self.c.on("slow", self.sleep)
        self.c.on("rows", self.rows)
        self.b.on("durable", self.durable, durable=True)
        self.a.on("ask", lambda _: space.send("c", "slow").result(SECONDS))

    def count(self, _):
        self.c.state.set(lambda state: {**state, "n": state.get("n", 0) + 1})

    async def sleep(self, _, context):
        await context.sleep(0.01)

    async def rows(self, _):
        for number in range(3):
            await asyncio.sleep(0.003)
            yield number

    def durable(self, _, context):
        self.b.state.set(happen.put("once", context.once("call", lambda: 3)))
        self.b.broadcast("x")

    def aside(self, call, *arguments, **options):
        self.calls.append(self.pool.submit(call, *arguments, **options))

    def do(self, what):
        getattr(self, f"do_{what}")()

    def do_broadcast(self):
        for number in range(self.dice.randint(1, 8)):
            self.a.broadcast(self.dice.choice(["x", "x", "slow", "durable"]), number)

    def do_send(self):
        self.aside(self.space.send(*self.dice.choice([("a", "ask"), ("c", "rows")])).result, SECONDS)

    def do_set(self):
        self.aside(lambda: [self.count(None) for _ in range(20)])

    def do_pause(self):
        self.space.pause(self.dice.choice(["x", "**"]))

    def do_step(self):
        self.aside(self.space.step, 2)

    def do_resume(self):
        self.space.resume(slow=self.dice.choice([None, 0.01]))

    def do_schedule(self):
        self.a.broadcast("x", after=self.dice.random() / 20)

    def do_repeat(self):
        self.c.every(0.01, lambda _: None)

    def do_advance(self):
        if self.space.clock == "manual":
            self.aside(self.space.advance, self.dice.random())

    def do_replay(self):
        self.aside(self.space.replay([{"n": n} for n in range(200)], type="x").wait, SECONDS)

    def do_project(self):
        self.c.state.on("x", lambda state, _: {**state, "all": 1}, start="beginning", fold=True)

    def do_rerun(self):
        self.aside(self.space.rerun, timeout=SECONDS)

    def do_fork(self):
        self.aside(self.space.fork, f"fork-{self.dice.random()}", handlers=True)

    def do_clear(self):
        self.space.clear(force=True)

    def do_settle(self):
        self.aside(self.space.settle, SECONDS)

    def do_look(self):
        looks = (self.space.timeline, self.space.graph, self.space.events)
        self.aside(lambda: [repr(look()) for look in looks])


WHATS = [name.removeprefix("do_") for name in vars(Activity) if name.startswith("do_")]


@pytest.mark.parametrize("clock", ["real", "manual"])
@pytest.mark.parametrize("times", [8, pytest.param(300, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_nothing_is_left_when_a_space_closes(tmp_path, clock, times, caplog):
    for number in range(times):
        seed = random.randrange(1_000_000)
        dice = random.Random(seed)
        with ThreadPoolExecutor(8) as pool:
            with happen.connect(store=tmp_path, name=f"close{number}", clock=clock) as space:
                activity = Activity(space, pool, dice)
                for what in dice.choices(WHATS, k=dice.randint(2, 10)):
                    with suppress(happen.HappenError, ValueError):  # there may be one already
                        activity.do(what)
            for call in activity.calls:
                with suppress(happen.HappenError):
                    assert not wait([call], SECONDS / 2).not_done, f"seed {seed}"
                    call.result()
        gc.collect()  # asyncio logs the error of a task when the task is gone
        errors = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
        assert errors == [], f"seed {seed}"


def test_no_handler_begins_after_the_close_on_a_manual_clock(tmp_path, caplog):
    for number in range(16):
        name = f"close{number}"
        with (
            ThreadPoolExecutor(8) as pool,
            happen.connect(store=tmp_path, name=name, clock="manual") as space,
        ):
            activity = Activity(space, pool, random.Random(number))
            activity.do_project()
            activity.do_replay()
            time.sleep(number / 160)  # then, different handlers wait for their turn
    assert [each.getMessage() for each in caplog.records] == []  # such as records that cannot be stored
