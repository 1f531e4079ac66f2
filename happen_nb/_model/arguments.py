"""Check and convert the arguments of public calls; inspect the functions among them.

An argument of a wrong type is a TypeError, one out of range a ValueError; both messages name the call, the
value and the remedy. NumPy is never imported here: one of its values can only exist after its import.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from types import AsyncGeneratorType, CodeType, CoroutineType, FunctionType, GeneratorType, MethodType
from typing import Any, Final, Literal, TypeAlias

from happen_nb._frames import refusal
from happen_nb._model.quoting import escape_surrogates, quote
from happen_nb.errors import InvalidNameError, TransformError

RESERVED = "notebook"
"""The sender of events from cells, which no node may have as its name."""
UNLIMITED: Final = 1e9
"""Seconds that stand for "without limit": 30 years, within the range of all clocks and timers."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FIRST: Final = datetime.min.replace(tzinfo=UTC)
LAST: Final = datetime.max.replace(tzinfo=UTC)
_UNITS: Final = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION: Final = rf"(\d+(?:\.\d+)?) ?({'|'.join(_UNITS)})"
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_index(value: object) -> bool:
    """Return whether a value counts as an integer: anything with ``__index__``, except booleans."""
    if is_truth(value) or not hasattr(type(value), "__index__"):  # NumPy's booleans have one in some versions
        return False
    try:
        operator.index(value)  # type: ignore[arg-type]  # an array's may raise
    except TypeError:
        return False
    return True


def is_truth(value: object) -> bool:
    """Return whether a value is a boolean of Python or NumPy."""
    return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")


def truth(value: Any, what: str) -> bool:
    """Return an argument that must be True or False; `what` names call and argument.

    Examples
    --------
    >>> truth(True, "on: durable")
    True
    >>> truth("no", "on: durable")
    Traceback (most recent call last):
    ...
    TypeError: on: durable is 'no'; give True or False
    """
    if not is_truth(value):
        raise TypeError(f"{what} is {quote(value)}; give True or False")
    return bool(value)


def count(value: Any, what: str, *, least: int = 0, most: int | None = None) -> int:
    """Return an argument that must be a whole number from `least` to `most`; `what` names call and argument.

    Examples
    --------
    >>> count(3, "events: limit")
    3
    >>> count(True, "events: limit")
    Traceback (most recent call last):
    ...
    TypeError: events: limit is True; give a whole number, 0 or more
    """
    limits = f"{least:,} or more" if most is None else f"{least:,} to {most:,}"
    message = f"{what} is {quote(value)}; give a whole number, {limits}"
    if not is_index(value):
        raise refusal(TypeError(message))
    number = operator.index(value)
    if number < least or (most is not None and number > most):
        raise refusal(ValueError(message))
    return number


def seconds(
    value: Any, what: str, *, above_zero: bool = False, endless: bool = True, most: float = UNLIMITED
) -> float:
    """Return an argument that must be a duration: a number of seconds, or a timedelta.

    Infinity becomes `most`, if `endless` allows it.
    """
    least = "above 0" if above_zero else "0 or more"
    message = f"{what} is {quote(value)}; give seconds, {least}, or a timedelta"
    number = _seconds(value)
    if number is None:
        raise refusal(TypeError(message))
    if not number >= 0 or (above_zero and not number) or (number == math.inf and not endless):
        raise refusal(ValueError(message))
    return min(number, most)


def timeout(value: Any, what: str) -> float:
    """Return an argument like `seconds`, where None means without limit."""
    return UNLIMITED if value is None else seconds(value, what)


def duration(value: Any, what: str) -> float:
    """Return an argument like `seconds`, above 0, that may also be a text with a unit.

    Examples
    --------
    >>> duration("1.5min", "live_plot: window"), duration(30, "live_plot: window")
    (90.0, 30.0)
    """
    if isinstance(value, str):
        found = re.fullmatch(_DURATION, value.strip())
        if found is None or not float(found[1]):
            units = '"500ms", "30s", "1min", "2h", "1d"'
            raise refusal(ValueError(f"{what} is {quote(value)}; give a number and a unit: {units}"))
        return float(found[1]) * _UNITS[found[2]]
    return seconds(value, what, above_zero=True, endless=False)


def _is_real(value: Any) -> bool:
    """Return True for a real number of another class, such as one of NumPy."""
    from numbers import Real

    return isinstance(value, Real) or type(value).__name__ == "Decimal"


def _seconds(value: Any) -> float | None:
    if _is_nat(value):
        return math.nan
    if isinstance(value, timedelta):
        return value.total_seconds()
    if is_truth(value):
        return None
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.timedelta64):
        return math.nan if numpy.isnat(value) else float(value / numpy.timedelta64(1, "us")) / 1e6
    if isinstance(value, int | float) or _is_real(value):
        try:
            return float(value)
        except OverflowError:  # an integer beyond all floats
            return math.inf if value > 0 else -math.inf
    return float(operator.index(value)) if is_index(value) else None


def _is_nat(value: object) -> bool:
    return type(value).__name__ == "NaTType"  # of pandas; it is a datetime and a timedelta, too


def is_moment(value: object) -> bool:
    """Return whether a value is a date or a datetime of Python, pandas or NumPy, perhaps a missing one."""
    numpy = sys.modules.get("numpy")
    return isinstance(value, date) or (numpy is not None and isinstance(value, numpy.datetime64))


def moment(value: Any, what: str) -> datetime:
    """Return an argument that must be a point in time: a datetime, or a date, which means its start.

    The result has whole microseconds, and is naive if `value` is.
    """
    found: Any = None
    if not is_moment(value):
        raise TypeError(f"{what} is {quote(value)}; give a datetime")
    if hasattr(value, "to_pydatetime") and not _is_nat(value):
        found = value.to_pydatetime(warn=False)
    elif isinstance(value, datetime):
        found = None if _is_nat(value) else value
    elif isinstance(value, date):
        found = datetime.combine(value, time())
    elif not sys.modules["numpy"].isnat(value):
        found = value.astype("datetime64[us]").item()
    if isinstance(found, datetime):
        return found
    raise ValueError(f"{what} is {quote(value)}; give a datetime of the years 1 to 9999")


def to_utc(moment: datetime) -> datetime:
    """Convert a datetime to UTC, where a naive one is local time; stay within the years 1 to 9999."""
    try:
        return moment.astimezone(UTC)
    except (OverflowError, ValueError, OSError):  # OSError: a naive one before 1970, on Windows
        if moment.year in (FIRST.year, LAST.year):
            return FIRST if moment.year == FIRST.year else LAST
        return moment.replace(tzinfo=UTC)


def nanoseconds(moment: datetime) -> int:
    """Return the nanoseconds from 1970 to a datetime; a naive one is local time."""
    return (to_utc(moment) - EPOCH) // timedelta(microseconds=1) * 1000


@lru_cache(4096)
def check_label(value: Any, what: str, *, most: int) -> None:
    """Refuse a value that is not a string of 1 to `most` characters, without lone surrogates."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is {quote(value)}; give a string")
    if not 0 < len(value) <= most:
        raise ValueError(f"{what} has {len(value)} characters; give 1 to {most}")
    if escape_surrogates(value) != value:
        raise ValueError(f"{what} is {quote(value)}, which has half of a character; give whole ones")


def is_name(text: str) -> bool:
    """Return whether a text is valid as the name of a node, a space or a process."""
    return _NAME.fullmatch(text) is not None


def check_name(name: object, what: str) -> str:
    """Return a name if it is valid for `what`, "node" or "space"; else raise InvalidNameError."""
    if not isinstance(name, str) or not is_name(str.__str__(name)):
        raise InvalidNameError(f"a {what} cannot be named {quote(name)}: use 1 to 64 of A-Z a-z 0-9 _ -")
    if what == "node" and name == RESERVED:
        raise InvalidNameError(f'no node may be named "{RESERVED}": it is the sender of events from cells')
    return str.__str__(name)


Second: TypeAlias = Literal["none", "positional", "keyword"]

MAX_FUNCTION_NAME: Final = 500
"""Characters of the name of a function."""
_ASYNC_REMEDY: Final = "a transform only computes the new state: await what it needs before, and pass that in"
_GENERATOR_REMEDY: Final = 'a transform only computes the new state: use "return" instead of "yield"'
_LAZY: Final = {
    CoroutineType: "a coroutine",
    GeneratorType: "a generator",
    AsyncGeneratorType: "an async generator",
}
_TWO: Final = 2  # the state, and the views or the context
_THREE: Final = 3  # the state, the event and the views
_COLLECTING: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_OPEN_ENDED: Final = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS


def safely_equal(a: object, b: object) -> bool:
    """Return whether two objects are equal; False if comparing them raises."""
    if a is b:
        return True
    try:
        return bool(a == b)
    except Exception:  # the comparison of arrays returns an array
        return False


def attribute(function: object, name: str) -> Any:
    """Return an attribute of a callable object; None if it has none, or if its own code raises."""
    try:
        return getattr(function, name, None)
    except Exception:  # a __getattr__ is the user's
        return None


def is_kind(kind: Callable[[object], bool], function: object) -> bool:
    """Return the answer of a function of `inspect`, such as ``inspect.iscoroutinefunction``.

    For other callable objects, it is that for their ``__call__``. It is False for an object whose own code
    raises when it is inspected.
    """
    while isinstance(function, functools.partial):
        function = function.func
    try:
        return kind(function) or (not isinstance(function, type) and kind(type(function).__call__))
    except Exception:  # a __getattr__ is the user's
        return False


def is_lazy_function(function: object) -> bool:
    """Return whether a function is async or a generator, so that calling it runs nothing of it."""
    kinds = inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction
    return any(is_kind(kind, function) for kind in kinds)


def lazy_kind(answer: Any) -> str | None:
    """Return what the call of a function returned if that has to be awaited or iterated over; else None."""
    kind = _LAZY.get(type(answer))
    if type(answer) is CoroutineType:
        answer.close()
    return kind


def truth_of(answer: Any, what: str) -> bool:
    """Return whether the answer of a condition is true.

    Raises
    ------
    TypeError
        The condition is async or a generator.
    """
    if (kind := lazy_kind(answer)) is not None:
        raise TypeError(f"{what} returned {kind}, which is always true; give a plain function")
    return bool(answer)


def is_namesake(a: object, b: object) -> bool:
    """Return whether two functions have the same module and name, at the top level of a module or class."""
    name = attribute(a, "__qualname__")
    if not isinstance(name, str) or "<" in name:
        return False
    same = safely_equal(
        (name, attribute(a, "__module__")), (attribute(b, "__qualname__"), attribute(b, "__module__"))
    )
    one, other = attribute(a, "__self__"), attribute(b, "__self__")
    if isinstance(one, type) and isinstance(other, type):  # class methods; a reload makes the class anew
        return same and (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)
    return same and safely_equal(one, other)


def is_same(a: Any, b: Any) -> bool:
    """Return whether two functions are the same one, perhaps defined again by a cell or a reload.

    A named function is the same as its namesake. Lambdas are the same if their code, defaults and closures
    are equal. So are functions defined in another function, unless their code differs: then that function
    was edited, and they count as the same too.
    """
    if safely_equal(a, b) or is_namesake(a, b):
        return True
    if isinstance(a, MethodType) and isinstance(b, MethodType):
        return safely_equal(a.__self__, b.__self__) and is_same(a.__func__, b.__func__)
    if isinstance(a, functools.partial) and isinstance(b, functools.partial):
        return is_same(a.func, b.func) and safely_equal((a.args, a.keywords), (b.args, b.keywords))
    if not isinstance(a, FunctionType) or not isinstance(b, FunctionType):
        return False
    if (a.__module__, a.__qualname__) != (b.__module__, b.__qualname__):
        return False
    if _code(a.__code__) != _code(b.__code__):
        return not a.__qualname__.endswith("<lambda>")
    given = (a.__defaults__, a.__kwdefaults__), (b.__defaults__, b.__kwdefaults__)
    return safely_equal(*given) and safely_equal(_closed_over(a), _closed_over(b))


def _code(code: CodeType) -> tuple[object, ...]:
    """Return the parts of a function's code that do not depend on its place."""
    constants = tuple(_code(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts)
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars, code.co_flags


def _closed_over(function: FunctionType) -> list[object]:
    found: list[object] = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # the cell is empty
            found.append(cell)
    return found


def takes_second(function: Callable[..., Any], name: str) -> Second:
    """Return how a function takes a second argument (``views`` or ``context``): ``"none"`` if it does not.

    It receives one if it has a second *required* positional parameter, or one of that name. So
    ``lambda state, oid=oid: ...`` in a loop receives the state only. A callable without a readable signature,
    or with ``*args`` only, receives one argument.

    Raises
    ------
    TypeError
        It requires a third parameter.

    Examples
    --------
    >>> takes_second(lambda state: state, "views")
    'none'
    >>> takes_second(lambda state, views: state, "views")
    'positional'
    >>> takes_second(lambda state, oid=1, views=None: state, "views")
    'keyword'
    """
    if type(function) is FunctionType:
        code = function.__code__
        if not code.co_kwonlyargcount and not code.co_flags & _OPEN_ENDED:
            if code.co_argcount == 1:
                return "none"
            if code.co_argcount == _TWO:
                wanted = not function.__defaults__ or code.co_varnames[1] == name
                return "positional" if wanted else "none"
    parameters = _parameters(function)
    if parameters is None:
        return "none"
    positional = [p for p in parameters if p.kind in _POSITIONAL]
    keyword_only = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    _refuse_more(function, name, positional[2:], keyword_only)
    if len(positional) > 1 and (_required(positional[1]) or positional[1].name == name):
        return "positional"
    by_name = [p for p in (*positional[2:], *keyword_only) if p.name == name]
    return "keyword" if by_name and by_name[0].kind is not inspect.Parameter.POSITIONAL_ONLY else "none"


def takes_third(function: Callable[..., Any]) -> bool:
    """Return True if a function requires a third positional argument.

    Examples
    --------
    >>> takes_third(lambda state, event, views: state), takes_third(lambda state, event: state)
    (True, False)
    """
    return sum(p.kind in _POSITIONAL and _required(p) for p in _parameters(function) or ()) > _TWO


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Return the parameters of a function; None if it has no readable signature."""
    signature = _signature(function)
    return None if signature is None else list(signature.parameters.values())


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature of a function; None if it has no readable one.

    Where the own code of a callable object raises, it is that of its method.
    """
    try:
        return inspect.signature(function)
    except Exception:  # a __getattr__, __eq__ or __hash__ is the user's
        method = getattr(type(function), "__call__", None)  # noqa: B004 - not whether, but what
        return _signature(MethodType(method, function)) if isinstance(method, FunctionType) else None


def _required(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty


def _refuse_more(
    function: Callable[..., Any],
    name: str,
    beyond: list[inspect.Parameter],
    keyword_only: list[inspect.Parameter],
) -> None:
    for parameter in (*beyond, *keyword_only):
        if _required(parameter) and (parameter in beyond or parameter.name != name):
            raise TypeError(
                f'{function_name(function)} requires "{parameter.name}", but is called with one argument or '
                f'two (the second is {name}); give "{parameter.name}" a default, or use functools.partial'
            )


def function_name(function: object) -> str:
    """Return the qualified name of a function, or of the type of a callable object, as a label."""
    if isinstance(function, functools.partial):
        return function_name(function.func)
    return own_name(function)


def own_name(function: object) -> str:
    """Return the qualified name of a function, or that of its type if it has none, as a label."""
    name = attribute(function, "__qualname__")
    name = name if isinstance(name, str) and name else type(function).__qualname__
    if not name.isprintable():  # it is a label in the journal
        name = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in name)
    return name[:MAX_FUNCTION_NAME]


def check_function(function: object, source: str) -> None:
    """Raise TransformError for an async or generator function."""
    if is_kind(inspect.iscoroutinefunction, function):
        raise TransformError(f"{source} ({function_name(function)}) is async; {_ASYNC_REMEDY}")
    if is_kind(inspect.isgeneratorfunction, function) or is_kind(inspect.isasyncgenfunction, function):
        raise TransformError(f"{source} ({function_name(function)}) is a generator; {_GENERATOR_REMEDY}")


def refuse_suspended(result: Any, source: str) -> None:
    """Raise TransformError for the result of an async or generator function."""
    kind = type(result)  # the `__class__` of the result may be another one
    if kind is CoroutineType:
        result.close()
    if issubclass(kind, Awaitable):
        raise TransformError(f"{source} is async; {_ASYNC_REMEDY}")
    if kind in (GeneratorType, AsyncGeneratorType):
        raise TransformError(f"{source} is a generator; {_GENERATOR_REMEDY}")


def event_call(transform: Any, what: str) -> tuple[Callable[[Any, Any, Any], Any], bool]:
    """Return how to call a transform of a state and an event, and whether it takes views.

    The first is a function ``call(state, event, views)``.
    A transform with one required parameter receives the state only, like those of `put` and `compose`.

    Raises
    ------
    TypeError
        It is not callable, takes no state, or requires more than a state, an event and views.
    TransformError
        It is async or a generator.

    Examples
    --------
    >>> call, takes_views = event_call(lambda state, event: {**state, "last": event}, "the transform")
    >>> call({"n": 1}, "paid", None), takes_views
    ({'n': 1, 'last': 'paid'}, False)
    """
    if not callable(transform):
        raise TypeError(f"{what} is {quote(transform)}; give a function of the state and the event")
    check_function(transform, what)
    parameters = _parameters(transform)
    if parameters is None:
        return (lambda state, _event, _views: transform(state)), False
    required = [each for each in parameters if _required(each) and each.kind not in _COLLECTING]
    positional = [each for each in required if each.kind is not each.KEYWORD_ONLY]
    beyond = [each.name for each in required if each not in positional[:_THREE] and each.name != "views"]
    if beyond:
        raise TypeError(
            f'{what} ({function_name(transform)}) requires "{beyond[0]}", but is called with a state, an '
            "event and views; give it a default, or use functools.partial"
        )
    if not any(each.kind in (*_POSITIONAL, each.VAR_POSITIONAL) for each in parameters):
        raise TypeError(
            f"{what} ({function_name(transform)}) takes no state; its first parameter is the state"
        )
    if len(positional) == _THREE:
        return transform, True
    takes_event = len(positional) > 1 and positional[1].name != "views"
    if not any(each.name == "views" for each in parameters):
        if takes_event:
            return (lambda state, event, _views: transform(state, event)), False
        return (lambda state, _event, _views: transform(state)), False
    if takes_event:
        return (lambda state, event, views: transform(state, event, views=views)), True
    return (lambda state, _event, views: transform(state, views=views)), True


def check_condition(where: Any, what: str, of: str = "an event") -> None:
    """Refuse a condition that is not a plain function of an event, or of something else."""
    if not callable(where):
        raise TypeError(f"{what} is {where!r}; give a function of {of} that returns True or False")
    if is_lazy_function(where):
        raise TypeError(f"{what} is {where!r}, whose call is always true; give a plain function of {of}")
    check_takes(where, what, 1, [], of)


def check_takes(function: Any, what: str, positional: int, named: list[str], given: str = "an event") -> None:
    """Refuse a function whose signature does not accept the arguments of the later call."""
    signature = _signature(function)
    if signature is None:
        return
    try:
        signature.bind(*[None] * positional, **dict.fromkeys(named))
    except TypeError as error:
        raise TypeError(
            f"{what} {function!r} is called with {given}, but takes {signature}: {error}"
        ) from None
