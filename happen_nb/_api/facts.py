"""Types of events that need no handler."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from happen_nb._model.patterns import Pattern, Predicate
from happen_nb._runtime.cells import cells


class Facts(Collection[str]):
    """The types of events that need no handler, as declared in this process: ``space.facts``.

    They are not listed as unhandled in ``space.unhandled``, receipts and dashboards.

    Examples
    --------
    >>> event = orders.broadcast("order.closed")
    >>> [each.event.type for each in space.unhandled]
    ['order.closed']
    >>> space.facts.add("*.closed")
    >>> len(space.unhandled), space.facts
    (0, Facts: *.closed)
    """

    def __init__(self) -> None:
        self._patterns: tuple[Pattern, ...] = ()

    def add(self, *patterns: str | Predicate) -> None:
        """Declare types of events that need no handler.

        The declaration belongs to its cell: running the cell again replaces it.

        Parameters
        ----------
        *patterns : str or callable
            Patterns as for ``node.on``.

        Raises
        ------
        PatternError
            A pattern is not valid.
        """
        added = tuple(map(Pattern.of, patterns))
        self._patterns += added
        cells.register(lambda: self._remove(added))

    def remove(self, pattern: str | Predicate) -> None:
        """Undo `add` for one pattern: expect handlers for these events again.

        Raises
        ------
        KeyError
            The pattern was not declared.
        """
        known = Pattern.of(pattern)
        if known not in self._patterns:
            raise KeyError(f"facts: {known.text!r} is not declared; declared are {list(self)}")
        self._remove((known,))

    def cover(self, type: str) -> bool:
        """Return True if events of this type need no handler."""
        return any(pattern.matches(type) for pattern in self._patterns)

    def _remove(self, patterns: tuple[Pattern, ...]) -> None:
        self._patterns = tuple(each for each in self._patterns if each not in patterns)

    def __contains__(self, pattern: object) -> bool:
        return pattern in list(self)

    def __iter__(self) -> Iterator[str]:
        return iter([pattern.text for pattern in self._patterns])

    def __len__(self) -> int:
        return len(self._patterns)

    def __repr__(self) -> str:
        return f"Facts: {', '.join(self) or 'none'}"
