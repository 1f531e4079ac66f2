"""Groups of nodes whose names differ in a number, such as ``p1`` to ``p160``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from happen_nb._model.causality import in_order

LEAST_IN_GROUP: Final = 5
"""Fewer nodes are no group."""
_NUMBERED: Final = re.compile(r"(.*?)\d+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Group:
    """One node, or nodes that are shown together."""

    name: str
    nodes: tuple[str, ...]

    @property
    def is_single(self) -> bool:
        return len(self.nodes) == 1


def grouped(names: Sequence[str], *, opened: Collection[str] = ()) -> list[Group]:
    """Put nodes together whose names differ in a number, in the order of the first of each group.

    The nodes of an opened group stay apart.

    Examples
    --------
    >>> [each.name for each in grouped(["api", "p1", "p2", "p3", "p4", "p5"])]
    ['api', 'p*']
    >>> [each.name for each in grouped(["p1", "p2", "p3", "p4", "p5"], opened=["p*"])]
    ['p1', 'p2', 'p3', 'p4', 'p5']
    """
    whole = {title: Group(title, tuple(in_order(nodes))) for title, nodes in _members(names).items()}
    homes = [whole.get(_title(name)) for name in names]
    groups = [
        Group(name, (name,)) if home is None or home.name in opened else home
        for name, home in zip(names, homes, strict=True)
    ]
    return list(dict.fromkeys(groups))


def group_names(names: Iterable[str]) -> list[str]:
    """Return the names of the groups among some nodes."""
    return list(_members(names))


def _members(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        if title := _title(name):
            found.setdefault(title, []).append(name)
    return {title: members for title, members in found.items() if len(members) >= LEAST_IN_GROUP}


def _title(name: str) -> str:
    found = _NUMBERED.fullmatch(name)
    return f"{found[1]}*" if found else ""
