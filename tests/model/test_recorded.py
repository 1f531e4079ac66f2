"""Recorded journals and masks: what is encoded is decoded, and what is hidden is nowhere."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from happen_nb._model.freeze import dumps, freeze, freeze_state
from happen_nb._model.paths import Masks
from happen_nb._model.recorded import RecordedJournal, decode, encode
from happen_nb._model.records import CommitRecord, EventRecord

KEYS = st.sampled_from(["a", "b", "0", "__proto__", "\x01", ""])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "\x01", "\x011", "x", "</script>"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
STATES = st.lists(st.dictionaries(KEYS, VALUES, max_size=4), min_size=1, max_size=6)
NO_MASKS = Masks([], "hide")


def commits(states):
    records = [
        CommitRecord("n", number, number, number * 1000, dumps(freeze_state(state, node="n")))
        for number, state in enumerate(states, 1)
    ]
    return [(record, records[number - 1] if number else None) for number, record in enumerate(records)]


@settings(max_examples=60, deadline=None)
@given(STATES, VALUES)
def test_states_and_payloads_are_exactly_what_they_were(states, payload):
    event = EventRecord("e", "type", "n", freeze(payload), sequence=99, time=1000)
    journal = RecordedJournal("space", "title", [event], commits(states))
    found = decode(json.loads(json.dumps(encode(journal, NO_MASKS))))
    decoded = [repr(sorted_keys(record.state)) for record, _ in found.commits]
    assert decoded == [repr(sorted_keys(state)) for state in states]
    assert repr(found.events[0].payload) == repr(freeze(payload))


def sorted_keys(value):
    """The value in a form in which the order of keys does not count."""
    if isinstance(value, dict):
        return sorted((key, sorted_keys(part)) for key, part in value.items())
    return [sorted_keys(part) for part in value] if isinstance(value, list) else value


@settings(max_examples=40, deadline=None)
@given(STATES)
def test_a_masked_value_is_in_no_difference(states):
    states = [{**state, "secret": {"number": "S3CRET", "of": number}} for number, state in enumerate(states)]
    journal = RecordedJournal("space", "title", [], commits(states))
    text = json.dumps(encode(journal, Masks(["n.secret.*"], "hide")))
    assert "S3CRET" not in text
    found = decode(json.loads(text))
    assert {repr(record.state["secret"]) for record, _ in found.commits} == {"{'number': '•••', 'of': '•••'}"}


@settings(max_examples=40, deadline=None)
@given(st.lists(VALUES, min_size=6, max_size=12), st.lists(VALUES, min_size=1, max_size=4), st.integers(1, 5))
def test_a_list_that_moves_on_is_recorded_by_what_it_drops_and_appends(items, more, dropped):
    states = [{"log": items}, {"log": [*items[dropped:], *more]}]
    data = json.loads(json.dumps(encode(RecordedJournal("space", "title", [], commits(states)), NO_MASKS)))
    assert len(data["commits"]["diff"][1]) <= max(dropped + len(more), 12)
    last, _ = decode(data).commits[-1]
    assert repr(last.state["log"]) == repr(freeze(states[1]["log"]))
