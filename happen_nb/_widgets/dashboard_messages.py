"""The messages of a dashboard to the browser: short JSON forms of states, events and problems."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from happen_nb._api.failures import Failure, UnhandledEvent
from happen_nb._display.reprs_events import unhandled_reason
from happen_nb._display.spans import Line, Span, cut, cut_middle, function, key, name, one_line
from happen_nb._display.text import describe_error
from happen_nb._display.values import is_container, size, summary
from happen_nb._model.paths import Steps
from happen_nb._model.records import CommitRecord, EventRecord

_LINE_COLUMNS, _CHILD_COLUMNS, _TYPE_COLUMNS, _ERROR_COLUMNS = 60, 48, 48, 200

Json = dict[str, Any]


def line(spans: Line) -> list[list[str]]:
    """Return the spans of a line as text and kind."""
    return [[span.text, span.kind] for span in spans]


def error_line(error: BaseException | str) -> list[list[str]]:
    return [[one_line(describe_error(error), _ERROR_COLUMNS), "err"]]


def node(title: str, revision: int | str, state: object) -> Json:
    """Return a node with a preview of its state, or with the error that was raised instead of it."""
    if isinstance(state, BaseException):
        return {"name": title, "revision": revision, "line": error_line(state), "opens": False}
    preview = line(summary(state, _LINE_COLUMNS))
    return {"name": title, "revision": revision, "line": preview, "opens": size(state) > 0}


def children(title: str, path: Steps, value: object, limit: int) -> Json:
    """Return the first children of a container: step, label, preview, and whether a child has children.

    Examples
    --------
    >>> children("orders", ("o1",), {"status": "open"}, 100)["items"]
    [['status', 'status', [['"open"', 'str']], False]]
    """
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    items = [
        [step, key(step), line(summary(child, _CHILD_COLUMNS)), size(child) > 0]
        for step, child in islice(pairs, limit)
    ]
    return {"node": title, "path": list(path), "size": size(value), "items": items}


def log_entry(record: CommitRecord | EventRecord, *, without_payload: bool = False) -> list[Any]:
    """Return a row of the log: sequence, index, kind, time in ms, title, sender, target, and a preview.

    The preview is None, as it is unknown, for an event that was read `without_payload`.
    """
    ms = record.time // 1_000_000
    if isinstance(record, CommitRecord):
        title = f"{name(record.node)} · {'deleted' if record.deleted else f'{record.revision:,}'}"
        by = record.origin.by
        return [record.sequence, -1, "commit", ms, title, None if by is None else name(by), None, []]
    target = None if record.target is None else name(record.target)
    shown_payload = None if without_payload else preview(record.payload)
    title = cut_middle(record.type, _TYPE_COLUMNS)
    return [record.sequence, record.index, "event", ms, title, name(record.sender), target, shown_payload]


def preview(payload: object) -> list[list[str]]:
    """Return a payload in one line."""
    return [] if payload is None else line(summary(payload, _LINE_COLUMNS))


def failure(number: int, failed: Failure) -> Json:
    """Return a failure in one line, and its traceback."""
    spans = (
        Span(name(failed.node), "name"),
        Span(" · "),
        Span(function(failed.handler), "plain"),
        Span("  "),
    )
    return {
        "id": number,
        "line": [*line(spans), *error_line(failed.exception)],
        "detail": repr(failed),
        "times": failed.attempts,
        "sequence": getattr(failed.event, "sequence", None),
    }


def unhandled(missed: UnhandledEvent, position: tuple[int, int]) -> Json:
    """Return an unhandled event in one line with the reason, and its payload."""
    event = missed.event
    spans = [Span(cut_middle(event.type, _TYPE_COLUMNS), "name"), Span(f"  from {name(event.sender)}  ")]
    spans += unhandled_reason(missed)
    if missed.nearest is not None:
        spans += [Span("  nearest "), Span(cut(missed.nearest, _TYPE_COLUMNS), "str")]
    return {
        "id": f"{position[0]}.{position[1]}",
        "line": line(tuple(spans)),
        "detail": repr(missed) if is_container(event.payload) else "",
        "sequence": position[0],
    }


def newest(items: Sequence[Any], number: int) -> Sequence[Any]:
    """Return the last `number` items."""
    return items[max(0, len(items) - number) :]
