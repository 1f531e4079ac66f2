"""What this process still has to do, and what follows from what: so that one can wait for it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(eq=False, slots=True)
class Token:
    """Something that has not ended yet.

    Parameters
    ----------
    correlation : str
        The chain of causes it belongs to.
    describe : callable
        Gives its name for a message.
    hint : callable, optional
        Says what ends it, if it takes long; else returns an empty string.
    """

    correlation: str
    describe: Callable[[], str]
    hint: Callable[[], str] | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was open at one moment, and the chains that it belongs to.

    ``families`` are beginnings of chains: one that ends with "_" stands for all that begin with it, as those
    of a replay do.
    """

    tokens: frozenset[Token]
    correlations: frozenset[str]
    families: tuple[str, ...] = ()


class Activity:
    """What is open in this process. Any thread may begin and end things."""

    def __init__(self) -> None:
        self._open: set[Token] = set()
        self._lock = threading.Lock()

    def begin(
        self, correlation: str, describe: Callable[[], str], hint: Callable[[], str] | None = None
    ) -> Token:
        """Something begins; `end` it."""
        token = Token(correlation, describe, hint)
        with self._lock:
            self._open.add(token)
        return token

    def end(self, token: Token) -> None:
        """It has ended; whatever it caused here has begun already."""
        with self._lock:
            self._open.discard(token)

    def snapshot(self) -> Snapshot:
        """What is open now."""
        with self._lock:
            tokens = frozenset(self._open)
        correlations = frozenset(token.correlation for token in tokens)
        return Snapshot(tokens, correlations, tuple(each for each in correlations if each.endswith("_")))

    def left(self, since: Snapshot) -> list[Token]:
        """What was open then and still is, and what has followed from it and is open."""
        with self._lock:
            return [
                token
                for token in self._open
                if token in since.tokens
                or token.correlation in since.correlations
                or token.correlation.startswith(since.families)
            ]
