"""Frames of application/vnd.amazon.eventstream: whole ones out of chunks, and what one holds.

Theory of operation. A frame is a prelude of 12 bytes (its whole length, its headers' length, the CRC32 of those two), the
headers, the payload, and the CRC32 of everything before it; all numbers big-endian (Smithy, "Amazon Event Stream
Specification"; botocore.eventstream reads the same). The length is trusted only once its own CRC agrees: after a wrong one
there is no next frame to be found. What is left then is handed on as one piece, which `read_frame` declares garbled; so the
splitter itself never raises and never waits for bytes that a broken length promised.
"""

import struct
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple
from zlib import crc32

from mitmgate.dialects.codec import Garbled

LARGEST: Final = 16 << 20                   # bytes of a frame; the specification allows 16 MiB of payload, botocore 24
_PRELUDE: Final = 12
_SMALLEST: Final = _PRELUDE + 4             # no headers, no payload
_LONGEST_HEADERS: Final = 128 << 10         # bytes (Smithy; botocore too)
_USUAL_HEADERS: Final = 256                 # bytes; a stream repeats a handful of such blocks in thousands of frames

_lengths = struct.Struct("!III").unpack_from
_number = struct.Struct("!I").unpack_from
_short = struct.Struct("!H").unpack_from

# Bytes of a header's value by its type: true, false, byte, short, integer, long, timestamp, UUID.
_FIXED: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_BYTES, _TEXT = 6, 7


class Frame(NamedTuple):
    """One frame's headers, those that are text, and its payload."""

    headers: Mapping[str, str]
    payload: bytes


class FrameSplitter:
    """Cuts a byte stream into whole frames. Bounded by `LARGEST`, and by the caller, who may ask `pending`."""

    __slots__ = ("_broken", "_tail")

    def __init__(self) -> None:
        self._tail = bytearray()
        self._broken = False                # a prelude was wrong: no frame can be found any more

    @property
    def pending(self) -> int:
        """Bytes of the frame that has begun and not ended."""
        return len(self._tail)

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes. A stream that is none leaves as one piece that `read_frame` refuses."""
        if self._broken:
            return [data] if data else []
        tail = self._tail
        tail += data
        whole: list[bytes] = []
        start, size = 0, len(tail)
        while size - start >= _PRELUDE:
            length = _length(tail, start)
            if length is None:
                self._broken, length = True, size - start
            if size - start < length:
                break
            whole.append(bytes(tail[start : start + length]))
            start += length
        del tail[:start]
        return whole

    def rest(self) -> bytes:
        """The unfinished tail; the splitter is empty afterwards."""
        rest, self._tail = bytes(self._tail), bytearray()
        return rest


def _length(buffer: bytearray, start: int) -> int | None:
    """Of the frame that begins here; None if its prelude is not one."""
    total, headers, crc = _lengths(buffer, start)
    if not _SMALLEST + headers <= total <= LARGEST or crc32(buffer[start : start + 8]) != crc:
        return None
    return int(total)


def read_frame(frame: bytes) -> Frame:
    """What one whole frame holds. Raises Garbled for what is none: a length, a checksum or a header that is wrong."""
    size = len(frame)
    if not _SMALLEST <= size <= LARGEST:
        raise Garbled("an event's length is out of bounds")
    total, headers, crc = _lengths(frame)
    if crc32(frame[:8]) != crc or crc32(frame[:-4]) != _number(frame, size - 4)[0]:
        raise Garbled("an event's checksum is wrong")
    end = _PRELUDE + headers
    if total != size or end > size - 4 or headers > _LONGEST_HEADERS:
        raise Garbled("an event's lengths are wrong")
    block = frame[_PRELUDE:end]
    return Frame(_seen(block) if headers <= _USUAL_HEADERS else _headers(block), frame[end:-4])


def _headers(block: bytes) -> Mapping[str, str]:
    """Headers of other types are passed over: the messages that are read here have none."""
    found: dict[str, str] = {}
    at, end = 0, len(block)
    try:
        while at < end:
            name = at + 1 + block[at]
            kind, value = block[name], name + 1
            if kind in (_TEXT, _BYTES):
                value += 2
                stop = value + _short(block, value - 2)[0]
            else:
                stop = value + _FIXED[kind]
            if kind == _TEXT and stop <= end:
                found[block[at + 1 : name].decode()] = block[value:stop].decode()
            at = stop
    except (KeyError, IndexError, struct.error, UnicodeDecodeError):
        raise Garbled("an event's headers are wrong") from None
    if at != end:
        raise Garbled("an event's headers are wrong")
    return MappingProxyType(found)


_seen = lru_cache(maxsize=64)(_headers)
