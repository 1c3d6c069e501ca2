"""Event streams, cut anywhere, give the same events, byte for byte."""

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitmgate.sse import EventSplitter, event_data, event_name

BOM = b"\xef\xbb\xbf"

# Name: the stream, what each whole event's data is, and the unfinished rest.
STREAMS: dict[str, tuple[bytes, list[bytes | None], bytes]] = {
    "LF": (b"data: a\n\ndata: b\n\n", [b"a", b"b"], b""),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"], b""),
    "CR": (b"data: a\r\rdata: b\r\rdata: c", [b"a", b"b"], b"data: c"),
    "CR at the very end": (b"data: a\r\r", [], b"data: a\r\r"),
    "mixed": (b"data: a\r\n\ndata: b\n\r\ndata: c\r\r\ndata: d\n\rdata: e\n\n", [b"a", b"b", b"c", b"d", b"e"], b""),
    "comments": (b": ping\n\ndata: a\n: inside\n\n:\n\n", [None, b"a", None], b""),
    "several data lines": (b"data: a\ndata: b\ndata:\ndata:  c\n\n", [b"a\nb\n\n c"], b""),
    "several data lines, CRLF": (b"data: a\r\ndata:b\r\n\r\n", [b"a\nb"], b""),
    "names and ids": (b"event: delta\nid: 7\ndata: a\nretry: 10\n\n", [b"a"], b""),
    "data of another name": (b"database: a\ndat: b\n\n", [None], b""),
    "U+2028 and U+0085 inside": (
        'data: {"a": "x\u2028y\u0085z\u2029"}\n\n'.encode(), ['{"a": "x\u2028y\u0085z\u2029"}'.encode()], b"",
    ),
    "form feed and vertical tab inside": (b"data: a\x0bb\x0cc\x1cd\n\n", [b"a\x0bb\x0cc\x1cd"], b""),
    "no space": (b"data:a\n\n", [b"a"], b""),
    "empty data": (b"data:\n\ndata: \n\n", [b"", b""], b""),
    "many blank lines": (b"data: a\n\n\n\n\ndata: b\n\n", [b"a", None, b"b"], b""),
    "unfinished": (b"data: a\n\ndata: b\n", [b"a"], b"data: b\n"),
    "invalid UTF-8": (b"data: \xff\xfe\n\n", [b"\xff\xfe"], b""),
    "nothing": (b"", [], b""),
}  # fmt: skip


def split(*pieces: bytes) -> tuple[list[bytes], bytes]:
    splitter = EventSplitter()
    events = [event for piece in pieces for event in splitter.feed(piece)]
    assert splitter.pending == len(b"".join(pieces)) - sum(map(len, events))
    rest = splitter.rest()
    assert splitter.pending == 0
    return events, rest


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_cut_at_every_byte(name: str) -> None:
    stream, expected, unfinished = STREAMS[name]
    whole, rest = split(stream)
    assert [event_data(event) for event in whole] == expected
    assert rest == unfinished
    assert b"".join(whole) + rest == stream
    for cut in range(len(stream) + 1):
        assert split(stream[:cut], stream[cut:]) == (whole, rest), cut
    assert split(*(stream[i : i + 1] for i in range(len(stream)))) == (whole, rest)


def test_an_event_is_handed_on_as_soon_as_it_is_whole() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: a\n") == []
    assert splitter.pending == 8
    assert splitter.feed(b"\n") == [b"data: a\n\n"]
    assert splitter.pending == 0


def test_a_final_crlf_is_not_taken_for_an_event_of_its_own() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: a\r\n\r") == []
    assert splitter.feed(b"\ndata: b\r\n\r\n") == [b"data: a\r\n\r\n", b"data: b\r\n\r\n"]


def test_a_byte_order_mark_does_not_hide_the_first_event() -> None:
    """WHATWG HTML, 9.2.5: one leading mark is ignored; the bytes themselves stay."""
    events, _ = split(BOM + b"data: a\n\ndata: b\n\n")
    assert events[0] == BOM + b"data: a\n\n"
    assert [event_data(event) for event in events] == [b"a", b"b"]


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (b"data: a\n\n", None), (b"event: delta\ndata: a\n\n", b"delta"), (b"event:delta\r\ndata: a\r\n\r\n", b"delta"),
        (b"event: a\nevent: b\n\n", b"b"), (b": event: a\n\n", None), (b"data: event: a\n\n", None),
    ],
)  # fmt: skip
def test_event_name(event: bytes, name: bytes | None) -> None:
    assert event_name(event) == name


def by_the_standard(stream: bytes) -> list[bytes | None]:
    """The data of each event, read line by line as WHATWG HTML 9.2.6 says; None for one without a `data` line."""
    lines = re.split(rb"\r\n|\n|\r", stream)[:-1]
    found: list[bytes | None] = []
    data: list[bytes] = []
    begun = False
    for line in lines:
        if not line:
            if begun:
                found.append(b"\n".join(data) if data else None)
            data, begun = [], False
            continue
        begun = True
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
    return found


LINE = st.one_of(
    st.binary(max_size=12).map(lambda b: b"data: " + b.translate(None, b"\r\n")),
    st.sampled_from([b"data:", b"data:x", b": comment", b"event: e", b"id: 1", "data: \u2028\u0085".encode()]),
)
LINE_END = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAM = st.lists(
    st.tuples(st.lists(st.tuples(LINE, LINE_END), max_size=4), LINE_END).map(
        lambda event: b"".join(line + end for line, end in event[0]) + event[1]
    ),
    max_size=6,
).map(b"".join)


@given(STREAM, st.lists(st.integers(0, 200), max_size=8))
def test_any_stream_cut_anywhere_reads_as_the_standard_says(stream: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    events, rest = split(*(stream[a:b] for a, b in pairwise(places)))
    assert (events, rest) == split(stream)
    assert b"".join(events) + rest == stream
    assert all(re.search(rb"(\r\n|\n|\r)(\r\n|\n|\r)\Z", event) for event in events)
    mine = [event_data(event) for event in events]
    # A lone CR at the end is kept back, for it may be half of a CRLF; whoever asks for the rest gets that event.
    if re.search(rb"[\r\n]\r\Z", rest):
        mine.append(event_data(rest))
    assert [data for data in mine if data is not None] == [data for data in by_the_standard(stream) if data is not None]


def test_a_large_event_is_not_searched_again_with_each_piece() -> None:
    """The search is what costs: lines that nearly end an event. Read in 80 pieces it must not take 80 times as long."""
    event = b"data: " + b"\nx" * (5 << 19) + b"\n\n"
    assert len(event) > 5 << 20
    pieces = [event[i : i + (64 << 10)] for i in range(0, len(event), 64 << 10)]

    def seconds(*parts: bytes) -> float:
        began = time.process_time()
        assert split(*parts) == ([event], b"")
        return time.process_time() - began

    at_once = min(seconds(event) for _ in range(3))
    assert min(seconds(*pieces) for _ in range(3)) < 12 * at_once + 0.5
