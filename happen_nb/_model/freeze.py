"""What may be stored, and how it becomes JSON.

:func:`freeze` is the one door: what it returns is deeply frozen JSON that no reader can change. Parts that
are frozen already are shared, not copied, so a commit costs only what it changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from math import isfinite
from typing import Any, Final

import orjson

from happen_nb._model.convert import UnstorableError, plain
from happen_nb._model.frozen import Frozen, FrozenDict, FrozenList, unchecked_dict, unchecked_list
from happen_nb._model.paths import Steps, format_path
from happen_nb._model.quoting import MAX_QUOTED, error_summary, quote, shorten, type_name
from happen_nb.errors import FrozenStateError, StateError

__all__ = [
    "MAX_DEPTH",
    "Frozen",
    "biggest_part",
    "check_integers",
    "dumps",
    "freeze",
    "freeze_state",
    "loads",
]

MAX_DEPTH: Final = 200
"""How many containers may be nested in what is frozen at once; leaves room for an envelope around it."""

_JSON_DEPTH: Final = 254  # what the JSON encoder writes
_TOO_DEEP: Final = "nests too deeply (more than {} levels); store a flat mapping whose values name keys of it"

_MOST_STEPS: Final = 12  # of a path in a message
_LONGEST_STEP: Final = 60
_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**64 - 1
_KEYS_HINT: Final = "use {str(k): v for k, v in x.items()}"
_NUMBER_HINT: Final = "JSON has no such number: store None, or leave it out"
_DIGITS_TO_0: Final = bytes.maketrans(b"123456789", b"0" * 9)
_MANY_DIGITS: Final = b"0" * 19  # as many as the shortest integer beyond 64 bits has
_LARGE_INTEGER: Final = re.compile(rb"(?<![0-9.eE+-])-?[0-9]{19,}(?![0-9.eE])")
_CONSTANTS: Final = frozenset({FrozenDict, FrozenList, bool, type(None)})

DRAFTS: Final[dict[type, Callable[[Any], tuple[Any, Frozen]]]] = {}
"""Type of a draft -> a function that gives its present content, and what it was made from."""

_set_key = dict.__setitem__
_set_item = list.__setitem__


def freeze(value: Any, *, what: str = "state", error: type[Exception] = StateError) -> Frozen:
    """Convert a value to deeply frozen JSON.

    Parameters
    ----------
    value : object
        JSON types, and what has one obvious JSON form: tuples, any ``Mapping``, ``datetime``, ``date``,
        ``UUID``, ``Enum``, dataclasses, NumPy and pandas scalars, arrays up to 1 MB.
    what : str
        What the value is, as error messages call it.
    error : type
        The error to raise.

    Returns
    -------
    Frozen
        The frozen value; ``value`` itself if it is frozen already.

    Raises
    ------
    StateError
        Or ``error``: a part has no JSON form. The message has its path and what to do.

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
    except FrozenStateError:  # an ended draft
        raise
    except Exception as failure:  # raised by the value's own code: a hash, a comparison of keys
        raised = shorten(error_summary(failure), 2 * MAX_QUOTED)
        raise error(f"{what} raised {raised} when it was converted; store its parts") from failure
    return frozen


def freeze_initial(value: Any, *, node: str) -> FrozenDict:
    """Freeze the state that a node begins with, which must be a mapping.

    Raises
    ------
    StateError
        It is no mapping, or a part of it has no JSON form.
    """
    state = freeze(value, what=f'create_node: initial of node "{node}"')
    if not isinstance(state, FrozenDict):
        raise StateError(
            f'create_node: initial of node "{node}" is {_article(type_name(value))}; a state is a '
            'mapping at the top: initial={"key": value}'
        )
    return state


def freeze_state(value: Any, *, node: str) -> FrozenDict:
    """Freeze what a transform returned, which must be a mapping.

    Raises
    ------
    StateError
        It is no mapping, or a part of it has no JSON form.

    Examples
    --------
    >>> freeze_state(None, node="orders")
    Traceback (most recent call last):
    ...
    happen_nb.errors.StateError: state.set: the transform of node "orders" returned None; return the new ...
    """
    return as_state(value, f'state.set: the transform of node "{node}"')


def as_state(value: Any, who: str) -> FrozenDict:
    """Freeze what ``who`` returned, which must be a mapping."""
    if value is None:
        raise StateError(f'{who} returned None; return the new state (did you forget "return"?)')
    state = freeze(value)
    if not isinstance(state, FrozenDict):
        raise StateError(
            f"{who} returned {_article(type_name(value))}; a state is a mapping at the top: "
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
        return value if _SMALLEST <= value <= _LARGEST else _checked_int(value)
    if kind is float:
        return value if isfinite(value) else _checked_float(value)
    draft = DRAFTS.get(kind)
    if draft is not None:
        return _frozen_draft(value, draft(value), depth)
    return _frozen(plain(value), depth)


def _frozen_dict(source: dict[Any, Any], depth: int, draft: Any = None) -> FrozenDict:
    if depth > MAX_DEPTH:
        raise UnstorableError(_TOO_DEEP.format(MAX_DEPTH))
    result = unchecked_dict(source)
    odd_keys = False
    for key, value in result.items():
        if type(key) is not str or not key.isascii():
            odd_keys = _checked_key(key) is not key or odd_keys
        kind = type(value)
        if kind is str and value.isascii() or kind in _CONSTANTS:
            continue
        if kind is int and _SMALLEST <= value <= _LARGEST or kind is float and isfinite(value):
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
        if kind is int and _SMALLEST <= value <= _LARGEST or kind is float and isfinite(value):
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
    """Freeze the present content of a draft; if that is what it began with, share it."""
    content, original = parts
    freeze_content = _frozen_dict if type(content) is dict else _frozen_list
    result: Frozen = freeze_content(content, depth, draft)
    return original if _same_parts(result, original) else result


def _same_parts(a: Frozen, b: Frozen) -> bool:
    """Whether two frozen containers have the very same parts in the same order."""
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


def _surrogate(problem: str) -> str:
    return f'{problem}, which has no UTF-8 form; use x.encode("utf-8", "replace").decode()'


def _checked_key(key: Any) -> str:
    if not isinstance(key, str):
        noun = _article(type_name(key))
        raise UnstorableError(f"the key {quote(key)} is {noun}, and keys are strings; {_KEYS_HINT}")
    text: str = key if type(key) is str else plain(key)
    if type(text) is not str:
        raise UnstorableError(
            f"the key {quote(key)} stands for {quote(text)}, and keys are strings; {_KEYS_HINT}"
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


def _checked_int(value: int) -> int:
    raise UnstorableError(
        f"an integer below -2**63 or above 2**64 - 1 ({value.bit_length()} bits) is not what every reader "
        "of JSON takes; store str(x)"
    )


def _checked_float(value: float) -> float:
    raise UnstorableError(f"{value}: {_NUMBER_HINT}")


def _explain(bad: UnstorableError, what: str) -> str:
    """The message: what, where, and what to do."""
    steps, containers = bad.steps[::-1], bad.containers[::-1]
    problem = bad.problem
    seen: set[int] = set()
    for depth, container in enumerate(containers):
        if container in seen:
            steps = steps[:depth]
            problem = "it contains itself, and JSON has no cycles; store a key that names the other part"
            break
        seen.add(container)
    return f"{what}{_place(tuple(steps))}: {problem}"


def _place(steps: Steps) -> str:
    if not steps:
        return ""
    short = [shorten(step, _LONGEST_STEP) if isinstance(step, str) else step for step in steps[:_MOST_STEPS]]
    shown = format_path(tuple(short))
    return f" at {shown}..." if len(steps) > _MOST_STEPS else f" at {shown}"


def dumps(value: Frozen) -> bytes:
    """Write a frozen value as JSON.

    Raises
    ------
    StateError
        It nests too deeply, which can only come of one frozen state put into another again and again.

    Examples
    --------
    >>> dumps(freeze({"items": [1, None]}))
    b'{"items":[1,null]}'
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as bad:
        if "Recursion" in str(bad):
            raise StateError(f"the state {_TOO_DEEP.format(_JSON_DEPTH)} ({bad})") from bad
        raise StateError(f"a frozen container was changed in place, and is no JSON any more: {bad}") from bad


def loads(data: bytes) -> Frozen:
    """Read JSON as a deeply frozen value.

    Raises
    ------
    StateError
        It is not JSON, nests too deeply, or has an integer beyond 64 bits.

    Examples
    --------
    >>> loads(b'{"items": [1, null]}')
    {'items': [1, None]}
    >>> loads(b"{'items'}")
    Traceback (most recent call last):
    ...
    happen_nb.errors.StateError: this is not JSON: unexpected character...
    """
    try:
        value: Frozen = _decoded(orjson.loads(data), 1)
        check_integers(data)
    except orjson.JSONDecodeError as bad:
        raise StateError(f"this is not JSON: {bad}") from bad
    except (UnstorableError, RecursionError) as deep:
        raise StateError(f"the JSON {_TOO_DEEP.format(_JSON_DEPTH)}") from deep
    return value


def check_integers(data: bytes) -> None:
    """Refuse JSON with an integer beyond 64 bits, which the decoder would silently read as a float.

    Raises
    ------
    StateError
        It has one.

    Examples
    --------
    >>> check_integers(b'{"n": 18446744073709551615, "price": 1e30}')
    >>> check_integers(b'{"n": 18446744073709551616}')
    Traceback (most recent call last):
    ...
    happen_nb.errors.StateError: the JSON has an integer below -2**63 or above 2**64 - 1 (20 digits); ...
    """
    if _MANY_DIGITS in data.translate(_DIGITS_TO_0) and _LARGE_INTEGER.search(data):  # it may be in a string
        try:
            json.loads(data, parse_int=_parsed_int)
        except RecursionError as deep:
            raise StateError(f"the JSON {_TOO_DEEP.format(_JSON_DEPTH)}") from deep


def _parsed_int(digits: str) -> int:
    value = int(digits) if len(digits) <= len(str(_SMALLEST)) else None
    if value is None or not _SMALLEST <= value <= _LARGEST:
        raise StateError(
            f"the JSON has an integer below -2**63 or above 2**64 - 1 ({len(digits.lstrip('-'))} digits); "
            "write it as a string"
        )
    return value


def _decoded(value: Any, depth: int) -> Any:
    """Freeze what the JSON decoder made: only the containers need a look."""
    if depth > _JSON_DEPTH:
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
    """Find what makes a state large: the deepest part that is at least half of the part around it.

    Returns
    -------
    tuple of str and int
        Its path, and its size in bytes as JSON.

    Examples
    --------
    >>> biggest_part(freeze({"name": "ada", "log": {"old": "x" * 1000, "new": "x" * 10}}))
    ('log.old', 1002)
    """
    steps: Steps = ()
    part, size = state, len(dumps(state))
    while isinstance(part, dict | list) and part:
        step, inner = max(_children(part), key=lambda child: child[2])[0:2]
        inner_size = len(dumps(inner))
        if steps and inner_size * 2 < size:
            break
        steps, part, size = (*steps, step), inner, inner_size
    return format_path(steps), size


def _children(part: FrozenDict | FrozenList) -> list[tuple[str | int, Any, int]]:
    pairs = part.items() if isinstance(part, dict) else enumerate(part)
    return [(step, child, len(dumps(child))) for step, child in pairs]
