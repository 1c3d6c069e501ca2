"""From an exchange to what codecs are told of it, and to the reader of its reply."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from mitmgate.dialects.codec import Ask, Asked
from mitmgate.dialects.naming import Name
from mitmgate.dialects.opaque import OpaqueReader
from mitmgate.dialects.openai.quirks import Adapted, adapted
from mitmgate.dialects.openai.reading import OpenAIBodyReader, OpenAIReader
from mitmgate.dialects.reading import ReplyReader
from mitmgate.dialects.registry import SPEAKS_OPENAI, codecs, same
from mitmgate.dialects.translation import ForeignReader, TranslatingReader
from mitmgate.errors import Refusal
from mitmgate.exchange import Endpoint, Exchange, Target
from mitmgate.providers.catalogue import traits_at

_STREAMS: Final = frozenset({"chat", "completions", "responses", "speech", "transcription", "image"})
"""Operations of the OpenAI API whose event streams are documented; another's passes through unread."""
OWN: Final = frozenset({"min_reasoning_level", "project_id", "gateflow", "tenantId"})
"""Members that are meant for the gateway: a provider would refuse what it does not know."""
_TELL_USAGE: Final = frozenset({"chat", "completions"})
"""Operations whose streams tell their usage only if they are asked to."""


def asked_of(exchange: Exchange) -> Asked:
    """What the client asked."""
    return Asked(
        document=exchange.document or {},
        model=exchange.requested_model or "",
        stream=exchange.stream,
        id=exchange.id.removeprefix("req_"),
        created=int(exchange.started_at),
        query={name.lower(): value for name, value in parse_qsl(exchange.arrival.query)},
    )


def ask_of(exchange: Exchange, target: Target, document: Mapping[str, Any]) -> Ask:
    """What a target is asked, canonically."""
    return Ask(
        document=document,
        model=target.model or exchange.model or "",
        stream=exchange.stream,
        id=exchange.id.removeprefix("req_"),
        created=int(exchange.started_at),
        output_limit=traits_at(target, exchange.model).output_limit,
        base_model=target.base_model,
        api_version=target.provider.api_version,
        quirks=target.provider.quirks,
    )


def passes(endpoint: Endpoint, target: Target, exchange: Exchange) -> bool:
    """Whether the target gets the client's body as it came but for what rules change in it."""
    provider = target.provider
    if provider.original:
        return True
    if endpoint.dialect == "gemini" and exchange.stream and _alternatives(exchange) != ["sse"]:
        return False                        # an array that grows: only its codec can tell its items
    if endpoint.operation == "responses" and "no_responses" in provider.quirks:
        return False
    return same(endpoint.dialect, provider.dialect)


def _alternatives(exchange: Exchange) -> list[str]:
    """What a query says that the reply is to be in: whoever reads it must find the same, so it may be said once."""
    return [value for name, value in parse_qsl(exchange.arrival.query) if name.lower() == "alt"]


def adds_usage(exchange: Exchange, target: Target) -> bool:
    """Whether the gateway asks for a stream's usage where its client did not."""
    provider, endpoint, document = target.provider, exchange.endpoint, exchange.document
    if endpoint is None or document is None or not exchange.stream or endpoint.operation not in _TELL_USAGE:
        return False
    if provider.original or provider.dialect not in SPEAKS_OPENAI or "no_stream_options" in provider.quirks:
        return False
    options = document.get("stream_options")
    return not (isinstance(options, dict) and options.get("include_usage") is True)


def require_reachable(document: Mapping[str, Any], target: Target) -> None:
    """Raises Refusal where a part of the prompt lies at a provider of another dialect: without it the answer is another's."""
    extra = document.get("extra_body")
    google = extra.get("google") if isinstance(extra, dict) else None
    if target.provider.dialect != "gemini" and isinstance(google, dict) and google.get("cachedContent"):
        message = "`cachedContent` lies at the provider that made it."
        raise Refusal("capability_missing", message, param="cachedContent")


def other_model(exchange: Exchange, target: Target) -> str | None:
    """The model that a body which passes must name in place of what it says; None where it stays."""
    endpoint, model = exchange.endpoint, target.model or exchange.model
    if endpoint is not None and endpoint.dialect == "gemini":
        return None                         # named by the path alone, on both sides
    # Azure's clients name the model in the path alone; elsewhere it stands in the body.
    named_in_path = endpoint is not None and endpoint.model is not None
    renamed = exchange.model != exchange.requested_model
    wanted = target.model is not None or renamed or (named_in_path and not target.provider.original)
    present = (exchange.document or {}).get("model")
    if exchange.model_span is not None and not named_in_path:
        present = exchange.requested_model
    return model if wanted and present != model else None


def fit_for(exchange: Exchange, target: Target, changes: Mapping[str, Any]) -> Adapted | None:
    """The body that a target gets in place of the client's with these changes: without what is the gateway's own, and fit for
    its vendor. None: nothing is to be left out or renamed."""
    provider, endpoint, document = target.provider, exchange.endpoint, exchange.document
    if document is None or endpoint is None or provider.original or endpoint.operation == "other":
        return None
    # A client that names the very model knows its vendor.
    quirks = provider.quirks if endpoint.operation == "chat" and "model" in changes else frozenset()
    if not quirks and OWN.isdisjoint(document):
        return None
    whole = {**document, **changes}
    asked = {name: value for name, value in whole.items() if name not in OWN}
    fit = adapted(asked, quirks)
    return None if fit.document is asked and len(asked) == len(whole) else fit


def _name_of(exchange: Exchange, target: Target) -> Name | None:
    """What the client is told as the model's name; None: what the provider says, as if the client had called it itself.

    Whoever asked for `auto` is told who answered.
    """
    asked = exchange.requested_model
    changed = (target.model or exchange.model) != asked
    if asked is None or asked == "auto" or not changed or target.provider.original or exchange.endpoint is None:
        return None
    return Name(exchange.endpoint.dialect, asked)


def reader_of(exchange: Exchange, target: Target, choices: int, *, as_asked: bool = True) -> ReplyReader:
    """A fresh reader for an attempt at this target. `choices`: how many answers are asked for. `as_asked`: replies name the
    model as the client did."""
    endpoint = exchange.endpoint
    assert endpoint is not None
    dialect, operation = target.provider.dialect, endpoint.operation
    passing = passes(endpoint, target, exchange)
    name = _name_of(exchange, target) if as_asked else None
    if passing and dialect in SPEAKS_OPENAI:
        if operation not in _STREAMS:
            return OpenAIBodyReader(name=name)
        return OpenAIReader(choices, hides_usage=adds_usage(exchange, target), name=name)
    if (found := codecs(endpoint.dialect, operation, dialect)) is None:
        return OpaqueReader()
    ask = ask_of(exchange, target, exchange.canonical or {})
    kind = ForeignReader if passing else TranslatingReader
    return kind(found.provider, found.client, ask, asked_of(exchange), name)
