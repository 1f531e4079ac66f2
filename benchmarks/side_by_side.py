"""Shared by the benchmarks: medians, alternating turns, a line of report, and nats-py used directly."""

import statistics
import time

import nats
import orjson

ROUNDS = 40
"""Turns of each side; short ones, so that a busy moment of the machine spoils few of them."""

GUARD = "Nats-Expected-Last-Subject-Sequence"


def median(call, count, after=None):
    """Seconds of a call, the median of `count`; `after` gets the result of each, and is not timed."""
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        given = call()
        times.append(time.perf_counter() - begun)
        if after is not None:
            after(given)
    return statistics.median(times)


async def amedian(call, count):
    """Seconds of something to await, the median of `count`."""
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        await call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def alternate(ours, peer, rounds=ROUNDS, count=1, after=None):
    """Medians of both, turn by turn, so that both meet the same machine; the first turn warms up."""
    pairs = [(median(ours, count, after), median(peer, count, after)) for _ in range(rounds + 1)]
    return pairs[1:]


async def aalternate(ours, peer, rounds=ROUNDS, count=1):
    """The same for two things to await."""
    pairs = [(await amedian(ours, count), await amedian(peer, count)) for _ in range(rounds + 1)]
    return pairs[1:]


def report(what, pairs, peer="bare", bar=None, ours="ours"):
    """Print the medians of both sides, and the median of the ratios with their quartiles.

    A `bar` is the largest ratio that meets it.
    """
    ratios = [a / b for a, b in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    verdict = "" if bar is None else f"   bar {bar:g}: {'met' if middle <= bar else 'MISSED'}"
    print(
        f"{what:<22} {ours} {shown(statistics.median(a for a, _ in pairs))}"
        f"   {peer} {shown(statistics.median(b for _, b in pairs))}"
        f"   ratio {middle:.3g} ({low:.3g} to {high:.3g}, {len(pairs)} turns){verdict}",
        flush=True,
    )


def shown(seconds):
    """A time with its unit, in a column."""
    return f"{seconds * 1e6:8.1f} us" if seconds < 0.001 else f"{seconds * 1e3:8.2f} ms"


class Bare:
    """A connection by nats-py itself, on the event loop that opens it."""

    @classmethod
    async def open(cls, server):
        self = cls()
        self.client = await nats.connect(server.url, token=server.token)
        self.js = self.client.jetstream()
        self.sequence = 0
        return self

    async def follow(self, stream, seen):
        """Have each message of a stream delivered by a push consumer; `seen` is called with it."""

        async def received(message):
            if message.headers is not None and "Status" in message.headers:
                if message.reply:
                    await message.respond(b"")  # flow control
            else:
                seen(message)

        inbox = self.client.new_inbox()
        await self.client.subscribe(inbox, cb=received, pending_msgs_limit=0, pending_bytes_limit=0)
        config = {
            "deliver_subject": inbox,
            "deliver_policy": "new",
            "ack_policy": "none",
            "flow_control": True,
            "idle_heartbeat": 1_000_000_000,
            "mem_storage": True,
            "inactive_threshold": 10_000_000_000,
        }
        await self.request(
            f"$JS.API.CONSUMER.CREATE.{stream}", orjson.dumps({"stream_name": stream, "config": config})
        )

    async def request(self, subject, body, headers=None):
        """Return what the server answers."""
        answer = orjson.loads((await self.client.request(subject, body, timeout=30, headers=headers)).data)
        assert "error" not in answer, answer
        return answer

    async def commit(self, subject, body):
        """Store the next state of a key, if the last one is what it was: a compare-and-set."""
        answer = await self.request(subject, body, {GUARD: str(self.sequence)})
        self.sequence = answer["seq"]


def run(work):
    """The result of a coroutine, on the library's own IO thread: a hop there and back."""
    from happen_nb._runtime.io import io_thread

    return io_thread().run(work)
