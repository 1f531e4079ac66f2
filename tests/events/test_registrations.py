"""Registrations are found by event type, in their order."""

from __future__ import annotations

import sys
import threading

from hypothesis import given
from hypothesis import strategies as st

from happen_nb._model.patterns import Pattern
from happen_nb._runtime.registrations import Registration, Registrations

TYPES = ("order.paid", "order.sent", "order", "a.b.c")
PATTERNS = st.sampled_from([*TYPES, "order.*", "**", "{a,order}.**", "*.paid"])


def register(registrations, pattern, node="orders"):
    registration = Registration(node, Pattern.of(pattern), len)
    registrations.add(registration)
    return registration


@given(st.lists(st.tuples(PATTERNS, st.sampled_from("ab"), st.booleans()), max_size=20))
def test_the_candidates_are_those_of_a_scan_of_all_registrations(actions):
    registrations, kept = Registrations(), []
    for pattern, node, stays in actions:
        registration = register(registrations, pattern, node)
        if stays:
            kept.append(registration)
        else:
            assert registrations.end(registration)
    for type in TYPES:
        matching = [each for each in kept if each.pattern.matches(type)]
        for target, nodes in ((None, "ab"), ("a", "a")):
            wanted = {node: [each for each in matching if each.node == node] for node in nodes}
            found = registrations.candidates(type, target)
            assert found == {node: each for node, each in wanted.items() if each}


def test_registrations_of_all_kinds_are_found_in_their_order():
    registrations = Registrations()
    patterns = ("order.paid", "order.*", lambda _: True, "order.paid", "{a,order}.paid", "order.sent")
    made = [register(registrations, pattern) for pattern in patterns]
    assert registrations.candidates("order.paid", None) == {"orders": made[:5]}
    assert registrations.candidates("order.sent", None) == {"orders": [made[1], made[2], made[5]]}


def test_an_exact_type_is_looked_up_without_testing_other_patterns(monkeypatch):
    tested = []
    matches = Pattern.matches

    def counted(self, type):
        tested.append(self)
        return matches(self, type)

    monkeypatch.setattr(Pattern, "matches", counted)
    registrations = Registrations()
    made = [register(registrations, f"order.o{number}.paid") for number in range(10_000)]
    assert registrations.candidates("order.o77.paid", None) == {"orders": [made[77]]}
    assert registrations.candidates("order.paid", None) == {}
    assert tested == []
    wildcard = register(registrations, "order.*.paid")
    assert registrations.candidates("order.o77.paid", None) == {"orders": [made[77], wildcard]}
    assert tested == [wildcard.pattern]


def test_a_removed_registration_is_gone_and_others_stay():
    registrations = Registrations()
    first, second = (register(registrations, "order.paid") for _ in range(2))
    assert registrations.end(first)
    assert not registrations.end(first)
    assert registrations.candidates("order.paid", None) == {"orders": [second]}
    registrations.remove(first)
    assert registrations.candidates("order.paid", None) == {"orders": [second]}
    assert registrations.end(second)
    assert registrations.candidates("order.paid", None) == {}
    assert registrations.nodes() == set()


def test_a_search_beside_a_thread_that_registers_finds_all_that_stay():
    registrations = Registrations()
    made = [register(registrations, pattern) for pattern in ("order.paid", "order.*", "order.paid", "**")]

    def registers():
        for _ in range(300):
            passing = [
                register(registrations, pattern, "passing")
                for pattern in ("order.paid", "{order,a}.*", "**.paid")
            ]
            for registration in passing:
                registrations.end(registration)
                registrations.remove(registration)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread = threading.Thread(target=registers)
    thread.start()
    try:
        while thread.is_alive():
            assert registrations.candidates("order.paid", None)["orders"] == made
    finally:
        thread.join()
        sys.setswitchinterval(interval)
    assert registrations.candidates("order.paid", None) == {"orders": made}
