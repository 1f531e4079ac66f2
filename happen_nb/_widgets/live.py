"""A widget that shows the current state of a node, or a part of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import ipywidgets
from ipywidgets.widgets.widget import _instances

from happen_nb._api.base import bundle_of, page_of, runtime_of
from happen_nb._api.failures import Failure
from happen_nb._api.history import Commit
from happen_nb._display import describe_error, timestamp
from happen_nb._display.live_output import ALIVE
from happen_nb._display.page import mime_bundle
from happen_nb._display.reprs_state import value_page
from happen_nb._display.values import Budget, Row, mark
from happen_nb._frames import refusal
from happen_nb._model.frozen import diff
from happen_nb._model.paths import check_selector, missing_hint, parse_path, select, typo_hint
from happen_nb._model.quoting import quote
from happen_nb._model.schedules import from_ns
from happen_nb._runtime.cells import cells
from happen_nb._runtime.io import run_blocking
from happen_nb._runtime.workers import refuse_at_end
from happen_nb._widgets import panes
from happen_nb._widgets.following import FollowsSpace, StaticFallback, Throttle
from happen_nb._widgets.panes import FigurePane, HtmlPane
from happen_nb.errors import ClosedError, HappenError

if TYPE_CHECKING:
    from happen_nb._api.space import Space
    from happen_nb._api.state import State
    from happen_nb._api.views import View
    from happen_nb._display.live_output import Picture
    from happen_nb._display.page import Page
    from happen_nb._model.frozen import FrozenDict
    from happen_nb._model.paths import Selector, Steps
    from happen_nb._model.records import CommitRecord


FIRST_UPDATE_SECONDS: Final = 10.0  # that creating it waits for the first value
MAX_MARKED: Final = 100  # paths of one change
SLOW_RENDER_SECONDS: Final = 5.0  # after which it shows that `render` has not returned


class Live(FollowsSpace, ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets ships no types
    """Shows a state and follows it; made by ``state.live`` and ``view.live``.

    It updates at most ten times a second, and always shows the newest state. The static fallback in the
    notebook file updates at most once a second.

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
        source: State | View,
        selector: Selector | None,
        render: Callable[[Any], object] | None,
    ) -> None:
        refuse_at_end()
        if selector is not None:
            check_selector(selector)
        if render is not None and not callable(render):
            raise refusal(
                TypeError, f"live: render is {quote(render)}; pass a function of the value, or nothing"
            )
        runtime_of(space).check_open()
        super().__init__(_dom_classes=(ALIVE,))
        self._lock = threading.Lock()
        self._child: ipywidgets.Widget | None = None
        self._is_own = False  # the child is ours to close,
        self._keep: Collection[str] = ()  # but not its parts with these model ids
        self._note: HtmlPane | None = None
        self._hint: str | None = None
        self._space, self._node, self._source = space, node, source
        self._selector, self._render = selector, render
        self._replica = runtime_of(space).log.replica
        self._shown_record: CommitRecord | None = None
        self._shown_state: FrozenDict | None = None
        self._changed: Sequence[Steps] = ()  # by the last change
        self._content = panes.content_of_picture({"text/plain": "", "text/html": ""})
        self._throttle = Throttle(space, self._update)
        self._fallback = StaticFallback(space, self._picture)
        self._follow_end(space)
        self._throttle.update_now(FIRST_UPDATE_SECONDS)
        self._throttle.follow(lambda: self._replica.newest(self._node) is not self._shown_record)
        cells.register(self.close)

    def _close_parts(self) -> None:
        with self._lock:
            self._replace_child(None)
            if self._note is not None:
                close_tree(self._note)
                self._note = None

    def _picture(self) -> Picture:
        hints = [] if self._hint is None else [panes.picture_of_note(self._hint)]
        return panes.joined([self._content.picture, *hints])

    # -- updating ------------------------------------------------------------------------------------

    def _update(self) -> None:
        self._shown_record = self._replica.newest(self._node)
        before = set(_instances)
        slow_note = f"{self._function_name} has not returned for {SLOW_RENDER_SECONDS:g} s"
        slow = threading.Timer(SLOW_RENDER_SECONDS, self._show_hint, [slow_note])
        slow.daemon = True
        slow.start()
        try:
            rendered, hint = self._rendered(before)
        except ClosedError:
            raise
        except BaseException as error:  # nothing that a callback raises may end the worker
            rendered, hint = self._failed(error), self._hint_for_missing_path()
        finally:
            slow.cancel()
        with self._lock:
            if self._throttle.stopped:
                return
            try:
                self._show(rendered, before)
            except Exception as error:  # the front end's widget rejects it
                self._show(self._failed(error), before)
        self._show_hint(hint)

    def _show_hint(self, hint: str | None) -> None:
        with self._lock:
            if self._throttle.stopped:
                return
            self._set_hint(hint)
        self._fallback.trigger()

    def _show_end(self) -> None:
        with self._lock:
            self._set_hint(" · ".join(filter(None, (self._hint, "closed"))))

    def _set_hint(self, hint: str | None) -> None:
        if hint is not None:
            self._note = self._note or HtmlPane()
            self._note.show(panes.picture_of_note(hint)["text/html"])
        if hint != self._hint:
            self._hint = hint
            self._arrange()

    def _rendered(self, before: set[str]) -> tuple[panes.Content | ipywidgets.Widget, str | None]:
        """Return what to show for the newest state, and a hint below it."""
        try:
            state = self._source.get()
        except ClosedError:
            raise
        except HappenError as error:  # the state is unreadable or deleted, which is not a failure
            return panes.content_of_picture(panes.picture_of_note(describe_error(error), "err")), None
        self._note_changes(state)
        if self._selector is None and self._render is None:
            return panes.content_of_picture(self._whole(state)), None
        value, hint = (state, None) if self._selector is None else _select(state, self._selector)
        if self._render is None:
            page = value_page(value, Budget())
            if callable(self._selector) or self._selector is None:
                return panes.content_of_picture(mime_bundle(page)), hint
            return panes.content_of_picture(self._marked(page, value, parse_path(self._selector))), hint
        rendered = self._render(value)
        if not isinstance(rendered, ipywidgets.Widget):
            return panes.content_of(rendered), hint
        if not panes.is_figure(rendered) or (rendered.comm is not None and rendered.model_id in before):
            return rendered, hint
        # A new widget at each update, where one figure can stay in place.
        content = panes.content_of(rendered)
        close_tree(rendered)
        return content, hint

    def _note_changes(self, state: FrozenDict) -> None:
        """Note the changes of the newest commits since the last update."""
        before, self._shown_state = self._shown_state, state
        if before is not None and before is not state:
            self._changed = [change.path for change in diff(before, state)[:MAX_MARKED]] or self._changed

    def _whole(self, state: FrozenDict) -> Picture:
        """Return the page of the state, with the time of its last change."""
        page, record = page_of(self._source, Budget()), self._shown_record
        heading = page.heading
        if heading is not None and record is not None:
            clock = run_blocking(runtime_of(self._space).clock.moves(record.sequence))
            changed = timestamp(from_ns(clock.time_of_space(record.time)), zone=True)
            page = page._replace(heading=heading._replace(parts=(*heading.parts, changed)))
        return self._marked(page, state, ())

    def _marked(self, page: Page, value: object, path: Steps) -> Picture:
        """Return a page with the latest changes marked."""
        for block in page.blocks:
            if isinstance(block, Row):
                mark(block, value, path, self._changed)
        return mime_bundle(page)

    def _hint_for_missing_path(self) -> str | None:
        """Return a hint why the selector finds nothing, which may be why `render` failed."""
        with suppress(Exception):
            return None if self._selector is None else _select(self._source.get(), self._selector)[1]
        return None

    @property
    def _function_name(self) -> str:
        name: object = None
        with suppress(Exception):  # a callable object may have no name, or one of any type
            name = getattr(self._render or self._selector, "__qualname__", None)
        return name if isinstance(name, str) else "live"

    def _failed(self, error: BaseException) -> panes.Content:
        """Record a failure, and return it to be shown in place of the value."""
        if isinstance(error, panes.UndisplayableError):
            error = error.with_traceback(None)  # it would not lead to a line of the user's
        commit = None if self._shown_record is None else Commit(self._shown_record, None)
        doing = f'showing "{self._node}"'
        failure = Failure(self._node, self._function_name, doing, commit, error, self._retry)
        self._space.failures.add(failure)
        return panes.content_of_picture(bundle_of(failure))

    def _retry(self) -> None:
        self._rendered(set(_instances))
        self._throttle.trigger()

    # -- the child that shows the value --------------------------------------------------------------

    def _show(self, rendered: panes.Content | ipywidgets.Widget, before: set[str]) -> None:
        if isinstance(rendered, ipywidgets.Widget):
            if rendered is not self._child:
                self._replace_child(rendered, is_own=rendered.model_id not in before, keep=before)
            text = f'a {type(rendered).__name__} for node "{self._node}"'
            self._content = panes.content_of_picture(panes.picture_of_text(text))
            return
        if rendered.figure is not None:
            self._own_child(FigurePane).show(rendered.figure)
        elif rendered.is_static:
            self._own_child(HtmlPane).show(rendered.picture["text/html"])
        else:
            self._own_child(ipywidgets.Output).outputs = rendered.outputs
        self._content = rendered

    def _own_child(self, kind: type[FigurePane | HtmlPane | ipywidgets.Output]) -> Any:
        """Return the child of a kind that we made, and make one if another child is shown."""
        if not isinstance(self._child, kind) or not self._is_own or self._keep:
            self._replace_child(kind(), is_own=True)
        return self._child

    def _replace_child(
        self, child: ipywidgets.Widget | None, *, is_own: bool = False, keep: Collection[str] = ()
    ) -> None:
        """Show another child, and close the one before if it is a pane or was created by `render`."""
        before, was_own, kept = self._child, self._is_own, self._keep
        self._child, self._is_own, self._keep = child, is_own, keep
        self._arrange()
        if before is not None and was_own:
            close_tree(before, keep=kept)

    def _arrange(self) -> None:
        note = self._note if self._hint is not None else None
        self.children = tuple(each for each in (self._child, note) if each is not None)


def _select(state: FrozenDict, selector: Selector) -> tuple[Any, str | None]:
    """Return the selected part, or None and a hint if it is missing."""
    try:
        value = select(state, selector)
    except (KeyError, IndexError, TypeError) as error:
        key = error.args[0] if isinstance(error, KeyError) and error.args else None
        return None, typo_hint(state, (key,)) if isinstance(key, str) else None
    if callable(selector) or value is not None:
        return value, None
    return value, missing_hint(state, selector) or None


def close_tree(widget: ipywidgets.Widget, *, keep: Collection[str] = ()) -> None:
    """Close a widget and all that it consists of, but not those whose model id is in `keep`."""
    for part in tree_of(widget):
        if part.comm is not None and part.model_id not in keep:  # a closed widget has no comm
            part.close()


def tree_of(widget: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    """Return a widget and all widgets that its traits hold: its layout, its style, its children.

    Examples
    --------
    >>> from ipywidgets import HBox, Label
    >>> sorted({type(part).__name__ for part in tree_of(HBox([Label("a")]))})
    ['HBox', 'Label', 'LabelStyle', 'Layout']
    """
    found: dict[int, ipywidgets.Widget] = {}
    left = [widget]
    while left:
        part = left.pop()
        if id(part) not in found:
            found[id(part)] = part
            left += (each for name in part.keys for each in _widgets_in(getattr(part, name)))
    return list(found.values())


def _widgets_in(value: Any) -> Iterator[ipywidgets.Widget]:
    values = list(value.values()) if isinstance(value, Mapping) else value
    if isinstance(value, ipywidgets.Widget):
        yield value
    elif isinstance(values, list | tuple):
        yield from (each for each in values if isinstance(each, ipywidgets.Widget))
