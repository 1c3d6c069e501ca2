"""Request bodies, whole, where they can be sent again for each attempt: in memory, or in a file that has no name.

Both kinds know their size and give their bytes in chunks, with one byte range replaced on the way out if need be: a
multipart upload of half a gigabyte gets another model without being copied. Neither may be used from two threads at
once.
"""

import mmap
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from mitmgate.exchange import Body

SPOOL_ABOVE: Final = 1 << 20        # bytes; larger uploads go to disk
CHUNK: Final = 64 << 10             # bytes handed out at once


@dataclass(frozen=True, slots=True)
class Patch:
    """Bytes `start` to `end` (exclusive) of a body are sent as `replacement`."""

    start: int
    end: int
    replacement: bytes


def patched_size(body: Body, patch: Patch | None) -> int:
    """The Content-Length with which `body` goes out. Raises ValueError if the patch lies outside of it."""
    if patch is None:
        return body.size
    if not 0 <= patch.start <= patch.end <= body.size:
        raise ValueError(f"patch {patch.start}..{patch.end} lies outside a body of {body.size} bytes")
    return body.size - (patch.end - patch.start) + len(patch.replacement)


class MemoryBody:
    """A body held as bytes, in the pieces in which it came until somebody wants the whole."""

    __slots__ = ("_data", "_pieces", "_size")

    def __init__(self, *pieces: bytes) -> None:
        self._data = pieces[0] if len(pieces) == 1 else b""
        self._pieces = pieces if len(pieces) > 1 else ()
        self._size = sum(map(len, pieces))

    @property
    def size(self) -> int:
        """Bytes as they came."""
        return self._size

    def raw(self) -> bytes:
        """All of it, not copied; but joined the first time, which takes a millisecond for each MiB."""
        if self._pieces:
            self._data = b"".join(self._pieces)     # frees other threads meanwhile, if it is long
            self._pieces = ()
        return self._data

    def chunks(self, size: int = CHUNK, patch: Patch | None = None) -> Iterator[bytes]:
        """The bytes to send, at most `size` at once, none of them empty."""
        patched_size(self, patch)
        data = self.raw()
        if patch is None:
            yield from _cut(data, 0, len(data), size)
        else:
            yield from _cut(data, 0, patch.start, size)
            yield from _cut(patch.replacement, 0, len(patch.replacement), size)
            yield from _cut(data, patch.end, len(data), size)

    def close(self) -> None:
        """Let go of the bytes."""
        self._data, self._pieces, self._size = b"", (), 0


class SpooledBody:
    """A body in an unlinked temporary file: gone with the last handle to it, and with this object.

    Disk errors (OSError: no space) are the caller's to answer. After `close` every use is a ValueError.
    """

    __slots__ = ("__weakref__", "_file", "_finalizer", "_size")

    def __init__(self, directory: str | None = None) -> None:
        """`directory`: where the file lies; None: the system's place for temporary files."""
        self._file = tempfile.TemporaryFile(buffering=0, dir=directory)  # noqa: SIM115 - it lives as long as the body
        self._finalizer = weakref.finalize(self, self._file.close)
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def write(self, data: bytes) -> None:
        """Append `data`."""
        self._file.seek(self._size)  # a reader may have moved it
        rest = memoryview(data)
        while rest:
            written = self._file.write(rest)
            self._size += written
            rest = rest[written:]

    def chunks(self, size: int = CHUNK, patch: Patch | None = None) -> Iterator[bytes]:
        """The bytes to send, at most `size` at once, none of them empty. Several may be under way at a time."""
        patched_size(self, patch)
        if patch is None:
            yield from self._read(0, self._size, size)
        else:
            yield from self._read(0, patch.start, size)
            yield from _cut(patch.replacement, 0, len(patch.replacement), size)
            yield from self._read(patch.end, self._size, size)

    @contextmanager
    def view(self) -> Iterator[bytes | mmap.mmap]:
        """All of it for searching, mapped and not read; the mapping ends with the block."""
        if not self._size:
            self._file.fileno()  # a closed body is an error here too
            yield b""  # an empty file cannot be mapped
            return
        with mmap.mmap(self._file.fileno(), self._size, access=mmap.ACCESS_READ) as mapped:
            yield mapped

    def close(self) -> None:
        """Give the disk space back. Harmless the second time."""
        self._finalizer()

    def _read(self, start: int, end: int, size: int) -> Iterator[bytes]:
        while start < end:
            self._file.seek(start)  # another reader may have moved it
            piece = self._file.read(min(size, end - start))
            if not piece:
                raise EOFError(f"the spooled body ends at byte {start} of {end}")
            start += len(piece)
            yield piece


def _cut(data: bytes, start: int, end: int, size: int) -> Iterator[bytes]:
    if start == 0 and end == len(data) <= size:
        if data:
            yield data
        return
    for position in range(start, end, size):
        yield data[position : min(position + size, end)]
