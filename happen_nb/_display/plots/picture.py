"""A plotly figure that is seen without plotly's script too. Imported when the first one is made."""

from __future__ import annotations

import json
import os
import sys
from base64 import b64encode
from html import escape
from pathlib import Path
from typing import Any, Final

from plotly.basedatatypes import BaseFigure
from plotly.graph_objects import Figure

from happen_nb._display.plots import svg
from happen_nb._display.plots.base import message
from happen_nb._display.plots.still import still

PLOTLY: Final = "application/vnd.plotly.v1+json"
_DECIDES: Final = {
    "PLOTLY_RENDERER", "COLAB_NOTEBOOK_ID", "AZURE_NOTEBOOKS_HOST", "VSCODE_PID", "NTERACT_EXE",
    "COCALC_PROJECT_ID", "DATABRICKS_RUNTIME_VERSION",
}  # fmt: skip
"""Variables of the environment, any of which has a say in how plotly shows its figures."""
MOST: Final = 72_000
"""Characters of a still picture, which is a third longer where it is shown."""
_TOO_MUCH: Final = "This is too much for a still picture. Run the cell to see it."
_UNKNOWN: Final = "What was added to it has no still picture. Run the cell to see it."


class Picture(Figure):  # type: ignore[misc]  # plotly ships no types
    """A figure which carries, beside what plotly's script draws, a still picture of the same, and its title.

    A front end takes the first of these that it can show: JupyterLab and VS Code the figure, an exported page
    or GitHub the still picture, anything else the text.
    """

    _points = False
    """Whether it has arrows for the mark under the pointer."""

    def _ipython_display_(self) -> None:
        empty = Figure({"layout": {"template": "none"}})
        if _undecided() or PLOTLY in empty._repr_mimebundle_(validate=False):
            if self._points:
                from happen_nb._widgets.panes import show_arrows

                show_arrows()
            raise NotImplementedError  # IPython then asks for the mime bundle
        super()._ipython_display_()

    def _repr_mimebundle_(self, *args: Any, **more: Any) -> dict[str, Any]:
        bundle: dict[str, Any]
        if _undecided():
            bundle = {PLOTLY: json.loads(self.to_json(validate=False))}
        else:
            bundle = super()._repr_mimebundle_(*args, **more)
        if PLOTLY in bundle and "text/html" not in bundle:
            bundle |= self.static()
        return bundle

    def static(self) -> dict[str, str]:
        """What it is where plotly's script is not: its title, and a still picture."""
        said = self._said()
        return {"text/plain": said, "text/html": _image(self.svg(), said)}

    def svg(self) -> str:
        """A still picture of it."""
        spec = self.to_plotly_json()
        try:
            drawn = still(spec["data"], spec["layout"])
        except Exception:  # plotly draws what a user added, and this need not know it
            return self._instead(_UNKNOWN)
        return drawn if len(drawn) <= MOST else self._instead(_TOO_MUCH)

    def __repr__(self) -> str:
        return self._said()

    def _instead(self, why: str) -> str:
        spec = message(self.layout.title.text or "", why).to_plotly_json()
        return still(spec["data"], spec["layout"])

    def _said(self) -> str:
        """Its title, and what it says instead of showing something."""
        notes = [] if self.data else [note.text for note in self.layout.annotations]
        return "\n".join(map(svg.plain, [self.layout.title.text or "Figure", *notes]))


def static(figure: BaseFigure) -> dict[str, str]:
    """The static form of any figure of plotly's."""
    own = figure if isinstance(figure, Picture) else Picture(figure.to_plotly_json(), skip_invalid=True)
    return own.static()


def _undecided() -> bool:
    """Whether this is a kernel of Jupyter where nothing was said of how plotly shall show its figures.

    Plotly then gives what it draws as JSON. To find that out it would import what reads notebooks, and with
    JupyterLab in the same place, that reads a grammar of addresses first, which takes seconds.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return (
        "plotly.io._renderers" not in sys.modules
        and type(shell).__name__ == "ZMQInteractiveShell"
        and type(shell).__module__.startswith("ipykernel.")
        and not _DECIDES & os.environ.keys()
        and not Path("/kaggle/input").exists()
    )


def _image(drawn: str, said: str) -> str:
    """As an image and not as it is: what cleans HTML takes pictures apart, but leaves images alone."""
    packed = b64encode(drawn.encode()).decode()
    return f'<img src="data:image/svg+xml;base64,{packed}" alt="{escape(said)}">'
