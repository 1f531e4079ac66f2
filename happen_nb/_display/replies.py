"""How a reply and a replay are shown: a line that says how far it is, then what came out."""

from __future__ import annotations

from typing import Any, Final, TypeGuard

from happen_nb._display import _protocols as shown
from happen_nb._display.events import iso
from happen_nb._display.failures import message
from happen_nb._display.inline import fits, summary
from happen_nb._display.page import Block, Heading, Note, Page
from happen_nb._display.spans import Kind, Line, Span, count, name, one_line
from happen_nb._display.tree import Budget, tree

_BAR = 20  # columns of the bar
_VALUE = 60  # columns of a result or a progress in the line
_ERROR = 300
_FULL = 100.0
_KINDS: Final[dict[str, Kind]] = {"done": "+", "failed": "err", "cancelled": "err", "stopped": "err"}


def reply(x: shown.Reply, budget: Budget) -> Page:
    """Where it stands: as long as it is not done its progress, then its result or its error."""
    state = Span(name(x.state), _KINDS.get(x.state, "plain"))
    parts: list[Line] = [(Span(name(x.event.type), "plain"),), (state,)]
    blocks: tuple[Block, ...] = ()
    if x.error is not None:
        blocks = (Note((Span(_brief(x.error), "err"),)),)
    elif x.state == "done":
        whole = fits(x._value, _VALUE)
        blocks = (tree(x._value, budget) if whole is None else Note(whole),)
    elif x.progress is not None:
        parts += _progress(x.progress)
    return Page(Heading("Reply of", name(x.target), tuple(parts)), blocks)


def replay(x: shown.Replay) -> Page:
    """Where it stands: how many events are stored, and which time it is in them."""
    parts: list[Line] = [(Span(x.state, _KINDS.get(x.state, "plain")),)]
    if x.state == "running" and x.total is not None:
        parts += _progress({"done": x.stored, "total": x.total})
    elif x.state == "done" or x.total is None:
        parts.append((Span(count(x.stored, "event"), "plain"),))
    else:
        parts.append((Span(f"{x.stored:,} of {count(x.total, 'event')}", "plain"),))
    if x._held:
        parts.append((Span("waits for handlers", "plain"),))
    if x.occurred is not None:
        parts.append((Span(iso(x.occurred), "occurred"),))
    error = () if x.error is None else (Note((Span(_brief(x.error), "err"),)),)
    return Page(Heading("Replay of" if x.what else "Replay", name(x.what), tuple(parts)), error)


def _brief(error: BaseException) -> str:
    """The first line, as an error that came from afar carries its traceback below."""
    return one_line(message(error).partition("\n")[0], _ERROR)


def _progress(progress: Any) -> list[Line]:
    """A bar, if it is a number or has one that says how far it is, and what else it tells."""
    part_done, said, rest = _read(progress)
    lines: list[Line] = []
    if part_done is not None:
        full = round(_BAR * part_done)
        lines.append((Span("█" * full, "num"), Span("░" * (_BAR - full)), Span(f" {said}", "plain")))
    if rest not in (None, {}):
        lines.append(summary(rest, _VALUE))
    return lines


def _read(progress: Any) -> tuple[float | None, str, Any]:
    """How much is done (0 to 1), how that is said, and what is left to show.

    Examples
    --------
    >>> _read(0.4), _read(40), _read({"done": 3, "total": 12, "file": "a"})
    ((0.4, '40 %', None), (0.4, '40 %', None), (0.25, '3 of 12', {'file': 'a'}))
    >>> _read("reading")
    (None, '', 'reading')
    """
    if not isinstance(progress, dict):
        part_done = _share(progress)
        return (None, "", progress) if part_done is None else (part_done, _percent(part_done), None)
    part_done = _share(progress.get("progress"))
    if part_done is not None:
        return part_done, _percent(part_done), _without(progress, "progress")
    done, total = progress.get("done"), progress.get("total")
    if _is_number(done) and _is_number(total) and total > 0 and done >= 0:
        said = f"{_number(done)} of {_number(total)}"
        return min(1.0, done / total), said, _without(progress, "done", "total")
    return None, "", progress


def _share(value: Any) -> float | None:
    """A number as a part of one: a float up to 1.0 is one, any other up to 100 counts percent.

    Examples
    --------
    >>> _share(0.5), _share(1.0), _share(1), _share(50), _share(50.5), _share(1000), _share(True)
    (0.5, 1.0, 0.01, 0.5, 0.505, None, None)
    """
    if not _is_number(value) or not 0 <= value <= _FULL:
        return None
    return value if isinstance(value, float) and value <= 1 else value / _FULL


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _percent(part_done: float) -> str:
    return f"{int(part_done * _FULL + 1e-9)} %"


def _without(progress: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in progress.items() if key not in keys}
