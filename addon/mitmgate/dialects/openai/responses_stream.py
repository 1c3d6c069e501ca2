"""Canonical chunks as the events of a response.

An item opens with the first of what it holds. Reasoning and messages close when something else begins; calls stay open to the
end, as a provider may send their fragments mixed. The last event holds the whole response, the same that a reply without a
stream would be, and its usage; there is no `[DONE]`.

A broken stream ends with an `error` event. It has the flat members that openai.types.responses.ResponseErrorEvent names, and
OpenAI's error object in `error` as well: on that the SDKs raise (openai._streaming.Stream), else they would only yield it.

Source: openai.types.responses.ResponseStreamEvent; API reference, streaming events of responses.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from mitmgate.dialects.canonical import event, require_few
from mitmgate.dialects.codec import Asked, Document, Garbled
from mitmgate.dialects.openai.responses_reply import (
    annotations_of,
    arguments_at_end,
    blocks_of,
    call_item,
    error_of,
    extra_of,
    finished,
    frame,
    is_incomplete,
    logprobs_of,
    message_item,
    reasoning_item,
    refusal_part,
    summary_part,
    text_in,
    text_part,
    usage_of,
)


class Emit(Protocol):
    """Writes one event."""

    def __call__(self, kind: str, /, **members: Any) -> None:
        """`kind`: its type; `members`: in their order."""
        ...


class _Item(Protocol):
    """One item of the output while it is written."""

    done: dict[str, Any] | None             # the item, once it is closed

    def close(self, status: str) -> None:
        """Write its end."""
        ...


class _Reasoning:
    __slots__ = ("_blocks", "_emit", "_place", "_texts", "done")

    def __init__(self, exchange: str, index: int, emit: Emit) -> None:
        self._place: dict[str, Any] = {"item_id": f"rs_{exchange}_{index}", "output_index": index}
        self._emit = emit
        self._texts: list[str] = []
        self._blocks: list[Any] = []
        self.done: dict[str, Any] | None = None
        emit("response.output_item.added", output_index=index, item=reasoning_item(self._place["item_id"], "", []))

    def add(self, text: str, blocks: list[Any]) -> None:
        self._blocks += blocks
        if not text:
            return
        if not self._texts:
            self._emit("response.reasoning_summary_part.added", **self._place, summary_index=0, part=summary_part(""))
        self._texts.append(text)
        self._emit("response.reasoning_summary_text.delta", **self._place, summary_index=0, delta=text)

    def close(self, status: str) -> None:
        text = "".join(self._texts)
        if text:
            self._emit("response.reasoning_summary_text.done", **self._place, summary_index=0, text=text)
            self._emit("response.reasoning_summary_part.done", **self._place, summary_index=0, part=summary_part(text))
        self.done = reasoning_item(self._place["item_id"], text, self._blocks)
        self._emit("response.output_item.done", output_index=self._place["output_index"], item=self.done)


class _Message:
    __slots__ = ("_annotations", "_emit", "_logprobs", "_open", "_parts", "_place", "_texts", "done")

    def __init__(self, exchange: str, index: int, emit: Emit) -> None:
        self._place: dict[str, Any] = {"item_id": f"msg_{exchange}_{index}", "output_index": index}
        self._emit = emit
        self._parts: list[dict[str, Any]] = []
        self._open: str | None = None       # the type of the part that is being written
        self._texts: list[str] = []
        self._annotations: list[dict[str, Any]] = []
        self._logprobs: list[dict[str, Any]] = []
        self.done: dict[str, Any] | None = None
        emit("response.output_item.added", output_index=index, item=message_item(self._place["item_id"], "in_progress", []))

    def say(self, text: str, logprobs: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> None:
        place = self._part("output_text", text_part("", [], []))
        self._logprobs += logprobs
        if text:
            self._texts.append(text)
            self._emit("response.output_text.delta", **place, delta=text, logprobs=logprobs)
        for annotation in annotations:
            members = {"annotation_index": len(self._annotations), "annotation": annotation}
            self._emit("response.output_text.annotation.added", **place, **members)
            self._annotations.append(annotation)

    def refuse(self, text: str) -> None:
        place = self._part("refusal", refusal_part(""))
        self._texts.append(text)
        self._emit("response.refusal.delta", **place, delta=text)

    def close(self, status: str) -> None:
        self._end_part()
        self.done = message_item(self._place["item_id"], status, self._parts)
        self._emit("response.output_item.done", output_index=self._place["output_index"], item=self.done)

    def _part(self, kind: str, empty: dict[str, Any]) -> dict[str, Any]:
        """The place of the open part, which is of this kind afterwards."""
        if self._open == kind:
            return {**self._place, "content_index": len(self._parts)}
        self._end_part()
        self._open = kind
        place = {**self._place, "content_index": len(self._parts)}
        self._emit("response.content_part.added", **place, part=empty)
        return place

    def _end_part(self) -> None:
        if self._open is None:
            return
        place, text = {**self._place, "content_index": len(self._parts)}, "".join(self._texts)
        if self._open == "refusal":
            part = refusal_part(text)
            self._emit("response.refusal.done", **place, refusal=text)
        else:
            part = text_part(text, self._annotations, self._logprobs)
            self._emit("response.output_text.done", **place, text=text, logprobs=self._logprobs)
        self._emit("response.content_part.done", **place, part=part)
        self._parts.append(part)
        self._open, self._texts, self._annotations, self._logprobs = None, [], [], []


class _Call:
    __slots__ = ("_emit", "_extra", "_name", "_place", "_texts", "call_id", "done")

    def __init__(self, exchange: str, index: int, emit: Emit, call_id: str, name: str) -> None:
        self._place: dict[str, Any] = {"item_id": f"fc_{exchange}_{index}", "output_index": index}
        self._emit = emit
        self.call_id, self._name = call_id, name
        self._texts: list[str] = []
        self._extra: dict[str, Any] | None = None
        self.done: dict[str, Any] | None = None
        emit("response.output_item.added", output_index=index, item=self._item("in_progress", ""))

    def add(self, arguments: str, extra: dict[str, Any] | None) -> None:
        self._extra = extra or self._extra
        if arguments:
            self._texts.append(arguments)
            self._emit("response.function_call_arguments.delta", **self._place, delta=arguments)

    def close(self, status: str) -> None:
        if not self._texts:
            self.add(arguments_at_end("", status), None)
        arguments = "".join(self._texts)
        self._emit("response.function_call_arguments.done", **self._place, arguments=arguments)
        self.done = self._item(status, arguments)
        self._emit("response.output_item.done", output_index=self._place["output_index"], item=self.done)

    def _item(self, status: str, arguments: str) -> dict[str, Any]:
        return call_item(self._place["item_id"], status, self.call_id, self._name, arguments, self._extra)


class ResponsesStream:
    """Writes one response's events."""

    __slots__ = (
        "_called", "_calls", "_exchange", "_fault", "_finish", "_frame", "_items", "_number", "_open", "_out", "_tier",
        "_usage",
    )  # fmt: skip

    def __init__(self, asked: Asked) -> None:
        self._exchange = asked.id
        self._frame = frame(asked)
        self._number = 0                    # of the next event
        self._out: list[bytes] = []
        self._items: list[_Item] = []
        self._open: _Reasoning | _Message | None = None
        self._calls: dict[int, _Call] = {}  # by the provider's index
        self._called = 0                    # how many there are
        self._finish: object = None
        self._tier: object = None
        self._usage: dict[str, Any] | None = None
        self._fault: str | None = None      # why this is no whole answer, whatever the provider thinks

    def write(self, chunk: Document) -> bytes:
        """The events of one chunk."""
        self._begin()
        choices = chunk.get("choices")
        try:
            for choice in choices if isinstance(choices, list) and self._fault is None else ():
                if isinstance(choice, dict) and not choice.get("index"):
                    self._choice(choice)
        except Garbled as garbled:
            self._fault = str(garbled)
        self._tier = chunk.get("service_tier") or self._tier
        self._usage = usage_of(chunk.get("usage")) or self._usage
        return self._written()

    def end(self) -> bytes:
        """The ends of what is open, and the whole response."""
        self._begin()
        if self._fault is not None:
            return self._written() + self.broken("stream_broken", f"The stream cannot be read: {self._fault}.")
        incomplete = is_incomplete(self._finish)
        for index, item in enumerate(self._items):
            if item.done is None:
                item.close("incomplete" if incomplete and index == len(self._items) - 1 else "completed")
        output = [item.done for item in self._items if item.done is not None]
        response = finished(self._frame, output, self._finish, self._usage, self._tier)
        self._emit(f"response.{response['status']}", response=response)
        return self._written()

    def broken(self, code: str, message: str) -> bytes:
        """The error event."""
        self._emit("error", code=code, message=message, param=None, error=error_of(code, message))
        return self._written()

    def _begin(self) -> None:
        if self._number == 0:
            self._emit("response.created", response=self._frame)
            self._emit("response.in_progress", response=self._frame)

    def _choice(self, choice: Mapping[str, Any]) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            reasoning, blocks = text_in(delta, "reasoning_content"), blocks_of(delta)
            if reasoning or blocks:
                self._reasoning().add(reasoning, blocks)
            text, logprobs, annotations = text_in(delta, "content"), logprobs_of(choice), annotations_of(delta)
            if text or logprobs or annotations:
                self._message().say(text, logprobs, annotations)
            if refusal := text_in(delta, "refusal"):
                self._message().refuse(refusal)
            calls = delta.get("tool_calls")
            for fragment in calls if isinstance(calls, list) else ():
                self._fragment(fragment)
        self._finish = choice.get("finish_reason") or self._finish

    def _reasoning(self) -> _Reasoning:
        if not isinstance(self._open, _Reasoning):
            self._end_open()
            self._open = _Reasoning(self._exchange, self._index(), self._emit)
            self._items.append(self._open)
        return self._open

    def _message(self) -> _Message:
        if not isinstance(self._open, _Message):
            self._end_open()
            self._open = _Message(self._exchange, self._index(), self._emit)
            self._items.append(self._open)
        return self._open

    def _fragment(self, fragment: object) -> None:
        """A part of a call, of the one that its index says. A vendor's second call may repeat the index of the first."""
        function, index, id = _read(fragment)
        name = text_in(function, "name")
        call = self._calls.get(index)
        if call is None or (name and id and id != call.call_id):
            if not name:
                raise Garbled("the reply holds a tool call without a name")
            call = self._call(id, name)
            self._calls[index] = call
        call.add(text_in(function, "arguments"), extra_of(fragment))

    def _call(self, id: str, name: str) -> _Call:
        self._end_open()
        made = f"call_{self._exchange}_{self._called}"
        self._called += 1
        call = _Call(self._exchange, self._index(), self._emit, id or made, name)
        self._items.append(call)
        return call

    def _index(self) -> int:
        """Of the next item. Raises Garbled where there are too many."""
        require_few(len(self._items))
        return len(self._items)

    def _end_open(self) -> None:
        if self._open is not None:
            self._open.close("completed")
            self._open = None

    def _emit(self, kind: str, /, **members: Any) -> None:
        self._out.append(event({"type": kind, **members, "sequence_number": self._number}, kind))
        self._number += 1

    def _written(self) -> bytes:
        written = b"".join(self._out)
        self._out.clear()
        return written


def _read(fragment: object) -> tuple[Mapping[str, Any], int, str]:
    """What of the function it has, its index, and its id."""
    if not isinstance(fragment, dict):
        raise Garbled("the reply holds a tool call that is no object")
    function, index, id = fragment.get("function"), fragment.get("index"), fragment.get("id")
    return (
        function if isinstance(function, dict) else {},
        index if isinstance(index, int) else 0,
        id if isinstance(id, str) else "",
    )
