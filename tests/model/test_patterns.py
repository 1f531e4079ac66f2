"""Event types, patterns, and the nearest pattern."""

import enum
import functools
import re
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from happen_nb._journal.wire import quote_type
from happen_nb._model.patterns import (
    MAX_PATTERN_CHARACTERS,
    Pattern,
    check_type,
    is_pattern,
    near_miss,
    nearest,
)
from happen_nb.errors import EventTypeError, HappenError, PatternError

# -- a plain reference: expand the alternatives, then try every way ------------------------------------


def expand(text):
    """Every sequence of characters and wildcards that a pattern stands for; ValueError if it is none."""
    ways, rest = expand_alternative(text, inside=False)
    if rest or not text:
        raise ValueError(text)
    return ways


def expand_alternative(text, *, inside):
    ways = [()]
    while text and not (inside and text[0] in ",}"):
        if text[0] == "{":
            parts, text = expand_braces(text[1:])
        elif text[0] == "}":
            raise ValueError(text)
        else:
            stars = len(text) - len(text.lstrip("*"))
            parts, text = [(text[: min(stars, 2)] or text[0],)], text[stars or 1 :]
        ways = [way + part for way in ways for part in parts]
    return ways, text


def expand_braces(text):
    ways = []
    while True:
        alternative, rest = expand_alternative(text, inside=True)
        if not rest or len(rest) == len(text):
            raise ValueError(text)
        ways += alternative
        text = rest[1:]
        if rest[0] == "}":
            return ways, text


def takes(way, type):
    if not way:
        return not type
    first, others = way[0], way[1:]
    if first in ("*", "**"):
        stays = type and (first == "**" or type[0] != ".") and takes(way, type[1:])
        return bool(stays or takes(others, type))
    return type[:1] == first and takes(others, type[1:])


def reference(pattern, type):
    return any(takes(way, type) for way in expand(pattern))


def distance(a, b):
    """The fewest characters to add, drop or change."""

    @functools.cache
    def between(i, j):
        if not i or not j:
            return i + j
        return min(
            between(i - 1, j) + 1, between(i, j - 1) + 1, between(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        )

    return between(len(a), len(b))


def sequences(alternatives):
    wildcards = st.sampled_from(["*", "**"])
    parts = st.lists(
        st.text("ab.", min_size=1, max_size=3) | wildcards | alternatives, min_size=1, max_size=4
    )
    return parts.map("".join)


ALTERNATIVES = st.recursive(
    st.just("{a,b.}"),
    lambda inner: st.lists(sequences(inner), min_size=1, max_size=3).map(lambda a: "{" + ",".join(a) + "}"),
    max_leaves=3,
)
PATTERNS = sequences(ALTERNATIVES)
TYPES = st.text("ab.", max_size=7)


@given(PATTERNS, TYPES)
@example("***", "a.b")
@example("{*,a}*", ".")
@example("{a,{b,*.}a}", "b.a")
def test_a_pattern_matches_as_the_reference_does(pattern, type):
    assert Pattern.of(pattern).matches(type) == reference(pattern, type)


@given(st.data(), PATTERNS)
def test_a_pattern_matches_every_type_made_by_filling_it_in(data, pattern):
    fillings = {"*": st.text("ab,", max_size=2), "**": st.text("ab.,", max_size=2)}
    way = data.draw(st.sampled_from(expand(pattern)[:50]))
    type = "".join(data.draw(fillings.get(part, st.just(part))) for part in way)
    assert Pattern.of(pattern).matches(type)


@given(st.text("ab.*{},", max_size=9), TYPES)
def test_any_text_is_a_pattern_or_an_error_as_for_the_reference(text, type):
    try:
        expected = reference(text, type)
    except ValueError:
        with pytest.raises(PatternError):
            Pattern.of(text)
    else:
        assert Pattern.of(text).matches(type) == expected


@given(
    st.text(st.characters(exclude_characters="*{}", exclude_categories=["Cc", "Cs"]), min_size=1), st.text()
)
def test_a_pattern_without_wildcards_matches_itself_only(text, other):
    pattern = Pattern.of(text)
    assert pattern.exact == pattern.text == text
    assert pattern.matches(text)
    assert pattern.matches(other) == (other == text)


@pytest.mark.parametrize(
    ("pattern", "taken", "refused"),
    [
        ("order.*", ["order.paid", "order."], ["order", "order.item.added", "orders.paid"]),
        ("*.paid", ["order.paid", ".paid"], ["eu.order.paid", "order.paid.twice"]),
        ("order.**", ["order.paid", "order.item.added", "order."], ["order", "orders"]),
        ("**", ["order", "eu.order.paid", "ünï.ço\u2028dé"], []),
        ("*", ["order", "order paid"], ["order.paid"]),
        (
            "{order,payment}.paid",
            ["order.paid", "payment.paid"],
            ["order", "refund.paid", "order,payment.paid"],
        ),
        ("order.{paid,item.*}", ["order.paid", "order.item.added"], ["order.item", "order.sent"]),
        ("{order.{paid,sent},**.failed}", ["order.sent", "a.b.failed"], ["order.failed.x", "failed"]),
        ("{order}", ["order"], ["{order}"]),
        ("a,b.*", ["a,b.c"], ["a", "a,b"]),
        ("a?[b].(c|d)+$*", ["a?[b].(c|d)+$"], ["ab.c"]),
    ],
)
def test_wildcards_and_alternatives(pattern, taken, refused):
    assert [type for type in [*taken, *refused] if Pattern.of(pattern).matches(type)] == taken


@pytest.mark.parametrize(
    "pattern",
    [
        "**a" * 600,
        "*a" * 1000,
        "{*,*}" * 400,
        "{**,*a}" * 290,
        "{a,b}" * 400,
        "**a**a**a**a**b",
        "{" * 900 + "*,a" + "}" * 900,
    ],
    ids=lambda pattern: pattern[:8],
)
def test_a_hostile_pattern_needs_one_step_for_each_character_and_state(pattern):
    compiled = Pattern.of(pattern)
    lines = 0

    def count(frame, event, argument):
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        compiled.matches("a" * 255 + "c")
    finally:
        sys.settrace(before)
    assert 0 < lines < 10 * 256 * (len(pattern) + 1)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "empty string"),
        ("order.{paid,sent", "opens a brace at index 6"),
        ("{a,{b}", "opens a brace at index 0"),
        ("order.paid}", "closes a brace at index 10"),
        ("{a}}", "closes a brace at index 3"),
        ("order.{}", "empty alternative before index 7"),
        ("order.{paid,}", "empty alternative before index 12"),
        ("{,a}", "empty alternative before index 1"),
        ("{a,{,b}}", "empty alternative before index 4"),
        ("order.paid\n", r"'\\n' at index 10"),
        ("order.\ud800*", r"'\\ud800' at index 6"),
        ("a" * (MAX_PATTERN_CHARACTERS + 1), "2,049 characters, at most 2,048 are allowed"),
        (["order.*"], r"not list: \['order"),
        (None, "not NoneType"),
    ],
)
def test_an_invalid_pattern_is_an_error_that_names_the_place(pattern, message):
    with pytest.raises(PatternError, match=message) as caught:
        Pattern.of(pattern)
    assert isinstance(caught.value, HappenError)
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 300


def is_alarm(type):
    return type.startswith("alarm")


class Nothing:
    def __call__(self, type):
        return []


def test_a_predicate_decides_by_whether_its_answer_is_true():
    pattern = Pattern.of(is_alarm)
    assert (pattern.text, pattern.exact, pattern.predicate) == ("is_alarm", None, is_alarm)
    assert pattern.matches("alarm.fire") is True
    assert pattern.matches("order.paid") is False
    assert Pattern.of(re.compile("order").match).matches("order.paid") is True
    assert Pattern.of(Nothing()).matches("order.paid") is False


def test_a_predicate_without_a_name_is_shown_by_its_type():
    assert Pattern.of(Nothing()).text == "Nothing"
    assert Pattern.of(functools.partial(is_alarm)).text == "partial"


def test_an_exception_of_a_predicate_propagates_unchanged():
    error = KeyError("mine")

    def fails(type):
        raise error

    with pytest.raises(KeyError) as caught:
        Pattern.of(fails).matches("order.paid")
    assert caught.value is error
    assert not hasattr(error, "__notes__")


def test_an_async_predicate_is_an_error_since_it_would_take_everything():
    async def later(type):
        return False

    class Later:
        async def __call__(self, type):
            return False

    for predicate in (later, Later(), functools.partial(later)):
        with pytest.raises(PatternError, match="async"):
            Pattern.of(predicate)


def test_patterns_are_equal_if_they_were_made_from_the_same():
    old = Pattern.of("order.*")
    assert len({Pattern.of(f"order.{number}.*") for number in range(2000)}) == 2000
    assert old == Pattern.of("order.*") != Pattern.of("order.**")
    assert Pattern.of(is_alarm) == Pattern.of(is_alarm) != Pattern.of("is_alarm")
    assert len({Pattern.of("order.*"), Pattern.of("order.*"), Pattern.of("order.paid")}) == 2
    assert Pattern.of(lambda _: True) != Pattern.of(lambda _: True)


class Kind(str, enum.Enum):  # noqa: UP042 -- str() of its members is not their value
    PAID = "order.paid"


def test_a_member_of_an_enum_is_the_string_it_stands_for():
    assert type(check_type(Kind.PAID)) is str
    assert type(Pattern.of(Kind.PAID).exact) is str
    assert check_type(Kind.PAID) == Pattern.of(Kind.PAID).exact == "order.paid"


# -- event types ---------------------------------------------------------------------------------------


@given(
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=90)
    | st.text("a.~*", min_size=1)
)
def test_a_type_may_be_as_long_as_fits_into_one_token_of_256_characters(type):
    for candidate in (type, type * 10):
        if len(quote_type(candidate)) <= 256:
            assert check_type(candidate) == candidate
        else:
            with pytest.raises(EventTypeError, match=f"has {len(quote_type(candidate))} characters"):
                check_type(candidate)


@pytest.mark.parametrize(("longest", "character"), [(256, "a"), (85, "."), (85, "~"), (42, "ü"), (21, "🎉")])
def test_the_longest_type(longest, character):
    assert check_type(character * longest)
    with pytest.raises(EventTypeError, match="at most 256 are allowed; put the variable part"):
        check_type(character * (longest + 1))


@pytest.mark.parametrize(
    ("type", "message"),
    [
        ("", "empty string"),
        (None, "not NoneType"),
        (b"order.paid", "not bytes: b'order.paid'"),
        ({"type": "order.paid"}, "not dict"),
        ("order\npaid", r"'\\n' at index 5"),
        ("\x00", "at index 0"),
        ("order.paid\x7f", "at index 10"),
        ("order\x9fpaid", "at index 5"),
        ("order\udfffpaid", r"'\\udfff' at index 5"),
    ],
)
def test_an_invalid_event_type_is_an_error_that_names_the_place(type, message):
    with pytest.raises(EventTypeError, match=message) as caught:
        check_type(type)
    assert isinstance(caught.value, HappenError)
    assert isinstance(caught.value, ValueError)


# -- the nearest pattern -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "patterns", "found"),
    [
        ("order.payed", ["order.sent", "order.paid", "payment.*"], "order.paid"),
        ("order.payed", ["order.{sent,paid}", "payment.*"], "order.{sent,paid}"),
        ("Order.Paid", ["order.sent", "order.paid"], "order.paid"),
        ("ordr.paid", ["customer.*", "order.*"], "order.*"),
        ("order.item.added", ["payment.**", "order.*"], "order.*"),
        ("order", ["payment.*", "order.*"], "order.*"),
        ("order.payed", ["*", "*.sent", "*d"], None),
        ("order.paid", ["alarm", "{temperature,humidity}.*"], None),
        ("order.paid", [], None),
        ("order.payed", ["order.pays", "order.paid"], "order.pays"),
    ],
)
def test_the_nearest_pattern_is_the_one_that_a_slip_would_have_missed(type, patterns, found):
    assert nearest(type, patterns) == found


def test_the_first_of_equally_near_patterns_is_named():
    assert nearest("order.paid", ["order.pain", "order.pair"]) == "order.pain"


def test_nearest_refuses_an_invalid_pattern():
    with pytest.raises(PatternError, match="opens a brace"):
        nearest("order.paid", ["order.{paid"])


@given(TYPES, st.lists(st.text("ab.", min_size=1, max_size=7), max_size=5))
def test_among_exact_patterns_the_nearest_needs_the_fewest_edits_for_its_length(type, patterns):
    likeness = {text: 1 - distance(type, text) / len(text) for text in patterns}
    near = [text for text in patterns if likeness[text] >= 0.5]
    assert nearest(type, patterns) == max(near, key=likeness.get, default=None)


@given(PATTERNS, TYPES)
def test_a_pattern_with_own_characters_is_nearest_to_types_it_matches(pattern, type):
    fits = [way for way in expand(pattern) if takes(way, type)]
    own = max((sum(part not in ("*", "**") for part in way) for way in fits), default=0)
    if fits:
        assert nearest(type, [pattern]) == (pattern if own else None)


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


def test_a_string_is_a_pattern_or_not():
    assert is_pattern("order.*")
    assert not is_pattern("order.{paid")
    assert not is_pattern("order\n")
