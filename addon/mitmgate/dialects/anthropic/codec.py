"""Anthropic's codecs by operation: to the provider, and from the client."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from mitmgate.dialects.anthropic import client_reply, client_request, failures, reply, request
from mitmgate.dialects.anthropic.client_stream import MessageEvents
from mitmgate.dialects.anthropic.stream import MessageStream
from mitmgate.dialects.codec import Ask, Asked, ClientCodec, Document, Failed, ProviderCodec, Sent


class MessagesProvider:
    """Chats, asked of POST /v1/messages."""

    def request(self, ask: Ask) -> Sent:
        """Raises Refusal."""
        return request.request(ask)

    def reply(self, document: Document, ask: Ask) -> dict[str, Any]:
        """Raises Garbled."""
        return reply.reply(document, ask)

    def stream(self, ask: Ask) -> MessageStream:
        """A fresh reader."""
        return MessageStream(ask)

    def failed(self, status: int, body: bytes) -> Failed:
        """What a failing reply's body says."""
        return failures.failed(body)


class MessagesClient:
    """Clients that call POST /v1/messages."""

    media = "text/event-stream"

    def request(self, asked: Asked) -> dict[str, Any]:
        """Raises Refusal."""
        return client_request.request(asked)

    def reply(self, reply: Document, asked: Asked) -> dict[str, Any]:
        """Raises Garbled where the canonical reply's tool calls cannot be said."""
        return client_reply.reply(reply, asked)

    def stream(self, asked: Asked) -> MessageEvents:
        """A fresh writer."""
        return MessageEvents(asked)

    def error(self, status: int, code: str, message: str) -> bytes:
        """The body of an error; Anthropic has no codes, so the status decides its type."""
        return orjson.dumps(failures.error_document(status, message))


PROVIDERS: Final[Mapping[str, ProviderCodec]] = {"chat": MessagesProvider()}
CLIENTS: Final[Mapping[str, ClientCodec]] = {"messages": MessagesClient()}
