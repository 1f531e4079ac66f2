"""What is the same each time of a figure whose times and places vary."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

PLOTLY = "application/vnd.plotly.v1+json"
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?( UTC)?|\b[\d,.]+ (µs|ms|s|min)\b")
DIGITS = 3  # after the point
"""How exactly the numbers of two runs must agree."""


def is_figure(value: Any) -> bool:
    """Whether it is a figure as JSON."""
    return isinstance(value, dict) and {"data", "layout"} <= value.keys()


def outline(figure: dict[str, Any]) -> dict[str, Any]:
    """Its title, what is drawn by which names, and the data of that without what varies."""
    title, draw = figure["layout"]["title"]["text"], timeless if is_of_times(figure) else whole
    drawn = [{"type": trace["type"], "name": trace.get("name"), **draw(trace)} for trace in figure["data"]]
    return {"title": title, "drawn": drawn}


def is_of_times(figure: dict[str, Any]) -> bool:
    """Whether its marks are where things were stored, in time."""
    return str(figure["layout"].get("xaxis", {}).get("title", {}).get("text", "")).startswith("time")


def whole(trace: dict[str, Any]) -> dict[str, Any]:
    """All that a trace shows."""
    shown = {key: rounded(trace.get(key)) for key in ("x", "y", "text")}
    return {**shown, "hovertext": [masked(text) for text in trace.get("hovertext") or ()]}


def timeless(trace: dict[str, Any]) -> dict[str, Any]:
    """How much there is on each lane, or at each height; of lines from where to where they lead.

    Marks that would touch are one mark with a count, and whether they touch is a matter of time.
    """
    places = rounded(trace["y"])
    if trace.get("mode") == "lines" and None in places:
        return {"from_to": sorted({(start, end) for start, end in zip(places[::3], places[1::3], strict=True)})}
    counts: Counter[float] = Counter()
    for place, tally in zip(places, trace.get("text") or [""] * len(places), strict=True):
        counts[place] += int(str(tally).replace(",", "") or 1)
    return {"at": sorted(counts.items())}


def rounded(value: Any) -> Any:
    """Numbers without what arithmetic may do to their last digits."""
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def masked(text: str) -> str:
    """A text without its times."""
    return TIME.sub("TIME", text)
