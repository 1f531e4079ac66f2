"""Events that are facts: they are stored for whoever reads them, and no handler is expected."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from happen_nb._model.patterns import Pattern, Predicate
from happen_nb._runtime.cells import cells


class Facts(Collection[str]):
    """The types of events that are facts in this process; ``space.facts``.

    Events of these types are not unhandled: neither ``space.unhandled`` nor a receipt nor a dashboard
    lists them as such.

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
        """Declare that events of some types are facts; running the cell again replaces what it declared.

        Parameters
        ----------
        *patterns : str or callable
            As for ``node.on``.

        Raises
        ------
        PatternError
            A pattern cannot be read.
        """
        added = tuple(map(Pattern.of, patterns))
        self._patterns += added
        cells.register(lambda: self._remove(added))

    def remove(self, pattern: str | Predicate) -> None:
        """Expect handlers for events of these types again.

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
        """Whether events of this type are facts."""
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
