"""The contract: every name with its parameters, their kinds and their defaults."""

from __future__ import annotations

import asyncio
import inspect
from datetime import timedelta

import ipywidgets
import pytest

import happen_nb as happen

CONNECT = (
    'servers=None, *, name="default", store=None, fresh=False, receipts=False, token=None, user=None, '
    "password=None, credentials=None, tls=None, replicas=1, history=1000, event_ttl=timedelta(days=7), "
    'sync="default", timeout=None, clock=None, now=None'
)
BROADCAST = "type, payload=None, *, id=None, occurred=None, after=None, at=None"
SEND = "target, type, payload=None, *, timeout=30.0, after=None, at=None"
ADVANCE = "by=None, *, to=None, timeout=60.0, **parts"
EVENTS = 'pattern="**", *, since=None, limit=None'
SEQUENCE = "event=None, *, since=None, limit=10, times=True, merge=True, width=None"
RECORD = "path=None, *, since=None, until=None, title=None, code=True, hide=()"
WAIT_FOR = "pattern, where=None, *, since=None, timeout=10.0"

CALLS = [
    ("happen.connect", CONNECT),
    ("happen.aconnect", CONNECT),
    ("happen.current", ""),
    ("happen.create_node", "name, *, initial=None"),
    ("happen.acreate_node", "name, *, initial=None"),
    ("happen.run", "coroutine"),
    ("happen.spaces", ""),
    ("happen.aspaces", ""),
    ("happen.draft", "edit"),
    ("happen.put", "path, value_or_function"),
    ("happen.compose", "*transforms"),
    ("happen.event", 'type, payload=None, *, sender="notebook", target=None, id=None, occurred=None'),
    ("happen.emitted", ""),
    ("happen.bind", 'widget, node, path, *, trait="value"'),
    ("happen.Result", "value"),
    ("space.create_node", "name, *, initial=None"),
    ("space.acreate_node", "name, *, initial=None"),
    ("space.broadcast", BROADCAST),
    ("space.abroadcast", BROADCAST),
    ("space.send", SEND),
    ("space.asend", SEND),
    ("space.cancel", "event_or_id"),
    ("space.acancel", "event_or_id"),
    ("space.advance", ADVANCE),
    ("space.aadvance", ADVANCE),
    ("space.settle", "timeout=10.0"),
    ("space.asettle", "timeout=10.0"),
    ("space.wait_for", WAIT_FOR),
    ("space.await_for", WAIT_FOR),
    ("space.events", EVENTS),
    ("space.aevents", EVENTS),
    ("space.journal", "*, since=None, limit=None"),
    ("space.ajournal", "*, since=None, limit=None"),
    ("space.at", "when"),
    ("space.aat", "when"),
    ("space.replay", 'rows, *, type=None, time=None, sender="notebook", speed=None, nan=None'),
    ("space.sequence", SEQUENCE),
    ("space.asequence", SEQUENCE),
    ("space.record", RECORD),
    ("space.arecord", RECORD),
    ("happen.recorded", "path"),
    ("space.clear", "*, force=False"),
    ("space.aclear", "*, force=False"),
    ("space.fork", "name, *, at=None, handlers=False"),
    ("space.afork", "name, *, at=None, handlers=False"),
    ("space.drop", ""),
    ("space.adrop", ""),
    ("space.aunhandled", ""),
    ("space.timeline", 'pattern="**", *, nodes=None, since=None, limit=2000, by="time"'),
    ("space.graph", ""),
    ("space.trace", "event, *, times=False"),
    ("space.atrace", "event, *, times=False"),
    ("space.dashboard", ""),
    ("space.close", ""),
    ("space.aclose", ""),
    ("space.views.collect", "selectors, *, default=MISSING"),
    ("node.broadcast", BROADCAST),
    ("node.abroadcast", BROADCAST),
    ("node.send", SEND),
    ("node.asend", SEND),
    ("node.cancel", "event_or_id"),
    ("node.every", "seconds, handler=None, *, id=None"),
    ("node.state.every", "seconds, transform=None, *, id=None"),
    ("node.acancel", "event_or_id"),
    ("node.off", "function_or_pattern"),
    ("node.delete", ""),
    ("node.adelete", ""),
    ("node.state.get", "selector=None, *, fresh=False"),
    ("node.state.aget", "selector=None, *, fresh=False"),
    ("node.state.set", "transform, *, serializable=False, timeout=None"),
    ("node.state.aset", "transform, *, serializable=False, timeout=None"),
    ("node.state.history", "limit=None"),
    ("node.state.ahistory", "limit=None"),
    ("node.state.at", "when"),
    ("node.state.aat", "when"),
    ("node.state.revert", "revision"),
    ("node.state.arevert", "revision"),
    ("node.state.watch", "callback"),
    ("node.state.wait_for", "predicate, timeout=10.0"),
    ("node.state.await_for", "predicate, timeout=10.0"),
    ("node.state.live", "selector=None, *, render=None"),
    ("view.get", "selector=None"),
    ("view.live", "selector=None, *, render=None"),
    ("event.settle", "timeout=10.0"),
    ("event.asettle", "timeout=10.0"),
    ("event.cancel", ""),
    ("event.acancel", ""),
    ("events.to_frame", "*, flatten=True"),
    ("journal.to_frame", "*, flatten=False"),
    ("history.to_frame", "*selectors, **named"),
    ("history.plot", '*selectors, x="time", **named'),
    ("reply.result", "timeout=None"),
    ("reply.cancel", ""),
    ("replay.stop", ""),
    ("replay.wait", ""),
    ("watch.stop", ""),
    ("binding.stop", ""),
    ("failures.retry", "node=None"),
    ("failures.clear", ""),
    ("failures.to_frame", ""),
    ("failure.retry", ""),
    ("unhandled.retry", "node=None"),
    # what lets handlers run in threads, and keeps both of two functions of one name
    ("happen.carry", "function"),
    ("node.on", "pattern, handler=None, *, where=None, retries=0, backoff=0.5, keep=False"),
]

ATTRIBUTES = {
    "space": "name nodes views failures unhandled server __enter__ __exit__ __aenter__ __aexit__",
    "space.server": "url token store running log pid",
    "node": "name space state handlers owner",
    "node.state": "revision __getitem__",
    "view": "revision",
    "commit": "node revision before after diff changed cause by time sequence",
    "history": "truncated",
    "event": (
        "type payload id sender cause correlation path time occurred sequence handled_by repeated pending"
    ),
    "reply": "done progress __iter__ __aiter__ __await__",
    "context": "node space views event attempt",
    "failure": "event node handler exception traceback attempts",
    "unhandled_event": "event reason nearest",
}


@pytest.fixture(scope="module")
def things(store, _server):
    """One of everything that a user holds."""
    with happen.connect(store=store, name="surface") as space:
        node = space.create_node("orders", initial={"open": 1})

        @node.on("order.*")
        def fail(event, context):
            found["context"] = context
            raise ValueError("mine")

        node.on("question", lambda event: "answer")
        found = {"happen": happen, "space": space, "node": node, "view": space.views.orders}
        found["commit"] = node.state.set({"open": 2})
        found["event"] = node.broadcast("order.paid", {"id": "o1"})
        found["reply"] = node.send("orders", "question")
        found["replay"] = space.replay([{"n": 1}], type="row").wait()
        space.settle()
        found["watch"] = node.state.watch(print)
        found["binding"] = happen.bind(ipywidgets.IntSlider(), node, "open")
        found |= {"events": space.events(), "journal": space.journal(), "history": node.state.history()}
        found |= {"failures": space.failures, "failure": space.failures[0]}
        found |= {"unhandled": space.unhandled, "unhandled_event": space.unhandled[0]}
        yield found
        space.drop()


def look_up(things, path):
    first, *rest = path.split(".")
    thing = things[first]
    for name in rest:
        thing = getattr(thing, name)
    return thing


def parameters_of(call):
    """Name, kind and default of each parameter."""
    return {each.name: (each.kind, each.default) for each in inspect.signature(call).parameters.values()}


def test_every_call_takes_what_the_contract_says(things):
    names = {"timedelta": timedelta, "MISSING": happen.Views.collect.__kwdefaults__["default"]}
    for path, parameters in CALLS:
        expected = parameters_of(eval(f"lambda {parameters}: 0", names))
        actual = parameters_of(look_up(things, path))
        common = [(name, each) for name, each in actual.items() if name in expected]
        more = [default for name, (_, default) in actual.items() if name not in expected]

        assert common == list(expected.items()), path
        assert inspect.Parameter.empty not in more, path


def test_every_object_has_what_the_contract_says(things):
    for path, names in ATTRIBUTES.items():
        thing = look_up(things, path)

        assert [name for name in names.split() if not hasattr(thing, name)] == [], path


def _variants():
    """Each async variant with the call of which it is one."""
    paths = {path for path, _ in CALLS}
    for path in sorted(paths):
        owner, _, name = path.rpartition(".")
        call = f"{owner}.{name[1:]}"
        if name.startswith("a") and (call in paths or name == "aunhandled"):
            yield path, call


ASYNC = dict(_variants())


def test_every_call_that_waits_has_an_async_variant():
    """The list of the contract."""
    names = (
        "aconnect acreate_node aget aset arevert adelete ahistory aat abroadcast asend asettle await_for "
        "aevents ajournal aclose aclear afork adrop arecord asequence aspaces atrace aunhandled "
        "acancel aadvance"
    )
    assert {path.rpartition(".")[2] for path in ASYNC} == set(names.split())


def test_an_async_variant_takes_what_the_call_takes(things):
    for path, call_path in ASYNC.items():
        variant, call = look_up(things, path), look_up(things, call_path)

        assert inspect.iscoroutinefunction(variant), path
        if callable(call):  # and not a property
            assert not inspect.iscoroutinefunction(call), path
            assert parameters_of(variant) == parameters_of(call)
            assert inspect.getdoc(call), path
            assert inspect.getdoc(variant).startswith(f"Async variant of `{call.__name__}`")


def test_all_lists_only_what_is_there_and_in_order():
    assert [name for name in happen.__all__ if not hasattr(happen, name)] == []
    errors = happen.errors.__all__
    others = [name for name in happen.__all__ if name not in errors]
    assert (sorted(errors), sorted(others)) == (errors, others)
    assert len(happen.__all__) == len(errors) + len(others)
    assert {path.partition(".")[2] for path, _ in CALLS if path.startswith("happen.")} <= set(happen.__all__)


def test_a_new_space_keeps_a_thousand_commits_and_events_for_seven_days(space):
    info = space._log.info

    assert (info.history, timedelta(seconds=info.event_ttl), info.replicas) == (1000, timedelta(days=7), 1)


def test_help_shows_the_plain_defaults():
    shown = str(inspect.signature(happen.connect))

    for default in ("receipts: 'bool' = False", "replicas: 'int' = 1", "history: 'int' = 1000"):
        assert default in shown
    assert "event_ttl: 'timedelta' = datetime.timedelta(days=7)" in shown


def test_an_explicit_option_changes_what_is_stored_and_a_default_never_does(store):
    with happen.connect(store=store, name="kept", history=7, event_ttl=timedelta(hours=1)) as space:
        happen.connect(store=store, name="kept")
        assert (space._log.info.history, space._log.info.event_ttl) == (7, 3600)

        happen.connect(store=store, name="kept", history=1000)
        assert (space._log.info.history, space._log.info.event_ttl) == (1000, 3600)

        happen.connect(store=store, name="kept", event_ttl=timedelta(days=7))
        assert space._log.info.event_ttl == 7 * 86400
        space.drop()


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (happen.CancelledHandlingError, RuntimeError),
        (happen.CausalLoopError, RecursionError),
        (happen.ClockError, ValueError),
        (happen.PaceError, RuntimeError),
        (happen.ClosedError, RuntimeError),
        (happen.NondeterminismError, RuntimeError),
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


OF_OTHER_KINDS = "Space.advance", "Space.aadvance", "State.live_plot", "State.live"
"""Those that take any keyword, and one that several classes share."""


def test_an_argument_that_a_call_does_not_have_is_an_error_of_that_call(space):
    node, kinds = space.create_node("orders"), set()
    for owner in (space, node, node.state):
        for name in dir(type(owner)):
            kind = f"{type(owner).__name__}.{name}"
            if name.startswith("_") or not callable(getattr(type(owner), name)) or kind in OF_OTHER_KINDS:
                continue
            with pytest.raises(TypeError, match=rf"^{kind}\(\) got an unexpected keyword argument 'wrong'"):
                complete(getattr(owner, name)(wrong=True))
            kinds.add(kind)
    assert kinds > {"Space.drop", "Space.adrop", "Space.send", "Node.send", "State.aset", "Space.timeline"}
    with pytest.raises(
        TypeError, match=r"^connect\(\) takes from 0 to 1 positional arguments but 2 were given"
    ):
        happen.connect("name", "another")


def complete(call):
    if inspect.iscoroutine(call):
        asyncio.run(call)


@pytest.mark.parametrize("kind", [happen.Space, happen.Node])
def test_a_question_mark_after_a_property_shows_what_it_is(kind):
    properties = inspect.getmembers(kind, lambda member: isinstance(member, property))
    assert [name for name, each in properties if not (name.startswith("_") or each.__doc__)] == []
