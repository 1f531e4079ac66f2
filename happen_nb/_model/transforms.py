"""Transforms: functions from a state to the next one, and what may be made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from happen_nb._model.freeze import as_state, freeze_state
from happen_nb._model.frozen import FrozenDict
from happen_nb._model.functions import check_function, function_name, refuse_suspended, takes_second
from happen_nb._model.paths import Path, Steps, format_path, list_index, parse_path
from happen_nb._model.quoting import quote
from happen_nb.errors import PathError, StateError

Transform: TypeAlias = Callable[..., Any] | Mapping[str, Any]
"""A function ``(state)`` or ``(state, views)`` to the new state, or the new state itself."""


def _call(function: Callable[..., Any], state: Any, views: Any) -> Any:
    second = takes_second(function, "views")
    if second == "none":
        return function(state)
    return function(state, views) if second == "positional" else function(state, views=views)


def evaluate(transform: Transform, state: FrozenDict, views: Any, *, node: str, revision: int) -> FrozenDict:
    """Run a transform on a state and freeze what it returns.

    What the transform raises comes out unchanged, with a note that names the node and the revision.

    Parameters
    ----------
    transform : callable or mapping
        A function of the state, or of the state and the views; or the new state itself.
    state : FrozenDict
        The state to start from.
    views
        What a transform with a second parameter gets.
    node, revision
        Whose state it is, for messages.

    Raises
    ------
    StateError
        The result is no mapping, or has a part without a JSON form.
    TransformError
        The transform is async or a generator.

    Examples
    --------
    >>> state = freeze_state({"n": 1}, node="counter")
    >>> evaluate(lambda s: {**s, "n": s["n"] + 1}, state, None, node="counter", revision=1)
    {'n': 2}
    """
    if isinstance(transform, Mapping):
        return freeze_state(transform, node=node)
    if not callable(transform):
        raise StateError(
            f'state.set on node "{node}": neither a function of the state nor a mapping, but '
            f"{quote(transform)}; write set(lambda state: {{**state, ...}})"
        )
    try:
        result = _call(transform, state, views)
        if type(result) is not FrozenDict:
            refuse_suspended(result, f'the transform of node "{node}"')
        return freeze_state(result, node=node)
    except Exception as error:
        note = f'in the transform of node "{node}" at revision {revision}'
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        raise


def put(path: Path, value_or_function: Any) -> Callable[[Any], Any]:
    """Make a transform that sets one place of a state.

    Parameters
    ----------
    path : str or tuple
        Where: ``"orders.o1.status"`` or ``("orders", "o.1", 0)``. Missing parents are made, as mappings; an
        item of a list must exist.
    value_or_function : object
        What to put there; or a function of the old value (``None`` if there is none) that returns it.

    Raises
    ------
    PathError
        The path is none; or, when the transform runs, it leads through something that is no mapping or list.

    Examples
    --------
    >>> state = freeze_state({"stock": {"pens": 3}}, node="shop")
    >>> put("stock.pens", lambda old: old - 1)(state)
    {'stock': {'pens': 2}}
    >>> put("prices.pens", 1.5)(state)
    {'stock': {'pens': 3}, 'prices': {'pens': 1.5}}
    """
    steps = parse_path(path)

    def transform(state: Any) -> Any:
        return _with(state, steps, 0, value_or_function)

    transform.__name__ = transform.__qualname__ = f"put({format_path(steps)})"
    return transform


def _with(part: Any, steps: Steps, depth: int, value: Any) -> Any:
    """``part`` with the value put at the steps from ``depth`` on; copies the containers on the way only."""
    if depth == len(steps):
        return value(part) if callable(value) else value
    step = steps[depth]
    if isinstance(part, Mapping):
        if not isinstance(step, str):
            raise _no_way(steps, depth, f'is a mapping, whose keys are strings; write "{step}"')
        inner = part.get(step, None if depth + 1 == len(steps) else {})
        return {**part, step: _with(inner, steps, depth + 1, value)}
    if isinstance(part, list):
        index = list_index(step, len(part))
        if index is None:
            raise _no_way(
                steps, depth, f"is a list of {len(part)} without item {step}; put changes items only"
            )
        return [*part[:index], _with(part[index], steps, depth + 1, value), *part[index + 1 :]]
    raise _no_way(
        steps, depth, f"is {quote(part, 40)}, which is no mapping or list; put a mapping there first"
    )


def _no_way(steps: Steps, depth: int, problem: str) -> PathError:
    where = format_path(steps[:depth]) if depth else "the state"
    return PathError(f"put cannot reach {format_path(steps)}: {where} {problem}")


def compose(*transforms: Transform) -> Callable[..., Any]:
    """Make one transform of several, left to right; each may take views or not.

    Raises
    ------
    TransformError
        One of them is async or a generator.
    StateError
        One of them is neither callable nor a mapping; or, when the transform runs, a step returns no mapping.

    Examples
    --------
    >>> state = freeze_state({"stock": {"pens": 3}}, node="shop")
    >>> sell = compose(put("stock.pens", lambda old: old - 1), lambda s: {**s, "sold": True})
    >>> sell(state)
    {'stock': {'pens': 2}, 'sold': True}
    """
    for number, step in enumerate(transforms, 1):
        _check_step(step, f"step {number} of compose")
    views_needed = [_needs_views(step) for step in transforms]

    def transform(state: Any) -> Any:
        return _in_turn(transforms, state, None)

    def transform_with_views(state: Any, views: Any) -> Any:
        return _in_turn(transforms, state, views)

    chosen = transform_with_views if any(views_needed) else transform
    chosen.__name__ = chosen.__qualname__ = f"compose({', '.join(map(function_name, transforms))})"
    return chosen


def _check_step(step: Transform, who: str) -> None:
    if not callable(step) and not isinstance(step, Mapping):
        raise StateError(f"{who} is neither a function of the state nor a mapping, but {quote(step)}")
    check_function(step, who)


def _needs_views(step: Transform) -> bool:
    return not isinstance(step, Mapping) and takes_second(step, "views") != "none"


def _in_turn(transforms: tuple[Transform, ...], state: Any, views: Any) -> Any:
    for number, step in enumerate(transforms, 1):
        who = f"step {number} of compose"
        result = step if isinstance(step, Mapping) else _call(step, state, views)
        refuse_suspended(result, who)
        state = as_state(result, who)
    return state
