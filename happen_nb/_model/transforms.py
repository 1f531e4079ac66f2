"""Transforms: evaluate one, and build one with `put` and `compose`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from happen_nb._model.freeze import MAX_DEPTH, as_state, freeze_state
from happen_nb._model.frozen import FrozenDict
from happen_nb._model.functions import (
    check_function,
    function_name,
    is_a,
    refuse_suspended,
    second_of_transform,
)
from happen_nb._model.paths import Path, Steps, format_path, list_index, parse_path
from happen_nb._model.quoting import add_note, quote, shorten
from happen_nb.errors import PathError, StateError

if TYPE_CHECKING:
    from typing_extensions import TypeIs

Transform: TypeAlias = Callable[..., Any] | Mapping[str, Any]
"""A function ``(state)`` or ``(state, views)`` to the new state, or the new state itself."""


def call_transform(function: Callable[..., Any], state: Any, views: Any) -> Any:
    second = second_of_transform(function)
    if second == "none":
        return function(state)
    return function(state, views) if second == "positional" else function(state, views=views)


def given_state(state: Any, *, node: str) -> FrozenDict:
    """Freeze a mapping that is the new state; raise StateError for anything else."""
    if _is_mapping(state):
        return freeze_state(state, node=node)
    raise StateError(
        f'state.set on node "{node}": neither a function of the state nor a mapping, but '
        f"{quote(state)}; write set(lambda state: {{**state, ...}})"
    )


def _is_mapping(value: object) -> TypeIs[Mapping[str, Any]]:
    return is_a(value, Mapping)


_PLAIN = (dict, FrozenDict)


def compute(call: Callable[..., Any], *arguments: Any, node: str, revision: int) -> FrozenDict:
    """Call a transform of a node's state, and return the frozen result.

    An exception propagates unchanged, with a note that names the node and the revision. It is a StateError if
    the result is not a mapping or has a part without a JSON form, and a TransformError if it is async or a
    generator.
    """
    try:
        result = call(*arguments)
        if type(result) not in _PLAIN:
            refuse_suspended(result, f'the transform of node "{node}"')
        return freeze_state(result, node=node)
    except Exception as error:
        add_note(error, f'in the transform of node "{node}" at revision {revision}')
        raise


def put(path: Path, value_or_function: Any) -> Callable[[Any], Any]:
    """Make a transform that sets one place of a state.

    Parameters
    ----------
    path : str or tuple
        The place: ``"orders.o1.status"`` or ``("orders", "o.1", 0)``. Missing parents are created as
        mappings; an item of a list must exist.
    value_or_function : object
        The new value, or a function from the old value (``None`` if there is none) to the new one.

    Raises
    ------
    PathError
        The path is not valid, or has more than 200 steps; or, when the transform runs, it leads through a
        value that is neither mapping nor list.

    Examples
    --------
    >>> state = freeze_state({"stock": {"pens": 3}}, node="shop")
    >>> put("stock.pens", lambda old: old - 1)(state)
    {'stock': {'pens': 2}}
    >>> put("prices.pens", 1.5)(state)
    {'stock': {'pens': 3}, 'prices': {'pens': 1.5}}
    """
    steps = parse_path(path)
    if len(steps) > MAX_DEPTH:
        raise PathError(f"put: the path has {len(steps):,} steps, but a state has at most {MAX_DEPTH} levels")

    def transform(state: Any) -> Any:
        return _replaced(state, steps, 0, value_or_function)

    transform.__name__ = transform.__qualname__ = f"put({format_path(steps)})"
    return transform


def _replaced(part: Any, steps: Steps, depth: int, value: Any) -> Any:
    """Return `part` with the value at the steps from `depth` on; copy only the containers on the way."""
    if depth == len(steps):
        return value(part) if callable(value) else value
    step = steps[depth]
    if isinstance(part, Mapping):
        if not isinstance(step, str):
            raise _unreachable(steps, depth, f'is a mapping, and its keys are strings; write "{quote(step)}"')
        inner = part.get(step, None if depth + 1 == len(steps) else {})
        return {**part, step: _replaced(inner, steps, depth + 1, value)}
    if isinstance(part, list):
        index = list_index(step, len(part))
        if index is None:
            raise _unreachable(
                steps,
                depth,
                f"is a list of {len(part)} without item {quote(step)}; put changes existing items only",
            )
        return [*part[:index], _replaced(part[index], steps, depth + 1, value), *part[index + 1 :]]
    raise _unreachable(
        steps, depth, f"is {quote(part, 40)}, which is neither mapping nor list; put a mapping there first"
    )


def _unreachable(steps: Steps, depth: int, problem: str) -> PathError:
    where = format_path(steps[:depth]) if depth else "the state"
    target, where = (shorten(text) for text in (format_path(steps), where))
    return PathError(f"put cannot reach {target}: {where} {problem}")


def compose(*transforms: Transform) -> Callable[..., Any]:
    """Combine transforms into one that applies them from left to right; each may take views or not.

    Raises
    ------
    TransformError
        One of them is async or a generator.
    StateError
        One of them is neither callable nor a mapping; or, when the transform runs, a step does not return a
        mapping.

    Examples
    --------
    >>> state = freeze_state({"stock": {"pens": 3}}, node="shop")
    >>> sell = compose(put("stock.pens", lambda old: old - 1), lambda s: {**s, "sold": True})
    >>> sell(state)
    {'stock': {'pens': 2}, 'sold': True}
    """
    for number, step in enumerate(transforms, 1):
        name = f"step {number} of compose"
        if not callable(step) and not _is_mapping(step):
            raise StateError(f"{name} is neither a function of the state nor a mapping, but {quote(step)}")
        check_function(step, name)
    views_needed = [not _is_mapping(step) and second_of_transform(step) != "none" for step in transforms]

    def transform(state: Any) -> Any:
        return _apply_all(transforms, state, None)

    def transform_with_views(state: Any, views: Any) -> Any:
        return _apply_all(transforms, state, views)

    chosen = transform_with_views if any(views_needed) else transform
    chosen.__name__ = chosen.__qualname__ = f"compose({', '.join(map(function_name, transforms))})"
    return chosen


def _apply_all(transforms: tuple[Transform, ...], state: Any, views: Any) -> Any:
    for number, step in enumerate(transforms, 1):
        name = f"step {number} of compose"
        result = step if _is_mapping(step) else call_transform(step, state, views)
        refuse_suspended(result, name)
        state = as_state(result, name)
    return state
