import itertools

from hypothesis import given
from hypothesis import strategies as st
from made import MS, NOON, SECOND

from happen_nb._display.plots import MAX_BREAKS, break_gaps

WIDTH = 550.0
moments = st.lists(st.integers(NOON, NOON + 10**6 * SECOND), min_size=1, max_size=60)
bursts = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20 * MS)), min_size=1, max_size=60)


@given(st.one_of(moments, bursts.map(lambda pairs: [NOON + a * 3_600 * SECOND + b for a, b in pairs])))
def test_later_is_never_to_the_left_and_everything_is_on_the_axis(times):
    axis = break_gaps(times, WIDTH)
    places = [axis.place(at) for at in sorted(times)]
    assert places == sorted(places)
    assert all(0 <= round(place, 1) <= WIDTH for place in places)
    assert len(axis.breaks) <= MAX_BREAKS


@given(st.one_of(moments, bursts.map(lambda pairs: [NOON + a * 3_600 * SECOND + b for a, b in pairs])))
def test_labels_have_room_and_stand_on_the_axis(times):
    ticks = break_gaps(times, WIDTH).ticks
    assert ticks
    assert all(later.place - earlier.place >= 80 for earlier, later in itertools.pairwise(ticks))
    assert all(0 <= tick.place <= WIDTH for tick in ticks)
    assert "\n" in ticks[0].label


def test_steady_time_is_not_folded():
    assert not break_gaps([NOON + each * SECOND for each in range(100)], WIDTH).breaks


def test_bursts_far_apart_share_the_room_that_the_empty_time_leaves():
    axis = break_gaps(
        [NOON + hour * 3_600 * SECOND + each * MS for hour in (0, 1, 9) for each in range(10)], WIDTH
    )
    assert [tick.label for tick in axis.breaks] == ["1 h", "8 h"]
    assert all(segment.right - segment.left > 150 for segment in axis.segments)


def test_between_folds_there_is_one_scale():
    axis = break_gaps([NOON, NOON + 10 * MS, NOON + SECOND * 100, NOON + SECOND * 100 + 20 * MS], WIDTH)
    one, two = axis.segments
    assert abs(2 * (one.right - one.left) - (two.right - two.left)) < 11


def test_labels_within_a_burst_are_distances_from_its_labelled_start():
    labels = [tick.label for tick in break_gaps([NOON + each * MS for each in range(0, 101, 5)], WIDTH).ticks]
    assert labels == ["12:00:00.000\n14 Mar 2026", "+20 ms", "+40 ms", "+60 ms", "+80 ms", "+100 ms"]


def test_labels_of_hours_are_round_times():
    times = [NOON + each * 600 * SECOND for each in range(31)]
    assert [tick.label for tick in break_gaps(times, WIDTH).ticks][1:] == [
        f"{hour}:00:00" for hour in range(13, 18)
    ]


def test_labels_of_days_are_dates_without_a_time():
    labels = [tick.label for tick in break_gaps([NOON, NOON + 9 * 86_400 * SECOND], WIDTH).ticks]
    assert labels == ["12:00:00.000\n14 Mar 2026", *(f"{day} Mar 2026" for day in (16, 18, 20, 22))]


def test_the_first_label_of_a_day_has_its_date():
    labels = [tick.label for tick in break_gaps([NOON, NOON + 30 * 3_600 * SECOND], WIDTH).ticks]
    assert labels[0].endswith("14 Mar 2026")
    assert labels[1:] == ["18:00:00", "00:00:00\n15 Mar 2026", "06:00:00", "12:00:00", "18:00:00"]
