"""The colours of nodes: each node has a number, and so the same colour in all pictures of its space."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import count
from typing import Final

LEAST_IN_GROUP: Final = 5
"""Minimum number of nodes, whose names differ in a number, that a picture shows together."""
PERSON_NUMBER: Final = -1  # the number of the person at the notebook, who has a colour of their own
_NUMBERED: Final = re.compile(r"(.*?)\d+", re.DOTALL)


def group_of(name: str) -> str:
    """Return the name of the group to which a node may belong; empty if its name has no number at its end.

    Examples
    --------
    >>> group_of("sensor-12"), group_of("orders")
    ('sensor-*', '')
    """
    found = _NUMBERED.fullmatch(name)
    return f"{found[1]}*" if found else ""


class NodeColours:
    """Numbers the nodes of a space for their colours, in the order in which they are first seen.

    The number of a node never changes. As soon as nodes can be a group, further ones share the number of the
    first, so that a large group leaves the other colours to other nodes.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._groups: dict[str, list[str]] = {}
        self._unused = count()

    def of(self, nodes: Iterable[str]) -> dict[str, int]:
        """Return the numbers of all nodes seen so far, these included. From any thread.

        Examples
        --------
        >>> colours = NodeColours()
        >>> colours.of(["shop", "stock"])
        {'shop': 0, 'stock': 1}
        >>> colours.of(["audit", "shop"])
        {'shop': 0, 'stock': 1, 'audit': 2}
        """
        for node in nodes:
            if node not in self._numbers:
                self._add(node)
        return dict(self._numbers)

    def _add(self, node: str) -> None:
        members = self._groups.setdefault(group_of(node) or node, [])
        is_full = len(members) >= LEAST_IN_GROUP - 1
        # Without a lock, two threads may add a node: the first number counts.
        self._numbers.setdefault(node, self._numbers[members[0]] if is_full else next(self._unused))
        if not is_full:
            members.append(node)
