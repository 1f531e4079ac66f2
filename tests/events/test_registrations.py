"""The registrations of a space, and how they are found by event type."""

from __future__ import annotations

import sys
import threading

from hypothesis import given
from hypothesis import strategies as st

from happen_nb._model.patterns import Pattern
from happen_nb._runtime.registrations import Registration, Registrations

PATTERNS = st.lists(st.sampled_from(["a", "b", ".", "*", "**", "{a,b}"]), min_size=1, max_size=4).map("".join)
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["add", "add", "remove"]), PATTERNS, st.sampled_from("xy"), st.booleans()),
    max_size=20,
)


def registration(pattern, node="x"):
    return Registration(node, Pattern.of(pattern), print)


def found(registrations, type, target=None):
    return registrations.candidates(type, target)


@given(ACTIONS, st.lists(st.text("ab.", min_size=1, max_size=4), max_size=5))
def test_the_candidates_are_the_same_as_in_a_scan_of_all_registrations(actions, types):
    registrations, plain = Registrations(), []
    for action, text, node, predicate in actions:
        if action == "add":
            plain.append(registration(str.isupper if predicate else text, node))
            registrations.add(plain[-1])
        elif plain:
            assert registrations.remove(gone := plain.pop(len(text) % len(plain)))
            assert not registrations.remove(gone)
        assert {node: registrations.of(node) for node in registrations.nodes()} == by_node(plain)
    for type in [*types, *(each.pattern.exact for each in plain if each.pattern.exact)]:
        matching = [each for each in plain if each.pattern.predicate or each.pattern.matches(type)]
        assert found(registrations, type) == by_node(matching)
        assert found(registrations, type, "y") == by_node([each for each in matching if each.node == "y"])


def by_node(registrations):
    nodes = {}
    for each in registrations:
        nodes.setdefault(each.node, []).append(each)
    return nodes


def test_an_exact_type_is_looked_up_without_testing_other_patterns(monkeypatch):
    tested = []
    matches = Pattern.matches

    def counted(self, type):
        tested.append(self)
        return matches(self, type)

    monkeypatch.setattr(Pattern, "matches", counted)
    registrations = Registrations()
    orders = [registration(f"order.o{number}.paid") for number in range(10_000)]
    for each in orders:
        registrations.add(each)
    assert found(registrations, "order.o77.paid") == {"x": [orders[77]]}
    assert found(registrations, "order.paid") == {}
    assert tested == []
    wildcard = registration("order.*.paid")
    registrations.add(wildcard)
    assert found(registrations, "order.o77.paid") == {"x": [orders[77], wildcard]}
    assert tested == [wildcard.pattern]


def test_a_search_while_another_thread_registers_finds_all_registrations_that_stay():
    registrations = Registrations()
    staying = [registration(pattern) for pattern in ("order.paid", "order.*", "order.paid", "**")]
    for each in staying:
        registrations.add(each)

    def register():
        for _ in range(300):
            passing = [registration(pattern, "y") for pattern in ("order.paid", "{order,a}.*", "**.paid")]
            for each in passing:
                registrations.add(each)
            for each in passing:
                registrations.remove(each)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread = threading.Thread(target=register)
    thread.start()
    try:
        while thread.is_alive():
            assert found(registrations, "order.paid")["x"] == staying
            assert registrations.of("x") == staying
    finally:
        thread.join()
        sys.setswitchinterval(interval)
    assert found(registrations, "order.paid") == {"x": staying}
