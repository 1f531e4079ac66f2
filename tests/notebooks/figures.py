"""The outline of a figure: its parts that are equal in each run."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

PLOTLY = "application/vnd.plotly.v1+json"
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?( UTC)?|\b[\d,.]+ (µs|ms|s|min)\b")
DIGITS = 3  # after the point: the precision to which the numbers of two runs must agree


def is_figure(value: Any) -> bool:
    """Return True if the value is a figure as JSON."""
    return isinstance(value, dict) and {"data", "layout"} <= value.keys()


def outline(figure: dict[str, Any]) -> dict[str, Any]:
    """Return the title, and the type, name and data of each trace, without the parts that vary."""
    data_of = data_without_times if has_time_axis(figure) else all_data
    traces = [{"type": trace["type"], "name": trace.get("name"), **data_of(trace)} for trace in figure["data"]]
    return {"title": figure["layout"]["title"]["text"], "traces": traces}


def has_time_axis(figure: dict[str, Any]) -> bool:
    """Return True if the x axis shows the time when things were stored."""
    return str(figure["layout"].get("xaxis", {}).get("title", {}).get("text", "")).startswith("time")


def all_data(trace: dict[str, Any]) -> dict[str, Any]:
    """Return the data of a trace, with the times in its texts masked."""
    data = {key: rounded(trace.get(key)) for key in ("x", "y", "text")}
    return {**data, "hovertext": [masked(text) for text in trace.get("hovertext") or ()]}


def data_without_times(trace: dict[str, Any]) -> dict[str, Any]:
    """Count the marks at each height; for lines, return the heights of their ends.

    Marks that would touch are drawn as one mark with a count. Whether they touch depends on their times.
    """
    heights = rounded(trace["y"])
    if trace.get("mode") == "lines" and None in heights:
        return {"from_to": sorted(set(zip(heights[::3], heights[1::3], strict=True)))}
    counts: Counter[float] = Counter()
    for height, tally in zip(heights, trace.get("text") or [""] * len(heights), strict=True):
        counts[height] += int(str(tally).replace(",", "") or 1)
    return {"at": sorted(counts.items())}


def rounded(value: Any) -> Any:
    """Round the numbers in a value: their last digits may differ."""
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def masked(text: str) -> str:
    """Mask the times in a text."""
    return TIME.sub("TIME", text)
