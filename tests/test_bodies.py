"""Bodies: what goes in comes out, whole, again, and with one range replaced."""

import gc
import mmap
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitmgate.bodies import CHUNK, MemoryBody, Patch, SpooledBody, patched_size


def spooled(*pieces: bytes) -> SpooledBody:
    body = SpooledBody()
    for piece in pieces:
        body.write(piece)
    return body


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(1, 400), st.data())
def test_chunks_are_the_body_with_the_patch_applied(pieces: list[bytes], size: int, data: st.DataObject) -> None:
    whole = b"".join(pieces)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    patch = data.draw(st.none() | st.builds(Patch, st.just(start), st.just(end), st.binary(max_size=700)))
    expected = whole if patch is None else whole[:start] + patch.replacement + whole[end:]
    for body in (MemoryBody(whole), MemoryBody(*pieces), spooled(*pieces)):
        assert body.size == len(whole)
        chunks = list(body.chunks(size, patch))
        assert b"".join(chunks) == expected
        assert all(0 < len(chunk) <= size for chunk in chunks)
        assert patched_size(body, patch) == len(expected)
        assert b"".join(body.chunks(size)) == whole, "a body can be sent again, as it came"
        body.close()


def test_two_readers_and_a_writer_do_not_disturb_each_other() -> None:
    whole = os.urandom(3 * CHUNK + 7)
    body = spooled(whole[:CHUNK])
    early = body.chunks(1000)
    first = next(early)
    body.write(whole[CHUNK:])
    late = body.chunks(999)
    second = next(late)
    assert first + b"".join(early) == whole[:CHUNK], "what a reader began with is what it reads"
    assert second + b"".join(late) == whole
    body.close()


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2), (0, 6), (6, 6)])
@pytest.mark.parametrize("spool", [False, True])
def test_a_patch_outside_the_body_is_refused(start: int, end: int, spool: bool) -> None:
    body = spooled(b"12345") if spool else MemoryBody(b"12345")
    with pytest.raises(ValueError, match="outside a body of 5 bytes"):
        list(body.chunks(10, Patch(start, end, b"")))
    with pytest.raises(ValueError, match="outside"):
        patched_size(body, Patch(start, end, b""))
    body.close()


def test_memory_bodies_are_not_copied() -> None:
    data = b"x" * 10
    body = MemoryBody(data)
    assert body.raw() is data
    assert next(body.chunks(10)) is data
    body.close()
    assert body.size == 0


def test_a_spooled_body_is_searched_through_a_mapping() -> None:
    body = spooled(b"a" * 100_000, b"needle", b"b" * 10)
    with body.view() as view:
        assert isinstance(view, mmap.mmap)
        assert view.find(b"needle") == 100_000
        assert len(view) == body.size
    body.close()


def test_an_empty_spooled_body() -> None:
    body = SpooledBody()
    with body.view() as view:
        assert view == b""
    assert list(body.chunks(10)) == []
    assert list(body.chunks(10, Patch(0, 0, b"new"))) == [b"new"]
    body.close()


def test_the_file_has_no_name_and_goes_with_the_body(tmp_path: Path) -> None:
    body = SpooledBody(str(tmp_path))
    body.write(b"secret")
    assert list(tmp_path.iterdir()) == [], "nothing is left behind, not even by a crash"
    body.close()
    body.close()
    with pytest.raises(ValueError, match="closed"):
        body.write(b"more")
    with pytest.raises(ValueError, match="closed"):
        list(body.chunks(10))
    with pytest.raises(ValueError, match="closed"), body.view():
        pass


def test_garbage_collection_closes_the_file() -> None:
    opened = [spooled(b"x") for _ in range(20)]
    # The next descriptor that the system gives is the lowest free one: it falls back when the bodies are collected.
    with tempfile.TemporaryFile() as probe:
        before = probe.fileno()
    del opened
    gc.collect()  # a leak would also fail as a ResourceWarning
    with tempfile.TemporaryFile() as probe:
        assert probe.fileno() <= before - 20
