"""Handlers and transforms that are called again and again."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

import happen_nb as happen
from happen_nb._runtime import scheduling
from happen_nb._runtime.cells import cells
from tests.facade.processes import OtherProcess

START = datetime(2000, 1, 1, tzinfo=UTC)
HOUR = 3600


def at(**parts):
    return START + timedelta(**parts)


@pytest.fixture
def heart(manual):
    return manual.create_node("heart")


@pytest.fixture
def beats(manual):
    """Number and time of each call."""
    return []


@pytest.fixture
def beat(manual, beats):
    def beat(event):
        beats.append((event.payload["n"], manual.now))

    return beat


def test_a_handler_is_called_again_and_again(manual, heart, beat, beats):
    assert heart.every(10, beat) is beat
    assert manual.advance(35).events == 3
    assert beats == [(1, at(seconds=10)), (2, at(seconds=20)), (3, at(seconds=30))]


def test_a_decorator_does_the_same(manual, heart, beats):
    @heart.every(timedelta(hours=1))
    def beat(event, context):
        beats.append((event.type, context.now))

    manual.advance(hours=2)
    assert beats == [("every", at(hours=1)), ("every", at(hours=2))]


def test_no_other_handler_is_called(manual, heart, beat):
    others = []
    heart.on("**", others.append)
    heart.on("every", others.append)
    manual.create_node("other").on("**", others.append)
    heart.every(10, beat)
    manual.advance(10)
    assert others == []
    heart.broadcast("every").settle()
    assert len(others) == 3


def test_two_handlers_have_their_own_periods(manual, heart, beats):
    heart.every(10, lambda event: beats.append("ten"))
    heart.every(15, lambda event: beats.append("fifteen"))
    manual.advance(30)
    assert beats == ["ten", "fifteen", "ten", "fifteen", "ten"]


@pytest.mark.parametrize("which", ["function", "pattern"])
def test_it_ends_with_off(manual, heart, beat, beats, which):
    heart.every(10, beat)
    assert [handler.pattern for handler in heart.handlers] == ["every"]
    manual.advance(10)
    heart.off(beat if which == "function" else "every")
    assert len(heart.handlers) == 0
    manual.advance(60)
    assert len(beats) == 1
    assert len(manual.scheduled) == 0


def test_it_goes_on_after_off_when_it_is_registered_again(manual, heart, beat, beats):
    for _ in range(2):
        heart.every(10, beat)
        manual.advance(10)
        heart.off(beat)
        manual.advance(100)
    assert [number for number, _ in beats] == [1, 2]


def test_the_same_function_twice_needs_an_id(heart, beat):
    heart.every(10, beat)
    with pytest.raises(ValueError, match="give one of them an id"):
        heart.every(20, beat)
    heart.every(20, beat, id="second")
    assert len(heart.handlers) == 2


def test_the_next_run_of_a_cell_replaces_it(manual, heart, beats):
    for number in (1, 2):
        cells.start(f"cell-{number}")
        heart.every(10 * number, beat_of(beats, number))
        cells.end()
    manual.advance(40)
    assert beats == [2, 2]


def test_the_next_call_is_scheduled_however_often_its_cell_runs(manual, heart, beat):
    for _ in range(100):
        cells.start("cell")
        heart.every(10, beat)
        cells.end()
        assert len(manual.scheduled) == 1


def beat_of(beats, number):
    def beat(event):
        beats.append(number)

    return beat


def test_what_is_to_come_has_the_next_call(manual, heart, beat):
    heart.every(10, beat)
    (tick,) = manual.scheduled
    assert (tick.type, tick.payload, tick.due) == ("every", {"n": 1}, at(seconds=10))
    assert manual.scheduled.cancel() == 1
    assert manual.advance(100).events == 0


@pytest.mark.parametrize("how", ["alone", "all", "with a commit"])
def test_cancelling_the_next_call_ends_it(manual, heart, beat, beats, how):
    heart.every(10, beat)
    heart.on("other", beat)
    heart.state.every(5, lambda state, event: {"n": event.payload["n"]})
    manual.advance(10)
    for event in manual.scheduled:
        if how == "alone":
            event.cancel()
        elif how == "with a commit":
            heart.state.set(lambda state, event=event: {**state, "cancelled": event.cancel()})
    assert manual.scheduled.cancel() == (2 if how == "all" else 0)
    assert [str(each.pattern) for each in heart.handlers] == ["other"]

    heart.every(10, beat)
    manual.advance(10)
    assert [n for n, _ in beats] == [1, 2]
    assert heart.state.get("n") == 2


def test_what_is_to_come_is_read_while_a_cancel_is_on_its_way(manual, heart):
    for number in range(10):
        heart.every(10, print, id=f"e{number}")
        heart.off(print)
        assert len(manual.scheduled) <= 1


def test_it_goes_on_after_a_clear(manual, heart, beat, beats):
    heart.every(10, beat)
    manual.advance(20)
    for _ in range(5):
        manual.clear()
        assert [event.due for event in manual.scheduled] == [manual.now + timedelta(seconds=10)]
    manual.advance(20)
    assert [number for number, _ in beats] == [1, 2, 1, 2]


def test_two_lambdas_of_one_line_are_two(manual, heart):
    calls = []
    # fmt: off
    heart.every(10, lambda event: calls.append("a")); heart.every(15, lambda event: calls.append("b"))  # noqa: E702
    # fmt: on
    manual.advance(25)
    assert calls == ["a", "b", "a"]


def test_a_failing_call_does_not_end_it(manual, heart):
    heart.every(10, lambda event: 1 / 0)
    assert manual.advance(30).failures == 3


def test_it_goes_on_though_the_server_did_not_answer_in_time(manual, heart, beat, beats, monkeypatch):
    store, failed = scheduling.store, []

    async def fail_once(*args):
        if not failed:
            failed.append(True)
            raise happen.OutcomeUnknownError("no answer")
        return await store(*args)

    heart.every(1, beat)
    monkeypatch.setattr(scheduling, "store", fail_once)
    manual.advance(3)
    assert failed
    assert [number for number, _ in beats] == [1, 2, 3]


def test_a_call_may_return_anything(manual, heart):
    heart.every(1, lambda event: object())
    assert manual.advance(3).failures == 0


def test_a_state_changes_again_and_again(manual, heart):
    @heart.state.every(HOUR)
    def count(state, event):
        heart.broadcast("hour", event.payload)
        return {"n": event.payload["n"]}

    manual.advance(hours=5)
    assert heart.state.get() == {"n": 5}
    assert [event.payload["n"] for event in manual.events("hour")] == [1, 2, 3, 4, 5]
    heart.off(count)
    manual.advance(hours=5)
    assert heart.state.get() == {"n": 5}


def test_a_transform_reads_the_states_of_others(manual, heart):
    manual.create_node("other", initial={"n": 7})
    heart.state.every(HOUR, lambda state, event, views: {"n": views.other.get("n")})
    manual.advance(hours=1)
    assert heart.state.get() == {"n": 7}


@pytest.mark.parametrize(
    ("period", "error"),
    [(0, ValueError), (-1, ValueError), (float("nan"), ValueError), (float("inf"), ValueError),
     (1e-9, ValueError), (1e10, ValueError), ("1 h", TypeError), (True, TypeError)],
)  # fmt: skip
def test_a_period_that_is_none_is_refused(heart, period, error):
    with pytest.raises(error, match=r"^every: seconds"):
        heart.every(period, print)
    with pytest.raises(error, match=r"^state.every: seconds"):
        heart.state.every(period, dict)


def test_an_every_that_cannot_start_is_not_registered(manual, heart, beat, beats):
    manual.advance(to=datetime(9999, 12, 31, 23, tzinfo=UTC))
    with pytest.raises(ValueError, match="would be after the year 9999; pass fewer seconds"):
        heart.every(2 * HOUR, beat)
    assert not heart.handlers

    heart.every(600, beat)
    manual.advance(600)
    assert len(beats) == 1


def test_what_cannot_be_called_is_refused(heart, beat):
    with pytest.raises(TypeError, match="pass a function"):
        heart.every(10, "beat")
    with pytest.raises(TypeError, match="every: the handler"):
        heart.every(10, lambda: 1)
    with pytest.raises(TypeError, match="every: id is 5"):
        heart.every(10, beat, id=5)
    assert len(heart.handlers) == 0


# -- on a real clock -------------------------------------------------------------------------------------


def test_it_ticks_on_a_real_clock(space):
    heart, three, numbers = space.create_node("heart"), threading.Event(), []

    @heart.every(0.05)
    def beat(event):
        numbers.append(event.payload["n"])
        if len(numbers) == 3:
            three.set()

    assert three.wait(10)
    heart.off(beat)
    assert numbers[0] == 1
    assert numbers == sorted(set(numbers))  # one that comes while the handler still runs is passed over
    assert all(event.time >= event.due for event in space.events("every"))


def test_nothing_is_scheduled_any_more_after_off(manual):
    heart = manual.create_node("heart")
    for _ in range(20):

        @heart.every(10)
        def beat(event):
            pass

        manual.advance(10)
        heart.off(beat)
        assert len(manual.scheduled) == 0


def test_it_starts_where_a_tick_arrives_late_that_another_process_has_ended(
    manual, heart, beat, beats, store_again
):
    heart.every(HOUR, beat)
    again = store_again(manual, manual.scheduled[0])
    heart.off(beat)
    again()
    assert len(manual.scheduled) == 0
    heart.every(HOUR, beat)
    manual.advance(2 * HOUR)
    assert beats == [(1, at(hours=1)), (2, at(hours=2))]


def test_no_tick_is_the_last_however_fast_they_come(space):
    calls, enough = [], threading.Event()

    def beat(event):
        calls.append(event.payload["n"])
        if event.payload["n"] > 250:
            enough.set()

    heart = space.create_node("heart")
    heart.every(0.001, beat)
    assert enough.wait(60)
    heart.off(beat)
    assert calls == sorted(set(calls))


def test_a_slow_handler_is_not_called_twice_at_once(space, gate, until):
    heart, calls = space.create_node("heart"), []

    @heart.every(0.02)
    def slow(event):
        calls.append(event.payload["n"])
        gate.wait(10)

    first = space.wait_for("every", timeout=10)
    until(lambda: calls)
    now = calls[0]
    space.wait_for("every", where=lambda event: event.payload["n"] >= now + 3, since=first, timeout=10)
    assert len(calls) == 1
    gate.set()
    heart.off(slow)
    space.settle()
    assert len(calls) == 1


@pytest.mark.parametrize("how", ["event", "id", "commit"])
@pytest.mark.parametrize("owner", ["here", "there"])
def test_a_cancel_ends_it_in_every_process(manual, heart, beat, beats, other, owner, how):
    if owner == "here":
        other.do("node.every(10, beat, id='heart'); node.on('other', print)")
        heart.every(10, beat, id="heart")
    else:
        heart.every(10, beat, id="heart")
        other.do("node.every(10, beat, id='heart'); node.on('other', print)")
    (tick,) = manual.scheduled
    {
        "event": tick.cancel,
        "id": lambda: heart.cancel(tick),
        "commit": lambda: heart.state.set(lambda state: {"cancelled": heart.cancel(tick)}),
    }[how]()

    assert len(heart.handlers) == 0
    other.do("node.state.get(fresh=True)")
    assert other.ask("[str(each.pattern) for each in node.handlers]") == ["other"]
    manual.advance(30)
    assert (beats, other.ask("beats"), len(manual.scheduled)) == ([], [], 0)


def test_after_off_another_process_that_has_the_handler_goes_on(manual, heart, beat, beats, other):
    other.do("node.every(10, beat, id='heart')")
    heart.every(10, beat, id="heart")
    manual.advance(10)
    heart.off("every")
    assert len(manual.scheduled) == 0
    manual.close()
    other.do("happen.learn.wait_until(lambda: space.scheduled); space.advance(20)")
    assert ([n for n, _ in beats], other.ask("beats")) == ([1], [2, 3])


@pytest.fixture
def other(manual, store):
    """Another process in the same space, with a node and a handler for it."""
    process = OtherProcess(store=store, name="manual")
    process.do(
        "import happen_nb.learn\n"
        "node, beats = space.create_node('heart'), []\n"
        "def beat(event):\n"
        "    beats.append(event.payload['n'])"
    )
    yield process
    process.end()


def test_another_process_goes_on_with_one_call_for_what_was_missed(store, manual, heart, beat, beats):
    heart.every(10, beat, id="heart")
    manual.advance(10)
    manual.close()
    with happen.connect(store=store, name="manual") as space:
        space.advance(100)
        space.create_node("heart").every(10, lambda event: beats.append(space.now), id="heart")
        space.advance(9)
        assert beats[1:] == [at(seconds=110)]
        space.advance(11)
        assert beats[2:] == [at(seconds=120), at(seconds=130)]
