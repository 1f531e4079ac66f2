import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from happen_nb._model.causality import Totals, TraceNode, build
from happen_nb._model.records import CommitRecord, EventRecord, HandledRecord, Origin


def event(id, cause=None, sequence=0, **more):
    return EventRecord(id, f"type.{id}", "orders", cause=cause, sequence=sequence, **more)


def commit(sequence, cause, node="stock", revision=1, path=()):
    return CommitRecord(node, sequence, revision, 0, b"{}", origin=Origin(cause, None, node, path))


def outline(root: TraceNode):
    return [(depth, node.event.id if node.event else node.commit.sequence) for depth, node in root.walk()]


def test_effects_are_children_of_their_cause_in_journal_order():
    events = [event("d", "b", 9), event("c", "a", 7), event("b", "a", 3)]
    commits = [(commit(8, "b"), None), (commit(2, "a"), None)]
    expected = [(0, "a"), (1, 2), (1, "b"), (2, 8), (2, "d"), (1, "c")]
    for seed in range(20):
        random.Random(seed).shuffle(events)
        random.Random(seed + 1).shuffle(commits)
        assert outline(build(event("a", sequence=1), events, commits, [])) == expected


def test_a_commit_stands_before_the_events_it_emitted_and_these_stand_as_emitted():
    events = [event("c", "a", 5, index=1), event("b", "a", 5, index=0)]
    root = build(event("a", sequence=1), events, [(commit(5, "a"), None)], [])
    assert outline(root) == [(0, "a"), (1, 5), (1, "b"), (1, "c")]


def test_effects_not_stored_yet_come_last():
    root = build(event("a", sequence=1), [event("pending", "a"), event("b", "a", 4)], [], [])
    assert outline(root) == [(0, "a"), (1, "b"), (1, "pending")]


def test_records_that_are_no_effects_are_left_out():
    events = [event("other", sequence=2), event("x", "other", 3), event("gone", "nobody", 4)]
    root = build(event("a", sequence=1), events, [(commit(5, "other"), None), (commit(6, None), None)], [])
    assert outline(root) == [(0, "a")]


def test_an_effect_of_a_missing_cause_is_a_child_of_the_nearest_known_one():
    lost = event("d", "c", 4, path=("a", "b", "c"))
    late = (commit(5, "c", path=("a", "b", "c")), None)
    root = build(event("a", sequence=1), [event("b", "a", 2), lost], [late], [])
    assert outline(root) == [(0, "a"), (1, "b"), (2, "d"), (2, 5)]


def test_a_subtree_can_be_the_root():
    events = [event("a", sequence=1), event("b", "a", 2), event("c", "b", 3), event("d", "a", 4)]
    assert outline(build(events[1], events, [], [])) == [(0, "b"), (1, "c")]


def test_a_record_given_twice_appears_once():
    root, below, made = event("a", sequence=1), event("b", "a", 2), (commit(3, "a"), None)
    assert outline(build(root, [root, below, below], [made, made], [])) == [(0, "a"), (1, "b"), (1, 3)]


def test_a_commit_has_the_previous_one_and_an_event_its_handlings():
    before, after = commit(2, None, revision=1), commit(3, "a", revision=2)
    handled = [HandledRecord("a", "stock", "f", "done"), HandledRecord("x", "stock", "f", "done")]
    handled.append(HandledRecord("a", "audit", "g", "refused"))
    root = build(event("a", sequence=1), [], [(after, before)], handled)
    assert root.handled == (handled[0], handled[2])
    (child,) = root.children
    assert (child.commit, child.before, child.event, child.handled) == (after, before, None, ())


def test_totals_count_the_whole_tree_and_failures_are_in_its_order():
    handled = [
        HandledRecord("b", "stock", "f", "failed", 0.5, "ValueError: no stock"),
        HandledRecord("a", "orders", "g", "failed", 0.25, "KeyError: 'o1'"),
        HandledRecord("a", "audit", "h", "done", 0.125),
    ]
    root = build(event("a", sequence=1), [event("b", "a", 2)], [(commit(3, "b"), None)], handled)
    assert root.totals == Totals(events=2, commits=1, failures=2, duration=0.875)
    assert [failure.node for failure in root.failures] == ["orders", "stock"]
    assert root.children[0].totals == Totals(events=1, commits=1, failures=1, duration=0.5)


@pytest.mark.parametrize("length", [5_000, pytest.param(50_000, marks=pytest.mark.soak)])
def test_a_long_chain_is_no_recursion(length):
    events = [event(str(n), str(n - 1) if n else None, n + 1) for n in range(length)]
    root = build(events[0], reversed(events), [], [])
    depth, last = list(root.walk())[-1]
    assert (depth, last.event.id) == (length - 1, str(length - 1))
    assert root.totals.events == length
    assert "1 effects" in repr(root)
    assert {root: 1}[root] == 1
    assert root != build(events[0], events, [], [])


def test_causes_in_a_circle_do_not_hang():
    through_the_root = [event("b", "a", 2), event("a", "b", 1)]
    assert outline(build(through_the_root[1], through_the_root, [], [])) == [(0, "a"), (1, "b")]
    apart = [event("x", "y", 3), event("y", "x", 4), event("z", "z", 5)]
    assert outline(build(event("a", sequence=1), apart, [(commit(6, "x"), None)], [])) == [(0, "a")]
    in_the_path = [event("x", "?", 3, path=("y",)), event("y", "?", 4, path=("x",))]
    assert outline(build(event("a", sequence=1), in_the_path, [], [])) == [(0, "a")]


IDS = st.sampled_from("abcdefgh")


@given(st.lists(st.tuples(IDS, st.none() | IDS, st.lists(IDS, max_size=3), st.integers(0, 9)), max_size=30))
def test_any_records_give_a_tree_in_which_nothing_stands_twice(rows):
    events = [event(id, cause, sequence, path=tuple(path)) for id, cause, path, sequence in rows]
    commits = [(commit(100 + number, cause), None) for number, (_, cause, _, _) in enumerate(rows)]
    root = build(event("a"), events, commits, [])
    seen = Counter(outline_id for _, outline_id in outline(root))
    assert max(seen.values()) == 1
    assert seen["a"] == 1
    for node in root:
        for child in node.children:
            origin = child.event.origin if child.event else child.commit.origin
            assert node.event.id in (origin.cause, *origin.path)
