"""Pictures that the kernel draws as SVG, again whenever something happens or the page has another width."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

import anywidget

from happen_nb._api.base import runtime_of
from happen_nb._api.diagrams import SvgFile
from happen_nb._display.page import Page, bare_html, render_html, style
from happen_nb._runtime.cells import cells
from happen_nb._widgets.mime import ALIVE, FollowsSpace, StaticFallback, picture_of_page
from happen_nb._widgets.panes import source
from happen_nb._widgets.throttle import Throttle

if TYPE_CHECKING:
    from happen_nb._api.pictures import JournalReader
    from happen_nb._api.space import Space
    from happen_nb._display.live_output import Picture

FALLBACK_SECONDS: Final = 5.0
"""Between two static pictures."""
MAX_VIEWS: Final = 8
"""Places where a picture is followed, the newest."""
_LEAST_WIDTH, _MOST_WIDTH = 300, 4000
PICTURE_SCRIPTS: Final = ("press", "elements", "live_picture")
"""The parts of the script that all pictures share."""


@dataclass(slots=True)
class PictureView:
    """One place in a page that shows a picture."""

    width: int
    is_stale: bool = True
    opened: set[str] = field(default_factory=set)  # groups


View = TypeVar("View", bound=PictureView)


class LivePicture(FollowsSpace, SvgFile, anywidget.AnyWidget, Generic[View]):
    """A picture of a part of a journal, which follows the space while a page shows it."""

    _css = style() + source("live_picture.css")
    _make_view: ClassVar[Any] = PictureView

    def __init__(self, space: Space, reader: JournalReader) -> None:
        runtime = runtime_of(space)
        self._reader = reader
        self._space = space
        self._log = runtime.log  # a closed space has none: an error before there is a widget
        self._renew()
        super().__init__(_dom_classes=(ALIVE,))
        self._views: dict[str, View] = {}
        self._lock = threading.RLock()
        self._rested = 0.0  # on the monotonic clock: after a slow update, others have their turn
        self._throttle = Throttle(space, self._update)
        self._fallback = StaticFallback(space, self._picture, FALLBACK_SECONDS)
        self.on_msg(self._on_message)
        cells.register(self.close)

    # -- what each picture is ------------------------------------------------------------------------

    @abstractmethod
    def _page(self) -> Page:
        """Return the static picture, and the same as lines of text."""

    @abstractmethod
    def _drawn(self, view: View) -> dict[str, Any]:
        """Return what a page shows, with the ``svg``."""

    @abstractmethod
    def _act(self, view: View, message: Mapping[str, Any]) -> Page | None:
        """Do what the reader asks for; return a page to show below the picture, if there is one."""

    def _renew(self) -> None:
        """Use what the reader has read."""

    # -- following -----------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return self._picture()["text/plain"]

    def _picture(self) -> Picture:
        with self._lock:
            return picture_of_page(self._page())

    def _has_news(self) -> bool:
        return self._log.replica.position > self._reader.last and time.monotonic() >= self._rested

    def _update(self) -> None:
        """Read what is new, and draw each view that does not show it."""
        with self._lock:
            started = time.monotonic()
            has_news = self._has_news()
            if has_news:
                self._reader.add_new()
                self._renew()
                self._fallback.trigger()
            for name, view in self._views.items():
                if has_news or view.is_stale:
                    view.is_stale = False
                    self.send({"type": "drawn", "view": name, **self._drawn(view)})
            if has_news:
                self._rested = time.monotonic() + 2 * (time.monotonic() - started)

    # -- the browser ---------------------------------------------------------------------------------

    def _on_message(self, _: object, message: Mapping[str, Any], __: object) -> None:
        # Runs on the kernel's main thread: drawing is left to a worker.
        name = str(message["view"])
        with self._lock:
            if message["do"] == "draw":
                self._show(name, message)
            elif name in self._views:
                view = self._views[name]
                page = self._act(view, message)
                if page is not None:
                    html = bare_html(render_html(page))
                    self.send({"type": "panel", "view": name, "asked": message.get("asked"), "html": html})
        self._throttle.trigger()

    def _show(self, name: str, message: Mapping[str, Any]) -> None:
        width = max(_LEAST_WIDTH, min(_MOST_WIDTH, int(message["width"])))
        if not self._views:
            self._throttle.follow(self._has_news)
        if name not in self._views:
            self._views[name] = self._make_view(width)
            for oldest in list(self._views)[:-MAX_VIEWS]:
                del self._views[oldest]
        view = self._views[name]
        view.width, view.is_stale = width, True
