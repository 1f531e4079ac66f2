"""A widget that shows a state, or a part of it, as it is now."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import ipywidgets

from happen_nb.commits import Commit, lenient
from happen_nb.display.bundle import bundle
from happen_nb.display.widgets import content, parts, twin
from happen_nb.display.widgets.pane import Pane
from happen_nb.errors import ClosedError, HappenError
from happen_nb.failures import Failure
from happen_nb.model.paths import parse_path
from happen_nb.pulse import SLOW, Pulse
from happen_nb.runtime.cells import cells

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from happen_nb.display.live import Picture
    from happen_nb.model.commits import CommitRecord
    from happen_nb.model.paths import Selector
    from happen_nb.space import Space
    from happen_nb.state import State
    from happen_nb.views import View

    Shown = tuple[Mapping[str, Any], Mapping[str, Any]]


class Live(ipywidgets.Box):  # type: ignore[misc]  # ipywidgets ships no types
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
        self._pulse = Pulse(space, self._draw)
        self._painter = Pulse(space, self._paint, SLOW, kept=True)
        self._space, self._node, self._source = space, node, shown
        self._selector, self._render = selector, render
        self._replica = space._session.replica
        self._known: CommitRecord | None = None
        self._twins: list[twin.Twin] = []
        self._picture: Picture = {}
        self._draw()
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
        self.layout.close()
        super().close()

    def _end(self) -> None:
        for pulse in (self._pulse, self._painter):
            pulse.stop()

    def __repr__(self) -> str:
        return self._picture.get("text/plain", "")

    def _ipython_display_(self) -> None:
        shown = twin.show(self, self._picture)
        self._twins.append(shown)
        cells.register(lambda: self._twins.remove(shown))

    # -- what is shown -------------------------------------------------------------------------------

    def _changed(self) -> bool:
        return self._replica.newest(self._node) is not self._known

    def _draw(self) -> None:
        """Show what is there now. Only here is drawn, and never twice at once."""
        self._known = self._replica.newest(self._node)
        before = parts.alive()
        try:
            made = self._content()
        except ClosedError:
            raise
        except BaseException as error:  # nothing that a callback raises may end the worker
            made = self._failed(error), {}
        with self._lock:
            if self._pulse.stopped:
                return
            if isinstance(made, ipywidgets.Widget):
                self._picture = content.of_text(f'a {type(made).__name__} for node "{self._node}"')
                self._put(made, before)
            else:
                self._show(*made)
        self._painter.tell()

    def _paint(self) -> None:
        """Keep what can be read without the kernel."""
        for each in list(self._twins):
            each.update(self._picture)

    def _content(self) -> ipywidgets.Widget | Shown:
        """A widget, or a mime bundle with its metadata."""
        try:
            whole = self._source.get()
        except ClosedError:
            raise
        except HappenError as error:  # what is stored cannot be read, or is gone: that is how it is
            return content.of_error(error), {}
        value = whole if self._selector is None else lenient(whole, self._selector)
        if self._render is not None:
            return self._rendered(self._render(value))
        if self._selector is not None:
            return bundle(value, "value"), {}
        return bundle(self._source, self._source._kind), {}

    def _rendered(self, out: object) -> ipywidgets.Widget | Shown:
        if isinstance(out, ipywidgets.Widget):
            return out
        return (content.of_text(out), {}) if isinstance(out, str) else content.bundle_of(out)

    def _failed(self, error: BaseException) -> Picture:
        """Keep a failure; show it in place of the value."""
        name = getattr(self._render or self._selector, "__qualname__", "live")
        commit = None if self._known is None else Commit(self._known, None)
        failure = Failure(self._node, name, f'showing "{self._node}"', commit, error, self._again)
        self._space.failures.add(failure)
        return bundle(failure, "failure")

    def _again(self) -> None:
        self._content()
        self._pulse.tell()

    def _show(self, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        picture = content.picture_of(data)
        if content.is_static(data):
            self._pane(Pane).show(picture["text/html"])
        else:
            output = {"output_type": "display_data", "data": dict(data), "metadata": dict(metadata)}
            self._pane(ipywidgets.Output).outputs = (output,)
        self._picture = picture

    def _pane(self, kind: type[Pane | ipywidgets.Output]) -> Any:
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
        if child is not None and child in self.children:
            return
        own, self._own = self._own, None
        self.children = () if child is None else (child,)
        if child is not None and (before is None or child.model_id not in before):
            self._own = child, before or set()
        if own is not None:
            parts.close(own[0], keep=own[1])


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
