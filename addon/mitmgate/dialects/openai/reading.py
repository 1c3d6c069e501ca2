"""Replies in OpenAI's wire formats: chat and legacy completions, responses, audio and image event streams.

Sources: OpenAI API reference, "Streaming" of chat completions and of responses, "Streaming events" of audio and images.
"""

from typing import Any, Final

import orjson

from mitmgate.dialects.reading import Kind
from mitmgate.errors import Fault, FaultKind
from mitmgate.sse import event_data

_QUIET: Final = frozenset(
    {
        "response.created", "response.queued", "response.in_progress", "response.output_item.added",
        "response.content_part.added", "response.reasoning_summary_part.added", "keepalive", "ping",
    }
)
_ENDS: Final = frozenset(
    {
        "response.completed", "response.incomplete", "speech.audio.done", "transcript.text.done",
        "image_generation.completed", "image_edit.completed",
    }
)
_ERRORS: Final = frozenset({"error", "response.failed"})
_LONGEST_NAME: Final = 256


class OpenAIReader:
    """Reads one OpenAI reply, of whichever operation: the shapes tell themselves apart."""

    __slots__ = ("_choices", "_done", "_finished", "served_model", "tokens_input", "tokens_output")

    def __init__(self, choices: int = 1) -> None:
        self._choices = choices             # how many the request asked for (`n`)
        self.served_model: str | None = None
        self.tokens_input: int | None = None
        self.tokens_output: int | None = None
        self._done = False                  # the terminator was seen
        self._finished: set[int] = set()    # indexes of choices with a finish reason

    @property
    def complete(self) -> bool:
        """After `[DONE]`, a terminal event, or a finish reason of every choice (some vendors send no `[DONE]`)."""
        return self._done or len(self._finished) >= self._choices

    @property
    def terminated(self) -> bool:
        """After the terminator itself: whatever happens now, nothing of the answer is missing."""
        return self._done

    def event(self, event: bytes) -> Kind:
        """What one event is; takes model and usage on the way."""
        text = event_data(event)
        if text is None:
            return Kind.OTHER
        if text.startswith(b"[DONE]"):
            self._done = True
            return Kind.END
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError:
            return Kind.GARBAGE
        if not isinstance(document, dict):
            return Kind.GARBAGE
        if isinstance(choices := document.get("choices"), list):
            return self._chunk(document, choices)
        if isinstance(kind := document.get("type"), str):
            return self._typed_event(kind, document)
        return Kind.ERROR if document.get("error") else Kind.CONTENT

    def _chunk(self, document: dict[str, Any], choices: list[Any]) -> Kind:
        if document.get("error"):
            return Kind.ERROR
        self._note(document)
        kind = Kind.OTHER
        for choice in choices:
            if not isinstance(choice, dict):
                return Kind.GARBAGE
            index = choice.get("index", 0)
            if not isinstance(index, int):
                return Kind.GARBAGE
            if _has_content(choice):
                kind = Kind.CONTENT
            if choice.get("finish_reason"):
                self._finished.add(index)
                kind = Kind.END if kind is Kind.OTHER else kind
        return kind

    def _typed_event(self, kind: str, document: dict[str, Any]) -> Kind:
        response = document.get("response")
        self._note(response if isinstance(response, dict) else document)
        if kind in _ERRORS:
            return Kind.ERROR
        if kind in _ENDS:
            self._done = True
            return Kind.END
        return Kind.OTHER if kind in _QUIET else Kind.CONTENT

    def fault_of(self, event: bytes) -> Fault:
        """The error's code decides who may be asked next; its message is the provider's and stays there."""
        text = event_data(event) or b""
        code = _code(text)
        return Fault(FaultKind.ERROR_EVENT, "the provider sent an error in its stream", code=code, body=text[: 64 << 10])

    def body(self, body: bytes) -> Fault | None:
        """A JSON reply must be JSON; an object with an `error` in place of an answer is a fault under any status."""
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            return Fault(FaultKind.GARBAGE, "the provider's reply is not the JSON that its headers announce", status=200)
        if isinstance(document, dict):
            if document.get("error") and "choices" not in document and "id" not in document:
                reason = "the provider answered 200 with an error"
                return Fault(FaultKind.ERROR_EVENT, reason, code=_code(body), body=body[: 64 << 10])
            self._note(document)
        return None

    def failure(self, status: int, body: bytes) -> str | None:
        """`error.code`, or its type where there is no code."""
        return _code(body)

    def _note(self, document: dict[str, Any]) -> None:
        model = document.get("model")
        if isinstance(model, str):
            self.served_model = model[:_LONGEST_NAME]
        usage = document.get("usage")
        if isinstance(usage, dict):
            self.tokens_input = _count(usage, "prompt_tokens", "input_tokens")
            self.tokens_output = _count(usage, "completion_tokens", "output_tokens")


class OpenAIBodyReader(OpenAIReader):
    """Reads replies of operations whose event streams are not documented: bodies as ever, any event is content."""

    __slots__ = ()

    @property
    def complete(self) -> bool:
        """Always: there is no terminator that could be missed."""
        return True

    def event(self, event: bytes) -> Kind:
        """Content, if it holds data at all."""
        return Kind.CONTENT if event_data(event) else Kind.OTHER


def _has_content(choice: dict[str, Any]) -> bool:
    """Something a person or a program would read: text, a refusal, reasoning, a tool call, audio; unknown fields count."""
    if choice.get("text"):
        return True
    delta = choice.get("delta")
    return isinstance(delta, dict) and any(value for name, value in delta.items() if name != "role")


def _count(usage: dict[str, Any], *names: str) -> int | None:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def _code(body: bytes) -> str | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if isinstance(document, list) and document:
        document = document[0]
    if not isinstance(document, dict):
        return None
    error = document.get("error", document)
    if not isinstance(error, dict):
        return None
    for name in ("code", "type"):
        if isinstance(value := error.get(name), str) and value:
            return value[:_LONGEST_NAME]
    return None
