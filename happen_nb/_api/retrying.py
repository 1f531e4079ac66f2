"""Handling once more what has failed or was not handled, and what that came to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from happen_nb._api.base import Shown
from happen_nb._model.quoting import error_summary
from happen_nb._runtime import causes
from happen_nb._runtime.io import refuse_on_handler_loop
from happen_nb._runtime.tracebacks import drop_frames
from happen_nb.errors import HappenError

_TEXT: Final = 200
"""Characters of an exception's text."""


class HandledAgainError(Exception):
    """A handler has failed again; it may have raised anything, and that is no error of who retries."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class Retried(Shown, kind="retried"):
    """What a retry came to.

    Attributes
    ----------
    what : str
        What was retried: ``"failure"`` or ``"event"``.
    succeeded : int
    failed : int
        How many have failed again.
    unhandled : int
        How many have no handler.
    errors : tuple of str
        What was raised: each text once, the most frequent first.
    """

    def __init__(self, what: str, outcomes: Iterable[BaseException | None], unhandled: int = 0) -> None:
        counts: dict[str, int] = {}
        self.what = what
        self.unhandled = unhandled
        self.succeeded = 0
        for error in outcomes:
            if error is None:
                self.succeeded += 1
            else:
                text = error_summary(error, _TEXT)
                counts[text] = counts.get(text, 0) + 1
                drop_frames(error)
        self.failed = sum(counts.values())
        self.errors = tuple(sorted(counts, key=lambda text: -counts[text]))


def refuse_retry(node: str) -> None:
    """Refuse to wait for a node's handlers where they could not run meanwhile.

    Raises
    ------
    HappenError
        This is the loop of async handlers, or a handler of the node itself.
    """
    refuse_on_handler_loop("retry()", "await asyncio.to_thread(...retry)")
    running = causes.current_scope()
    if running is not None and running.event is not None and running.node == node:
        raise HappenError(f"retry: in {running.what} it would wait for itself; call it in a cell")
