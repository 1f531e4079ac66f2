"""Whatever another client stores or sends in a space, connected and new processes keep working."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import happen_nb as happen
from happen_nb._journal import wire
from tests.journal import garbage
from tests.journal.raw import Raw

log = logging.getLogger(__name__)

CONNECT = """
import sys, happen_nb
with happen_nb.connect(sys.argv[1], token=sys.argv[2], name=sys.argv[3], timeout=20) as space:
    assert space.views["good"].get("a") == 1
    space.events(), space.journal(), space.unhandled, space.timeline(), space.graph()
    node = space.create_node("late")
    node.on("to.late", lambda event: "handled")
    print(space.send("late", "to.late").result(20), node.state.set({"b": 1}).revision)
"""


@pytest.fixture
def good(space):
    """A node with a state and a handler, and an event that it has handled."""
    good = space.create_node("good", initial={"a": 1})
    good.on("to.good", lambda event: event.payload)
    good.on("**", lambda event: None)
    return good


@pytest.fixture
def raw(space):
    with Raw(space.server.url, space.server.token) as client:
        yield client


def block(headers):
    """Headers as a client library writes them."""
    lines = [f"{name}: {value}".replace("\r", " ").replace("\n", " ") for name, value in headers.items()]
    return ("NATS/1.0\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode(errors="surrogatepass")


def check(space, good, first):
    """Everything that the library offers still works."""
    assert good.state.set(happen.put("count", lambda n: (n or 0) + 1)).changed
    assert space.send("good", "to.good", "ping", timeout=20).result() == "ping"
    assert good.state.get("a", fresh=True) == 1
    readings = [
        space,
        space.events(),
        space.journal(),
        space.unhandled,
        space.trace(first),
        space.views,
        space.views.good,
        space.failures,
        space.at(first),
        good,
        good.state.history(),
    ]
    for reading in readings:
        repr(reading)
        reading._repr_mimebundle_()
    space.events().to_frame()
    space.journal().to_frame()
    assert first.handled_by
    assert first.settle(20)
    space.timeline()
    space.graph()
    space.dashboard().close()
    assert {"good"} <= set(space.views)
    for view in space.views.values():
        repr(view)
        view._repr_mimebundle_()


def check_new_process(space):
    """A process that connects afterwards can work too."""
    arguments = [space.server.url, space.server.token, space.name]
    done = subprocess.run(
        [sys.executable, "-c", CONNECT, *arguments], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.stdout.split() == ["handled", "1"], done.stderr
    assert "Traceback" not in done.stderr


def stored(space):
    """Messages on the stored subjects of a space: subject, header block, body."""
    subjects = space._log.subjects
    state, event = subjects.state_prefix + "bad", subjects.event_prefix + "x.e1.t"
    owners = st.sampled_from(["bad", "n", "a.b", "<i>"]).map(lambda node: subjects.owner_prefix + node)
    none = st.none()
    in_events = garbage.texts(garbage.EVENTS).map(lambda text: block({wire.EVENT: text}))
    riding = garbage.texts(st.lists(garbage.RIDING, max_size=2)).map(
        lambda text: block({wire.COMMIT: "f-1 1 0", wire.EVENTS: text})
    )
    return st.one_of(
        st.tuples(st.just(state), none | riding, garbage.bodies(garbage.VALUES)),
        st.tuples(st.just(event), in_events, garbage.bodies(garbage.VALUES)),
        st.tuples(owners, none, garbage.bodies(garbage.OWNERS)),
        st.tuples(
            st.just(subjects.handled_prefix + "zzz"),
            none,
            garbage.bodies(st.lists(garbage.HANDLINGS, max_size=3)),
        ),
        st.tuples(st.just(subjects.clear), none, garbage.bodies(st.lists(garbage.OWNERS, max_size=2))),
        st.tuples(st.just(subjects.rest_prefix + "strange.kind"), in_events, garbage.bodies(garbage.VALUES)),
    )


def sent(space):
    """Messages that nobody stores."""
    log = space._log
    live, reply = log.subjects.live_prefix, log.subjects.reply_prefix
    return st.one_of(
        st.tuples(st.just(log.subjects.who), st.none(), garbage.bodies(garbage.VALUES)),
        st.tuples(st.just(live + log.incarnation), st.none(), garbage.bodies(garbage.QUESTIONS)),
        st.tuples(st.just(reply + log.address), st.none(), garbage.bodies(garbage.REPLIES)),
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", [8, pytest.param(200, marks=pytest.mark.soak)])
def test_a_space_survives_any_garbage(space, good, raw, capfd, rounds):
    first = good.broadcast("first")
    first.settle(20)

    once = [Phase.generate]  # the space keeps what was stored, so nothing can be tried again

    @settings(max_examples=rounds, deadline=None, phases=once, suppress_health_check=list(HealthCheck))
    @given(st.lists(stored(space) | sent(space), min_size=5, max_size=12))
    def survive(messages):
        for subject, headers, body in messages:
            raw.publish(
                subject.encode(), body[:500_000], headers if headers and len(headers) < 60_000 else None
            )
        raw.flush()
        check(space, good, first)

    survive()
    check_new_process(space)
    assert "Traceback" not in capfd.readouterr().err


UNUSUAL = [
    ("a subject that is not UTF-8", b"\xff\xfe", b""),
    ("a status line", b"bad", b"NATS/1.0 503\r\n\r\n"),
    ("a status that is not UTF-8", b"bad", b"NATS/1.0 \xff\xff\r\nA: b\r\n\r\n"),
    ("a status header", b"bad", b"NATS/1.0\r\nStatus: 100\r\n\r\n"),
    ("a stalled consumer", b"bad", b"NATS/1.0\r\nNats-Consumer-Stalled: \xff\r\n\r\n"),
    ("a block without an end", b"bad", b"NATS/1.0"),
    ("headers that are not UTF-8", b"bad", b"NATS/1.0\r\n\xff\xff: \xff\r\n:\r\n\r\n"),
    ("another protocol", b"bad", b"GET / HTTP/1.1\r\n\r\n"),
]
ON_EVENTS = [
    ("no responders", b"NATS/1.0\r\nStatus: 503\r\n"),
    ("a sequence", b"NATS/1.0\r\nNats-Sequence: x\r\nNats-Time-Stamp: y\r\n"),
]


def test_messages_that_no_client_library_sends_stop_nobody(space, good, raw, capfd):
    first = good.broadcast("first")
    first.settle(20)
    subjects = space._log.subjects

    def send(prefixes, name, headers, body=b'{"a": 1}'):
        for prefix in prefixes:
            raw.publish(prefix.encode() + name, body, headers or None)
        for prefix in (subjects.live_prefix, subjects.reply_prefix):
            raw.publish(prefix.encode() + space._log.incarnation.encode(), b"{}", headers or None)
        raw.flush()
        check(space, good, first)
        assert "Traceback" not in capfd.readouterr().err

    for what, name, headers in UNUSUAL:
        log.info("%s", what)
        send((subjects.state_prefix, subjects.event_prefix, subjects.owner_prefix), name, headers)
    for number, (what, headers) in enumerate(ON_EVENTS):
        log.info("%s on an event", what)
        event = json.dumps({"id": f"e{number}", "type": "odd", "sender": "x"}).encode()
        ours = headers + wire.EVENT.encode() + b": " + event + b"\r\n\r\n"
        send([subjects.event_prefix], b"x.e%d.odd" % number, ours, b"1")
        assert space.events("odd")[-1].id == f"e{number}"
    check_new_process(space)
    assert "Traceback" not in capfd.readouterr().err


def test_an_owner_record_that_names_no_process_leaves_the_node_to_the_next_one(space, good, raw):
    subject = space._log.subjects.owner_prefix.encode() + b"good"
    raw.store(subject, b'{"node": "good", "incarnation": 5}')
    other = space.create_node("other")
    other.on("ask", lambda event: space.send("good", "to.good", "pong").result(20))
    assert space.send("other", "ask").result(20) == "pong"


def test_patterns_that_are_none_do_not_hide_what_is_unhandled(space, raw):
    body = {**garbage.OWNER, "node": "bad", "patterns": ["\x1b", "{a", "a\nb", "", 5, "ordr.*"]}
    raw.store(space._log.subjects.owner_prefix.encode() + b"bad", json.dumps(body).encode())
    space.broadcast("order.paid")
    (unhandled,) = space.unhandled
    assert unhandled.nearest == "ordr.*"


def test_a_handling_that_cannot_be_read_hides_no_other(space, good, raw):
    first = good.broadcast("first")
    first.settle(20)
    before = first.handled_by
    odd = [[first.id, "n", "f", "done", "x", None, 1], [first.id, {"a": 1}, "f", "done", 0.1, None, 1], 7]
    raw.store(space._log.subjects.handled_prefix.encode() + b"zzz", json.dumps(odd).encode())
    assert first.handled_by == before
    assert repr(space.trace(first))


def test_a_fork_leaves_out_what_nobody_can_read_and_names_it(space, good, raw, caplog):
    prefix = space._log.subjects.state_prefix.encode()
    raw.publish(prefix + b"broken", b"[1]")
    raw.publish(prefix + b"huge", b'{"n": 18446744073709551616}')
    raw.store(prefix + b"a.b.c", b'{"a": 1}')
    fork = space.fork(f"{space.name[:50]}-fork")
    assert dict(fork.views["good"].get()) == {"a": 1}
    assert list(fork.views) == ["good"]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    for name in ("broken", "huge", "a.b.c"):
        assert any(name in warning for warning in warnings), name
    with pytest.raises(happen.StateError, match=r"above 2\*\*64"):
        space.views.huge.get()
    fork.drop()


def test_a_commit_whose_step_has_an_endless_number_is_applied(space, good, raw):
    headers = block({wire.COMMIT: "f-1 9 0", wire.KEY: f"0123456789abcdef.{'9' * 5_000}"})
    raw.store(space._log.subjects.state_prefix.encode() + b"good", b'{"a": 1, "b": 2}', headers)
    assert good.state.get("b", fresh=True) == 2


def test_positions_that_fit_into_no_header_are_not_carried_on(space, good, raw):
    good.state.on("count", lambda state, event: {**state, "count": event.payload})
    position = good.state.set(happen.put("b", 1))._record.sequence
    body = json.dumps({"base": position, "handled": f"{'k' * 70_000}=1.0"}).encode()
    raw.store(space._log.subjects.passed_prefix.encode() + b"good", body)
    assert good.state.set(happen.put("b", 2)).changed
    good.broadcast("count", 1).settle(20)
    assert good.state.get("count") == 1
