"""Cohere as a provider, by operation."""

from collections.abc import Mapping
from typing import Any, Final

from mitmgate.dialects.codec import Ask, Document, Failed, ProviderCodec, ProviderStream, Sent
from mitmgate.dialects.cohere.embeddings import CohereEmbeddings
from mitmgate.dialects.cohere.failures import failed
from mitmgate.dialects.cohere.reply import chat_reply
from mitmgate.dialects.cohere.request import chat_request
from mitmgate.dialects.cohere.rerank import CohereRerank
from mitmgate.dialects.cohere.stream import ChatStream


class CohereChat:
    """POST /v2/chat."""

    def request(self, ask: Ask) -> Sent:
        """The body. Raises Refusal."""
        return chat_request(ask)

    def reply(self, document: Document, ask: Ask) -> dict[str, Any]:
        """A chat.completion. Raises Garbled."""
        return chat_reply(document, ask)

    def stream(self, ask: Ask) -> ProviderStream:
        """A fresh reader."""
        return ChatStream(ask)

    def failed(self, status: int, body: bytes) -> Failed:
        """As for any of Cohere's operations."""
        return failed(status, body)


PROVIDERS: Final[Mapping[str, ProviderCodec]] = {
    "chat": CohereChat(), "embeddings": CohereEmbeddings(), "rerank": CohereRerank(),
}  # fmt: skip
