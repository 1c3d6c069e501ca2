"""The record log: one JSON line per finished exchange, written by a thread of its own, off the request path.

Theory of operation. `offer` appends to a bounded queue and returns; it never waits. The thread wakes at the first
record, lets others gather for `LINGER` seconds, then writes them with one write per batch. When the queue is full (a
reader of our stdout that has stopped, a full disk) records are dropped and counted: a log must never hold up a request.

A line is one record whatever a client or provider put into its names: every text is cleaned of all that a terminal or a
line reader could take for more than text (THREATS, row 24). docs/records.md describes the fields.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson

from mitmgate.record import AttemptRecord, Record
from mitmgate.telemetry.costs import Cost, cost_of

LONGEST_TEXT: Final = 256           # characters
MOST_ENTRIES: Final = 32            # of a list or map in a record, but for attempts, which have a bound of their own
LARGEST_COUNT: Final = 2**53 - 1    # what every JSON reader keeps exact (RFC 8259, section 6)
CAPACITY: Final = 10_000            # records waiting
BATCH: Final = 1_000                # records per write: bounds the memory of one block
LINGER: Final = 0.05                # seconds for a batch to gather
STDOUT: Final = 1

_log: Final = logging.getLogger(__name__)


def clean_text(text: str | None) -> str | None:
    """`text` as it may stand in a log: at most 256 characters, everything not printable replaced by U+FFFD.

    "Not printable" is Python's `str.isprintable`: controls, line and paragraph separators, bidirectional overrides,
    lone surrogates and spaces other than U+0020. A text that was cut ends in "…".
    """
    if text is None:
        return None
    if len(text) > LONGEST_TEXT:
        text = text[: LONGEST_TEXT - 1] + "…"
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _count(number: int | None) -> int | None:
    """A provider may claim 10**400 tokens; JSON readers could not hold it."""
    return None if number is None else max(-LARGEST_COUNT, min(number, LARGEST_COUNT))


def _timestamp(at: float) -> str:
    """RFC 3339, UTC, milliseconds: 2025-01-31T12:00:00.123Z."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _attempt_document(attempt: AttemptRecord) -> dict[str, object]:
    return {
        "provider": clean_text(attempt.provider),
        "model": clean_text(attempt.model),
        "outcome": clean_text(attempt.outcome),
        "reason": clean_text(attempt.reason),
        "status": _count(attempt.status),
        "milliseconds": _count(attempt.milliseconds),
        "wait_ms": _count(attempt.wait_ms),
        "connect_ms": _count(attempt.connect_ms),
        "tls_ms": _count(attempt.tls_ms),
        "first_byte_ms": _count(attempt.first_byte_ms),
        "first_content_ms": _count(attempt.first_content_ms),
    }


def record_document(record: Record) -> dict[str, object]:
    """The record as docs/records.md describes it: names as in `Record`, except that `at` becomes `time` and `billing` costs."""
    return _document(record, cost_of(record))


def _document(record: Record, cost: Cost | None) -> dict[str, object]:
    return {
        "time": _timestamp(record.at),
        "id": clean_text(record.id),
        "way": record.way,
        "operation": clean_text(record.operation),
        "method": clean_text(record.method),
        "client": clean_text(record.client),
        "rules": record.rules,
        "route": clean_text(record.route),
        "requested_model": clean_text(record.requested_model),
        "target_model": clean_text(record.target_model),
        "served_model": clean_text(record.served_model),
        "provider": clean_text(record.provider),
        "stream": record.stream,
        "status": _count(record.status),
        "code": clean_text(record.code),
        "broken": clean_text(record.broken),
        "attempts": [_attempt_document(attempt) for attempt in record.attempts],
        "fallback_from": clean_text(record.fallback_from),
        "retries": _count(record.retries),
        "tokens_input": _count(record.tokens_input),
        "tokens_output": _count(record.tokens_output),
        "milliseconds": _count(record.milliseconds),
        "first_content_ms": _count(record.first_content_ms),
        "request_bytes": _count(record.request_bytes),
        "upstream_request_id": clean_text(record.upstream_request_id),
        "project": clean_text(record.project),
        "tenant": clean_text(record.tenant),
        "task": clean_text(record.task),
        "tags": {clean_text(name): clean_text(value) for name, value in record.tags[:MOST_ENTRIES]},
        "alias": clean_text(record.alias),
        "where": clean_text(record.where),
        "skipped": [
            {"target": clean_text(each.target), "reason": clean_text(each.reason)} for each in record.skipped[:MOST_ENTRIES]
        ],
        "policies": [clean_text(name) for name in record.policies[:MOST_ENTRIES]],
        "guardrails": [
            {"name": clean_text(each.name), "action": clean_text(each.action), "outcome": clean_text(each.outcome)}
            for each in record.guardrails[:MOST_ENTRIES]
        ],
        "cache": record.cache,
        "cost_input_usd": cost.input if cost is not None else None,
        "cost_output_usd": cost.output if cost is not None else None,
        "cost_usd": cost.total if cost is not None else None,
        "stages": {name: round(milliseconds, 3) for name, milliseconds in record.stages[:MOST_ENTRIES]},
        "own_ms": round(record.own_ms, 3),
        "body_ms": _count(record.body_ms),
        "wait_ms": _count(record.wait_ms),
        "upstream_ms": _count(record.upstream_ms),
    }


def record_line(record: Record) -> bytes:
    """One line of JSON in UTF-8, its line feed included; no other line end of any kind stands in it."""
    return _line(record_document(record))


def _line(document: dict[str, object]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


class RecordLog:
    """Writes records to a file or an open descriptor. Make it in the process that uses it: no thread survives a fork.

    A file is appended to, made with mode 0600 (records hold client addresses) and opened again when it was renamed or
    removed, so that logrotate needs no signal. Raises OSError where it cannot be opened.

    `on_drop` is called for each record that is lost, from any thread; `on_cost` with each that is taken for writing and
    what it cost, from the log's own.
    """

    def __init__(
        self,
        target: Path | int = STDOUT,
        *,
        capacity: int = CAPACITY,
        on_drop: Callable[[], None] | None = None,
        on_cost: Callable[[Record, Cost | None], None] | None = None,
    ) -> None:
        self._path = target if isinstance(target, Path) else None
        self._fd = _open(target) if isinstance(target, Path) else target
        self._capacity = capacity
        self._on_drop = on_drop
        self._on_cost = on_cost
        self._queue: deque[Record] = deque()
        self._dropped = 0
        self._dropping = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._failing = False
        self._torn = False
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Records that were lost: the queue was full, a write failed, or they came after `close`."""
        return self._dropped

    def offer(self, record: Record) -> None:
        """Take the record for writing. Never blocks, never raises."""
        if len(self._queue) >= self._capacity or self._stop.is_set():
            self._drop(1)
            return
        self._queue.append(record)
        if not self._wake.is_set():
            self._wake.set()

    def close(self, timeout: float = 5.0) -> bool:
        """Write what is queued, for at most `timeout` seconds; True if that was enough. Blocks the caller."""
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout)
        finished = not self._thread.is_alive()
        if not finished:
            left = len(self._queue)
            self._queue.clear()
            self._drop(left)
            _log.warning("The record log's reader did not take the last records in %.1f s; %d are lost.", timeout, left)
        return finished

    def _drop(self, count: int) -> None:
        with self._dropping:
            self._dropped += count
        if self._on_drop is not None:
            for _ in range(count):
                self._on_drop()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            self._wake.wait()
            self._stop.wait(LINGER)
            # In this order: `close` stops first and wakes then, so that neither the stop nor a record is missed.
            self._wake.clear()
            stopping = self._stop.is_set()
            self._drain()
        if self._path is not None:
            os.close(self._fd)

    def _drain(self) -> None:
        while batch := self._take():
            if self._path is not None:
                self._follow_rotation(self._path)
            lines: list[bytes] = []
            for record in batch:
                try:
                    cost = cost_of(record)
                    if self._on_cost is not None:
                        self._on_cost(record, cost)
                    lines.append(_line(_document(record, cost)))
                except (TypeError, ValueError, ArithmeticError, LookupError, OSError) as bug:
                    self._drop(1)
                    _log.error("A record is no JSON (%s); it is counted as dropped.", type(bug).__name__)
            self._write(b"".join(lines))

    def _take(self) -> list[Record]:
        """Up to one batch. `close` may empty the queue under us when it has given up waiting."""
        batch: list[Record] = []
        try:
            while len(batch) < BATCH:
                batch.append(self._queue.popleft())
        except IndexError:
            pass
        return batch

    def _write(self, block: bytes) -> None:
        rest = memoryview(block)
        try:
            if self._torn:  # the last write broke off inside a line: a line end keeps the next record off its remains
                self._write_some(b"\n")
                self._torn = False
            while rest:
                rest = rest[self._write_some(rest):]
        except OSError as failure:
            if len(rest) < len(block):
                self._torn = block[len(block) - len(rest) - 1 : len(block) - len(rest)] != b"\n"
            self._drop(bytes(rest).count(b"\n"))
            if not self._failing:
                where = self._path or f"descriptor {self._fd}"
                _log.error("Records cannot be written to %s: %s. Until it works they are dropped.", where, failure)
            self._failing = True
            return
        if self._failing:
            _log.warning("Records are written again.")
        self._failing = False

    def _write_some(self, data: bytes | memoryview) -> int:
        while True:
            try:
                return os.write(self._fd, data)
            except BlockingIOError:
                # Our stdout may be a pipe or terminal that another process has set non-blocking.
                time.sleep(0.01)

    def _follow_rotation(self, path: Path) -> None:
        try:
            there = os.stat(path)
            ours = os.fstat(self._fd)
            moved = (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)
        except FileNotFoundError:
            moved = True
        except OSError:
            return  # the folder cannot be read just now; the open file still can be written
        if moved:
            try:
                fresh = _open(path)
            except OSError as failure:
                _log.warning("The record log %s was moved and cannot be made again: %s.", path, failure)
                return
            os.close(self._fd)
            self._fd = fresh
            self._torn = False


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
