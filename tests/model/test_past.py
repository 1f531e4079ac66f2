"""A stretch of the journal taken apart, two runs compared, and changes made again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from happen_nb._model.freeze import dumps, freeze_state
from happen_nb._model.frozen import diff, thaw
from happen_nb._model.past import redo, take_apart
from happen_nb._model.records import CommitRecord, EventRecord, HandledRecord, Origin
from happen_nb._model.two_runs import chain_names, chain_noun, compare, side_by_side


def event(id, sequence, cause=None, sender="notebook", type="placed", payload=None, path=None, index=0):
    path = ((cause,) if cause else ()) if path is None else path
    return EventRecord(id, type, sender, payload, cause=cause, path=path, sequence=sequence, index=index)


def commit(node, sequence, cause=None, by=None, n=0, before=0, path=None, events=()):
    path = ((cause,) if cause else ()) if path is None else path
    record = CommitRecord(
        node,
        sequence,
        2,
        sequence,
        dumps(freeze_state({"n": n}, node=node)),
        f"c{sequence}",
        origin=Origin(cause, cause, by, path),
        events=events,
    )
    previous = CommitRecord(node, 1, 1, 1, dumps(freeze_state({"n": before}, node=node)))
    return record, previous


def handled(event, node, position=None, handler="handle"):
    return HandledRecord(event, node, handler, "done", position=position)


@pytest.mark.parametrize(("late", "at"), [([], 22), ([22, 24], 25), ([21, 30], 22)])
def test_an_event_was_scheduled_after_the_cancels_that_did_not_find_it(late, at):
    expired = event("z", 26)
    expired.alarm, expired.scheduled = "z 1", 22
    record = handled("x", "b", 20)._replace(late=tuple(("z", position) for position in late))
    entries = [event("x", 14), expired]
    past = take_apart(entries, [record], [], lambda node: node == "b", scheduled=[expired])
    assert [put.at for put in past.puts if put.alarm is not None] == [(at, -1)]


def test_what_handlers_here_did_is_not_put_in():
    entries = [
        event("a", 5),
        commit("shop", 6, "a", "shop"),
        event("b", 7, "a", "shop", "accepted"),
        commit("bank", 8, "a", "bank"),
        event("c", 9, "b", "bank", "paid"),
        commit("shop", 10),
        event("d", 11, "before", "shop"),
    ]
    records = [handled("a", "shop", 5), handled("a", "bank", 7), handled("b", "bank", 8)]
    past = take_apart(entries, records, [], lambda node: node == "shop")
    assert [put.at for put in past.puts] == [(5, 0), (8, -1), (9, 0), (10, -1), (11, 0)]
    assert past.storings == {
        ("commit", "shop", "shop", "a"): [(6, -1)],
        ("event", "shop", "accepted", "", "a"): [(7, 0)],
    }
    assert dict(past.ids) == {("event", "shop", "accepted", "", "a"): ["b"]}
    assert list(past.beginnings) == [("a", "shop", "handle")]
    assert past.elsewhere == {"bank": 2}


def test_the_events_of_a_commit_belong_to_it():
    riding = event("b", 6, "a", "shop", "accepted")
    entries = [event("a", 5), commit("shop", 6, "a", "shop", events=(riding,)), riding]
    past = take_apart(entries, [handled("a", "shop")], [], lambda _: True)
    assert [put.event.id for put in past.puts] == ["a"]
    assert list(past.storings) == [("commit", "shop", "shop", "a")]
    assert list(past.ids.values()) == [["b"]]
    carried = event("b", 6, None, "shop", "accepted")
    past = take_apart([commit("shop", 6, events=(carried,)), carried], [], [], lambda _: True)
    (put,) = past.puts
    assert (put.commit[0].node, put.events) == ("shop", (carried,))


def test_the_effects_of_a_watch_happen_anew_where_it_is_watched():
    entries = [commit("shop", 5), event("w", 6, None, "shop", path=("c5",))]
    assert len(take_apart(entries, [], [], lambda _: True).puts) == 2
    past = take_apart(entries, [], [], lambda _: True, lambda node: node == "shop")
    assert [put.commit is not None for put in past.puts] == [True]


def kinds(before, now):
    return [(each.kind, each.root) for each in compare(before, now, {"a": "a", "b": "b", "x": "b"})]


def test_equal_runs_do_not_differ_whatever_their_sequences():
    before = [event("a", 5), commit("shop", 6, "a", "shop", 1), event("b", 7)]
    now = [event("a", 15), commit("shop", 26, "a", "shop", 1), event("b", 37)]
    assert kinds(before, now) == []


def test_each_kind_of_difference_is_found():
    before = [event("a", 1), event("b", 2, payload=1), event("x", 3, "b", "shop")]
    now = [event("b", 1, payload=2), event("a", 2), event("y", 3, "a", "shop")]
    found = compare(before, now, {"a": "a", "b": "b", "x": "b", "y": "a"})
    assert [(each.kind, each.root) for each in found] == [("changed", "b"), ("gone", "b"), ("new", "a")]
    assert [each.kind for each in compare(before[:2], [event("b", 1, payload=1), event("a", 2)], {})] == [
        "moved"
    ]


@pytest.mark.parametrize(("n", "before", "alike"), [(3, 4, True), (3, 5, False), (8, 9, True)])
def test_a_commit_that_adds_the_same_is_alike(n, before, alike):
    one, other = commit("shop", 6, "a", "shop", 1, 2), commit("shop", 6, "a", "shop", n, before)
    assert (kinds([one], [other]) == []) is alike


values = st.recursive(
    st.integers(-5, 5) | st.booleans() | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=1), inner, max_size=3)
    ),
    max_leaves=8,
)
states = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


@given(states, states)
def test_a_change_made_again_on_the_same_state_gives_the_same(before, after):
    before, after = freeze_state(before, node="n"), freeze_state(after, node="n")
    assert redo(diff(before, after), before) == thaw(after)


@given(states, states, states)
def test_a_change_made_again_on_another_state_is_a_state(before, after, other):
    before, after, other = (freeze_state(each, node="n") for each in (before, after, other))
    assert isinstance(redo(diff(before, after), other), dict)


def test_chains_are_called_by_their_types_and_named_by_their_ids():
    placed = [event(str(n), n, type="order.placed", payload={"id": f"o{n}"}) for n in (1, 2)]
    assert chain_noun(placed) == "orders"
    assert chain_names(placed) == {"1": "o1", "2": "o2"}
    buys = [event(str(n), n, type="buy", payload={"id": True}) for n in (1, 2)]
    assert chain_noun(buys) == '"buy"'
    assert chain_names(buys) == {"1": "buy 1", "2": "buy 2"}
    assert chain_noun([*placed, *buys]) == "inputs"
    assert chain_names([event("a", 1, payload={"id": 17})]) == {"a": "id 17"}, "not: first 17"


def test_both_runs_are_one_journal_in_which_nothing_is_the_same():
    before = [event("a", 1), commit("shop", 2, "a", "shop")]
    again = [handled("a", "shop")]
    journal, lanes = side_by_side("s", before, before, again, again, {"shop": 3})
    assert lanes == ["notebook", "notebook (now)", "shop", "shop (now)"]
    assert [each.id for each in journal.events] == ["a", "a (now)"]
    assert [pair[0].origin.cause for pair in journal.commits] == ["a", "a (now)"]
    assert journal.commits[0][0].time == journal.commits[1][0].time
    assert {record.node for record in journal.handled} == {"shop", "shop (now)"}
    assert journal.colours["shop (now)"] == journal.colours["shop"] == 3
    assert journal.colours["notebook (now)"] == journal.colours["notebook"]


def test_what_is_handled_in_both_runs_takes_as_long_as_in_the_first():
    records = [event("a", 1), event("b", 2)]
    first = handled("a", "shop")._replace(waited=0.1, duration=0.2)
    now = [each._replace(waited=3.0, duration=40.0) for each in (first, handled("b", "shop"))]
    journal, _ = side_by_side("s", records, records, [first], now, {})
    _, same, new = journal.handled
    assert (same.waited, same.duration) == (0.1, 0.2)
    assert (new.waited, new.duration) == (None, 0.0)
