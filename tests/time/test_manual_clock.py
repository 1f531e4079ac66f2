"""A clock that stands still until it is advanced."""
# ruff: noqa: DTZ001 - times without a zone are local times

import asyncio
import os
import signal
import threading
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

import happen_nb as happen
from happen_nb._journal import outbox
from happen_nb._journal.encoding import encode_clock
from happen_nb._journal.wire import encode_publish
from happen_nb._model.schedules import utc_text
from happen_nb._runtime import pipelines, workers
from happen_nb._runtime.clock import Advancer
from happen_nb._runtime.io import io_thread
from happen_nb._runtime.turns import Turns

START = datetime(2000, 1, 1, tzinfo=UTC)


def at(**parts):
    return START + timedelta(**parts)


@pytest.fixture
def agent(manual):
    return manual.create_node("agent")


@pytest.fixture
def handled(manual):
    """Type and time of each event, in the order in which they are handled."""
    found = []
    manual.create_node("listener").on("**", lambda event: found.append((event.type, manual.now)))
    return found


# -- the clock of a space --------------------------------------------------------------------------------


def test_a_manual_clock_starts_in_2000_and_stands_still(manual):
    assert manual.now == START
    assert manual.now == START


def test_a_clock_starts_when_it_is_told(store):
    with happen.connect(store=store, name="m", clock="manual", now=datetime(2030, 5, 1), fresh=True) as space:
        assert space.now == datetime(2030, 5, 1).astimezone(UTC)


def test_a_space_keeps_its_clock(store):
    with happen.connect(store=store, name="kept", clock="manual") as space:
        space.create_node("a", initial={})
        space.advance(hours=1)
    with happen.connect(store=store, name="kept") as space:
        assert space.now == at(hours=1)
        space.clear()
        assert space.now == at(hours=1)
        with pytest.raises(happen.ClockError, match="has a manual clock"):
            happen.connect(store=store, name="kept", clock="real")
        assert happen.connect(store=store, name="kept", clock="manual").now == at(hours=1)
        happen.connect(store=store, name="kept", clock="manual", fresh=True)
        assert space.now == START
        happen.connect(store=store, name="kept", clock="real", fresh=True)
        assert abs(space.now - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_space_with_content_does_not_change_its_clock(store, space):
    space.create_node("a", initial={})
    with pytest.raises(happen.ClockError, match="has a real clock"):
        happen.connect(store=store, name=space.name, clock="manual")
    with pytest.raises(happen.ClockError, match="has a real clock"):
        space.advance(hours=1)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"clock": "fast"}, ValueError),
        ({"clock": True}, ValueError),
        ({"now": START}, ValueError),
        ({"clock": "real", "now": START}, ValueError),
        ({"clock": "manual", "now": 5}, TypeError),
    ],
)
def test_a_clock_that_does_not_exist_is_refused(store, options, error):
    with pytest.raises(error, match=r"connect: (clock|now)"):
        happen.connect(store=store, name="never", **options)


def test_a_fork_has_the_clock_of_its_space(manual, agent):
    agent.state.set({"n": 1})
    manual.advance(days=1)
    fork = manual.fork("what-if")
    try:
        fork.advance(days=1)
        assert (manual.now, fork.now) == (at(days=1), at(days=2))
        assert fork.views.agent.get() == {"n": 1}
    finally:
        fork.drop()


def test_a_fork_of_the_past_has_the_time_of_that_moment(manual, agent):
    for number in (1, 2):
        manual.advance(hours=1)
        agent.state.set({"n": number})
    for moment in (at(hours=1, minutes=30), agent.state.history()[-1]):
        fork = manual.fork("what-if", at=moment)
        try:
            assert fork.views.agent.get() == {"n": 1}
            assert fork.now == (at(hours=2) if isinstance(moment, happen.Commit) else at(hours=1))
        finally:
            fork.drop()


def test_a_fork_of_the_past_after_a_clear_has_the_time_of_that_moment(manual, agent):
    manual.advance(hours=1)
    manual.clear()
    agent.state.set({"n": 1})
    commit = agent.state.set({"n": 2})
    manual.advance(hours=1)
    with manual.fork("what-if", at=commit) as fork:
        assert fork.now == at(hours=1)
        fork.drop()


# -- advancing -------------------------------------------------------------------------------------------


def test_events_come_by_due_time_and_then_in_the_order_of_scheduling(manual, agent, handled):
    for type, seconds in [("c", 20), ("a", 10), ("d", 20), ("b", 10)]:
        agent.broadcast(type, after=seconds)
    advance = manual.advance(minutes=1)
    ten, twenty = at(seconds=10), at(seconds=20)
    assert handled == [("a", ten), ("b", ten), ("c", twenty), ("d", twenty)]
    assert (advance.events, advance.commits, advance.failures, advance.now) == (4, 0, 0, at(minutes=1))
    assert manual.now == at(minutes=1)


def test_an_event_of_the_past_is_delivered_at_once_and_that_is_said(manual, agent, handled, capsys):
    manual.advance(hours=1)
    agent.broadcast("late", at=START)
    manual.settle()
    assert handled == [("late", at(hours=1))]
    assert 'at is in the past; "late" is delivered now' in "".join(capsys.readouterr())


@pytest.mark.parametrize("times", [{"after": 1e12}, {"after": timedelta(days=4_000_000)}])
def test_a_time_that_no_calendar_has_is_refused(agent, times):
    with pytest.raises(ValueError, match=r"after is .*; pass a time before the year 10000"):
        agent.broadcast("x", **times)


def test_centuries_pass(manual, agent, handled):
    agent.broadcast("far", at=datetime(9000, 1, 1, tzinfo=UTC))
    assert manual.advance(to=datetime(9999, 1, 1, tzinfo=UTC)).events == 1
    assert handled == [("far", datetime(9000, 1, 1, tzinfo=UTC))]


def test_what_follows_is_handled_before_the_clock_moves_on(manual, agent):
    seen = []

    @agent.on("first")
    def first(event):
        agent.broadcast("effect")

    agent.on("effect", lambda event: seen.append(("effect", manual.now)))
    agent.on("second", lambda event: seen.append(("second", manual.now)))
    agent.broadcast("first", after=1)
    agent.broadcast("second", after=2)
    manual.advance(10)
    assert seen == [("effect", at(seconds=1)), ("second", at(seconds=2))]


def test_what_is_scheduled_meanwhile_is_delivered_too(manual, agent, handled):
    @agent.on("tick")
    def tick(event):
        if event.payload < 5:
            agent.broadcast("tick", event.payload + 1, after=1)

    agent.broadcast("tick", 1, after=1)
    assert manual.advance(3).events == 3
    assert manual.advance(3).events == 2
    assert [moment for _, moment in handled] == [at(seconds=n) for n in range(1, 6)]


def test_advancing_stops_where_it_is_told(manual, agent):
    event = agent.broadcast("b", at=at(hours=5))
    agent.broadcast("a", after=timedelta(hours=1))
    assert manual.advance(to="next").now == at(hours=1)
    assert manual.advance(0).now == at(hours=1)
    assert manual.advance(timedelta(hours=1)).now == at(hours=2)
    assert manual.advance(to=at(hours=3)).now == at(hours=3)
    assert manual.advance(to=event).now == at(hours=5)
    nothing = manual.advance(to="next")
    assert (nothing.events, nothing.now) == (0, at(hours=5))


def test_a_notice_says_that_the_start_of_an_existing_clock_is_not_used(manual, store, capsys):
    manual.advance(hours=1)
    options = {"store": store, "name": "manual", "clock": "manual"}
    happen.connect(**options)
    happen.connect(**options, now=manual.now)
    assert capsys.readouterr() == ("", "")

    assert happen.connect(**options, now=datetime(2030, 5, 1, tzinfo=UTC)).now == at(hours=1)
    text = 'ignored now=: the clock of the space "manual" is at 2000-01-01 01:00:00+00:00'
    assert text in "".join(capsys.readouterr())


def test_an_advance_that_another_process_was_faster_than_fails_at_once(manual, monkeypatch):
    monkeypatch.setattr(outbox, "UNCLEAR_SECONDS", 3600)  # the follower decides, not the time
    runtime = manual._runtime
    log = runtime.log
    theirs = encode_clock(log.subjects, utc_text(at(hours=3)), expected=log.clock.sequence)

    async def lose():
        log.connection.write([encode_publish(theirs)])
        await Advancer(runtime).move(utc_text(at(hours=1)), 60)

    with pytest.raises(happen.ClockError, match="another process is also moving the clock"):
        io_thread().run(lose())
    assert manual.now == at(hours=3)


@pytest.mark.parametrize("end", ["close", "drop"])
def test_an_advance_ends_when_its_space_is_closed(store, end):
    space = happen.connect(store=store, name=f"advanced_{end}", clock="manual", fresh=True)
    heart = space.create_node("heart")
    third, raised = threading.Event(), []
    heart.every(1, lambda event: third.set() if event.payload["n"] == 3 else None)

    def advance():
        try:
            space.advance(days=1)
        except happen.HappenError as error:
            raised.append(error)

    advancing = threading.Thread(target=advance, daemon=True)
    advancing.start()
    assert third.wait(10)
    getattr(space, end)()
    advancing.join(20)
    assert not advancing.is_alive()
    assert [type(error) for error in raised] == [happen.ClosedError]


def test_the_parts_of_an_advance_may_be_numbers_of_numpy(manual):
    manual.advance(hours=np.int64(1), minutes=np.float32(30))
    assert manual.now == START + timedelta(minutes=90)


@pytest.mark.parametrize(
    ("how", "error", "problem"),
    [
        ({}, TypeError, "pass one of by, to, or parts"),
        ({"by": 1, "hours": 1}, TypeError, "pass one of"),
        ({"by": -1}, ValueError, "by is -1"),
        ({"by": float("nan")}, ValueError, "by is nan"),
        ({"by": "1 h"}, TypeError, "by is '1 h'"),
        ({"days": 1e9}, ValueError, "beyond the year 9999"),
        ({"hours": -1}, ValueError, "hours=-1, which is .* pass seconds, 0 or more"),
        ({"moons": 1}, TypeError, "moons=1 is not a duration; pass numbers of days"),
        ({"days": True}, TypeError, "days=True is not a duration"),
        ({"hours": float("nan")}, ValueError, "hours=nan is not a duration"),
        ({"to": "end"}, ValueError, "to is 'end'"),
        ({"to": START - timedelta(seconds=1)}, ValueError, "it cannot go back"),
        ({"by": 1, "timeout": -1}, ValueError, "timeout is -1"),
    ],
)
def test_an_impossible_advance_is_refused(manual, how, error, problem):
    with pytest.raises(error, match=problem):
        manual.advance(**how)
    assert manual.now == START


def test_an_event_that_is_not_scheduled_is_no_time(manual, agent):
    with pytest.raises(ValueError, match='the event "now" is not scheduled'):
        manual.advance(to=agent.broadcast("now"))


def test_a_handler_cannot_advance(manual, agent):
    agent.on("go", lambda event: manual.advance(1))
    agent.broadcast("go")
    manual.settle()
    assert "it would wait for itself" in str(manual.failures[0].exception)


def test_a_transform_cannot_advance(manual, agent):
    with pytest.raises(happen.TransformError):
        agent.state.set(lambda state: manual.advance(1))


def test_two_threads_cannot_advance_at_once(manual, agent):
    entered, leave = threading.Event(), threading.Event()

    @agent.on("hold")
    def hold(event):
        entered.set()
        leave.wait(10)

    agent.broadcast("hold", after=1)
    first = threading.Thread(target=manual.advance, args=(10,))
    first.start()
    assert entered.wait(10)
    try:
        with pytest.raises(happen.ClockError, match="another thread"):
            manual.advance(1)
    finally:
        leave.set()
        first.join()
    assert manual.now == at(seconds=10)


def test_a_handler_that_does_not_end_is_named(manual, agent):
    leave = threading.Event()
    agent.on("hang", lambda event: leave.wait(20))
    agent.broadcast("hang", after=1)
    try:
        with pytest.raises(happen.HappenTimeoutError, match=r'still running.*node "agent" handling "hang"'):
            manual.advance(10, timeout=1.5)
        assert manual.now == at(seconds=1)
    finally:
        leave.set()


def test_a_failure_is_counted_and_the_clock_moves_on(manual, agent):
    agent.on("bad", lambda event: 1 / 0)
    agent.broadcast("bad", after=1)
    advance = manual.advance(5)
    assert (advance.events, advance.failures, advance.now) == (1, 1, at(seconds=5))
    assert repr(advance) == "Advance · 1 event · 1 failure · now 2000-01-01 00:00:05"


def test_a_cancelled_event_does_not_come(manual, agent, handled):
    agent.broadcast("expired", after=60, id="e")
    agent.broadcast("kept", after=60)
    assert agent.state.set(lambda state: {"cancelled": agent.cancel("e")}).after == {"cancelled": True}
    manual.advance(minutes=2)
    assert handled == [("kept", at(minutes=1))]


def test_many_events_of_one_moment_come_in_order(manual, agent):
    seen = []
    agent.on("n", lambda event: seen.append(event.payload))
    agent.state.set(lambda s: {**s, "n": [agent.broadcast("n", n, after=1).type for n in range(300)]})
    assert manual.advance(1).events == 300
    assert seen == list(range(300))


# -- the time of events ----------------------------------------------------------------------------------


def test_an_event_occurs_at_the_time_of_the_space(manual, agent):
    manual.advance(hours=1)
    now, later = agent.broadcast("now"), agent.broadcast("later", after=60)
    given = agent.broadcast("given", occurred=START)
    assert (now.occurred, given.occurred) == (at(hours=1), START)
    manual.advance(60)
    (came,) = manual.events("later")
    assert came.occurred == later.due == at(hours=1, minutes=1)
    assert came.time.year > 2000


def test_times_of_the_past_are_those_of_the_space(manual, agent):
    for hour in range(1, 4):
        agent.state.set({"hour": hour})
        agent.broadcast(f"hour-{hour}")
        manual.advance(hours=1)
    assert manual.at(START)["agent"] == {"hour": 1}
    assert manual.at(at(hours=1, minutes=30))["agent"] == {"hour": 2}
    assert agent.state.at(at(hours=9)) == {"hour": 3}
    assert [event.type for event in manual.events(since=at(minutes=59))] == ["hour-2", "hour-3"]


@pytest.mark.parametrize("fresh", [False, True])
def test_before_the_start_of_the_clock_there_was_nothing(store, fresh):
    with happen.connect(store=store, name=f"start-{fresh}", clock="manual", fresh=fresh) as lab:
        agent = lab.create_node("agent", initial={"n": 1})
        agent.broadcast("first")
        before = START - timedelta(days=1)
        for _ in range(2):
            assert [event.type for event in lab.events(since=before)] == ["first"]
            assert len(lab.journal(since=before)) == 2
            recorded = lab.record(since=before)
            for read in (agent.state.at, lab.at, recorded.at):
                try:
                    assert dict(read(before)) == {}
                except happen.HistoryGoneError:
                    assert fresh
            lab.advance(60)
        assert lab.at(START)["agent"] == recorded.at(START)["agent"] == {"n": 1}


def test_context_has_the_time_of_the_space(manual, agent):
    seen = []
    agent.on("x", lambda event, context: seen.append(context.now))
    agent.broadcast("x", after=60)
    manual.advance(hours=1)
    assert seen == [at(minutes=1)]


# -- handlers that wait ----------------------------------------------------------------------------------


def test_a_handler_sleeps_by_the_clock(manual, agent):
    seen = []

    @agent.on("go")
    async def go(event, context):
        for _ in range(3):
            await context.sleep(600)
            seen.append(manual.now)

    agent.broadcast("go").settle()
    started = time.monotonic()
    manual.settle()
    manual.advance(1500)
    assert seen == [at(seconds=600), at(seconds=1200)]
    manual.advance(to="next")
    assert seen[-1] == manual.now == at(seconds=1800)
    assert time.monotonic() - started < 10


def test_what_waits_behind_a_sleeping_handler_is_not_waited_for(manual, agent):
    seen = []

    @agent.on("sleep")
    async def sleep(event, context):
        await context.sleep(60)

    agent.on("next", lambda event: seen.append(manual.now))
    agent.broadcast("sleep")
    agent.broadcast("next")
    manual.settle()
    assert manual.advance(30).now == at(seconds=30)
    assert seen == []
    manual.advance(60)
    assert seen == [at(seconds=60)]


def test_a_handler_that_sleeps_twice_at_once_wakes_twice(manual, agent):
    seen = []

    @agent.on("go")
    async def go(event, context):
        async def nap(seconds):
            await context.sleep(seconds)
            seen.append(manual.now)

        await asyncio.gather(nap(10), nap(20))
        await agent.abroadcast("done")

    agent.broadcast("go")
    manual.advance(60)
    assert seen == [at(seconds=10), at(seconds=20)]
    assert [event.type for event in manual.events("done")] == ["done"]


def test_a_sleeping_handler_can_be_stopped(manual, agent):
    @agent.on("go")
    async def go(event, context):
        await context.sleep(3600)

    agent.broadcast("go")
    manual.settle()
    agent.off(go)
    manual.advance(hours=2)
    agent.on("next", lambda event: 1)
    agent.broadcast("next").settle()


def test_a_state_handler_that_is_registered_behind_a_sleeping_handler_is_not_waited_for(manual, agent):
    @agent.on("go")
    async def go(event, context):
        await context.sleep(3600)

    agent.broadcast("go")
    manual.settle()
    agent.state.on("count", happen.put("n", lambda n: (n or 0) + 1), start="beginning")
    agent.broadcast("count")
    manual.settle()
    manual.advance(hours=2)
    assert agent.state.get("n") == 1


def test_retries_follow_the_clock(manual, agent):
    tries = []

    @agent.on("flaky", retries=3, backoff=60)
    def flaky(event):
        tries.append(manual.now)
        if len(tries) < 3:
            raise ConnectionError

    agent.broadcast("flaky")
    manual.settle()
    assert tries == [START]
    manual.advance(hours=1)
    assert tries == [START, at(minutes=1), at(minutes=3)]
    assert not manual.failures


@pytest.mark.parametrize("how", ["sleeps", "is repeated later", "is sent later"])
@pytest.mark.parametrize("way", ["async", "plain"])
def test_a_handler_that_waits_for_a_reply_that_waits_for_the_clock_is_not_waited_for(manual, agent, how, way):
    clerk = manual.create_node("clerk")
    options = {"after": 10} if how == "is sent later" else {}

    @clerk.on("serve", retries=1, backoff=10)
    async def serve(event, context):
        if how == "sleeps":
            await context.sleep(10)
        elif how == "is repeated later" and context.attempt == 1:
            raise ValueError("once more")
        return event.payload

    @agent.on("plain")
    def ask(event):
        agent.state.set({"got": agent.send(clerk, "serve", 7, **options).result(), "at": str(manual.now)})

    @agent.on("async")
    async def ask_async(event):
        reply = await agent.asend(clerk, "serve", 7, **options)
        await agent.state.aset({"got": await reply, "at": str(manual.now)})

    agent.on("behind", lambda event: agent.state.set(happen.put("behind", str(manual.now))) and None)
    agent.broadcast(way)
    agent.broadcast("behind")
    manual.settle()
    assert manual.advance(5, timeout=5).now == at(seconds=5)
    assert agent.state.get() == {}
    manual.advance(20, timeout=5)
    due = str(at(seconds=10))
    assert agent.state.get() == {"got": 7, "at": due, "behind": due}
    assert manual.rerun().same


def test_a_server_with_a_queue_takes_as_long_as_it_says(manual):
    desk = manual.create_node("desk", initial={"served": []})

    @desk.on("serve")
    async def serve(event, context):
        await context.sleep(event.payload)
        return str(context.space.now)

    customers = [manual.create_node(f"customer-{number}") for number in range(1, 4)]
    for number, customer in enumerate(customers, 1):

        @customer.on("go")
        async def go(event, context, number=number):
            left = await (await context.node.asend(desk, "serve", number))
            await context.node.state.aset({"left": left})

    manual.broadcast("go")
    manual.advance(60, timeout=5)
    left = [customer.state.get("left") for customer in customers]
    assert left == [str(at(seconds=seconds)) for seconds in (1, 3, 6)]


def test_a_handler_waits_for_the_clock_only_while_all_the_replies_do_that_it_waits_for(manual, agent):
    import asyncio

    for number in range(3):
        clerk = manual.create_node(f"clerk-{number}")

        @clerk.on("serve")
        async def serve(event, context, number=number):
            await context.sleep(10 * number)
            return number

    @agent.on("go")
    async def go(event):
        async def ask(number):
            got = await (await agent.asend(f"clerk-{number}", "serve"))
            await agent.abroadcast("got", [got, str(manual.now)])

        await asyncio.gather(*map(ask, range(3)))

    agent.broadcast("go")
    manual.advance(60, timeout=5)
    got = [event.payload for event in manual.events("got")]
    assert got == [[number, str(at(seconds=10 * number))] for number in range(3)]


def test_a_handler_that_gives_up_a_reply_is_waited_for_again(manual, agent):
    clerk = manual.create_node("clerk")

    @clerk.on("serve")
    async def serve(event, context):
        await context.sleep(3600)

    @agent.on("go")
    def go(event):
        with pytest.raises(happen.HappenTimeoutError):
            agent.send(clerk, "serve").result(0.1)
        time.sleep(0.1)
        agent.broadcast("given up")

    agent.broadcast("go")
    manual.wait_for("given up")
    manual.settle()
    assert agent.busy == ""
    agent.broadcast("go")
    agent.off("go")
    agent.on("next", lambda event: agent.state.set({"at": str(manual.now)}) and None)
    agent.broadcast("next")
    manual.settle()
    assert agent.state.get() == {"at": str(START)}


@pytest.mark.parametrize("way", ["plain", "async"])
@pytest.mark.parametrize("what", ["event", "state"])
def test_the_clock_moves_on_while_a_handler_waits_for_others(manual, agent, what, way):
    if what == "event":
        wait, await_ = manual.wait_for, manual.await_for
        arguments = ("paid", lambda event: event.payload == 2)
    else:
        wait, await_ = agent.state.wait_for, agent.state.await_for
        arguments = (lambda state: state.get("n") == 2,)

    def plain(event):
        wait(*arguments)
        return str(manual.now)

    async def asynchronous(event):
        await await_(*arguments)
        return str(manual.now)

    manual.create_node("waiter").on("go", plain if way == "plain" else asynchronous)
    agent.state.on("paid", lambda state, event: {"n": event.payload})
    reply = manual.send("waiter", "go")
    for n in (1, 2, 3):
        agent.broadcast("paid", n, after=60 * n)
    manual.settle(timeout=5)
    assert manual.advance(hours=1, timeout=5).now == at(hours=1)
    assert reply.result(5) == str(at(seconds=120))


def test_the_clock_stands_still_until_what_was_waited_for_is_dealt_with(manual, agent):
    @agent.on("go")
    async def go(event, context):
        for n in range(20):
            await manual.await_for("tick", lambda event, n=n: event.payload >= n)
            await context.sleep(0.5)
            await agent.abroadcast("seen", [n, str(manual.now)])

    agent.broadcast("go")
    manual.settle()
    for n in range(20):
        agent.broadcast("tick", n, after=n + 1)
    manual.advance(minutes=1, timeout=5)
    seen = [event.payload for event in manual.events("seen")]
    assert seen == [[n, str(at(seconds=n + 1.5))] for n in range(20)]


def test_the_clock_stands_still_while_another_task_of_the_handler_goes_on(manual, agent):
    @agent.on("go")
    async def go(event, context):
        async def work():
            for n in range(200):
                await agent.state.aset({"n": n})
            return str(manual.now)

        waits = asyncio.ensure_future(manual.await_for("tick"))
        await context.sleep(0)
        worked = await work()
        await agent.abroadcast("worked", worked)
        await waits

    agent.broadcast("go")
    agent.broadcast("tick", after=60)
    manual.advance(minutes=2, timeout=20)
    assert [event.payload for event in manual.events("worked")] == [str(START)]


def test_sleeping_by_a_real_clock_takes_that_long(space):
    node, seen = space.create_node("a"), []

    @node.on("go")
    async def go(event, context):
        started = time.monotonic()
        await context.sleep(0.05)
        seen.append(time.monotonic() - started)

    node.broadcast("go").settle()
    assert 0.05 <= seen[0] < 5


# -- the same start, the same run ------------------------------------------------------------------------


def test_the_same_program_gives_the_same_journal(store):
    assert simulation(store, "first") == simulation(store, "second")


def simulation(store, name):
    with happen.connect(store=store, name=name, clock="manual", fresh=True) as space:
        agents = [space.create_node(f"agent-{n}", initial={"n": 0}) for n in range(8)]
        for agent in agents:
            agent.state.on("tick", _counting(agent))
            agent.on("meet", _meeting(space, agents, agent))
        for tick in range(10):
            agents[0].broadcast("tick", tick, after=tick)
        space.advance(minutes=1)
        return [_essence(entry) for entry in space.journal()]


def _counting(agent):
    def count(state, event):
        if (state["n"] + event.payload) % 3 == 0:
            agent.broadcast("meet", {"from": agent.name}, after=event.payload % 2)
        return {"n": state["n"] + 1}

    return count


def _meeting(space, agents, agent):
    def meet(event, context):
        other = context.random.choice(agents)
        if other is agent:
            agent.state.set(lambda state: {**state, "met": event.payload["from"], "at": str(space.now)})
            agent.broadcast("met", event.payload["from"])

    return meet


def test_agents_that_go_together_give_the_same_journal(store):
    assert agents_together(store, "first") == agents_together(store, "second")


def test_a_transform_that_takes_long_changes_no_order(store, monkeypatch):
    first = agents_together(store, "first")
    monkeypatch.setattr(pipelines, "STUCK_SECONDS", 0.002)  # less than one of the transforms takes
    assert agents_together(store, "second") == first


def test_a_widget_that_is_drawn_meanwhile_changes_no_order(store, monkeypatch):
    first = agents_together(store, "first")
    choose = Turns._next

    def draw_and_choose(turns):
        turns._dispatcher.workers.submit(lambda: None)
        return choose(turns)

    monkeypatch.setattr(Turns, "_next", draw_and_choose)
    assert agents_together(store, "second") == first


def test_the_nodes_of_an_event_begin_in_order(manual, monkeypatch):
    first, last = manual.create_node("first"), manual.create_node("last")
    first.state.on("go", lambda state, event: {"n": 1})
    last.on("go", lambda event: last.state.set({"n": 1}))
    put = Turns.put

    def put_late(turns, turn):
        time.sleep(0.05)  # long enough for a worker that waits
        put(turns, turn)

    monkeypatch.setattr(Turns, "put", put_late)
    first.broadcast("go")
    manual.settle()
    assert [commit.node for commit in manual.journal().commits] == ["first", "last"]


def test_a_handler_that_waits_for_others_lets_them_begin(manual, agent, monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE_CHECKS", 10_000)
    other = manual.create_node("other")

    @agent.on("start")
    def start(event):
        sent = other.broadcast("ping", 3)
        return manual.wait_for("end", since=sent, timeout=10).payload

    @other.on("ping")
    def ping(event):
        other.broadcast("ping" if event.payload else "end", event.payload - 1)

    assert manual.send("agent", "start").result(20) == -1


def test_a_handler_that_hangs_holds_up_the_others_once(manual, agent, gate, until):
    other, handled = manual.create_node("other"), []
    agent.on("hang", lambda event: gate.wait(120))
    other.on("ping", lambda event: handled.append(event.payload))
    other.state.on("ping", lambda state, event: {"n": event.payload})
    agent.broadcast("hang")
    for number in range(60):
        other.broadcast("ping", number)
    until(lambda: len(handled) == 60)  # not a second for each


def test_the_tasks_of_a_handler_wait_for_the_clock_and_end(manual, agent, recwarn):
    async def note(context, seconds):
        await context.sleep(seconds)
        await agent.state.aset(lambda state: {**state, f"after {seconds}": str(manual.now.time())})
        return seconds

    @agent.on("work")
    async def work(event, context):
        asyncio.create_task(note(context, 9)).cancel()
        first = await asyncio.gather(note(context, 2), note(context, 1))
        return [*first, await asyncio.wait_for(note(context, 3), 20)]

    reply = manual.send("agent", "work")
    manual.advance(10)
    assert reply.result(5) == [2, 1, 3]
    expected = {"after 1": "00:00:01", "after 2": "00:00:02", "after 3": "00:00:05"}
    assert agent.state.get() == expected
    assert list(recwarn) == []


def test_a_server_that_answers_late_changes_no_order(tmp_path):
    with happen.connect(store=tmp_path / "own", name="late", clock="manual") as space:
        first, second = space.create_node("first"), space.create_node("second")
        server = space.server.pid

        @first.on("go")
        def tell(event):
            os.kill(server, signal.SIGSTOP)
            threading.Timer(2, os.kill, [server, signal.SIGCONT]).start()
            first.broadcast("told", "first")
            first.broadcast("told", "first, again")

        @second.on("go")
        def tell_last(event):
            second.broadcast("told", "second")

        first.broadcast("go", after=1)
        space.advance(1)
        assert [event.payload for event in space.events("told")] == ["first", "first, again", "second"]


def agents_together(store, name):
    """Agents whose state handlers commit, emit, schedule, take long and fail."""
    with happen.connect(store=store, name=name, clock="manual", fresh=True) as space:
        agents = [space.create_node(f"agent-{n}") for n in range(12)]
        for number, agent in enumerate(agents):
            agent.state.every(1, _living(agent, number), id="live")
            agent.state.on("born", lambda state, event: {**state, "born": event.payload}, name="born")
        observer = space.create_node("observer")
        observer.on("late", lambda event: observer.broadcast("seen", event.payload))
        advance = space.advance(6)
        assert (advance.failures, advance.events) == (2, 12 * 6 + len(space.events("{born,late,seen}")))
        assert [agent.state.get("n") for agent in agents] == [6] * 12
        return [_essence(entry) for entry in space.journal()]


def _living(agent, number):
    def live(state, event):
        n = event.payload["n"]
        if number == 7:
            time.sleep(0.006)  # long enough for a worker of its own on a real clock
        if (number + n) % 4 == 0:
            agent.broadcast("born", n)
        if (number + n) % 5 == 0:
            agent.broadcast("late", n, after=1)
        if (number, n) in {(3, 2), (10, 4)}:
            raise ArithmeticError
        return {**state, "n": n}

    return live


def test_a_clear_drops_what_waits_for_its_turn(manual, agent):
    entered, leave = threading.Event(), threading.Event()

    @agent.on("hold")
    def hold(event):
        entered.set()
        leave.wait(10)

    other = manual.create_node("other")
    other.state.on("count", lambda state, event: {"n": state.get("n", 0) + 1})
    agent.broadcast("hold")
    assert entered.wait(10)
    agent.broadcast("count")
    manual.clear()
    agent.broadcast("count")
    leave.set()
    manual.settle()
    assert other.state.get() == {"n": 1}


def _essence(entry):
    if isinstance(entry, happen.Event):
        return entry.type, entry.sender, entry.payload, entry.occurred
    return entry.node, entry.revision, entry.after


def test_nobody_waits_for_an_event_of_which_one_handler_is_repeated_later(manual, agent):
    tries = []

    @agent.on("go", retries=1, backoff=60)
    def fail_once(event, context):
        tries.append(context.attempt)
        if context.attempt == 1:
            raise ConnectionError

    agent.on("go", lambda event: None)
    manual.broadcast("go")
    manual.settle(5)
    manual.advance(61, timeout=5)
    assert tries == [1, 2]


def test_nobody_waits_for_what_is_repeated_later_when_a_sleeping_handler_of_its_node_wakes(manual, agent):
    @agent.on("flaky", retries=1, backoff=600)
    def flaky(event):
        raise ValueError

    @agent.on("nap")
    async def nap(event, context):
        await context.sleep(60)

    for type in ("flaky", "nap"):
        manual.broadcast(type)
        manual.settle()
    manual.advance(to="next", timeout=5)
    assert manual.now == at(seconds=60)
    manual.advance(to="next", timeout=5)
    assert (manual.now, len(manual.failures)) == (at(seconds=600), 1)
