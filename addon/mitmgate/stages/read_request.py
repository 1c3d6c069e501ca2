"""Read the request: its body is parsed once, strictly, and what matching needs is taken from it."""

import asyncio
from typing import Any, Final
from urllib.parse import parse_qsl

import jiter

from mitmgate.bodies import MemoryBody, SpooledBody
from mitmgate.encoding import DecodingError, TooLarge, decode
from mitmgate.errors import Refusal
from mitmgate.exchange import Exchange
from mitmgate.multipart import MultipartError, delimiter_of, find_fields
from mitmgate.stages.services import Services

_MODEL_LENGTH: Final = 256
_SMALL: Final = 1 << 20                     # bytes; a body of this size cannot hold too many values
_MOST_VALUES: Final = 320_000               # and names: parsed in at most 50 ms; an embedding has 300,000 tokens at most
_SLICE: Final = 256 << 10                   # bytes in which they are counted before the others have their turn
_KNOWN: Final = frozenset(
    {
        "model", "messages", "input", "prompt", "stream", "stream_options", "tools", "tool_choice", "n", "max_tokens",
        "max_completion_tokens", "max_output_tokens", "temperature", "top_p", "stop", "user", "instructions", "functions",
        "response_format", "previous_response_id", "conversation", "metadata", "reasoning_effort", "system", "documents",
    }
)
_KNOWN_IN_PART: Final = frozenset({"type", "text", "image_url", "input_audio", "file", "refusal"})
_KNOWN_IN_MESSAGE: Final = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "function_call"})


async def read_request(exchange: Exchange, services: Services) -> None:
    """Set `document`, `requested_model`, `stream` and the like. Whatever cannot be parsed is refused, never passed."""
    endpoint = exchange.endpoint
    assert endpoint is not None
    exchange.requested_model = endpoint.model
    if exchange.arrival.websocket and endpoint.model is None:
        exchange.requested_model = _model_of_query(exchange.arrival.query)
    body = exchange.body
    assert body is None or isinstance(body, MemoryBody | SpooledBody)
    if sum(name == "content-type" for name, _ in exchange.header_fields) > 1:
        raise Refusal("unsupported_media_type", "The content type is given more than once.")
    media, _, parameters = exchange.request_headers.get("content-type", "").partition(";")
    media = media.strip().lower()
    if body is None or body.size == 0:
        if endpoint.content == "json":
            raise Refusal("invalid_request", "The request has no body; a JSON object is expected.")
        return
    if endpoint.content == "none":
        raise Refusal("invalid_request", "This call takes no body.")
    if media == "multipart/form-data" and endpoint.content != "json":
        await _read_multipart(exchange, body)
    elif endpoint.content == "json" or media == "application/json":
        if endpoint.content == "json" and media != "application/json":
            raise Refusal("unsupported_media_type", "The content type must be application/json.")
        _require_utf8(parameters)
        await _read_json(exchange, services, body)
    elif endpoint.content == "multipart":
        raise Refusal("unsupported_media_type", "The content type must be multipart/form-data.")


def _model_of_query(query: str) -> str | None:
    """Realtime's handshake names its model in the query."""
    models = [value for name, value in parse_qsl(query) if name.casefold() in ("model", "deployment")]
    if len(models) > 1:
        raise Refusal("invalid_request", "`model` is given more than once.", param="model")
    if models:
        _bounded(models[0])
    return models[0] if models else None


def _require_utf8(parameters: str) -> None:
    """RFC 8259, 8.1: JSON between systems is UTF-8, whatever a parameter says; another charset is a trick or a mistake."""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in ("utf-8", "utf8"):
            raise Refusal("unsupported_media_type", "The charset must be UTF-8.")


async def _read_json(exchange: Exchange, services: Services, body: MemoryBody | SpooledBody) -> None:
    if not isinstance(body, MemoryBody):
        raise Refusal("request_too_large", "A JSON body of this size is not accepted.")
    raw = body.raw() if body.size <= _SMALL else await asyncio.to_thread(body.raw)
    encoding = exchange.request_headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        limit = services.rules.limits.request_body
        try:
            raw = await asyncio.to_thread(decode, raw, encoding, limit=limit)
        except TooLarge:
            raise Refusal("request_too_large", "The body is too large when it is decompressed.") from None
        except DecodingError:
            raise Refusal("unsupported_media_type", "The body's content encoding is unknown or broken.") from None
        if not services.reserve(exchange, len(raw)):
            raise Refusal("queue_full", "Too many bytes are in flight.", headers={"retry-after": "1"})
    await _bound_values(raw)
    try:
        document = jiter.from_json(raw, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError:
        # The parser's own message may quote the body.
        raise Refusal("invalid_request", "The body is not valid JSON in UTF-8 with each member named once.") from None
    if not isinstance(document, dict):
        raise Refusal("invalid_request", "The body must be a JSON object.")
    _refuse_other_case(document)
    endpoint = exchange.endpoint
    assert endpoint is not None
    exchange.raw = raw
    exchange.document = document
    exchange.stream = endpoint.streams or (endpoint.dialect != "gemini" and _boolean(document, "stream"))
    _take_model(exchange, document)
    choices = document.get("n")
    if choices is not None and (not isinstance(choices, int) or isinstance(choices, bool) or not 1 <= choices <= 128):
        raise Refusal("invalid_request", "`n` must be an integer from 1 to 128.", param="n")
    if endpoint.operation == "chat" and endpoint.dialect == "openai":
        _check_messages(document)


async def _bound_values(raw: bytes) -> None:
    """Refuse what would stall everybody when it is parsed, which can only be done in one go. Texts are not counted in."""
    values, inside, rest = 0, False, b""
    for start in range(0, len(raw) if len(raw) > _SMALL else 0, _SLICE):
        piece = rest + raw[start : start + _SLICE]
        cut = len(piece) - (len(piece) - len(piece.rstrip(b"\\"))) % 2      # an escape is not torn apart
        piece, rest = piece[:cut].replace(b"\\\\", b"").replace(b'\\"', b""), piece[cut:]
        between = piece.split(b'"')
        outside = b"".join(between[inside::2])
        inside ^= len(between) % 2 == 0
        values += len(outside) - len(outside.translate(None, delete=b",:{["))
        if values > _MOST_VALUES:
            raise Refusal("request_too_large", f"The body holds more than {_MOST_VALUES} values and names.")
        await asyncio.sleep(0)


def _refuse_other_case(document: dict[str, Any]) -> None:
    """A server that folds the case of names (Go's encoding/json) would read what we did not."""
    for name in document:
        if name not in _KNOWN and name.casefold() in _KNOWN:
            raise _other_case(name, name.casefold())
    messages = document.get("messages")
    for message in messages if isinstance(messages, list) else ():
        for name in message if isinstance(message, dict) else ():
            if name not in _KNOWN_IN_MESSAGE and name.casefold() in _KNOWN_IN_MESSAGE:
                raise _other_case(name, "messages")
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            for name in part if isinstance(part, dict) else ():
                if name not in _KNOWN_IN_PART and name.casefold() in _KNOWN_IN_PART:
                    raise _other_case(name, "messages")


def _other_case(name: str, param: str) -> Refusal:
    return Refusal("invalid_request", f"The member `{name.casefold()}` is spelled in another case.", param=param)


def _boolean(document: dict[str, Any], name: str) -> bool:
    value = document.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refusal("invalid_request", f"`{name}` must be true or false.", param=name)
    return bool(value)


def _take_model(exchange: Exchange, document: dict[str, Any]) -> None:
    assert exchange.endpoint is not None
    if exchange.endpoint.model is not None:
        return                              # the path names it (Azure deployments)
    model = document.get("model")
    if model is None:
        # A chat that names no model is for `auto` before matching.
        exchange.requested_model = "auto" if exchange.endpoint.operation == "chat" else None
        return
    if not isinstance(model, str) or not model:
        raise Refusal("invalid_request", "`model` must be a non-empty string.", param="model")
    _bounded(model)
    exchange.requested_model = model


def _bounded(model: str) -> None:
    if len(model) > _MODEL_LENGTH or not model.isprintable():
        raise Refusal("invalid_request", f"`model` must be at most {_MODEL_LENGTH} printable characters.", param="model")


def _check_messages(document: dict[str, Any]) -> None:
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal("invalid_request", "`messages` must be a non-empty array.", param="messages")
    if not all(isinstance(message, dict) for message in messages):
        raise Refusal("invalid_request", "Each of `messages` must be an object.", param="messages")


async def _read_multipart(exchange: Exchange, body: MemoryBody | SpooledBody) -> None:
    content_type = exchange.request_headers.get("content-type", "")
    names = ("model", "stream")
    try:
        if isinstance(body, MemoryBody):
            fields = find_fields(body.raw(), content_type, names)
        else:
            with body.view() as view:
                fields = await asyncio.to_thread(find_fields, view, content_type, names)
        exchange.delimiter = delimiter_of(content_type)
    except MultipartError as error:
        raise Refusal("invalid_request", f"The multipart body is malformed: {error}") from None
    if stream := fields.get("stream"):
        exchange.stream = stream.value.lower() == "true"
    if model := fields.get("model"):
        exchange.model_span = (model.start, model.end)
        if exchange.requested_model is not None:
            return                          # the path names it (Azure deployments)
        if not model.value:
            raise Refusal("invalid_request", "`model` must be a non-empty string.", param="model")
        _bounded(model.value)
        exchange.requested_model = model.value
