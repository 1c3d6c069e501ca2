"""Content decoding: round trips cut anywhere, bombs of each kind, broken and foreign data."""

import asyncio
import gzip
import io
import json
import os
import random
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mitmgate.encoding import (
    ENCODINGS,
    FREE,
    DecodingError,
    TooLarge,
    UnknownEncoding,
    decode,
    decoder,
)

MIB = 1 << 20


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def quick_brotli(data: bytes) -> bytes:
    return bytes(brotli.compress(data, quality=5))


CODERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("br", quick_brotli),
    ("zstd", zstandard.compress),
]
each_coder = pytest.mark.parametrize(("encoding", "encode"), CODERS, ids=lambda it: getattr(it, "__name__", it))


REPETITIVE = st.builds(bytes.__mul__, st.binary(max_size=40), st.integers(0, 3000))


def fed(encoding: str, pieces: list[bytes], limit: int = 4 * MIB) -> bytes:
    stream = decoder(encoding, limit=limit)
    assert stream is not None
    return b"".join([*(stream.feed(piece) for piece in pieces), stream.finish()])


@each_coder
@settings(deadline=None, max_examples=40)
@given(data=st.binary(max_size=2000) | REPETITIVE, at=st.data())
def test_round_trip_cut_anywhere(
    encoding: str, encode: Callable[[bytes], bytes], data: bytes, at: st.DataObject
) -> None:
    encoded = encode(data)
    cuts = sorted(at.draw(st.lists(st.integers(0, len(encoded)), max_size=8)))
    pieces = [encoded[a:b] for a, b in zip([0, *cuts], [*cuts, len(encoded)], strict=True)]
    assert fed(encoding, pieces) == data
    assert decode(encoded, encoding, limit=len(data)) == data


@each_coder
def test_byte_by_byte(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    data = json.dumps([{"role": "user", "content": f"line {n}"} for n in range(500)]).encode()
    assert fed(encoding, [bytes([byte]) for byte in encode(data)]) == data


@each_coder
def test_large_random_and_repetitive_bodies(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    data = random.Random(7).randbytes(2 * MIB) + b"the same again; " * (MIB // 16)
    assert decode(encode(data), encoding, limit=3 * MIB) == data


@each_coder
def test_an_output_that_fills_the_last_step_exactly(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    for size in (64 << 10, (64 << 10) + 1, 128 << 10, MIB):
        assert decode(encode(b"\0" * size), encoding, limit=size) == b"\0" * size


@each_coder
def test_truncated_anywhere(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    encoded = encode(b"some text, some text, some more text " * 3)
    for length in range(1, len(encoded)):
        with pytest.raises(DecodingError):
            decode(encoded[:length], encoding, limit=MIB)


@each_coder
@pytest.mark.parametrize("apart", [False, True])
def test_trailing_garbage(encoding: str, encode: Callable[[bytes], bytes], apart: bool) -> None:
    for garbage in (b"\0", b"x", b"garbage garbage garbage", b"\r\n", os.urandom(200)):
        encoded = encode(b"text")
        with pytest.raises(DecodingError):
            fed(encoding, [encoded, garbage] if apart else [encoded + garbage])


@each_coder
@settings(deadline=None, max_examples=60)
@given(data=st.binary(min_size=3, max_size=300))
def test_arbitrary_bytes_end_in_our_errors_only(encoding: str, encode: Callable[[bytes], bytes], data: bytes) -> None:
    try:
        decoded = decode(data, encoding, limit=MIB)
    except (DecodingError, TooLarge):
        return
    assert len(decoded) <= MIB


@pytest.mark.parametrize("encoding", sorted(ENCODINGS - {"deflate"}))
def test_a_broken_body_is_named(encoding: str) -> None:
    with pytest.raises(DecodingError, match=f"not valid {encoding}"):
        decode(b"{\"model\": \"gpt-4o\"}", encoding, limit=MIB)


def test_a_wrong_checksum_is_broken() -> None:
    encoded = bytearray(gzip.compress(b"text"))
    encoded[-6] ^= 1
    with pytest.raises(DecodingError):
        decode(bytes(encoded), "gzip", limit=MIB)


@pytest.mark.parametrize(("encoding", "encode"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
def test_concatenated_members(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    encoded = encode(b"one ") + encode(b"") + encode(b"two")
    assert decode(encoded, encoding, limit=7) == b"one two"
    assert fed(encoding, [bytes([byte]) for byte in encoded]) == b"one two"
    with pytest.raises(DecodingError, match="too many parts"):
        decode(encode(b"") * 10_001, encoding, limit=MIB)


@pytest.mark.parametrize(("encoding", "encode"), [("deflate", zlib.compress), ("br", brotli.compress)])
def test_other_encodings_have_one_member(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    with pytest.raises(DecodingError):
        decode(encode(b"one ") + encode(b"two"), encoding, limit=MIB)


@pytest.mark.parametrize("encoding", ["", "identity", "IDENTITY", " identity\t"])
def test_nothing_to_undo(encoding: str) -> None:
    assert decoder(encoding, limit=1) is None
    assert decode(b"abc", encoding, limit=3) == b"abc"
    with pytest.raises(TooLarge, match="larger than 2 bytes"):
        decode(b"abc", encoding, limit=2)


@pytest.mark.parametrize(
    "encoding",
    [
        *("hex", "compress", "x-compress", "lzma", "base64", "gzip, gzip", "gzip,br", "identity, gzip", "gzip;q=1"),
        *(",", "*", "gzip\0"),
    ],
)
def test_unknown_or_several_layers(encoding: str) -> None:
    with pytest.raises(UnknownEncoding, match="one of br, deflate, gzip"):
        decoder(encoding, limit=MIB)


@pytest.mark.parametrize("encoding", ["GZip", " gzip "])
def test_the_name_is_case_blind(encoding: str) -> None:
    assert decode(gzip.compress(b"x"), encoding, limit=1) == b"x"


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_no_bytes_at_all_are_an_empty_body(encoding: str) -> None:
    assert decode(b"", encoding, limit=0) == b""


@each_coder
def test_the_limit_is_exact(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    data = os.urandom(100_000)
    assert decode(encode(data), encoding, limit=100_000) == data
    with pytest.raises(TooLarge, match="larger than 99999 bytes"):
        decode(encode(data), encoding, limit=99_999)


@each_coder
def test_the_ratio_counts_after_the_first_mebibyte(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    assert len(decode(encode(bytes(FREE)), encoding, limit=64 * MIB)) == FREE
    with pytest.raises(TooLarge, match="more than 100 times"):
        decode(encode(bytes(4 * FREE)), encoding, limit=64 * MIB)


def pieces_of_nothing(mebibytes: int) -> Iterator[bytes]:
    block = bytes(MIB)
    return (block for _ in range(mebibytes))


def deflate_blocks(mebibytes: int) -> bytes:
    """Raw deflate of zeros: after a full flush a block stands alone, so one can be repeated."""
    compressor = zlib.compressobj(9, wbits=-15)
    block = compressor.compress(bytes(MIB)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return block * mebibytes + compressor.flush()


def brotli_stream(mebibytes: int) -> bytes:
    compressor = brotli.Compressor(quality=3)
    return b"".join([*(compressor.process(piece) for piece in pieces_of_nothing(mebibytes)), compressor.finish()])


def zstd_stream(mebibytes: int) -> bytes:
    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    return b"".join([*(compressor.compress(piece) for piece in pieces_of_nothing(mebibytes)), compressor.flush()])


GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "gzip, 1 GiB": ("gzip", lambda: GZIP_HEAD + deflate_blocks(1024) + bytes(8)),
    "deflate, 1 GiB": ("deflate", lambda: b"\x78\xda" + deflate_blocks(1024) + bytes(4)),
    "raw deflate, 1 GiB": ("deflate", lambda: deflate_blocks(1024)),
    "br, 256 MiB": ("br", lambda: brotli_stream(256)),
    "zstd, 1 GiB": ("zstd", lambda: zstd_stream(1024)),
    "zstd, 1024 frames": ("zstd", lambda: zstandard.compress(bytes(MIB)) * 1024),
    "gzip, 1024 members": ("gzip", lambda: gzip.compress(bytes(MIB)) * 1024),
}

# In a process of its own, where the peak is the decoder's: VmHWM on Linux, where ru_maxrss begins at the parent's.
# `ratio` is also raised, so that the limit has to do its part.
EXPLODE = """
import json, pathlib, re, resource, sys, time
from mitmgate.encoding import TooLarge, decoder
def peak():
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
bomb = sys.stdin.buffer.read()
before, began = peak(), time.process_time()
outcomes = []
for limit, ratio in ((64 << 20, 100), (64 << 20, 10 ** 9), (1 << 20, 10 ** 9)):
    try:
        outcomes.append(len(decoder(sys.argv[1], limit=limit - 1, ratio=ratio).feed(bomb)))
    except TooLarge as error:
        outcomes.append(str(error))
print(json.dumps({"outcomes": outcomes, "grown": peak() - before, "cpu": time.process_time() - began}))
"""


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs(kind: str) -> None:
    encoding, make = BOMBS[kind]
    command = [sys.executable, "-c", EXPLODE, encoding]
    run = subprocess.run(command, input=make(), capture_output=True, check=True, timeout=60)
    told = json.loads(run.stdout)
    assert all("larger than" in str(outcome) or "more than" in str(outcome) for outcome in told["outcomes"]), told
    assert told["grown"] < 100 * MIB
    assert told["cpu"] < 5, "CPU seconds for all three; decoding 1 GiB of it takes longer"


@each_coder
def test_a_refused_bomb_leaves_nothing_behind(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    """The error may be kept for long, and its traceback keeps the decoder's frames."""
    bomb = decoder(encoding, limit=20 * MIB, ratio=1_000_000)
    assert bomb is not None
    with pytest.raises(TooLarge) as caught:
        bomb.feed(encode(bytes(24 * MIB)))
    frames = [each.frame for each in caught.traceback]
    held = [name for frame in frames for name, value in frame.f_locals.items() if _size(value) > 8 * MIB]
    assert not held


def _size(value: object) -> int:
    if isinstance(value, io.BytesIO):
        return 0 if value.closed else value.getbuffer().nbytes
    return len(value) if isinstance(value, bytes) else 0


async def test_a_large_body_in_a_thread_leaves_the_loop_free() -> None:
    data = random.Random(1).randbytes(64 * 1024) * 256
    task = asyncio.create_task(asyncio.to_thread(decode, zlib.compress(data, 1), "deflate", limit=len(data)))
    turns = 0
    while not task.done():
        turns += 1
        await asyncio.sleep(0)
    assert await task == data
    assert turns > 1
