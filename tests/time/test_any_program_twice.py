"""On a manual clock, any program gives the same journal again, however long its parts take."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from itertools import count
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import happen_nb as happen
from tests.past.test_rerun_any_program import ACTIONS, KINDS, NODES, TYPES, Handlers, Program, counted

numbers = count()


class Asking(Handlers):
    """Handlers that also wait for the replies and events of others."""

    def plain_asking(self, event):
        got = None
        if self.is_new:
            with suppress(happen.HappenError):  # it may wait for itself, or nobody handles it
                got = self.owner.send(self.other, self.following).result()
        self.count(event, got=got)

    async def asking(self, event):
        got = None
        if self.is_new:
            with suppress(happen.HappenError):
                got = await (await self.owner.asend(self.other, self.following))
        await self.owner.state.aset(lambda state: counted(state, event, got=got))

    def plain_waiting(self, event):
        found = self.owner.space.wait_for(self.following) if self.is_new else event
        self.count(event, got=found.payload)

    async def waiting(self, event):
        found = await self.owner.space.await_for(self.following) if self.is_new else event
        await self.owner.state.aset(lambda state: counted(state, event, got=found.payload))

    async def serving(self, event, context):
        await context.sleep(self.seconds * self.limit)
        return self.limit


class Asked(Program):
    handlers = Asking


MORE_KINDS = "plain_asking", "asking", "plain_waiting", "waiting", "serving", "sleeping"
HANDLERS = st.lists(
    st.tuples(
        *map(
            st.sampled_from,
            (NODES, TYPES, [*KINDS, *MORE_KINDS], NODES, TYPES),
        ),
        st.integers(1, 4),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda each: each[:3],
)

FOUND = [
    (
        [
            ("a", "y", "emitting", "a", "y", 3),
            ("c", "y", "plain", "c", "x", 1),
            ("b", "y", "scheduling", "b", "x", 2),
        ],
        [
            ("later", "a", "y", 2),
            ("broadcast", "a", "y", 2),
            ("set", "a", "x", 2),
            ("broadcast", "b", "y", 1),
        ],
    ),
    (
        [
            ("c", "y", "plain", "a", "z", 1),
            ("c", "y", "scheduling", "b", "y", 4),
            ("a", "y", "sleeping", "c", "y", 2),
            ("b", "y", "viewing", "c", "x", 1),
        ],
        [("broadcast", "c", "y", 4), ("later", "c", "z", 4), ("broadcast", "b", "y", 1)],
    ),
    (
        [
            ("a", "x", "plain", "a", "z", 4),
            ("a", "x", "viewing", "c", "x", 4),
            ("c", "x", "emitting", "a", "y", 4),
            ("a", "z", "durable", "b", "z", 4),
            ("b", "z", "scheduling", "a", "y", 3),
        ],
        [("later", "a", "x", 4)],
    ),
    (
        [
            ("c", "x", "sleeping", "c", "z", 2),
            ("c", "z", "viewing", "a", "z", 3),
            ("a", "z", "sleeping", "c", "z", 1),
            ("c", "z", "plain", "b", "y", 3),
            ("b", "z", "emitting", "a", "z", 2),
        ],
        [
            ("later", "c", "z", 1),
            ("later", "b", "x", 4),
            ("broadcast", "b", "z", 3),
            ("broadcast", "b", "x", 4),
        ],
    ),
]
"""Programs whose handlers began in another order now and then."""


@pytest.mark.parametrize(
    "examples", [25, pytest.param(1_000, marks=[pytest.mark.soak, pytest.mark.timeout(1200)])]
)
def test_any_program_gives_the_same_journal(store, examples):
    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(HANDLERS, ACTIONS, st.integers(0, 1 << 32))
    @example(*FOUND[0], 0)
    @example(*FOUND[1], 1)
    @example(*FOUND[2], 2)
    @example(*FOUND[3], 3)
    def gives_the_same(handlers, actions, seed):
        first, second = (journal(store, handlers, actions, watched) for watched in (None, Random(seed)))
        assert first == second

    gives_the_same()


def journal(store, handlers, actions, delays):
    """What the program stores; if `delays` are given, watches take up to 10 ms at any moment."""
    name = f"twice-{os.getpid()}-{next(numbers)}"
    with happen.connect(store=store, name=name, clock="manual") as space:
        program = Asked(space)
        for handler in handlers:
            program.register(*handler)
        for node in program.nodes.values() if delays else ():
            node.state.watch(lambda _: time.sleep(delays.choice([0, 0.001, 0.01])))
        for action in actions:
            program.act(*action)
            space.settle()  # else the notebook would compete with the handlers
        program.end()
        found = [essence(entry) for entry in space.journal()]
        space.drop()
        return found


def essence(entry):
    if isinstance(entry, happen.Commit):
        return entry.node, entry.after
    return entry.type, entry.payload, entry.occurred
