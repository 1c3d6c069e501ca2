"""The canonical form's small words, which every codec needs: completions, chunks, usage, contents, data URLs."""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import orjson

from mitmgate.dialects.codec import Garbled
from mitmgate.errors import Refusal
from mitmgate.jsonedit import dumped

FINISH: Final = frozenset({"stop", "length", "tool_calls", "content_filter"})
MOST_TOKENS: Final = 1 << 50
"""Counts beyond it are none: sums of them must still be numbers that JSON's readers and writers hold."""
MOST_CALLS: Final = 4_096
"""Tool calls, or choices, of one reply: each is kept to its end, and costs more to tell than it cost to send."""
EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def completion(
    *, id: str, created: int, model: str, message: Mapping[str, Any], finish: str | None, usage: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A chat.completion with one choice. `id` is the exchange's, or the provider's own."""
    choice = {"index": 0, "message": dict(message), "logprobs": None, "finish_reason": finish}
    return completion_of(id=id, created=created, model=model, choices=[choice], usage=usage)


def completion_of(
    *, id: str, created: int, model: str, choices: list[dict[str, Any]], usage: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A chat.completion."""
    document: dict[str, Any] = {"id": id, "object": "chat.completion", "created": created, "model": model, "choices": choices}
    if usage is not None:
        document["usage"] = dict(usage)
    return document


def chunk(
    *, id: str, created: int, model: str, delta: Mapping[str, Any], finish: str | None = None, index: int = 0
) -> dict[str, Any]:
    """A chat.completion.chunk with one choice."""
    choice = {"index": index, "delta": dict(delta), "finish_reason": finish}
    return {"id": id, "object": "chat.completion.chunk", "created": created, "model": model, "choices": [choice]}


def usage_chunk(*, id: str, created: int, model: str, usage: Mapping[str, Any]) -> dict[str, Any]:
    """The last chunk, without a choice."""
    return {
        "id": id, "object": "chat.completion.chunk", "created": created, "model": model, "choices": [], "usage": dict(usage),
    }  # fmt: skip


def usage(prompt: int, completion: int, *, cached: int = 0, written: int = 0, reasoning: int | None = None) -> dict[str, Any]:
    """Tokens. `cached` was read from the provider's cache and `written` to it: both are part of `prompt`; `reasoning` is
    part of `completion`, None where the provider does not say."""
    document: dict[str, Any] = {
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
    }  # fmt: skip
    if cached or written:
        document["prompt_tokens_details"] = {"cached_tokens": cached} | ({"cache_creation_tokens": written} if written else {})
    if reasoning is not None:
        document["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return document


def count(value: object) -> int:
    """A provider's number of tokens; 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS else 0


def parts_of(content: object, param: str) -> Iterator[Mapping[str, Any]]:
    """A message's content as parts, whether it is a text or a list. Raises Refusal for anything else."""
    if isinstance(content, str):
        yield {"type": "text", "text": content}
        return
    if content is None:
        return
    if not isinstance(content, list):
        raise Refusal("invalid_request", "`content` must be a text or a list of parts.", param=param)
    for part in content:
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise Refusal("invalid_request", "Each part of `content` must be an object with a `type`.", param=param)
        yield part


def text_of(content: object, param: str, *, joint: str = "") -> str:
    """The text of a content that may hold nothing else. Raises Refusal."""
    texts: list[str] = []
    for part in parts_of(content, param):
        text = part.get("text")
        if part["type"] not in ("text", "input_text", "output_text") or not isinstance(text, str):
            raise Refusal("invalid_request", "Only text can stand here.", param=param)
        texts.append(text)
    return joint.join(texts)


class Embedded(NamedTuple):
    """A data URL (RFC 2397) in base64, its bytes not decoded."""

    media: str                              # lower case, without parameters
    encoded: str


def embedded(url: str, param: str) -> Embedded | None:
    """The parts of a data URL; None for another kind of URL. Raises Refusal for a data URL that is not in base64."""
    if url[:5].lower() != "data:":
        return None
    head, comma, encoded = url[5:].partition(",")
    media, *parameters = head.split(";")
    if not comma or not encoded or "base64" not in (each.strip().lower() for each in parameters):
        raise Refusal("invalid_request", "A data URL must be `data:TYPE;base64,…`.", param=param)
    try:
        base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal("invalid_request", "The data URL does not hold base64.", param=param) from None
    return Embedded(media.strip().lower(), encoded)


def arguments_of(text: object, param: str) -> dict[str, Any]:
    """A tool call's arguments as an object; an empty text is an empty one. Raises Refusal for what is no JSON object."""
    if text is None or (isinstance(text, str) and not text.strip()):
        return {}
    try:
        arguments = orjson.loads(text) if isinstance(text, str) else text
    except orjson.JSONDecodeError:
        raise Refusal("invalid_request", "A tool call's `arguments` must be a JSON object.", param=param) from None
    if not isinstance(arguments, dict):
        raise Refusal("invalid_request", "A tool call's `arguments` must be a JSON object.", param=param)
    return arguments


def messages_of(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The request's messages, each an object with a role that is known. Raises Refusal."""
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal("invalid_request", "`messages` must be a non-empty array.", param="messages")
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in _ROLES:
            raise Refusal("invalid_request", "Each message must be an object with a known `role`.", param=f"messages[{index}]")
    return messages


_ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def stops_of(document: Mapping[str, Any]) -> list[str]:
    """`stop`, which may be a text or a list, as a list. Raises Refusal."""
    stop = document.get("stop")
    if stop is None:
        return []
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise Refusal("invalid_request", "`stop` must be a text or a list of texts.", param="stop")
    return stops


def output_limit_of(document: Mapping[str, Any]) -> int | None:
    """The most tokens that the client wants, under either of its names. Raises Refusal."""
    for name in ("max_completion_tokens", "max_tokens"):
        value = document.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise Refusal("invalid_request", f"`{name}` must be a positive integer.", param=name)
        return value
    return None


def given(document: Mapping[str, Any], names: Iterable[str]) -> tuple[str, ...]:
    """Which of these members the request has: null is as if it were not there."""
    return tuple(name for name in names if document.get(name) is not None)


def require_few(calls: int) -> None:
    """Raises Garbled where a reply already has as many tool calls, or choices, as are believed."""
    if calls >= MOST_CALLS:
        raise Garbled("the reply holds too many tool calls")


def in_path(model: str) -> str:
    """A model's name as one segment of a provider's path. Raises Refusal for one that a server, which reads `%2F` as a slash
    or tidies dots away, would take for the path of something else."""
    if any(segment in ("", ".", "..") for segment in model.replace("\\", "/").split("/")):
        raise Refusal("invalid_request", "`model` must be a name, not a path.", param="model")
    return quote(model, safe="", errors="replace")


def event(document: Mapping[str, Any] | str, name: str | None = None) -> bytes:
    """A server-sent event; a text goes as it is (`[DONE]`)."""
    data = document.encode() if isinstance(document, str) else dumped(document)
    head = f"event: {name}\n".encode() if name is not None else b""
    return head + b"data: " + data + b"\n\n"
