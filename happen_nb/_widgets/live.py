"""A widget that shows a state, or a part of it, as it is now."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import ipywidgets

from happen_nb._api.failures import Failure
from happen_nb._api.history import Commit
from happen_nb._display import html
from happen_nb._display.reprs_state import value_page
from happen_nb._display.value_tree import Budget
from happen_nb._model.paths import missing_hint, parse_path, select, typo_hint
from happen_nb._runtime.cells import cells
from happen_nb._widgets import content, parts, twin
from happen_nb._widgets.figure import FigurePane, is_figure
from happen_nb._widgets.pane import Pane
from happen_nb._widgets.throttle import SLOW, Pulse
from happen_nb.errors import ClosedError, HappenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from happen_nb._api.space import Space
    from happen_nb._api.state import State
    from happen_nb._api.views import View
    from happen_nb._display.live_output import Picture
    from happen_nb._model.frozen import FrozenDict
    from happen_nb._model.paths import Selector
    from happen_nb._model.records import CommitRecord


FIRST: Final = 10.0
"""Seconds that making it waits for the first picture."""
LATE: Final = 5.0
"""Seconds after which it says that `render` has not returned."""


class Live(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets ships no types
    """Shows a state, and follows it; made by ``state.live`` and ``view.live``.

    It is drawn anew at most ten times a second, and always with the newest state. What the notebook's file
    keeps of it is drawn at most once a second.

    Examples
    --------
    >>> commit = orders.state.set({"open": 2})
    >>> live = orders.state.live("open", render=lambda number: f"{number} orders are open")
    >>> live
    2 orders are open
    >>> live.stop()
    """

    children: tuple[Any, ...]

    def __init__(
        self,
        space: Space,
        node: str,
        shown: State | View,
        selector: Selector | None,
        render: Callable[[Any], object] | None,
    ) -> None:
        super().__init__(_dom_classes=(twin.ALIVE,))
        self._lock = threading.Lock()
        self._own: tuple[ipywidgets.Widget, set[str]] | None = None
        self._child: ipywidgets.Widget | None = None
        self._note: Pane | None = None
        self._hint: str | None = None
        self._pulse = Pulse(space, self._draw)
        self._painter = Pulse(space, self._paint, SLOW, kept=True)
        self._space, self._node, self._source = space, node, shown
        self._selector, self._render = selector, render
        self._replica = space._session.replica
        self._known: CommitRecord | None = None
        self._twins: list[twin.Twin] = []
        self._content = content.of_picture({"text/plain": "", "text/html": ""})
        self._pulse.begin(FIRST)
        self._pulse.follow(self._changed)
        cells.register(self.close)

    def stop(self) -> None:
        """Leave it as it is."""
        self._end()
        self._paint()

    def close(self) -> None:
        """Stop, and take it away where it is shown."""
        self._end()
        with self._lock:
            self._put(None)
            if self._note is not None:
                parts.close(self._note)
                self._note = None
        self.layout.close()
        super().close()

    def _end(self) -> None:
        for pulse in (self._pulse, self._painter):
            pulse.stop()

    def __repr__(self) -> str:
        return self._picture["text/plain"]

    def _ipython_display_(self) -> None:
        shown = twin.show(self, self._picture)
        self._twins.append(shown)
        cells.register(lambda: self._twins.remove(shown))

    # -- what is shown -------------------------------------------------------------------------------

    @property
    def _picture(self) -> Picture:
        """What it shows now, where it cannot be shown as a widget."""
        shown = [self._content.picture, *([] if self._hint is None else [content.of_hint(self._hint)])]
        return {mime: "\n".join(each[mime] for each in shown) for mime in ("text/plain", "text/html")}

    def _changed(self) -> bool:
        return self._replica.newest(self._node) is not self._known

    def _draw(self) -> None:
        """Show what is there now. Only here is drawn, and never twice at once."""
        self._known = self._replica.newest(self._node)
        before = parts.alive()
        late = threading.Timer(LATE, self._say, [f"{self._name} has not returned for {LATE:g} s"])
        late.daemon = True
        late.start()
        try:
            made, hint = self._made(before)
        except ClosedError:
            raise
        except BaseException as error:  # nothing that a callback raises may end the worker
            made, hint = self._failed(error), self._missing()
        finally:
            late.cancel()
        with self._lock:
            if self._pulse.stopped:
                return
            try:
                self._show(made, before)
            except Exception as error:  # the widget refuses it
                self._show(self._failed(error), before)
        self._say(hint)

    def _say(self, hint: str | None) -> None:
        """Show a remark below the value, or none."""
        with self._lock:
            if self._pulse.stopped:
                return
            if hint is not None:
                self._note = self._note or Pane()
                self._note.show(content.of_hint(hint)["text/html"])
            if hint != self._hint:
                self._hint = hint
                self._arrange()
        self._painter.tell()

    def _paint(self) -> None:
        """Keep what can be read without the kernel."""
        for each in list(self._twins):
            each.update(self._picture)

    def _made(self, before: set[str]) -> tuple[Any, str | None]:
        """What is shown, a widget or the content of one, and a remark on that."""
        try:
            whole = self._source.get()
        except ClosedError:
            raise
        except HappenError as error:  # what is stored cannot be read, or is gone: that is how it is
            return content.of_picture(content.of_error(error)), None
        if self._selector is None and self._render is None:
            return content.of_picture(self._source._repr_mimebundle_()), None
        value, hint = whole, None
        if self._selector is not None:
            value, hint = _selected(whole, self._selector)
        if self._render is None:
            return content.of_picture(html.bundle(value_page(value, Budget()))), hint
        out = self._render(value)
        if not isinstance(out, ipywidgets.Widget):
            return content.of_value(out), hint
        if not is_figure(out) or (out.comm is not None and out.model_id in before):
            return out, hint
        figure = content.of_value(out)  # a widget of its own each time, where one figure can stay in place
        parts.close(out)
        return figure, hint

    def _missing(self) -> str | None:
        """Why the selector finds nothing, where `render` fails because of that."""
        with suppress(Exception):
            return None if self._selector is None else _selected(self._source.get(), self._selector)[1]
        return None

    @property
    def _name(self) -> str:
        """The function's name; a callable object may have none, or one of any kind."""
        name: object = None
        with suppress(Exception):
            name = getattr(self._render or self._selector, "__qualname__", None)
        return name if isinstance(name, str) else "live"

    def _failed(self, error: BaseException) -> content.Content:
        """Keep a failure; show it in place of the value."""
        if isinstance(error, content.UndisplayableError):
            error = error.with_traceback(None)  # it leads to no line of the user's
        commit = None if self._known is None else Commit(self._known, None)
        failure = Failure(self._node, self._name, f'showing "{self._node}"', commit, error, self._again)
        self._space.failures.add(failure)
        return content.of_picture(failure._repr_mimebundle_())

    def _again(self) -> None:
        self._made(parts.alive())
        self._pulse.tell()

    def _show(self, made: Any, before: set[str]) -> None:
        if isinstance(made, ipywidgets.Widget):
            self._put(made, before)
            self._content = content.of_picture(
                content.of_text(f'a {type(made).__name__} for node "{self._node}"')
            )
            return
        if made.figure is not None:
            self._pane(FigurePane).show(made.figure)
        elif made.is_static:
            self._pane(Pane).show(made.picture["text/html"])
        else:
            self._pane(ipywidgets.Output).outputs = made.outputs
        self._content = made

    def _pane(self, kind: type[FigurePane | Pane | ipywidgets.Output]) -> Any:
        """Our own child of a kind, put there if there is none."""
        pane = self._own[0] if self._own else None
        if not isinstance(pane, kind) or self._own != (pane, set()):
            pane = kind()
            self._put(pane, None)
        return pane

    def _put(self, child: ipywidgets.Widget | None, before: set[str] | None = None) -> None:
        """Let another child take the place of the one that is there, which is closed if it is ours.

        It is if it is a pane, or was made by the call of `render` that returned it.

        Parameters
        ----------
        before : set of str, optional
            The widgets that there were before that call.
        """
        if child is not None and child is self._child:
            return
        own, self._own = self._own, None
        self._child = child
        self._arrange()
        if child is not None and (before is None or child.model_id not in before):
            self._own = child, before or set()
        if own is not None:
            parts.close(own[0], keep=own[1])

    def _arrange(self) -> None:
        """Put the value and the remark on it below each other."""
        remark = self._note if self._hint is not None else None
        self.children = tuple(each for each in (self._child, remark) if each is not None)


def _selected(state: FrozenDict, selector: Selector) -> tuple[Any, str | None]:
    """The selected part, and why there is none where it is missing."""
    try:
        value = select(state, selector)
    except (KeyError, IndexError, TypeError) as error:
        key = error.args[0] if isinstance(error, KeyError) and error.args else None
        return None, typo_hint(state, (key,)) if isinstance(key, str) else None
    if callable(selector) or value is not None:
        return value, None
    return value, missing_hint(state, selector) or None


def live_of_state(state: State, selector: Selector | None, render: Callable[[Any], object] | None) -> Live:
    """A widget that follows a node's state."""
    return _live(state._space, state._name, state, selector, render)


def live_of_view(view: View, selector: Selector | None, render: Callable[[Any], object] | None) -> Live:
    """The same for a view, which then shows the newest state too where it was of one moment."""
    space = view._views.space
    return _live(space, view.name, type(view)(view.name, space.views), selector, render)


def _live(
    space: Space,
    node: str,
    shown: State | View,
    selector: Selector | None,
    render: Callable[[Any], object] | None,
) -> Live:
    """Check what was asked for before there is a widget."""
    if selector is not None and not callable(selector):
        parse_path(selector)
    if render is not None and not callable(render):
        raise TypeError(f"live: render is {render!r}; give a function of the value, or nothing")
    space._session  # noqa: B018 - a closed space has nothing to follow
    return Live(space, node, shown, selector, render)
