"""A reply of POST /v2/chat as a chat.completion (SDK, `v2/types/v2chat_response.py`, `types/assistant_message_response.py`).

    content[] thinking, tool_plan   reasoning_content: a plan is what the model thinks before it calls tools, not its answer
    finish_reason                   `FINISHES`; ERROR and TIMEOUT are no answers, whatever else the reply holds
    logprobs[]                      one per chunk of text, whose tokens' logarithms are added up
    citations                       not told: the canonical form has none
"""

from collections.abc import Mapping
from typing import Any, Final

from mitmgate.dialects.canonical import completion_of
from mitmgate.dialects.codec import Ask, Document, Garbled
from mitmgate.dialects.cohere.usage import usage_of

FINISHES: Final[Mapping[str, str]] = {
    "COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool_calls",
}  # fmt: skip
FAILURES: Final[Mapping[str, int]] = {"ERROR": 500, "TIMEOUT": 504}
"""With the status that each would have had as a reply of its own."""

BETWEEN: Final = "\n\n"                     # thoughts and plan, which both are reasoning


def is_failure(reason: str) -> bool:
    """Whether a finish reason says that there is no answer. Version 1 had more that begin so."""
    return reason in FAILURES or reason.startswith("ERROR")


def finish_of(reason: str, *, called: bool) -> str:
    """The canonical finish reason. The SDK's type leaves room for new ones: such a reply is whole, and has just stopped."""
    finish = FINISHES.get(reason, "stop")
    return "tool_calls" if called and finish == "stop" else finish


def chat_reply(document: Document, ask: Ask) -> dict[str, Any]:
    """A chat.completion. Raises Garbled."""
    reason, said = document.get("finish_reason"), document.get("message")
    if not isinstance(reason, str) or not isinstance(said, dict):
        raise Garbled("the reply holds no message, or does not say why it ended")
    if is_failure(reason):
        raise Garbled("the provider says that it failed to finish its answer")
    calls = _calls(said.get("tool_calls"), ask)
    choice = {
        "index": 0,
        "message": _message(said, calls),
        "logprobs": logprobs_of(document.get("logprobs")),
        "finish_reason": finish_of(reason, called=bool(calls)),
    }
    id, usage = document.get("id"), document.get("usage")
    return completion_of(
        id=id if isinstance(id, str) and id else f"chatcmpl-{ask.id}",
        created=ask.created,
        model=ask.model,
        choices=[choice],
        usage=usage_of(usage) if isinstance(usage, dict) else None,
    )


def _message(said: Document, calls: list[dict[str, Any]]) -> dict[str, Any]:
    texts, thoughts = _content(said.get("content"))
    plan = said.get("tool_plan")
    if plan is not None and not isinstance(plan, str):
        raise Garbled("the reply's tool_plan is no text")
    reasoning = BETWEEN.join(each for each in ("".join(thoughts), plan) if each)
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    return message


def _content(content: object) -> tuple[list[str], list[str]]:
    """Texts and thoughts; a block of a type that is not known is passed over."""
    found: dict[str, list[str]] = {"text": [], "thinking": []}
    if content is not None and not isinstance(content, list):
        raise Garbled("the reply's content is no list")
    for block in content or ():
        kind = block.get("type") if isinstance(block, dict) else None
        if not isinstance(kind, str):
            raise Garbled("the reply's content holds what is no block")
        if kind in found:
            if not isinstance(text := block.get(kind), str):
                raise Garbled("a block of the reply's content holds no text")
            found[kind].append(text)
    return found["text"], found["thinking"]


def _calls(given: object, ask: Ask) -> list[dict[str, Any]]:
    if given is not None and not isinstance(given, list):
        raise Garbled("the reply's tool_calls are no list")
    return [_call(each, f"call_{ask.id}_{k}") for k, each in enumerate(given or ())]


def _call(call: object, own: str) -> dict[str, Any]:
    called = called_by(call)
    if called is None:
        raise Garbled("a tool call of the reply has no name, or arguments that are no text")
    id, name, arguments = called
    return {"id": id or own, "type": "function", "function": {"name": name, "arguments": arguments or "{}"}}


def called_by(call: object) -> tuple[str | None, str, str] | None:
    """A call's id, its function's name and its arguments so far; None for what is no call."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict):
        return None
    id, name, arguments = call.get("id"), function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not name or not isinstance(arguments, str | None):
        return None
    return id if isinstance(id, str) and id else None, name, arguments or ""


def logprobs_of(items: object) -> dict[str, Any] | None:
    """`LogprobItem`s (SDK, `types/logprob_item.py`) as OpenAI's; None where there is nothing to tell."""
    tokens = [token for each in items if (token := _token(each)) is not None] if isinstance(items, list) else []
    return {"content": tokens, "refusal": None} if tokens else None


def _token(item: object) -> dict[str, Any] | None:
    text, logarithms = (item.get("text"), item.get("logprobs")) if isinstance(item, dict) else (None, None)
    if not isinstance(text, str) or not isinstance(logarithms, list) or not logarithms:
        return None
    try:
        total = float(sum(logarithms))
    except (TypeError, OverflowError):
        return None
    return {"token": text, "logprob": total, "bytes": list(text.encode(errors="replace")), "top_logprobs": []}
