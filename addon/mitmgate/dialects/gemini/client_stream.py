"""Canonical chunks as streamGenerateContent's events: with `alt=sse` server-sent ones, without it one JSON array.

Calls are whole in this dialect: a call's fragments are kept until the next call begins or the choice finishes. The finish is
kept until the usage is known, for the last event holds both.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from mitmgate.dialects.canonical import require_few
from mitmgate.dialects.codec import Asked, Document, Garbled
from mitmgate.dialects.gemini.client_reply import (
    MALFORMED,
    broken_document,
    call_part,
    finish_reason,
    logprobs_result,
    response,
    spoken_parts,
    thoughts_wanted,
)
from mitmgate.dialects.gemini.words import objects


class _Call:
    """A tool call as it grows."""

    __slots__ = ("arguments", "extra", "identity", "index", "name")

    def __init__(self, index: object) -> None:
        self.index = index
        self.identity: object = None
        self.name: list[str] = []
        self.extra: object = None
        self.arguments: list[str] = []

    def add(self, fragment: Mapping[str, Any]) -> None:
        self.identity = self.identity or fragment.get("id")
        self.extra = fragment.get("extra_content") or self.extra
        function = fragment.get("function")
        if isinstance(function, dict):
            if isinstance(name := function.get("name"), str):
                self.name.append(name)
            if isinstance(arguments := function.get("arguments"), str):
                self.arguments.append(arguments)

    def part(self) -> dict[str, Any] | None:
        function = {"name": "".join(self.name), "arguments": "".join(self.arguments)}
        return call_part({"id": self.identity, "function": function, "extra_content": self.extra})


class _Choice:
    """What of one choice is not written yet."""

    __slots__ = ("call", "finish", "malformed")

    def __init__(self) -> None:
        self.call: _Call | None = None
        self.finish: str | None = None
        self.malformed = False

    def whole_call(self) -> list[dict[str, Any]]:
        """The call that was collected, if it is one."""
        if self.call is None:
            return []
        part, self.call = self.call.part(), None
        self.malformed = self.malformed or part is None
        return [part] if part is not None else []


class GenerateClientStream:
    """Writes one reply's events."""

    __slots__ = ("_asked", "_begun", "_choices", "_ended", "_id", "_shown", "_sse", "_usage", "media")

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._sse = asked.query.get("alt") == "sse"
        self.media = "text/event-stream" if self._sse else "application/json"
        self._shown = thoughts_wanted(asked.document)
        self._choices: dict[int, _Choice] = {}
        self._usage: object = None
        self._id: object = None
        self._begun = False
        self._ended = False

    def write(self, chunk: Document) -> bytes:
        """An event for what can be shown by now, or nothing."""
        self._id = chunk.get("id") or self._id
        if chunk.get("usage") is not None:
            self._usage = chunk["usage"]
        if not chunk.get("choices"):
            ends = not self._ended and chunk.get("usage") is not None and self._finished()
            return self._last() if ends else b""
        return b"".join(self._choice(choice, place) for place, choice in enumerate(objects(chunk["choices"])))

    def end(self) -> bytes:
        """The last event, if it was not written with the usage, and the end of the array."""
        out = self._last()
        return out if self._sse else out + (b"]" if self._begun else b"[]")

    def broken(self, code: str, message: str) -> bytes:
        """Google's error object, as the last event."""
        return self._written(broken_document(code, message)) + (b"" if self._sse else b"]")

    def _finished(self) -> bool:
        return bool(self._choices) and all(choice.finish is not None for choice in self._choices.values())

    def _last(self) -> bytes:
        """The last event, once: the finish of every choice, and the usage."""
        if self._ended:
            return b""
        self._ended = True
        out = b"".join(self._parts(choice.whole_call(), index) for index, choice in self._choices.items())
        last = [_final(index, choice) for index, choice in sorted(self._choices.items())]
        return out + self._event(last, self._usage) if last or self._usage is not None else out

    def _choice(self, choice: Mapping[str, Any], place: int) -> bytes:
        index = choice.get("index")
        index = index if isinstance(index, int) else place
        state = self._choices.get(index)
        if state is None:
            require_few(len(self._choices))
            state = self._choices[index] = _Choice()
        delta = choice.get("delta")
        said: Mapping[str, Any] = delta if isinstance(delta, dict) else {}
        out = b""
        if parts := spoken_parts(said, self._shown):
            out += self._parts(parts, index, logprobs_result(choice.get("logprobs")))
        for fragment in objects(said.get("tool_calls")):
            if state.call is None or state.call.index != fragment.get("index"):
                out += self._parts(state.whole_call(), index)
                state.call = _Call(fragment.get("index"))
            state.call.add(fragment)
        if (finish := finish_reason(choice.get("finish_reason"))) is not None:
            state.finish = finish
            out += self._parts(state.whole_call(), index)
        return out

    def _parts(self, parts: list[dict[str, Any]], index: int, more: Mapping[str, Any] | None = None) -> bytes:
        if not parts:
            return b""
        candidate = {"content": {"parts": parts, "role": "model"}, "index": index}
        return self._event([{**candidate, **more} if more else candidate], None)

    def _event(self, candidates: list[dict[str, Any]], usage: object) -> bytes:
        return self._written(response(candidates, usage, self._asked, self._id))

    def _written(self, document: Mapping[str, Any]) -> bytes:
        try:
            written = orjson.dumps(document)
        except orjson.JSONEncodeError:
            raise Garbled("an answer that cannot be written as JSON") from None
        begun, self._begun = self._begun, True
        if self._sse:
            return b"data: " + written + b"\r\n\r\n"
        return (b",\r\n" if begun else b"[") + written


def _final(index: int, choice: _Choice) -> dict[str, Any]:
    """A choice's finish. Clients of Google read the text of every event: the last has one as well, if an empty one."""
    candidate: dict[str, Any] = {"content": {"parts": [{"text": ""}], "role": "model"}}
    finish = MALFORMED if choice.malformed and choice.finish in (None, "STOP") else choice.finish
    if finish is not None:
        candidate["finishReason"] = finish
    return {**candidate, "index": index}
