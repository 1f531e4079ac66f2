"""The widgets that a widget consists of: each has a comm of its own, which only `close` ends."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from ipywidgets import Widget
from ipywidgets.widgets.widget import _instances

if TYPE_CHECKING:
    from typing import Any


def alive() -> set[str]:
    """The model ids of all widgets that are open in this process."""
    return set(_instances)


def parts_of(widget: Widget) -> list[Widget]:
    """The widget itself, and all that its traits hold: its layout, its style, its children.

    Examples
    --------
    >>> from ipywidgets import HBox, Label
    >>> sorted({type(part).__name__ for part in parts_of(HBox([Label("a")]))})
    ['HBox', 'Label', 'LabelStyle', 'Layout']
    """
    found: dict[int, Widget] = {}
    left = [widget]
    while left:
        part = left.pop()
        if id(part) not in found:
            found[id(part)] = part
            left += (each for name in part.keys for each in _widgets_in(getattr(part, name)))
    return list(found.values())


def close(widget: Widget, *, keep: Collection[str] = ()) -> None:
    """Close a widget and its parts, but not those whose model id is in `keep`."""
    for part in parts_of(widget):
        if part.comm is not None and part.model_id not in keep:  # one without a comm is closed
            part.close()


def _widgets_in(value: Any) -> Iterator[Widget]:
    if isinstance(value, Widget):
        yield value
    elif isinstance(value, Mapping):
        yield from (each for each in value.values() if isinstance(each, Widget))
    elif isinstance(value, list | tuple):
        yield from (each for each in value if isinstance(each, Widget))
