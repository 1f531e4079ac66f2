"""Inspect users' functions: their parameters, their names, and whether two are the same.

Callable objects of users may have code of their own that raises, for example a ``__getattr__``.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Awaitable, Callable
from types import AsyncGeneratorType, CodeType, CoroutineType, FunctionType, GeneratorType, MethodType
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec, TypeAlias, TypeVar, cast

from happen_nb._frames import refusal
from happen_nb._model.quoting import quote
from happen_nb.errors import TransformError

if TYPE_CHECKING:
    from typing_extensions import TypeIs

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Second: TypeAlias = Literal["none", "positional", "keyword"]

MAX_FUNCTION_NAME: Final = 500  # characters of the name of a function
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


def loaded(module: str) -> Any:
    """Return a module that was imported; None before, and while another thread imports it.

    Until then, no value of its classes exists, and half of its names are missing.
    """
    found = sys.modules.get(module)
    if found is None or getattr(getattr(found, "__spec__", None), "_initializing", False):  # as `import` asks
        return None
    return found


def is_a(value: object, kind: Callable[..., T]) -> TypeIs[T]:
    """Return whether a value is an instance of a class; if its ``__class__`` raises, whether its type is."""
    try:
        return isinstance(value, cast("type", kind))
    except Exception:  # a proxy with nothing behind it
        return issubclass(type(value), cast("type", kind))


def wrap(wrapper: Callable[P, R], function: Callable[..., Any]) -> Callable[P, R]:
    """Give a function the name, signature and documentation of another; only its name if its code raises."""
    try:
        return functools.update_wrapper(wrapper, function)
    except Exception:  # a __getattr__ is the user's
        wrapper.__name__ = wrapper.__qualname__ = function_name(function)
        return wrapper


def is_kind(kind: Callable[[object], bool], function: object) -> bool:
    """Return the answer of a function of `inspect`, such as ``inspect.iscoroutinefunction``.

    For other callable objects, this is the answer for their ``__call__``. It is False for an object whose own
    code raises when it is inspected.
    """
    try:
        while isinstance(function, functools.partial):
            function = function.func
        return kind(function) or (not isinstance(function, type) and kind(type(function).__call__))
    except Exception:  # a __getattr__ is the user's
        return False


def is_lazy_function(function: object) -> bool:
    """Return whether a function is async or a generator, so that calling it runs nothing of it."""
    kinds = inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction
    return any(is_kind(kind, function) for kind in kinds)


def lazy_kind(answer: Any) -> str | None:
    """Return the kind of an answer that has to be awaited or iterated over; None for any other."""
    kind = _LAZY.get(type(answer))
    if type(answer) is CoroutineType:
        answer.close()
    return kind


def truth_of(answer: Any, what: str) -> bool:
    """Return whether the answer of a condition is true; TypeError if that is async or a generator."""
    if (kind := lazy_kind(answer)) is not None:
        raise refusal(TypeError, f"{what} returned {kind}, which is always true; pass a plain function")
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
    if isinstance(one, type) and isinstance(other, type):  # class methods; a reload makes a new class
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
    if is_a(a, MethodType) and is_a(b, MethodType):
        return safely_equal(a.__self__, b.__self__) and is_same(a.__func__, b.__func__)
    if is_a(a, functools.partial) and is_a(b, functools.partial):
        return is_same(a.func, b.func) and safely_equal((a.args, a.keywords), (b.args, b.keywords))
    if type(a) is not FunctionType or type(b) is not FunctionType:
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
    or with ``*args`` only, receives one argument. Raises TypeError if it requires a third one.

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


def second_of_transform(transform: Callable[..., Any]) -> Second:
    """Return how a transform of a state takes the views, as `takes_second`.

    Raises TypeError if it has no parameter, or requires a third one.
    """
    if type(transform) is FunctionType:
        code = transform.__code__
        if not code.co_argcount and not code.co_flags & inspect.CO_VARARGS:
            what = f"the transform {function_name(transform)}"
            raise refusal(TypeError, f"{what} has no parameter for the state; make it the first one")
    return takes_second(transform, "views")


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


def check_event_first(handler: Callable[..., Any], what: str) -> None:
    """Refuse a handler of an event that is written as a transform of a state and an event."""
    if _begins_with(_parameters(handler), "state", "event"):
        raise refusal(
            TypeError,
            f"{what} ({function_name(handler)}) has the parameters of a state handler; register it with "
            "node.state.on, or write (event) or (event, context)",
        )


def _begins_with(parameters: list[inspect.Parameter] | None, *names: str) -> bool:
    return tuple(each.name for each in (parameters or ())[: len(names)]) == names


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
            raise refusal(
                TypeError,
                f'{function_name(function)} requires "{parameter.name}", but is called with one argument or '
                f'two (the second is {name}); give "{parameter.name}" a default, or use functools.partial',
            )


def function_name(function: object) -> str:
    """Return the qualified name of a function, or of the type of a callable object, as a label."""
    if is_a(function, functools.partial):
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

    The first is a function ``call(state, event, views)``. A transform with one required parameter receives
    the state only, like those of `put` and `compose`. Raises TypeError if it is not callable, takes no state,
    or requires more than a state, an event and views; and TransformError if it is async or a generator.

    Examples
    --------
    >>> call, takes_views = event_call(lambda state, event: {**state, "last": event}, "the transform")
    >>> call({"n": 1}, "paid", None), takes_views
    ({'n': 1, 'last': 'paid'}, False)
    """
    if not callable(transform):
        raise refusal(TypeError, f"{what} is {quote(transform)}; pass a function of the state and the event")
    check_function(transform, what)
    parameters = _parameters(transform)
    if parameters is None:
        return (lambda state, _event, _views: transform(state)), False
    if _begins_with(parameters, "event"):
        raise refusal(
            TypeError,
            f"{what} ({function_name(transform)}) receives the state first, but its first parameter is "
            '"event"; write (state, event)',
        )
    required = [each for each in parameters if _required(each) and each.kind not in _COLLECTING]
    positional = [each for each in required if each.kind is not each.KEYWORD_ONLY]
    beyond = [each.name for each in required if each not in positional[:_THREE] and each.name != "views"]
    if beyond:
        raise refusal(
            TypeError,
            f'{what} ({function_name(transform)}) requires "{beyond[0]}", but is called with a state, an '
            "event and views; give it a default, or use functools.partial",
        )
    if not any(each.kind in (*_POSITIONAL, each.VAR_POSITIONAL) for each in parameters):
        raise refusal(
            TypeError,
            f"{what} ({function_name(transform)}) has no parameter for the state; make it the first one",
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
        raise refusal(
            TypeError, f"{what} is {quote(where)}; pass a function of {of} that returns True or False"
        )
    if is_lazy_function(where):
        raise refusal(
            TypeError, f"{what} is {quote(where)}, whose result is always true; pass a plain function of {of}"
        )
    check_takes(where, what, 1, [], of)


def check_takes(function: Any, what: str, positional: int, named: list[str], given: str = "an event") -> None:
    """Refuse a function whose signature does not accept the arguments of the later call."""
    signature = _signature(function)
    if signature is None:
        return
    try:
        signature.bind(*[None] * positional, **dict.fromkeys(named))
    except TypeError as error:
        name = function_name(function)
        text = f"{what} {name} is called with {given}, but takes {signature}: {error}"
        raise refusal(TypeError, text) from None
