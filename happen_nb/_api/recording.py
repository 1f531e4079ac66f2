"""Recordings: a stretch of the journal in one HTML file, written and read back."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from happen_nb._api.base import Displayable, SpacePart, faces, path_of_file, shown_by, write_file
from happen_nb._api.events import Event, Events, record_of
from happen_nb._api.forks import start_from
from happen_nb._api.handlers import handler_sources
from happen_nb._api.history import Commit, Journal, Since, Snapshot, position_after, space_of
from happen_nb._api.pictures import read_journal
from happen_nb._frames import briefly, refusal
from happen_nb._journal.slice import clocks_until, with_payloads
from happen_nb._model import arguments
from happen_nb._model.arguments import check_name, nanoseconds
from happen_nb._model.frozen import FrozenDict
from happen_nb._model.paths import Masks, Steps
from happen_nb._model.patterns import Pattern
from happen_nb._model.quoting import escape_surrogates, quote
from happen_nb._model.records import CommitRecord, EventRecord
from happen_nb._model.schedules import from_ns, from_text, utc_text
from happen_nb._runtime.cells import notice
from happen_nb._runtime.io import on_io
from happen_nb._runtime.replica import forkable_states, records_at
from happen_nb.errors import HistoryGoneError, TooLargeError

if TYPE_CHECKING:
    from datetime import datetime

    from happen_nb._api.space import Space
    from happen_nb._model.recorded import RecordedJournal
    from happen_nb._runtime.runtime import Runtime

MAX_BYTES: Final = 2_000_000  # maximum size of a file, in bytes
MAX_RECORDS: Final = 100_000  # maximum number of events and commits to read; more never fit into a file
FRAME_HEIGHT: Final = 780  # pixels of the player in a notebook

StartSpace = Callable[[str, Mapping[str, FrozenDict], str | None], Coroutine[Any, Any, "Space"]]
"""Makes a space with a name and the states of its nodes."""


class Recording(Displayable):
    """A recorded stretch of a space's journal; made by ``space.record`` or ``happen.recorded``.

    Without a file, the last expression of a cell shows its player, also in a saved notebook without a
    kernel.

    Attributes
    ----------
    title : str
        The title.
    space : str
        The name of the recorded space.
    path : Path or None
        The file; None if it was not written.
    partial : bool
        True if older records did not fit.
    bytes : int
        The size of the file.

    Examples
    --------
    >>> commit = orders.state.set({"open": 1})
    >>> recording = space.record(title="One order")
    >>> recording.title, len(recording.journal())
    ('One order', 1)
    """

    _page = shown_by("reprs_state.recording_page")
    _pickle = "call recording.save(path), and happen.recorded(path) in the other process"

    def __init__(
        self, recorded: RecordedJournal, markup: str, path: Path | None, start_space: StartSpace
    ) -> None:
        self.title = recorded.title
        self.space = recorded.space
        self.path = path
        self.partial = recorded.partial
        self.bytes = len(markup.encode())
        self._recorded = recorded
        self._markup = markup
        self._start_space = start_space

    @property
    def counts(self) -> tuple[int, int, int]:
        """The numbers of events, commits and failures."""
        recorded = self._recorded
        failures = sum(record.outcome == "failed" for record in recorded.handled)
        return len(recorded.events), len(recorded.commits), failures

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file.

        Parameters
        ----------
        path : str or path
            Where to write it; an existing file is replaced. A path without a suffix gets ``.html``.

        Returns
        -------
        Path

        Examples
        --------
        >>> from tempfile import mkdtemp
        >>> file = space.record().save(mkdtemp() + "/shop.html")
        >>> happen.recorded(file).space == space.name
        True
        """
        self.path = write_file(path, self._markup, ".html")
        return self.path

    def events(self, pattern: str | Callable[[str], object] = "**") -> Events:
        """Return the recorded events, newest last.

        They belong to no space; ``space.replay(recording.events())`` broadcasts them again.

        Parameters
        ----------
        pattern : str or callable, optional
            The events to return, as for ``node.on``.

        Examples
        --------
        >>> event = orders.broadcast("order.paid", {"id": "o1"})
        >>> [event.payload for event in space.record().events("order.*")]
        [{'id': 'o1'}]
        """
        matching = Pattern.of(pattern)
        found = [event for event in self._recorded.events if matching.matches(event.type)]
        return Events(self.space, matching.text, [self._event(record) for record in found])

    def journal(self) -> Journal:
        """Return the recorded commits and events in their one total order, newest last.

        Examples
        --------
        >>> commit = orders.state.set({"open": 1})
        >>> event = orders.broadcast("order.paid")
        >>> [type(each).__name__ for each in space.record().journal()]
        ['Commit', 'Event']
        """
        items: list[tuple[tuple[int, int], Commit | Event]] = [
            ((record.sequence, -1), Commit(record, before, self.space, moment=self._moment(record.sequence)))
            for record, before in self._recorded.commits
        ]
        items += [(record.position, self._event(record)) for record in self._recorded.events]
        return Journal(self.space, [item for _, item in sorted(items, key=lambda item: item[0])])

    def _event(self, record: EventRecord) -> Event:
        runtime: Any = None  # it belongs to no space
        return Event(record, runtime, moment=self._moment(record.sequence))

    def _moment(self, position: int) -> int | None:
        """Return the time of a manual clock at a position, in ns; None if there is none."""
        clocks = self._recorded.clocks
        known = bisect_right(clocks, position, key=itemgetter(0))
        return clocks[known - 1][1] * 1000 if known else None

    def at(self, when: datetime | Event | Commit) -> Mapping[str, FrozenDict]:
        """Return the states of all nodes at one point in time, as far as they are recorded.

        Parameters
        ----------
        when : datetime, Event or Commit
            A datetime (naive: local time); a recorded event: all commits before it; or a recorded commit:
            the snapshot that its transform read.

        Returns
        -------
        mapping of str to state
            The states by node name.

        Raises
        ------
        HistoryGoneError
            The recording starts later.

        Examples
        --------
        >>> first = orders.state.set({"open": 1})
        >>> second = orders.state.set({"open": 2})
        >>> dict(space.record().at(second))["orders"]
        {'open': 1}
        """
        return Snapshot(self._records_at(self._position(when)))

    async def _fork(self, name: str, *, at: datetime | Event | Commit | None = None) -> Space:
        """Make a new space that starts from the recorded states.

        The new space has no events and no handlers. It is on the server of the recorded space; for a
        recording that was read from a file, on that of ``happen.current()``, which connects first if there is
        no space.

        Parameters
        ----------
        name : str
            The name of the new space.
        at : datetime, Event or Commit, optional
            Start from the states at that time, as for `at`; by default, from the newest.

        Returns
        -------
        Space
            The new space, connected.

        Raises
        ------
        SpaceNotEmptyError
            The target holds states or events already.
        HistoryGoneError
            The recording starts later.

        Examples
        --------
        >>> commit = orders.state.set({"open": 1})
        >>> what_if = space.record().fork("what-if")
        >>> what_if.views.orders.get()
        {'open': 1}
        >>> what_if.drop()
        """
        check_name(name, "space")
        position = self._last if at is None else self._position(at)
        moment = self._moment(position)
        clock = None if moment is None else utc_text(from_ns(moment))
        return await self._start_space(name, forkable_states(self._records_at(position)), clock)

    fork, afork = faces(_fork)

    @property
    def _last(self) -> int:
        recorded = self._recorded
        sequences = [event.sequence for event in recorded.events]
        sequences += [record.sequence for record, _ in recorded.commits]
        return max(sequences, default=recorded.position)

    def _position(self, when: Any) -> int:
        self._check_space(when)
        if isinstance(when, Commit):
            position = when.read
        elif isinstance(when, Event):
            position = record_of(when).sequence
        elif arguments.is_moment(when):
            position = self._position_at(nanoseconds(arguments.moment(when, "at")) // 1000)
        else:
            raise TypeError(f"at: {quote(when)} is not a time; pass a datetime, an Event or a Commit")
        if position < self._recorded.position:
            raise HistoryGoneError(f'at: the recording "{self.title}" starts after that time')
        return position

    def _check_space(self, when: Any) -> None:
        """Refuse an event or a commit of another space, whose position has no meaning here."""
        if not isinstance(when, Event | Commit):
            return
        if isinstance(when, Event) and when.sequence is None:
            raise ValueError(f'at: the event "{when.type}" is not recorded; pass a recorded one')
        space = space_of(when)
        is_recorded = isinstance(when, Event) and space is None
        if space != self.space and not is_recorded:
            raise ValueError(
                f'at: {quote(when)} belongs to the space "{space}", and this recording to "{self.space}"'
            )

    def _position_at(self, us: int) -> int:
        recorded = self._recorded
        if recorded.clocks:  # a datetime means the time of the space
            return next((sequence - 1 for sequence, time in recorded.clocks if time > us), self._last)
        if any(record.time // 1000 > us for record in recorded.start.values()):
            return -1  # the states of that time are not recorded
        found = [record.sequence for record, _ in recorded.commits if record.time // 1000 <= us]
        return max(found, default=recorded.position)

    def _records_at(self, position: int) -> dict[str, CommitRecord | HistoryGoneError]:
        found: dict[str, CommitRecord | HistoryGoneError] = {
            name: HistoryGoneError(f'node "{name}": its state of that time was no longer stored')
            for name in self._recorded.gone
        }
        found |= self._recorded.start
        for record, _ in self._recorded.commits:
            if record.sequence <= position:
                found[record.node] = record
        return {
            name: record
            for name, record in sorted(found.items())
            if isinstance(record, HistoryGoneError) or not record.deleted
        }

    def _repr_mimebundle_(self, **options: object) -> dict[str, str]:
        bundle = super()._repr_mimebundle_(**options)
        if self.path is None:
            from html import escape

            # The recording follows the colour scheme of the element around its frame: that of the front end.
            bundle["text/html"] += (
                f'<div class="happen"><iframe sandbox="allow-scripts" title="{escape(self.title)}" '
                f'style="width: 100%; height: {FRAME_HEIGHT}px; border: 0" '
                f'srcdoc="{escape(self._markup)}"></iframe></div>'
            )
        return bundle


async def _read(
    runtime: Runtime, since: Since | None, until: Since | None, title: str, *, code: bool
) -> RecordedJournal:
    from happen_nb._model.recorded import RecordedJournal

    log = runtime.log
    start = (await position_after(log, since))[0]
    end = None if until is None else await position_after(log, until, "until")
    if end is not None and end[0] < start:
        raise ValueError("record: until is before since; swap them")
    journal = await read_journal(runtime, since, MAX_RECORDS)
    events = [event for event in journal.events if end is None or event.position <= end]
    pairs = [pair for pair in journal.commits if end is None or (pair[0].sequence, -1) <= end]
    events = await on_io(with_payloads(log.stream, events))
    if journal.newest is not None:
        first = [event.sequence for event in journal.events[:1]]
        start = min(first + [record.sequence for record, _ in journal.commits[:1]]) - 1
    records = await on_io(records_at(log, start)) if start else {}
    gone = [name for name, record in records.items() if isinstance(record, HistoryGoneError)]
    if not start:
        oldest = {pair[0].node: pair[0] for pair in reversed(pairs)}
        gone = [name for name, record in oldest.items() if record.revision > 1]
    ids = {event.id for event in events}
    handled = [record for record in journal.handled if record.event in ids]
    nodes = {record.node for record in handled}
    last = max([event.sequence for event in events] + [pair[0].sequence for pair in pairs], default=start)
    clocks = [] if log.clock is None else await on_io(clocks_until(log.stream, last))
    return RecordedJournal(
        runtime.space,
        title,
        events,
        pairs,
        handled,
        {name: record for name, record in records.items() if isinstance(record, CommitRecord)},
        start,
        handler_sources(runtime.registrations, nodes) if code else {},
        journal.newest is not None,
        [(clock.sequence, nanoseconds(from_text(clock.now)) // 1000) for clock in clocks],
        gone,
        runtime.colours(),
    )


def read_recording(path: str | os.PathLike[str], start_space: StartSpace) -> Recording:
    """Read a file; see `recorded`."""
    from happen_nb._display import recording as page
    from happen_nb._model.recorded import decode

    source = path_of_file(path, "recorded: path", ".html")
    try:
        markup = source.read_text(encoding="utf-8")
        recorded = decode(page.read(markup))
    except ValueError as error:
        what = escape_surrogates(str(source))
        raise refusal(ValueError, f"recorded: {what} is not a recording of happen_nb: {error}") from None
    except OSError as error:
        raise briefly(OSError(error.errno, error.strerror, str(source))) from None
    return Recording(recorded, markup, source, start_space)


class SpaceRecording(SpacePart):
    """The part of a space that records it."""

    async def _record(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        since: Since | None = None,
        until: Since | None = None,
        title: str | None = None,
        code: bool = True,
        hide: Iterable[str | Steps] = (),
    ) -> Recording:
        """Record everything between two moments in one HTML file that plays offline in a browser.

        The page has a lane for each node with its events, handlings and commits, the states, and the source
        of the handler that ran. It needs no kernel and no server, and makes no requests. If the records need
        more than 2 MB, the page contains the newest ones and a note.

        Parameters
        ----------
        path : str or path, optional
            The file; an existing one is replaced, and a path without a suffix gets ``.html``. A browser opens
            the page at its end, or plays it at once if the address ends with ``#play``. Without a path, the
            last expression of a cell shows the player in the notebook.
        since : Event, Commit, datetime or int, optional
            Record only later events and commits; an int is a sequence, a naive datetime is local time.
        until : Event, Commit, datetime or int, optional
            Record nothing after it; an event or a commit is itself recorded.
        title : str, optional
            The title of the page.
        code : bool, optional
            Include the source of handlers that this process has registered.
        hide : str or iterable of str or tuple, optional
            Paths whose values are masked: ``"customer.*.email"`` in the states of nodes, ``"**.email"``
            everywhere, in payloads too. ``*`` stands for any characters of one step, ``**`` for any number
            of steps. A key with a dot needs a tuple: ``[("customer", "o.1")]``.

        Returns
        -------
        Recording

        Raises
        ------
        TooLargeError
            The states alone do not fit.

        Examples
        --------
        >>> commit = orders.state.set({"o1": {"email": "ada@example.org"}})
        >>> event = orders.broadcast("order.paid", {"email": "ada@example.org"})
        >>> recording = space.record(title="One order", hide=["**.email"])
        >>> print(recording)
        Recording One order · 1 event · 1 commit
        >>> recording.events()[0].payload, recording.journal()[0].after
        ({'email': '•••'}, {'o1': {'email': '•••'}})
        """
        from happen_nb._display import recording as page
        from happen_nb._model.recorded import decode, encode, fit

        if path is not None:
            arguments.path(path, "record: path")
        masks = Masks(hide, "record: hide")
        if title is not None and not isinstance(title, str):
            raise TypeError(f"record: title is {quote(title)}; pass a string")
        arguments.truth(code, "record: code")
        recorded = await _read(self._runtime, since, until, title or f"Recording of {self.name}", code=code)
        found = fit(recorded, lambda part: page.render(encode(part, masks)), MAX_BYTES)
        if found is None:
            raise TooLargeError(
                f"record: the states alone take more than {MAX_BYTES:,} bytes compressed; "
                "hide=[...] leaves out parts of them"
            )
        if masks.unused:
            notice(f"record: nothing matches hide={masks.unused}; check the paths")
        markup = found[1]
        # What was written, so that nothing hidden can be read from it.
        recording = Recording(decode(page.read(markup)), markup, None, partial(start_from, self._space))
        if path is not None:
            recording.save(path)
        return recording

    record, arecord = faces(_record)
