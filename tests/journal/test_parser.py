"""However the bytes of the server are cut into reads, the messages are those of nats-py's own parser."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from happen_nb._journal.parser import MessageParser

FRAMES = [
    b"MSG news 3 0\r\n\r\n",
    b"MSG news 3 5\r\nhello\r\n",
    b"MSG news.\xff 12 _INBOX.1 2\r\n\r\n\r\n",
    b"HMSG $KV.happen_shop.orders 7 $JS.ACK.s.c.1.2.3.4.0 23 25\r\nNATS/1.0\r\nName: a b\r\n\r\n{}\r\n",
    b"HMSG idle 7 27 27\r\nNATS/1.0 100 Idle\r\nA: 1\r\n\r\n\r\n",
    b"MSG large 7 100000\r\n" + b"\r\n" * 50_000 + b"\r\n",
    b"PING\r\n",
    b"PONG\r\n",
    b"+OK\r\n",
    b"-ERR 'slow consumer'\r\n",
    b'INFO {"server_id": "a"}\r\n',
]


class Recorder:
    """Takes what a parser finds, in the place of a client."""

    def __init__(self):
        self.found = []

    async def _process_msg(self, *message):
        self.found.append(("message", *message))

    async def _process_err(self, text):
        self.found.append(("error", text))

    async def _process_ping(self):
        self.found.append("ping")

    async def _process_pong(self):
        self.found.append("pong")

    async def _process_info(self, info):
        self.found.append(("info", info))


def parsed(parser, reads, process=bytes):
    """Parse what `process` leaves of each read; return the messages that were found."""

    async def parse():
        for read in reads:
            if rest := process(read):
                await parser.parse(rest)

    with suppress(StopIteration):  # it waits for nothing
        parse().send(None)
    return parser.nc.found


def receiver(recorder, sid):
    def receive(subject, reply, body, headers):
        recorder.found.append(("message", sid, subject, reply, body, headers or None))

    return receive


@settings(max_examples=60, deadline=None)
@given(frames=st.lists(st.sampled_from(FRAMES), max_size=6), data=st.data())
def test_reads_of_any_size_bring_the_same_messages(frames, data):
    sent = b"".join(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=5)))
    reads = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    parser = MessageParser(Recorder())
    parser.direct = {
        b"%d" % sid: receiver(parser.nc, sid) for sid in data.draw(st.sets(st.sampled_from([3, 7, 12])))
    }
    process = data.draw(st.sampled_from([bytes, parser.take]))
    assert parsed(parser, reads, process) == parsed(Parser(Recorder()), [sent])


def test_a_callback_that_raises_does_not_end_the_reading():
    parser = MessageParser(Recorder())
    parser.direct = {b"3": lambda *_: 1 / 0}
    assert parsed(parser, [FRAMES[0] + b"PING\r\n"]) == ["ping"]


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(
    "garbage", [b"HELLO\r\n", b"\r\n", b"MSG news x 1\r\na\r\n", b"MSG news 3 x\r\n", b"MSG\r\n"]
)
def test_what_is_not_of_the_protocol_is_an_error_of_the_protocol(garbage, at_once):
    parser = MessageParser(Recorder())
    with pytest.raises(ProtocolError):
        parsed(parser, [garbage], parser.take if at_once else bytes)


def test_a_new_connection_forgets_what_has_arrived_in_part():
    parser = MessageParser(Recorder())
    assert parsed(parser, [FRAMES[5][:70_000]]) == []
    assert parser.transferring
    parser.reset()
    assert not parser.transferring
    assert parsed(parser, [b"PING\r\n"]) == ["ping"]
