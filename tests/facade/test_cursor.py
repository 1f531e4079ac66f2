"""Completion sees the chain, the call and the string before the cursor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from happen_nb._ipython.cursor import Attribute, Text, at_cursor, chain, whole_chain

# -- chains ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "steps"),
    [
        ("orders", ("orders",)),
        ("x = await orders.state.get", ("orders", ".state", ".get")),
        ("f(orders . state", ("orders", ".state")),
        ("orders\n    .state", ("orders", ".state")),
        ('space.views["customer-service"].get', ("space", ".views", "[customer-service", ".get")),
        ("space.nodes[ 'o' ].state", ("space", ".nodes", "[o", ".state")),
        ("happen.current().views", ("happen", ".current", "()", ".views")),
        ("größe.state", ("größe", ".state")),
        ("return orders", ("orders",)),
        ("first\norders.state", ("orders", ".state")),
    ],
)
def test_a_chain_of_names_is_read(code, steps):
    assert chain(code) == steps


@pytest.mark.parametrize(
    "code", ["make(3).get", "rows[0].get", "'text'.get", "(a or b).get", "1", "", "x +", "{}.get", "rows[i]"]
)
def test_what_would_have_to_be_evaluated_is_no_chain(code):
    assert chain(code) == ()


def test_a_source_that_is_more_than_a_chain_is_none():
    assert whole_chain("orders.state") == ("orders", ".state")
    assert whole_chain("not orders") == whole_chain("orders or stock") == whole_chain("") == ()


def test_a_chain_that_is_longer_than_what_is_looked_at_is_not_cut_in_two():
    assert chain("x" * 400 + ".get") == ()
    assert chain("orders" + ".a" * 400) == ()


# -- attributes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "owner", "source"),
    [
        ("views.", ("views",), ""),
        ("lambda state, views: views.cu", ("views",), "cu"),
        ("orders.state.set(lambda s, views: {**s, 'n': views.cu", ("views",), "cu"),
        ("'''a\n'b'''; views.cu", ("views",), "cu"),
        ("x = 'it\\'s'; views.cu", ("views",), "cu"),
        ("!echo it's\nviews.cu", ("views",), "cu"),
        ("# it's\nviews.cu", ("views",), "cu"),
        ("r'\\'; views.cu'; views.o", ("views",), "o"),
    ],
)
def test_a_name_after_a_dot_is_an_attribute(code, owner, source):
    assert at_cursor(code) == Attribute(owner, source)


@pytest.mark.parametrize(
    "code",
    ["", "views", "# views.cu", "'views.cu", '"""\nviews.cu', "f'{views.cu", "make(1).cu", "3.", "x = #"],
)
def test_elsewhere_there_is_nothing_of_ours(code):
    assert at_cursor(code) is None


# -- strings -----------------------------------------------------------------------------------------


def calls(code):
    return [(call.callee, call.arguments) for call in at_cursor(code).calls]


def test_a_string_knows_its_call_and_the_arguments_before_it():
    assert calls('orders.send("stock", "order.') == [(("orders", ".send"), ('"stock"',))]
    assert calls("happen.bind(w, orders, '") == [(("happen", ".bind"), ("w", " orders"))]
    assert calls("x.send(f(1, (2, 3)), [4, 5], 'o") == [(("x", ".send"), ("f(1, (2, 3))", " [4, 5]"))]


def test_a_string_knows_the_calls_around_its_own():
    inner, outer = calls('orders.state.set(happen.compose(a), put("o')

    assert inner == (("put",), ())
    assert outer == (("orders", ".state", ".set"), ("happen.compose(a)",))


def test_a_string_over_several_lines_of_a_call_is_found():
    assert calls("orders.send(\n    'stock',  # the node, it's there\n    'order.") == [
        (("orders", ".send"), ("\n    'stock'",))
    ]


def test_a_keyword_is_known_and_so_are_those_before_it():
    (call,) = at_cursor("orders.send(target='stock', type='order.").calls

    assert call.keyword == call.parameter(("target", "type")) == "type"
    assert call.given(("target", "type")) == {"target": "'stock'"}


def test_a_string_that_is_a_key_knows_of_what():
    place = at_cursor('lambda s, views: views["cu')

    assert (place.key_of, place.text) == (("views",), "cu")


@pytest.mark.parametrize(
    "code",
    [
        "x = 'or",
        "f('a' + 'or",
        "f('a' 'or",
        "f(not 'or",
        "f(x == 'or",
        "f(b'or",
        "f(f'or",
        "f(('or",
        "f(['or",
        "f({'or",
        "f('\\x6f",
        "f('or\\",
        "f('or\n",
        "f('or'",
    ],
)
def test_a_string_that_is_not_a_whole_argument_is_nothing_of_ours(code):
    found = at_cursor(code)

    assert found is None or found.calls[0].callee == ()


@pytest.mark.parametrize("quote", ["'", '"', "'''", '"""'])
@pytest.mark.parametrize("text", ["it's", 'say "hi"', "back\\slash", "plain", "größe 🙂"])
def test_a_text_is_written_so_that_python_reads_it_back(quote, text):
    source = Text("", "", quote, raw=False, key_of=(), calls=()).escape(text)

    assert eval(f"{quote}{source}{quote}") == text
    assert at_cursor(f"f({quote}{source}").text == text


def test_what_a_string_cannot_hold_is_not_written():
    raw, plain = (Text("", "", '"', raw=raw, key_of=(), calls=()) for raw in (True, False))

    assert raw.escape('say "hi"') is raw.escape("ends\\") is plain.escape("two\nlines") is None
    assert raw.escape("a\\b") == "a\\b"


# -- anything ----------------------------------------------------------------------------------------


@given(st.text(alphabet="ab.,()[]{}'\"\\#\n =rf!%", max_size=60))
def test_whatever_is_typed_what_is_replaced_is_its_end(code):
    place = at_cursor(code)

    assert place is None or code.endswith(place.source)
