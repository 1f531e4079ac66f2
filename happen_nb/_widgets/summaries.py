"""What a dashboard is told: short forms of states, events and commits, as JSON, however large they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

from happen_nb._api.failures import Failure
from happen_nb._api.unhandled import UnhandledEvent
from happen_nb._display.reprs_events import unhandled_reason
from happen_nb._display.spans import Line, Span, cut, cut_middle, function, key, name, one_line
from happen_nb._display.user_text import describe_error
from happen_nb._display.value_tree import is_container, size, summary
from happen_nb._model.diff import Diff
from happen_nb._model.paths import Steps
from happen_nb._model.records import CommitRecord, EventRecord

_LINE, _CHILD, _TYPE, _ERROR = 60, 48, 48, 200  # columns
_PATHS: Final = 100

Json = dict[str, Any]


def line(spans: Line) -> list[list[str]]:
    """A line as its pieces and what kind each is."""
    return [[span.text, span.kind] for span in spans]


def error_line(error: BaseException | str) -> list[list[str]]:
    """An error in one line."""
    return [[one_line(describe_error(error), _ERROR), "err"]]


def node(title: str, revision: int | str, state: object) -> Json:
    """A node with a preview of its state, or with the error that hides it."""
    hidden = isinstance(state, BaseException)
    shown_as = error_line(state) if isinstance(state, BaseException) else line(summary(state, _LINE))
    return {"name": title, "revision": revision, "line": shown_as, "opens": not hidden and size(state) > 0}


def children(title: str, path: Steps, value: object, limit: int) -> Json:
    """The first children of a container: step, label, preview, and whether there is something below.

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
        [step, key(step), line(summary(child, _CHILD)), size(child) > 0]
        for step, child in islice(pairs, limit)
    ]
    return {"node": title, "path": list(path), "size": size(value), "items": items}


def changed_paths(diff: Diff) -> list[list[str | int]]:
    """Where something changed."""
    return [list(change.path) for change in diff[:_PATHS]]


def entry(record: CommitRecord | EventRecord, *, unread: bool = False) -> list[Any]:
    """A line of the log: position, kind, time in ms, what, from whom, to whom, and a preview.

    Parameters
    ----------
    unread : bool, optional
        The payload was left out when it was read.
    """
    ms = record.time // 1_000_000
    if isinstance(record, CommitRecord):
        what = f"{name(record.node)} · {'deleted' if record.deleted else f'{record.revision:,}'}"
        by = record.origin.by
        return [record.sequence, -1, "commit", ms, what, None if by is None else name(by), None, []]
    to = None if record.target is None else name(record.target)
    kept = None if unread else preview(record.payload)
    what = cut_middle(record.type, _TYPE)
    return [record.sequence, record.index, "event", ms, what, name(record.sender), to, kept]


def preview(payload: object) -> list[list[str]]:
    """A payload in a line."""
    return [] if payload is None else line(summary(payload, _LINE))


def failure(number: int, x: Failure) -> Json:
    """Who raised what; the traceback below it."""
    spans = (Span(name(x.node), "name"), Span(" · "), Span(function(x.handler), "plain"), Span("  "))
    return {
        "id": number,
        "line": [*line(spans), *error_line(x.exception)],
        "detail": repr(x),
        "times": x.attempts,
        "sequence": getattr(x.event, "sequence", None),
    }


def unhandled(x: UnhandledEvent, position: tuple[int, int]) -> Json:
    """What nobody took, and why."""
    said = x.event
    spans = [Span(cut_middle(said.type, _TYPE), "name"), Span(f"  from {name(said.sender)}  ")]
    spans += unhandled_reason(x)
    if x.nearest is not None:
        spans += [Span("  nearest "), Span(cut(x.nearest, _TYPE), "str")]
    return {
        "id": f"{position[0]}.{position[1]}",
        "line": line(tuple(spans)),
        "detail": repr(x) if is_container(said.payload) else "",
        "sequence": position[0],
    }


def newest(items: Sequence[Any], number: int) -> Sequence[Any]:
    """The last so many."""
    return items[max(0, len(items) - number) :]
