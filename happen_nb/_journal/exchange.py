"""Messages that processes exchange over core NATS, without storing them: questions, answers and replies.

Any client may have sent them. Each decoder raises one of `fields.UNREADABLE` for a message that it
cannot read, and ignores unknown members.
"""

from __future__ import annotations

from typing import Any, Final

from happen_nb._journal import fields
from happen_nb._model.arguments import is_name
from happen_nb._model.freeze import dumps, freeze

STATES: Final = frozenset(("accepted", "done", "failed"))  # the states of a reply
_TRACE_MEMBERS: Final = ("node", "error", "remote_traceback")


def encode(message: dict[str, Any]) -> bytes:
    """Encode a message as JSON."""
    return dumps(freeze(message))


def decode_question(data: bytes) -> dict[str, Any]:
    """Decode a question to a live process; known members of another type are left out."""
    question = fields.of_type(fields.read_json(data), dict) if data else {}
    for name in ("send", "cancel", "from"):
        if not isinstance(question.get(name, ""), str):
            del question[name]
    if "events" in question:
        question["events"] = fields.texts(question["events"])
        for name in ("position", "wait"):
            question[name] = fields.natural(question.get(name), 0)
    return question


def decode_answer(question: dict[str, Any], data: bytes) -> dict[str, Any]:
    """Decode a live process's answer to a question."""
    answer = fields.of_type(fields.read_json(data), dict)
    if not isinstance(answer.get("by", ""), str):
        del answer["by"]
    if "events" in question:
        position, open = fields.natural(answer.get("position")), fields.of_type(answer.get("open"), list)
        return {**answer, "position": position, "open": fields.texts(open)}
    return {**answer, "waiters": fields.natural(answer.get("waiters"), 0)}


def decode_reply(id: str, reply: Any) -> dict[str, Any]:
    """Decode the reply to the event with this id from parsed JSON; its values are frozen.

    A failure always has ``kind``, ``message`` and the three texts of ``trace``.
    """
    reply = fields.of_type(reply, dict)
    state = reply.get("state")
    if not isinstance(state, str) or state not in STATES:
        raise ValueError(f'"state" is {_quoted(state)}; it is one of {", ".join(sorted(STATES))}')
    found: dict[str, Any] = {"event": id, "state": state}
    if reply.get("by") is not None:
        found["by"] = _text(reply, "by")
        if not is_name(found["by"]):
            raise ValueError(f'"by" is {_quoted(found["by"])}, which cannot be the name of a process')
    if reply.get("progress") is not None:
        if not isinstance(reply["progress"], list):
            raise TypeError(f'"progress" is {fields.kind_of(reply["progress"])}, not an array of values')
        found["progress"] = _frozen(reply, "progress")
    if state == "done":
        found["value"] = _frozen(reply, "value")
    elif state == "failed":
        found["kind"] = _text(reply, "kind", "HandlerError")
        found["message"] = _text(reply, "message", "the handler failed")
        trace = reply.get("trace")
        if trace is None or isinstance(trace, str):  # absent, or only the text of a traceback
            trace = {"remote_traceback": trace}
        if not isinstance(trace, dict):
            raise TypeError(f'"trace" is {fields.kind_of(trace)}, not an object or a string')
        found["trace"] = {member: _text(trace, member, "") for member in _TRACE_MEMBERS}
    return found


def _text(members: dict[str, Any], name: str, default: str | None = None) -> str:
    value = members.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise TypeError(f'"{name}" is {fields.kind_of(value)}, not a string')
    return value


def _frozen(members: dict[str, Any], name: str) -> Any:
    return freeze(members.get(name), what=f'"{name}"', error=ValueError)


def _quoted(value: Any) -> str:
    return f'"{value[:80]}"' if isinstance(value, str) else fields.kind_of(value)
