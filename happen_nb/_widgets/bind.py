"""A widget and a place in a state that say the same."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from traitlets import HasTraits, TraitType

from happen_nb._api.failures import Failure
from happen_nb._display.spans import plain
from happen_nb._display.user_text import describe_error
from happen_nb._display.value_tree import summary
from happen_nb._model.freeze import freeze
from happen_nb._model.frozen import equal, thaw
from happen_nb._model.paths import MISSING, Path, format_path, lookup, parse_path, typo_hint
from happen_nb._model.transforms import put
from happen_nb._runtime.cells import cells
from happen_nb._widgets.throttle import SLOW, Pulse
from happen_nb.errors import ClosedError, HappenError

if TYPE_CHECKING:
    from happen_nb._api.history import Commit
    from happen_nb._api.node import Node
    from happen_nb._display.live_output import Picture
    from happen_nb._model.records import CommitRecord
    from happen_nb._widgets.bound import Bound
    from happen_nb._widgets.twin import Twin

INTERVAL: Final = 0.05
"""Seconds at least between two commits."""

_PARSERS: Final[dict[str, Callable[[str], object]]] = {
    "Date": date.fromisoformat,
    "Datetime": datetime.fromisoformat,
    "Time": time.fromisoformat,
}
"""Of the kinds of traits whose values are stored as text."""

_BYTES: Final = frozenset(("Bytes", "CBytes", "ByteMemoryView", "CByteMemoryView"))
"""Kinds of traits whose values have no JSON form."""

_LIMITS: Final = ("options", "min", "max", "step", "base", "allowed_tags", "children")
"""Traits that decide what a widget can show."""

_CHOSEN: Final = frozenset(("value", "index", "label"))
"""Traits that a person sets; a widget derives them from each other."""

_WIDGETS: Final = frozenset(("traitlets", "ipywidgets", "anywidget", "contextlib"))
_VALIDATES: Final = TraitType._cross_validate.__code__
_NOTIFIES: Final = HasTraits._notify_observers.__code__

_ROOM: Final = 60


class _DeletedError(Exception):
    """The node was deleted, so nothing is committed."""


def bind(widget: Any, node: Node, path: Path, *, trait: str = "value") -> Binding:
    """Keep a widget and a place in a node's state the same, both ways.

    The state wins if it has the path; otherwise the widget's value is committed. From then on each move of
    the widget is committed, at most twenty times a second and the last value always, and the widget follows
    the commits of others. A value that the widget cannot show, such as one beyond the range of a slider, is
    marked and never written back. What a widget does itself, such as selecting the first of new options or
    lowering its value to a new maximum, is not a move and is not committed.

    Parameters
    ----------
    widget : Widget
        Any ipywidget whose value has a JSON form; a ``TimePicker`` stores text such as ``"09:30:00"``.
    node : Node
    path : str or tuple
        Where, as ``"orders.o1.status"``; missing parents are made.
    trait : str, optional
        The widget's trait that has the value.

    Returns
    -------
    Binding
        Shows the widget; ``.stop()`` ends it, and so does running the cell again.

    Raises
    ------
    TypeError
        The widget has no such trait, or holds bytes, as a ``FileUpload`` does; or that is not a node.
    PathError
        The path cannot be read, or leads through something that is no mapping.
    StateError
        The widget's value has no JSON form.

    Examples
    --------
    >>> from ipywidgets import IntSlider
    >>> slider = IntSlider(value=3, max=10)
    >>> binding = bind(slider, orders, "limits.open")
    >>> orders.state.get()
    {'limits': {'open': 3}}
    >>> binding
    Binding of orders · limits.open · IntSlider.value
      3
    """
    return Binding(widget, node, path, trait)


class Binding:
    """A widget and a place in a state; made by ``bind``.

    Attributes
    ----------
    widget : Widget
    node : Node
    path : str or tuple
    trait : str
    problem : str or None
        Why widget and state differ; None while they agree.
    """

    def __init__(self, widget: Any, node: Node, path: Path, trait: str) -> None:
        self._steps = parse_path(path)
        if not (hasattr(widget, "has_trait") and widget.has_trait(trait)):
            raise TypeError(
                f'bind: {type(widget).__name__} has no trait "{trait}"; give a widget, and trait='
            )
        if reason := _holds_bytes(widget, trait):
            raise TypeError(f"bind: {reason}")
        if not hasattr(node, "state") or not hasattr(node, "space"):
            raise TypeError(f"bind: {node!r} is no node; give what create_node returned")
        self.widget, self.node, self.path, self.trait = widget, node, path, trait
        self.problem: str | None = None
        self._hint: str | None = None
        self._lock = threading.Lock()
        self._moved: Any = MISSING
        self._showing: int | None = None
        self._known: CommitRecord | None = None
        self._tried: Any = MISSING
        self._twins: list[Twin] = []
        self._bound: Bound | None = None
        self._replica = node.space._session.replica
        node.state.set(self._begin)
        self._pulse = Pulse(node.space, self._work, INTERVAL)
        self._painter = Pulse(node.space, self._paint, SLOW, kept=True)
        self._show()
        widget.observe(self._take, names=trait)
        self._limits = [name for name in _LIMITS if name != trait and widget.has_trait(name)]
        if self._limits:
            widget.observe(self._look_again, names=self._limits)
        self._pulse.follow(self._changed)
        cells.register(self._end)

    def stop(self) -> None:
        """End it; what was done to the widget last is committed before."""
        self._leave()
        self._paint()

    def _leave(self) -> None:
        if self._pulse.stopped:
            return
        self.widget.unobserve(self._take, names=self.trait)
        if self._limits:
            self.widget.unobserve(self._look_again, names=self._limits)
        self._pulse.stop()
        self._painter.stop()
        self._commit()

    def __repr__(self) -> str:
        return self._picture()["text/plain"]

    def _ipython_display_(self) -> None:
        from happen_nb._widgets import bound, twin

        if self._bound is None:
            self._bound = bound.Bound(self.widget)
            self._bound.say(self.problem, self._hint)
        shown = twin.show(self._bound, self._picture())
        self._twins.append(shown)
        cells.register(lambda: self._twins.remove(shown))

    def _end(self) -> None:
        """The cell that made it runs again."""
        self._leave()
        bound, self._bound = self._bound, None
        if bound is not None:
            bound.close()

    # -- from the widget -----------------------------------------------------------------------------

    def _begin(self, state: Any) -> Any:
        """The transform that commits the widget's value where the state has none."""
        self._hint = None
        if lookup(state, self._steps, MISSING) is not MISSING:
            return state
        if (hint := typo_hint(state, self._steps)) is not None:
            self._hint = f"{hint}; the widget's value was committed to {format_path(self._steps)}"
        return put(self._steps, _stored(getattr(self.widget, self.trait)))(state)

    def _take(self, change: Any) -> None:
        """The widget has another value. In whatever thread set it."""
        if self._showing == threading.get_ident():
            return  # that was us
        if _sets_itself(self.widget, self.trait):
            self._look_again(change)
            return
        with self._lock:
            self._moved = change.new
        self._pulse.tell()

    def _look_again(self, _: Any) -> None:
        """The widget can show other values than before, so it may show what the state has, or no longer."""
        self._tried = MISSING
        self._pulse.tell()

    def _commit(self) -> bool:
        """Commit what was done to the widget last, if anything was; False if that failed."""
        with self._lock:
            value, self._moved = self._moved, MISSING
        if value is MISSING:
            return True
        try:
            after = self._set(value).after
        except _DeletedError:
            self._show()
            return False
        except BaseException as error:  # whatever it is, nobody waits here
            self._mark(f"not committed: {describe_error(error)}")
            self._failed("committing", error, partial(self._set, value))
            return False
        self._tried = lookup(after, self._steps, MISSING)  # it came from the widget, which may have moved on
        self._mark(None)
        return True

    def _set(self, value: Any) -> Commit:
        transform = put(self._steps, _stored(value))

        def move(state: Any) -> Any:
            if self._is_deleted:
                raise _DeletedError
            return transform(state)

        return self.node.state.set(move)

    @property
    def _is_deleted(self) -> bool:
        """Whether the node was deleted: moving a widget does not create it again."""
        newest = self._replica.newest(self.node.name)
        return newest is not None and newest.deleted

    # -- to the widget -------------------------------------------------------------------------------

    def _changed(self) -> bool:
        return self._replica.newest(self.node.name) is not self._known

    def _work(self) -> None:
        """One turn: what was done to the widget goes first."""
        if self._moved is not MISSING:
            self._tried = MISSING
            if not self._commit():
                return
        if self._moved is MISSING:
            self._show()

    def _show(self) -> None:
        """Let the widget show what the state has; what it has tried in vain is not tried again."""
        self._known = self._replica.newest(self.node.name)
        try:
            state = self.node.state.get()
        except ClosedError:
            raise
        except HappenError as error:
            self._mark(describe_error(error))
            return
        value = lookup(state, self._steps, MISSING)
        if self._is_deleted:
            self._mark(f'node "{self.node.name}" was deleted; create it again to use this {self._kind}')
        elif value is MISSING:
            hint = typo_hint(state, self._steps)
            self._mark("the state has no such place any more" + (f": {hint}" if hint else ""))
        elif self._tried is MISSING or not equal(self._tried, value):
            self._mark(None if self._shows(value) else self._cannot(value))
        self._tried = value

    def _shows(self, value: Any) -> bool:
        """Whether the widget has the value, by now."""
        if alike(self._value(), value):
            return True
        for candidate in candidates(self.widget, self.trait, value):
            self._showing = threading.get_ident()
            try:
                setattr(self.widget, self.trait, candidate)
            except BaseException as error:  # a TraitError, or what its observers raise
                if alike(self._value(), value):
                    self._failed("observing", error, partial(self._shows, value))
            finally:
                self._showing = None
            if alike(self._value(), value):
                return True
        return False

    def _value(self) -> Any:
        """What the widget has, as JSON; MISSING if that has no such form."""
        try:
            return freeze(_stored(getattr(self.widget, self.trait)))
        except Exception:  # a StateError, or what the value's own methods raise
            return MISSING

    def _cannot(self, value: Any) -> str:
        return f"the state has {plain(summary(value, _ROOM))}, which this {self._kind} cannot show"

    # -- what is said about it -----------------------------------------------------------------------

    @property
    def _kind(self) -> str:
        return type(self.widget).__name__

    def _failed(self, doing: str, error: BaseException, again: Callable[[], object]) -> None:
        doing = f'{doing} "{format_path(self._steps)}"'
        self.node.space.failures.add(Failure(self.node.name, self._kind, doing, None, error, again))

    def _mark(self, problem: str | None) -> None:
        from happen_nb._widgets import bound

        if problem != self.problem:
            bound.outline(self.widget, on=problem is not None)
        self.problem = problem
        if self._bound is not None:
            self._bound.say(problem, self._hint)
        self._painter.tell()

    def _paint(self) -> None:
        """Keep what can be read without the kernel."""
        picture = self._picture()
        for each in list(self._twins):
            each.update(picture)

    def _picture(self) -> Picture:
        from happen_nb._widgets import bound

        where = format_path(self._steps), f"{self._kind}.{self.trait}"
        return bound.picture(self.node.name, *where, self._value(), self.problem, self._hint)


def alike(shown: Any, value: Any) -> bool:
    """Whether a widget shows a value: it is equal, where 3 and 3.0 are.

    Examples
    --------
    >>> alike([1, 2.0], [1.0, 2]), alike(True, 1), alike("1", 1)
    (True, False, False)
    """
    if _is_number(shown) and _is_number(value):
        return bool(shown == value)
    if isinstance(shown, list) and isinstance(value, list):
        return len(shown) == len(value) and all(map(alike, shown, value))
    return shown is not MISSING and equal(shown, value)


def candidates(widget: Any, trait: str, value: Any) -> Iterator[Any]:
    """What may be given to a widget so that it shows a stored value: what had this JSON form, too."""
    parse = _PARSERS.get(type(widget.traits()[trait]).__name__)
    if parse is None:
        yield thaw(value)
    elif value is None:
        yield None
    elif isinstance(value, str):
        with contextlib.suppress(ValueError):
            yield parse(value)
    options = getattr(widget, "_options_values", ())
    if isinstance(value, list):
        yield tuple(next((o for o in options if _is_stored_as(o, item)), item) for item in value)
    yield from (option for option in options if _is_stored_as(option, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_stored_as(option: Any, value: Any) -> bool:
    try:
        return alike(freeze(_stored(option)), value)
    except Exception:  # an option is any object
        return False


def _stored(value: Any) -> Any:
    """A widget's value as it is stored: of the time of a day there is one obvious form here, its text."""
    return value.isoformat() if isinstance(value, time) else value


def _holds_bytes(widget: Any, trait: str) -> str | None:
    """Why a trait cannot be bound, as it holds bytes; None if it does not."""
    kind = type(widget).__name__
    if kind != "FileUpload" and type(widget.traits()[trait]).__name__ not in _BYTES:
        return None
    if kind == "FileUpload" and trait != "value":
        return None
    return (
        f"{kind}.{trait} holds bytes, which have no JSON form; "
        f'use {kind.lower()}.observe(function, "{trait}") '
        "and commit what you need of them, such as a name, a text or base64"
    )


def _sets_itself(widget: Any, trait: str) -> bool:
    """Whether the widget sets a trait itself, since what it can show has changed: nobody chose the value.

    New options select the first one, and a lower maximum moves the value. Traitlets does not tell that from
    a person's choice, so this looks for the setting of another trait of the widget that led here, without
    any other code in between.
    """
    frame = sys._getframe(1).f_back
    chosen = _CHOSEN | {trait}
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _WIDGETS:
        here = frame.f_locals
        if frame.f_code is _VALIDATES and here["obj"] is widget and here["self"].name not in chosen:
            return True
        if frame.f_code is _NOTIFIES and here["self"] is widget and here["event"]["name"] not in chosen:
            return True
        frame = frame.f_back
    return False
