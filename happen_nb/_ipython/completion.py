"""What fits at the cursor: nodes, event types and paths, from what this process knows without asking anyone.

Nothing of the cell is evaluated. A name is looked up in the notebook's namespace, and only objects of ours
are followed from there; one that is not defined, as a lambda's parameter, is taken for the current space's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from types import FunctionType, ModuleType
from typing import Any, Final

from happen_nb._api.connect import create_node, current, registry
from happen_nb._api.node import Node, Nodes
from happen_nb._api.space import Space
from happen_nb._api.state import State
from happen_nb._api.views import View, Views
from happen_nb._ipython import candidates as known
from happen_nb._ipython.context import Attribute, Call, Chain, Text, at_cursor, quoted, whole_chain
from happen_nb._model.patterns import Pattern
from happen_nb._model.transforms import put
from happen_nb._widgets.bind import bind

Types = Callable[[Space], Iterable[str]]
"""Gives the event types that came by in a space."""

MOST: Final = 500
"""Completions that are offered."""

_MAGIC: Final = re.compile(r"\s*%happen[ \t]+(\S*)")
_UNKNOWN: Final = object()
"""Stands for what a name is that is not defined."""

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
"""Method -> whose it is, and its first parameters."""
_FUNCTIONS: Final[tuple[tuple[object, tuple[str, ...]], ...]] = (
    (put, ("path",)),
    (bind, ("widget", "node", "path")),
    (create_node, ("name",)),
)
_FOLLOWED: Final = (Space, Node, Nodes, State, View, Views, ModuleType, FunctionType)
_OURS: Final = frozenset((".send", ".asend", ".broadcast", ".abroadcast", ".on"))
"""Methods that are ours also where it is not known what they are called on."""
_PARTS: Final[tuple[tuple[type, frozenset[str]], ...]] = (
    (Space, frozenset((".views", ".nodes"))),
    (Node, frozenset((".space", ".state"))),
    (State, frozenset((".node",))),
    (Views, frozenset((".space",))),
)


@dataclass(frozen=True, slots=True)
class Offer:
    """What could be at the cursor.

    Attributes
    ----------
    source : str
        The end of what is typed, which they replace.
    kinds : dict of str to str
        What could stand there -> ``"node"``, ``"event"``, ``"path"``, ``"function"`` or ``"property"``.
    """

    source: str
    kinds: dict[str, str]


def offer(code: str, names: Mapping[str, Any], types: Types) -> Offer | None:
    """What could be completed at the end of `code`; None if that is nothing of ours.

    Parameters
    ----------
    code : str
        The cell up to the cursor.
    names : mapping of str to object
        The notebook's namespace.
    types : callable
        Space -> the event types that came by there.

    Examples
    --------
    >>> commit = orders.state.set({"o1": {"status": "open", "sum": 3}})
    >>> offer('orders.state.get("o1.', {"orders": orders}, lambda space: [])
    Offer(source='o1.', kinds={'o1.status': 'path', 'o1.sum': 'path'})
    """
    magic = _MAGIC.fullmatch(code.rpartition("\n")[2])
    if magic:
        return _fitting(magic[1], magic[1], "node", known.node_names(registry.current))
    place = at_cursor(code)
    asked = _Asked(names, types)
    if isinstance(place, Attribute):
        return asked.attribute(place)
    return None if place is None else asked.text(place)


class _Asked:
    """One look at what is known."""

    def __init__(self, names: Mapping[str, Any], types: Types) -> None:
        self._names = names
        self._types = types

    def attribute(self, place: Attribute) -> Offer | None:
        """A node, or what else views have; what a view has too, where IPython does not see that it is one."""
        owner = self._object(place.owner)
        if not isinstance(owner, Views | View):
            return None
        kind = Views if isinstance(owner, Views) else View
        members = [name for name in dir(owner) if place.source[:1] == "_" or not name.startswith("_")]
        kinds = {name: _kind(kind, name) for name in members if name.startswith(place.source)}
        return Offer(place.source, dict(sorted(kinds.items(), key=lambda item: item[1] != "node")))

    def text(self, place: Text) -> Offer | None:
        """A key, or the argument of a call."""
        asked = self._key(place.key_of) if place.key_of else self._argument(place)
        return None if asked is None else _fitting(place.source, place.text, *asked, place.written)

    def _key(self, chain: Chain) -> tuple[str, Iterable[str]] | None:
        """The nodes, if it is a key of what has them."""
        owner = self._object(chain)
        return ("node", owner) if isinstance(owner, Views | Nodes) else None

    # -- the argument of a call ----------------------------------------------------------------------

    def _argument(self, place: Text) -> tuple[str, Iterable[str]] | None:
        """The kind of what is asked for, and what there is of it."""
        call = place.calls[0]
        on, parameters = self._called(call.callee)
        parameter = call.parameter(parameters)
        given = call.given(parameters)
        if parameter == "path":
            on = self._state_of_path(place.calls, given)
        space, node = _owner(on)
        if space is None or parameter not in parameters:
            return None
        if parameter in {"target", "name"}:
            return "node", known.node_names(space)
        if parameter == "type":
            return "event", self._event_types(space, self._node_name(given.get("target", "")))
        if parameter == "pattern":
            return "event", sorted({*self._types(space), *known.patterns(space)})
        if parameter in {"selector", "path"}:
            return "path", known.paths(known.states(space, node), place.text)
        return None

    def _called(self, callee: Chain) -> tuple[object, tuple[str, ...]]:
        """What a call is made on, and the parameters in which something of ours can be."""
        function = self._object(callee)
        for one, parameters in _FUNCTIONS:
            if function is one:
                return _UNKNOWN, parameters
        kinds, parameters = _METHODS.get(callee[-1] if callee[1:] else "", ((), ()))
        on = self._object(callee[:-1])
        if isinstance(on, kinds):
            return on, parameters
        ours = callee[-1:] and (callee[-1] in _OURS or callee[-2:-1] == (".state",))
        return (on, parameters) if on is _UNKNOWN and ours else (None, ())

    def _state_of_path(self, calls: tuple[Call, ...], given: Mapping[str, str]) -> object:
        """What has the state that a path of ``put`` or ``bind`` leads into."""
        if "node" in given:
            return self._object(whole_chain(given["node"]))
        for outer in calls[1:]:
            on = self._object(outer.callee[:-1])
            if isinstance(on, State) and outer.callee[-1] in {".set", ".aset"}:
                return on
        return _UNKNOWN

    def _event_types(self, space: Space, target: str | None) -> Iterable[str]:
        """All that are known, those that the target takes first."""
        spelled = (type for pattern in known.patterns(space) for type in known.spelled(pattern))
        types = sorted({*self._types(space), *spelled})
        if target is None:
            return types
        patterns = [Pattern.of(pattern) for pattern in known.patterns(space, target)]
        taken = [type for type in types if any(pattern.matches(type) for pattern in patterns)]
        return [*taken, *types]

    # -- names ---------------------------------------------------------------------------------------

    def _node_name(self, source: str) -> str | None:
        """The node that an argument means."""
        text = quoted(source)
        if text is not None:
            return text
        _, name = _owner(self._object(whole_chain(source)))
        return name

    def _object(self, chain: Chain) -> object:
        """What is meant, if it is of ours or a name of the notebook; `_UNKNOWN` if it is not defined yet."""
        if not chain:
            return None
        head, *steps = chain
        value = self._names.get(head, _UNKNOWN)
        if value is _UNKNOWN:
            value = _step(_UNKNOWN, f".{head}")
        elif not issubclass(type(value), _FOLLOWED):  # a proxy is asked what it is by isinstance
            return None
        for step in steps:
            value = _step(value, step)
        return value


def _step(value: object, step: str) -> object:
    """What comes of one step, by looking only."""
    if value is _UNKNOWN:
        space = registry.current
        return {".space": space, ".views": space and space.views}.get(step, _UNKNOWN)
    if value is sys.modules["happen_nb"]:
        return vars(value).get(step[1:])
    if value is current:
        return registry.current
    if any(isinstance(value, kind) and step in parts for kind, parts in _PARTS):
        return getattr(value, step[1:])
    if isinstance(value, Nodes) and step.startswith("["):
        return value.get(step[1:])
    name = value._find(step[1:]) if isinstance(value, Views) else None
    return value[name] if isinstance(value, Views) and name is not None else None


def _kind(owner: type, name: str) -> str:
    """What a front end calls an attribute."""
    if not hasattr(owner, name):
        return "node" if owner is Views else "property"
    return "function" if callable(getattr(owner, name)) else "property"


def _owner(on: object) -> tuple[Space | None, str | None]:
    """The space that something is of, and the node if it is of one."""
    match on:
        case Space():
            return on, None
        case Node():
            return on.space, on.name
        case State():
            return on._space, on._name
        case View():
            return on._views._space, on.name
        case None:
            return None, None
    return registry.current, None


def _fitting(
    source: str,
    typed: str,
    kind: str,
    texts: Iterable[str],
    written: Callable[[str], str | None] = str,
) -> Offer:
    """Those of the texts that what is typed can become."""
    fitting = (written(text) for text in texts if text.startswith(typed))
    return Offer(source, dict.fromkeys(islice(filter(None, fitting), MOST), kind))
