"""Errors that depend on stored or running things derive from HappenError and the built-in that fits."""

import pickle

import pytest

import happen_nb as happen
from happen_nb import errors

CASES = {
    "id taken": (lambda space, node: node.broadcast("x", 2, id="q"), happen.IdTakenError, ValueError),
    "fork target": (lambda space, node: space.fork(space.name), happen.SpaceNotEmptyError, ValueError),
    "at": (lambda space, node: node.state.at(99), happen.UnknownRevisionError, LookupError),
    "at as a value": (lambda space, node: node.state.at(99), happen.UnknownRevisionError, ValueError),
    "revert": (lambda space, node: node.state.revert(99), happen.UnknownRevisionError, ValueError),
    "at of a new node": (
        lambda space, node: space.create_node("new").state.at(1),
        happen.UnknownRevisionError,
        ValueError,
    ),
    "trace": (lambda space, node: space.trace("nope"), happen.UnknownEventError, LookupError),
    "off": (lambda space, node: node.off("zz"), happen.UnknownHandlerError, ValueError),
    "view": (lambda space, node: space.views["nope"], happen.UnknownNodeError, KeyError),
    "nodes": (lambda space, node: space.nodes["nope"], happen.UnknownNodeError, KeyError),
    "send": (lambda space, node: space.send("nope", "x").result(5), happen.NoHandlerError, LookupError),
    "timeout": (lambda space, node: space.wait_for("x", timeout=0), happen.HappenTimeoutError, TimeoutError),
}


@pytest.mark.parametrize(("call", "kind", "builtin"), CASES.values(), ids=CASES)
def test_it_is_both(space, call, kind, builtin):
    node = space.create_node("orders", initial={"n": 0})
    node.broadcast("x", 1, id="q")
    with pytest.raises(kind) as raised:
        call(space, node)
    assert isinstance(raised.value, happen.HappenError)
    assert isinstance(raised.value, builtin)


@pytest.mark.parametrize("use", ["since", "at", "settle", "journal"])
def test_a_pending_event_is_a_pending_error(space, use):
    node, kept = space.create_node("orders"), []
    node.state.set(lambda state: kept.append(node.broadcast("x")) or state)
    calls = {
        "since": lambda event: space.events(since=event),
        "at": space.at,
        "settle": lambda event: event.settle(),
        "journal": lambda event: space.journal(since=event),
    }
    kept.clear()

    def raising(state):
        kept.append(node.broadcast("x"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        node.state.set(raising)
    with pytest.raises(happen.PendingError, match="pending") as raised:
        calls[use](kept[0])
    assert isinstance(raised.value, ValueError)


WRONG = {
    "id": lambda space, node: node.broadcast("x", id="a b"),
    "both": lambda space, node: happen.connect("nats://localhost", store="x"),
    "occurred": lambda space, node: node.broadcast("x", occurred="never"),
    "parameters": lambda space, node: node.on("x", lambda a, b, c: None),
    "speed": lambda space, node: space.replay([{"a": 1}], type="x", speed=0),
    "by": lambda space, node: space.timeline(by="x"),
    "handler": lambda space, node: node.on("x", 5),
    "revision": lambda space, node: node.state.at(-1),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_a_wrong_argument_is_no_error_of_the_library(space, call):
    with pytest.raises((TypeError, ValueError)) as raised:
        call(space, space.create_node("orders"))
    assert not isinstance(raised.value, happen.HappenError)


def test_every_class_is_public_has_a_fix_and_survives_pickle():
    classes = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    for kind in classes:
        assert kind.__name__ in happen.__all__
        assert issubclass(kind, happen.HappenError)
        assert kind is happen.HappenError or "Fix:" in kind.__doc__
        assert kind.__name__ in errors.__doc__
        assert str(pickle.loads(pickle.dumps(kind("what")))) == "what"


def test_the_state_of_a_node_is_read_only(space):
    node = space.create_node("orders", initial={"open": 1, "a": {"b": 2}})
    changes = [
        lambda: setattr(node, "state", {"open": 2}),
        lambda: delattr(node, "state"),
        lambda: setattr(node.state, "open", 2),
        lambda: delattr(node.state, "open"),
        lambda: node.state.__setitem__("open", 2),
        lambda: node.state.__delitem__("open"),
    ]
    for change in changes:
        with pytest.raises((AttributeError, TypeError), match=r"state\.set|node\.delete") as raised:
            change()
        assert "orders" in str(raised.value)
    assert node.state.get() == {"open": 1, "a": {"b": 2}}


def test_a_node_keeps_its_name(space):
    node = space.create_node("orders")
    with pytest.raises(AttributeError, match=r'^node "orders" keeps its name'):
        node.name = "stock"
    assert node.name == "orders"


def test_a_state_reads_by_its_items(space):
    node = space.create_node("orders", initial={"open": 1, "a": {"b": 2}})
    assert node.state["open"] == 1
    assert node.state["a.b"] == node.state["a", "b"] == 2
    assert node.state["nope"] is None
    with pytest.raises(TypeError):
        iter(node.state)
