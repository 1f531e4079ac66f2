"""A plotly figure that is seen without plotly's script too. Imported when the first one is made."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import Any, Final

from plotly.graph_objects import Figure

from happen_nb.display.plots import svg
from happen_nb.display.plots.base import message
from happen_nb.display.plots.still import still

PLOTLY: Final = "application/vnd.plotly.v1+json"
MOST: Final = 72_000
"""Characters of a still picture, which is a third longer where it is shown."""
_TOO_MUCH: Final = "This is too much for a still picture. Run the cell to see it."
_UNKNOWN: Final = "What was added to it has no still picture. Run the cell to see it."


class Picture(Figure):  # type: ignore[misc]  # plotly ships no types
    """A figure which carries, beside what plotly's script draws, a still picture of the same, and its title.

    A front end takes the first of these that it can show: JupyterLab and VS Code the figure, an exported page
    or GitHub the still picture, anything else the text.
    """

    def _ipython_display_(self) -> None:
        if PLOTLY in Figure({"layout": {"template": "none"}})._repr_mimebundle_(validate=False):
            raise NotImplementedError  # IPython then asks for the mime bundle
        super()._ipython_display_()

    def _repr_mimebundle_(self, *args: Any, **more: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = super()._repr_mimebundle_(*args, **more)
        if PLOTLY in bundle and "text/html" not in bundle:
            bundle["text/plain"] = said = self._said()
            bundle["text/html"] = _image(self.svg(), said)
        return bundle

    def svg(self) -> str:
        """A still picture of it."""
        spec = self.to_plotly_json()
        try:
            drawn = still(spec["data"], spec["layout"])
        except Exception:  # plotly draws what a user added, and this need not know it
            return self._instead(_UNKNOWN)
        return drawn if len(drawn) <= MOST else self._instead(_TOO_MUCH)

    def _instead(self, why: str) -> str:
        spec = message(self.layout.title.text or "", why).to_plotly_json()
        return still(spec["data"], spec["layout"])

    def _said(self) -> str:
        """Its title, and what it says instead of showing something."""
        notes = [] if self.data else [note.text for note in self.layout.annotations]
        return "\n".join(map(svg.plain, [self.layout.title.text or "Figure", *notes]))


def _image(drawn: str, said: str) -> str:
    """As an image and not as it is: what cleans HTML takes pictures apart, but leaves images alone."""
    packed = b64encode(drawn.encode()).decode()
    return f'<img src="data:image/svg+xml;base64,{packed}" alt="{escape(said)}">'
