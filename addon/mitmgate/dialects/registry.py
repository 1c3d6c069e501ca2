"""Which codec serves which dialect and operation. A dialect is one folder and its two lines here."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from mitmgate.dialects.anthropic import codec as anthropic
from mitmgate.dialects.bedrock import codec as bedrock
from mitmgate.dialects.codec import ClientCodec, ProviderCodec
from mitmgate.dialects.cohere import codec as cohere
from mitmgate.dialects.gemini import codec as gemini
from mitmgate.dialects.openai import codec as openai
from mitmgate.dialects.rerank import codec as rerank

SPEAKS_OPENAI: Final = frozenset({"openai", "simulator", "azure"})
"""Dialects whose bodies are OpenAI's: no codec is needed between them."""

_PROVIDERS: Final[Mapping[str, Mapping[str, ProviderCodec]]] = {
    **dict.fromkeys(SPEAKS_OPENAI, openai.PROVIDERS),
    "anthropic": anthropic.PROVIDERS,
    "bedrock": bedrock.PROVIDERS,
    "cohere": cohere.PROVIDERS,
    "gemini": gemini.PROVIDERS,
    "rerank": rerank.PROVIDERS,
}
_CLIENTS: Final[Mapping[str, Mapping[str, ClientCodec]]] = {
    "openai": openai.CLIENTS,
    "anthropic": anthropic.CLIENTS,
    "gemini": gemini.CLIENTS,
}
_CANONICAL: Final[Mapping[str, str]] = {"messages": "chat", "responses": "chat"}
"""Operations that are chats in another dialect's words."""


class Codecs(NamedTuple):
    """The two ends of a translation: of the client's dialect, and of the provider's."""

    client: ClientCodec
    provider: ProviderCodec


def client_codec(dialect: str, operation: str) -> ClientCodec | None:
    """The codec of a client's dialect for an operation."""
    return _CLIENTS.get(dialect, {}).get(operation)


def codecs(client: str, operation: str, provider: str) -> Codecs | None:
    """What translates between a client's dialect and a provider's, the same one included; None: nothing does."""
    asking = client_codec(client, operation)
    answering = _PROVIDERS.get(provider, {}).get(_CANONICAL.get(operation, operation))
    return Codecs(asking, answering) if asking is not None and answering is not None else None


def same(client: str, provider: str) -> bool:
    """Whether what the client says is what the provider understands."""
    return client == provider or (client in SPEAKS_OPENAI and provider in SPEAKS_OPENAI)


def error_codec(dialect: str) -> ClientCodec | None:
    """Whose errors a client of this dialect expects, if they are not OpenAI's."""
    return None if dialect in SPEAKS_OPENAI else next(iter(_CLIENTS.get(dialect, {}).values()), None)
