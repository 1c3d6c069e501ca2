"""Gemini's codecs by operation (Gemini API reference: generateContent, streamGenerateContent, batchEmbedContents)."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from mitmgate.dialects.codec import Ask, Asked, ClientCodec, ClientStream, Document, Failed, ProviderCodec, ProviderStream, Sent
from mitmgate.dialects.gemini.client_reply import error_document, generate_response
from mitmgate.dialects.gemini.client_request import canonical_request
from mitmgate.dialects.gemini.client_stream import GenerateClientStream
from mitmgate.dialects.gemini.embeddings import Embeddings
from mitmgate.dialects.gemini.failures import failed
from mitmgate.dialects.gemini.reply import generate_reply
from mitmgate.dialects.gemini.request import generate_request
from mitmgate.dialects.gemini.stream import GenerateStream


class GenerateProvider:
    """A provider that speaks generateContent."""

    def request(self, ask: Ask) -> Sent:
        """The canonical request in Gemini's words."""
        return generate_request(ask)

    def reply(self, document: Document, ask: Ask) -> dict[str, Any]:
        """Gemini's response as a chat.completion."""
        return generate_reply(document, ask)

    def stream(self, ask: Ask) -> ProviderStream:
        """A fresh reader."""
        return GenerateStream(ask)

    def failed(self, status: int, body: bytes) -> Failed:
        """Google's error."""
        return failed(body)


class GenerateClient:
    """A client that calls generateContent or streamGenerateContent, as google-genai does."""

    media: Final = "text/event-stream"      # of `alt=sse`; a stream says its own

    def request(self, asked: Asked) -> dict[str, Any]:
        """The client's request, canonically."""
        return canonical_request(asked)

    def reply(self, reply: Document, asked: Asked) -> dict[str, Any]:
        """A GenerateContentResponse."""
        return generate_response(reply, asked)

    def stream(self, asked: Asked) -> ClientStream:
        """A fresh writer."""
        return GenerateClientStream(asked)

    def error(self, status: int, code: str, message: str) -> bytes:
        """Google's error object."""
        return orjson.dumps(error_document(status, message))


PROVIDERS: Final[Mapping[str, ProviderCodec]] = {"chat": GenerateProvider(), "embeddings": Embeddings()}
CLIENTS: Final[Mapping[str, ClientCodec]] = {"chat": GenerateClient()}
