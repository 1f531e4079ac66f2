"""What is the same each time of a figure whose times and places vary."""

from __future__ import annotations

from typing import Any

PLOTLY = "application/vnd.plotly.v1+json"


def is_figure(value: Any) -> bool:
    """Whether it is a figure as JSON."""
    return isinstance(value, dict) and {"data", "layout"} <= value.keys()


def outline(figure: dict[str, Any]) -> dict[str, Any]:
    """Its title, what is drawn, and by which names."""
    drawn = [[trace["type"], trace.get("name")] for trace in figure["data"]]
    return {"title": figure["layout"]["title"]["text"], "drawn": drawn}
