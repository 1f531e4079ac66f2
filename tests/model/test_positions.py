"""The progress of state handlers, as a header of a commit."""

from __future__ import annotations

import pytest

from happen_nb._model.positions import (
    MAX_POSITIONS_CHARACTERS,
    MAX_SKIPPED,
    Progress,
    decode_positions,
    encode_positions,
    has_room,
)


def test_many_handlers_with_many_failures_keep_the_newest_ones():
    skipped = tuple((1_000_000 + n, 0) for n in range(MAX_SKIPPED))
    positions = {f"order.{n} count": Progress((2_000_000, 0), skipped) for n in range(100)}
    text = encode_positions(positions)
    assert len(text) <= MAX_POSITIONS_CHARACTERS
    found = decode_positions(text)
    assert found.keys() == positions.keys()
    for each in found.values():
        assert each.position == (2_000_000, 0)
        assert 0 < len(each.skipped) < MAX_SKIPPED
        assert each.skipped == skipped[-len(each.skipped) :]


def test_a_few_handlers_keep_all_failures():
    skipped = tuple((1_000_000 + n, 0) for n in range(MAX_SKIPPED))
    positions = {f"order.{n} count": Progress((2_000_000, 0), skipped) for n in range(10)}
    assert decode_positions(encode_positions(positions)) == positions


def test_handlers_for_which_there_is_room_fit_into_a_header():
    keys = {f"order.{n} count": Progress((10**10, 10)) for n in range(2_000)}
    while not has_room(keys):
        keys.popitem()
    assert len(encode_positions(keys)) <= MAX_POSITIONS_CHARACTERS


def test_positions_of_another_client_that_are_too_long_are_refused():
    with pytest.raises(ValueError, match="positions of 70,004 characters"):
        decode_positions(f"{'k' * 70_000}=1.0")
