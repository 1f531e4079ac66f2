"""The graph: its flows, its layers, and that no text covers anything."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from geometry import Box, boxes, parsed, points_of, texts, ways, words
from made import Journal, crowd, orders, ring, shop, town

from happen_nb._display.plots.graph import Load, flows_of, graph, graph_lines, grouped
from happen_nb._display.plots.graph_drawing import MAX_CHARACTERS, draw_graph

X = "\N{MULTIPLICATION SIGN}"
HOSTILE = "<img src=x onerror=alert(1)> <b>bold</b> $x^2$ &amp; %{x} \u202e\x1b[31m"
WIDTHS = (300, 700, 1000, 1600)


JOURNALS = {
    "orders": orders,
    "shop": shop,
    "town": town,
    "ring": lambda: ring(12),
    "large ring": lambda: ring(40),
}


# -- flows -------------------------------------------------------------------------------------------


def test_a_flow_leads_from_the_sender_to_each_node_that_handled_the_event():
    flows = flows_of(shop().slice)
    assert {key: flow.number for key, flow in flows.items()} == {
        ("notebook", "billing"): 1,
        ("notebook", "orders"): 1,
        ("notebook", "stock"): 1,
        ("stock", "stock"): 1,
    }


def test_several_handlers_of_a_node_count_once_and_refusals_not_at_all():
    x = Journal()
    event = x.emit("a")
    for outcome in ("done", "failed", "done"):
        x.handle(event, "b", outcome)
    x.handle(event, "c", "refused")
    (flow,) = flows_of(x.slice).values()
    assert (flow.handler, flow.number, flow.failed.total()) == ("b", 1, 1)


def test_five_names_that_differ_in_a_number_are_a_group_unless_it_is_opened():
    names = ["api", *(f"p{each}" for each in (10, 9, 1, 2, 3)), "q1", "q2"]
    assert [each.name for each in grouped(names)] == ["api", "p*", "q1", "q2"]
    assert grouped(names)[1].nodes == ("p1", "p2", "p3", "p9", "p10")
    assert [each.name for each in grouped(names, opened={"p*"})] == names


# -- text --------------------------------------------------------------------------------------------


def test_as_text_each_flow_is_a_line_in_the_order_of_the_events():
    assert graph_lines(graph(orders().slice))[:5] == [
        f"notebook → orders  order.created {X}6",
        f"orders → stock     stock.reserve {X}6",
        f"stock → orders     stock.reserved {X}6",
        f"orders → bank      bank.charge {X}6, {X} 1 failed",
        f"bank → audit       bank.paid {X}6",
    ]


def test_a_space_in_which_nothing_was_handled_says_so():
    x = Journal()
    x.emit("a")
    shown = graph(x.slice)
    assert graph_lines(shown) == ["No handled events to show yet."]
    assert words(parsed(draw_graph(shown).svg))[-1] == "No handled events to show yet."


# -- the picture -------------------------------------------------------------------------------------


def test_types_and_counts_stand_at_the_arrows_and_failures_are_named():
    shown = words(parsed(draw_graph(graph(orders().slice), width=1400).svg))
    assert {f"order.created {X}6", f"stock.reserve {X}6", f"bank.charge {X}6", f"{X} 1 failed"} <= set(shown)
    assert shown.count(f"bank.paid {X}6") == 2, "one for the two nodes of a layer, one for the way back"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("journal", JOURNALS.values(), ids=JOURNALS)
def test_no_text_covers_a_node_a_line_or_another_text(journal, width):
    drawn = parsed(draw_graph(graph(journal().slice), width=width).svg)
    nodes, lines_ = boxes(drawn), ways(drawn)
    assert nodes
    assert lines_
    for text, place in texts(drawn):
        inner = Box(place.left + 1, place.top, place.left + 0.93 * (place.right - place.left), place.bottom)
        assert all(node.holds(inner) or not node.overlaps(inner) for node in nodes), text
        assert not any(inner.has(point) for way in lines_ for point in way), text
        assert inner.right <= width, text
    for (one, first), (other, second) in combinations(texts(drawn), 2):
        assert not first.overlaps(second), (one, other)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("journal", JOURNALS.values(), ids=JOURNALS)
def test_each_arrow_ends_at_its_nodes_and_crosses_no_other(journal, width):
    shown = draw_graph(graph(journal().slice), width=width)
    drawn = parsed(shown.svg)
    nodes = dict(zip((group.name for group in shown.groups), boxes(drawn), strict=True))
    for each in drawn.iter():
        if not each.get("data-way"):
            continue
        flow = shown.flows[int(each.get("data-way"))]
        points = list(points_of(each.get("d")))
        assert touches(nodes[flow.sender], points[0]), flow.key
        assert touches(nodes[flow.handler], points[-1], 9.0), flow.key
        for node in nodes.values():
            inner = Box(node.left + 1, node.top + 1, node.right - 1, node.bottom - 1)
            assert not any(inner.has(point) for point in points), flow.key


def touches(box: Box, point: tuple[float, float], distance: float = 1.0) -> bool:
    wider = Box(box.left - distance, box.top - distance, box.right + distance, box.bottom + distance)
    return wider.has(point)


@pytest.mark.parametrize("width", WIDTHS)
def test_nodes_never_overlap_and_the_picture_is_as_wide_as_asked(width):
    drawn = parsed(draw_graph(graph(ring(40).slice), width=width).svg)
    assert float(drawn.get("width")) == width
    assert not any(one.overlaps(other) for one, other in combinations(boxes(drawn), 2))


def test_a_wide_picture_reads_from_left_to_right_and_uses_its_width():
    shown = draw_graph(graph(orders().slice), width=1600)
    nodes = dict(zip((group.name for group in shown.groups), boxes(parsed(shown.svg)), strict=True))
    order = [nodes[name].left for name in ("notebook", "orders", "bank", "mail")]
    assert order == sorted(order)
    assert nodes["notebook"].left < 200
    assert nodes["mail"].right > 1400


@pytest.mark.parametrize("width", [300, 700])
def test_boxes_give_way_to_the_types_on_the_arrows(width):
    x = Journal()
    for _ in range(4):
        placed = x.emit("notebook", "order.placed")
        x.handle(placed, "stock")
        packed = x.emit("stock", "order.packed", cause=placed)
        for node in ("billing", "orders"):
            x.handle(placed, node)
            x.handle(packed, node)
    drawn = words(parsed(draw_graph(graph(x.slice), width=width).svg))
    assert {f"order.placed {X}4", f"order.packed {X}4"} <= set(drawn)


@pytest.mark.parametrize("width", [420, 540, 700, 1000, 1600])
def test_names_and_counts_are_whole_in_each_width(width):
    x = Journal()
    for number in range(3):
        order = x.emit("notebook", "order")
        x.handle(order, "shipping-department")
        parcel = x.emit("shipping-department", "parcel", cause=order)
        x.handle(parcel, "customer-service")
        if number:
            x.handle(x.emit("customer-service", "thanks", cause=parcel), "archive")
    drawn = words(parsed(draw_graph(graph(x.slice), width=width).svg))
    assert {"notebook", "shipping-department", "customer-service", "archive"} <= set(drawn)
    assert sorted(each for each in drawn[1:] if each.endswith((" sent", " handled"))) == [
        *("2 handled", "2 sent", "3 handled", "3 handled", "3 sent", "3 sent"),
    ]


def test_nodes_without_arrows_to_others_fill_the_layers_with_room():
    x = Journal()
    chain = ("customers", "shop", "wholesaler", "brewery", "farm")
    x.nodes = (*chain, "books", "rules")
    for name in (*chain, "books"):
        x.handle(x.emit(name, "every"), name)
    for one, other in pairwise(chain):
        x.handle(x.emit(one, f"{other}.order"), other)
        x.handle(x.emit(other, f"{one}.delivery"), one)
    shown = draw_graph(graph(x.slice), width=420)
    assert {group.name for group in shown.groups} == set(x.nodes)


def test_many_numbered_nodes_are_one_with_a_dot_each_until_it_is_opened():
    x = town()
    closed, opened = graph(x.slice), graph(x.slice, opened={"p*"})
    assert [group.name for group in closed.groups] == ["clock", "p*"]
    assert draw_graph(closed).svg.count("h0") == 160
    assert {"p*", "160 nodes"} <= set(words(parsed(draw_graph(closed).svg)))
    assert len(opened.groups) == 161
    assert "161 nodes" in " ".join(words(parsed(draw_graph(opened).svg)))
    assert list(opened.names) == ["p*"]


def test_what_waits_for_a_node_stands_in_it():
    shown = graph(orders().slice, loads={"bank": Load(waiting=3), "orders": Load(waiting=2, held=1)})
    assert {"3 waiting", "1 held", "2 waiting"} <= set(words(parsed(draw_graph(shown, width=1400).svg)))


def test_a_picture_is_never_larger_than_its_bound():
    for x in (crowd(2_000, nodes=9), ring(50)):
        for width in (700, 1600):
            assert len(draw_graph(graph(x.slice), width=width, live=True).svg) <= MAX_CHARACTERS


def test_nothing_in_the_data_becomes_markup():
    x = Journal(HOSTILE)
    x.nodes = (HOSTILE[1:],)
    x.handle(x.emit(HOSTILE, HOSTILE), HOSTILE, "failed", HOSTILE)
    x.handle(x.emit(HOSTILE[3:], HOSTILE), HOSTILE)
    drawn = parsed(draw_graph(graph(x.slice), live=True).svg)
    tags = {each.tag.partition("}")[2] for each in drawn.iter()}
    assert tags <= {"svg", "style", "g", "path", "rect", "text", "tspan", "title"}
    assert not [name for each in drawn.iter() for name in each.attrib if name.startswith("on")]
    assert not {"\u202e", "\x1b"} & set(draw_graph(graph(x.slice)).svg)


def test_the_same_journal_gives_the_same_picture():
    assert draw_graph(graph(crowd(500).slice)) == draw_graph(graph(crowd(500).slice))
