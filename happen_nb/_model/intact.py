"""Whether a frozen value still is what is stored.

Code written in C, such as ``heapq``, changes lists and dicts without calling their methods, so a frozen
container cannot refuse it. It can be noticed: the JSON of the value is no longer the JSON that was stored.
"""

from __future__ import annotations

from itertools import compress
from operator import is_not
from typing import Any, Final

import orjson

from happen_nb._model.diff import diff
from happen_nb._model.frozen import Frozen, FrozenDict, FrozenList, equal
from happen_nb._model.paths import MISSING, Steps, format_path, lookup
from happen_nb._model.values import loads
from happen_nb.errors import FrozenStateError

LARGE: Final = 16_384
"""Bytes from which on comparing two texts costs less than writing one more."""
_FEW: Final = 8
"""Changed parts of one container that are looked at one by one."""
_WRITERS: Final = {
    dict: ("mapping", "dict.update(state, ...) or exec(code, state)"),
    list: ("list", "heapq, bisect.insort, random.shuffle or list.append(x, ...)"),
}


def is_intact(value: Frozen, body: bytes) -> bool:
    """Whether `value` is still what `body` says, which :func:`happen_nb._model.values.dumps` wrote.

    Examples
    --------
    >>> import heapq
    >>> from happen_nb._model.values import freeze
    >>> queue = freeze([2, 5])
    >>> is_intact(queue, b"[2,5]")
    True
    >>> heapq.heappush(queue, 1)
    >>> is_intact(queue, b"[2,5]")
    False
    """
    try:
        return orjson.dumps(value) == body
    except orjson.JSONEncodeError:  # whatever was put in is not even JSON
        return False


def shares_intact(old: Frozen, body: bytes, new: Frozen, new_body: bytes) -> bool:
    """Whether a large `old` is intact, judged by what was made of it; False also where that is unclear.

    The new text must be the old one with another text in the place of each part that was replaced.
    """
    if len(body) < LARGE:
        return False
    replaced: list[tuple[bytes, bytes]] = []
    try:
        _find_replaced(old, new, replaced)
    except orjson.JSONEncodeError:
        return False
    pieces, at = [], 0
    for was, becomes in replaced:
        start = body.find(was, at)
        if start < 0:
            return False
        pieces += [body[at:start], becomes]
        at = start + len(was)
    return b"".join([*pieces, body[at:]]) == new_body


def _find_replaced(old: Any, new: Any, found: list[tuple[bytes, bytes]]) -> None:
    """Collect the texts of the parts of `old` that `new` has replaced, and the keys that lead there."""
    if old is new:
        return
    if type(old) is type(new) is FrozenDict and len(old) == len(new):
        keys = list(compress(new, map(is_not, new.values(), old.values())))
        if len(keys) <= _FEW and all(key in old for key in keys):
            for key in keys:
                name = orjson.dumps(key) + b":"
                found.append((name, name))
                _find_replaced(old[key], new[key], found)
            return
    if type(old) is type(new) is FrozenList and len(old) == len(new):
        indices = list(compress(range(len(new)), map(is_not, new, old)))
        if len(indices) <= _FEW:
            for index in indices:
                _find_replaced(old[index], new[index], found)
            return
    found.append((orjson.dumps(old), orjson.dumps(new)))


def restore(value: Frozen, body: bytes, what: str) -> tuple[Frozen, FrozenStateError] | None:
    """The stored value and the error to raise, if `value` is damaged; None if it only was written otherwise.

    Parameters
    ----------
    what : str
        What the value is, as the error calls it: ``'the state of node "orders"'``.
    """
    stored = loads(body)
    if is_intact(value, body) or equal(stored, value):
        return None
    steps = _damaged(stored, value)
    part = lookup(value, steps, MISSING) if steps else value
    kind, writers = _WRITERS[list if isinstance(part, list) else dict]
    place = f" at {format_path(steps)}" if steps else ""
    return stored, FrozenStateError(
        f"{what} was changed in place{place}: {writers} writes into a {kind} without calling its methods, "
        "which refuse that. Its stored value is restored; repeat the call with code that changes a copy: "
        "list(x), {**x} or copy.deepcopy(x)"
    )


def _damaged(stored: Frozen, value: Frozen) -> Steps:
    """Where the innermost container is that holds all of the damage."""
    paths = [change.path for change in diff(stored, value)]
    if not paths:
        return ()
    shared = paths[0][:-1]
    for path in paths[1:]:
        while path[: len(shared)] != shared:
            shared = shared[:-1]
    return shared
