"""Texts of the user's own objects, which may do anything but return."""

from __future__ import annotations

import threading

import pytest
import standins as a

from happen_nb import _display as spans
from happen_nb._display import bounded_text
from tests.display import reading


def broken(method):
    """An exception with that ``__str__``."""
    return type("BrokenError", (Exception,), {"__str__": method})()


@pytest.fixture
def stuck(monkeypatch):
    """An exception whose text is not returned as long as the test runs."""
    monkeypatch.setattr(spans, "TEXT_TIMEOUT_SECONDS", 0.1)
    may_go = threading.Event()
    yield broken(lambda _: may_go.wait(60) and "late")
    may_go.set()
    for thread in list(spans._stuck):  # the next test may have as many
        thread.join(10)


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
        (lambda _: "x" * 30_000_000, "x" * spans.MAX_TEXT_CHARACTERS + "…"),
    ],
)
def test_a_text_is_bounded_or_replaced_by_the_reason_it_cannot_be_shown(method, expected):
    assert bounded_text(broken(method), what="message") == expected


def test_a_text_that_is_never_returned_is_not_waited_for(stuck):
    assert bounded_text(stuck) == "(its text cannot be shown: not returned within 0.1 s)"


def test_many_of_them_take_no_more_than_a_few_threads(stuck):
    before = threading.active_count()
    texts = [bounded_text(stuck) for _ in range(3 * spans.MAX_STUCK_THREADS)]
    assert threading.active_count() <= before + spans.MAX_STUCK_THREADS
    assert "too many others" in texts[-1]


def test_failures_with_such_texts_are_shown_in_bounds(stuck, monkeypatch):
    monkeypatch.setattr(spans, "TEXT_TIMEOUT_SECONDS", 1)  # the others return in time, on a busy machine too
    made = a.Failures(
        a.Failure("till", "pay", each, "")
        for each in (stuck, broken(fail), broken(lambda _: "x" * 1_000_000))
    )
    shown = repr(made)
    assert shown.count("BrokenError: (its message cannot be shown: ") == 2
    assert len(shown) < 10_000
    assert len(reading.html(made)) < 100_000


def test_a_text_is_made_in_the_context_of_the_caller():
    import contextvars

    here = contextvars.ContextVar("here", default="nowhere")
    here.set("in the cell")
    assert bounded_text(broken(lambda _: here.get())) == "in the cell"
