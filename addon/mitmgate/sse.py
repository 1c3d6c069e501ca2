"""Server-sent events: whole events out of chunks, as they came (WHATWG HTML, section 9.2).

Theory of operation. An event ends at a blank line; a line ends at CRLF, LF or CR. Nothing but a whole event is ever
handed on: half a one followed by our own error event would be read by the client as one broken event. So `feed` keeps
the unfinished tail to itself. Events leave byte for byte as they arrived, terminator included. Lines are split at CR and
LF only: U+2028 and U+0085 may stand inside JSON, where `str.splitlines` would cut it.
"""

import re
from typing import Final

# A blank line: two line ends in a row, each CRLF, LF or CR. CRLF must come first, else it would count as two ends.
_END: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
_MARK: Final = b"\xef\xbb\xbf"
_LINE: Final = re.compile(rb"\r\n|\n|\r")


class EventSplitter:
    """Cuts a byte stream into whole events. Bounded by the caller, who may ask `pending` for the tail's size."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of the event that has begun and not ended."""
        return len(self._tail)

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes, each with the blank line that ends it."""
        tail = self._tail
        # The old tail holds no event end, but may hold the first bytes of one: a large event is not searched again and again.
        searched = max(0, len(tail) - 4)
        if tail:
            tail += data                    # grows in place: a large event in many pieces is not copied for each
        buffer = tail or data
        whole: list[bytes] = []
        start = 0
        for end in _END.finditer(buffer, searched):
            stop = end.end()
            if stop == len(buffer) and buffer.endswith(b"\r"):
                break  # the CR may be half of a CRLF: its LF must not open the next event
            whole.append(bytes(buffer[start:stop]))
            start = stop
        if start or not tail:
            self._tail = bytearray(buffer[start:])
        return whole

    def rest(self) -> bytes:
        """The unfinished tail; the splitter is empty afterwards. A lone CR at its end makes it a whole event."""
        rest, self._tail = bytes(self._tail), bytearray()
        return rest


def event_data(event: bytes) -> bytes | None:
    """The data of one event, its `data:` lines joined with LF; None if it has none (a comment, a ping)."""
    if event.startswith(_MARK):
        event = event[len(_MARK) :]         # a stream may begin with one byte order mark
    if event.startswith(b"data:") and event.count(b"\n") == 2 and b"\r" not in event:  # by far the most common shape
        return event[6:-2] if event[5:6] == b" " else event[5:-2]
    data = [
        line[6:] if line[5:6] == b" " else line[5:] for line in _LINE.split(event) if line.startswith(b"data:")
    ]
    return b"\n".join(data) if data else None


def event_name(event: bytes) -> bytes | None:
    """The value of the event's last `event:` line, if it has one."""
    names = [line[6:].strip() for line in _LINE.split(event) if line.startswith(b"event:")]
    return names[-1] if names else None
