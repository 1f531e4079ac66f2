"""Headers of messages are read as nats-py reads them."""

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
