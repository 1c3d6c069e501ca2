"""ConverseStream's frames as chat.completion.chunk objects.

Source: botocore's model of bedrock-runtime, shape ConverseStreamOutput and its members; the order of its events is in the API
reference, ConverseStream: messageStart, the content blocks, messageStop, metadata. A block's start is sent for tools only.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import orjson

from mitmgate.dialects.bedrock.faults import frame_fault
from mitmgate.dialects.bedrock.frames import read_frame
from mitmgate.dialects.bedrock.reply import MALFORMED, finish_of, redacted, served_model, signed, usage_of
from mitmgate.dialects.canonical import chunk, usage_chunk
from mitmgate.dialects.codec import Ask, Garbled, Step
from mitmgate.dialects.reading import Kind
from mitmgate.errors import Fault

_OTHER: Final = Step(Kind.OTHER)
_GARBAGE: Final = Step(Kind.GARBAGE)
_ERROR: Final = Step(Kind.ERROR)


class _Tool:
    """A tool's call on its way. `index`: the how manieth, None where Bedrock itself runs the tool."""

    __slots__ = ("begun", "index")

    def __init__(self, index: int | None) -> None:
        self.index = index
        self.begun = False                  # something of its arguments came


class _Thought:
    """A block of reasoning on its way: whole at its end, for its model's next turn."""

    __slots__ = ("redacted", "signature", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.signature: list[str] = []
        self.redacted: list[str] = []


class ConverseReader:
    """Reads one reply's frames."""

    __slots__ = ("_ask", "_blocks", "_calls", "_done", "_model", "_opened", "_stopped", "_usage")

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._model = ask.model
        self._opened = False
        self._calls = 0
        self._blocks: dict[object, _Tool | _Thought] = {}   # open ones by contentBlockIndex; texts are not kept
        self._stopped = False               # the stop reason was seen
        self._usage: dict[str, Any] | None = None           # metadata that came before it
        self._done = False

    @property
    def complete(self) -> bool:
        """After both messageStop and metadata, which is the last event."""
        return self._done

    def fault_of(self, event: bytes) -> Fault:
        """An exception's, or a malformed message's."""
        return frame_fault(event)

    def read(self, event: bytes) -> Step:
        """One whole frame."""
        try:
            headers, payload = read_frame(event)
            if headers.get(":message-type") != "event":
                return _ERROR if headers.get(":message-type") in ("exception", "error") else _GARBAGE
            read = _EVENTS.get(headers.get(":event-type", ""))
            if read is None:
                return _OTHER               # new events may be added
            found = orjson.loads(payload)
            return read(self, found) if isinstance(found, dict) else _GARBAGE
        except (Garbled, orjson.JSONDecodeError):
            return _GARBAGE

    def _start(self, found: Mapping[str, Any]) -> Step:
        return self._step(Kind.OTHER)

    def _block_start(self, found: Mapping[str, Any]) -> Step:
        start = found.get("start")
        use = start.get("toolUse") if isinstance(start, dict) else None
        if not isinstance(use, dict):
            return self._step(Kind.OTHER)   # a text's, an image's, or the result of a tool that Bedrock ran
        place = _place(found)
        if use.get("type") == "server_tool_use":
            self._blocks[place] = _Tool(None)
            return self._step(Kind.OTHER)
        id, name = use.get("toolUseId"), use.get("name")
        if not isinstance(id, str) or not isinstance(name, str):
            return _GARBAGE
        self._blocks[place] = _Tool(self._calls)
        call = {"index": self._calls, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}
        self._calls += 1
        return self._step(Kind.CONTENT, {"tool_calls": [call]})

    def _block_delta(self, found: Mapping[str, Any]) -> Step:
        delta = found.get("delta")
        if not isinstance(delta, dict):
            return _GARBAGE
        if "text" in delta:
            text = _text(delta, "text")
            return self._step(Kind.CONTENT, {"content": text}) if text else self._step(Kind.OTHER)
        if "toolUse" in delta:
            return self._tool_input(found, delta["toolUse"])
        if "reasoningContent" in delta:
            return self._reasoning(found, delta["reasoningContent"])
        return self._step(Kind.OTHER)

    def _tool_input(self, found: Mapping[str, Any], use: object) -> Step:
        tool = self._blocks.get(_place(found))
        if not isinstance(tool, _Tool) or not isinstance(use, dict):
            return _GARBAGE                 # a call that never began has no name
        fragment = _text(use, "input")
        if tool.index is None or not fragment:
            return self._step(Kind.OTHER)
        tool.begun = True
        return self._step(Kind.CONTENT, _arguments(tool.index, fragment))

    def _reasoning(self, found: Mapping[str, Any], delta: object) -> Step:
        place = _place(found)
        thought = self._blocks.get(place)
        if thought is None:
            thought = self._blocks[place] = _Thought()
        if not isinstance(thought, _Thought) or not isinstance(delta, dict):
            return _GARBAGE
        if "text" in delta:
            text = _text(delta, "text")
            thought.text.append(text)
            return self._step(Kind.CONTENT, {"reasoning_content": text}) if text else self._step(Kind.OTHER)
        if "signature" in delta:
            thought.signature.append(_text(delta, "signature"))
        elif "redactedContent" in delta:
            thought.redacted.append(_text(delta, "redactedContent"))
        return self._step(Kind.OTHER)

    def _block_stop(self, found: Mapping[str, Any]) -> Step:
        block = self._blocks.pop(_place(found), None)
        if isinstance(block, _Tool) and block.index is not None and not block.begun:
            return self._step(Kind.CONTENT, _arguments(block.index, "{}"))
        if isinstance(block, _Thought):
            whole = _whole(block)
            return self._step(Kind.OTHER, {"thinking_blocks": whole} if whole else None)
        return self._step(Kind.OTHER)

    def _message_stop(self, found: Mapping[str, Any]) -> Step:
        reason = found.get("stopReason")
        if not isinstance(reason, str):
            return _GARBAGE
        if reason in MALFORMED:
            return _ERROR
        if self._stopped:
            return _OTHER
        self._stopped = True
        finish = finish_of(reason, called=self._calls > 0)
        step = self._step(Kind.END, {}, finish)
        if self._usage is None:
            return step
        self._done = True
        return Step(Kind.END, (*step.chunks, self._usage_chunk(self._usage)))

    def _metadata(self, found: Mapping[str, Any]) -> Step:
        tokens = found.get("usage")
        if not isinstance(tokens, dict):
            return _GARBAGE
        if self._done:
            return _OTHER
        self._model = served_model(found) or self._model
        self._usage = usage_of(tokens)
        if not self._stopped:
            return self._step(Kind.OTHER)   # out of order: the usage is the last chunk nevertheless
        self._done = True
        return Step(Kind.END, (self._usage_chunk(self._usage),))

    def _step(self, kind: Kind, delta: Mapping[str, Any] | None = None, finish: str | None = None) -> Step:
        """The chunk for a delta, if there is one, and before it the one that opens the reply, if it is still to come."""
        if self._opened:
            return _OTHER if delta is None else Step(kind, (self._chunk(delta, finish),))
        self._opened = True
        opening = self._chunk({"role": "assistant", "content": ""})
        return Step(kind, (opening,) if delta is None else (opening, self._chunk(delta, finish)))

    def _chunk(self, delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
        return chunk(id=f"chatcmpl-{self._ask.id}", created=self._ask.created, model=self._model, delta=delta, finish=finish)

    def _usage_chunk(self, usage: Mapping[str, Any]) -> dict[str, Any]:
        return usage_chunk(id=f"chatcmpl-{self._ask.id}", created=self._ask.created, model=self._model, usage=usage)


_EVENTS: Final = {
    "messageStart": ConverseReader._start,
    "contentBlockStart": ConverseReader._block_start,
    "contentBlockDelta": ConverseReader._block_delta,
    "contentBlockStop": ConverseReader._block_stop,
    "messageStop": ConverseReader._message_stop,
    "metadata": ConverseReader._metadata,
}


def _arguments(index: int, fragment: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": fragment}}]}


def _whole(thought: _Thought) -> list[dict[str, Any]]:
    """What its model needs to go on from it; unsigned reasoning is of no use to it. Raises Garbled."""
    found: list[dict[str, Any]] = []
    if signature := "".join(thought.signature):
        found.append(signed("".join(thought.text), signature))
    if thought.redacted:
        found.append(redacted(_joined(thought.redacted)))
    return found


def _joined(blobs: list[str]) -> str:
    """Pieces of one blob, each in base64 of its own."""
    if len(blobs) == 1:
        return blobs[0]
    try:
        return base64.b64encode(b"".join(base64.b64decode(blob, validate=True) for blob in blobs)).decode()
    except (binascii.Error, ValueError):
        raise Garbled("redacted reasoning is not base64") from None


def _place(found: Mapping[str, Any]) -> int:
    place = found.get("contentBlockIndex")
    if not isinstance(place, int):
        raise Garbled("a content block has no index")
    return place


def _text(holder: Mapping[str, Any], name: str) -> str:
    text = holder.get(name)
    if not isinstance(text, str):
        raise Garbled(f"`{name}` is not a text")
    return text
