"""A pattern of event types as an automaton, which reads a type once."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal, NoReturn

from happen_nb._model.quoting import quote
from happen_nb.errors import PatternError

_PARTS: Final = re.compile(r"\*+|.", re.DOTALL)


@dataclass(slots=True)
class _State:
    """A place in a pattern: what may be read here, and where it leads."""

    reads: str | None = None
    """The character that leads to the next state."""
    stays: Literal["", "*", "**"] = ""
    """Reads any character, or any but a dot, and stays."""
    jumps: list[int] = field(default_factory=list)
    """States, all of them later ones, that are reached without reading."""


@dataclass(slots=True)
class _Braces:
    """Braces that are still open: states where they and the alternative begin, and where others ended."""

    index: int
    begin: int
    alternative: int
    ends: list[int] = field(default_factory=list)


class Reader:
    """Turns a pattern into states, of which the first is the start and the last the end."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.states = [_State()]
        self.open: list[_Braces] = []
        for part in _PARTS.finditer(text):
            self._read(part[0], part.start())
        if self.open:
            self._refuse(f'opens a brace at index {self.open[-1].index} that nothing closes; add a "}}"')

    def _read(self, part: str, index: int) -> None:
        last = len(self.states) - 1
        if part[0] == "*":
            self.states[-1].stays = "*" if part == "*" else "**"
        elif part[0] == "{":
            self.open.append(_Braces(index, last, self._new(last)))
        elif part[0] == "}":
            self._end_alternative(index)
            self._new(*self.open.pop().ends)
        elif part[0] == "," and self.open:
            self._end_alternative(index)
            self.open[-1].alternative = self._new(self.open[-1].begin)
        else:
            self.states[-1].reads = part
            self._new()

    def _new(self, *origins: int) -> int:
        """Add a state, and jumps to it."""
        new = len(self.states)
        self.states.append(_State())
        for origin in origins:
            self.states[origin].jumps.append(new)
        return new

    def _end_alternative(self, index: int) -> None:
        if not self.open:
            self._refuse(f'closes a brace at index {index} that nothing opens; add a "{{" before it')
        last = len(self.states) - 1
        if last == self.open[-1].alternative and not self.states[last].stays:
            self._refuse(
                f"has an empty alternative before index {index}; leave it out, or write the whole types: "
                '"{order,order.paid}" instead of "order{,.paid}"'
            )
        self.open[-1].ends.append(last)

    def _refuse(self, problem: str) -> NoReturn:
        raise PatternError(f"the pattern {quote(self.text)} {problem}")


class Automaton:
    """Follows all ways through a pattern at once: a set of states is an integer, a state one of its bits."""

    def __init__(self, states: list[_State]) -> None:
        self._states = states
        self._reads: dict[str, int] = {}
        self._stays = {"": 0, "*": 0, "**": 0}
        self._jumps = 0
        self._reached: dict[int, int] = {}
        for number in reversed(range(len(states))):
            self._add(states[number], 1 << number)
        self._start = self._jumped(1)
        self._end = 1 << len(states) - 1

    def _add(self, state: _State, bit: int) -> None:
        """Add a state to the sets it belongs to, after all later ones."""
        self._stays[state.stays] |= bit
        if state.reads is not None:
            self._reads[state.reads] = self._reads.get(state.reads, 0) | bit
        if state.jumps:
            self._jumps |= bit
            self._reached[bit] = bit | self._jumped(sum(1 << target for target in state.jumps))

    def _jumped(self, active: int) -> int:
        """Add the states that are reached without reading."""
        jumps = active & self._jumps
        while jumps:
            reached = self._reached[jumps & -jumps]
            active |= reached
            jumps &= ~reached
        return active

    def accepts(self, type: str) -> bool:
        """Tell whether a way through the pattern reads the whole type."""
        everything = self._stays["**"]
        no_dots = everything | self._stays["*"]
        active = self._start
        for character in type:
            read = (active & self._reads.get(character, 0)) << 1
            active = self._jumped(read | active & (everything if character == "." else no_dots))
            if not active:
                return False
        return bool(active & self._end)

    def likeness(self, type: str) -> float:
        """Tell how much of the pattern's own characters fits a type; 1.0 is all.

        On the way with the fewest characters to add, drop or change, it is the share that needs no such edit.
        """
        edit, own = 1 << 32, -1  # one number for both: fewer edits first, then more characters of its own
        costs = self._skipped([0] + [edit * edit] * (len(self._states) - 1), edit + own)
        for character in type:
            after = [cost + edit for cost in costs]
            for number, state in enumerate(self._states):
                if state.stays == "**" or (state.stays and character != "."):
                    after[number] = min(after[number], costs[number])
                if state.reads is not None:
                    changed = 0 if state.reads == character else edit
                    after[number + 1] = min(after[number + 1], costs[number] + changed + own)
            costs = self._skipped(after, edit + own)
        edits = -(-costs[-1] // edit)
        characters = edits * edit - costs[-1]
        return 1 - edits / characters if characters else 0.0

    def _skipped(self, costs: list[int], skip: int) -> list[int]:
        """Add what is reached by jumps, and by leaving out characters of the pattern."""
        for number, state in enumerate(self._states):
            if state.reads is not None:
                costs[number + 1] = min(costs[number + 1], costs[number] + skip)
            for target in state.jumps:
                costs[target] = min(costs[target], costs[number])
        return costs
