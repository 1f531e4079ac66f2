"""Register handlers of events, and show which are registered."""

from __future__ import annotations

import inspect
import math
import textwrap
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from happen_nb._api.base import Displayable, Duration, RecordSequence, shown_by
from happen_nb._api.events import Event, record_of
from happen_nb._api.failures import Failure, Retried, handle_again
from happen_nb._api.history import Commit
from happen_nb._frames import refusal
from happen_nb._journal.connection import notebook_name
from happen_nb._model.arguments import UNLIMITED, check_label, count, seconds, truth
from happen_nb._model.functions import check_condition, check_event_first, check_takes, is_same
from happen_nb._model.patterns import Pattern
from happen_nb._model.positions import MAX_KEY_LENGTH, handler_key
from happen_nb._model.quoting import quote
from happen_nb._model.schedules import utc_text
from happen_nb._runtime.cells import cells, notice
from happen_nb._runtime.io import on_io, run_blocking
from happen_nb._runtime.lanes import is_catching_up
from happen_nb._runtime.registrations import Registration, Registrations
from happen_nb._runtime.ticks import LEAST_SECONDS, TYPE, tick_id
from happen_nb.errors import HistoryGoneError

if TYPE_CHECKING:
    from happen_nb._api.context import HandlerContext
    from happen_nb._api.node import Node
    from happen_nb._api.space import Space
    from happen_nb._model.records import EventRecord, OwnerRecord
    from happen_nb._runtime.attempt import Attempt
    from happen_nb._runtime.runtime import Runtime
    from happen_nb._runtime.stored_steps import DurableRun
    from happen_nb._runtime.tracebacks import CapturedError

MAX_NOTEBOOK_CHARS = 100
OWNER_REPLY_SECONDS = 0.2  # for the previous owner, to show that it is alive


class Handler(Displayable):
    """A registered handler.

    Attributes
    ----------
    node : str
        Name of the node.
    pattern : str
        Pattern of the event types that it handles.
    function : callable
        The registered function.
    name : str
        Name of the function.
    where : bool
        True if it has a filter.
    retries : int
        Maximum number of retries.
    durable : bool
        True if it runs for each event until it has completed once.
    active : bool
        True while it is registered.
    """

    _page = shown_by("reprs_events.handler_page")
    _pickle = "call node.on() in the other process"

    def __init__(self, registration: Registration) -> None:
        self._registration = registration
        self.node = registration.node
        self.pattern = registration.pattern.text
        self.function = registration.handler
        self.name = registration.name
        self.where = registration.where is not None
        self.retries = registration.retries
        self.durable = registration.is_durable

    @property
    def active(self) -> bool:
        return self._registration.active


class Handlers(RecordSequence[Handler]):
    """The handlers of a node in this process, in the order of registration."""

    _page = shown_by("reprs_events.handlers_page")
    _pickle = "call node.on() in the other process"

    def __init__(self, node: str, registrations: Sequence[Registration]) -> None:
        self.node = node
        self._items = [Handler(registration) for registration in registrations]


class Owner:
    """The process that owns a node and handles its events.

    Its text does not name the process, so that notebook outputs stay the same; `pid` and `host` do.

    Attributes
    ----------
    pid : int
        The id of the process.
    host : str
        The name of its machine.
    here : bool
        True if it is this process.
    """

    def __init__(self, record: OwnerRecord, incarnation: str) -> None:
        self.pid = record.pid
        self.host = record.host
        self.here = record.incarnation == incarnation

    def __repr__(self) -> str:
        return "this process" if self.here else "another process"


class HandlerHost:
    """Makes the arguments of handlers for the runtime, and records their failures."""

    def __init__(self, space: Space, runtime: Runtime, nodes: Mapping[str, Node]) -> None:
        self._space = space
        self._runtime = runtime
        self._nodes = nodes

    def event(self, record: EventRecord) -> Event:
        return Event(record, self._runtime)

    def context(
        self,
        node: str,
        event: Event,
        handler: str,
        used: dict[str, tuple[str, int]],
        durable: DurableRun | None,
        *,
        again: bool,
    ) -> HandlerContext:
        """Return the second argument of a handler; `used` holds the names of its event's `once` calls."""
        from happen_nb._api.context import HandlerContext

        space = self._space
        return HandlerContext(
            handler,
            used,
            durable,
            again=again,
            node=self._nodes[node],
            space=space,
            views=space.views,
            event=event,
            attempt=0,
        )

    def time_read(self, context: HandlerContext) -> str | None:
        """Return the time that a handler has read from its context; None if it has not."""
        now = context._now
        return None if now is None else utc_text(now)

    def reply(self, value: Any) -> Any:
        """Convert a handler's return value to the reply; a Commit, Event or Retried becomes None."""
        return None if isinstance(value, Commit | Event | Retried) else value

    def failed(self, attempt: Attempt, trouble: CapturedError) -> None:
        """Add the failure of a handler that has no retries left."""
        event = attempt.event
        node, name = attempt.registration.node, attempt.registration.name
        again = partial(handle_again, self._runtime, record_of(event), node, name)
        doing, number = f'handling "{event.type}"', max(1, attempt.number)
        failure = Failure(node, name, doing, event, trouble.error, again, number, event.id, trouble)
        self._space.failures.add(failure)

    def missed(self, registration: Registration, count: int) -> None:
        """Add the failure of a handler whose events expired before it could handle them."""
        node, name, space = registration.node, registration.name, self._space
        events = "1 event" if count == 1 else f"{count:,} events"
        call, handle = ("on", "handle") if registration.state is None else ("state.on", "apply")
        error = HistoryGoneError(
            f'{call}: up to {events} expired before node "{node}" could {handle} them; it '
            "continues with the stored ones. connect(event_ttl=...) keeps events longer"
        )

        def again() -> None:
            raise error

        failure = Failure(node, name, "catching up", None, error, again)
        registration.context.copy().run(space.failures.add, failure)

    def lost(self, node: str, answer: Mapping[str, Any]) -> None:
        """Notify that another process now owns a node."""
        for registration in self._runtime.registrations.of(node)[:1]:
            registration.context.copy().run(
                notice,
                f'{_notebook(answer)} now owns node "{node}"; re-run the cell that registers its '
                "handlers to reclaim it",
            )


def check_decorator(pattern: Any, call: str, function: str) -> None:
    """Refuse a decorator whose pattern is missing or not valid."""
    if callable(pattern):
        decorator, plain = f'@node.{call}("order.*")', f"node.{call}(predicate, {function})"
        raise refusal(TypeError, f"{call}: a decorator needs a pattern: write {decorator}, or {plain}")
    Pattern.of(pattern)


def call_or_decorator(register: Callable[[Any], Coroutine[Any, Any, None]], function: Any) -> Any:
    """Register a function and return it; without one, return a decorator that does."""

    def registered(function: Any) -> Any:
        run_blocking(register(function))
        return function

    return registered if function is None else registered(function)


def make_registration(
    node: str,
    pattern: Any,
    handler: Any,
    where: Any,
    retries: int,
    backoff: Duration,
    *,
    durable: bool,
    keep: bool,
    call: str = "on",
) -> Registration:
    """Check the arguments of ``node.on`` and make a registration of them."""
    if not callable(handler):
        wrong = f'{call}: the handler of node "{node}" is {quote(handler)}'
        raise refusal(TypeError, f"{wrong}; pass a function of an event")
    check_event_first(handler, f'{call}: the handler of node "{node}"')
    if where is not None:
        check_condition(where, "on: where")
    truth(durable, "on: durable")
    truth(keep, "on: keep")
    retries, backoff = count(retries, "on: retries"), seconds(backoff, "on: backoff", endless=False)
    registration = Registration(
        node,
        Pattern.of(pattern),
        handler,
        where,
        retries,
        backoff,
        run=cells.current_run(),
        place=cells.run_name(),
        keep=keep,
        is_durable=durable,
    )
    given = {"none": 1, "positional": 2, "keyword": 1}[second := registration.second()]
    check_takes(handler, f"{call}: the handler", given, ["context"] if second == "keyword" else [])
    return registration


def period_of(value: Any, call: str) -> float:
    """Return the seconds from one tick to the next."""
    period = seconds(value, f"{call}: seconds", above_zero=True, endless=False, most=math.inf)
    if period > UNLIMITED:
        raise ValueError(f"{call}: seconds is {quote(value)}; pass {UNLIMITED:,.0f} or less")
    if period < LEAST_SECONDS:
        raise ValueError(f"{call}: seconds is {quote(value)}; pass {LEAST_SECONDS} or more")
    return period


async def register_every(runtime: Runtime, node: str, period: float, handler: Any, id: Any) -> None:
    """Register a handler that is called again and again, and schedule the first call."""
    registration = make_registration(
        node, TYPE, handler, None, 0, 0.5, durable=False, keep=False, call="every"
    )
    check_tick(registration, handler_key(TYPE, handler, checked_tick_id(id, "every")), period)
    await start_ticks(runtime, registration)


def checked_tick_id(id: Any, call: str) -> str | None:
    """Check the id that identifies the calls in all processes."""
    if id is not None:
        check_label(id, f"{call}: id", most=MAX_KEY_LENGTH)
    return None if id is None else str(id)


def check_tick(registration: Registration, key: str, period: float) -> None:
    """Make a registration one of ticks."""
    registration.key, registration.period = key, period
    registration.tick = tick_id(registration.node, key)


async def start_ticks(runtime: Runtime, registration: Registration) -> None:
    """Register a handler of ticks in place of the one that another run of its cell has registered."""
    for each in runtime.registrations.of(registration.node):
        if each.tick == registration.tick and not _is_other_run(registration, each):
            raise ValueError(
                f'every: node "{registration.node}" already has an every() with {each.name}; '
                "give one of them an id of its own: every(..., id=...)"
            )
    await register(runtime, registration)
    try:
        await on_io(runtime.dispatcher.ticks.start(registration, runtime.deadline()))
    except BaseException:  # without a next call it would stand in node.handlers for nothing
        runtime.dispatcher.remove(registration)
        raise


def _is_other_run(new: Registration, old: Registration) -> bool:
    """Return True if another run of a cell has registered it; in scripts, all registrations stay."""
    return new.run is not None and old.run is not None and new.run is not old.run


async def register(runtime: Runtime, registration: Registration) -> None:
    """Register a handler in place of those that it replaces; show a notice if the node had another owner."""
    dispatcher = runtime.dispatcher
    replaced = [
        each for each in dispatcher.registrations.of(registration.node) if _replaces(registration, each)
    ]
    if registration.state is not None or registration.is_durable:
        _refuse_second(registration, dispatcher.registrations.of(registration.node), replaced)
    orphan = None
    if registration.is_durable:
        orphan = await on_io(dispatcher.durables.prepare(registration, runtime.deadline()))
    before = await on_io(dispatcher.add(registration, runtime.deadline(), replaced))
    if registration.is_durable and runtime.clock.manual:  # as for state handlers
        await on_io(runtime.in_flight.drain(is_catching_up, runtime.deadline()))
    cells.register(lambda: dispatcher.remove(registration))
    cells.note_gone(registration)
    surprising = [each for each in replaced if not each.before_fresh]
    if surprising:
        notice(_replacement(registration, surprising))
    if orphan is not None:
        node, waiting = registration.node, waiting_text(orphan.waiting)
        notice(
            f'node "{node}": no handler continues "{orphan.key}", {waiting} for it; to continue it, register '
            f"{registration.name} with that pattern and name"
        )
    if before is None or before.incarnation in (None, runtime.log.incarnation):
        return
    answer = await on_io(runtime.checked.peers.ask(before.incarnation, {}, OWNER_REPLY_SECONDS))
    if answer is not None:  # a dead process needs no notice
        notice(
            f'this process now owns node "{registration.node}" (before: {_notebook(answer)}); '
            "re-run the cell that registers its handlers there to reclaim it"
        )


def waiting_text(count: int) -> str:
    """Return how many events wait, as a part of a sentence."""
    return "1 event waits" if count == 1 else f"{count:,} events wait" if count else "no event waits"


def _refuse_second(
    new: Registration, registered: Sequence[Registration], replaced: Sequence[Registration]
) -> None:
    """Refuse a state or durable handler that the node already has: both would share one position."""
    for each in registered:
        if each not in replaced and _have_one_key(new, each):
            call, advice = "state.on", "give one of them a name: state.on(..., name=...)"
            if new.is_durable:
                call, advice = "on", "rename one of the functions"
            raise ValueError(
                f'{call}: node "{new.node}" already has "{new.pattern.text}" -> {new.name}; {advice}'
            )


def _have_one_key(new: Registration, old: Registration) -> bool:
    """Return True if two state handlers, or two durable ones, are the same for all processes."""
    of_states = new.state is not None and old.state is not None
    return (of_states or (new.is_durable and old.is_durable)) and new.key == old.key


def _replaces(new: Registration, old: Registration) -> bool:
    """Return True if another run has registered the same function with the same pattern."""
    if new.tick is not None or old.tick is not None:
        return new.tick == old.tick and _is_other_run(new, old)
    if _have_one_key(new, old):
        return _is_other_run(new, old)
    return (
        _is_other_run(new, old)
        and new.pattern.text == old.pattern.text
        and not (new.keep or old.keep)
        and (new.pattern == old.pattern or is_same(new.pattern.predicate, old.pattern.predicate))
        and is_same(new.handler, old.handler)
    )


def _replacement(new: Registration, old: Sequence[Registration]) -> str:
    places = ", ".join(dict.fromkeys(each.place for each in old))
    what = f'"{new.pattern.text}" -> {new.name}'
    keeping = "on(..., keep=True)"
    if new.tick is not None:
        keeping = "every(..., id=...)"
    elif any(_have_one_key(new, each) for each in old):
        keeping = "another function name" if new.is_durable else "state.on(..., name=..., keep=True)"
    return f'{new.place} replaces {places} on node "{new.node}": {what}; {keeping} keeps both'


def _notebook(answer: Mapping[str, Any]) -> str:
    """Name a process by its notebook. A process id would change from run to run."""
    notebook = answer.get("notebook")
    if not (isinstance(notebook, str) and notebook):
        return "another process"
    other = "another kernel of " if notebook == notebook_name() else ""
    return other + notebook[:MAX_NOTEBOOK_CHARS]


def handler_sources(registrations: Registrations, nodes: Iterable[str]) -> dict[tuple[str, str], str]:
    """Return the sources of the nodes' handlers in this process; those of one name together."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for node in nodes:
        for registration in registrations.of(node):
            source = _source(registration.current())
            if source is not None:
                found.setdefault((node, registration.name), {})[source] = None
    return {key: "\n\n".join(sources) for key, sources in found.items()}


def _source(function: Any) -> str | None:
    while isinstance(function, partial):
        function = function.func
    if not inspect.isroutine(function):
        function = type(function).__call__
    try:
        return textwrap.dedent(inspect.getsource(inspect.unwrap(function))).strip()
    except (OSError, TypeError, SyntaxError, ValueError):
        return None  # built in, or from a place without a file
