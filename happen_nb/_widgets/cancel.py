"""A button below the progress of a reply, which cancels it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import anywidget

from happen_nb._display.live_output import publisher
from happen_nb._display.page import style
from happen_nb._runtime.cells import cells
from happen_nb._widgets.mime import ALIVE, show_widget
from happen_nb._widgets.panes import source

if TYPE_CHECKING:
    from happen_nb._api.reply import Reply
    from happen_nb._runtime.runtime import Runtime


class CancelButton(anywidget.AnyWidget):
    """Cancels a reply when it is pressed; it closes when the reply is done."""

    _esm = source("elements.js") + source("cancel.js")
    _css = style() + source("cancel.css")

    def __init__(self, reply: Reply, runtime: Runtime) -> None:
        super().__init__(_dom_classes=(ALIVE,))
        self._reply, self._runtime = reply, runtime
        self.on_msg(self._on_message)
        cells.register(self.close)

    def close_when_done(self) -> None:
        """Close if the reply is done; called on the IO thread at each change."""
        if self._reply.done and self.comm is not None:
            self._runtime.workers.submit(self.close)

    def close(self) -> None:
        """Remove the button."""
        self.layout.close()
        super().close()

    def _on_message(self, _: object, message: Mapping[str, Any], __: object) -> None:
        if message.get("do") == "cancel":
            self._runtime.workers.submit(self._reply.cancel)  # the main thread may be busy


def show_cancel(reply: Reply, runtime: Runtime, listen: Callable[[Callable[[], None]], object]) -> None:
    """Show the button below the progress of a reply, in a notebook."""
    if publisher() is None:
        return
    button = CancelButton(reply, runtime)
    listen(button.close_when_done)
    show_widget(button)
    button.close_when_done()  # it may have been done before the button listened
