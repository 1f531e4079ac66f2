"""Narrow misses: a typo is one, another word is not."""

from __future__ import annotations

import pytest

from happen_nb._model.patterns import near_miss


@pytest.mark.parametrize(
    ("type", "pattern"),
    [
        ("order.payed", "order.paid"),
        ("order.piad", "order.paid"),
        ("Order.Paid", "order.paid"),
        ("order_paid", "order.paid"),
        ("orders.paid", "order.*"),
        ("order.item.added", "order.*"),
        ("order.snt", "order.{paid,sent}"),
        ("stock.reserve", "stock.reserved"),
        ("a.new.item.added", "{a,b}.*.added"),
    ],
)
def test_a_typo_misses_narrowly(type, pattern):
    assert near_miss(type, ["other.thing", pattern]) == pattern


@pytest.mark.parametrize(
    ("type", "pattern"),
    [
        ("order.shipped", "order.placed"),
        ("order.paid", "order.sent"),
        ("order.closed", "order.opened"),
        ("stock.low", "order.low"),
        ("item.removed", "item.reserved"),
        ("order.paid", "order.paid"),
        ("order.paid", "order.*"),
        ("order.paid", "**"),
        ("order.paid", "payment.order.paid"),
        ("a", "b"),
        ("", "a"),
        ("x" * 10_000, "{a,b}" * 60),
    ],
)
def test_another_word_and_a_match_are_no_near_miss(type, pattern):
    assert near_miss(type, [pattern]) is None
