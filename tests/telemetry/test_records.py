"""The record log: what a line says, that a record is always one line, and that nothing it does holds up the caller."""

import contextlib
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mitmgate.record import AttemptRecord, Billing, GuardrailRecord, Record, SkippedRecord
from mitmgate.telemetry.costs import Cost
from mitmgate.telemetry.records import (
    LARGEST_COUNT,
    LONGEST_TEXT,
    MOST_ENTRIES,
    RecordLog,
    clean_text,
    record_document,
    record_line,
)

RECORD = Record(
    id="01J", at=1738324800.123, way="direct", operation="chat", method="POST", client="127.0.0.1", rules=1, route="fast",
    requested_model="gpt-4o", target_model="llama", served_model="llama-3", provider="groq", stream=True, status=200,
    code=None, broken=None,
    attempts=(
        AttemptRecord("openai", "gpt-4o", "connect", "connection refused", None, 3),
        AttemptRecord("groq", "llama", "ok", None, 200, 250, 500, 2, 4, 80, 90),
    ),
    fallback_from="gpt-4o", retries=1, tokens_input=12, tokens_output=34, milliseconds=260, first_content_ms=90,
    request_bytes=512, upstream_request_id="req_1",
    project="support", tenant="acme", task="summarisation", tags=(("team", "a"), ("env", "prod")), alias="fast",
    where="rules.yaml:7", skipped=(SkippedRecord("azure/gpt-4o", "policy eu-only: its region is us"),),
    policies=("policy eu-only",),
    guardrails=(GuardrailRecord("redact-pii", "block"),), cache="BYPASS", stages=(("match_route", 0.25), ("translate", 0.5)),
    own_ms=1.25, body_ms=3, wait_ms=500, upstream_ms=253,
    billing=Billing("groq", "openai", "api.groq.com", ("llama",), None, (1.0, 2.0)),
)  # fmt: skip
COSTS = ("cost_input_usd", "cost_output_usd", "cost_usd")
DOCS = Path(__file__).parents[2] / "docs" / "records.md"
HOSTILE = [
    "a\r\nb", "a\u2028b\u2029c\u0085d", "\x1b[31mred\x1b[0m", "\ud800", "\u202egnp", "x" * 1_000_000, "\n" * 1_000_000,
]  # fmt: skip
# Whatever any reader of lines takes for the end of one.
LINE_ENDS = re.compile("[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]")


def documented(section: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def wait_for(true: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        with contextlib.suppress(OSError):  # some tests close one themselves
            os.close(end)


def fill(writer: int) -> int:
    """Fill the pipe to the last byte, so that the next write waits for a reader. Returns what went in."""
    flags = fcntl.fcntl(writer, fcntl.F_GETFL)
    fcntl.fcntl(writer, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    sent = 0
    for size in (65536, 1):
        try:
            while True:
                sent += os.write(writer, b"\n" * size)
        except BlockingIOError:
            continue
    fcntl.fcntl(writer, fcntl.F_SETFL, flags)
    return sent


def test_the_document_holds_every_field_under_the_documented_name() -> None:
    whole, _, attempts = DOCS.read_text(encoding="utf-8").partition("Each of `attempts`")
    attempts, _, rest = attempts.partition("Each of `skipped`")
    skipped, _, guardrails = rest.partition("Each of `guardrails`")
    fields = [{"at": "time"}.get(name, name) for name in Record._fields if name != "billing"]
    document = record_document(RECORD)
    assert sorted(document) == sorted([*fields, *COSTS])
    assert documented(whole) == list(document)
    for section, kind, name in (
        (attempts, AttemptRecord, "attempts"), (skipped, SkippedRecord, "skipped"), (guardrails, GuardrailRecord, "guardrails"),
    ):  # fmt: skip
        assert documented(section) == list(kind._fields)
        listed = document[name]
        assert isinstance(listed, list)
        assert documented(section) == list(listed[0])


def test_a_line_says_what_the_record_says() -> None:
    line = json.loads(record_line(RECORD))
    assert line.pop("time") == "2025-01-31T12:00:00.123Z"
    said = RECORD._asdict()
    del said["at"], said["billing"]
    said["policies"] = list(RECORD.policies)
    for name in ("attempts", "skipped", "guardrails"):
        said[name] = [each._asdict() for each in said[name]]
    said["tags"], said["stages"] = dict(RECORD.tags), dict(RECORD.stages)
    assert line == {**said, "cost_input_usd": 12e-6, "cost_output_usd": 68e-6, "cost_usd": 80e-6}


@pytest.mark.parametrize(("at", "time_"), [(0.0, "1970-01-01T00:00:00.000Z"), (1738324800, "2025-01-31T12:00:00.000Z")])
def test_the_time_always_has_milliseconds(at: float, time_: str) -> None:
    assert json.loads(record_line(RECORD._replace(at=at)))["time"] == time_


texts = st.one_of(st.text(st.characters(), max_size=400), st.sampled_from(HOSTILE))


@given(texts)
@example("x" * LONGEST_TEXT)
@example("x" * (LONGEST_TEXT + 1))
def test_clean_text_is_short_printable_and_otherwise_as_it_came(text: str) -> None:
    clean = clean_text(text)
    assert clean is not None
    assert clean.isprintable()
    assert len(clean) <= LONGEST_TEXT
    if text.isprintable() and len(text) <= LONGEST_TEXT:
        assert clean == text
    if len(text) > LONGEST_TEXT:
        assert clean.endswith("…")


@given(st.dictionaries(
    st.sampled_from([name for name, kind in Record.__annotations__.items() if kind in (str, str | None)]), texts
), texts, st.integers())  # fmt: skip
@example({"requested_model": "x\r\n" * 400_000, "method": "GET\u2028", "client": "\x1b]0;x\x07"}, "\ud800\n", 10**400)
def test_a_record_is_one_line_whatever_stands_in_it(names: dict[str, str], reason: str, number: int) -> None:
    attempt = AttemptRecord(reason, reason, reason, reason, number, number, number, number, number, number, number)
    changes: dict[str, Any] = {
        **names, "attempts": (attempt,), "tokens_input": number, "request_bytes": number, "body_ms": number,
        "tags": ((reason, reason),) * 100, "skipped": (SkippedRecord(reason, reason),) * 100, "policies": (reason,) * 100,
        "guardrails": (GuardrailRecord(reason, reason, reason),) * 100, "cache": "BYPASS",
    }  # fmt: skip
    hostile = RECORD._replace(**changes)
    line = record_line(hostile).decode()
    assert line.endswith("\n")
    assert not LINE_ENDS.search(line[:-1])
    assert line[:-1].isprintable()
    read = json.loads(line)
    assert abs(read["tokens_input"]) <= LARGEST_COUNT
    assert read["stream"] is True
    assert all(len(read[name]) <= MOST_ENTRIES for name in ("tags", "skipped", "policies", "guardrails"))


def test_the_file_holds_as_many_lines_as_records_were_offered(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    log = RecordLog(path)
    for number in range(2_500):
        log.offer(RECORD._replace(requested_model=HOSTILE[number % 5], retries=number))
    assert log.close(10.0)
    lines = path.read_bytes().splitlines()
    assert [json.loads(line)["retries"] for line in lines] == list(range(2_500))
    assert log.dropped == 0
    assert path.stat().st_mode & 0o777 == 0o600


def test_records_come_out_without_a_close_and_in_batches() -> None:
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)  # keeps the writes apart
    with reader, writer:
        reader.settimeout(5.0)
        log = RecordLog(writer.fileno())
        for _ in range(20):
            log.offer(RECORD)
            time.sleep(0.001)
        writes: list[bytes] = []
        while len(b"".join(writes)) < 20 * len(record_line(RECORD)):
            writes.append(reader.recv(1 << 20))
        assert log.close()
    assert b"".join(writes) == record_line(RECORD) * 20
    assert len(writes) <= 10


def test_a_close_right_after_the_offer_loses_nothing(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    for _ in range(50):
        log = RecordLog(writer)
        log.offer(RECORD)
        assert log.close()
        assert os.read(reader, 1 << 20) == record_line(RECORD)


def test_a_reader_that_stops_costs_records_and_no_time(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    counted: list[int] = []
    filled = fill(writer)
    log = RecordLog(writer, capacity=5, on_drop=lambda: counted.append(1))
    log.offer(RECORD)
    wait_for(lambda: not log._queue)  # the thread has taken it and hangs in its write
    began = time.monotonic()
    for _ in range(20):
        log.offer(RECORD)
    assert time.monotonic() - began < 0.5
    assert log.dropped == len(counted) == 15
    assert not log.close(0.05)
    assert log.dropped == len(counted) == 20
    # The reader comes back: the one record that was being written arrives whole.
    rest = filled + len(record_line(RECORD))
    seen = b""
    while len(seen) < rest:
        seen += os.read(reader, rest - len(seen))
    assert seen.endswith(record_line(RECORD))
    assert log.close(5.0)


def test_a_non_blocking_descriptor_is_waited_for(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    filled = fill(writer)
    os.set_blocking(writer, False)
    log = RecordLog(writer)
    log.offer(RECORD)
    wait_for(lambda: not log._queue)
    seen = b""
    while len(seen) < filled + len(record_line(RECORD)):
        seen += os.read(reader, 65536)
    assert seen[filled:] == record_line(RECORD)
    assert log.close()
    assert log.dropped == 0


def test_a_closed_reader_is_counted_and_said_once(pipe: tuple[int, int], caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = pipe
    os.close(reader)
    log = RecordLog(writer)
    for expected in (1, 2):
        log.offer(RECORD)
        wait_for(lambda expected=expected: log.dropped == expected)  # type: ignore[misc]
    assert log.close()
    assert [entry.levelname for entry in caplog.records] == ["ERROR"]
    assert "Broken pipe" in caplog.text


TORN = """
import resource, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_records import RECORD
from mitmgate.telemetry.records import RecordLog, record_line

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
whole = len(record_line(RECORD))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (whole + whole // 2, hard))
log = RecordLog(Path(sys.argv[1]))
for _ in range(3):
    log.offer(RECORD)
while log.dropped < 2:
    time.sleep(0.01)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
log.offer(RECORD)
assert log.close()
print(log.dropped)
"""


def test_after_a_torn_write_the_next_record_stands_on_a_line_of_its_own(tmp_path: Path) -> None:
    """A limit of the file size cuts a write in the middle, as a full disk would; it holds for a whole process."""
    import_path = os.pathsep.join([str(Path(__file__).parents[2] / "addon"), os.environ.get("PYTHONPATH", "")])
    path = tmp_path / "records.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", TORN, str(path), str(Path(__file__).parent)],
        env={**os.environ, "PYTHONPATH": import_path}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "2\n", done.stderr
    first, torn, last = path.read_bytes().splitlines(keepends=True)
    assert first == last == record_line(RECORD)
    assert record_line(RECORD).startswith(torn[:-1])


def test_what_is_written_is_told_with_its_cost_and_what_is_dropped_is_not(pipe: tuple[int, int]) -> None:
    _, writer = pipe
    fill(writer)
    told: list[tuple[str, Cost | None]] = []
    log = RecordLog(writer, capacity=1, on_cost=lambda record, cost: told.append((record.id, cost)))
    log.offer(RECORD._replace(id="priced"))
    wait_for(lambda: len(told) == 1)  # the thread hangs in its write
    log.offer(RECORD._replace(id="waits", billing=None))
    log.offer(RECORD._replace(id="dropped"))
    assert log.dropped == 1
    assert told == [("priced", Cost(12e-6, 68e-6, 80e-6))]
    assert not log.close(0.05)
    assert log.dropped == 2
    assert len(told) == 1


def test_a_record_that_is_no_json_costs_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    log = RecordLog(path)
    for at in (1.0, float("nan"), 1e300, 2.0):
        log.offer(RECORD._replace(at=at))
    assert log.close()
    assert log.dropped == 2
    assert [json.loads(line)["time"][17:19] for line in path.read_bytes().splitlines()] == ["01", "02"]


def test_a_rotated_file_is_made_again(tmp_path: Path) -> None:
    path, old = tmp_path / "records.jsonl", tmp_path / "records.jsonl.1"
    log = RecordLog(path)
    log.offer(RECORD)
    wait_for(lambda: path.stat().st_size > 0)
    path.rename(old)
    log.offer(RECORD)
    log.offer(RECORD)
    assert log.close()
    assert old.read_bytes() == record_line(RECORD)
    assert path.read_bytes() == record_line(RECORD) * 2


def test_what_comes_after_the_close_is_dropped_and_no_thread_is_left(tmp_path: Path) -> None:
    log = RecordLog(tmp_path / "records.jsonl")
    assert log.close()
    log.offer(RECORD)
    assert log.dropped == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "records"]


def test_a_file_that_cannot_be_opened_is_said_at_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RecordLog(tmp_path / "nowhere" / "records.jsonl")
