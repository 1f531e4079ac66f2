"""Check a rule: for everything that is stored, or in every order in which handlers can act."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from happen_nb._api.base import Displayable, page_of, refuse_in_callback, runtime_of
from happen_nb._api.events import Event, Trace, runtime_of_event
from happen_nb._api.forks import drop_fork
from happen_nb._api.history import Commit
from happen_nb._api.node import Node
from happen_nb._api.registry import registry
from happen_nb._api.state import State
from happen_nb._api.trials import Trial, Trials
from happen_nb._display import describe_error
from happen_nb._display.reprs_runs import verdict_page
from happen_nb._model import arguments
from happen_nb._model.functions import lazy_kind, takes_second
from happen_nb._model.orders import AllOrders, Choice, FewChanges, GivenOrder, Search
from happen_nb._model.quoting import quote
from happen_nb._runtime.cells import cells
from happen_nb._runtime.io import io_thread, run_blocking
from happen_nb.errors import HappenError

if TYPE_CHECKING:
    from happen_nb._api.failures import Failure
    from happen_nb._api.space import Space
    from happen_nb._display.page import Page
    from happen_nb._display.values import Budget
    from happen_nb._runtime.runtime import Runtime

Rule = Callable[..., object]

MAX_REPEATED: Final = 20  # number of repeated random orders in a row after which no new ones are expected


@dataclass(eq=False, repr=False)
class Verdict(Displayable):
    """Result of `check`: true if the rule holds; otherwise it shows what breaks it.

    Attributes
    ----------
    claim : str
        The rule in words.
    ok : bool
        True if the rule holds; ``bool(verdict)`` is the same.
    checked : int
        Number of commits or events that were checked.
    noun : str
        ``"commit"`` or ``"event"``; ``"item"`` for a journal with both.
    broken : tuple
        The commits or events that break the rule. If orders were tried, one commit for each order that breaks
        it, the shortest order first.
    error : str or None
        Exception that the rule raised at the first of them.
    trace : Trace or None
        Tree of the event that caused the first of them, or, if it has no cause, of that event itself.
    orders : int or None
        Number of orders that were tried; None if none were.
    all : bool
        True if all possible orders were tried.
    seed : int or None
        The seed of the orders.
    space : Space or None
        The shortest run that breaks the rule, as a space. It is deleted together with the verdict, when its
        cell runs again, or when the original is closed or Python ends.
    steps : tuple
        The steps of that run until the rule was broken, with ``.node``, ``.what`` ("begin", "commit" or
        "emit"), ``.event``, ``.handler`` and ``.target``.
    failing : int
        Number of orders in which handlers failed.
    failure : Failure or None
        The first failure of a handler in one of the orders.
    note : str
        The reason if orders may be missing, or if nothing was checked.
    """

    claim: str
    checked: int
    noun: str
    broken: tuple[Commit | Event, ...]
    error: str | None = None
    trace: Trace | None = None
    orders: int | None = None
    all: bool = True
    seed: int | None = None
    space: Space | None = None
    steps: tuple[Choice, ...] = ()
    failing: int = 0
    failure: Failure | None = None
    note: str = ""

    @property
    def ok(self) -> bool:
        return not self.broken and bool(self.checked or self.orders)

    def __bool__(self) -> bool:
        return self.ok

    def _page(self, budget: Budget) -> Page:
        return verdict_page(self, page_of(self.broken[0], budget) if self.broken else None, budget)


def check(
    says: str,
    what: Node | State | Iterable[Commit | Event],
    rule: Callable[..., object],
    *,
    trying: Callable[[Space], object] | None = None,
    orders: int = 100,
    seed: int | None = None,
) -> Verdict:
    """Check a rule for each stored state of a node, for each commit or event, or in every order.

    `trying` is called with a fork of the node's space that has the handlers of this process, once for each
    order in which they can start and store. Code that names nodes of the original acts on the fork. Its
    printed output is hidden. Orders are tried depth-first. If there are more than `orders`, as many random
    orders are tried as well, in which a few steps are out of turn.

    An order is a sequence of steps: a handler starts, stores a commit, or stores an event outside of a
    transform. Between the steps, handlers run one at a time. If another commit came first, the transform runs
    again before the next step. State handlers start and commit in one step. Everything that `trying` itself
    stores before it waits comes first, in its own order. Handlers that depend on more than the space, such as
    variables or the time, may act differently in each run.

    Parameters
    ----------
    says : str
        The rule in words: ``"no order is shipped twice"``.
    what : Node, State, or iterable of Commit or Event
        For a node, each stored state is checked; otherwise each item of ``space.events("order.*")``,
        ``node.state.history()``, ``space.journal()``. If orders are tried, it must be a node; each of its
        commits in the fork is checked.
    rule : callable
        ``rule(state)`` for a node, otherwise ``rule(commit)`` or ``rule(event)``; returns a true value where
        the rule holds. A second parameter receives the list of earlier ones. An exception breaks the rule.
    trying : callable, optional
        ``trying(space)`` causes the effects to check, for example by ``space.broadcast("buy")``; they are
        then settled. The fork has a manual clock, which advances for ``context.sleep`` and retries; for
        scheduled events, call ``space.advance()``.
    orders : int, optional
        Maximum number of orders to try exhaustively.
    seed : int, optional
        The seed of random orders; the same one gives the same orders. By default, it is the same each time.

    Returns
    -------
    Verdict
        Shows what breaks the rule, with its cause. If there is nothing to check, the rule does not hold. With
        `trying`, it holds if no order breaks it; the verdict notes if no order commits to the node, and in
        how many orders handlers failed.

    Raises
    ------
    TypeError
        The claim is not a string, the rule is not callable, or orders are tried and `what` is not a node.
    HappenTimeoutError
        The effects of `trying` do not settle within 10 seconds in one of the orders.
    HappenError
        Called in a handler or callback with `trying`, or `trying` closed the space.
    Exception
        An exception of `trying`, with a note of the order.

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

    Two shops that look and then take find the last lamp in 4 of 6 orders:

    >>> stock = space.create_node("stock", initial={"lamp": 1})
    >>> for name in ("web", "phone"):
    ...     @space.create_node(name).on("buy")
    ...     def buy(event, context):
    ...         if stock.state.get("lamp") > 0:
    ...             stock.state.set(happen.put("lamp", lambda lamp: lamp - 1))
    >>> check(
    ...     "never fewer than zero lamps",
    ...     stock,
    ...     lambda state: state["lamp"] >= 0,
    ...     trying=lambda space: space.broadcast("buy"),
    ... )
    ✗ never fewer than zero lamps · broken in 4 of all 6 orders
      phone begins · web begins · phone commits · web commits
      by stock · revision 3   ~ lamp  0 → -1
    >>> stock.state.get()
    {'lamp': 1}
    """
    if not isinstance(says, str):
        raise TypeError(f"check: says is {quote(says)}; pass the rule in words")
    if not callable(rule):
        raise TypeError(f"check: rule is {quote(rule)}; pass a function of a state, a commit or an event")
    if trying is not None:
        return _check_orders(says, what, rule, trying, orders, seed)
    state = what.state if isinstance(what, Node) else what
    space = state.node.space if isinstance(state, State) else registry.current
    items, arguments = _items(state)
    broken, error = _broken(rule, items, arguments)
    trace = _trace(broken[0], space) if broken else None
    kinds = {isinstance(item, Event) for item in items}
    noun = "item" if len(kinds) > 1 else "event" if True in kinds else "commit"
    return Verdict(says, len(items), noun, tuple(broken), error=error, trace=trace)


def _broken(
    rule: Rule, items: list[Any], values: list[Any], most: int | None = None
) -> tuple[list[Any], str | None]:
    """Return at most `most` items that break a rule, and the error of the rule at the first."""
    broken: list[Any] = []
    error = None
    with_earlier = takes_second(rule, "earlier") != "none"
    for index, item in enumerate(items):
        try:
            answer: Any = rule(values[index], values[:index]) if with_earlier else rule(values[index])
            kind = lazy_kind(answer)
            holds = kind is not None or bool(answer)
        except Exception as raised:
            holds = False
            if not broken:
                error = describe_error(raised)
        else:
            if kind is not None:
                raise TypeError(f"check: rule returned {kind}, which is always true; return True or False")
        if not holds:
            broken.append(item)
        if len(broken) == most:
            break
    return broken, error


def _items(subject: Any) -> tuple[list[Commit | Event], list[Any]]:
    """Return the commits or events, and the argument of the rule for each."""
    if isinstance(subject, State):
        commits = list(subject.history())
        return [*commits], [commit.after for commit in commits]
    is_list = isinstance(subject, Iterable) and not isinstance(subject, str | Mapping)
    items = list(subject) if is_list else [subject]
    for item in items:
        if not isinstance(item, Commit | Event):
            raise TypeError(
                f"check: {quote(item)} is not a commit or an event; pass a node, space.events(...), "
                "or a history"
            )
    return items, items


def _trace(item: Commit | Event, space: Space | None) -> Trace | None:
    """Return the tree of the event that caused `item`, or of `item` itself."""
    if isinstance(item, Event):
        space = _space_of(item)
    if item.cause is not None and space is not None:
        with suppress(LookupError):  # the cause is no longer stored
            return space.trace(item.cause)
    return space.trace(item) if isinstance(item, Event) and space is not None else None


def _space_of(event: Event) -> Space | None:
    runtime = runtime_of_event(event)
    return next((space for space in list(registry.spaces.values()) if runtime_of(space) is runtime), None)


# -- in every order ------------------------------------------------------------------------------------


class _BrokenOrder(NamedTuple):
    """An order that breaks the rule, and its steps until then."""

    steps: tuple[Choice, ...]
    path: list[int]
    commit: Commit
    error: str | None


def _check_orders(claim: str, what: Any, rule: Rule, trying: Any, orders: Any, seed: Any) -> Verdict:
    node = what.node if isinstance(what, State) else what
    if not isinstance(node, Node):
        raise TypeError(
            f"check: what is {quote(what)}; pass a node: trying= checks its commits in each order"
        )
    if not callable(trying):
        raise TypeError(f"check: trying is {quote(trying)}; pass a function of a space")
    orders = arguments.count(orders, "check: orders", least=1)
    seed = 0 if seed is None else arguments.count(seed, "check: seed")
    refuse_in_callback("check")
    trials = Trials(node.space, node.name, trying)
    keeps = False
    try:
        verdict = _OrderSearch(claim, rule, trials, orders, seed).verdict()
        keeps = verdict.space is not None
    finally:
        if not keeps:
            trials.drop()
    if keeps:
        _drop_with(verdict, trials.space, runtime_of(node.space))
    return verdict


class _OrderSearch:
    """The search for orders that break a rule."""

    def __init__(self, claim: str, rule: Rule, trials: Trials, orders: int, seed: int) -> None:
        self._claim = claim
        self._rule = rule
        self._trials = trials
        self._orders = orders
        self._seed = seed
        self._seen: set[Any] = set()
        self._checked = 0
        self._steps = 0
        self._breaches: list[_BrokenOrder] = []
        self._failing = 0
        self._failure: Failure | None = None

    def verdict(self) -> Verdict:
        everything = AllOrders()
        for _ in range(self._orders):
            if not everything.begin():
                break
            self._try(everything)
        else:
            everything.begin()
        if not everything.complete and everything.steady:
            self._try_others(FewChanges(self._seed, self._steps))
        shortest = min(self._breaches, key=lambda each: (len(each.steps), len(each.path)), default=None)
        # Let the space be that of this order: None if it does not break the rule again.
        kept = None if shortest is None else self._breach(self._trials.run(GivenOrder(shortest.path)))
        breaches = [breach for breach in self._breaches if breach is not shortest]
        if shortest is not None:
            breaches.insert(0, kept or shortest)
        commits = tuple(breach.commit for breach in breaches)
        error = breaches[0].error if breaches else None
        verdict = Verdict(
            self._claim,
            self._checked,
            "commit",
            commits,
            error,
            orders=len(self._seen),
            all=everything.complete,
            seed=self._seed,
            steps=breaches[0].steps if breaches else (),
            failing=self._failing,
            failure=self._failure,
        )
        if kept is not None:
            verdict.space = self._trials.space
            verdict.trace = _trace(kept.commit, verdict.space)
        if not everything.steady or (shortest is not None and kept is None):
            verdict.note = (
                "handlers took different steps in different runs: they depend on more than the space"
            )
        elif not self._checked:
            verdict.note = f'nothing was checked: no order committed to node "{self._trials.node}"'
        return verdict

    def _try_others(self, search: FewChanges) -> None:
        repeated = 0
        for _ in range(self._orders):
            search.begin()
            repeated = 0 if self._try(search) else repeated + 1
            if repeated == MAX_REPEATED:
                break

    def _try(self, search: Search) -> bool:
        """Try one order; False if it was tried before."""
        trial = self._trials.run(search)
        if trial.key in self._seen:
            return False
        self._seen.add(trial.key)
        self._steps = max(self._steps, len(trial.path))
        self._checked += len(trial.commits)
        if trial.failure is not None:
            self._failing += 1
            self._failure = self._failure or trial.failure
        breach = self._breach(trial)
        if breach is not None:
            self._breaches.append(breach)
        return True

    def _breach(self, trial: Trial) -> _BrokenOrder | None:
        commits = dict(trial.commits)
        with self._trials.redirected():
            broken, error = _broken(self._rule, [*commits], [commit.after for commit in commits], most=1)
        if not broken:
            return None
        return _BrokenOrder(tuple(trial.steps[: commits[broken[0]]]), trial.path, broken[0], error)


def _drop_with(verdict: Verdict, space: Space, original: Runtime) -> None:
    """Delete a space with its verdict, when its cell runs again, or when the original or Python ends."""
    left = [space]

    def drop() -> None:
        try:
            left.pop()  # only one thread finds it
        except IndexError:
            return
        disconnect()
        atexit.unregister(drop)
        with suppress(HappenError):  # another process has opened it
            run_blocking(drop_fork(space))

    disconnect = original.on_closing.connect(drop)
    weakref.finalize(verdict, io_thread().call_soon, original.workers.submit, drop).atexit = False
    atexit.register(drop)  # after a kill, it stays until a check needs its name
    cells.register(drop)
