"""Freeze values, convert them to and from JSON, and detect those that were changed in place.

All stored values pass through :func:`freeze`, which returns deeply frozen JSON. Parts that are frozen already
are shared, not copied, so a commit costs time for the changed parts only.

Code written in C, such as ``heapq``, changes lists and dicts without calling their methods, so a frozen
container cannot refuse it. It can be detected: the JSON of the value then differs from the stored JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import compress
from math import isfinite
from operator import is_not, itemgetter
from typing import Any, Final, cast

import orjson

from happen_nb._model.frozen import (
    Frozen,
    FrozenDict,
    FrozenList,
    diff,
    equal,
    unchecked_dict,
    unchecked_list,
)
from happen_nb._model.paths import MISSING, Steps, format_path, lookup
from happen_nb._model.quoting import MAX_QUOTED, error_summary, quote, shorten, type_name
from happen_nb.errors import FrozenStateError, StateError

MAX_DEPTH: Final = 200  # levels of containers in a value that is frozen; the JSON around it needs some more

_MAX_JSON_DEPTH: Final = 254  # of the JSON encoder
_OWN_BYTES: Final = 2048  # orjson gives 4 kB to each result; a copy of a smaller one has its own size
_TOO_DEEP: Final = "nests too deeply (more than {} levels); store a flat mapping with the keys of other parts"

_MAX_STEPS: Final = 12  # of a path in a message
_MAX_STEP_CHARACTERS: Final = 60
_MIN_INTEGER: Final = -(2**63)
_MAX_INTEGER: Final = 2**64 - 1
_KEY_ADVICE: Final = "use {str(k): v for k, v in x.items()}"
_DIGITS_TO_0: Final = bytes.maketrans(b"123456789", b"0" * 9)
_MANY_DIGITS: Final = b"0" * 19  # as in the shortest integer beyond 64 bits
_LARGE_INTEGER: Final = rb"(?<![0-9.eE+-])-?[0-9]{19,}(?![0-9.eE])"
_CONSTANTS: Final = frozenset({FrozenDict, FrozenList, bool, type(None)})
_MAX_REPLACED: Final = 8  # parts of one container that are compared separately
_WRITERS: Final = {
    dict: ("mapping", "dict.update(state, ...) or exec(code, state)"),
    list: ("list", "heapq, bisect.insort, random.shuffle or list.append(x, ...)"),
}

DRAFTS: Final[dict[type, Callable[[Any], tuple[Any, Frozen]]]] = {}
"""Type of a draft -> a function that returns its current content and its frozen original."""


class UnstorableError(Exception):
    """A value has no JSON form; its path is collected on the way out."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.steps: list[str | int] = []
        self.containers: list[int] = []

    def within(self, step: str | int, container: object) -> None:
        """Add the step at which the value is in a container, from the inside out."""
        self.steps.append(step)
        self.containers.append(id(container))


_set_key = dict.__setitem__
_set_item = list.__setitem__


def freeze(value: Any, *, what: str = "state", error: type[Exception] = StateError) -> Frozen:
    """Convert a value to deeply frozen JSON; return it unchanged if it is frozen already.

    Allowed are JSON types, and types with one obvious JSON form: tuples, any ``Mapping``, ``datetime``,
    ``date``, ``UUID``, ``Enum``, dataclasses, NumPy and pandas scalars, arrays up to 1 MB. For any other part
    `error` is raised, with the name `what` of the value, the path of the part and an alternative.

    Examples
    --------
    >>> freeze({"at": (1, 2)})
    {'at': [1, 2]}
    >>> freeze({"orders": {"o1": {"price": float("nan")}}})
    Traceback (most recent call last):
    ...
    happen_nb.errors.StateError: state at orders.o1.price: nan: JSON has no such number: store None, ...
    """
    try:
        frozen: Frozen = _frozen(value, 1)
    except UnstorableError as bad:
        raise error(_explain(bad, what)) from bad.__cause__
    except RecursionError as deep:
        raise error(f"{what} contains itself, or {_TOO_DEEP.format(MAX_DEPTH)}") from deep
    except FrozenStateError:  # of a draft whose transform has ended
        raise
    except Exception as failure:  # raised by the value's own code: a hash, a comparison of keys
        raised = shorten(error_summary(failure), 2 * MAX_QUOTED)
        raise error(f"{what} raised {raised} when it was converted; store its parts") from failure
    return frozen


def freeze_initial(value: Any, *, node: str) -> FrozenDict:
    """Freeze the initial state of a node, which must be a mapping, or raise StateError."""
    state = freeze(value, what=f'create_node: initial of node "{node}"')
    if not isinstance(state, FrozenDict):
        raise StateError(
            f'create_node: initial of node "{node}" is {_article(type_name(value))}; a state is a '
            'mapping at the top: initial={"key": value}'
        )
    return state


def freeze_state(value: Any, *, node: str) -> FrozenDict:
    """Freeze the result of a transform, which must be a mapping, or raise StateError."""
    if type(value) is dict:
        return cast("FrozenDict", freeze(value))
    return as_state(value, f'state.set: the transform of node "{node}"')


def as_state(value: Any, source: str) -> FrozenDict:
    """Freeze a state that `source` returned, which must be a mapping, or raise StateError."""
    if value is None:
        raise StateError(f'{source} returned None; return the new state (did you forget "return"?)')
    state = freeze(value)
    if not isinstance(state, FrozenDict):
        raise StateError(
            f"{source} returned {_article(type_name(value))}; a state is a mapping at the top: "
            'return {**state, "key": value}'
        )
    return state


def _article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def _frozen(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is dict:
        return _frozen_dict(value, depth)
    if kind is list:
        return _frozen_list(value, depth)
    if kind in _CONSTANTS:
        return value
    if kind is str:
        return value if value.isascii() else _checked_text(value)
    if kind is int:
        if _MIN_INTEGER <= value <= _MAX_INTEGER:
            return value
        raise UnstorableError(
            f"an integer below -2**63 or above 2**64 - 1 ({value.bit_length()} bits) is not portable JSON; "
            "store str(x)"
        )
    if kind is float:
        if isfinite(value):
            return value
        raise UnstorableError(f"{value}: JSON has no such number: store None, or leave it out")
    draft = DRAFTS.get(kind)
    if draft is not None:
        return _frozen_draft(value, draft(value), depth)
    return _frozen(_plain(value), depth)


def _frozen_dict(source: dict[Any, Any], depth: int, draft: Any = None) -> FrozenDict:
    if depth > MAX_DEPTH:
        raise UnstorableError(_TOO_DEEP.format(MAX_DEPTH))
    result = unchecked_dict(source)
    odd_keys = False  # the loop tests scalars without a call: it takes most of the time of a commit
    for key, value in result.items():
        if type(key) is not str or not key.isascii():
            odd_keys = _checked_key(key) is not key or odd_keys
        kind = type(value)
        if kind is str and value.isascii() or kind in _CONSTANTS:
            continue
        if kind is int and _MIN_INTEGER <= value <= _MAX_INTEGER or kind is float and isfinite(value):
            continue
        try:
            frozen = _frozen(value, depth + 1)
        except UnstorableError as bad:
            bad.within(key, source if draft is None else draft)
            raise
        if frozen is not value:
            _set_key(result, key, frozen)
    return _with_plain_keys(result) if odd_keys else result


def _frozen_list(source: list[Any], depth: int, draft: Any = None) -> FrozenList:
    if depth > MAX_DEPTH:
        raise UnstorableError(_TOO_DEEP.format(MAX_DEPTH))
    result = unchecked_list(source)
    for index, value in enumerate(result):
        kind = type(value)
        if kind is str and value.isascii() or kind in _CONSTANTS:
            continue
        if kind is int and _MIN_INTEGER <= value <= _MAX_INTEGER or kind is float and isfinite(value):
            continue
        try:
            frozen = _frozen(value, depth + 1)
        except UnstorableError as bad:
            bad.within(index, source if draft is None else draft)
            raise
        if frozen is not value:
            _set_item(result, index, frozen)
    return result


def _frozen_draft(draft: Any, parts: tuple[Any, Frozen], depth: int) -> Frozen:
    """Freeze the current content of a draft; return its original if nothing has changed."""
    content, original = parts
    freeze_content = _frozen_dict if type(content) is dict else _frozen_list
    result: Frozen = freeze_content(content, depth, draft)
    return original if _same_parts(result, original) else result


def _same_parts(a: Frozen, b: Frozen) -> bool:
    """Return whether two frozen containers have identical parts in the same order."""
    if isinstance(a, dict) and isinstance(b, dict):
        return len(a) == len(b) and all(map(_same, a, b)) and all(map(_same, a.values(), b.values()))
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return False


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and not isinstance(a, dict | list) and a == b)


def _checked_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as bad:
        raise UnstorableError(_surrogate(f"the string has a lone surrogate at index {bad.start}")) from None
    return text


def _plain(value: Any) -> Any:
    """Convert a value that is not plain JSON, one level deep."""
    from happen_nb._model.convert import plain  # most states need it for no value

    return plain(value)


def _surrogate(problem: str) -> str:
    return f'{problem}, which has no UTF-8 form; use x.encode("utf-8", "replace").decode()'


def _checked_key(key: Any) -> str:
    if not isinstance(key, str):
        noun = _article(type_name(key))
        raise UnstorableError(f"the key {quote(key)} is {noun}, but keys must be strings; {_KEY_ADVICE}")
    text: str = key if type(key) is str else _plain(key)
    if type(text) is not str:
        raise UnstorableError(
            f"the key {quote(key)} stands for {quote(text)}, but keys must be strings; {_KEY_ADVICE}"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnstorableError(_surrogate(f"the key {quote(text)} has a lone surrogate")) from None
    return text


def _with_plain_keys(source: FrozenDict) -> FrozenDict:
    result = unchecked_dict({_checked_key(key): value for key, value in source.items()})
    if len(result) != len(source):
        raise UnstorableError(
            f"two of the keys {quote(list(source), 200)} stand for the same string; keep one"
        )
    return result


def _explain(bad: UnstorableError, what: str) -> str:
    steps, containers = bad.steps[::-1], bad.containers[::-1]
    problem = bad.problem
    seen: set[int] = set()
    for depth, container in enumerate(containers):
        if container in seen:
            steps = steps[:depth]
            problem = "it contains itself, and JSON has no cycles; store a key of the other part instead"
            break
        seen.add(container)
    return f"{what}{_place(tuple(steps))}: {problem}"


def _place(steps: Steps) -> str:
    if not steps:
        return ""
    short = [
        shorten(step, _MAX_STEP_CHARACTERS) if isinstance(step, str) else step for step in steps[:_MAX_STEPS]
    ]
    shown = format_path(tuple(short))
    return f" at {shown}..." if len(steps) > _MAX_STEPS else f" at {shown}"


def dumps(value: Frozen) -> bytes:
    """Encode a frozen value as JSON; StateError if frozen states were put into each other too deeply."""
    try:
        encoded = orjson.dumps(value)
        return encoded if len(encoded) > _OWN_BYTES else bytes(memoryview(encoded))
    except orjson.JSONEncodeError as bad:
        if "Recursion" in str(bad):
            raise StateError(f"the state {_TOO_DEEP.format(_MAX_JSON_DEPTH)} ({bad})") from bad
        raise StateError(
            f"a frozen container was changed in place to a value that is not JSON: {bad}"
        ) from bad


def loads(data: bytes) -> Frozen:
    """Decode JSON to a deeply frozen value; StateError if it is broken, too deep, or has a huge integer."""
    try:
        value: Frozen = _decoded(orjson.loads(data), 1)
        check_integers(data)
    except orjson.JSONDecodeError as bad:
        raise StateError(f"this is not JSON: {bad}") from bad
    except (UnstorableError, RecursionError) as deep:
        raise StateError(f"the JSON {_TOO_DEEP.format(_MAX_JSON_DEPTH)}") from deep
    return value


def check_integers(data: bytes) -> None:
    """Raise StateError for JSON with an integer beyond 64 bits, which the decoder would turn into a float."""
    has_many = _MANY_DIGITS in data.translate(_DIGITS_TO_0)  # perhaps in a string
    if has_many and re.search(_LARGE_INTEGER, data):
        try:
            json.loads(data, parse_int=_parsed_int)
        except RecursionError as deep:
            raise StateError(f"the JSON {_TOO_DEEP.format(_MAX_JSON_DEPTH)}") from deep


def _parsed_int(digits: str) -> int:
    value = int(digits) if len(digits) <= len(str(_MIN_INTEGER)) else None
    if value is None or not _MIN_INTEGER <= value <= _MAX_INTEGER:
        raise StateError(
            f"the JSON has an integer below -2**63 or above 2**64 - 1 ({len(digits.lstrip('-'))} digits); "
            "write it as a string"
        )
    return value


def _decoded(value: Any, depth: int) -> Any:
    """Freeze the containers that the JSON decoder returned."""
    if depth > _MAX_JSON_DEPTH:
        raise UnstorableError(_TOO_DEEP)
    kind = type(value)
    if kind is dict:
        mapping = unchecked_dict(value)
        for key, child in value.items():
            if (kind := type(child)) is dict or kind is list:
                _set_key(mapping, key, _decoded(child, depth + 1))
        return mapping
    if kind is list:
        items = unchecked_list(value)
        for index, child in enumerate(value):
            if (kind := type(child)) is dict or kind is list:
                _set_item(items, index, _decoded(child, depth + 1))
        return items
    return value


def biggest_part(state: Frozen) -> tuple[str, int]:
    """Return the path and the JSON size of the part that makes a state large.

    It is the deepest part of which each level is at least half of the part around it.

    Examples
    --------
    >>> biggest_part(freeze({"name": "ada", "log": {"old": "x" * 1000, "new": "x" * 10}}))
    ('log.old', 1002)
    """
    steps: Steps = ()
    part, size = state, len(dumps(state))
    while isinstance(part, dict | list) and part:
        pairs = part.items() if isinstance(part, dict) else enumerate(part)
        step, inner, inner_size = max(
            ((step, inner, len(dumps(inner))) for step, inner in pairs), key=itemgetter(2)
        )
        if steps and inner_size * 2 < size:
            break
        steps, part, size = (*steps, step), inner, inner_size
    return format_path(steps), size


def is_intact(value: Frozen, body: bytes) -> bool:
    """Return whether `body`, which `dumps` returned for `value`, still is its JSON."""
    try:
        return orjson.dumps(value) == body
    except orjson.JSONEncodeError:  # a foreign value was put in
        return False


def shares_intact(old: Frozen, body: bytes, new: Frozen, new_body: bytes) -> bool:
    """Return whether a large `old` is certainly intact, judged by a value derived from it.

    The new text must be the old one with another text in place of each part that was replaced.
    """
    replaced: list[tuple[bytes, bytes]] = []
    try:
        _find_replaced(old, new, replaced)
    except orjson.JSONEncodeError:
        return False
    pieces, at = [], 0
    for before, after in replaced:
        start = body.find(before, at)
        if start < 0:
            return False
        pieces += [body[at:start], after]
        at = start + len(before)
    return b"".join([*pieces, body[at:]]) == new_body


def _find_replaced(old: Any, new: Any, found: list[tuple[bytes, bytes]]) -> None:
    """Collect the texts of the parts of `old` that `new` has replaced, and of the keys on the way."""
    if old is new:
        return
    if type(old) is type(new) is FrozenDict and len(old) == len(new):
        keys = list(compress(new, map(is_not, new.values(), old.values())))
        if len(keys) <= _MAX_REPLACED and all(key in old for key in keys):
            for key in keys:
                name = orjson.dumps(key) + b":"
                found.append((name, name))
                _find_replaced(old[key], new[key], found)
            return
    if type(old) is type(new) is FrozenList and len(old) == len(new):
        indices = list(compress(range(len(new)), map(is_not, new, old)))
        if len(indices) <= _MAX_REPLACED:
            for index in indices:
                _find_replaced(old[index], new[index], found)
            return
    found.append((orjson.dumps(old), orjson.dumps(new)))


def stored_value(value: Frozen, body: bytes, what: str) -> tuple[Frozen, FrozenStateError] | None:
    """Return the stored value and the error to raise; None if `body` only encodes `value` differently."""
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
    """Return the path of the innermost container that holds all of the damage."""
    paths = [change.path for change in diff(stored, value)]
    if not paths:
        return ()
    shared = paths[0][:-1]
    for path in paths[1:]:
        while path[: len(shared)] != shared:
            shared = shared[:-1]
    return shared
