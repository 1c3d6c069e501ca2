"""streamGenerateContent's events: each a GenerateContentResponse that holds what is new (Gemini API reference).

The dialect has no terminator: a stream is whole once every candidate has a finish reason, or the prompt was blocked.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from mitmgate.dialects.canonical import usage_chunk
from mitmgate.dialects.codec import Ask, Document, Garbled, Step
from mitmgate.dialects.gemini.failures import error_of, fault_of
from mitmgate.dialects.gemini.reply import (
    CallIds,
    blocked,
    candidates_of,
    finish_of,
    id_of,
    image_of,
    index_of,
    logprobs_of,
    model_of,
    parts_of,
    text_of,
    tool_call_of,
    usage_of,
)
from mitmgate.dialects.gemini.words import signed
from mitmgate.dialects.reading import Kind
from mitmgate.errors import Fault
from mitmgate.sse import event_data


class GenerateStream:
    """Reads one reply's events."""

    __slots__ = ("_ask", "_blocked", "_called", "_choices", "_finished", "_head", "_ids", "_usage")

    def __init__(self, ask: Ask) -> None:
        choices = ask.document.get("n")
        self._ask = ask
        self._choices = choices if isinstance(choices, int) and choices > 0 else 1
        self._head: dict[str, Any] | None = None        # what every chunk begins with
        self._called: dict[int, int] = {}               # how many tools each candidate that was seen has called
        self._finished: set[int] = set()
        self._blocked = False
        self._usage: dict[str, Any] | None = None
        self._ids = CallIds(ask.id)

    @property
    def complete(self) -> bool:
        """Once nothing of any candidate is outstanding."""
        return self._blocked or (len(self._finished) >= self._choices and len(self._finished) == len(self._called))

    def read(self, event: bytes) -> Step:
        """What one event is, and its chunks: one for each part, in their order."""
        data = _data(event)
        if data is None:
            return Step(Kind.OTHER)
        try:
            document = orjson.loads(data)
            if error_of(document) is not None:
                return Step(Kind.ERROR)
            if not isinstance(document, dict):
                return Step(Kind.GARBAGE)
            return self._response(document)
        except (orjson.JSONDecodeError, Garbled):
            return Step(Kind.GARBAGE)

    def fault_of(self, event: bytes) -> Fault:
        """Google's error."""
        return fault_of(_data(event) or b"")

    def _response(self, document: Document) -> Step:
        candidates = candidates_of(document)
        if self._head is None:
            self._head = {
                "id": id_of(document, self._ask), "object": "chat.completion.chunk", "created": self._ask.created,
                "model": model_of(document, self._ask),
            }  # fmt: skip
        kind = Kind.OTHER
        chunks: list[dict[str, Any]] = []
        for place, candidate in enumerate(candidates):
            found = self._candidate(candidate, index_of(candidate, place), chunks)
            if kind is not Kind.CONTENT and found is not Kind.OTHER:
                kind = found
        if not candidates and blocked(document) and not self._called:
            self._blocked, kind = True, Kind.END
            chunks += (self._opening(0), self._chunk(0, {}, "content_filter"))
        if (told := usage_of(document)) is not None:
            self._usage = told
        if self._usage is not None and self.complete:
            chunks.append(
                usage_chunk(id=self._head["id"], created=self._ask.created, model=self._head["model"], usage=self._usage)
            )
            self._usage = None
        return Step(kind, tuple(chunks))

    def _candidate(self, candidate: Mapping[str, Any], index: int, chunks: list[dict[str, Any]]) -> Kind:
        """One candidate's news. Raises Garbled."""
        parts = parts_of(candidate)
        called = self._called.get(index)
        if called is None:
            self._called[index] = called = 0
            chunks.append(self._opening(index))
        kind = Kind.OTHER
        logprobs = logprobs_of(candidate) if "logprobsResult" in candidate else None
        for part in parts:
            found, delta = self._delta(part, index)
            if found is Kind.CONTENT:
                kind = found
            if delta:
                chunks.append(self._chunk(index, delta, None, logprobs))
                logprobs = None
        finish = finish_of(candidate, self._called[index] > 0)
        if finish is not None and index not in self._finished:
            self._finished.add(index)
            chunks.append(self._chunk(index, {}, finish, logprobs))
            kind = Kind.END if kind is Kind.OTHER else kind
        return kind

    def _delta(self, part: Mapping[str, Any], index: int) -> tuple[Kind, dict[str, Any] | None]:
        if "text" in part:
            text = text_of(part)
            signature = signed(part.get("thoughtSignature")) if "thoughtSignature" in part else {}
            if not text:
                return Kind.OTHER, signature
            name = "reasoning_content" if part.get("thought") is True else "content"
            return Kind.CONTENT, {name: text, **signature}
        if "functionCall" in part:
            if _continues(part["functionCall"]):
                return Kind.CONTENT, None
            call = tool_call_of(part, self._ids)
            place = self._called[index]
            self._called[index] = place + 1
            return Kind.CONTENT, {"tool_calls": [{"index": place, **call}]}
        if "inlineData" in part and part.get("thought") is not True and (image := image_of(part)) is not None:
            return Kind.CONTENT, {"images": [image]}
        return Kind.CONTENT, None           # code that was run, and what Google thinks of next: only who asked knows it

    def _opening(self, index: int) -> dict[str, Any]:
        return self._chunk(index, {"role": "assistant", "content": ""})

    def _chunk(
        self, index: int, delta: dict[str, Any], finish: str | None = None, logprobs: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": index, "delta": delta, "finish_reason": finish}
        if logprobs is not None:
            choice["logprobs"] = logprobs
        return {**(self._head or {}), "choices": [choice]}


def _continues(call: object) -> bool:
    """Whether a call comes in pieces (`streamFunctionCallArguments`, Vertex alone): never asked for, so only passed through."""
    return isinstance(call, dict) and (not call or "partialArgs" in call or "willContinue" in call)


def _data(event: bytes) -> bytes | None:
    """An event's data. An error may come as bare JSON in place of an event, as google-genai's reader knows."""
    if event.startswith(b"data: {") and event.endswith(b"}\r\n\r\n") and event.count(b"\n") == event.count(b"\r") == 2:
        return event[6:-4]                  # as Google writes them
    data = event_data(event)
    if data is None and event.lstrip()[:1] in (b"{", b"["):
        return event
    return data
