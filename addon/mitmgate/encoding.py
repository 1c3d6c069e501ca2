"""Content-Encoding undone piece by piece, bounded in memory and in output (RFC 9110, section 8.4.1).

Theory of operation. A decompression bomb is stopped while it inflates, not afterwards: every codec hands out bounded
steps, and after each step the sum is held against the limit and against the input. How a step is bounded differs:
zlib and brotli take a bound on their output; zstandard's streaming object does not, so it gets slices of input so small
that the format itself bounds what can come out (a block of 4 bytes yields 128 KiB at most, RFC 8878, section 3.1.1.2).

Exactly one layer is undone. What a codec of ours would not undo (hex, compress, two layers) is an error, never passed
on unread: the server behind might understand it.
"""

import io
import zlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import brotli  # type: ignore[import-untyped]
import zstandard

RATIO: Final = 100                  # output bytes per input byte, beyond the first FREE; text compresses 3 to 20 times
FREE: Final = 1 << 20               # output bytes for which the ratio is not asked: short repetitive bodies exceed it
_STEP: Final = 64 << 10             # output bytes asked for at once
_SLICE: Final = 64 << 10            # input bytes given at once to codecs whose output is bounded
_ZSTD_SLICE: Final = 256            # input bytes given at once to zstandard: at most 8 MiB come out
_ZSTD_WINDOW: Final = 8 << 20       # bytes; the most that a sender may ask for in this encoding (RFC 9659, section 3)
_MEMBERS: Final = 10_000            # gzip members or zstd frames of one body; each costs a new decompressor


class DecodingError(Exception):
    """The body cannot be decoded: broken, cut off, followed by other bytes. The message is written for the sender."""


class UnknownEncoding(DecodingError):
    """The Content-Encoding is none of ours, or several layers."""


class TooLarge(Exception):
    """More came out than allowed: over the limit, or too much for the input. The message is written for the sender."""


class _Unit(Protocol):
    """One gzip member, zlib stream or zstd frame."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def steps(self, data: bytes) -> Iterator[bytes]: ...


class _Codec(Protocol):
    """A whole body in one encoding."""

    @property
    def complete(self) -> bool: ...
    def steps(self, data: bytes) -> Iterator[bytes]: ...


class _Inflation:
    """One member or stream of zlib's, by the `wbits` that say which."""

    def __init__(self, wbits: int) -> None:
        self._inflate = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def steps(self, data: bytes) -> Iterator[bytes]:
        piece = self._inflate.decompress(data, _STEP)
        yield piece
        # A full step may have left output inside zlib although it has taken all input.
        while not self._inflate.eof and (self._inflate.unconsumed_tail or len(piece) == _STEP):
            piece = self._inflate.decompress(self._inflate.unconsumed_tail, _STEP)
            yield piece


class _Deflate:
    """`deflate`: zlib-wrapped as the RFC says, or raw as some senders understood it. The first two bytes tell."""

    def __init__(self) -> None:
        self._head = b""
        self._unit: _Inflation | None = None

    @property
    def eof(self) -> bool:
        return self._unit is not None and self._unit.eof

    @property
    def unused_data(self) -> bytes:
        return self._unit.unused_data if self._unit else b""

    def steps(self, data: bytes) -> Iterator[bytes]:
        if self._unit is None:
            data = self._head = self._head + data
            if len(data) < 2:
                return
            # RFC 1950, section 2.2: method 8, a window of at most 32 KiB, a multiple of 31. In raw deflate these bits
            # would be a stored block with padding that is not zero, which no encoder writes.
            wrapped = data[0] & 0x0F == 8 and data[0] >> 4 <= 7 and int.from_bytes(data[:2]) % 31 == 0
            self._unit = _Inflation(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
        yield from self._unit.steps(data)


class _Frame:
    """One zstd frame."""

    def __init__(self, frame: "zstandard.ZstdDecompressionObj") -> None:
        self._frame = frame

    @property
    def eof(self) -> bool:
        return self._frame.eof

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data

    def steps(self, data: bytes) -> Iterator[bytes]:
        yield self._frame.decompress(data)


class _Units:
    """One unit or several in a row, as gzip (RFC 1952, section 2.2) and zstd (RFC 8878, section 3) allow."""

    def __init__(self, start: Callable[[], _Unit], size: int, most: int) -> None:
        self._start, self._slice, self._left = start, size, most
        self._unit: _Unit | None = None

    @property
    def complete(self) -> bool:
        return self._unit is None or self._unit.eof

    def steps(self, data: bytes) -> Iterator[bytes]:
        # Slices also keep many small members from copying all the rest of a large body each.
        for position in range(0, len(data), self._slice):
            rest = data[position : position + self._slice]
            while rest:
                if self._unit is None or self._unit.eof:
                    if not self._left:
                        raise DecodingError("bytes follow the end of the encoded body, or it has too many parts")
                    self._left -= 1
                    self._unit = self._start()
                yield from self._unit.steps(rest)
                rest = self._unit.unused_data if self._unit.eof else b""


class _Brotli:
    """A brotli stream (RFC 7932). Input beyond its end is an error of the library's."""

    def __init__(self) -> None:
        self._stream = brotli.Decompressor()
        self._begun = False

    @property
    def complete(self) -> bool:
        return not self._begun or bool(self._stream.is_finished())

    def steps(self, data: bytes) -> Iterator[bytes]:
        for position in range(0, len(data), _SLICE):
            self._begun = True
            piece: bytes = self._stream.process(data[position : position + _SLICE], output_buffer_limit=_STEP)
            yield piece
            # `can_accept_more_data` is about input only: output may be left when it is true.
            while not self._stream.is_finished() and (piece or not self._stream.can_accept_more_data()):
                piece = self._stream.process(b"", output_buffer_limit=_STEP)
                yield piece


def _zstd() -> _Codec:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    return _Units(lambda: _Frame(decompressor.decompressobj()), _ZSTD_SLICE, _MEMBERS)


def _gzip() -> _Codec:
    return _Units(lambda: _Inflation(zlib.MAX_WBITS | 16), _SLICE, _MEMBERS)


_CODECS: Final[dict[str, Callable[[], _Codec]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,                # RFC 9110, section 8.4.1.3: the same
    "deflate": lambda: _Units(_Deflate, _SLICE, 1),
    "br": _Brotli,
    "zstd": _zstd,
}

ENCODINGS: Final = frozenset(_CODECS)


class Decoder:
    """Undoes one encoding as its bytes come. Spent after an error. One thread at a time, but any thread."""

    __slots__ = ("_codec", "_encoding", "_given", "_limit", "_ratio", "_taken")

    def __init__(self, encoding: str, codec: _Codec, limit: int, ratio: int) -> None:
        self._encoding, self._codec, self._limit, self._ratio = encoding, codec, limit, ratio
        self._taken = self._given = 0

    def feed(self, data: bytes) -> bytes:
        """What `data` completes, perhaps nothing. Raises DecodingError or TooLarge."""
        self._taken += len(data)
        most = min(self._limit, max(FREE, self._ratio * self._taken))
        with io.BytesIO() as out:  # gives its buffer away without a copy; closed by an error too, whose traceback holds it
            try:
                for piece in self._codec.steps(data):
                    self._given += len(piece)
                    if self._given > most:
                        raise TooLarge(
                            f"the decoded body is larger than {self._limit} bytes"
                            if most == self._limit
                            else f"the {self._encoding} body expands more than {self._ratio} times"
                        )
                    out.write(piece)
            except (zlib.error, brotli.error, zstandard.ZstdError) as error:
                raise DecodingError(f"the body is not valid {self._encoding}") from error
            return out.getvalue()

    def finish(self) -> bytes:
        """The rest, always empty for these codecs. Raises DecodingError if the stream did not come to its end.

        No input at all is complete: a reply without a body may still name an encoding.
        """
        if not self._codec.complete:
            raise DecodingError(f"the {self._encoding} body is cut off")
        return b""


def decoder(encoding: str, *, limit: int, ratio: int = RATIO) -> Decoder | None:
    """The decoder for the value of a Content-Encoding header; None if there is nothing to undo ("" or identity).

    `limit`: bytes that may come out in all. Raises UnknownEncoding for anything but one layer of `ENCODINGS`.
    """
    name = encoding.strip(" \t").lower()
    if name in ("", "identity"):
        return None
    if name not in _CODECS:
        raise UnknownEncoding(f"the content encoding must be one of {', '.join(sorted(ENCODINGS))} or identity")
    return Decoder(name, _CODECS[name](), limit, ratio)


def decode(data: bytes, encoding: str, *, limit: int) -> bytes:
    """A whole body decoded, at most `limit` bytes. Raises as `decoder`, `feed` and `finish` do.

    A few milliseconds for each MiB that comes out: large bodies belong in `asyncio.to_thread`.
    """
    stream = decoder(encoding, limit=limit)
    if stream is None:
        if len(data) > limit:
            raise TooLarge(f"the body is larger than {limit} bytes")
        return data
    decoded = stream.feed(data)
    stream.finish()
    return decoded
