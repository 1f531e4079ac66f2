"""Texts of the user's own exceptions, which may be anything."""

from __future__ import annotations

import pytest
import standins as a

from happen_nb._display import describe_error
from happen_nb._model.quoting import MAX_ERROR_TEXT
from tests.display import reading


def broken(method):
    """An exception with that ``__str__``."""
    return type("BrokenError", (Exception,), {"__str__": method})()


def fail(_):
    raise RuntimeError


def leave(_):
    raise SystemExit


class Shouting(str):
    """A text with methods of its own."""

    __slots__ = ()

    def __len__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (fail, "(its message cannot be shown: RuntimeError)"),
        (leave, "(its message cannot be shown: SystemExit)"),
        (lambda _: 7, "(its message cannot be shown: TypeError)"),
        (lambda _: Shouting("loud"), "loud"),
        (lambda _: "x" * 30_000_000, "x" * MAX_ERROR_TEXT + "... (30,000,000 characters)"),
    ],
)
def test_a_message_is_bounded_or_replaced_by_the_reason_it_cannot_be_shown(method, expected):
    assert describe_error(broken(method)) == f"BrokenError: {expected}"


def test_failures_with_such_messages_are_shown_in_bounds():
    made = a.Failures(
        a.Failure("till", "pay", broken(each), "") for each in (fail, lambda _: "x" * 1_000_000)
    )
    shown = repr(made)
    assert shown.count("BrokenError: (its message cannot be shown: ") == 1
    assert len(shown) < 10_000
    assert len(reading.html(made)) < 100_000
