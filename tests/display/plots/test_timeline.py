import itertools
from dataclasses import replace

import pytest
from made import MS, SECOND, Journal, crowd, shop, tags, texts, trace

from happen_nb._display.plots.lane_layout import MAX_BARS, MAX_LANES
from happen_nb._display.plots.timeline import MAX_ARROWS, MAX_LINES, timeline
from happen_nb._model.records import HandledRecord

HOSTILE = "<img src=x onerror=alert(1)> <b>bold</b> $x^2$ &amp; %{x} \u202e\x1b[31m"


def hovers(figure, name):
    return list(trace(figure, name).hovertext)


def lane(y):
    return round(-y)


def lanes(figure):
    return [name.strip() for name in figure.layout.yaxis.ticktext]


def test_lanes_are_those_where_something_happened_in_the_order_of_their_first_appearance():
    assert lanes(timeline(shop().slice)) == ["notebook", "billing", "orders", "stock"]
    x = Journal()
    x.nodes = ("n10", "n9", "n1")
    x.commit("n2", {"n": 1})
    event = x.emit("n9")
    x.handle(event, "n1")
    assert lanes(timeline(x.slice)) == ["n9", "n1", "n2"]


def test_of_many_nodes_those_whose_names_differ_in_a_number_share_a_lane():
    x = Journal()
    for number in range(200):
        x.handle(x.emit("clock", "tick"), f"p{number}")
        x.commit(f"p{number}", {"n": number})
    figure = timeline(x.slice)
    assert lanes(figure) == ["clock", "p* (200)"]
    raster = trace(figure, "handling of a group").y
    assert raster[0] == -0.95
    assert raster[-2] == -3.05
    assert len(set(raster)) > 100
    assert len(lanes(timeline(x.slice, nodes=["p7", "p8"]))) == 2


def test_a_handling_is_a_bar_of_its_length_after_a_line_of_its_waiting():
    x = Journal()
    event = x.emit("notebook", "order.made")
    x.wait(80 * MS)
    x.handled.append(HandledRecord(event.id, "orders", "on_it", "done", 0.04, waited=0.02))
    x.emit("orders", "order.kept", cause=event)
    figure = timeline(x.slice)
    waiting, handling = trace(figure, "waiting"), trace(figure, "handling")
    (left, right), (begin, end) = waiting.x[:2], handling.x[:2]
    assert right == begin
    assert 2 * (right - left) == pytest.approx(end - begin, rel=0.02)
    assert handling.hovertext[0].split("<br>") == [
        "orders · on_it · order.made", "waited 20 ms · took 40 ms",
    ]  # fmt: skip
    assert {lane(y) for y in handling.y if y is not None} == {1}


def test_a_time_in_which_a_node_works_is_not_idle():
    x = Journal()
    for _ in range(4):
        event = x.emit("notebook")
    x.wait(2 * 3_600 * SECOND)
    for _ in range(4):
        x.emit("notebook")
    assert "2 h idle" in set(texts(timeline(x.slice)))
    x.handled.append(HandledRecord(event.id, "orders", "on_it", "done", 7_200, waited=1))
    assert not any("idle" in text for text in texts(timeline(x.slice)))


def test_no_line_crosses_the_label_of_idle_time():
    figure = timeline(crowd(300).slice)
    labels = [each for each in figure.layout.annotations if each.text and not each.clicktoshow]
    assert labels
    highest = max(y for each in figure.data for y in each.y if y is not None)
    assert all(each.y > highest + 0.3 and each.textangle == 0 for each in labels)


def test_chosen_lanes_are_shown_as_they_are_given_and_nothing_else():
    figure = timeline(shop().slice, nodes=["stock", "notebook"])
    assert lanes(figure) == ["stock", "notebook"]
    assert len(trace(figure, "commit").x) == 3
    assert not trace(figure, "failure").x


def test_events_commits_and_failures_are_different_marks_on_the_lanes_where_they_happened():
    figure = timeline(shop().slice)
    looks = {(each.marker.symbol[0], each.marker.color) for each in figure.data if each.marker.symbol}
    assert len(looks) == 3
    assert [lane(y) for y in trace(figure, "failure").y] == [1]
    assert sorted(lane(y) for y in trace(figure, "event").y) == [0, 3]


def test_the_text_of_a_commit_has_its_changes_and_its_cause():
    (text,) = (each for each in hovers(timeline(shop().slice), "commit") if "revision 3" in each)
    assert text.split("<br>")[0].startswith("<b>stock revision 3</b>")
    assert text.split("<br>")[2:] == ["~ pen  6 → 46", "because of stock.low of stock"]


def test_the_text_of_an_event_has_its_handlers_and_its_effects():
    (text,) = (each for each in hovers(timeline(shop().slice), "event") if "<b>order.created" in each)
    lines = text.split("<br>")
    assert lines[0] == "<b>order.created</b> notebook → all"
    assert lines[2:] == [
        '{id: "o1"}',
        "handled by billing, orders, stock",
        "! billing  ValueError: no card",
        "led to orders revision 1, stock revision 2, stock.low",
    ]


def test_the_text_of_a_failure_has_the_error():
    (text,) = hovers(timeline(shop().slice), "failure")
    assert "<b>billing failed</b> on_it, given order.created" in text
    assert "ValueError: no card" in text


def test_a_line_leads_from_each_cause_to_its_effect():
    figure = timeline(shop().slice)
    lines = trace(figure, "cause to effect")
    pairs = {(lane(lines.y[at]), lane(lines.y[at + 1])) for at in range(0, len(lines.y), 3)}
    assert pairs == {(0, 1), (0, 2), (0, 3), (3, 3)}
    assert lines.visible is True


def test_clicking_a_mark_shows_all_its_causes_and_its_effects():
    figure = timeline(shop().slice)
    last = max(zip(trace(figure, "commit").x, trace(figure, "commit").y, strict=True))
    arrows = [each for each in figure.layout.annotations if each.clicktoshow == "onout"]
    assert all(not each.visible for each in arrows)
    own = [each for each in arrows if (each.xclick, each.yclick) == last]
    assert [(lane(each.ay), lane(each.y)) for each in own] == [(3, 3), (0, 3)]


def test_long_idle_time_is_cut_out_and_labelled_with_its_length():
    x = Journal()
    for _ in range(3):
        for _ in range(4):
            x.emit("orders")
        x.wait(2 * 3_600 * SECOND)
    figure = timeline(x.slice)
    labels = [each.text for each in figure.layout.annotations if each.text]
    assert labels == ["2 h idle"] * 2
    assert len(trace(figure, "event").x) == 12


def test_the_first_label_has_the_date_and_times_are_in_utc():
    figure = timeline(shop().slice)
    assert figure.layout.xaxis.ticktext[0] == "12:00:00.001<br>14 Mar 2026"
    assert figure.layout.xaxis.title.text == "time, UTC"


def test_items_at_one_place_are_one_mark_with_a_count():
    x = Journal()
    x.emit("orders", "order.made")
    x.wait(10 * SECOND)
    for each in range(9):
        x.emit("orders", "order.paid" if each else "order.made")
    x.wait(10 * SECOND)
    x.emit("orders")
    shown = trace(timeline(murmuring(x, x.events[0].time)), "event")
    counts = [text for text, y in zip(shown.text, shown.y, strict=True) if lane(y) == 0]
    assert counts == ["", "9", ""]
    (text,) = (each for each in shown.hovertext if "9 events" in each)
    assert "8  order.paid" in text
    assert "1  order.made" in text


def murmuring(x, start):
    """The same with a steady murmur on another node, so that nothing is folded."""
    for each in range(200):
        x.emit("other")
        x.events[-1] = replace(x.events[-1], time=start + each * 100 * MS)
    return x.slice


def test_ten_thousand_events_stay_few_marks_and_no_two_of_a_kind_overlap():
    figure = timeline(crowd(10_000).slice)
    for name in ("event", "commit", "failure"):
        shown = trace(figure, name)
        marks = sorted(zip(shown.y, shown.x, shown.marker.size, strict=True))
        for (y, x, size), (other_y, other_x, other_size) in itertools.pairwise(marks):
            assert y != other_y or other_x - x >= (size + other_size) / 2 - 0.2
    assert len(figure.to_json()) < 250_000


def test_the_figure_is_bounded_whatever_happened():
    journal = crowd(6_000, nodes=80).slice
    assert sorted(lanes(timeline(journal))) == ["node-* (80)", "notebook"]
    figure = timeline(journal, nodes=journal.nodes[:MAX_LANES])
    assert len(lanes(figure)) == MAX_LANES
    assert len(trace(figure, "cause to effect").x) <= 3 * MAX_LINES
    assert trace(figure, "cause to effect").visible == "legendonly"
    assert sum(each.clicktoshow == "onout" for each in figure.layout.annotations) <= MAX_ARROWS
    assert len(figure.to_json()) < 500_000


def test_of_many_nodes_with_other_names_the_busiest_are_shown():
    x = Journal()
    for number in range(40):
        for _ in range(1 + number):
            x.emit(f"{number}-node")
    figure = timeline(x.slice)
    assert lanes(figure) == [f"{number}-node" for number in range(10, 40)]
    assert f"{MAX_LANES} of 40 nodes" in figure.layout.title.text


def test_bars_are_bounded():
    x = Journal()
    for number in range(2_000):
        event = x.emit("clock", "tick")
        for node in "abcdef":
            x.handled.append(
                HandledRecord(event.id, node, "on_it", "done", 0.0001 * (number % 3), waited=0.1)
            )
    bars = trace(timeline(x.slice), "handling").x
    assert len(bars) <= 3 * MAX_BARS


def test_nothing_in_the_data_becomes_markup_or_tex():
    x = Journal(HOSTILE[:40])
    event = x.emit(HOSTILE, HOSTILE, {HOSTILE: HOSTILE}, target=HOSTILE)
    x.handle(event, HOSTILE, "failed", HOSTILE)
    x.commit(HOSTILE, {HOSTILE: [HOSTILE]}, event, by=HOSTILE[1:])
    x.nodes = (HOSTILE[2:],)
    figure = timeline(x.slice)
    assert tags(figure) == {"b", "br"}
    shown = "".join(texts(figure))
    assert "&lt;img src=x" in shown
    assert not {"$", "\u202e", "\x1b"} & set(shown)


def test_a_large_payload_and_a_large_diff_are_cut():
    x = Journal()
    event = x.emit("orders", "t" * 300, {str(n): "x" * 1000 for n in range(1000)})
    x.commit("orders", {str(n): n for n in range(1000)}, event)
    figure = timeline(x.slice)
    for text in (*hovers(figure, "event"), *hovers(figure, "commit")):
        assert len(text.split("<br>")) <= 10
        assert all(len(line) <= 80 for line in text.split("<br>"))
    assert "… 995 more changes" in hovers(figure, "commit")[0]


def test_commits_that_cannot_be_compared_show_the_reason():
    x = Journal()
    x.commit("orders", {"n": 1})
    x.commit("orders", {"n": 2})
    x.commit("orders", None)
    del x.commits[0]
    x.commits[0] = (x.commits[0][0], None)
    shown = "".join(hovers(timeline(x.slice), "commit"))
    assert "what it changed is not stored any more" in shown
    assert "deleted" in shown


def test_by_occurred_effects_are_at_the_event_time_of_their_cause():
    x = Journal()
    one = x.emit("meter", "reading", occurred="2020-01-01T00:00:00+00:00")
    two = x.emit("meter", "reading", occurred="2020-01-01T01:00:00+00:00")
    x.commit("store", {"n": 1}, one)
    echo = x.emit("store", "seen", cause=two)
    x.commit("store", {"n": 2}, echo)
    figure = timeline(x.slice, by="occurred")
    assert figure.layout.xaxis.title.text == "when it occurred, UTC"
    assert "00:00:00.000<br>1 Jan 2020" in figure.layout.xaxis.ticktext
    event, commit = trace(figure, "event"), trace(figure, "commit")
    assert sorted(commit.x) == sorted(set(event.x))


@pytest.mark.parametrize("nodes", [None, ["orders"]])
def test_an_empty_journal_gives_a_friendly_figure(nodes):
    figure = timeline(Journal("new").slice, nodes=nodes)
    assert [each.text for each in figure.layout.annotations] == ["Nothing has happened here yet."]


def test_one_commit_is_a_timeline_too():
    x = Journal()
    x.commit("orders", {"n": 1})
    figure = timeline(x.slice)
    assert len(trace(figure, "commit").x) == 1
    assert figure.layout.xaxis.ticktext == ("12:00:00.001<br>14 Mar 2026",)


def test_the_same_journal_gives_the_same_figure():
    assert timeline(crowd(500).slice).to_json() == timeline(crowd(500).slice).to_json()
