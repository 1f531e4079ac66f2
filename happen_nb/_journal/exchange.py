"""Messages that processes exchange over core NATS and nobody stores: questions, answers and replies.

Any client may have sent them. Each decoder raises one of `fields.UNREADABLE` for what it cannot read, and
ignores members that it does not know.
"""

from __future__ import annotations

from typing import Any, Final

from happen_nb._journal import fields
from happen_nb._model.freeze import dumps, freeze

STATES: Final = frozenset(("accepted", "done", "failed"))
"""The states of a reply."""
_PARTS: Final = ("node", "error", "remote_traceback")


def encode(message: dict[str, Any]) -> bytes:
    """A message as JSON."""
    return dumps(freeze(message))


def decode_question(data: bytes) -> dict[str, Any]:
    """A question to a live process; known members of another type are left out."""
    question = fields.mapping(fields.read_json(data)) if data else {}
    for name in ("send", "cancel", "from"):
        if not isinstance(question.get(name, ""), str):
            del question[name]
    if "events" in question:
        question["events"] = fields.texts(question["events"])
    return question


def decode_answer(question: dict[str, Any], data: bytes) -> dict[str, Any]:
    """What a live process answers to a question."""
    answer = fields.mapping(fields.read_json(data))
    if not isinstance(answer.get("by", ""), str):
        del answer["by"]
    if "events" in question:
        position, open = fields.natural(answer.get("position")), fields.array(answer.get("open"))
        return {**answer, "position": position, "open": fields.texts(open)}
    return {**answer, "waiters": fields.natural(answer.get("waiters"), 0)}


def decode_reply(id: str, reply: Any) -> dict[str, Any]:
    """The reply to an event with this id, from JSON that was read; its values are frozen.

    Of a failure there are always ``kind``, ``message`` and the three texts of ``trace``.
    """
    reply = fields.mapping(reply)
    state = reply.get("state")
    if not isinstance(state, str) or state not in STATES:
        raise ValueError(f'"state" is {_shown(state)}; it is one of {", ".join(sorted(STATES))}')
    found: dict[str, Any] = {"event": id, "state": state}
    if reply.get("by") is not None:
        found["by"] = _text(reply, "by")
        if not fields.is_name(found["by"]):
            raise ValueError(f'"by" is {_shown(found["by"])}, which cannot be the name of a process')
    if reply.get("progress") is not None:
        if not isinstance(reply["progress"], list):
            raise TypeError(f'"progress" is {fields.kind_of(reply["progress"])}, not an array of values')
        found["progress"] = _frozen(reply, "progress")
    if state == "done":
        found["value"] = _frozen(reply, "value")
    elif state == "failed":
        found["kind"] = _text(reply, "kind", "HandlerError")
        found["message"] = _text(reply, "message", "the handler failed")
        found["trace"] = _trace(reply.get("trace"))
    return found


def _trace(trace: Any) -> dict[str, str]:
    """Where it failed: a mapping, only the text of a traceback, or nothing."""
    if trace is None or isinstance(trace, str):
        trace = {"remote_traceback": trace}
    if not isinstance(trace, dict):
        raise TypeError(f'"trace" is {fields.kind_of(trace)}, not an object or a string')
    return {part: _text(trace, part, "") for part in _PARTS}


def _text(members: dict[str, Any], name: str, default: str | None = None) -> str:
    value = members.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise TypeError(f'"{name}" is {fields.kind_of(value)}, not a string')
    return value


def _frozen(members: dict[str, Any], name: str) -> Any:
    return freeze(members.get(name), what=f'"{name}"', error=ValueError)


def _shown(value: Any) -> str:
    return f'"{value[:80]}"' if isinstance(value, str) else fields.kind_of(value)
