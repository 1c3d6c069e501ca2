"""Anthropic's streams as chat.completion.chunk objects, event by event.

Source: anthropic.types.RawMessageStreamEvent; platform.claude.com, "Streaming Messages". Theory of operation: a reply is
message_start, then blocks (start, deltas, stop) by index, message_delta with the reason for the end, message_stop. A block's
index counts texts and thoughts too, OpenAI's index of a tool call only the calls. Thoughts are told twice: their text as it
comes, and each whole with its signature when its block stops, for the next turn.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import orjson

from mitmgate.dialects.anthropic.failures import fault_of
from mitmgate.dialects.anthropic.formats import json_tool
from mitmgate.dialects.anthropic.reply import finish_of, refusal_of
from mitmgate.dialects.anthropic.usage import Tokens
from mitmgate.dialects.anthropic.words import dumped
from mitmgate.dialects.canonical import chunk, usage_chunk
from mitmgate.dialects.codec import Ask, Document, Step
from mitmgate.dialects.reading import Kind
from mitmgate.errors import Fault
from mitmgate.sse import event_data

_OTHER: Final = Step(Kind.OTHER)
_GARBAGE: Final = Step(Kind.GARBAGE)


@dataclass(slots=True)
class _Block:
    """A block that is open. `call`: which tool call it is, None for the answer's own tool."""

    kind: str
    call: int | None = None
    given: dict[str, Any] | None = None     # a tool's input that came with its start
    heard: bool = False                     # of a tool's input, something came
    signature: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)


class MessageStream:
    """Reads one reply's events."""

    __slots__ = ("_answer", "_answered", "_ask", "_blocks", "_calls", "_complete", "_finished", "_id", "_model", "_tokens")

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._answer = json_tool(ask)
        self._id: str | None = None         # of the message; None before its start
        self._model = ask.model
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._answered = False
        self._tokens = Tokens()
        self._finished = False
        self._complete = False

    @property
    def complete(self) -> bool:
        """After message_stop."""
        return self._complete

    def fault_of(self, event: bytes) -> Fault:
        """What an error event stands for."""
        return fault_of(event)

    def read(self, event: bytes) -> Step:
        """One whole server-sent event."""
        text = event_data(event)
        if text is None:
            return _OTHER
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError:
            return _GARBAGE
        kind = document.get("type") if isinstance(document, dict) else None
        if not isinstance(kind, str):
            return Step(Kind.ERROR) if isinstance(document, dict) and document.get("error") else _GARBAGE
        if kind == "error":
            return Step(Kind.ERROR)
        read = _EVENTS.get(kind)
        if read is None or self._complete:  # a ping, or what the API has learnt since
            return _OTHER
        if self._id is None and kind != "message_start":
            return _GARBAGE
        return read(self, document)

    def _start(self, document: Document) -> Step:
        message = document.get("message")
        if not isinstance(message, dict) or self._id is not None:
            return _GARBAGE
        id, model = message.get("id"), message.get("model")
        self._id = id if isinstance(id, str) and id else f"chatcmpl-{self._ask.id}"
        if isinstance(model, str) and model:
            self._model = model
        self._tokens.note(message.get("usage"))
        return Step(Kind.OTHER, (self._chunk({"role": "assistant", "content": ""}),))

    def _block_start(self, document: Document) -> Step:
        index, block = document.get("index"), document.get("content_block")
        kind = block.get("type") if isinstance(block, dict) else None
        if not isinstance(index, int) or not isinstance(block, dict) or not isinstance(kind, str):
            return _GARBAGE
        self._blocks[index] = opened = _Block(kind)
        if kind == "tool_use":
            return self._call_start(block, opened)
        if kind == "redacted_thinking" and isinstance(data := block.get("data"), str):
            return self._told({"thinking_blocks": [{"type": kind, "data": data}]})
        if kind in _TEXTS and isinstance(text := block.get(kind), str) and text:
            return self._text(opened, _TEXTS[kind], text)
        return _OTHER

    def _call_start(self, block: Document, opened: _Block) -> Step:
        id, name, given = block.get("id"), block.get("name"), block.get("input")
        if not isinstance(id, str) or not isinstance(name, str):
            return _GARBAGE
        opened.given = given if isinstance(given, dict) else None
        if name == self._answer:
            self._answered = True
            return _OTHER
        opened.call = self._calls
        self._calls += 1
        function = {"name": name, "arguments": ""}
        return self._told({"tool_calls": [{"index": opened.call, "id": id, "type": "function", "function": function}]})

    def _block_delta(self, document: Document) -> Step:
        block, delta = self._block(document), document.get("delta")
        if block is None or not isinstance(delta, dict):
            return _GARBAGE
        kind = delta.get("type")
        if kind == "text_delta":
            return self._text(block, "content", delta.get("text"))
        if kind == "input_json_delta":
            return self._fragment(block, delta.get("partial_json"))
        if kind == "thinking_delta":
            return self._text(block, "reasoning_content", delta.get("thinking"))
        if kind == "signature_delta":
            if not isinstance(signature := delta.get("signature"), str):
                return _GARBAGE
            block.signature.append(signature)
            return _OTHER
        return _OTHER if isinstance(kind, str) else _GARBAGE

    def _text(self, block: _Block, member: str, text: object) -> Step:
        if not isinstance(text, str):
            return _GARBAGE
        if not text:
            return _OTHER
        if block.kind == "thinking":
            block.parts.append(text)
        return self._told({member: text})

    def _fragment(self, block: _Block, text: object) -> Step:
        if not isinstance(text, str):
            return _GARBAGE
        if not text or block.kind != "tool_use":
            return _OTHER
        block.heard = True
        return self._arguments(block, text)

    def _arguments(self, block: _Block, text: str) -> Step:
        if block.call is None:
            return self._told({"content": text})
        return self._told({"tool_calls": [{"index": block.call, "function": {"arguments": text}}]})

    def _block_stop(self, document: Document) -> Step:
        block = self._block(document)
        if block is None:
            return _GARBAGE
        del self._blocks[document["index"]]
        if block.kind == "tool_use" and not block.heard:
            return self._unheard(block)
        if block.kind == "thinking" and (signature := "".join(block.signature)):
            whole = {"type": "thinking", "thinking": "".join(block.parts), "signature": signature}
            return Step(Kind.OTHER, (self._chunk({"thinking_blocks": [whole]}),))
        return _OTHER

    def _unheard(self, block: _Block) -> Step:
        """The arguments of a call that had no deltas: those of its start, and `{}` where it had none."""
        try:
            return self._arguments(block, dumped(block.given or {}))
        except ValueError:
            return _GARBAGE

    def _delta(self, document: Document) -> Step:
        delta = document.get("delta")
        if not isinstance(delta, dict):
            return _GARBAGE
        self._tokens.note(document.get("usage"))
        stop = delta.get("stop_reason")
        if not isinstance(stop, str) or self._finished:
            return _OTHER
        self._finished = True
        finish = finish_of(stop, answered=self._answered and not self._calls)
        refusal = refusal_of(delta)
        return Step(Kind.END, (self._chunk({"refusal": refusal} if refusal else {}, finish),))

    def _stop(self, document: Document) -> Step:
        if not self._finished:              # an end without a reason is no end that the API has
            return _GARBAGE
        self._complete = True
        last = usage_chunk(id=self._id or "", created=self._ask.created, model=self._model, usage=self._tokens.usage)
        return Step(Kind.END, (last,))

    def _block(self, document: Document) -> _Block | None:
        index = document.get("index")
        return self._blocks.get(index) if isinstance(index, int) else None

    def _told(self, delta: dict[str, Any]) -> Step:
        return Step(Kind.CONTENT, (self._chunk(delta),))

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return chunk(id=self._id or "", created=self._ask.created, model=self._model, delta=delta, finish=finish)


_TEXTS: Final[Mapping[str, str]] = MappingProxyType({"text": "content", "thinking": "reasoning_content"})
_EVENTS: Final[Mapping[str, Callable[[MessageStream, Document], Step]]] = MappingProxyType(
    {
        "message_start": MessageStream._start, "content_block_start": MessageStream._block_start,
        "content_block_delta": MessageStream._block_delta, "content_block_stop": MessageStream._block_stop,
        "message_delta": MessageStream._delta, "message_stop": MessageStream._stop,
    }
)  # fmt: skip
