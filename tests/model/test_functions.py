"""Two functions count as the same if a cell or a reload defines one again."""

import functools

from happen_nb._model.functions import is_namesake, is_same


def test_a_function_is_the_same_as_its_namesake():
    def define(number):
        def handle(event): ...

        handle.__qualname__ = f"handle{number}"
        return handle

    assert is_namesake(define(1), define(1))
    assert is_same(define(1), define(1))
    assert not is_namesake(define(1), define(2))
    assert not is_namesake(define(1), len)


def test_lambdas_are_the_same_if_code_defaults_and_closures_are():
    def closes_over(value):
        return lambda event: (event, value)

    assert is_same(lambda event: event.id, lambda event: event.id)
    assert not is_same(lambda event: event.id, lambda event: event.type)
    assert not is_same(lambda event, n=1: n, lambda event, n=2: n)
    assert is_same(closes_over(1), closes_over(1))
    assert not is_same(closes_over(1), closes_over(2))


def test_methods_and_partials_are_the_same_if_their_parts_are():
    assert is_same("a".upper, "a".upper)
    assert not is_same("a".upper, "b".upper)
    assert is_same(functools.partial(max, 1), functools.partial(max, 1))
    assert not is_same(functools.partial(max, 1), functools.partial(max, 2))
