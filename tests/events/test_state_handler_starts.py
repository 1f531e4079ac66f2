"""The start of a state handler, where it goes on later, and its identity."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

import happen_nb as happen
from tests.events.applying import add, elsewhere, take


@pytest.fixture
def stock(space):
    return space.create_node("stock", initial={"lamp": 5})


@pytest.fixture
def shop(space):
    return space.create_node("shop")


# -- where it begins, and goes on ----------------------------------------------------------------------------


def test_it_begins_now(space, stock, shop):
    shop.broadcast("order.placed", 1)
    stock.state.on("order.*", take)
    shop.broadcast("order.placed", 2)
    space.settle()
    assert stock.state.get("lamp") == 3


def test_it_may_begin_earlier(space, stock, shop):
    before = datetime.now(UTC)
    events = [shop.broadcast("n", n) for n in range(4)]
    for name, start in {
        "beginning": "beginning",
        "event": events[1],
        "sequence": events[1].sequence,
        "time": before,
    }.items():
        space.create_node(name).state.on("n", add, start=start)
    space.settle()
    assert space.views.beginning.get("seen") == [0, 1, 2, 3]
    assert space.views.event.get("seen") == [2, 3]
    assert space.views.sequence.get("seen") == [2, 3]
    assert space.views.time.get("seen") == [0, 1, 2, 3]


@pytest.mark.parametrize("start", ["later", 1.5, None, -1, [1]])
def test_a_start_that_makes_no_sense_is_refused(stock, start):
    with pytest.raises((ValueError, TypeError), match="start is"):
        stock.state.on("n", add, start=start)


@pytest.mark.parametrize("zone", [UTC, None])
def test_a_start_in_the_future_is_refused(space, stock, zone):
    start = datetime.now(zone) + timedelta(days=1)
    with pytest.raises(ValueError, match=r"state\.on: start is .* which is in the future"):
        stock.state.on("n", add, start=start)
    stock.state.on("n", add, start=datetime.now(zone))
    space.broadcast("n", 1).settle()
    assert stock.state.get("seen") == [1]


def test_a_start_after_the_newest_sequence_is_refused(space, stock):
    newest = space.broadcast("n", 0).sequence
    for sequence in (newest + 1_000, 10**30):
        with pytest.raises(ValueError, match="which is in the future"):
            stock.state.on("n", add, start=sequence)
    stock.state.on("n", add, start=newest)
    space.broadcast("n", 1).settle()
    assert stock.state.get("seen") == [1]


def test_a_start_after_the_time_of_a_manual_clock_is_refused():
    with happen.connect(store=":memory:", name="future", clock="manual") as space:
        stock = space.create_node("stock")
        with pytest.raises(ValueError, match=r"which is in the future \(now is 2000-01-01"):
            stock.state.on("n", add, start=space.now + timedelta(seconds=1))
        stock.state.on("n", add, start=space.now)
        space.broadcast("n", 1).settle()
        assert stock.state.get("seen") == [1]


def test_what_was_stored_while_it_was_away_is_applied_when_it_is_back(space, stock, shop):
    stock.state.on("n", add)
    shop.broadcast("n", 0).settle()
    stock.off("n")
    for n in (1, 2):
        shop.broadcast("n", n)
    stock.state.on("n", add)
    shop.broadcast("n", 3)
    space.settle()
    assert stock.state.get("seen") == [0, 1, 2, 3]


def test_a_later_connection_goes_on_where_the_earlier_one_stopped(tmp_path):
    with happen.connect(store=tmp_path / "store", name="shop") as space:
        space.create_node("stock").state.on("n", add)
        space.broadcast("n", 0).settle()
    with happen.connect(store=tmp_path / "store", name="shop") as space:
        space.broadcast("n", 1)
        space.create_node("stock").state.on("n", add)
        space.broadcast("n", 2)
        space.settle()
        assert space.views.stock.get("seen") == [0, 1, 2]


def test_events_that_come_while_it_catches_up_are_applied_after_those_before(space, stock, shop):
    for n in range(3000):
        if n % 100 == 0:
            shop.broadcast("n", n)
    space.replay([{"m": n} for n in range(2000)], type="m").wait(60)
    stock.state.on("n", add, start="beginning")
    later = [shop.broadcast("n", 10_000 + n).payload for n in range(10)]
    space.settle()
    assert stock.state.get("seen") == [*range(0, 3000, 100), *later]


def test_an_event_that_waits_for_its_handler_to_come_back_is_not_unhandled(space, stock, shop):
    stock.state.on("n", add)
    stock.off("n")
    shop.broadcast("n", 1)
    shop.broadcast("m", 1)
    assert [each.event.type for each in space.unhandled] == ["m"]


def test_a_predicate_selects_the_events_that_it_catches_up_with(space, stock, shop):
    for type_ in ("n.1", "m.1", "n.2"):
        shop.broadcast(type_, type_)
    stock.state.on(lambda type_: type_.startswith("n"), add, start="beginning")
    shop.broadcast("n.3", "n.3")
    shop.broadcast("m.3", "m.3")
    space.settle()
    assert stock.state.get("seen") == ["n.1", "n.2", "n.3"]


# -- identity ------------------------------------------------------------------------------------------------


def test_two_equal_ones_are_refused(space, stock):
    stock.state.on("n", add)
    with pytest.raises(ValueError, match="give one of them a name"):
        stock.state.on("n", add)
    assert len(stock.handlers) == 1


def test_a_name_tells_two_equal_ones_apart(space, stock, shop):
    stock.state.on("n", add)
    stock.state.on("n", add, name="twice")
    shop.broadcast("n", 1).settle()
    assert stock.state.get("seen") == [1, 1]


def test_a_name_survives_another_function_and_pattern(space, stock, shop):
    stock.state.on("n", add, name="adder")
    shop.broadcast("n", 1).settle()
    stock.off(add)
    shop.broadcast("n", 2)
    stock.state.on(
        "{n,m}", happen.draft(lambda draft, event: draft["seen"].append(event.payload)), name="adder"
    )
    shop.broadcast("m", 3)
    space.settle()
    assert stock.state.get("seen") == [1, 2, 3]


def test_lambdas_are_told_apart_by_their_source(space, stock, shop):
    stock.state.on("n", lambda state, event: {**state, "a": event.payload})
    stock.state.on("n", lambda state, event: {**state, "b": event.payload})
    for transform in (lambda state, event: {**state, "c": 1}, lambda state, event: {**state, "d": 1}):
        stock.state.on("n", transform)
    shop.broadcast("n", 1).settle()
    assert stock.state.get() == {"lamp": 5, "a": 1, "b": 1, "c": 1, "d": 1}


@pytest.mark.parametrize(("name", "error"), [("", ValueError), ("x" * 121, ValueError), (7, TypeError)])
def test_a_name_that_is_none_is_refused(stock, name, error):
    with pytest.raises(error, match="name"):
        stock.state.on("n", add, name=name)


# -- a handler that nobody continues -------------------------------------------------------------------------


def add_also(state, event):
    return add(state, event)


def renamed(stock):
    stock.state.on("n", add_also)


def of_another_pattern(stock):
    stock.state.on("{n,m}", add)


@pytest.mark.parametrize("change", [renamed, of_another_pattern])
def test_a_notice_names_a_handler_that_nobody_continues_and_how_to_continue_it(
    space, stock, shop, capfd, change
):
    stock.state.on("n", add)
    shop.broadcast("n", 0).settle()
    stock.off(add)
    for number in (1, 2):
        shop.broadcast("n", number)
    change(stock)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith('node "stock": no handler continues "n add", 2 events wait for it')
    assert "name='n add'" in line


def test_the_notice_does_not_count_calls_of_every(capfd):
    with happen.connect(store=":memory:", name="ticks", clock="manual") as space:
        stock = space.create_node("stock")
        stock.every(1, lambda event: None)
        stock.state.on("**", lambda state, event: state)
        stock.off("**")
        space.advance(3)
        space.broadcast("n")
        stock.state.on("**", add)
    assert ", 1 event waits for it" in capfd.readouterr().err


def test_the_notice_is_shown_once_and_its_name_continues(space, stock, shop, capfd):
    stock.state.on("n", add)
    shop.broadcast("n", 0).settle()
    stock.off(add)
    shop.broadcast("n", 1)
    renamed(stock)
    stock.off("n")
    capfd.readouterr()
    renamed(stock)
    assert not capfd.readouterr().err
    stock.off("n")
    stock.state.on("n", lambda state, event: {**add(state, event), "new": True}, name="n add")
    space.settle()
    assert stock.state.get() == {"lamp": 5, "seen": [0, 1], "new": True}


def test_handlers_that_go_on_cause_no_notice(space, stock, shop, capfd):
    stock.state.on("n", add)
    stock.state.on("n", add, name="second")
    elsewhere(space, 'stock.state.on("n", add); stock.state.on("n", add, name="third")')
    stock.state.on("n", add, name="fourth")
    assert not [line for line in capfd.readouterr().err.splitlines() if '"n add"' in line]
