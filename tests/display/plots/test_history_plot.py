import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import tags, texts

from happen_nb._display.plots.history_plot import (
    MAX_BANDS,
    MAX_POINTS,
    MAX_ROWS,
    PlottedCommits,
    bands,
    history_plot,
    steps,
    thinned,
)

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
HOSTILE = "<img src=x onerror=alert(1)> <b>bold</b> $x^2$ &amp; %{x} \u202e\x1b[31m"
NUMBERS = st.lists(st.one_of(st.none(), st.integers(-9, 9)), min_size=1, max_size=200)


def commits(number, x=None, title="time, UTC", node="orders"):
    moments = [NOON + timedelta(seconds=each) for each in range(number)]
    return PlottedCommits(node, list(range(1, number + 1)), moments, moments if x is None else x, title)


def drawn(**rows):
    return history_plot(commits(len(next(iter(rows.values())))), rows)


def test_numbers_are_steps_and_everything_else_bands_in_rows_that_share_the_axis():
    figure = drawn(open=[1, 2], status=["new", "paid"], gift=[True, False])
    assert [row.type for row in figure.data] == ["scatter", "bar", "bar"]
    assert figure.data[0].line.shape == "hv"
    assert [row.yaxis for row in figure.data] == ["y", "y2", "y3"]
    assert {row.xaxis for row in figure.data} == {None}
    assert figure.layout.xaxis.anchor == "y3"
    titles = [each.text for each in figure.layout.annotations]
    assert titles == ["<b>open</b>", "<b>status</b>", "<b>gift</b>"]


def test_rows_do_not_overlap():
    figure = drawn(a=[1], b=["x"], c=[2], d=[None])
    domains = [figure.layout[f"yaxis{number}"].domain for number in ("", 2, 3, 4)]
    assert all(upper[0] > lower[1] for upper, lower in itertools.pairwise(domains))
    assert domains[-1][0] == 0


def test_a_value_holds_until_the_commit_that_removes_it():
    (row,) = drawn(n=[1, None, 2]).data
    noon = NOON.timestamp() * 1000
    assert list(row.x[:4]) == [noon, noon + 1000, None, noon + 2000]
    assert list(row.y[:4]) == [1, 1, None, 2]
    assert row.connectgaps is False


@given(NUMBERS)
def test_steps_show_each_value_at_its_place_and_none_where_it_is_missing(column):
    points = steps(column, range(len(column)), len(column))
    for index, value in enumerate(column):
        at_place = [value for place, value, own in points if place == index and own == index]
        assert at_place == [value]
    assert points[-1][0] >= len(column) - 1


@given(st.lists(st.sampled_from(["new", "paid", None, True]), min_size=1, max_size=60))
def test_bands_cover_all_that_is_there_and_nothing_else(column):
    found = bands(column, range(len(column)), len(column))
    for index, value in enumerate(column):
        covering = [band.text for band in found if band.start <= index < band.end]
        assert covering == ([] if value is None else [str(value)])


def test_thinning_keeps_the_ends_and_the_extremes():
    column = [each % 7 for each in range(10_000)]
    column[5_001], column[7_003] = 1_000, -1_000
    kept = thinned(column)
    assert len(kept) <= 1.5 * MAX_POINTS
    assert {0, 5_001, 7_003, 9_999} <= set(kept)


def test_a_long_history_stays_small_by_merging_narrow_bands():
    number = 10_000
    figure = drawn(n=list(range(number)), who=[f"customer {each}" for each in range(number)])
    assert len(figure.to_json()) < 400_000
    assert len(figure.data[1].x) <= 2 * MAX_BANDS
    assert any("values" in text for text in figure.data[1].text)


def test_truth_values_numbers_and_texts_that_look_alike_are_different_bands():
    found = bands([True, "True", 1, 1.0], range(4), 4)
    assert len(found) == 4


def test_equal_values_have_one_colour_and_others_another():
    (row,) = drawn(status=["new", "paid", "new"]).data
    first, second, third = row.marker.color
    assert first == third != second


def test_a_value_with_parts_is_a_band_labelled_with_its_start():
    (row,) = drawn(order=[{"id": 1}, {"id": 1, "paid": True}]).data
    assert list(row.text) == ["{id: 1}", "{id: 1, paid: True}"]


def test_the_text_of_a_point_has_value_revision_and_time():
    (row,) = drawn(n=[1000, 2]).data
    assert row.hovertext[0] == "<b>1,000</b><br>revision 1 · 2026-03-14 12:00:00.000 UTC"


def test_revisions_may_be_the_axis():
    figure = history_plot(commits(3, [1, 2, 3], "revision"), {"n": [5, 6, 7]})
    assert list(figure.data[0].x[:3]) == [1, 2, 3]
    assert figure.layout.xaxis.title.text == "revision"


def test_a_clock_in_the_state_may_be_the_axis():
    clock = ["2020-01-01T00:00", "2020-01-01T00:01", None]
    figure = history_plot(commits(3, clock, "clock"), {"n": [5, 6, 7]})
    assert figure.layout.xaxis.type == "date"
    assert list(figure.data[0].y) == [5, 6, 6]


def test_an_axis_that_goes_back_and_forth_has_a_dot_a_commit():
    figure = history_plot(commits(3, [1, 3, 2], "speed"), {"heat": [5, 6, 7], "mode": ["a", "b", "a"]})
    assert list(figure.data[0].x) == [1, 3, 2]
    assert figure.data[1].mode == "markers"
    assert list(figure.data[1].y) == [0, 1, 0]
    assert figure.layout.yaxis2.ticktext == ("a", "b")


def test_an_axis_of_names_has_them_in_the_order_they_came():
    figure = history_plot(commits(3, ["new", "paid", "new"], "status"), {"n": [1, 2, 3]})
    assert figure.layout.xaxis.ticktext == ("new", "paid")
    assert list(figure.data[0].x) == [0, 1, 0]


def test_the_newest_value_of_a_millisecond_is_drawn_inside_of_the_plot():
    made = commits(2, [NOON, NOON + timedelta(microseconds=900)])
    figure = history_plot(made, {"n": [1, 2]})
    _, newest, end = figure.data[0].x
    assert newest + 0.1 < end < figure.layout.xaxis.range[1] - 0.1  # ms, to which plotly rounds


def test_one_commit_is_drawn():
    figure = drawn(n=[1], s=["x"])
    assert len(figure.data[0].x) == 2
    assert figure.data[1].x[0] > 0


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (lambda: history_plot(commits(0), {}), "Nothing has been committed yet."),
        (lambda: history_plot(commits(1), {}), "Choose what to draw"),
        (lambda: history_plot(commits(2, [None, None], "clock"), {"n": [1, 2]}), "clock has no value"),
    ],
)
def test_a_plot_without_data_has_a_message(made, text):
    (note,) = made().layout.annotations
    assert text in note.text


def test_a_row_without_any_value_is_empty():
    assert not drawn(n=[None, None]).data[0].x


def test_a_number_that_json_does_not_have_is_missing():
    (row,) = drawn(n=[1.0, float("nan"), 2.0]).data
    assert list(row.y) == [1.0, 1.0, None, 2.0, 2.0]


@pytest.mark.parametrize("column", [[1, 10**400, 2], [1e308, -1e308], [0.0, 5e-324]])
def test_numbers_at_the_limits_of_floats_are_drawn_or_replaced_by_a_message(column):
    figure = drawn(n=column)
    assert "<svg" in figure.svg()
    assert figure.data[0].x


def test_too_many_rows_are_refused():
    with pytest.raises(ValueError, match=f"pass {MAX_ROWS} or fewer"):
        drawn(**{f"n{each}": [1] for each in range(MAX_ROWS + 1)})


def test_nothing_in_the_data_becomes_markup_or_tex():
    rows = {HOSTILE: [HOSTILE, {HOSTILE: HOSTILE}], "n": [1, 2]}
    figures = [
        history_plot(commits(2, title=HOSTILE, node=HOSTILE), rows),
        history_plot(commits(2, [HOSTILE, "b"], HOSTILE, HOSTILE), rows),
        history_plot(commits(2, [None, None], HOSTILE, HOSTILE), rows),
    ]
    for figure in figures:
        assert tags(figure) <= {"b", "br"}
        assert not {"$", "\u202e", "\x1b"} & set("".join(texts(figure)))
