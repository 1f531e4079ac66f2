"""Retry failed and unhandled events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from happen_nb._api.base import Displayable
from happen_nb._display.reprs_failures import retried_page
from happen_nb._model.quoting import error_summary
from happen_nb._runtime import causes
from happen_nb._runtime.io import refuse_on_handler_loop
from happen_nb._runtime.tracebacks import drop_frames
from happen_nb.errors import HappenError

MAX_ERROR_CHARS: Final = 200


class HandledAgainError(Exception):
    """Carries the exception of a retried handler, to distinguish it from errors of the retry itself."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class Retried(Displayable):
    """The result of a retry.

    Attributes
    ----------
    what : str
        ``"failure"`` or ``"event"``, the kind of things that were retried.
    succeeded : int
        Number of successful retries.
    failed : int
        Number of those that failed again.
    unhandled : int
        Number of events without a handler.
    errors : tuple of str
        The errors that were raised: each text once, the most frequent first.
    """

    _page = retried_page

    def __init__(self, what: str, outcomes: Iterable[BaseException | None], unhandled: int = 0) -> None:
        counts: dict[str, int] = {}
        self.what = what
        self.unhandled = unhandled
        self.succeeded = 0
        for error in outcomes:
            if error is None:
                self.succeeded += 1
            else:
                text = error_summary(error, MAX_ERROR_CHARS)
                counts[text] = counts.get(text, 0) + 1
                drop_frames(error)
        self.failed = sum(counts.values())
        self.errors = tuple(sorted(counts, key=lambda text: -counts[text]))


def refuse_retry(node: str) -> None:
    """Refuse to wait for a node's handlers where they cannot run meanwhile."""
    refuse_on_handler_loop("retry()", "await asyncio.to_thread(...retry)")
    running = causes.current_scope()
    if running is not None and running.event is not None and running.node == node:
        raise HappenError(f"retry: in {running.what} it would wait for itself; call it in a cell")
