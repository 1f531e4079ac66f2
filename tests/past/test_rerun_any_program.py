"""A rerun with unchanged handlers stores the same, whatever the handlers do and however they overlap."""

from __future__ import annotations

import os
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import happen_nb as happen

NODES, TYPES = "abc", "xyz"
numbers = count()


def counted(state, event, /, **more):
    return {**state, "n": state["n"] + 1, "last": event.payload, **more}


class Handlers:
    """The handlers of a node; they emit until the node has handled a few events."""

    def __init__(self, program, node, other, following, limit):
        self.nodes, self.seconds = program.nodes, program.seconds
        self.owner, self.other, self.following, self.limit = program.nodes[node], other, following, limit

    @property
    def is_new(self):
        return self.owner.state.get("n") < self.limit

    def count(self, event, **more):
        self.owner.state.set(lambda state: counted(state, event, **more))

    def emitting(self, state, event):
        if state["n"] < self.limit:
            self.owner.broadcast(self.following, {"n": state["n"]})
        return counted(state, event)

    def viewing(self, state, event, views):
        return counted(state, event, seen=views[self.other].get()["n"])

    def folding(self, state, event):
        return counted(state, event, folded=True)

    def plain(self, event):
        self.count(event)
        if self.is_new:
            self.owner.broadcast(self.following)

    async def sleeping(self, event, context):
        await context.sleep(self.seconds)
        await self.owner.state.aset(lambda state: counted(state, event, slept=True))

    def scheduling(self, event):
        if self.is_new:
            self.owner.broadcast(self.following, after=self.seconds)
        self.count(event)

    def naming(self, event):
        if self.is_new:
            self.owner.broadcast(self.following, after=2 * self.seconds, id=self.following)
        self.count(event)

    def cancelling(self, event):
        self.count(event, cancelled=self.owner.cancel(self.following))

    def failing(self, event):
        if self.is_new:
            raise ValueError("not yet")

    def durable(self, event, context):
        self.count(event, once=context.once("call", lambda: 5))


KINDS = [
    "emitting",
    "viewing",
    "folding",
    "plain",
    "sleeping",
    "scheduling",
    "naming",
    "cancelling",
    "failing",
    "durable",
]
OPTIONS = {
    "folding": {"fold": True},
    "failing": {"retries": 1, "backoff": 0.01},
    "durable": {"durable": True},
}


class Program:
    """A few nodes, their handlers, and what a notebook does with them."""

    handlers = Handlers

    def __init__(self, space):
        self.space = space
        self.nodes = {name: space.create_node(name, initial={"n": 0}) for name in NODES}
        self.seconds = 1.0 if space.clock == "manual" else 0.003

    def register(self, node, type, kind, *options):
        handler = getattr(self.handlers(self, node, *options), kind)
        owner = self.nodes[node]
        on = owner.state.on if kind in ("emitting", "viewing", "folding") else owner.on
        on(type, handler, **OPTIONS.get(kind, {}))

    def act(self, what, node, type, number):
        owner = self.nodes[node]
        if what == "broadcast":
            owner.broadcast(type, {"i": number})
        elif what == "later":
            owner.broadcast(type, after=number * self.seconds)
        elif what == "named":
            owner.broadcast(type, after=number * self.seconds, id=type)
        elif what == "cancel":
            owner.cancel(type)
        elif what == "set":
            owner.state.set(lambda state: {**state, "set": number})
        elif self.space.clock == "manual":
            self.space.advance(number)
        else:
            self.space.settle()

    def end(self):
        if self.space.clock == "manual":
            self.space.advance(60)
        while self.space.scheduled:
            self.space.settle()
        self.space.settle()


HANDLERS = st.lists(
    st.tuples(*map(st.sampled_from, (NODES, TYPES, KINDS, NODES, TYPES)), st.integers(1, 4)),
    min_size=1,
    max_size=8,
    unique_by=lambda each: (each[0], each[1], each[2]),
)
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["broadcast", "broadcast", "set", "later", "named", "cancel", "wait"]),
        st.sampled_from(NODES),
        st.sampled_from(TYPES),
        st.integers(1, 4),
    ),
    min_size=1,
    max_size=8,
)


SOAK = [pytest.mark.soak, pytest.mark.timeout(3_600)]


@pytest.mark.parametrize("clock", ["manual", "real"])
@pytest.mark.parametrize("examples", [25, pytest.param(1_000, marks=SOAK)])
def test_any_program_runs_again_in_the_same_order(store, clock, examples):
    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(HANDLERS, ACTIONS, st.integers(0, 100))
    def runs_again(handlers, actions, place):
        with happen.connect(store=store, name=f"program-{os.getpid()}-{next(numbers)}", clock=clock) as space:
            program = Program(space)
            for handler in handlers:
                program.register(*handler)
            for action in actions:
                program.act(*action)
            program.end()
            journal = space.journal()
            for since in (None, journal[place % len(journal)]):
                rerun = space.rerun(since)
                assert rerun.same, f"{rerun}\n{since!r}\n{journal}\n{rerun.space.journal()}"
            space.drop()

    runs_again()
