"""A conductor that notes what it has chosen."""

from __future__ import annotations

import time

from happen_nb._api.base import runtime_of
from happen_nb._runtime.conductor import Conductor
from happen_nb._runtime.io import io_thread


def first(choices):
    return choices[0]


def last(choices):
    return choices[-1]


def describe(choice):
    return " ".join(filter(None, (choice.node, choice.what, choice.target)))


class Conducted:
    """A space whose handlers begin and store in the order that `choose` decides."""

    def __init__(self, space, choose=first):
        self.log = []
        self.offered = []
        self._choose = choose
        self._space = space
        self._conductor = Conductor(runtime_of(space).dispatcher, self._next)

    def _next(self, choices):
        self.offered.append([describe(choice) for choice in choices])
        chosen = self._choose(choices)
        if chosen is not None:
            self.log.append(describe(chosen))
        return chosen

    def __enter__(self):
        self._space.settle()  # new handlers may still read what they have missed
        self._call(self._conductor.open)
        return self

    def __exit__(self, *error):
        self._call(self._conductor.close)

    def _call(self, function):
        async def call():
            function()

        io_thread().run(call())

    def outside(self):
        return self._conductor.outside()

    def look_again(self):
        self._conductor.look_again()

    def quiet(self, seconds=5):
        return io_thread().run(self._conductor.quiet(time.monotonic() + seconds))
