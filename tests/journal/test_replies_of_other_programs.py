"""Replies that another program sends: each is a result, an error, or a clear error at once."""

from __future__ import annotations

import json
import logging

import pytest

import happen_nb as happen
from tests.journal.foreign import ForeignOwner


@pytest.fixture
def owner(space):
    with ForeignOwner(space, "far") as owner:
        yield owner


@pytest.fixture
def send(space, owner, until):
    """Send to the foreign node; returns the reply when its owner is known here."""
    until(lambda: space._runtime.ownership.owner_of("far") is not None)
    return lambda timeout=20.0: space.send("far", "work", {"n": 1}, timeout=timeout)


def message(reply, **members):
    return json.dumps({"event": reply.event.id, **members}).encode()


def test_progress_then_a_result(owner, send):
    reply = send()
    owner.reply(reply.event, message(reply, state="accepted"))
    owner.reply(reply.event, message(reply, state="accepted", progress=[1, {"done": 2}], by="f0f0f0f0f0f0"))
    owner.reply(reply.event, message(reply, state="done", value={"größe": [1, None]}, later=5))
    assert list(reply) == [1, {"done": 2}]
    assert reply.result() == {"größe": [1, None]}


def test_done_without_a_value_is_none(owner, send):
    reply = send()
    owner.reply(reply.event, message(reply, state="done"))
    assert reply.result() is None


@pytest.mark.parametrize(
    ("members", "trace"),
    [
        ({}, ""),
        ({"trace": None}, ""),
        ({"trace": "at work.js:7"}, "at work.js:7"),
        ({"trace": {"remote_traceback": "at work.js:7", "more": 1}}, "at work.js:7"),
        ({"kind": "SomethingNew"}, ""),
    ],
)
def test_a_failure_with_or_without_a_trace(owner, send, members, trace):
    reply = send()
    owner.reply(reply.event, message(reply, state="failed", message="out of stock", **members))
    with pytest.raises(happen.HandlerError, match="out of stock") as raised:
        reply.result()
    assert raised.value.remote_traceback == trace


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("NoHandlerError", happen.NoHandlerError),
        ("DeadlockError", happen.DeadlockError),
        ("PayloadError", happen.PayloadError),
    ],
)
def test_the_kinds_of_a_failure(owner, send, kind, error):
    reply = send()
    owner.reply(reply.event, message(reply, state="failed", kind=kind, message="no"))
    with pytest.raises(error, match=r"^no$"):
        reply.result()


UNREADABLE = [
    ({}, "state"),
    ({"state": "finished"}, 'state" is "finished"'),
    ({"state": ["done"]}, "state"),
    ({"state": "done", "by": 7}, 'by" is a number'),
    ({"state": "done", "by": "a.b"}, "name of a process"),
    ({"state": "accepted", "progress": 5}, 'progress" is a number, not an array'),
    ({"state": "failed", "message": ["no"]}, 'message" is an array, not a string'),
    ({"state": "failed", "trace": [1]}, 'trace" is an array'),
    ({"state": "failed", "trace": {"error": 1}}, 'error" is a number'),
    ({"state": "done", "value": json.loads("[" * 230 + "]" * 230)}, "too deep"),
]


@pytest.mark.parametrize(("members", "problem"), UNREADABLE)
@pytest.mark.parametrize("way", ["reply", "answer"])
def test_a_reply_that_cannot_be_read_is_an_error_at_once(owner, send, caplog, capfd, members, problem, way):
    caplog.set_level(logging.INFO, "happen_nb")
    reply = send()
    if way == "reply":
        owner.reply(reply.event, message(reply, **members))
    else:
        owner.answer = json.dumps({"send": members}).encode()
    with pytest.raises(happen.HandlerError, match="cannot be read") as raised:
        reply.result()
    assert problem in str(raised.value)
    assert "far" in str(raised.value)
    assert any(problem in record.getMessage() for record in caplog.records)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"done", b"[]", b'{"event": 5, "state": "done"}', b'{"n": 1' + b"0" * 30 + b"}"]
)
def test_what_names_no_event_is_logged_and_the_next_reply_counts(owner, send, caplog, capfd, until, body):
    caplog.set_level(logging.INFO, "happen_nb")
    reply = send()
    owner.answer = body
    until(lambda: owner.asked(reply.event) > 0)
    owner.reply(reply.event, body)
    owner.reply(reply.event, message(reply, state="done", value=7))
    assert reply.result() == 7
    assert any("cannot be read" in record.getMessage() for record in caplog.records)
    assert "Traceback" not in capfd.readouterr().err


def test_a_sender_stops_asking_after_its_timeout_and_asks_again_when_somebody_waits(owner, send, until):
    first, second = send(timeout=0.3), send(timeout=60)
    with pytest.raises(happen.HappenTimeoutError):
        first.result()
    until(lambda: owner.asked(second.event) > owner.asked(first.event) + 1)
    before = owner.asked(first.event), owner.asked(second.event)
    until(lambda: owner.asked(second.event) >= before[1] + 5)
    assert owner.asked(first.event) <= before[0] + 1

    owner.answer = json.dumps({"send": {"state": "done", "value": "late"}}).encode()
    assert first.result(20) == "late"


def test_a_question_that_cannot_be_read_is_answered_or_logged(space, until, caplog, capfd):
    caplog.set_level(logging.INFO, "happen_nb")
    node = space.create_node("near")
    node.on("ask", lambda event: "here")
    with ForeignOwner(space, "far") as client:
        subject = f"_happen.{space.name}.live.{space._log.incarnation}"
        for body in (
            b"\xff",
            b"[1]",
            b"[" * 100_000,
            b'{"send": [1], "cancel": {}, "events": "x", "from": 5}',
        ):
            client._run(client._publish(subject, body))
        answer = client._run(client._client.request(subject, b'{"from": "x"}', timeout=30))
        assert json.loads(answer.data)["waiters"] >= 1
    assert sum("a question on" in record.getMessage() for record in caplog.records) == 3
    assert space.send("near", "ask").result(20) == "here"
    assert "Traceback" not in capfd.readouterr().err
