"""The timeline: its lanes, its time, its marks, and what is at a place."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise

import pytest
from geometry import parsed, texts, words
from made import MS, SECOND, Journal, crowd, shop

from happen_nb._display.plots.timeline import MAX_LANES, Timeline, sums, timeline_lines, tip
from happen_nb._display.plots.timeline_drawing import draw_timeline
from happen_nb._display.plots.timeline_marks import MAX_CHARACTERS
from happen_nb._model.records import HandledRecord
from happen_nb._model.schedules import ClockMoves

HOSTILE = "<img src=x onerror=alert(1)> <b>bold</b> $x^2$ &amp; %{x} \u202e\x1b[31m"
WIDTHS = (300, 700, 1000, 1600)


def names(shown, **how):
    return [lane.name for lane in shown.lanes(**how)[0]]


def item(shown, kind, node):
    return next(each for each in shown.items if each.kind == kind and each.node == node)


def test_the_names_of_lanes_are_whole_where_there_is_room():
    x = Journal("reruns")
    nodes = ["notebook", "notebook (now)", "stock (now)"]
    for node in nodes:
        x.emit(node, "moved")
    for width in range(500, 560, 7):
        drawn = parsed(draw_timeline(Timeline(x.slice), width=width).svg)
        assert set(nodes) <= set(words(drawn))


def test_the_legend_is_whole_at_every_width():
    kinds = {"event", "handling", "waiting", "commit"}
    for width in (300, 340, 700):
        drawn = parsed(draw_timeline(Timeline(shop().slice), width=width).svg)
        marks = {text: box for text, box in texts(drawn) if text in kinds}
        assert set(marks) == kinds
        assert all(box.bottom < float(drawn.get("height")) for box in marks.values())


def test_a_lane_with_a_long_name_keeps_its_end():
    x = Journal("reruns")
    for node in ("the-warehouse-of-the-north", "the-warehouse-of-the-north (now)"):
        x.emit(node, "moved")
    drawn = parsed(draw_timeline(Timeline(x.slice), width=510).svg)
    names = [text for text in words(drawn) if text.startswith("the-")]
    assert len(names) == 2
    assert [text for text in names if text.endswith("… (now)")]
    assert all("…" in text for text in names)


def handled(x, event, node, waited, took, outcome="done"):
    x.handled.append(HandledRecord(event.id, node, "on_it", outcome, took, None, waited=waited))


def many(number: int, nodes: int = 200) -> Journal:
    x = Journal("many")
    people = [f"p{each}" for each in range(nodes)]
    for each in range(number):
        cause = x.events[-1] if each % 5 else None
        event = x.emit(people[each * 7 % nodes], "meet", {"n": each}, cause=cause)
        handled(x, event, people[each * 11 % nodes], 0.001, 0.003, "failed" if each % 5000 == 9 else "done")
    return x


# -- lanes -------------------------------------------------------------------------------------------


def test_lanes_are_in_the_order_in_which_nodes_first_did_something():
    assert names(Timeline(shop().slice)) == ["notebook", "billing", "orders", "stock"]


def test_nodes_that_only_commit_come_last():
    x = Journal()
    x.commit("n1", {"a": 1})
    x.commit("n2", {"a": 1})
    x.emit("n9")
    assert names(Timeline(x.slice)) == ["n9", "n1", "n2"]


def test_many_numbered_nodes_share_a_lane_that_can_be_opened():
    shown = Timeline(many(100, nodes=20).slice)
    assert names(shown) == ["p*"]
    assert len(names(shown, opened={"p*"})) == 20
    closed, opened = draw_timeline(shown), draw_timeline(shown, opened={"p*"})
    assert "▸ p* (20)" in words(parsed(closed.svg))
    assert "p19" in words(parsed(opened.svg))


def test_of_many_other_nodes_the_busiest_are_shown():
    x = Journal()
    for number in range(60):
        for _ in range(1 + number // 30):
            x.emit(f"{number}-node")
    shown = Timeline(x.slice)
    assert len(names(shown)) == MAX_LANES
    assert f"{MAX_LANES} of 60 nodes" in " ".join(words(parsed(draw_timeline(shown).svg)))


def test_lanes_may_be_chosen():
    shown = Timeline(shop().slice, nodes=["stock", "notebook"])
    assert names(shown) == ["stock", "notebook"]
    assert {spot.item.node for spot in draw_timeline(shown).spots} == {"stock", "notebook"}


# -- time --------------------------------------------------------------------------------------------


def with_pauses(*hours):
    x = Journal()
    for each in hours:
        x.emit("a")
        x.emit("a")
        x.wait(round(each * 3_600) * SECOND)
    return x


def test_long_idle_time_is_left_out_and_named():
    x = with_pauses(2, 2, 2)
    assert "2 h idle" in words(parsed(draw_timeline(Timeline(x.slice), width=1000).svg))


@pytest.mark.parametrize(("width", "number"), [(400, 0), (500, 4), (1000, 7)])
def test_idle_times_are_named_above_their_own_breaks_where_there_is_room(width, number):
    x = with_pauses(*(hours + 0.3 for hours in range(2, 9)))
    x.emit("a")
    drawn = draw_timeline(Timeline(x.slice), width=width)
    places = [drawn.left + each.place for each in drawn.axis.breaks]
    labels = [(text, box) for text, box in texts(parsed(drawn.svg)) if "idle" in text]
    assert len(labels) == number
    for text, box in labels:
        (index,) = [index for index, place in enumerate(places) if box.left < place < box.right]
        assert text == f"{drawn.axis.breaks[index].label} idle"
    assert all(one.right < next.left for (_, one), (_, next) in pairwise(labels))


def test_on_a_manual_clock_breaks_have_no_real_times():
    x = with_pauses(2, 2, 2)
    drawn = draw_timeline(Timeline(replace(x.slice, clock=ClockMoves([0], [0]))), width=1000)
    assert drawn.axis.breaks
    assert "idle" not in drawn.svg


def test_time_in_which_a_handler_works_is_never_left_out():
    x = Journal()
    handled(x, x.emit("a"), "b", 0.001, 7_200)
    x.wait(7_200 * SECOND)
    x.emit("a")
    assert not [text for text in words(parsed(draw_timeline(Timeline(x.slice)).svg)) if "idle" in text]


def test_a_bar_is_as_long_as_its_handling_and_its_event_waits_before_it():
    x = Journal()
    event = x.emit("a")
    handled(x, event, "b", 0.01, 0.02)
    x.wait(100 * MS)
    x.emit("a")
    shown = draw_timeline(Timeline(x.slice), width=1000)
    (bar,) = [spot for spot in shown.spots if spot.item.kind == "handling"]
    (first, last) = [spot.x for spot in shown.spots if spot.item.kind == "event"]
    wait, took = bar.x - first, bar.end - bar.x
    assert took == pytest.approx(2 * wait, rel=0.05)
    assert bar.end < last


def test_a_window_shows_only_its_time():
    x = crowd(300)
    shown = Timeline(x.slice)
    start, end = x.events[10].time, x.events[40].time
    drawn = draw_timeline(shown, window=(start, end))
    assert drawn.spots
    assert all(start <= spot.item.time <= end for spot in drawn.spots)
    assert "Nothing happened in this time." in draw_timeline(shown, window=(1, 2)).svg


@pytest.mark.parametrize("window", [None, "half"])
def test_a_pixel_has_a_time_and_a_time_its_pixel(window):
    x = crowd(300)
    shown = Timeline(x.slice)
    span = None if window is None else (x.events[50].time, x.events[150].time)
    drawn = draw_timeline(shown, window=span, width=1600)
    for spot in list(drawn.spots)[::17]:
        assert abs(drawn.time(spot.x) - spot.item.time) <= MS


# -- marks -------------------------------------------------------------------------------------------


def test_what_is_at_a_place_is_the_nearest_mark_or_the_bar():
    shown = Timeline(shop().slice)
    drawn = draw_timeline(shown)
    for spot in drawn.spots:
        if spot.item.kind != "handling":
            assert drawn.at(spot.x + 2, spot.y) is spot.item
    bars = [spot for spot in drawn.spots if spot.item.kind == "handling"]
    assert all(drawn.at((bar.x + bar.end) / 2, bar.y) is bar.item for bar in bars)
    assert drawn.at(-50, -50) is None


def to_come(number: int = 0) -> Journal:
    x = shop()
    x.schedule("stock", "every", 5)
    x.schedule("orders", "order.expired", 60)
    x.schedule("billing", "invoice.due", 3_600)
    for each in range(number):
        x.schedule(("orders", "stock")[each % 2], "reminder", 7 * each)
    return x


def test_scheduled_events_are_outlined_right_of_all_that_has_happened():
    drawn = draw_timeline(Timeline(to_come().slice), width=1000)
    past = [spot for spot in drawn.spots if spot.item.kind != "scheduled"]
    coming = [spot for spot in drawn.spots if spot.item.kind == "scheduled"]
    assert [spot.item.node for spot in coming] == ["stock", "orders", "billing"]
    assert [spot.x for spot in coming] == sorted(spot.x for spot in coming)
    assert coming[0].x > max(spot.end for spot in past)
    rings = [each for each in parsed(drawn.svg).iter() if each.get("class") == "due"]
    assert len(rings) == 4  # one of each lane, and one in the legend
    for spot in coming:
        on_lane = [each.y for each in past if each.item.node == spot.item.node]
        assert min(abs(y - spot.y) for y in on_lane) < 20
        assert drawn.at(spot.x, spot.y) is spot.item


def test_the_type_and_the_due_time_stand_beside_a_scheduled_event():
    shown = Timeline(to_come().slice)
    drawn = words(parsed(draw_timeline(shown, width=1000).svg))
    for text in ("every", "12:00:05", "order.expired", "12:01:00", "invoice.due", "13:00:00", "to come"):
        assert text in drawn
    assert tip(shown, shown.coming[1]) == "order.expired · orders → all\ndue 2026-03-14 12:01:00.006 UTC"


def test_as_text_a_lane_counts_its_scheduled_events_and_the_next_have_lines():
    assert timeline_lines(Timeline(to_come().slice)) == [
        "notebook  1 event",
        "billing   1 handling · 1 failure · 1 scheduled event",
        "orders    1 handling · 1 commit · 1 scheduled event",
        "stock     1 event · 2 handlings · 3 commits · 1 scheduled event",
        "due 2026-03-14 12:00:05.006 UTC  stock  every",
        "due 2026-03-14 12:01:00.006 UTC  orders  order.expired",
        "due 2026-03-14 13:00:00.006 UTC  billing  invoice.due",
    ]


def test_a_node_that_has_only_something_scheduled_has_a_lane():
    x = Journal("new")
    x.schedule("orders", "order.expired", 60)
    drawn = draw_timeline(Timeline(x.slice))
    assert [spot.item.kind for spot in drawn.spots] == ["scheduled"]
    assert {"orders", "order.expired"} <= set(words(parsed(drawn.svg)))


def test_a_part_of_the_past_does_not_show_what_is_to_come():
    shown = Timeline(to_come().slice)
    drawn = draw_timeline(shown, window=(shown.items[0].time, shown.items[-1].time))
    assert not [spot for spot in drawn.spots if spot.item.kind == "scheduled"]


def test_a_scheduled_event_is_an_effect_of_its_cause():
    x = to_come()
    x.scheduled[1] = replace(x.scheduled[1], cause=x.events[0].id)
    shown = Timeline(x.slice)
    order, later = item(shown, "event", "notebook"), shown.coming[1]
    assert later in shown.effects(order)
    assert shown.causes(later) == [order]
    curves = [
        each for each in parsed(draw_timeline(shown, chosen=later).svg).iter() if each.get("class") == "cause"
    ]
    assert curves


def test_causes_lead_back_to_the_first_event_and_effects_on():
    shown = Timeline(shop().slice)
    low = item(shown, "event", "stock")
    assert [each.event.type for each in shown.causes(low)] == ["order.created"]
    effects = shown.effects(item(shown, "event", "notebook"))
    assert [(each.kind, each.node) for each in effects] == [
        ("handling", "orders"),
        ("handling", "stock"),
        ("handling", "billing"),
        ("commit", "orders"),
        ("commit", "stock"),
        ("event", "stock"),
    ]


def test_the_first_failure_is_the_story_at_first():
    shown = Timeline(shop().slice)
    assert (shown.story().kind, shown.story().node) == ("failure", "billing")
    drawn = parsed(draw_timeline(shown, chosen=shown.story()).svg)
    assert [each for each in drawn.iter() if each.get("class") == "chosen"]
    assert [each for each in drawn.iter() if each.get("class") == "cause"]


def test_what_does_not_match_steps_back():
    shown = Timeline(shop().slice)
    assert {each.kind for each in shown.matches("NO CARD")} == {"handling", "failure"}
    assert {each.node for each in shown.matches("stock.low")} == {"stock"}
    assert 'opacity=".16"' in draw_timeline(shown, find="stock.low").svg
    assert len(draw_timeline(shown, find="nothing like it").spots) == len(draw_timeline(shown).spots)


def test_a_selection_adds_up_what_happened_in_it():
    x = Journal()
    first = x.emit("a")
    handled(x, first, "b", 0.0, 0.01)
    x.wait(100 * MS)
    second = x.emit("a")
    handled(x, second, "b", 0.0, 0.02, "failed")
    x.commit("b", {"n": 1}, second)
    shown = Timeline(x.slice)
    lanes, _ = shown.all_lanes
    whole = {each.lane: each for each in sums(shown, (0, 1 << 62), lanes)}
    assert whole["b"].busy == 30 * MS
    assert dict(whole["b"].counts) == {"handling": 2, "commit": 1, "failure": 1}
    (a, b) = sums(shown, (first.time, first.time + 5 * MS), lanes)
    assert (a.counts["event"], b.busy) == (1, 5 * MS)


def test_the_text_at_the_pointer_says_what_who_and_how_long():
    shown = Timeline(shop().slice)
    assert tip(shown, item(shown, "event", "notebook")).startswith("order.created · notebook → all\n")
    assert tip(shown, item(shown, "failure", "billing")).splitlines()[2] == "ValueError: no card"
    assert "took 1 ms" in tip(shown, item(shown, "handling", "orders"))
    assert tip(shown, item(shown, "commit", "orders")).startswith("orders · revision 1\n")


def test_all_of_a_type_that_is_cut_can_be_read_while_the_pointer_is_on_it():
    x, long = shop(), "order." + "a-part-of-a-long-type." * 9
    x.emit("orders", long)
    x.schedule("orders", long, 60)
    shown = Timeline(x.slice)
    assert tip(shown, shown.items[-1]).startswith(f"{long} · orders → all\n")
    assert f"<title>{long}</title>" in draw_timeline(shown).svg


# -- the picture -------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "journal",
    [shop, lambda: crowd(300), lambda: many(3_000), to_come, lambda: to_come(60)],
    ids=["shop", "crowd", "many", "to come", "many to come"],
)
def test_no_text_covers_a_mark_or_another_text(journal, width):
    shown = Timeline(journal().slice)
    drawn = draw_timeline(shown, width=width)
    placed = texts(parsed(drawn.svg))
    for text, box in placed:
        assert box.right <= width + 1, text
        for spot in drawn.spots:
            assert not box.has((spot.x, spot.y)), text
    for (one, first), (other, second) in combinations(placed, 2):
        assert not first.overlaps(second), (one, other)


def test_twenty_thousand_events_of_200_nodes_are_a_small_picture():
    shown = Timeline(many(20_000).slice)
    for width in (700, 1600):
        drawn = draw_timeline(shown, width=width)
        assert len(drawn.svg) <= MAX_CHARACTERS + 10_000
        assert sum(spot.item.kind == "event" for spot in drawn.spots) == 20_000
        assert "p* (200)" in " ".join(words(parsed(drawn.svg)))


def test_nothing_in_the_data_becomes_markup():
    x = Journal(HOSTILE)
    event = x.emit(HOSTILE, HOSTILE, {HOSTILE: HOSTILE})
    x.handle(event, HOSTILE[1:], "failed", HOSTILE)
    x.commit(HOSTILE, {HOSTILE: HOSTILE}, event)
    shown = Timeline(x.slice)
    drawn = parsed(draw_timeline(shown, chosen=shown.story(), find=HOSTILE, live=True).svg)
    assert {each.tag.partition("}")[2] for each in drawn.iter()} <= {
        *("svg", "style", "g", "path", "rect", "line", "circle", "text", "tspan", "title"),
    }
    assert not [name for each in drawn.iter() for name in each.attrib if name.startswith("on")]
    assert not {"\u202e", "\x1b"} & set(tip(shown, shown.items[0]))


def test_a_space_in_which_nothing_happened_says_so():
    shown = Timeline(Journal("new").slice)
    assert timeline_lines(shown) == ["No events or commits to show yet."]
    assert "No events or commits to show yet." in draw_timeline(shown).svg


def test_by_event_time_marks_are_where_they_occurred():
    x = Journal()
    event = x.emit("a", occurred="2020-01-01T00:00:00+00:00")
    x.commit("b", {"n": 1}, event)
    x.handle(event, "b", "failed", "no")
    shown = Timeline(x.slice, by="occurred")
    assert {each.time for each in shown.items} == {1_577_836_800 * SECOND}
    assert "1 Jan 2020" in words(parsed(draw_timeline(shown).svg))


def test_as_text_each_lane_is_a_line():
    assert timeline_lines(Timeline(shop().slice)) == [
        "notebook  1 event",
        "billing   1 handling · 1 failure",
        "orders    1 handling · 1 commit",
        "stock     1 event · 2 handlings · 3 commits",
    ]


def test_the_same_journal_gives_the_same_picture():
    assert draw_timeline(Timeline(crowd(500).slice)).svg == draw_timeline(Timeline(crowd(500).slice)).svg
