"""Two-way bindings between a widget and a path in a state."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections import deque
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, WeakSet

from happen_nb._api.base import runtime_of
from happen_nb._api.failures import Failure
from happen_nb._frames import refusal
from happen_nb._model.freeze import freeze
from happen_nb._model.frozen import equal, thaw
from happen_nb._model.functions import attribute
from happen_nb._model.paths import MISSING, Path, format_path, lookup, parse_path, typo_hint
from happen_nb._model.quoting import quote
from happen_nb._model.transforms import put
from happen_nb._runtime.cells import cells
from happen_nb.errors import ClosedError, HappenError

if TYPE_CHECKING:
    from happen_nb._api.history import Commit
    from happen_nb._api.node import Node
    from happen_nb._display import Kind
    from happen_nb._display.live_output import Picture
    from happen_nb._display.page import Block
    from happen_nb._model.records import CommitRecord
    from happen_nb._widgets.panes import BindingView


COMMIT_INTERVAL_SECONDS: Final = 0.05
_MAX_VALUE_COLUMNS, _MAX_NOTE_COLUMNS = 60, 300

# Kinds of traits whose values are stored as text.
_PARSERS: Final[dict[str, Callable[[str], object]]] = {
    "Date": date.fromisoformat,
    "Datetime": datetime.fromisoformat,
    "Time": time.fromisoformat,
}
_BYTES_TRAITS: Final = frozenset(("Bytes", "CBytes", "ByteMemoryView", "CByteMemoryView"))

_LIMITS: Final = ("options", "min", "max", "step", "base", "allowed_tags", "children")
"""Traits that decide which values a widget can show."""
_CHOSEN: Final = frozenset(("value", "index", "label"))
"""Traits that the user sets; a widget derives them from each other."""
_WIDGET_PACKAGES: Final = frozenset(("traitlets", "ipywidgets", "anywidget", "contextlib"))

_OUTLINE: Final = "1px dashed var(--jp-error-color1, #b3261e)"
_SIDES: Final = ("border_top", "border_right", "border_bottom", "border_left")
_original_borders: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()
_disabled: WeakSet[Any] = WeakSet()  # widgets that were disabled when their space was closed


class _DeletedError(Exception):
    """The node was deleted, so nothing is committed."""


def bind(widget: Any, node: Node, path: Path, *, trait: str = "value") -> Binding:
    """Keep a widget and a path in a node's state equal, in both directions.

    If the state has the path, the state wins; otherwise the widget's value is committed. From then on, each
    change by the user is committed, at most twenty times a second and always the last value, and the widget
    follows the commits of others. A value that the widget cannot show, such as one beyond the range of a
    slider, is marked and never written back. Changes that the widget makes automatically, such as selecting
    the first of new options or lowering its value to a new maximum, are not committed. Closing the space
    disables the widget.

    Parameters
    ----------
    widget : Widget
        Any ipywidget whose value has a JSON form; a ``TimePicker`` stores text such as ``"09:30:00"``.
    node : Node
    path : str or tuple
        For example ``"orders.o1.status"``; missing parents are created.
    trait : str, optional
        The widget's trait that holds the value.

    Returns
    -------
    Binding
        Displays the widget; ``.stop()`` or running the cell again ends the binding.

    Raises
    ------
    TypeError
        The widget has no such trait or holds bytes, as a ``FileUpload`` does; or `node` is not a node.
    PathError
        The path is malformed, or leads through a value that is not a mapping.
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
    """A two-way binding between a widget and a path in a state; made by ``bind``.

    Attributes
    ----------
    widget : Widget
    node : Node
    path : str or tuple
    trait : str
    problem : str or None
        The reason why widget and state differ; None while they agree.
    """

    def __init__(self, widget: Any, node: Node, path: Path, trait: str) -> None:
        from happen_nb._widgets.following import StaticFallback, Throttle

        self._steps = parse_path(path)
        if not isinstance(trait, str):
            raise refusal(TypeError, f"bind: trait is {quote(trait)}; pass the name of a trait of the widget")
        if not (attribute(widget, "has_trait") and widget.has_trait(trait)):
            raise refusal(
                TypeError, f'bind: {type(widget).__name__} has no trait "{trait}"; pass a widget, and trait='
            )
        if reason := _holds_bytes(widget, trait):
            raise refusal(TypeError, f"bind: {reason}")
        if attribute(node, "state") is None or attribute(node, "space") is None:
            raise refusal(TypeError, f"bind: {quote(node)} is not a node; pass what create_node returned")
        self.widget, self.node, self.path, self.trait = widget, node, path, trait
        self.problem: str | None = None
        self._hint: str | None = None
        self._pending: deque[Any] = deque(maxlen=1)  # the widget's newest value, until it is committed
        self._setting_thread: int | None = None  # in which we set the widget
        self._seen_record: CommitRecord | None = None
        self._limits_now = object()  # another one after each change of a limit of the widget
        self._tried: tuple[object, Any] = (self._limits_now, MISSING)  # limits, and a value of the state
        self._view: BindingView | None = None
        self._replica = runtime_of(node.space).log.replica
        node.state.set(self._initialize)
        self._throttle = Throttle(node.space, self._synchronize, COMMIT_INTERVAL_SECONDS)
        self._fallback = StaticFallback(node.space, self._picture)
        self._show_state()
        widget.observe(self._on_change, names=trait)
        self._limits = [name for name in _LIMITS if name != trait and widget.has_trait(name)]
        if self._limits:
            widget.observe(self._on_new_limits, names=self._limits)
        self._throttle.follow(lambda: self._replica.newest(self.node.name) is not self._seen_record)
        self._forget_end = runtime_of(node.space).on_closed.connect(self._show_end)
        if widget in _disabled:  # of a space that was closed
            _disabled.remove(widget)
            widget.disabled = False
        cells.register(self._on_rerun)

    def stop(self) -> None:
        """End the binding, after committing the widget's last value."""
        self._stop_updates()
        self._fallback.update()

    def _stop_updates(self) -> None:
        if self._throttle.stopped:
            return
        self.widget.unobserve(self._on_change, names=self.trait)
        if self._limits:
            self.widget.unobserve(self._on_new_limits, names=self._limits)
        self._forget_end()
        self._throttle.stop()
        self._fallback.stop()
        self._commit()

    def __repr__(self) -> str:
        return self._picture()["text/plain"]

    def _ipython_display_(self) -> None:
        from happen_nb._widgets.panes import BindingView

        if self._view is None:
            self._view = BindingView(self.widget)
            self._view.show_notes(self._notes())
        self._fallback.show(self._view)

    def _show_end(self) -> None:
        """Disable the widget: the space is closed, so nothing that is done to it is committed."""
        if getattr(self.widget, "disabled", None) is False:
            _disabled.add(self.widget)
            with contextlib.suppress(Exception):  # of the widget's observers
                self.widget.disabled = True
        self._hint = " · ".join(filter(None, (self._hint, "closed")))
        if self._view is not None:
            self._view.show_notes(self._notes())

    def _on_rerun(self) -> None:
        self._stop_updates()
        view, self._view = self._view, None
        if view is not None:
            view.close()

    # -- from the widget to the state ----------------------------------------------------------------

    def _initialize(self, state: Any) -> Any:
        """Transform a state without the path to one that has the widget's value there."""
        self._hint = None
        if lookup(state, self._steps, MISSING) is not MISSING:
            return state
        if (hint := typo_hint(state, self._steps)) is not None:
            self._hint = f"{hint}; the widget's value was committed to {format_path(self._steps)}"
        return put(self._steps, _stored(getattr(self.widget, self.trait)))(state)

    def _on_change(self, change: Any) -> None:
        # Runs in whatever thread set the widget's value.
        if self._setting_thread == threading.get_ident():
            return
        limit = _moved_by(self.widget, self.trait)
        if limit is not None:
            if limit not in self._limits:  # else it comes when the widget has the limit
                self._on_new_limits(change)
            return
        self._pending.append(change.new)
        self._throttle.trigger()

    def _on_new_limits(self, _: Any) -> None:
        self._limits_now = object()
        self._throttle.trigger()

    @property
    def _tried_value(self) -> Any:
        """The value of the state that was tried with the limits of now: it is not tried again."""
        limits, value = self._tried
        return value if limits is self._limits_now else MISSING

    def _commit(self) -> bool:
        """Commit the widget's newest value if that is pending; return False if that fails."""
        limits = self._limits_now  # they may change at any moment
        try:
            value = self._pending.pop()
        except IndexError:
            return True
        try:
            after = self._set(value).after
        except _DeletedError:
            self._show_state()
            return False
        except BaseException as error:  # no caller waits here, so any error is recorded
            self._mark(f"not committed: {_described(error)}")
            self._record_failure("committing", error, partial(self._set, value))
            return False
        # The value came from the widget, which may have moved on: it is not shown again.
        self._tried = limits, lookup(after, self._steps, MISSING)
        self._mark(None)
        return True

    def _set(self, value: Any) -> Commit:
        transform = put(self._steps, _stored(value))

        def move(state: Any) -> Any:
            if self._is_deleted:  # a moved widget does not create the node again
                raise _DeletedError
            return transform(state)

        return self.node.state.set(move)

    @property
    def _is_deleted(self) -> bool:
        newest = self._replica.newest(self.node.name)
        return newest is not None and newest.deleted

    # -- from the state to the widget ----------------------------------------------------------------

    def _synchronize(self) -> None:
        if self._pending:
            self._tried = self._limits_now, MISSING
            if not self._commit():
                return
        if not self._pending:
            self._show_state()

    def _show_state(self) -> None:
        self._seen_record, limits = self._replica.newest(self.node.name), self._limits_now
        try:
            state = self.node.state.get()
        except ClosedError:
            raise
        except HappenError as error:
            self._mark(_described(error))
            return
        value = lookup(state, self._steps, MISSING)
        if self._is_deleted:
            self._mark(f'node "{self.node.name}" was deleted; create it again to use this {self._kind}')
        elif value is MISSING:
            hint = typo_hint(state, self._steps)
            self._mark("the state no longer has this path" + (f": {hint}" if hint else ""))
        elif self._tried_value is MISSING or not equal(self._tried_value, value):
            self._mark(None if self._show_value(value) else self._not_shown(value))
        self._tried = limits, value

    def _show_value(self, value: Any) -> bool:
        """Set the widget to a stored value; return True if it now has that value."""
        if is_alike(self._value(), value):
            return True
        for candidate in candidates(self.widget, self.trait, value):
            self._setting_thread = threading.get_ident()
            try:
                setattr(self.widget, self.trait, candidate)
            except BaseException as error:  # a TraitError, or an error of the widget's observers
                if is_alike(self._value(), value):
                    self._record_failure("observing", error, partial(self._show_value, value))
            finally:
                self._setting_thread = None
            if is_alike(self._value(), value):
                return True
        return False

    def _value(self) -> Any:
        """Return the widget's value as JSON, or MISSING if it has no JSON form."""
        try:
            return freeze(_stored(getattr(self.widget, self.trait)))
        except Exception:  # a StateError, or what the value's own methods raise
            return MISSING

    # -- problems and the static fallback ------------------------------------------------------------

    @property
    def _kind(self) -> str:
        return type(self.widget).__name__

    def _record_failure(self, doing: str, error: BaseException, retry: Callable[[], object]) -> None:
        doing = f'{doing} "{format_path(self._steps)}"'
        self.node.space.failures.add(Failure(self.node.name, self._kind, doing, None, error, retry))

    def _not_shown(self, value: Any) -> str:
        from happen_nb._display import plain
        from happen_nb._display.values import summary

        shown = plain(summary(value, _MAX_VALUE_COLUMNS))
        return f"the state has {shown}, which this {self._kind} cannot show"

    def _mark(self, problem: str | None) -> None:
        if problem != self.problem:
            _outline(self.widget, on=problem is not None)
        self.problem = problem
        if self._view is not None:
            self._view.show_notes(self._notes())
        self._fallback.trigger()

    def _notes(self) -> tuple[Block, ...]:
        from happen_nb._display import Span, one_line
        from happen_nb._display.page import Note

        notes: tuple[tuple[str | None, Kind], ...] = ((self.problem, "err"), (self._hint, ""))
        return tuple(Note((Span(one_line(text, _MAX_NOTE_COLUMNS), kind),)) for text, kind in notes if text)

    def _picture(self) -> Picture:
        from happen_nb._display import name, part
        from happen_nb._display.page import Heading, Note, Page, mime_bundle
        from happen_nb._display.values import summary

        place = part(name(format_path(self._steps))), part(name(f"{self._kind}.{self.trait}"))
        value = self._value()
        blocks: tuple[Block, ...] = () if value is MISSING else (Note(summary(value, _MAX_VALUE_COLUMNS)),)
        heading = Heading("Binding of", name(self.node.name), place)
        return mime_bundle(Page(heading, (*blocks, *self._notes())))


def _described(error: BaseException) -> str:
    from happen_nb._display import describe_error

    return describe_error(error)


def is_alike(shown: Any, value: Any) -> bool:
    """Return True if a widget's value equals a stored one, where 3 and 3.0 are equal.

    Examples
    --------
    >>> is_alike([1, 2.0], [1.0, 2]), is_alike(True, 1), is_alike("1", 1)
    (True, False, False)
    """
    from happen_nb._model.frozen import is_number

    if is_number(shown) and is_number(value):
        return bool(shown == value)
    if isinstance(shown, list) and isinstance(value, list):
        return len(shown) == len(value) and all(map(is_alike, shown, value))
    return shown is not MISSING and equal(shown, value)


def candidates(widget: Any, trait: str, value: Any) -> Iterator[Any]:
    """Yield the trait values whose JSON form may be a stored value."""
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


def _is_stored_as(option: Any, value: Any) -> bool:
    try:
        return is_alike(freeze(_stored(option)), value)
    except Exception:  # an option is any object
        return False


def _stored(value: Any) -> Any:
    # A state does not convert a time of day, but a TimePicker has no other value.
    return value.isoformat() if isinstance(value, time) else value


def _holds_bytes(widget: Any, trait: str) -> str | None:
    """Return the reason why a trait that holds bytes cannot be bound; None for other traits."""
    kind = type(widget).__name__
    is_upload, trait_kind = kind == "FileUpload", type(widget.traits()[trait]).__name__
    if not (trait == "value" if is_upload else trait_kind in _BYTES_TRAITS):
        return None
    return (
        f"{kind}.{trait} holds bytes, which have no JSON form; "
        f'use {kind.lower()}.observe(function, "{trait}") '
        "and commit what you need of them, such as a name, a text or base64"
    )


def _outline(widget: Any, *, on: bool) -> None:
    """Draw a border around a widget, or restore its own."""
    layout = getattr(widget, "layout", None)
    if layout is None:
        return
    if on and widget not in _original_borders:
        _original_borders[widget] = {side: getattr(layout, side) for side in _SIDES}
    borders = dict.fromkeys(_SIDES, _OUTLINE) if on else _original_borders.pop(widget, {})
    for side, border in borders.items():
        setattr(layout, side, border)


def _moved_by(widget: Any, trait: str) -> str | None:
    """Return the limit whose change moves a trait of the widget; None if nothing of the widget does.

    New options select the first one, and a lower maximum moves the value. Traitlets does not distinguish that
    from a person's choice, so this looks for the setting of another trait of the widget on the call stack,
    without any other code in between.
    """
    this = inspect.currentframe()
    frame = None if this is None or this.f_back is None else this.f_back.f_back
    chosen = _CHOSEN | {trait}
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _WIDGET_PACKAGES:
        function, here = frame.f_code.co_name, frame.f_locals
        if function == "_cross_validate" and here["obj"] is widget and here["self"].name not in chosen:
            return str(here["self"].name)
        if function == "_notify_observers" and here["self"] is widget and here["event"]["name"] not in chosen:
            return str(here["event"]["name"])
        frame = frame.f_back
    return None
