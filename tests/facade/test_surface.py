"""The names and parameters of the contract: nothing may be missing."""

from __future__ import annotations

import inspect
from datetime import timedelta

import pytest

import happen_nb as happen

TOP = ["connect", "aconnect", "current", "create_node", "run", "spaces", "draft", "put", "compose"]
SPACE = [
    "name create_node acreate_node nodes views at aat journal ajournal failures drop clear aclear",
    "fork afork replay timeline graph trace dashboard",
    "server close aclose __enter__ __exit__ __aenter__ __aexit__",
]
STATE = [
    "get aget set aset revision history ahistory at aat revert arevert watch wait_for await_for",
]
COMMIT = ["node revision before after diff changed cause time sequence"]


def names(lines):
    return " ".join(lines).split()


@pytest.mark.parametrize("name", TOP)
def test_the_module_offers(name):
    assert name in happen.__all__
    assert callable(getattr(happen, name))


def test_all_lists_only_what_is_there_and_in_order():
    assert [name for name in happen.__all__ if not hasattr(happen, name)] == []
    assert sorted(happen.__all__) == happen.__all__


@pytest.mark.parametrize("name", names(SPACE))
def test_a_space_offers(space, name):
    assert hasattr(space, name)


@pytest.mark.parametrize("name", names(STATE))
def test_a_state_offers(space, name):
    assert hasattr(space.create_node("orders").state, name)


@pytest.mark.parametrize("name", names(COMMIT))
def test_a_commit_offers(space, name):
    assert hasattr(space.create_node("orders").state.set({"n": 1}), name)


@pytest.mark.parametrize("name", ["name", "space", "state", "delete", "adelete"])
def test_a_node_offers(space, name):
    assert hasattr(space.create_node("orders"), name)


@pytest.mark.parametrize("name", ["retry", "clear", "to_frame"])
def test_failures_offer(space, name):
    assert callable(getattr(space.failures, name))


@pytest.mark.parametrize("name", ["settle", "asettle"])
def test_a_space_can_settle(name):
    assert callable(getattr(happen.Space, name))


@pytest.mark.parametrize("name", ["get", "revision", "collect"])
def test_views_offer(space, name):
    node = space.create_node("orders")
    assert hasattr(space.views if name == "collect" else space.views[node.name], name)


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (
            happen.connect,
            (
                "servers *name *store *fresh *receipts *token *user *password *credentials *tls *replicas "
                "*history *event_ttl *sync *timeout"
            ),
        ),
        (happen.create_node, "name *initial"),
        (happen.Space.create_node, "name *initial"),
        (happen.Space.acreate_node, "name *initial"),
        (happen.Space.at, "when"),
        (happen.Space.journal, "*since *limit"),
        (happen.Space.clear, "*force"),
        (happen.Space.fork, "name *at"),
        (happen.Space.drop, ""),
        (happen.State.get, "selector *fresh"),
        (happen.State.set, "transform *serializable *timeout"),
        (happen.State.history, "limit"),
        (happen.State.at, "when"),
        (happen.State.revert, "revision"),
        (happen.State.watch, "callback"),
        (happen.State.wait_for, "predicate timeout"),
        (happen.View.get, "selector"),
        (happen.Views.collect, "selectors *default"),
        (happen.put, "path value"),
    ],
    ids=lambda value: value.__qualname__ if callable(value) else "",
)
def test_parameters_are_those_of_the_contract(function, parameters):
    signature = inspect.signature(function).parameters.values()
    actual = [
        ("*" if parameter.kind is parameter.KEYWORD_ONLY else "") + parameter.name
        for parameter in signature
        if parameter.name != "self"
    ]
    assert actual == parameters.split()


@pytest.mark.parametrize("name", ["get", "set", "history", "at", "revert", "wait_for"], ids="State.{}".format)
def test_a_states_twin_takes_what_the_call_takes(name):
    assert parameters_of(happen.State, f"a{name}") == parameters_of(happen.State, name)


@pytest.mark.parametrize(
    "name", ["create_node", "at", "journal", "clear", "fork", "close"], ids="Space.{}".format
)
def test_a_spaces_twin_takes_what_the_call_takes(name):
    assert parameters_of(happen.Space, f"a{name}") == parameters_of(happen.Space, name)


def parameters_of(kind, name):
    return inspect.signature(getattr(kind, name)).parameters


def test_a_condition_is_waited_for_ten_seconds_by_default():
    assert parameters_of(happen.State, "wait_for")["timeout"].default == 10.0


def test_a_new_space_keeps_a_thousand_commits_and_events_for_seven_days(space):
    info = space._session.info

    assert (info.history, timedelta(seconds=info.event_ttl), info.replicas) == (1000, timedelta(days=7), 1)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (happen.CancelledHandlingError, RuntimeError),
        (happen.CausalLoopError, RecursionError),
        (happen.ClosedError, RuntimeError),
        (happen.DeadlockError, RuntimeError),
        (happen.EventTypeError, ValueError),
        (happen.ForkedError, RuntimeError),
        (happen.FrozenStateError, TypeError),
        (happen.HandlerError, RuntimeError),
        (happen.HappenConnectionError, ConnectionError),
        (happen.HappenTimeoutError, TimeoutError),
        (happen.HistoryGoneError, LookupError),
        (happen.IdTakenError, ValueError),
        (happen.InvalidNameError, ValueError),
        (happen.NoHandlerError, LookupError),
        (happen.NotStoredError, TimeoutError),
        (happen.OutcomeUnknownError, TimeoutError),
        (happen.PathError, ValueError),
        (happen.PatternError, ValueError),
        (happen.PayloadError, ValueError),
        (happen.PendingError, ValueError),
        (happen.ReplyLostError, RuntimeError),
        (happen.ServerError, RuntimeError),
        (happen.SpaceInUseError, RuntimeError),
        (happen.SpaceNotEmptyError, ValueError),
        (happen.StateError, ValueError),
        (happen.TooLargeError, ValueError),
        (happen.TransformError, RuntimeError),
        (happen.UnknownEventError, LookupError),
        (happen.UnknownHandlerError, ValueError),
        (happen.UnknownNodeError, KeyError),
        (happen.UnknownRevisionError, ValueError),
    ],
    ids=lambda kind: kind.__name__,
)
def test_every_error_is_a_happen_error_and_the_builtin_that_fits(error, builtin):
    assert issubclass(error, happen.HappenError)
    assert issubclass(error, builtin)


def test_there_is_no_error_that_the_builtin_test_forgets():
    errors = {getattr(happen, name) for name in happen.__all__ if name.endswith("Error")}
    marks = test_every_error_is_a_happen_error_and_the_builtin_that_fits.pytestmark
    assert errors - {error for error, _ in marks[0].args[1]} == {happen.HappenError}
