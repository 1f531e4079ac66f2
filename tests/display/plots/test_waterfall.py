"""The waterfall of a trace: start and duration of each handling, aligned, in SVG and in text."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET

import pytest

import happen_nb as happen

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def trace(space):
    """One handler waits for another, which sleeps; a third fails."""
    slow, fast = space.create_node("slow"), space.create_node("fast")

    @fast.on("start")
    def ask(event):
        fast.send(slow, "work").result()
        fast.broadcast("end")

    @slow.on("work")
    def work(event):
        time.sleep(0.3)  # so long that a busy machine hardly changes the lengths of the bars
        slow.state.set({"done": True})

    @slow.on("end")
    def fail(event):
        raise ValueError("<b>too late</b>")

    return space.broadcast("start").settle()


def test_text_aligns_starts_durations_and_bars(trace):
    _, *lines = repr(trace.waterfall()).splitlines()
    labels = ["start → fast · ask", "work → slow · work", "slow revision 1", "end → slow · fail"]
    assert [re.split(r"\s{2,}", line.strip())[0] for line in lines] == labels
    bars = [re.search(r"[·█▪x]+$", line) for line in lines]
    assert len({line.index("s", 30) for line in lines[:2]}) <= 2
    asking, working, committed, failing = (bar.span() for bar in bars)
    assert asking[0] <= working[0] < committed[0] <= failing[1]
    assert bars[1][0].strip("·").count("█") > 10
    assert bars[3][0].endswith("x")


def test_the_picture_shows_each_bar_in_its_place(trace):
    root = ET.fromstring(trace.waterfall().svg)
    width = float(root.get("width"))
    marks = list(root.iter(f"{SVG}rect"))
    assert len(marks) == 4
    assert all(250 < float(each.get("x")) < width for each in marks)
    asking, working, committed, _ = ((float(each.get("x")), float(each.get("width"))) for each in marks)
    assert asking[0] <= working[0] < committed[0] < working[0] + working[1] + 4
    assert asking[1] >= working[1] > 20 * 3
    assert [each.text for each in root.iter(f"{SVG}title")][-1].endswith("ValueError: <b>too late</b>")


def test_a_picture_that_is_too_narrow_is_refused(trace):
    with pytest.raises(ValueError, match="waterfall: width"):
        trace.waterfall(width=100)


def test_a_long_trace_is_cut(space):
    node = space.create_node("node")

    @node.on("many")
    def emit(event):
        for number in range(300):
            node.broadcast("one", number)

    drawn = space.broadcast("many").settle().waterfall()
    assert repr(drawn).splitlines()[-1].strip() == "… 101 more"
    assert len(drawn._repr_mimebundle_()["text/html"]) < 100_000


def test_a_handling_of_an_older_version_without_its_start_begins_with_the_event(space):
    from happen_nb._display.plots.waterfall import waterfall
    from happen_nb._model.causality import TraceNode
    from happen_nb._model.records import EventRecord, HandledRecord

    event = EventRecord("e", "start", "notebook", sequence=1, time=1_000_000_000)
    (bar,) = waterfall("start", TraceNode(event, handled=(HandledRecord("e", "n", "f", "done", 0.5),))).bars
    assert (bar.since, bar.start, bar.end) == (1_000_000_000, 1_000_000_000, 1_500_000_000)
    assert happen.WaterfallDiagram("start", TraceNode(event), width=600).svg.startswith("<svg")
