"""Replies in OpenAI's wire formats: chat and legacy completions, responses, audio and image event streams.

Sources: OpenAI API reference, "Streaming" of chat completions and of responses, "Streaming events" of audio and images.
"""

from types import MappingProxyType
from typing import Any, Final

import orjson

from mitmgate.dialects.naming import Name
from mitmgate.dialects.reading import AsItCame, Kind
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
_LONGEST_ERROR: Final = 64 << 10
_STATUS_OF: Final = MappingProxyType(
    {
        "content_filter": 400, "content_policy_violation": 400, "context_length_exceeded": 400, "invalid_prompt": 400,
        "rate_limit_exceeded": 429, "insufficient_quota": 429,
    }
)
"""OpenAI's error guide: the status that goes with a code; any other is the provider's own failure."""


class OpenAIReader(AsItCame):
    """Reads one OpenAI reply, of whichever operation: the shapes tell themselves apart."""

    __slots__ = (
        "_begun", "_choices", "_done", "_finished", "_hides_usage", "_is_usage", "_name",
        "served_model", "tokens_input", "tokens_output",
    )  # fmt: skip

    def __init__(self, choices: int = 1, *, hides_usage: bool = False, name: Name | None = None) -> None:
        """`choices`: how many the request asked for (`n`). `hides_usage`: the gateway asked for it, and not the client."""
        self._name = name
        self._choices = choices
        self._hides_usage = hides_usage
        self._is_usage = False              # the latest event holds the usage alone
        self.served_model: str | None = None
        self.tokens_input: int | None = None
        self.tokens_output: int | None = None
        self._begun = False                 # something of an answer was seen: a terminator alone is none
        self._done = False                  # the terminator was seen
        self._finished: set[int] = set()    # indexes of choices with a finish reason

    @property
    def complete(self) -> bool:
        """After `[DONE]`, a terminal event, or a finish reason of every choice (some vendors send no `[DONE]`)."""
        return self._begun and (self._done or len(self._finished) >= self._choices)

    @property
    def terminated(self) -> bool:
        """After the terminator itself: whatever happens now, nothing of the answer is missing."""
        return self._done

    def event(self, event: bytes) -> Kind:
        """What one event is; takes model and usage on the way."""
        document = self.document_of(event)
        return document if isinstance(document, Kind) else self.kind_of(document)

    def document_of(self, event: bytes) -> dict[str, Any] | Kind:
        """The object that an event holds; what it is, where it holds none."""
        self._is_usage = False
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
        return document if isinstance(document, dict) else Kind.GARBAGE

    def written(self, event: bytes) -> bytes:
        """The event, unless it is one that only the gateway asked for."""
        if self._is_usage and self._hides_usage:
            return b""
        return event if self._name is None else self._name.in_event(event)

    def answer(self, body: bytes) -> bytes:
        """The body, in the client's word for the model."""
        return body if self._name is None else self._name.in_body(body)

    def kind_of(self, document: dict[str, Any]) -> Kind:
        """What an event's object is; takes model and usage on the way."""
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
        self._begun = self._begun or bool(choices)
        self._is_usage = not choices and isinstance(document.get("usage"), dict)
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
        self._begun = True
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
        return _error(text, "the provider sent an error in its stream")

    def body(self, body: bytes) -> Fault | None:
        """A JSON reply must be JSON; an object with an `error` in place of an answer is a fault under any status."""
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            return Fault(FaultKind.GARBAGE, "the provider's reply is not the JSON that its headers announce", status=200)
        if not isinstance(document, dict):
            return self.not_an_object()
        if document:
            if document.get("error") and "choices" not in document and "id" not in document:
                return _error(body, "the provider answered 200 with an error")
            self._note(document)
        return None

    def not_an_object(self) -> Fault | None:
        """No answer of these operations is a bare list or value."""
        return Fault(FaultKind.GARBAGE, "the provider's reply is not the object that its API describes", status=200)

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

    def not_an_object(self) -> Fault | None:
        """Some other API's answer may be."""
        return None

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


def _error(body: bytes, reason: str) -> Fault:
    """An error under status 200, with the status that its code would have had on its own."""
    code = _code(body)
    status = _STATUS_OF.get(code or "")
    return Fault(FaultKind.ERROR_EVENT, reason, status, code, {"content-type": "application/json"}, body[:_LONGEST_ERROR])


def _code(body: bytes) -> str | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if isinstance(document, list) and document:
        document = document[0]
    if not isinstance(document, dict):
        return None
    failed = document.get("response")
    error = document.get("error") or (failed.get("error") if isinstance(failed, dict) else None) or document
    if not isinstance(error, dict):
        return None
    for name in ("code", "type"):
        if isinstance(value := error.get(name), str) and value:
            return value[:_LONGEST_NAME]
    return None
