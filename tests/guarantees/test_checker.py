"""The checker finds what is wrong with a history, and nothing where nothing is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from tests.guarantees.checker import (
    Operation,
    Stored,
    check,
    check_applied,
    check_causes,
    check_cuts,
    check_handlers,
    check_linearizable,
    check_order,
    check_readings,
    check_stored,
    check_watches,
    longest,
)

# Process p commits a twice and emits an event, whose handler at node b in process q commits b and emits
# another one, which a handles.
JOURNAL = [
    Stored((1, -1), "a", 1, "a1"),
    Stored((2, -1), "a", 2, "a2"),
    Stored((3, 0), "p", event="e1", target="b"),
    Stored((4, -1), "b", 1, "b1", cause="e1"),
    Stored((4, 0), "b", event="e2", target="a", cause="e1"),
]
SET_A1 = Operation("set", "p", 0.0, 1.0, "a", {"a": 0}, "a1", 1, sequence=1)
SET_A2 = Operation("set", "p", 2.0, 3.0, "a", {"a": 1}, "a2", 2, sequence=2)
EMIT = Operation("broadcast", "p", 4.0, 5.0, event="e1", sequence=3)
HANDLE_E1 = Operation("handle", "q", 4.9, 8.0, "b", {"a": 2, "b": 0}, event="e1", sequence=3)
SET_B1 = Operation("set", "q", 6.0, 7.0, "b", {"b": 0}, "b1", 1, sequence=4)
HANDLE_E2 = Operation("handle", "p", 8.5, 9.0, "a", {"a": 2, "b": 1}, event="e2", sequence=4)
FRESH = Operation("fresh", "q", 9.0, 9.5, "a", {"a": 2}, "a2")
GET = Operation("get", "p", 9.6, 9.7, seen={"a": 2, "b": 1})
WATCH = Operation("watch", "w", 0.0, 0.0, "a", {"a": 0})
SEEN_A1 = Operation("seen", "w", 1.0, 1.0, "a", token="a1", wrote=1, sequence=1)
SEEN_A2 = Operation("seen", "w", 3.0, 3.0, "a", token="a2", wrote=2, sequence=2)
EVENTS = Operation("events", "q", 9.6, 9.9, wrote=2, sequence=4)
HISTORY = [SET_A1, SET_A2, EMIT, HANDLE_E1, SET_B1, HANDLE_E2, FRESH, GET]
HISTORY += [WATCH, SEEN_A1, SEEN_A2, EVENTS]

Check = Callable[[Sequence[Operation], Sequence[Stored]], object]


def but(old: Operation, *new: Operation) -> list[Operation]:
    """The right history with some other operations in the place of one."""
    return [each for op in HISTORY for each in (new if op is old else (op,))]


def problems(check: Check, operations: Sequence[Operation], journal: Sequence[Stored] = JOURNAL) -> str:
    return "\n".join(check(operations, journal))  # type: ignore[call-overload]


def test_a_right_history_has_no_problem() -> None:
    assert check(HISTORY, JOURNAL) == []


def test_overlapping_operations_may_take_effect_in_any_order() -> None:
    early = Operation("fresh", "q", 0.5, 3.5, "a", {"a": 0})
    late = Operation("fresh", "q", 0.5, 3.5, "a", {"a": 2}, "a2")
    assert check([*HISTORY, early], JOURNAL) == check([*HISTORY, late], JOURNAL) == []


def test_another_process_may_lag_where_it_does_not_ask_for_what_is_fresh() -> None:
    assert check([*HISTORY, Operation("get", "r", 10.0, 11.0, seen={"a": 1, "b": 0})], JOURNAL) == []


# -- what state handlers applied --------------------------------------------------------------------------

# Two events for a, each applied by a commit that viewed b.
APPLIED = [
    Stored((1, -1), "b", 1, "b1"),
    Stored((2, 0), "p", event="e1", target="a"),
    Stored((3, -1), "a", 1, "e1", cause="e1", seen={"b": 1}),
    Stored((4, 0), "p", event="e2", target="a"),
    Stored((5, -1), "b", 2, "b2"),
    Stored((6, -1), "a", 2, "e2", cause="e2", seen={"b": 1}),
]


def test_events_that_are_applied_once_in_order_have_no_problem() -> None:
    assert problems(check_applied, [], APPLIED) == ""


def test_an_event_that_was_not_applied_is_found() -> None:
    assert "a has not applied ['e2']" in problems(check_applied, [], APPLIED[:-1])


def test_an_event_that_was_applied_twice_is_found() -> None:
    again = replace(APPLIED[-1], place=(7, -1), revision=3)
    assert "once too often ['e2']" in problems(check_applied, [], [*APPLIED, again])


def test_events_that_were_applied_in_another_order_are_found() -> None:
    first, second = APPLIED[1], replace(APPLIED[3], place=(2, 1))
    commits = [replace(APPLIED[5], place=(3, -1)), replace(APPLIED[2], place=(4, -1))]
    assert "another" in problems(check_applied, [], [APPLIED[0], first, second, *commits])


def test_a_commit_that_viewed_something_else_than_what_was_there_is_found() -> None:
    late = replace(APPLIED[-1], seen={"b": 2})
    assert "did not view" in problems(check_applied, [], [*APPLIED[:-1], late])


def test_a_commit_that_applied_an_event_before_it_was_stored_is_found() -> None:
    assert "not stored before" in problems(check_applied, [], [APPLIED[2], APPLIED[1]])


# -- what is stored --------------------------------------------------------------------------------------


def test_an_acknowledged_commit_that_is_not_stored_is_found() -> None:
    lost = replace(SET_A2, began=10.0, ended=11.0, seen={"a": 2}, wrote=3, token="a3", sequence=9)
    assert "was told revision 3 with 'a3', stored is None" in problems(check_stored, [*HISTORY, lost])


def test_a_commit_that_is_stored_with_another_content_is_found() -> None:
    other = replace(SET_A2, token="mine")
    assert "was told revision 2 with 'mine'" in problems(check_stored, but(SET_A2, other))


def test_a_gap_in_the_revisions_is_found() -> None:
    journal = [entry for entry in JOURNAL if entry.revision != 1]
    assert "a has revision 2 after 0" in problems(check_stored, [], journal)


def test_an_acknowledged_event_that_is_not_stored_is_found() -> None:
    assert "stored is None" in problems(check_stored, HISTORY, [e for e in JOURNAL if e.event != "e1"])


def test_an_event_that_is_stored_twice_is_found() -> None:
    again = replace(JOURNAL[2], place=(5, 0))
    assert "event e1 is stored 2 times" in problems(check_stored, HISTORY, [*JOURNAL, again])


# -- linearizability -------------------------------------------------------------------------------------


def test_a_fresh_read_of_what_was_overwritten_before_it_began_is_found() -> None:
    stale = replace(FRESH, seen={"a": 1}, token="a1")
    assert "came before set a of p at 2" in problems(check_linearizable, but(FRESH, stale))


def test_a_read_of_what_was_not_yet_begun_to_be_written_is_found() -> None:
    early = Operation("fresh", "q", 1.2, 1.4, "a", {"a": 2}, "a2")
    assert "set a of p at 2" in problems(check_linearizable, [*HISTORY, early])


def test_two_reads_that_go_back_are_found_though_both_overlap_the_write() -> None:
    newer = Operation("fresh", "q", 2.1, 2.2, "a", {"a": 2}, "a2")
    older = Operation("fresh", "r", 2.3, 2.4, "a", {"a": 1}, "a1")
    assert "came before fresh a of q" in problems(check_linearizable, [*HISTORY, newer, older])
    assert problems(check_linearizable, [*HISTORY, replace(older, began=2.15), newer]) == ""


def test_a_read_of_something_nobody_wrote_is_found() -> None:
    assert "not what was written" in problems(check_linearizable, but(FRESH, replace(FRESH, token="?")))


def test_two_writers_of_one_revision_are_found() -> None:
    twice = replace(SET_A2, process="q")
    assert "2 writers of a were told revision 2" in problems(check_linearizable, [*HISTORY, twice])


def test_a_lost_update_is_found() -> None:
    blind = replace(SET_A2, seen={"a": 0})
    assert "wrote 2 over 0" in problems(check_linearizable, but(SET_A2, blind))


# -- causes ----------------------------------------------------------------------------------------------


def test_an_effect_that_is_stored_before_its_cause_is_found() -> None:
    early = [replace(entry, place=(2, 5)) if entry.event == "e2" else entry for entry in JOURNAL]
    assert "is stored before its cause" in problems(check_causes, HISTORY, early)


def test_a_cause_that_is_not_stored_is_found() -> None:
    lost = [entry for entry in JOURNAL if entry.event != "e1"]
    assert "has a cause that is not stored" in problems(check_causes, HISTORY, lost)


def test_an_effect_of_an_event_that_its_node_has_not_handled_is_found() -> None:
    assert "b has not handled the cause" in problems(check_causes, but(HANDLE_E1))


# -- what a process sees ---------------------------------------------------------------------------------


def test_a_process_that_sees_an_effect_without_its_cause_is_found() -> None:
    torn = Operation("get", "r", 10.0, 11.0, seen={"a": 1, "b": 1})
    assert "is no cut: it saw 4, and not a 2 but 1" in problems(check_cuts, [*HISTORY, torn])


def test_a_process_that_goes_back_is_found() -> None:
    first = Operation("get", "r", 10.0, 11.0, seen={"b": 1})
    then = Operation("get", "r", 12.0, 13.0, seen={"a": 1})
    found = problems(check_cuts, [*HISTORY, first, then])
    assert "did not see a 2 but 1, though the process had seen 4" in found
    assert problems(check_cuts, [*HISTORY, first, replace(then, began=10.5)]) == ""


def test_a_process_that_does_not_see_what_it_wrote_is_found() -> None:
    blind = replace(GET, began=3.1, ended=3.2, seen={"a": 1})
    assert "did not see a 2 but 1" in problems(check_cuts, [*HISTORY, blind])


# -- handlers --------------------------------------------------------------------------------------------


def test_a_handler_that_has_not_seen_a_commit_before_its_event_is_found() -> None:
    blind = replace(HANDLE_E1, seen={"a": 1, "b": 0})
    assert "did not see a 2 but 1, which is stored before" in problems(check_handlers, but(HANDLE_E1, blind))


def test_a_handler_that_has_not_seen_the_commit_that_emitted_its_event_is_found() -> None:
    blind = replace(HANDLE_E2, seen={"a": 2, "b": 0})
    assert "did not see b 1 but 0" in problems(check_handlers, but(HANDLE_E2, blind))


def test_an_event_that_is_handled_twice_is_found() -> None:
    again = replace(HANDLE_E1, process="r")
    assert "b has handled event e1 2 times" in problems(check_handlers, [*HISTORY, again])


def test_an_event_that_is_not_handled_is_found() -> None:
    assert "a has not handled" in problems(check_handlers, but(HANDLE_E2))


def test_an_event_that_was_never_stored_is_found() -> None:
    ghost = replace(HANDLE_E1, event="e9")
    assert "of an event that is not stored" in problems(check_handlers, [*HISTORY, ghost])


def test_events_that_a_node_handles_in_another_order_than_they_are_stored_are_found() -> None:
    journal = [*JOURNAL, Stored((5, 0), "p", event="e3", target="b")]
    early = replace(HANDLE_E1, event="e3", began=1.0, ended=2.0)
    assert "which is stored later" in problems(check_order, [*HISTORY, early], journal)


def test_a_node_that_handles_two_events_at_a_time_is_found() -> None:
    journal = [*JOURNAL, Stored((5, 0), "p", event="e3", target="b")]
    beside = replace(HANDLE_E1, event="e3", began=7.0, ended=9.0)
    assert "while it handled" in problems(check_order, [*HISTORY, beside], journal)


# -- watches and readings --------------------------------------------------------------------------------


def test_a_commit_that_a_watch_missed_is_found() -> None:
    assert "missed 1 and was called again with none" in problems(check_watches, but(SEEN_A1))
    assert "missed 1, 2 and" in problems(check_watches, [WATCH])


def test_a_watch_need_not_see_what_was_committed_before_it() -> None:
    late = replace(WATCH, seen={"a": 1})
    assert problems(check_watches, [late, SEEN_A2]) == ""


def test_a_commit_that_a_watch_saw_twice_is_found() -> None:
    assert "missed none and was called again with 2" in problems(
        check_watches, but(SEEN_A2, SEEN_A2, SEEN_A2)
    )


def test_commits_that_a_watch_saw_in_another_order_are_found() -> None:
    assert "was called with 1 after 2" in problems(check_watches, [WATCH, SEEN_A2, SEEN_A1])


def test_a_watch_that_was_called_with_something_else_than_is_stored_is_found() -> None:
    assert "was called with 2, '?'" in problems(check_watches, but(SEEN_A2, replace(SEEN_A2, token="?")))


def test_a_reading_of_events_that_leaves_one_out_is_found() -> None:
    assert "returned 1 of the 2 events up to 4" in problems(
        check_readings, but(EVENTS, replace(EVENTS, wrote=1))
    )


def test_a_reading_of_events_that_ends_too_early_is_found() -> None:
    short = replace(EVENTS, wrote=0, sequence=0)
    assert "ends at 0, and 3 was acknowledged before" in problems(check_readings, but(EVENTS, short))
    assert problems(check_readings, but(EVENTS, replace(short, began=4.5))) == ""


def test_a_history_that_leaves_a_commit_out_is_found() -> None:
    assert "returned 1 of 2 commits" in problems(check_readings, but(FRESH, replace(FRESH, wrote=1)))


def test_the_call_that_took_the_longest_is_named() -> None:
    assert longest(HISTORY) in (SET_A1, SET_A2, EMIT)


@pytest.mark.parametrize("count", [3, 12])
def test_a_few_problems_of_a_kind_are_told_and_the_rest_is_counted(count: int) -> None:
    lost = [replace(SET_A2, wrote=9, token=str(number)) for number in range(count)]
    told = [problem for problem in check(lost, JOURNAL) if problem.startswith("check_stored")]
    assert len(told) == min(count, 6)
    assert count < 6 or told[-1] == f"check_stored: and {count - 5} more"
