"""Exercises that check themselves: a rule, what it has to hold for, and what breaks it.

Examples
--------
>>> from happen_nb.learn import check
>>> for left in (2, 1, -1):
...     commit = inventory.state.set({"pens": left})
>>> check("there are never fewer than zero pens", inventory, lambda state: state.get("pens", 0) >= 0)
✗ there are never fewer than zero pens · broken by 1 of 3 commits
  first by commit of inventory · revision 3
  ~ pens  1 → -1
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from happen_nb._api.base import Displayable
from happen_nb._api.connect import registry
from happen_nb._api.events import Event
from happen_nb._api.history import Commit
from happen_nb._api.node import Node
from happen_nb._api.state import State
from happen_nb._display.reprs_failures import verdict_page
from happen_nb._display.user_text import describe_error
from happen_nb._model.functions import takes_second

if TYPE_CHECKING:
    from happen_nb._api.events import Trace
    from happen_nb._api.space import Space

Rule = Callable[..., object]


class Verdict(Displayable):
    """Whether a rule holds; if not, what breaks it.

    Attributes
    ----------
    claim : str
        The rule, in words.
    ok : bool
        Whether it holds; so does ``bool(verdict)``.
    checked : int
        How many commits or events it was looked at for.
    noun : str
        ``"commit"`` or ``"event"``; ``"item"`` for a journal with both.
    broken : tuple
        Those that break it.
    error : str or None
        What the rule itself raised at the first of them.
    trace : Trace or None
        What led to the first of them: the tree of the event that caused it, or, without one, that it is.
    """

    _page = verdict_page

    def __init__(
        self,
        claim: str,
        checked: int,
        noun: str,
        broken: tuple[Commit | Event, ...],
        *,
        error: str | None = None,
        trace: Trace | None = None,
    ) -> None:
        self.claim = claim
        self.checked = checked
        self.noun = noun
        self.broken = broken
        self.error = error
        self.trace = trace

    @property
    def ok(self) -> bool:  # noqa: D102 - described above
        return bool(self.checked) and not self.broken

    def __bool__(self) -> bool:
        return self.ok


def check(
    claim: str,
    subject: Node | State | Iterable[Commit | Event],
    rule: Rule,
) -> Verdict:
    """Look whether a rule holds for each state of a node, or for each commit or event.

    Parameters
    ----------
    claim : str
        The rule in words: ``"no order is shipped twice"``.
    subject : Node, State, or iterable of Commit or Event
        For a node, each stored state; otherwise each item: ``space.events("order.*")``,
        ``node.state.history()``, ``space.journal()``.
    rule : callable
        ``rule(state)`` for a node, else ``rule(commit)`` or ``rule(event)``, is true where it holds. With a
        second parameter it is also given the list of all before it. What it raises breaks the rule.

    Returns
    -------
    Verdict
        Shows what breaks the rule, with its cause. Where there is nothing to look at, it does not hold.

    Examples
    --------
    >>> from happen_nb.learn import check
    >>> for order in ("o1", "o2", "o1"):
    ...     event = orders.broadcast("shipped", order)
    >>> verdict = check(
    ...     "no order is shipped twice",
    ...     space.events("shipped"),
    ...     lambda event, earlier: event.payload not in [each.payload for each in earlier],
    ... )
    >>> verdict.ok, verdict.broken[0].sequence == event.sequence
    (False, True)
    """
    state = subject.state if isinstance(subject, Node) else subject
    space = state._space if isinstance(state, State) else registry.current
    items, looked_at = _items(state)
    broken: list[Commit | Event] = []
    error = None
    with_earlier = takes_second(rule, "earlier") != "none"
    for index, item in enumerate(items):
        try:
            holds = rule(looked_at[index], looked_at[:index]) if with_earlier else rule(looked_at[index])
        except Exception as raised:
            holds = False
            if not broken:
                error = describe_error(raised)
        if not holds:
            broken.append(item)
    trace = _trace(broken[0], space) if broken else None
    kinds = {isinstance(item, Event) for item in items}
    noun = "item" if len(kinds) > 1 else "event" if True in kinds else "commit"
    return Verdict(claim, len(items), noun, tuple(broken), error=error, trace=trace)


def _items(what: Any) -> tuple[list[Commit | Event], list[Any]]:
    """The commits or events, and what the rule is given of each."""
    if isinstance(what, State):
        commits = list(what.history())
        return [*commits], [commit.after for commit in commits]
    items = list(what) if isinstance(what, Iterable) and not isinstance(what, str | Mapping) else [what]
    for item in items:
        if not isinstance(item, Commit | Event):
            raise TypeError(
                f"check: {item!r} is no commit or event; give a node, space.events(...), or a history"
            )
    return items, items


def _trace(item: Commit | Event, space: Space | None) -> Trace | None:
    """The tree that it belongs to, from the event that caused it, or that it is."""
    if isinstance(item, Event):
        space = item._space
    if item.cause is not None and space is not None:
        with suppress(LookupError):  # its cause is older than what is kept
            return space.trace(item.cause)
    return item._space.trace(item) if isinstance(item, Event) else None
