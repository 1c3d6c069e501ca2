"""A canonical request for a provider that speaks chat completions: what is ours in it is taken out."""

from collections.abc import Mapping
from typing import Any, Final

from mitmgate.dialects.canonical import EFFORTS
from mitmgate.dialects.codec import Ask, Sent
from mitmgate.dialects.openai.quirks import adapted
from mitmgate.errors import Refusal

_OURS: Final = frozenset({"thinking", "top_k", "extra_body"})
_OURS_IN_MESSAGE: Final = frozenset(
    {"reasoning_content", "thinking_blocks", "cache_control", "extra_content", "is_error", "images"}
)
_OURS_IN_PART: Final = frozenset({"cache_control", "extra_content"})
_UNSAYABLE: Final = frozenset({"top_k", "extra_body"})      # the thinking is said as reasoning_effort
_OURS_IN_CALL: Final = frozenset({"extra_content"})
# Anthropic's budgets as efforts, each up to so many tokens (`anthropic` has the table the other way round).
_EFFORT_UP_TO: Final = ((1_024, "low"), (2_048, "medium"))


def chat_request(ask: Ask) -> Sent:
    """The body of POST /chat/completions. A stream's usage is always asked for."""
    document = {name: value for name, value in ask.document.items() if name not in _OURS}
    document["model"] = ask.model
    if isinstance(messages := ask.document.get("messages"), list):
        document["messages"] = [_message(each, index) for index, each in enumerate(messages)]
    if tools := ask.document.get("tools"):
        document["tools"] = [_part(each, "tools") for each in tools] if isinstance(tools, list) else tools
    effort = ask.document.get("reasoning_effort")
    if effort is None and (effort := _effort(ask.document.get("thinking"))) is not None:
        document["reasoning_effort"] = effort
    if ask.stream:
        options = document.get("stream_options")
        document["stream"] = True
        document["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    dropped = tuple(name for name, value in ask.document.items() if name in _UNSAYABLE and value is not None)
    applied = effort if isinstance(effort, str) and effort in EFFORTS else None
    fit = adapted(document, ask.quirks)
    return Sent("/chat/completions", fit.document, dropped=(*dropped, *fit.dropped), effort=applied)


def _effort(thinking: object) -> str | None:
    if not isinstance(thinking, dict):
        return None
    budget = thinking.get("budget_tokens")
    if thinking.get("type") != "enabled" or not isinstance(budget, int):
        return None
    return next((effort for most, effort in _EFFORT_UP_TO if budget <= most), "high")


def _message(message: object, index: int) -> object:
    if not isinstance(message, Mapping):
        return message
    tidy = _without(message, _OURS_IN_MESSAGE)
    calls = message.get("tool_calls")
    if isinstance(calls, list) and any(isinstance(call, dict) and "extra_content" in call for call in calls):
        tidy = {**tidy, "tool_calls": [_without(c, _OURS_IN_CALL) if isinstance(c, dict) else c for c in calls]}
    content = message.get("content")
    if not isinstance(content, list):
        return tidy
    parts = [_part(part, f"messages[{index}].content[{at}]") for at, part in enumerate(content)]
    return {**tidy, "content": parts} if any(new is not old for new, old in zip(parts, content, strict=True)) else tidy


def _part(part: object, param: str) -> object:
    if not isinstance(part, Mapping):
        return part
    if part.get("type") == "file" and isinstance(file := part.get("file"), dict) and "file_url" in file:
        raise Refusal("capability_missing", "This provider takes documents as data, not by their URL.", param=param)
    tidy = _without(part, _OURS_IN_PART)
    image = part.get("image_url")
    if isinstance(image, dict) and "format" in image:
        return {**tidy, "image_url": _without(image, frozenset({"format"}))}
    return tidy


def _without(value: Mapping[str, Any], names: frozenset[str]) -> Mapping[str, Any]:
    return value if names.isdisjoint(value) else {name: each for name, each in value.items() if name not in names}
