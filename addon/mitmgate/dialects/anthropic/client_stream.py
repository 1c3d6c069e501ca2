"""Canonical chunks as Anthropic's events.

Source: anthropic.types.RawMessageStreamEvent; platform.claude.com, "Streaming Messages". Theory of operation: one block is open
at a time, and only what there is to say opens one. The reason for the end and the usage stand in the same message_delta, and
the canonical usage comes after the reason: message_delta waits for `end`. Calls whose fragments come interleaved
wait until the arguments of the open one are whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from mitmgate.dialects.anthropic.client_reply import call_of, message_id, stop_of, thought_of
from mitmgate.dialects.anthropic.failures import error_document, status_of
from mitmgate.dialects.anthropic.usage import counted
from mitmgate.dialects.canonical import event, require_few
from mitmgate.dialects.codec import Asked, Document

_DELTAS: Final[Mapping[str, tuple[str, str]]] = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}
_EMPTY: Final[Mapping[str, Mapping[str, Any]]] = {
    "text": {"type": "text", "text": ""}, "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}  # fmt: skip

_PARSED: Final = 64 << 10                   # characters of a call's arguments that may be read in vain, beside some of all


@dataclass(slots=True)
class _Call:
    """A tool call as it comes; `parts` is what came of its arguments, `told` how many of those were sent on, `size` their
    characters and `parsed` how many were read to see whether they are whole."""

    id: str
    name: str
    parts: list[str] = field(default_factory=list)
    told: int = 0
    size: int = 0
    parsed: int = 0

    def add(self, arguments: str) -> None:
        """A fragment."""
        self.parts.append(arguments)
        self.size += len(arguments)

    @property
    def whole(self) -> bool:
        """Whether its arguments are all there: an object, to which nothing can be added any more. Not known of large ones that
        were asked about too often, each time in vain: then the next call waits for the end."""
        if not self.parts or self.parts[-1].rstrip()[-1:] != "}" or self.parsed > _PARSED + 4 * self.size:
            return False
        self.parsed += self.size
        try:
            orjson.loads("".join(self.parts))
        except orjson.JSONDecodeError:
            return False
        return True


class MessageEvents:
    """Writes one reply's events."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._begun = False
        self._next = 0                      # index of the next block
        self._open: str | None = None       # text, thinking or tool_use
        self._thought: list[str] = []       # text of the open thinking block, or of the last one while it has no signature
        self._calls: dict[int, _Call] = {}
        self._latest = -1                   # the highest of their indexes
        self._waiting: list[int] = []       # calls that are not open yet
        self._current: int | None = None
        self._called = False
        self._finish: object = None
        self._usage: object = None

    def write(self, chunk: Document) -> bytes:
        """The events that a chunk stands for."""
        out = bytearray()
        if not self._begun:
            self._begin(chunk, out)
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and choice.get("index", 0) == 0:
                self._choice(choice, out)
        return bytes(out)

    def end(self) -> bytes:
        """message_delta and message_stop."""
        out = bytearray()
        if not self._begun:
            self._begin({}, out)
        self._close_all(out)
        delta = {"stop_reason": stop_of(self._finish, called=self._called), "stop_sequence": None}
        out += event({"type": "message_delta", "delta": delta, "usage": counted(self._usage)}, "message_delta")
        out += event({"type": "message_stop"}, "message_stop")
        return bytes(out)

    def broken(self, code: str, message: str) -> bytes:
        """The error event."""
        return event(error_document(status_of(code), message), "error")

    def _begin(self, chunk: Document, out: bytearray) -> None:
        self._begun = True
        message: dict[str, Any] = {
            "id": message_id(chunk, self._asked), "type": "message", "role": "assistant", "content": [],
            "model": self._asked.model, "stop_reason": None, "stop_sequence": None, "usage": counted(None),
        }  # fmt: skip
        out += event({"type": "message_start", "message": message}, "message_start")

    def _choice(self, choice: Document, out: bytearray) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._delta(delta, out)
        if choice.get("finish_reason") is not None:
            self._finish = choice["finish_reason"]
            self._close_all(out)

    def _delta(self, delta: Document, out: bytearray) -> None:
        self._text("thinking", delta.get("reasoning_content"), out)
        if isinstance(blocks := delta.get("thinking_blocks"), list):
            for block in blocks:
                self._whole_thought(block, out)
        self._text("text", delta.get("content"), out)
        self._text("text", delta.get("refusal"), out)
        if isinstance(calls := delta.get("tool_calls"), list):
            for call in calls:
                self._fragment(call, out)

    def _text(self, kind: str, text: object, out: bytearray) -> None:
        if not isinstance(text, str) or not text:
            return
        if self._open != kind:
            self._close_all(out)
            self._start(dict(_EMPTY[kind]), out)
            if kind == "thinking":
                self._thought = []
        if kind == "thinking":
            self._thought.append(text)
        delta, member = _DELTAS[kind]
        self._say({"type": delta, member: text}, out)

    def _whole_thought(self, given: object, out: bytearray) -> None:
        """A whole thinking block: the signature of the one whose text was told, or all of it."""
        block = thought_of(given)
        if block is None:
            return
        if block["type"] == "redacted_thinking":
            self._close_all(out)
            self._start(block, out)
            self._close(out)
            return
        if self._open != "thinking" or "".join(self._thought) != block["thinking"]:
            if self._thought and "".join(self._thought) == block["thinking"]:
                return                      # told, and closed already: too late for its signature
            self._close_all(out)
            self._start(dict(_EMPTY["thinking"]), out)
            if block["thinking"]:
                self._say({"type": "thinking_delta", "thinking": block["thinking"]}, out)
        if block["signature"]:
            self._say({"type": "signature_delta", "signature": block["signature"]}, out)
        self._close(out)
        self._thought = []

    def _fragment(self, given: object, out: bytearray) -> None:
        if not isinstance(given, dict):
            return
        index = given.get("index")
        if not isinstance(index, int):
            index = self._latest + (1 if given.get("id") else 0)
        call = self._calls.get(index)
        if call is None:
            named = call_of(given, self._asked, len(self._calls))
            if named is None:
                return
            require_few(len(self._calls))
            self._calls[index] = call = _Call(named[0], named[1])
            self._latest = max(self._latest, index)
            self._waiting.append(index)
        function = given.get("function")
        arguments = function.get("arguments") if isinstance(function, dict) else None
        if isinstance(arguments, str) and arguments:
            call.add(arguments)
        self._advance(out)

    def _advance(self, out: bytearray, *, all: bool = False) -> None:
        """Tells what is known of the open call, and opens the next once that one is whole. `all`: none has more to come."""
        while True:
            if self._current is not None:
                self._tell(self._calls[self._current], out)
            if not self._waiting or not (self._current is None or all or self._calls[self._current].whole):
                return
            self._close(out)
            self._current = self._waiting.pop(0)
            call = self._calls[self._current]
            self._start({"type": "tool_use", "id": call.id, "name": call.name, "input": {}}, out)
            self._called = True

    def _tell(self, call: _Call, out: bytearray) -> None:
        if call.told < len(call.parts):
            self._say({"type": "input_json_delta", "partial_json": "".join(call.parts[call.told :])}, out)
            call.told = len(call.parts)

    def _close_all(self, out: bytearray) -> None:
        """Closes what is open, after the calls that wait."""
        self._advance(out, all=True)
        self._close(out)
        self._current = None

    def _start(self, block: dict[str, Any], out: bytearray) -> None:
        self._open = block["type"]
        out += event({"type": "content_block_start", "index": self._next, "content_block": block}, "content_block_start")

    def _say(self, delta: dict[str, Any], out: bytearray) -> None:
        out += event({"type": "content_block_delta", "index": self._next, "delta": delta}, "content_block_delta")

    def _close(self, out: bytearray) -> None:
        if self._open is not None:
            out += event({"type": "content_block_stop", "index": self._next}, "content_block_stop")
            self._next += 1
            self._open = None
