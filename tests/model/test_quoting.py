"""Any values and exceptions in messages, at a bounded length."""

import decimal

import pytest

from happen_nb._model.quoting import (
    cut_middle,
    error_summary,
    error_text,
    escape_surrogates,
    quote,
    shorten,
    truncate,
    type_name,
)


class BrokenError(Exception):
    def __str__(self):
        raise KeyboardInterrupt

    __repr__ = __str__


@pytest.mark.parametrize(
    ("value", "limit", "text"),
    [
        ("orders", 80, "'orders'"),
        (list(range(10)), 12, "[0, 1, 2,..."),
        pytest.param(10**5000, 80, "<a value of type int>", id="integer of 5,001 digits"),
        ("half \ud800", 80, r"'half \ud800'"),
    ],
)
def test_a_value_is_quoted_by_its_repr_or_its_type(value, limit, text):
    assert quote(value, limit) == text


def test_texts_are_cut_at_the_end_or_in_the_middle():
    assert shorten("one\ntwo and three", 10) == "one two..."
    assert truncate("x" * 100, 5) == "xxxxx... (100 characters)"
    assert cut_middle("beginning" + "." * 100 + "end", 12) == (
        "beg\n... (100 characters left out)\n......end"
    )
    assert truncate("short", 5) == cut_middle("short", 5) == "short"
    assert escape_surrogates("half \ud800") == r"half \ud800"


def test_a_type_has_its_module_unless_it_is_built_in():
    assert (type_name(1), type_name(decimal.Decimal(1))) == ("int", "decimal.Decimal")


def test_an_error_has_a_text_even_if_its_own_code_fails():
    assert error_text(ValueError("out of stock")) == "out of stock"
    assert error_summary(ValueError("out of stock")) == "ValueError: out of stock"
    assert error_summary(KeyError()) == "KeyError"
    assert error_text(BrokenError()) == "(its message cannot be shown: KeyboardInterrupt)"
