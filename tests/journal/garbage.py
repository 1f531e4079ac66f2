"""Messages that another NATS client may have written: arbitrary bytes, unfitting JSON, and near misses."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

DEEP = b"[" * 100_000 + b"]" * 100_000
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(st.characters()),
    st.sampled_from(["", "a b", ">", "*", "a.b", "x\r\nNats-Rollup: all", "\x1b[31m", "\ud800", "n" * 5_000]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
SPECIAL = st.sampled_from(
    [
        DEEP,
        b"",
        b"\xff\xfe",
        b'{"a": "\xff"}',
        b"NaN",
        b"1e400",
        b"9" * 5_000,
        b'{"a":' * 300 + b"1" + b"}" * 300,
    ]
)


def mapping_near(good: dict[str, Any]) -> st.SearchStrategy[Any]:
    """A record in which some members are replaced by anything, some are missing, and some are added."""
    spoiled = st.dictionaries(st.sampled_from(sorted(good)), VALUES, max_size=3)
    missing = st.sets(st.sampled_from(sorted(good)), max_size=2)
    added = st.dictionaries(st.text(max_size=6), VALUES, max_size=2)

    def combined(parts: tuple[dict[str, Any], set[str], dict[str, Any]]) -> dict[str, Any]:
        changes, gone, more = parts
        return {**more, **{name: value for name, value in {**good, **changes}.items() if name not in gone}}

    return st.tuples(spoiled, missing, added).map(combined)


def list_near(good: list[Any]) -> st.SearchStrategy[Any]:
    """The same of an array: some items replaced, the end cut off or longer."""
    spoiled = st.dictionaries(st.integers(0, len(good) - 1), VALUES, max_size=3)
    length = st.integers(0, len(good) + 3)

    def combined(parts: tuple[dict[int, Any], int]) -> list[Any]:
        changes, size = parts
        items = [changes.get(index, item) for index, item in enumerate(good)]
        return [*items, None, [1], "more"][:size]

    return st.tuples(spoiled, length).map(combined)


def as_json(value: Any) -> bytes:
    """JSON in ASCII, with lone surrogates and NaN as Python writes them."""
    return json.dumps(value).encode()


def bodies(near: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Bytes of a body: near misses, any JSON, and any bytes."""
    return st.one_of(near.map(as_json), VALUES.map(as_json), st.binary(max_size=60), SPECIAL)


def texts(near: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    """The same in a header."""
    return st.one_of(
        near.map(lambda value: as_json(value).decode()),
        VALUES.map(lambda value: as_json(value).decode()),
        st.text(max_size=40),
        st.just(DEEP.decode()),
    )


EVENT = {
    "id": "5d0f9c1e7a2b44c1-98",
    "type": "order.paid",
    "sender": "orders",
    "target": "stock",
    "cause": "1b86a04f93d2c7e5-17",
    "correlation": "1b86a04f93d2c7e5-17",
    "path": ["1b86a04f93d2c7e5-17"],
    "occurred": "2026-01-01T10:00:00",
    "nonce": "5d0f9c1e7a2b44c1-99",
    "omitted": 0,
}
OWNER = {
    "node": "orders",
    "incarnation": "5d0f9c1e7a2b",
    "patterns": ["order.*"],
    "pid": 4711,
    "host": "laptop",
    "since": 0,
    "takeover": False,
}
HANDLING = ["5d0f9c1e7a2b44c1-98", "orders", "count", "done", 0.001234, None, 1]
REPLY = {
    "event": "5d0f9c1e7a2b44c1-98",
    "by": "1b86a04f93d2",
    "state": "failed",
    "kind": "HandlerError",
    "message": "it failed",
    "trace": {"node": "orders", "error": "ValueError", "remote_traceback": "..."},
    "progress": [1],
    "value": 3,
}
QUESTION = {
    "from": "5d0f9c1e7a2b",
    "events": ["5d0f9c1e7a2b44c1-98"],
    "send": "5d0f9c1e7a2b44c1-98",
    "cancel": "5d0f9c1e7a2b44c1-98",
    "awaited": True,
}
ANSWER = {"waiters": 1, "position": 12, "open": ["5d0f9c1e7a2b44c1-98"], "send": REPLY}

EVENTS = mapping_near(EVENT)
RIDING = mapping_near({**EVENT, "payload": {"n": 1}})
OWNERS = mapping_near(OWNER)
HANDLINGS = list_near(HANDLING)
REPLIES = mapping_near(REPLY)
QUESTIONS = mapping_near(QUESTION)
ANSWERS = mapping_near(ANSWER)
