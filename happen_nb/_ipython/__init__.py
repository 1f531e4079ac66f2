"""The IPython extension: ``%happen``, and completions of nodes, event types and paths at the cursor.

Completions come from what this process knows without any request. Nothing in the cell is evaluated. A name is
looked up in the notebook's namespace, and only objects of this library are followed from there. A name that
is not defined, such as a lambda's parameter, is assumed to belong to the current space.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from happen_nb._api.base import runtime_of
from happen_nb._api.connect import create_node, current
from happen_nb._api.node import Node, Nodes
from happen_nb._api.registry import registry
from happen_nb._api.space import Space
from happen_nb._api.state import State
from happen_nb._api.views import View, Views, find_view, space_of_view
from happen_nb._ipython.cursor import Attribute, Call, Chain, Text, at_cursor, quoted, whole_chain
from happen_nb._journal.slice import read_window
from happen_nb._model.paths import lookup
from happen_nb._model.patterns import Pattern, expand_braces
from happen_nb._model.records import EventRecord
from happen_nb._model.transforms import put
from happen_nb._runtime.io import io_thread
from happen_nb._widgets.bind import bind
from happen_nb.errors import HappenError, UnknownNodeError

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext, SimpleMatcherResult

    from happen_nb._model.frozen import FrozenDict
    from happen_nb._runtime.log import Log


_log = logging.getLogger("happen_nb")

RecentTypes = Callable[[Space], Iterable[str]]  # returns the recent event types of a space

MAX_COMPLETIONS: Final = 500
_MAX_STATES: Final = 200  # that are searched for paths if the node is not known
_MAX_EXPANSIONS: Final = 100  # of the braces of one pattern
_MAX_TYPES: Final = 1000  # that are remembered per space
_READ_MESSAGES: Final = 1000  # at the end of the journal, for their event types

_MAGIC: Final = re.compile(r"\s*%happen[ \t]+(\S*)")
_UNDEFINED: Final = object()  # stands for the value of a name that is not defined

_METHODS: Final[dict[str, tuple[tuple[type, ...], tuple[str, ...]]]] = {
    **dict.fromkeys((".send", ".asend"), ((Space, Node), ("target", "type"))),
    **dict.fromkeys((".broadcast", ".abroadcast"), ((Space, Node), ("type",))),
    **dict.fromkeys((".on", ".off"), ((Node,), ("pattern",))),
    **dict.fromkeys(
        (".wait_for", ".await_for", ".events", ".aevents", ".timeline"), ((Space,), ("pattern",))
    ),
    **dict.fromkeys((".create_node", ".acreate_node"), ((Space,), ("name",))),
    **dict.fromkeys((".get", ".aget", ".live"), ((State, View), ("selector",))),
}
"""Method -> the types that have it, and its first parameters."""
_FUNCTIONS: Final[tuple[tuple[object, tuple[str, ...]], ...]] = (
    (put, ("path",)),
    (bind, ("widget", "node", "path")),
    (create_node, ("name",)),
)
_FOLLOWED: Final = (Space, Node, Nodes, State, View, Views, ModuleType, FunctionType)
_UNMISTAKABLE: Final = frozenset((".send", ".asend", ".broadcast", ".abroadcast", ".on"))
"""Methods that are completed on undefined names too."""
_ATTRIBUTES: Final[tuple[tuple[type, frozenset[str]], ...]] = (
    (Space, frozenset((".views", ".nodes"))),
    (Node, frozenset((".space", ".state"))),
    (State, frozenset((".node",))),
    (Views, frozenset((".space",))),
)


class Completions(NamedTuple):
    """The completions at the cursor."""

    source: str  # the text before the cursor that a completion replaces
    kinds: dict[str, str]  # completion -> "node", "event", "path", "function" or "property"


def offer(code: str, names: Mapping[str, Any], recent_types: RecentTypes) -> Completions | None:
    """Return the completions at the end of `code`, the cell up to the cursor; None if there are none.

    `names` is the notebook's namespace.

    Examples
    --------
    >>> commit = orders.state.set({"o1": {"status": "open", "sum": 3}})
    >>> offer('orders.state.get("o1.', {"orders": orders}, lambda space: [])
    Completions(source='o1.', kinds={'o1.status': 'path', 'o1.sum': 'path'})
    """
    magic = _MAGIC.fullmatch(code.rpartition("\n")[2])
    if magic:
        return _matching(magic[1], magic[1], "node", _node_names(registry.current))
    place = at_cursor(code)
    completer = _Completer(names, recent_types)
    if isinstance(place, Attribute):
        return completer.attribute(place)
    return None if place is None else completer.text(place)


class _Completer:
    def __init__(self, names: Mapping[str, Any], recent_types: RecentTypes) -> None:
        self._names = names
        self._recent_types = recent_types

    def attribute(self, place: Attribute) -> Completions | None:
        """Complete an attribute of views or of a view, also where IPython cannot infer that it is one."""
        owner = self._object(place.owner)
        if not isinstance(owner, Views | View):
            return None
        kind = Views if isinstance(owner, Views) else View
        members = [name for name in dir(owner) if place.source[:1] == "_" or not name.startswith("_")]
        kinds = {name: _kind(kind, name) for name in members if name.startswith(place.source)}
        return Completions(place.source, dict(sorted(kinds.items(), key=lambda item: item[1] != "node")))

    def text(self, place: Text) -> Completions | None:
        """Complete a string that is a key or an argument of a call."""
        if not place.key_of:
            found = self._argument(place)
            return None if found is None else _matching(place.source, place.text, *found, place.escape)
        owner = self._object(place.key_of)
        if not isinstance(owner, Views | Nodes):
            return None
        return _matching(place.source, place.text, "node", owner, place.escape)

    # -- the argument of a call ----------------------------------------------------------------------

    def _argument(self, place: Text) -> tuple[str, Iterable[str]] | None:
        """Return the kind of the argument and its possible values."""
        call = place.calls[0]
        on, parameters = self._called(call.callee)
        parameter = call.parameter(parameters)
        given = call.given(parameters)
        if parameter == "path":
            on = self._owner_of_path(place.calls, given)
        space, node = _space_and_node(on)
        if space is None or parameter not in parameters:
            return None
        if parameter in {"target", "name"}:
            return "node", _node_names(space)
        if parameter == "type":
            return "event", self._event_types(space, self._node_name(given.get("target", "")))
        if parameter == "pattern":
            return "event", sorted({*self._recent_types(space), *_patterns(space)})
        if parameter in {"selector", "path"}:
            return "path", _paths(_states(space, node), place.text)
        return None

    def _called(self, callee: Chain) -> tuple[object, tuple[str, ...]]:
        """Return the object that a method is called on, and the parameters that can be completed."""
        function = self._object(callee)
        for one, parameters in _FUNCTIONS:
            if function is one:
                return _UNDEFINED, parameters
        kinds, parameters = _METHODS.get(callee[-1] if callee[1:] else "", ((), ()))
        on = self._object(callee[:-1])
        if isinstance(on, kinds):
            return on, parameters
        is_ours = callee[-1:] and (callee[-1] in _UNMISTAKABLE or callee[-2:-1] == (".state",))
        return (on, parameters) if on is _UNDEFINED and is_ours else (None, ())

    def _owner_of_path(self, calls: tuple[Call, ...], given: Mapping[str, str]) -> object:
        """Return the object whose state a path of ``put`` or ``bind`` leads into."""
        if "node" in given:
            return self._object(whole_chain(given["node"]))
        for outer in calls[1:]:
            on = self._object(outer.callee[:-1])
            if isinstance(on, State) and outer.callee[-1] in {".set", ".aset"}:
                return on
        return _UNDEFINED

    def _event_types(self, space: Space, target: str | None) -> Iterable[str]:
        """Return all known types, those that the target handles first."""
        expanded = (text for each in _patterns(space) for text in expand_braces(each, _MAX_EXPANSIONS))
        exact = (text for text in expanded if not set("*{}") & set(text))
        types = sorted({*self._recent_types(space), *exact})
        if target is None:
            return types
        patterns = [Pattern.of(pattern) for pattern in _patterns(space, target)]
        handled = [type for type in types if any(pattern.matches(type) for pattern in patterns)]
        return [*handled, *types]

    # -- names ---------------------------------------------------------------------------------------

    def _node_name(self, source: str) -> str | None:
        text = quoted(source)
        return text if text is not None else _space_and_node(self._object(whole_chain(source)))[1]

    def _object(self, chain: Chain) -> object:
        """Return the object that a chain denotes; `_UNDEFINED` for a name that is not defined."""
        if not chain:
            return None
        head, *steps = chain
        value = self._names.get(head, _UNDEFINED)
        if value is _UNDEFINED:
            value = _follow(_UNDEFINED, f".{head}")
        elif not issubclass(type(value), _FOLLOWED):  # isinstance would run code of a proxy object
            return None
        for step in steps:
            value = _follow(value, step)
        return value


def _follow(value: object, step: str) -> object:
    """Follow one step of a chain without running any code of the user's."""
    if value is _UNDEFINED:
        space = registry.current
        return {".space": space, ".views": space and space.views}.get(step, _UNDEFINED)
    if value is sys.modules["happen_nb"]:
        return vars(value).get(step[1:])
    if value is current:
        return registry.current
    if any(isinstance(value, kind) and step in attributes for kind, attributes in _ATTRIBUTES):
        return getattr(value, step[1:])
    if isinstance(value, Nodes) and step.startswith("["):
        return value.get(step[1:])
    return find_view(value, step[1:]) if isinstance(value, Views) else None


def _kind(owner: type, name: str) -> str:
    if not hasattr(owner, name):
        return "node" if owner is Views else "property"
    return "function" if callable(getattr(owner, name)) else "property"


def _space_and_node(on: object) -> tuple[Space | None, str | None]:
    """Return the space of an object, and the node if it belongs to one."""
    match on:
        case Space():
            return on, None
        case Node():
            return on.space, on.name
        case State():
            return on.node.space, on.node.name
        case View():
            return space_of_view(on), on.name
        case None:
            return None, None
    return registry.current, None


def _matching(
    source: str, typed: str, kind: str, texts: Iterable[str], escape: Callable[[str], str | None] = str
) -> Completions:
    matching = (escape(text) for text in texts if text.startswith(typed))
    return Completions(source, dict.fromkeys(islice(filter(None, matching), MAX_COMPLETIONS), kind))


# -- what this process knows of a space ----------------------------------------------------------------


def _node_names(space: Space | None) -> list[str]:
    """Return the nodes of a space, those that have handlers first."""
    if space is None:
        return []
    return [*sorted(runtime_of(space).ownership.names()), *space.views]


def _patterns(space: Space, node: str | None = None) -> Iterator[str]:
    runtime = runtime_of(space)
    for owner in runtime.ownership.all():
        if node in {None, owner.node}:
            yield from owner.patterns
            yield from runtime.registrations.patterns(owner.node)


def _states(space: Space, node: str | None) -> Iterator[FrozenDict]:
    records = runtime_of(space).log.replica.cut().nodes
    names = islice(records, _MAX_STATES) if node is None else [node]
    for record in filter(None, map(records.get, names)):
        try:
            yield record.state
        except HappenError as error:  # another client stored something that is not a state
            _log.debug("the paths of node %s: %s", record.node, error)


def _paths(states: Iterable[FrozenDict], typed: str) -> Iterator[str]:
    """Yield the paths that extend the typed text, up to its last dot, by one step."""
    *steps, _ = typed.split(".")
    before = "".join(f"{step}." for step in steps)
    for state in states if "" not in steps else ():
        inner = lookup(state, tuple(steps))
        if isinstance(inner, dict):
            yield from (f"{before}{key}" for key in inner if key and "." not in key)
        elif isinstance(inner, list):
            yield from (f"{before}{index}" for index in range(len(inner)))


class SeenTypes:
    """The event types at the end of the journal of a space, and those that arrive from now on."""

    def __init__(self, log: Log) -> None:
        self._types: dict[str, None] = {}
        self._unlisten: Callable[[], object] | None = None
        io_thread().call_soon(self._start, log)

    def all(self) -> list[str]:
        """Return the types, the most recent last. Call it from any thread."""
        return list(self._types)

    def stop(self) -> None:
        io_thread().call_soon(self._stop)

    def _start(self, log: Log) -> None:
        self._unlisten = log.on_event.connect(self._add)
        log.background(self._read(log))

    def _stop(self) -> None:
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None

    def _add(self, event: EventRecord) -> None:
        self._types.pop(event.type, None)
        self._types[event.type] = None
        if len(self._types) > _MAX_TYPES:
            del self._types[next(iter(self._types))]

    async def _read(self, log: Log) -> None:
        try:
            info = await log.stream.info()
            start = max(info.first, info.last - _READ_MESSAGES + 1)
            entries = await read_window(log.stream, start, info.last)
        except HappenError as error:
            _log.debug("the event types of the journal: %s", error)
            return
        stored = [entry.type for entry in entries if isinstance(entry, EventRecord)]
        self._types = dict.fromkeys([*stored, *self._types])


# -- the extension -------------------------------------------------------------------------------------


MATCHER: Final = "happen_nb"  # its name in IPython's ``disable_matchers``
PRIORITY: Final = 1000.0  # above IPython's own matchers


class Extension:
    """Completion and ``%happen`` in one IPython shell, until `unload`."""

    def __init__(self, shell: Any) -> None:
        from IPython.core.completer import context_matcher

        self._shell = shell
        self._seen: dict[Space, SeenTypes] = {}

        def matcher(context: CompletionContext) -> SimpleMatcherResult:
            return self._complete(context)

        self._matcher = context_matcher(identifier=MATCHER, priority=PRIORITY)(matcher)
        self._shell.Completer.custom_matchers.append(self._matcher)
        self._shell.register_magic_function(self.show, "line", "happen")
        self._shell.events.register("post_run_cell", self._follow_spaces)
        self._follow_spaces()

    def unload(self) -> None:
        self._shell.Completer.custom_matchers.remove(self._matcher)
        self._shell.magics_manager.magics["line"].pop("happen", None)
        self._shell.events.unregister("post_run_cell", self._follow_spaces)
        for seen in self._seen.values():
            seen.stop()
        self._seen.clear()

    # -- %happen -------------------------------------------------------------------------------------

    def show(self, line: str) -> Space | Node | View | None:
        """Show the current space, or one of its nodes.

        Examples
        --------
        ``%happen`` shows the space, ``%happen orders`` the node "orders", in whatever process it runs.
        """
        from IPython.core.error import UsageError

        space, name = registry.current, line.strip().strip("'\"")
        if space is None:
            sys.stdout.write("no space is connected; connect to one with happen_nb.connect()\n")
            return None
        if not name:
            return space
        try:
            return space.nodes[name] if name in space.nodes else space.views[name]
        except UnknownNodeError as error:
            raise UsageError(f"%happen: {error}") from None

    # -- completion ----------------------------------------------------------------------------------

    def _complete(self, context: CompletionContext) -> SimpleMatcherResult:
        # Where this library knows the completions, it suppresses those of IPython.
        from IPython.core.completer import SimpleCompletion

        lines = context.full_text.split("\n")[: context.cursor_line]
        code = "\n".join([*lines, context.text_until_cursor])
        try:
            found = offer(code, self._shell.user_ns, self._types)
        except Exception as error:  # completion must never print a traceback
            _log.debug("completion: %r", error)
            found = None
        if found is None or not found.kinds:
            return {"completions": [], "matched_fragment": ""}
        completions = [SimpleCompletion(text, type=kind) for text, kind in found.kinds.items()]
        result: SimpleMatcherResult = {"completions": completions, "matched_fragment": found.source}
        return {**result, "ordered": True, "suppress": True}

    def _types(self, space: Space) -> list[str]:
        self._follow_spaces()
        return self._seen[space].all() if space in self._seen else []

    def _follow_spaces(self, _: object = None) -> None:
        connected = [space for space in list(registry.spaces.values()) if runtime_of(space).is_open]
        for space in connected:
            if space not in self._seen:
                self._seen[space] = SeenTypes(runtime_of(space).log)
        for space in self._seen.keys() - set(connected):
            self._seen.pop(space, None)  # closed


_loaded: dict[Any, Extension] = {}


def load(shell: Any) -> None:
    """Load the extension into an IPython shell, unless it is loaded."""
    if shell not in _loaded:
        _loaded[shell] = Extension(shell)


def unload(shell: Any) -> None:
    extension = _loaded.pop(shell, None)
    if extension is not None:
        extension.unload()
