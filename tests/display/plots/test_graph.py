from itertools import combinations
from math import dist

import pytest
from made import Journal, crowd, shop, tags, texts, trace

from happen_nb._display.plots.graph import MAX_NODES, Box, flows_of, graph, place_labels, size_for

HOSTILE = "<img src=x onerror=alert(1)> <b>bold</b> $x^2$ &amp; %{x} \u202e\x1b[31m"


def ring(number: int, *, loops: bool = False) -> Journal:
    """Nodes that talk to their neighbours and to some far away."""
    x = Journal()
    x.nodes = tuple(f"a-service-with-a-name-{each}" for each in range(number))
    for each in range(3 * number):
        event = x.emit(x.nodes[each % number])
        x.handle(event, x.nodes[(each + 1 + each // number * 7) % number])
        if loops:
            x.handle(event, event.sender)
    return x


def pixels(figure):
    shown = trace(figure, "nodes")
    height = figure.layout.height - figure.layout.margin.t
    scale = height / (figure.layout.yaxis.range[1] - figure.layout.yaxis.range[0])
    return [(x * scale, y * scale) for x, y in zip(shown.x, shown.y, strict=True)], shown.marker.size


def test_a_flow_leads_from_the_sender_to_each_node_that_handled_the_event():
    flows = flows_of(shop().slice)
    assert {(key, flow.number) for key, flow in flows.items()} == {
        (("notebook", "billing"), 1),
        (("notebook", "orders"), 1),
        (("notebook", "stock"), 1),
        (("stock", "stock"), 1),
    }


def test_several_handlers_of_a_node_count_once_and_refusals_not_at_all():
    x = Journal()
    event = x.emit("a")
    for outcome in ("done", "failed", "done"):
        x.handle(event, "b", outcome)
    x.handle(event, "c", "refused")
    (flow,) = flows_of(x.slice).values()
    assert (flow.handler, flow.number, flow.failed.total()) == ("b", 1, 1)


def test_counts_stand_at_the_arrows_and_failures_in_red():
    figure = graph(shop().slice)
    failed = '<b>1</b><br><span style="color:#cf4d45">1 failed</span>'
    assert sorted(trace(figure, "arrows").text) == sorted([failed, *["<b>1</b>"] * 3])
    assert [name for name, width in names_and_rings(figure) if width] == ["billing"]


def names_and_rings(figure):
    shown = trace(figure, "nodes")
    names = [text.split("<br>")[0].removeprefix("<b>").removesuffix("</b>") for text in shown.hovertext]
    return list(zip(names, shown.marker.line.width, strict=True))


def test_the_text_of_a_flow_counts_events_by_type():
    x = Journal()
    for type in ("order.made", "order.paid", "order.made"):
        x.handle(x.emit("a", type), "b", "failed" if type == "order.paid" else "done")
    (text,) = trace(graph(x.slice), "arrows").hovertext
    assert [" ".join(line.split()) for line in text.split("<br>")] == [
        "<b>a → b</b>",
        "2 order.made",
        "1 order.paid, 1 failed",
    ]


def test_the_text_of_a_node_counts_its_unhandled_events():
    x = Journal()
    x.handle(x.emit("a"), "b")
    x.emit("a")
    assert (
        "<b>a</b><br>sent 2 events, 1 unhandled<br>handled 0 events"
        in trace(graph(x.slice), "nodes").hovertext
    )


@pytest.mark.parametrize("number", [1, 2, 3, 7, 12, 13, 30, 50])
def test_nodes_and_their_names_do_not_overlap(number):
    figure = graph(ring(number, loops=True).slice)
    places, size = pixels(figure)
    assert len(places) == number
    assert all(dist(one, other) > size + 4 for one, other in combinations(places, 2))
    names = [each for each in figure.layout.annotations if each.text and not each.ax]
    if number <= 12:
        boxes = [box(each, place) for each, place in zip(names, places, strict=True)]
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def box(label, place):
    width = 6.2 * len(label.text)
    side = {"left": width / 2, "right": -width / 2, "center": 0}[label.xanchor]
    return Box(place[0] + label.xshift + side, place[1] + label.yshift, width, 13)


@pytest.mark.parametrize("number", [2, 5, 12])
def test_counts_are_on_no_other_count_and_on_no_node(number):
    figure = graph(ring(number, loops=True).slice)
    radius = size_for(number, loops=True).radius
    shown = trace(figure, "arrows")
    places, size = pixels(figure)
    counts = [
        Box(x * radius, y * radius, 6.4 * len("1"), 13)
        for x, y, text in zip(shown.x, shown.y, shown.text, strict=True)
        if text
    ]
    nodes = [Box(*place, size - 3, size - 3) for place in places]
    assert not any(one.overlaps(other) for one, other in combinations(counts, 2))
    assert not any(one.overlaps(other) for one in counts for other in nodes)


def test_a_count_without_room_is_left_to_pointing():
    way = [(float(x), 1.0 if 0 < x < 14 else 0.0) for x in range(15)]
    assert place_labels([way], [(10.0, 13.0)], [Box(0, 0, 500, 500)]) == [None]


def test_there_and_back_are_two_bows():
    x = Journal()
    x.nodes = ("a", "b", "c")
    x.handle(x.emit("a"), "b")
    x.handle(x.emit("b"), "a")
    shown = trace(graph(x.slice), "arrows")
    assert len(set(zip(shown.x, shown.y, strict=True))) == 2


def test_of_many_nodes_the_busiest_are_shown():
    figure = graph(crowd(2_000, nodes=90).slice)
    assert len(trace(figure, "nodes").x) == MAX_NODES
    assert f"{MAX_NODES} of 91 nodes" in figure.layout.title.text
    assert len(figure.to_json()) < 250_000


def test_nothing_in_the_data_becomes_markup_or_tex():
    x = Journal(HOSTILE)
    x.nodes = (HOSTILE[1:],)
    x.handle(x.emit(HOSTILE, HOSTILE), HOSTILE, "failed", HOSTILE)
    x.handle(x.emit(HOSTILE[3:], HOSTILE), HOSTILE)
    figure = graph(x.slice)
    assert tags(figure) == {"b", "br", "span style=color:#cf4d45"}
    assert not {"$", "\u202e", "\x1b"} & set("".join(texts(figure)))


def test_a_space_in_which_nothing_was_handled_gives_a_friendly_figure():
    x = Journal()
    x.emit("a")
    (note,) = graph(x.slice).layout.annotations
    assert note.text == "No event has been handled here yet."


def test_the_same_journal_gives_the_same_figure():
    assert graph(crowd(500).slice).to_json() == graph(crowd(500).slice).to_json()
