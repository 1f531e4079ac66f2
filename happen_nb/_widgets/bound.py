"""How a widget is shown that is bound to a place in a state: with what there is to say about it."""

from __future__ import annotations

from typing import Any, Final
from weakref import WeakKeyDictionary

import ipywidgets

from happen_nb._display import html
from happen_nb._display.live_output import Picture
from happen_nb._display.page import Block, Heading, Note, Page, part
from happen_nb._display.spans import Kind, Span, name, one_line
from happen_nb._display.value_tree import summary
from happen_nb._model.paths import MISSING
from happen_nb._widgets import twin
from happen_nb._widgets.pane import Pane

_ROOM, _PROBLEM = 60, 300
_OUTLINE: Final = "1px dashed var(--jp-error-color1, #b3261e)"
_SIDES: Final = ("border_top", "border_right", "border_bottom", "border_left")

_before: WeakKeyDictionary[ipywidgets.Widget, dict[str, Any]] = WeakKeyDictionary()


class Bound(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets ships no types
    """The widget, and below it what is wrong, if anything is."""

    children: tuple[ipywidgets.Widget, ...]

    def __init__(self, widget: ipywidgets.Widget) -> None:
        self._widget = widget
        self._note = Pane()
        super().__init__((widget,), _dom_classes=(twin.ALIVE,))

    def say(self, problem: str | None, hint: str | None = None) -> None:
        """Show a problem and a remark, or neither."""
        blocks = _remarks(problem, hint)
        if blocks:
            self._note.show(html.render(Page(None, blocks)))
        self.children = (self._widget, self._note) if blocks else (self._widget,)

    def close(self) -> None:
        """Close all but the widget, which is not ours."""
        self.children = ()
        for each in (self._note.layout, self._note, self.layout):
            each.close()
        super().close()


def outline(widget: ipywidgets.Widget, *, on: bool) -> None:
    """Draw a line around a widget that does not show what it should, or take it away again."""
    layout = getattr(widget, "layout", None)
    if layout is None:
        return
    if on and widget not in _before:
        _before[widget] = {side: getattr(layout, side) for side in _SIDES}
    sides = dict.fromkeys(_SIDES, _OUTLINE) if on else _before.pop(widget, {})
    for side, border in sides.items():
        setattr(layout, side, border)


def picture(
    node: str, place: str, widget: str, value: object, problem: str | None, hint: str | None = None
) -> Picture:
    """A binding where it cannot be shown as a widget.

    Examples
    --------
    >>> print(picture("orders", "limits.open", "IntSlider.value", 3, None)["text/plain"])
    Binding of orders · limits.open · IntSlider.value
      3
    """
    parts = (part(name(place)), part(name(widget)))
    blocks: tuple[Block, ...] = () if value is MISSING else (Note(summary(value, _ROOM)),)
    page = Page(Heading("Binding of", name(node), parts), (*blocks, *_remarks(problem, hint)))
    return html.bundle(page)


def _remarks(problem: str | None, hint: str | None) -> tuple[Block, ...]:
    remarks: tuple[tuple[str | None, Kind], ...] = ((problem, "err"), (hint, ""))
    return tuple(Note((Span(one_line(text, _PROBLEM), kind),)) for text, kind in remarks if text is not None)
