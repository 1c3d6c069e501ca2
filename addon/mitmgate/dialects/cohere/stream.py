"""The events of a streamed chat (SDK, `v2/types/v2chat_stream_response.py`); the end is `message-end`, nothing follows it.

Each event is one JSON object that says its `type`; the SDK does not read the `event:` line, nor does this. Citations and
prompts for debugging have no canonical form. A tool call's index counts content blocks too in some replies, so calls are
counted here. An error has no event of its own in the types: `message-end` has `error`, or a finish reason that is one; and
an object with a `message` and no type is the body of a failing reply, sent late.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from mitmgate.dialects.canonical import chunk, usage_chunk
from mitmgate.dialects.codec import Ask, Document, Step
from mitmgate.dialects.cohere.failures import code_of
from mitmgate.dialects.cohere.reply import BETWEEN, FAILURES, called_by, finish_of, is_failure, logprobs_of
from mitmgate.dialects.cohere.usage import member, usage_of
from mitmgate.dialects.reading import Kind
from mitmgate.errors import Fault, FaultKind
from mitmgate.sse import event_data

_QUIET: Final = Step(Kind.OTHER)
_ERROR: Final = Step(Kind.ERROR)
_GARBAGE: Final = Step(Kind.GARBAGE)
_LONGEST_ERROR: Final = 64 << 10


class ChatStream:
    """Reads one streamed chat."""

    __slots__ = ("_ask", "_bare", "_calls", "_complete", "_id", "_opened", "_places", "_planned", "_thought")

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._id = f"chatcmpl-{ask.id}"
        self._opened = False                # the role was told
        self._thought = False               # thoughts were told
        self._planned = False               # so was some of a plan
        self._calls = 0
        self._places: dict[object, int] = {}    # the event's index to the call's
        self._bare: set[int] = set()        # calls without an argument so far
        self._complete = False

    @property
    def complete(self) -> bool:
        """After `message-end`."""
        return self._complete

    def read(self, event: bytes) -> Step:
        """What one event is, and its chunks."""
        data = event_data(event)
        if data is None or not data.strip() or self._complete:
            return _QUIET
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            return _QUIET if data.strip() == b"[DONE]" else _GARBAGE
        if not isinstance(document, dict):
            return _GARBAGE
        kind = document.get("type")
        if not isinstance(kind, str):
            return _ERROR if kind is None and isinstance(document.get("message"), str) else _GARBAGE
        read = _READERS.get(kind)
        return _QUIET if read is None else read(self, document)

    def fault_of(self, event: bytes) -> Fault:
        """By the finish reason, or by what the error says."""
        data = event_data(event) or b""
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            document = None
        message = next((said for said in (member(document, "delta", "error"), member(document, "message")) if said), None)
        reason = member(document, "delta", "finish_reason")
        status = FAILURES.get(reason) if isinstance(reason, str) else None
        code = code_of(status, message if isinstance(message, str) else None)
        headers = {"content-type": "application/json"}
        reason_ = "the provider sent an error in its stream"
        return Fault(FaultKind.ERROR_EVENT, reason_, status, code, headers, data[:_LONGEST_ERROR])

    def _start(self, document: Document) -> Step:
        id = document.get("id")
        if isinstance(id, str) and id and not self._opened:
            self._id = id
        return Step(Kind.OTHER, self._with_role(()))

    def _content(self, document: Document) -> Step:
        """`content-start` and `content-delta`: some text, or some thoughts."""
        content = member(document, "delta", "message", "content")
        text, thought = (content.get("text"), content.get("thinking")) if isinstance(content, dict) else (0, 0)
        if not isinstance(text, str | None) or not isinstance(thought, str | None):
            return _GARBAGE
        chunks = []
        if thought:
            self._thought = True
            chunks.append(self._chunk({"reasoning_content": thought}))
        if text:
            chunks.append(self._chunk({"content": text}))
        if chunks and (logprobs := logprobs_of([document.get("logprobs")])) is not None:
            chunks[-1]["choices"][0]["logprobs"] = logprobs
        return Step(Kind.CONTENT, self._with_role(tuple(chunks))) if chunks else _QUIET

    def _plan(self, document: Document) -> Step:
        plan = member(document, "delta", "message", "tool_plan")
        if not isinstance(plan, str):
            return _GARBAGE
        if not plan:
            return _QUIET
        lead = BETWEEN if self._thought and not self._planned else ""
        self._planned = True
        return Step(Kind.CONTENT, self._with_role((self._chunk({"reasoning_content": lead + plan}),)))

    def _call(self, document: Document) -> Step:
        called = called_by(_one(member(document, "delta", "message", "tool_calls")))
        index = document.get("index")
        if called is None or not isinstance(index, int | None):
            return _GARBAGE
        id, name, arguments = called
        k = self._places[index] = self._calls
        self._calls += 1
        if not arguments:
            self._bare.add(k)
        call = {"index": k, "id": id or f"call_{self._ask.id}_{k}", "type": "function"}
        delta = {"tool_calls": [{**call, "function": {"name": name, "arguments": arguments}}]}
        return Step(Kind.CONTENT, self._with_role((self._chunk(delta),)))

    def _arguments(self, document: Document) -> Step:
        call = _one(member(document, "delta", "message", "tool_calls"))
        arguments = member(call, "function", "arguments")
        k = self._place(document)
        if not isinstance(arguments, str) or k is None:
            return _GARBAGE
        if not arguments:
            return _QUIET
        self._bare.discard(k)
        return Step(Kind.CONTENT, (self._fragment(k, arguments),))

    def _called(self, document: Document) -> Step:
        """`tool-call-end`: a call without arguments has an empty object of them, else no client could read it."""
        k = self._place(document)
        return Step(Kind.OTHER, self._filled({k} & self._bare)) if k is not None else _GARBAGE

    def _end(self, document: Document) -> Step:
        reason = member(document, "delta", "finish_reason")
        if member(document, "delta", "error") or (isinstance(reason, str) and is_failure(reason)):
            return _ERROR
        if not isinstance(reason, str):
            return _GARBAGE
        self._complete = True
        last = self._chunk({}, finish_of(reason, called=self._calls > 0))
        usage = usage_of(member(document, "delta", "usage"))
        counted = usage_chunk(id=self._id, created=self._ask.created, model=self._ask.model, usage=usage)
        return Step(Kind.END, self._with_role((*self._filled(set(self._bare)), last, counted)))

    def _failure(self, document: Document) -> Step:
        return _ERROR

    def _place(self, document: Document) -> int | None:
        """Which call an event belongs to: the last one if it does not say."""
        index = document.get("index")
        if not isinstance(index, int | None) or not self._calls:
            return None
        return self._calls - 1 if index is None else self._places.get(index)

    def _filled(self, bare: set[int]) -> tuple[dict[str, Any], ...]:
        self._bare -= bare
        return tuple(self._fragment(k, "{}") for k in sorted(bare))

    def _fragment(self, k: int, arguments: str) -> dict[str, Any]:
        return self._chunk({"tool_calls": [{"index": k, "function": {"arguments": arguments}}]})

    def _with_role(self, chunks: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        """These chunks, after the one with the role if they are the first."""
        if self._opened:
            return chunks
        self._opened = True
        return (self._chunk({"role": "assistant", "content": ""}), *chunks)

    def _chunk(self, delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
        ask = self._ask
        return chunk(id=self._id, created=ask.created, model=ask.model, delta=delta, finish=finish)


def _one(calls: object) -> object:
    """The call of an event: the SDK's type has it as an object; a list of one means the same."""
    return calls[0] if isinstance(calls, list) and len(calls) == 1 else calls


_READERS: Final[Mapping[str, Callable[[ChatStream, Document], Step]]] = {
    "message-start": ChatStream._start,
    "content-start": ChatStream._content,
    "content-delta": ChatStream._content,
    "tool-plan-delta": ChatStream._plan,
    "tool-call-start": ChatStream._call,
    "tool-call-delta": ChatStream._arguments,
    "tool-call-end": ChatStream._called,
    "message-end": ChatStream._end,
    "error": ChatStream._failure,
}
"""Any other type (content-end, citation-start, citation-end, debug, what may come) has nothing to tell."""
