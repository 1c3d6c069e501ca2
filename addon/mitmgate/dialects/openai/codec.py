"""OpenAI's own dialects: chat completions, which is the canonical form but for what is ours in it, and responses."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from mitmgate.dialects.canonical import event
from mitmgate.dialects.codec import (
    Ask,
    Asked,
    ClientCodec,
    ClientStream,
    Document,
    Failed,
    Garbled,
    ProviderCodec,
    ProviderStream,
    Sent,
    Step,
)
from mitmgate.dialects.openai.reading import OpenAIReader
from mitmgate.dialects.openai.request import chat_request
from mitmgate.dialects.openai.responses import RESPONSES
from mitmgate.dialects.reading import Kind
from mitmgate.errors import CODES, Fault, error_document

_DONE: Final = event("[DONE]")
_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error", 403: "permission_error", 429: "rate_limit_error",
}  # fmt: skip


class OpenAIStream:
    """Chat chunks as they come: they are canonical."""

    __slots__ = ("_reader",)

    def __init__(self, ask: Ask) -> None:
        choices = ask.document.get("n")
        self._reader = OpenAIReader(choices if isinstance(choices, int) else 1)

    def read(self, event: bytes) -> Step:
        """What one event is, and its chunk."""
        document = self._reader.document_of(event)
        if isinstance(document, Kind):
            return Step(document)
        kind = self._reader.kind_of(document)
        if kind in (Kind.ERROR, Kind.GARBAGE) or not isinstance(document.get("choices"), list):
            return Step(kind)
        return Step(kind, (document,))

    @property
    def complete(self) -> bool:
        """After `[DONE]`, or a finish reason of every choice."""
        return self._reader.complete

    def fault_of(self, event: bytes) -> Fault:
        """By the error's code."""
        return self._reader.fault_of(event)


class OpenAIProvider:
    """A provider that speaks chat completions, for clients that do not."""

    def request(self, ask: Ask) -> Sent:
        """Less what is ours alone."""
        return chat_request(ask)

    def reply(self, document: Document, ask: Ask) -> dict[str, Any]:
        """It is canonical, if it is an answer at all."""
        choices = document.get("choices")
        if not isinstance(choices, list) or not choices or not all(_is_choice(each) for each in choices):
            raise Garbled("the reply holds no message")
        return dict(document)

    def stream(self, ask: Ask) -> ProviderStream:
        """A fresh reader."""
        return OpenAIStream(ask)

    def failed(self, status: int, body: bytes) -> Failed:
        """`error.code` or its type, and its message."""
        return Failed(OpenAIReader().failure(status, body), _message(body))


class OpenAIClientStream:
    """Chunks as events; the usage only for a client that asked for it."""

    __slots__ = ("_usage",)

    def __init__(self, asked: Asked) -> None:
        options = asked.document.get("stream_options")
        self._usage = isinstance(options, dict) and options.get("include_usage") is True

    def write(self, chunk: Document) -> bytes:
        """One event; nothing for a usage that nobody asked for."""
        if not chunk.get("choices"):
            return event(chunk) if self._usage else b""
        if "usage" in chunk and not self._usage:
            chunk = {name: value for name, value in chunk.items() if name != "usage"}
        return event(chunk)

    def end(self) -> bytes:
        """The terminator."""
        return _DONE

    def broken(self, code: str, message: str) -> bytes:
        """An error object, and no terminator."""
        return event(error_document(code, message))


class OpenAIClient:
    """A client that speaks chat completions, before a provider that does not."""

    media: Final = "text/event-stream"

    def request(self, asked: Asked) -> dict[str, Any]:
        """It is canonical."""
        return dict(asked.document)

    def reply(self, reply: Document, asked: Asked) -> dict[str, Any]:
        """It is canonical."""
        return dict(reply)

    def stream(self, asked: Asked) -> ClientStream:
        """A fresh writer."""
        return OpenAIClientStream(asked)

    def error(self, status: int, code: str, message: str) -> bytes:
        """OpenAI's error object."""
        kind = CODES[code].type if code in CODES else _TYPES.get(status)
        kind = kind or ("invalid_request_error" if status < 500 else "api_error")
        return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


def _is_choice(choice: object) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("message"), dict)


def _message(body: bytes) -> str | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    error = document.get("error") if isinstance(document, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else None


PROVIDERS: Final[Mapping[str, ProviderCodec]] = {"chat": OpenAIProvider()}
CLIENTS: Final[Mapping[str, ClientCodec]] = {
    "chat": OpenAIClient(), "embeddings": OpenAIClient(), "rerank": OpenAIClient(), "responses": RESPONSES,
}  # fmt: skip
