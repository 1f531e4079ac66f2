"""What a dashboard is asked to do: send, set, try again, show in full; off the main thread."""

from __future__ import annotations

import contextvars
import json
from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from happen_nb._api.events import Event
from happen_nb._api.failures import Failure
from happen_nb._api.history import Commit
from happen_nb._api.node import Node
from happen_nb._display.user_text import describe_error as described
from happen_nb._journal.slice import commit_at_sequence, commits_before, events_at
from happen_nb._model.frozen import thaw
from happen_nb._model.paths import Path
from happen_nb._model.transforms import put
from happen_nb._runtime.io import on_io, wait_for
from happen_nb._widgets import summaries

if TYPE_CHECKING:
    from happen_nb._api.space import Space
    from happen_nb._api.unhandled import UnhandledEvent

LISTED: Final = 200
"""Failures, and unhandled events, that are listed."""
TEXT: Final = 20_000
"""Characters of what is shown in full."""

Message = Mapping[str, Any]
Task = Callable[[Message], None]


class Desk:
    """Does what a dashboard is asked to, and tells how it went.

    Parameters
    ----------
    space : Space
    tell : callable
        Sends a message to the browser.
    """

    def __init__(self, space: Space, tell: Callable[[dict[str, Any]], object]) -> None:
        self._space = space
        self._tell = tell
        self._context = contextvars.copy_context()
        self._numbers: WeakKeyDictionary[Failure, int] = WeakKeyDictionary()
        self._summaries: WeakKeyDictionary[Failure, dict[str, Any]] = WeakKeyDictionary()
        self._count = count(1)
        self._unhandled: dict[str, UnhandledEvent] = {}
        self._tasks: dict[str, Task] = {
            "act": self._act,
            "detail": self._detail,
            "retry": self._retry,
            "retryAll": self._retry_all,
            "forget": self._forget,
            "unhandled": self._look,
            "retryUnhandled": self._retry_unhandled,
            "retryAllUnhandled": self._retry_all_unhandled,
        }

    def task(self, name: str) -> Task:
        """What is to be done under a name."""
        return self._tasks[name]

    def run(self, task: Task, message: Message) -> None:
        """Do it on a worker, in the context of the dashboard's cell; what it raises is told."""

        def work() -> None:
            try:
                task(message)
            except BaseException as error:  # the worker serves others too
                self._answer(message, described(error), error=True)

        self._space._dispatch.workers.submit(lambda: self._context.copy().run(work))

    # -- failures ------------------------------------------------------------------------------------

    def fingerprint(self) -> tuple[int, int]:
        """Differs when there are other failures."""
        known = list(self._space.failures)
        return len(known), sum(failure.attempts for failure in known)

    def failures(self) -> list[dict[str, Any]]:
        """The newest failures."""
        return [self._summary(each) for each in summaries.newest(self._space.failures, LISTED)]

    def _summary(self, failure: Failure) -> dict[str, Any]:
        """A failure in short; made once, as it asks the user's exception for its text."""
        known = self._summaries.get(failure)
        if known is None or known["times"] != failure.attempts:
            known = self._summaries[failure] = summaries.failure(self._number(failure), failure)
        return known

    def _number(self, failure: Failure) -> int:
        return self._numbers.setdefault(failure, next(self._count))

    def _retry(self, message: Message) -> None:
        self._retried([each for each in self._space.failures if self._number(each) == message["id"]])

    def _retry_all(self, _: Message) -> None:
        self._retried(list(self._space.failures))

    def _retried(self, failures: list[Failure]) -> None:
        """Try again what failed; what works now is taken off."""
        wrong = []
        for failure in failures:
            try:
                failure.retry()
            except BaseException as error:  # what a handler raises
                wrong.append(described(error))
        said = f"failed again: {wrong[0]}" if wrong else "worked this time"
        self._tell({"type": "failures", "failures": self.failures(), "said": said})

    def _forget(self, _: Message) -> None:
        self._space.failures.clear()
        self._tell({"type": "failures", "failures": [], "said": ""})

    # -- events that nobody heard --------------------------------------------------------------------

    def _look(self, _: Message, said: str = "") -> None:
        found = summaries.newest(self._space.unhandled, LISTED)
        told = [summaries.unhandled(each, each.event._record.position) for each in found]
        self._unhandled = {entry["id"]: each for entry, each in zip(told, found, strict=True)}
        self._tell({"type": "unhandled", "unhandled": told, "said": said})

    def _retry_unhandled(self, message: Message) -> None:
        said = ""
        try:
            self._unhandled[message["id"]].retry()
        except Exception as error:
            said = described(error)
        self._look(message, said)

    def _retry_all_unhandled(self, message: Message) -> None:
        for each in list(self._unhandled.values()):
            each._handle(each._nodes(None))
        self._look(message)

    # -- in full -------------------------------------------------------------------------------------

    def _detail(self, message: Message) -> None:
        """An event with its payload, or a commit with what it changed."""
        sequence, index = message["sequence"], message["index"]
        found = wait_for(self._commit(sequence) if index < 0 else self._event(sequence, index))
        text = "it is not stored any more" if found is None else repr(found)
        if isinstance(found, Event) and found.payload is not None:
            text += "\n\n" + json.dumps(thaw(found.payload), indent=2, ensure_ascii=False)
        text = text if len(text) <= TEXT else text[:TEXT] + "\n…"
        self._tell({"type": "detail", "sequence": sequence, "index": index, "text": text})

    async def _event(self, sequence: int, index: int) -> Event | None:
        stream = self._space._session.stream
        for record in await on_io(events_at(stream, [sequence])):
            if record.index == index:
                return Event(record, self._space)
        return None

    async def _commit(self, sequence: int) -> Commit | None:
        stream = self._space._session.stream
        record = await on_io(commit_at_sequence(stream, sequence))
        if record is None:
            return None
        before = await on_io(commits_before(stream, [record]))
        return Commit(record, before.get(record.node))

    # -- sending and setting -------------------------------------------------------------------------

    def _act(self, message: Message) -> None:
        what, value = message["what"], _parsed(message["value"], message["kind"])
        if message["kind"] == "broadcast":
            self._answer(message, repr(self._space.broadcast(what, value)))
        elif message["kind"] == "set":
            node = self._node(message["node"])
            self._answer(message, repr(node.state.set(put(_path(what), value))))
        else:
            reply = self._space.send(message["node"], what, value)
            if not reply.done:
                self._answer(message, repr(reply))
            for _ in reply:
                self._answer(message, repr(reply))
            self._answer(message, repr(reply))

    def _node(self, name: str) -> Node:
        """A node that there is, in whatever process."""
        view = self._space.views[name]  # an error that names the nearest, if there is none
        return self._space._nodes.get(view.name) or Node(self._space, view.name)

    def _answer(self, message: Message, text: str, *, error: bool = False) -> None:
        self._tell({"type": "answer", "ask": message["ask"], "text": text[:TEXT], "error": error})


def _parsed(text: str, kind: str) -> Any:
    """A value as it was typed; nothing typed is no payload."""
    if not text.strip() and kind != "set":
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        what = "the value" if kind == "set" else "the payload"
        raise ValueError(f'{what} is not JSON: {error}; text stands in quotes: "open"') from None


def _path(text: str) -> Path:
    """A path as it was typed: dotted, or a JSON list where a key has a dot.

    Examples
    --------
    >>> _path("orders.o1"), _path('["orders", "o.1", 0]')
    ('orders.o1', ('orders', 'o.1', 0))
    """
    return tuple(json.loads(text)) if text.startswith("[") else text
