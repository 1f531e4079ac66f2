"""Events of a transform are stored with its commit, all or none."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import happen_nb as happen


def types(space):
    return [event.type for event in space.events()]


def test_it_is_pending_until_the_commit_and_stored_with_it(space, orders):
    seen = []

    def pay(state):
        event = orders.broadcast("order.paid", {"n": 1})
        seen.append((event, event.pending, event.sequence, event.time, event.handled_by))
        return {**state, "paid": True}

    commit = orders.state.set(pay)

    ((event, *while_pending),) = seen
    assert while_pending == [True, None, None, ()]
    assert (event.pending, event.sequence, event.time) == (False, commit.sequence, commit.time)
    assert event.handled_by == ()
    assert [stored.id for stored in space.events()] == [event.id]


def test_several_keep_their_order_and_index(space, orders, stock):
    got = []
    stock.on("*", lambda event: got.append(event.payload))

    def many(state):
        for n in range(20):
            orders.broadcast("a", n)
        return {"n": 1}

    commit = orders.state.set(many)
    space.settle()

    assert got == list(range(20))
    assert [(event.sequence, event.index) for event in space.events()] == [
        (commit.sequence, n) for n in range(20)
    ]


def test_a_transform_that_raises_emits_nothing(space, orders):
    with pytest.raises(ZeroDivisionError):
        orders.state.set(lambda s: orders.broadcast("a") and 1 / 0)
    assert (types(space), orders.state.revision) == ([], 0)


def test_an_invalid_result_emits_nothing(space, orders):
    with pytest.raises(happen.StateError):
        orders.state.set(lambda s: orders.broadcast("a") and None)
    assert types(space) == []


def test_the_events_of_an_attempt_that_lost_the_race_are_dropped(space, orders):
    attempts = []

    def pay(state):
        attempts.append(orders.broadcast("a", {"attempt": len(attempts)}))
        if len(attempts) < 3:
            interfere(len(attempts))
        return {**state, "paid": True}

    def interfere(n):
        import contextvars

        contextvars.Context().run(orders.state.set, happen.put("other", n))

    orders.state.set(pay)

    assert [event.payload for event in space.events()] == [{"attempt": 2}]
    assert [event.pending for event in attempts] == [True, True, False]
    assert orders.state.get() == {"other": 2, "paid": True}


def test_an_unchanged_state_that_emits_is_committed(space, orders):
    orders.state.set({"n": 1})
    commit = orders.state.set(lambda s: orders.broadcast("a") and s)
    assert commit.revision == 2
    assert types(space) == ["a"]
    assert repr(commit) == "Commit of orders · revision 2\n  no change"
    assert repr(orders.state.history()).splitlines()[-1].split() == ["2", "no", "change"]
    assert repr(commit.diff) == "()"


def test_another_node_may_emit_in_a_transform_under_its_own_name(space, orders, stock):
    orders.state.set(lambda s: stock.broadcast("a") and space.broadcast("b") and {"n": 1})
    assert [(event.type, event.sender) for event in space.events()] == [("a", "stock"), ("b", "notebook")]


def test_a_node_of_another_space_may_not(space, orders, store):
    with happen.connect(store=store, name=f"{space.name[:40]}_else") as elsewhere:
        other = elsewhere.create_node("other")
        with pytest.raises(happen.TransformError, match="another space"):
            orders.state.set(lambda s: other.broadcast("a") and {"n": 1})
        with pytest.raises(happen.TransformError, match="another space"):
            orders.state.set(lambda s: other.send("other", "a") and {"n": 1})
        assert types(elsewhere) == []
        elsewhere.drop()
    assert (types(space), orders.state.revision) == ([], 0)


def test_bad_events_come_out_of_the_set_and_commit_nothing(space, orders):
    with pytest.raises(happen.PayloadError):
        orders.state.set(lambda s: orders.broadcast("a", {1, 2}) and {"n": 1})
    with pytest.raises(happen.EventTypeError):
        orders.state.set(lambda s: orders.broadcast("") and {"n": 1})
    assert (types(space), orders.state.revision) == ([], 0)


def test_a_handler_of_it_sees_the_commit_that_it_left_with(space, orders, stock):
    seen = []
    stock.on("a", lambda event: seen.append((orders.state.get("n"), space.views.orders.get("n"))))

    for n in range(100):
        orders.state.set(lambda s, n=n: orders.broadcast("a") and {"n": n})
    space.settle()

    assert all(own >= n and viewed >= n for n, (own, viewed) in enumerate(seen))
    assert len(seen) == 100


def test_events_too_large_for_a_header_leave_with_the_commit_too(space, orders):
    got = []
    orders.on("big", lambda event: got.append((len(event.payload), orders.state.get("n"))))

    orders.state.set(lambda s: [orders.broadcast("big", "x" * 40_000) for _ in range(5)] and {"n": 1})
    space.settle()

    assert got == [(40_000, 1)] * 5


def test_an_event_larger_than_the_server_takes_is_an_error_and_commits_nothing(space, orders):
    with pytest.raises(happen.TooLargeError):
        orders.state.set(lambda s: orders.broadcast("big", "x" * (9 << 20)) and {"n": 1})
    assert (types(space), orders.state.revision) == ([], 0)


# -- ids -----------------------------------------------------------------------------------------------------


def test_an_id_that_is_stored_already_is_not_stored_again_but_the_commit_is(space, orders):
    orders.broadcast("a", 1, id="k")
    events = []

    def pay(state):
        events.append(orders.broadcast("a", 1, id="k"))
        orders.broadcast("b")
        return {"paid": True}

    commit = orders.state.set(pay)

    assert commit.after == {"paid": True}
    assert events[-1].repeated
    assert types(space) == ["a", "b"]


def test_an_id_that_is_stored_with_another_content_commits_nothing(space, orders):
    orders.broadcast("a", 1, id="k")
    with pytest.raises(ValueError, match="another content"):
        orders.state.set(lambda s: orders.broadcast("a", 2, id="k") and {"paid": True})
    assert orders.state.revision == 0


def test_the_same_set_again_changes_and_emits_nothing(space, orders):
    def pay(state):
        orders.broadcast("a", 1, id="k")
        return {"paid": True}

    assert orders.state.set(pay).changed
    assert not orders.state.set(pay).changed
    assert (types(space), orders.state.revision) == (["a"], 1)


def test_one_id_twice_in_one_transform_is_stored_once(space, orders):
    def pay(state):
        orders.broadcast("a", 1, id="k")
        orders.broadcast("a", 1, id="k")
        return {"paid": True}

    orders.state.set(pay, timeout=5)
    assert (types(space), orders.state.get()) == (["a"], {"paid": True})


def test_one_id_with_two_contents_in_one_transform_is_refused(space, orders):
    def pay(state):
        orders.broadcast("a", 1, id="k")
        orders.broadcast("a", 2, id="k")
        return {"paid": True}

    with pytest.raises(ValueError, match="another content"):
        orders.state.set(pay, timeout=5)
    assert types(space) == []


# -- sending -------------------------------------------------------------------------------------------------


def test_a_send_leaves_with_the_commit_and_its_reply_can_be_waited_for_afterwards(space, orders, stock):
    stock.on("reserve", lambda event: orders.state.get("open"))
    replies = []
    orders.state.set(lambda s: replies.append(orders.send("stock", "reserve")) or {"open": 1})
    assert replies[0].result() == 1


def test_a_send_to_an_unknown_node_fails_after_the_commit(space, orders):
    replies = []
    orders.state.set(lambda s: replies.append(orders.send("nobody", "reserve")) or {"open": 1})
    with pytest.raises(happen.NoHandlerError, match=r'of node "nobody"; "reserve" is in .*\.unhandled'):
        replies[0].result(timeout=0)
    assert [missed.reason for missed in space.unhandled] == ["no owner"]


def test_the_reply_of_a_dropped_send_fails_immediately(space, orders, stock):
    stock.on("reserve", lambda event: 1)
    replies = []
    with pytest.raises(ZeroDivisionError):
        orders.state.set(lambda s: replies.append(orders.send("stock", "reserve")) or 1 / 0)
    with pytest.raises(ValueError, match="pending"):
        replies[0].result(timeout=5)
    with pytest.raises(ValueError, match="pending"):
        list(replies[0])
    replies[0].cancel()
    assert types(space) == []


def test_the_result_cannot_be_waited_for_in_the_transform(space, orders, stock):
    stock.on("reserve", lambda event: 1)
    with pytest.raises(happen.TransformError):
        orders.state.set(lambda s: {"n": orders.send("stock", "reserve").result()})
    assert types(space) == []


def by_a_thread(act):
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()


def by_an_executor(act):
    with ThreadPoolExecutor(1) as executor:
        executor.submit(act).result()


@pytest.mark.parametrize("elsewhere", [by_a_thread, by_an_executor])
@pytest.mark.parametrize("where", ["a cell", "a handler"])
def test_another_thread_is_not_in_the_transform_that_started_it(space, orders, stock, elsewhere, where):
    def pay(state):
        elsewhere(lambda: stock.state.set({"n": 1}))
        elsewhere(lambda: orders.broadcast("order.paid"))
        raise ZeroDivisionError

    def handler(event):
        with pytest.raises(ZeroDivisionError):
            orders.state.set(pay)

    orders.on("a", handler)
    if where == "a cell":
        handler(None)
    else:
        space.send("orders", "a").result()

    assert stock.state.get() == {"n": 1}
    assert types(space)[-1:] == ["order.paid"]


def test_registering_in_a_transform_is_refused(space, orders):
    with pytest.raises(happen.TransformError):
        orders.state.set(lambda s: orders.on("a", print) and {"n": 1})
    assert len(orders.handlers) == 0


def test_an_event_that_is_too_large_is_named(space, orders):
    def transform(state):
        orders.broadcast("small")
        orders.broadcast("large", "x" * (space._log.max_body + 1))
        return {"n": 1}

    with pytest.raises(happen.TooLargeError, match='broadcast of "large"'):
        orders.state.set(transform)
    assert (dict(orders.state.get()), len(space.events())) == ({}, 0)
