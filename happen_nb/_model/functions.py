"""When two functions count as the same: a cell that runs again and a reload make new objects."""

from __future__ import annotations

import functools
from types import CodeType, FunctionType, MethodType
from typing import Any


def equal(a: object, b: object) -> bool:
    """Tell whether two objects are equal, where comparing them may raise.

    Examples
    --------
    >>> equal("a".upper, "a".upper), equal(len, None)
    (True, False)
    """
    if a is b:
        return True
    try:
        return bool(a == b)
    except Exception:  # an array answers with an array
        return False


def is_namesake(a: object, b: object) -> bool:
    """Tell whether two functions have the same module and name, at the top level of a module or class.

    Examples
    --------
    >>> def handle(event): ...
    >>> earlier = handle
    >>> def handle(event): ...
    >>> is_namesake(handle, earlier), is_namesake(handle, len)
    (True, False)
    """
    name = getattr(a, "__qualname__", None)
    if not isinstance(name, str) or "<" in name:
        return False
    same = (name, getattr(a, "__module__", None)) == (
        getattr(b, "__qualname__", None),
        getattr(b, "__module__", None),
    )
    return same and equal(getattr(a, "__self__", None), getattr(b, "__self__", None))


def is_same(a: Any, b: Any) -> bool:
    """Tell whether two functions are the same one, perhaps defined again.

    A named function is the same as its namesake. Lambdas are the same if their code, their defaults and what
    they have closed over are; so are functions that another one made, but if their code differs, the function
    that made them was edited.

    Examples
    --------
    >>> is_same(lambda event: event.id, lambda event: event.id)
    True
    >>> is_same(lambda event, n=1: n, lambda event, n=2: n)
    False
    """
    if equal(a, b) or is_namesake(a, b):
        return True
    if isinstance(a, MethodType) and isinstance(b, MethodType):
        return equal(a.__self__, b.__self__) and is_same(a.__func__, b.__func__)
    if isinstance(a, functools.partial) and isinstance(b, functools.partial):
        return is_same(a.func, b.func) and equal((a.args, a.keywords), (b.args, b.keywords))
    if not isinstance(a, FunctionType) or not isinstance(b, FunctionType):
        return False
    if (a.__module__, a.__qualname__) != (b.__module__, b.__qualname__):
        return False
    if _code(a.__code__) != _code(b.__code__):
        return not a.__qualname__.endswith("<lambda>")
    given = (a.__defaults__, a.__kwdefaults__), (b.__defaults__, b.__kwdefaults__)
    return equal(*given) and equal(_closed_over(a), _closed_over(b))


def _code(code: CodeType) -> tuple[object, ...]:
    """What a function does, wherever it stands."""
    constants = tuple(_code(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts)
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars, code.co_flags


def _closed_over(function: FunctionType) -> list[object]:
    found: list[object] = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # it has no value yet
            found.append(cell)
    return found
