"""A canonical chat as the body of POST /v2/chat.

Source: SDK, `v2/raw_client.py` (`chat`) and the types that it names; "Using Cohere models via the OpenAI SDK" for what an
effort means. Where ranges differ:

    top_p                    0.01 to 0.99 there: the ends are moved in, so that 1 does not become the default, 0.75
    top_k                    at most 500
    frequency_penalty and    0 to 1: one beyond is dropped; 0 is the default and not sent, as some models refuse two of them
    presence_penalty
    max_tokens               no more than the model's own limit, where that is known: beyond it the API refuses
    response_format          not together with tools or documents: dropped
    reasoning_effort         none: disabled; up to medium: a budget, no more than half of max_tokens; from high on: no budget
"""

from collections.abc import Mapping
from typing import Any, Final

from mitmgate.dialects.canonical import EFFORTS, output_limit_of, stops_of
from mitmgate.dialects.codec import Ask, Document, Sent
from mitmgate.dialects.cohere.messages import messages_for
from mitmgate.dialects.cohere.tools import toolbox_of
from mitmgate.errors import Refusal

_OWN: Final = ("safety_mode", "citation_options", "documents", "priority", "strict_tools")
"""Cohere's own members, for a client that knows whom it speaks to: they go as they came."""

_TOLD: Final = frozenset(
    {
        "model", "messages", "stream", "stream_options", "tools", "tool_choice", "max_tokens", "max_completion_tokens", "stop",
        "temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty", "logprobs", "response_format",
        "reasoning_effort", "thinking", *_OWN,
    }
)  # fmt: skip
_NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "n": (1,), "parallel_tool_calls": (True,), "store": (False,), "service_tier": ("auto", "default"), "logit_bias": ({},),
    "modalities": (["text"],), "top_logprobs": (0,), "verbosity": ("medium",), "metadata": ({},),
}  # fmt: skip
"""Values that ask for nothing: what this provider does anyway."""

_BUDGETS: Final[Mapping[str, int]] = {"minimal": 1_024, "low": 1_024, "medium": 2_048}
_PENALTIES: Final = ("frequency_penalty", "presence_penalty")


def chat_request(ask: Ask) -> Sent:
    """The body of POST /v2/chat. Raises Refusal."""
    asked = ask.document
    limit = _limit(asked, ask.output_limit)
    thinking, effort = _thinking(asked, limit)
    tools = toolbox_of(asked)
    document: dict[str, Any] = {
        "model": ask.model,
        "messages": messages_for(asked, thinking=thinking is not None and thinking["type"] == "enabled"),
        "stream": ask.stream,
        **tools.members,
        **_sampling(asked),
        **{name: asked[name] for name in _OWN if asked.get(name) is not None},
    }
    if limit is not None:
        document["max_tokens"] = limit
    if stops := stops_of(asked):
        document["stop_sequences"] = stops
    if thinking is not None:
        document["thinking"] = thinking
    form = _form(asked.get("response_format"))
    bound = "tools" in document or "documents" in document
    if form is not None and not bound:
        document["response_format"] = form
    lost = {name for name in _PENALTIES if asked.get(name) and name not in document}
    if form is not None and bound:
        lost.add("response_format")
    return Sent("/v2/chat", document, dropped=_dropped(asked, lost, tools.loosened), effort=effort)


def _dropped(asked: Document, lost: set[str], loosened: bool) -> tuple[str, ...]:
    """Names in the order of the request, then those of what is deeper in it."""
    names = [
        name
        for name, value in asked.items()
        if value is not None and (name in lost or name not in _TOLD) and value not in _NEUTRAL.get(name, ())
    ]
    if loosened:
        names.append("tools[].function.strict")
    if any(each.get("name") is not None for each in asked["messages"] if each["role"] != "tool"):
        names.append("messages[].name")
    return tuple(names)


def _limit(asked: Document, most: int | None) -> int | None:
    limit = output_limit_of(asked)
    return limit if limit is None or most is None else min(limit, most)


def _sampling(asked: Document) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name in ("temperature", "seed"):
        if (value := _number(asked, name)) is not None:
            told[name] = value
    if (top_p := _number(asked, "top_p")) is not None:
        told["p"] = min(max(top_p, 0.01), 0.99)
    if (top_k := _number(asked, "top_k")) is not None:
        if not isinstance(top_k, int) or top_k < 0:
            raise Refusal("invalid_request", "`top_k` must be an integer from 0 on.", param="top_k")
        told["k"] = min(top_k, 500)
    for name in _PENALTIES:
        if (value := _number(asked, name)) and 0 <= value <= 1:
            told[name] = value
    logprobs = asked.get("logprobs")
    if logprobs is not None and not isinstance(logprobs, bool):
        raise Refusal("invalid_request", "`logprobs` must be true or false.", param="logprobs")
    return {**told, "logprobs": True} if logprobs else told


def _number(asked: Document, name: str) -> int | float | None:
    value = asked.get(name)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise Refusal("invalid_request", f"`{name}` must be a number.", param=name)


def _form(form: object) -> dict[str, Any] | None:
    """`response_format`; None for text, which is the default."""
    kind = form.get("type") if isinstance(form, dict) else None
    if form is None or kind == "text":
        return None
    if kind == "json_object":
        return {"type": "json_object"}
    said = form.get("json_schema") if isinstance(form, dict) and kind == "json_schema" else None
    schema = said.get("schema") if isinstance(said, dict) else None
    if not isinstance(schema, dict):
        raise Refusal("invalid_request", "`response_format` is not one that is known.", param="response_format")
    return {"type": "json_object", "json_schema": schema}


def _thinking(asked: Document, limit: int | None) -> tuple[dict[str, Any] | None, str | None]:
    """`thinking` and the effort applied. What the client said exactly comes before an effort."""
    exact, effort = asked.get("thinking"), asked.get("reasoning_effort")
    if effort is not None and (not isinstance(effort, str) or effort not in EFFORTS):
        raise Refusal("invalid_request", "`reasoning_effort` is not one that is known.", param="reasoning_effort")
    kind = exact.get("type") if isinstance(exact, dict) else None
    if exact is not None and (not isinstance(kind, str) or kind not in ("enabled", "adaptive", "disabled")):
        raise Refusal("invalid_request", "`thinking` is not one that is known.", param="thinking")
    if kind == "disabled" or (exact is None and effort == "none"):
        return {"type": "disabled"}, "none"
    if isinstance(exact, dict) and kind == "enabled":
        return _budgeted(exact.get("budget_tokens")), None
    if effort is None or effort == "none":
        return ({"type": "enabled"}, None) if kind == "adaptive" else (None, None)
    budget = _BUDGETS.get(effort)
    if budget is None:
        return {"type": "enabled"}, "high"
    return {"type": "enabled", "token_budget": budget if limit is None else min(budget, max(limit // 2, 1))}, effort


def _budgeted(budget: object) -> dict[str, Any]:
    if budget is None:
        return {"type": "enabled"}
    if not isinstance(budget, int) or isinstance(budget, bool) or budget < 1:
        raise Refusal("invalid_request", "`budget_tokens` must be a positive integer.", param="thinking.budget_tokens")
    return {"type": "enabled", "token_budget": budget}
