"""The client does what nats-py does, and survives what nats-py does not."""

import asyncio
import contextlib

import pytest
from nats.aio.client import Client

from happen_nb._journal.client import NatsClient


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n",
        b"A: b\r\nC:d\r\n\r\n",
        b"a: b: c\r\nno colon\r\nnone\r\n",
        b"a:1\r\na:2\r\n",
        b"a: 1\nb: 2\r\n",
        b"white space: 1\r\n  kept\t :\t2 \r\n",
        b"control\x1c: 1\r\nkept: \x1c2\r\n",
        b"caf\xc3\xa9: 1\r\nbroken\xff: 2\r\nkept: caf\xc3\xa9 \xc2\xa0\xff\r\n",
    ],
)
def test_headers_are_those_that_the_client_would_have_read(raw):
    assert NatsClient._parse_header_lines(raw) == Client._parse_header_lines(raw)


def test_a_flush_that_is_given_up_does_not_end_the_reading(space):
    async def give_up_and_flush() -> None:
        client = NatsClient()
        await client.connect(space.server.url, token=space.server.token)
        reading = client._reading_task
        flush = asyncio.create_task(client.flush())
        await asyncio.sleep(0)  # the ping is sent
        flush.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await flush
        await client.flush(timeout=5)
        assert client._reading_task is reading
        assert not reading.done()
        await client.close()

    asyncio.run(give_up_and_flush())
