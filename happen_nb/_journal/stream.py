"""The JetStream stream of a space: its configuration, and operations on it as a whole."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from happen_nb._journal.alarms import LOOK_BACK, Deliveries
from happen_nb._journal.client import server_error
from happen_nb._journal.consumer import StreamMessage, parse_direct, parse_ns, parse_stored, read
from happen_nb._journal.decoding import UNREAD, Clear, Handled, Item, decode, decode_plain_event, revision_of
from happen_nb._journal.encoding import encode_barrier, encode_clear
from happen_nb._journal.publish import RefusedError, store_messages
from happen_nb._journal.wire import EVENTS, HEADER_RESERVE_BYTES, KEY, POSITIONS, Message, Subjects
from happen_nb._model.positions import read_key
from happen_nb._model.records import CommitRecord, EventRecord, OwnerRecord
from happen_nb.errors import HappenError, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from happen_nb._journal.connection import Connection

logger = logging.getLogger("happen_nb")

DEFAULT_HISTORY = 1000
DEFAULT_EVENT_TTL_SECONDS = 7 * 24 * 3600
MAX_MESSAGES_PER_SUBJECT = 1_000_000  # the server's own limit, which trimming stays far below
MAX_HISTORY_BYTES = 64 * 1024 * 1024  # of old states that trimming leaves of a node, about
MIN_COMMIT_AGE_SECONDS = 60.0  # no commit is trimmed before, so that followers that lag still see it
TRIM_BATCH = 1000  # commits that are trimmed at once, at most
MAX_CHECKED_KEYS = 5_000  # nodes or scheduled events up to which a check of the stream lists them
UNFINISHED = "happen.unfinished"
TEMPORARY = "happen.temporary"
"""In the metadata of a stream that a fork still fills: the space that it copies."""
SCHEDULES = "happen.schedules"  # in the metadata of a stream in which an event was scheduled at some time
NO_MESSAGE = 10037
NOT_FOUND = 10059
NO_PEERS = 10005
NO_STORE = "error creating store for stream"
"""A description, since its code, 10049, is that of any failed creation."""
EXISTS_DIFFERENTLY = 10058


class Options(NamedTuple):
    """The limits of a space; None means the stored value, or the default for a new space."""

    history: int | None = None  # commits per node that are kept
    event_ttl: int | None = None  # seconds that events are kept
    replicas: int | None = None


class Info(NamedTuple):
    """The stream at one point in time."""

    created: str  # distinguishes a stream from one of the same name that was created later
    first: int
    last: int
    bytes: int
    replicas: int
    history: int
    event_ttl: int
    now: int  # the time of the answer, in ns by the server's clock
    unfinished: str = ""  # the space that a fork was copying into this one; empty if none
    temporary: bool = False  # True if that fork is never complete, as the space of a rerun
    schedules: bool = False  # True if an event was scheduled at some time
    can_schedule: bool = True  # True if the server publishes scheduled messages
    subjects: frozenset[str] = frozenset()  # those that were asked for

    @property
    def options(self) -> Options:
        """The options of a stream like this one."""
        return Options(self.history, self.event_ttl, self.replicas)

    def lacks(self, subject: str, sequence: int) -> bool:
        """Return True if a message that was stored then is gone, and so are all others of its subject."""
        return sequence <= self.last and subject not in self.subjects


def _info(answer: dict[str, Any]) -> Info:
    state, config = answer["state"], answer["config"]
    metadata = config.get("metadata", {})
    return Info(
        answer["created"],
        state["first_seq"],
        state["last_seq"],
        state["bytes"],
        config["num_replicas"],
        int(metadata.get("happen.history", DEFAULT_HISTORY)),
        int(metadata.get("happen.event_ttl", DEFAULT_EVENT_TTL_SECONDS)),
        parse_ns(answer.get("ts") or state["last_ts"]),
        metadata.get(UNFINISHED, ""),
        TEMPORARY in metadata,
        SCHEDULES in metadata,
        config.get("allow_msg_schedules", False),
        frozenset(state.get("subjects") or ()),
    )


class Stream:
    """The stream of one space; each call takes up to `timeout` seconds."""

    def __init__(self, connection: Connection, subjects: Subjects, timeout: float) -> None:
        self.connection = connection
        self.subjects = subjects
        self.timeout = timeout
        self.replicas = 1  # as of the last look at the stream
        self._clock_offset = 0  # from the monotonic clock of this process to the clock of the server
        self.oldest = 0
        """Events on commits before this time, in ns, have expired, as those with their own subjects have."""
        self.is_new = False
        """True if this process has created the stream, or another one has at the same moment."""
        self.is_dropped = False  # True once this process has deleted the stream

    def note_time(self, stored: int) -> None:
        """Note that a message that has just arrived was stored at this time, in ns."""
        offset = stored - time.monotonic_ns()
        self._clock_offset = max(self._clock_offset, offset)

    def server_time(self) -> int:
        """Return the time of the server now, in ns since 1970; the clock of this machine may be wrong."""
        return time.monotonic_ns() + self._clock_offset

    async def ensure(self, options: Options) -> Info:
        """Create the stream, or change its stored options to those that are given."""
        info = await self._look()
        if info is None:  # if it exists after all, creating it again changes nothing
            self.is_new = True
            answer = await self._create(options)
            error = answer.get("error")
            if not error:
                return self._seen(answer)
            if error.get("err_code") != EXISTS_DIFFERENTLY:  # else another process was faster
                raise server_error(f'creating the space "{self.subjects.space}"', error)
            info = await self.info()
        wanted = info._replace(
            replicas=options.replicas or info.replicas,
            history=options.history or info.history,
            event_ttl=options.event_ttl or info.event_ttl,
        )
        if wanted == info and info.can_schedule:
            return info
        return await self._update(wanted)

    async def _create(self, options: Options) -> dict[str, Any]:
        deadline = asyncio.get_running_loop().time() + self.timeout / 2
        while True:
            answer = await self._api("CREATE", self.configuration(options))
            late = asyncio.get_running_loop().time() > deadline
            error = answer.get("error", {})
            # A cluster that has just started may find its servers a moment later. And when its last stream is
            # deleted, a server removes the folder of all streams, in which it may just be creating another.
            if late or (error.get("err_code") != NO_PEERS and error.get("description") != NO_STORE):
                return answer
            await asyncio.sleep(0.1)

    async def _update(self, wanted: Info) -> Info:
        config = self.configuration(wanted.options)
        if wanted.unfinished:
            config["metadata"][UNFINISHED] = wanted.unfinished
        if wanted.temporary:
            config["metadata"][TEMPORARY] = "yes"
        if wanted.schedules:
            config["metadata"][SCHEDULES] = "yes"
        answer = await self._api("UPDATE", config)
        if error := answer.get("error"):
            raise server_error(f'changing the space "{self.subjects.space}"', error)
        return self._seen(answer)

    def configuration(self, options: Options) -> dict[str, Any]:
        """Return the configuration of the stream as the server takes it."""
        # Every process trims by the options in the metadata.
        stored = {"happen.history": options.history, "happen.event_ttl": options.event_ttl}
        return {
            "name": self.subjects.stream,
            "subjects": self.subjects.all,
            "retention": "limits",
            "discard": "old",
            "storage": "file",
            "num_replicas": options.replicas or 1,
            "max_msgs_per_subject": MAX_MESSAGES_PER_SUBJECT,
            "allow_direct": True,
            "allow_atomic": True,
            "allow_msg_ttl": True,
            "allow_msg_schedules": True,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "metadata": {key: str(value) for key, value in stored.items() if value is not None},
        }

    async def exists(self) -> bool:
        return await self._look() is not None

    async def has_copied(self, source: str) -> bool:
        """Return True if the server has copied all of another stream to this one."""
        answer = await self._api("INFO")
        found = [each for each in answer.get("sources", ()) if each["name"] == source]
        return any(each.get("seq") and not each.get("lag") for each in found)

    async def mark_schedules(self) -> Info:
        """Mark the space as one with scheduled events; HappenError if the server cannot publish them."""
        info = await self._update((await self.info())._replace(schedules=True))
        if not info.can_schedule:
            raise HappenError(
                f'the space "{self.subjects.space}" cannot schedule events: {self.connection.where} does not '
                "publish scheduled messages; upgrade it to nats-server 2.12 or newer"
            )
        return info

    async def mark_unfinished(self, source: str, *, temporary: bool = False) -> Info:
        """Mark the space as one that a fork of `source` still fills; an empty string removes the mark.

        A `temporary` fork keeps it.
        """
        return await self._update((await self.info())._replace(unfinished=source, temporary=temporary))

    async def start_over(self, info: Info) -> Info:
        """Empty a space that a fork has left unfinished; messages stored after `info` stay."""
        answer = await self._api("PURGE", {"seq": info.last + 1})
        if error := answer.get("error"):
            raise server_error(f'emptying the space "{self.subjects.space}"', error)
        return await self.mark_unfinished("")

    async def info(self, subjects: str | None = None, timeout: float | None = None) -> Info:
        """Return the stream's state according to its leader; HappenError if the space was dropped.

        It includes those of the `subjects` that have messages.
        """
        for pause in (0.05, 0.2):  # just after its start a server reports 'stream not found' for a moment
            if info := await self._look(subjects, timeout):
                return info
            await asyncio.sleep(pause)
        if info := await self._look(subjects, timeout):
            return info
        raise HappenError(self.dropped)

    async def exact_info(self) -> Info:
        """Return the stream now, with the exact last sequence.

        With replicas a leader that was replaced may not know that yet, so it is the sequence of a barrier.
        """
        info = await self.info()
        return info if info.replicas == 1 else info._replace(last=await self.store_barrier())

    @property
    def dropped(self) -> str:
        """The message for a space that no longer exists."""
        why = self.connection.diagnosis() or "it was dropped; connect again to create it"
        return f'the space "{self.subjects.space}" no longer exists: {why}'

    async def _look(self, subjects: str | None = None, timeout: float | None = None) -> Info | None:
        body = None if subjects is None else {"subjects_filter": subjects}
        answer = await self._api("INFO", body, timeout=timeout)
        error = answer.get("error")
        if not error:
            return self._seen(answer)
        if error.get("err_code") != NOT_FOUND:
            raise server_error(f'the space "{self.subjects.space}"', error)
        self.connection.stream_is_gone = True
        return None

    def _seen(self, answer: dict[str, Any]) -> Info:
        self.connection.stream_is_gone = False
        info = _info(answer)
        if "ts" in answer:
            self._clock_offset = parse_ns(answer["ts"]) - time.monotonic_ns()
        self.replicas = info.replicas
        self.oldest = info.now - info.event_ttl * 1_000_000_000
        return info

    async def _api(
        self, verb: str, body: dict[str, Any] | None = None, *, timeout: float | None = None
    ) -> dict[str, Any]:
        name = f"STREAM.{verb}.{self.subjects.stream}"
        return await self.connection.api(name, body, timeout=timeout or self.timeout)

    async def store_barrier(self, timeout: float | None = None) -> int:
        """Store a barrier; returns its sequence."""
        barrier, seconds = [encode_barrier(self.subjects)], timeout or self.timeout
        what = f'reading the space "{self.subjects.space}"'
        return int(await store_messages(self.connection, barrier, timeout=seconds, what=what, reads=True))

    async def read(self, subject: str | Sequence[str], **options: Any) -> list[StreamMessage]:
        """Read the messages that are stored now on a subject or several; the options are those of `read`."""
        try:
            return await read(
                self.connection,
                self.subjects.stream,
                subject,
                timeout=self.timeout,
                barrier=self if self.replicas > 1 else None,
                **options,
            )
        except ServerError as error:
            problem = error
        await self.info()  # names a space that was dropped
        raise problem

    async def newest(self, subject: str) -> StreamMessage | None:
        """Get the newest message of a subject from the leader; None if there is none."""
        return await self.get({"last_by_subj": subject})

    async def delivered(self, subject: str) -> EventRecord | None:
        """Return the newest event of a subject that counts."""
        items = [self.decode(item) for item in await self.read(subject)]
        events = [item for item in await self.admitted(items, 0) if isinstance(item, EventRecord)]
        return events[-1] if events else None

    async def store_first(self, message: Message, *, timeout: float, what: str) -> tuple[bytes, int]:
        """Store a message if its subject has none; return the body and the sequence of the first one."""
        while True:
            try:
                stored = await store_messages(self.connection, [message], timeout=timeout, what=what)
            except RefusedError:  # another process was faster, or an earlier attempt of this one
                if (found := await self.newest(message.subject)) is not None:
                    return found.body, found.sequence
            else:
                return message.body, int(stored)

    async def get(self, request: dict[str, Any], timeout: float | None = None) -> StreamMessage | None:
        """Get one message from the leader of the stream, not from any of its replicas; None if there is none.

        `request` has ``seq`` or ``last_by_subj``.
        """
        answer = await self._api("MSG.GET", request, timeout=timeout)
        if error := answer.get("error"):
            if error.get("err_code") == NO_MESSAGE:
                return None
            await self.info()  # names a space that was dropped
            raise server_error(f'reading the space "{self.subjects.space}"', error)
        return parse_stored(answer["message"])

    async def get_direct(self, request: dict[str, Any], what: str) -> StreamMessage | None:
        """Get one message from any replica of the stream, which may lag; None if there is none."""
        get = Message(f"$JS.API.DIRECT.GET.{self.subjects.stream}", orjson.dumps(request), {})
        answer = await self.connection.calls.make([get], timeout=self.timeout, what=what, reads=True)
        return parse_direct(answer)

    async def was_cleared_after(self, position: int) -> bool:
        """Return True if the space was cleared after a position."""
        return bool(await self.read(self.subjects.clear, start=position + 1, headers_only=True, limit=1))

    def decode(self, item: StreamMessage) -> Item:
        """Decode a stored message; expired events on a commit are left out."""
        if item.subject.startswith(self.subjects.event_prefix):
            event = decode_plain_event(item.raw_headers, item.body, item.sequence, item.time)
            if event is not None:
                return event
        record = decode(self.subjects, item.subject, item.headers, item.body, item.sequence, item.time)
        return self._unexpired(record)

    async def ended_before(self, position: int, first: int) -> Deliveries:
        """Return which scheduled events were delivered or cancelled just before a position."""
        deliveries = Deliveries()
        start = max(first, position - LOOK_BACK)
        if start < position:
            items = await self.read(self.subjects.events, start=start, headers_only=True, end=position - 1)
            for item in items:
                deliveries.admit(self.decode_head(item))
        return deliveries

    async def admitted(self, items: Sequence[Item], start: int) -> list[Item]:
        """Return the items of a stretch that begins at `start` without scheduled events that do not count."""
        scheduled = [item for item in items if isinstance(item, EventRecord) and item.alarm is not None]
        if not scheduled:
            return list(items)
        deliveries = Deliveries()
        if scheduled[0].sequence - start < LOOK_BACK:
            deliveries = await self.ended_before(start, 1)
        return [deliveries.admit(item) for item in items]

    def decode_head(self, item: StreamMessage) -> Item:
        """Decode a message without its body: an event that is not on a commit has `UNREAD` as payload."""
        about = item.sequence, item.time
        record = decode(self.subjects, item.subject, item.headers, b"", *about, payload=lambda _: UNREAD)
        return self._unexpired(record)

    def _unexpired(self, record: Item) -> Item:
        if isinstance(record, CommitRecord) and record.time < self.oldest:
            record.events = ()
        return record

    async def clear(
        self,
        owners: Callable[[], Iterable[OwnerRecord]],
        newest: int,
        clock: Callable[[], str | None] = lambda: None,
    ) -> int:
        """Empty the space, once, for all its followers; returns the position of the mark.

        `owners` returns the owners as they are known now, and `clock` the time of a manual clock; `newest` is
        the sequence of the newest known clear.
        """
        id, limit = secrets.token_hex(8), self.connection.max_payload - HEADER_RESERVE_BYTES
        while True:
            mark = encode_clear(self.subjects, owners(), limit=limit, id=id, expected=newest, clock=clock())
            try:
                return int(await store_messages(self.connection, [mark], timeout=self.timeout, what="clear"))
            except RefusedError as refusal:  # another process was faster, or this one: do not clear twice
                newest = refusal.newest
                there = await self.get({"seq": newest}) if newest else None
                item = None if there is None else self.decode(there)
                if isinstance(item, Clear) and item.id == id:
                    await self.finish_clear(newest)
                    return newest

    async def finish_clear(self, position: int) -> None:
        """Remove the messages before a clear: a server that is killed may have kept them."""
        answer = await self._api("PURGE", {"seq": position})
        if error := answer.get("error"):
            raise server_error(f'clearing the space "{self.subjects.space}"', error)

    async def keep_newest(self, subject: str, count: int) -> None:
        """Purge all but the newest messages of a subject, or leave that to the next call."""
        try:
            await self._api("PURGE", {"filter": subject, "keep": count})
        except HappenError as error:
            logger.debug("old messages on %s: %s; the next purge removes them", subject, error)

    async def remove(self, subject: str) -> None:
        await self._api("PURGE", {"filter": subject})

    async def drop_new(self) -> None:
        """Delete the stream if this process has just created it, and nothing is stored in it."""
        if not self.is_new:
            return
        await self.connection.calls.wait_abandoned(self.timeout)  # it may just be creating the stream
        if (info := await self._look()) is not None and not info.last:
            await self.drop()

    async def drop(self) -> None:
        self.is_dropped = True
        answer = await self._api("DELETE")
        error = answer.get("error")
        if error and error.get("err_code") != NOT_FOUND:
            raise server_error(f'dropping the space "{self.subjects.space}"', error)

    async def trim(self, newest: CommitRecord, size: int, info: Info) -> int:
        """Purge a node's oldest commits; returns their number.

        `info.history` commits stay, or fewer where they would be over 64 MB by the size of the newest; every
        commit younger than a minute, with events younger than `info.event_ttl`, or of a durable handler that
        may run again; and the last one with the progress of state handlers.
        """
        revision, now = newest.revision, newest.time / 1e9
        keep = max(1, min(info.history, MAX_HISTORY_BYTES // max(1, size)))
        if revision <= keep:
            return 0
        subject = self.subjects.state(newest.node)

        def stays(item: StreamMessage) -> bool:
            age = now - item.time / 1e9
            young = info.event_ttl if EVENTS in item.headers else MIN_COMMIT_AGE_SECONDS
            needed = newest.positions is None and POSITIONS in item.headers
            return needed or revision_of(item.headers) > revision - keep or age < young

        old: list[StreamMessage] = []
        for limit in (1, TRIM_BATCH):
            old = await self.read(subject, headers_only=True, limit=limit, enough=stays)
            if not old:
                break
        oldest = now - info.event_ttl
        old = await self._before_unended(old, [each for each in old if each.time / 1e9 > oldest])
        if old:
            await self._api("PURGE", {"filter": subject, "seq": old[-1].sequence + 1})
        return len(old)

    async def _before_unended(
        self, commits: list[StreamMessage], young: list[StreamMessage]
    ) -> list[StreamMessage]:
        """Return the commits before the first one of a durable handler that may run again for its event."""
        keyed = {each.sequence: read_key(each.headers[KEY]) for each in young if KEY in each.headers}
        if not keyed:
            return commits
        ended: set[str | None] = set()
        for item in map(self.decode, await self.read(self.subjects.handled, start=min(keyed))):
            records = item.records() if isinstance(item, Handled) else ()
            ended.update(record.handling for record in records if record.outcome != "failed")
        open = [sequence for sequence, key in keyed.items() if key is not None and key[0] not in ended]
        return [each for each in commits if not open or each.sequence < min(open)]
