"""Chat completions as Anthropic's messages.

Source: anthropic.types.Message. Its content has one order, and the canonical form does not tell another: thoughts, text, calls.
"""

from typing import Any

import jiter
import orjson

from mitmgate.dialects.anthropic.usage import counted
from mitmgate.dialects.anthropic.words import STOP_OF
from mitmgate.dialects.codec import Asked, Document, Garbled


def reply(document: Document, asked: Asked) -> dict[str, Any]:
    """The message. Raises Garbled for a reply that is none, or whose tool calls cannot be said."""
    choices = document.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise Garbled("The provider's reply has no message.")
    finish = choice.get("finish_reason")
    calls = _calls(message, asked, cut=finish == "length")
    return {
        "id": message_id(document, asked), "type": "message", "role": "assistant",
        "content": [*_thoughts(message), *_texts(message), *calls], "model": asked.model,
        "stop_reason": stop_of(finish, called=bool(calls)), "stop_sequence": None, "usage": counted(document.get("usage")),
    }  # fmt: skip


def message_id(document: Document, asked: Asked) -> str:
    """The provider's own id if it is one of Anthropic's."""
    id = document.get("id")
    return id if isinstance(id, str) and id.startswith("msg_") else f"msg_{asked.id}"


def stop_of(finish: object, *, called: bool) -> str:
    """Anthropic's reason; a call is one, though some providers say `stop` after it."""
    if called and finish in (None, "stop"):
        return "tool_use"
    return STOP_OF.get(finish, "end_turn") if isinstance(finish, str) else "end_turn"


def call_of(call: object, asked: Asked, position: int) -> tuple[str, str, str] | None:
    """Id, name and arguments of a tool call, or None; an id that is missing is made from its position."""
    function = call.get("function") if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(name, str) or not name:
        return None
    id, arguments = call.get("id"), function.get("arguments")
    made = id if isinstance(id, str) and id else f"toolu_{asked.id}_{position}"
    return made, name, arguments if isinstance(arguments, str) else ""


def thought_of(block: object) -> dict[str, Any] | None:
    """A thinking block as Anthropic's clients expect it."""
    if not isinstance(block, dict):
        return None
    if block.get("type") == "redacted_thinking" and isinstance(block.get("data"), str):
        return {"type": "redacted_thinking", "data": block["data"]}
    thinking, signature = block.get("thinking"), block.get("signature")
    if block.get("type") == "thinking" and isinstance(thinking, str):
        return {"type": "thinking", "thinking": thinking, "signature": signature if isinstance(signature, str) else ""}
    return None


def _thoughts(message: Document) -> list[dict[str, Any]]:
    given = message.get("thinking_blocks")
    thoughts = [thought for thought in map(thought_of, given) if thought] if isinstance(given, list) else []
    reasoning = message.get("reasoning_content")
    if isinstance(reasoning, str) and reasoning and not any(thought.get("thinking") for thought in thoughts):
        thoughts.insert(0, {"type": "thinking", "thinking": reasoning, "signature": ""})
    return thoughts


def _texts(message: Document) -> list[dict[str, Any]]:
    content = message.get("content")
    texts: list[object] = [content]
    if isinstance(content, list):           # as some vendors answer
        texts = [part.get("text") for part in content if isinstance(part, dict)]
    texts.append(message.get("refusal"))
    return [{"type": "text", "text": text} for text in texts if isinstance(text, str) and text]


def _calls(message: Document, asked: Asked, *, cut: bool) -> list[dict[str, Any]]:
    calls = message.get("tool_calls")
    made: list[dict[str, Any]] = []
    for position, each in enumerate(calls if isinstance(calls, list) else ()):
        call = call_of(each, asked, position)
        if call is None:
            raise Garbled("The provider's reply has a tool call without a name.")
        id, name, arguments = call
        made.append({"type": "tool_use", "id": id, "name": name, "input": _input(arguments, cut=cut)})
    return made


def _input(arguments: str, *, cut: bool) -> dict[str, Any]:
    """Arguments as an object. Those that were cut by the limit of tokens are told as far as they go, as Anthropic does."""
    if not arguments.strip():
        return {}
    try:
        given = jiter.from_json(arguments.encode(), partial_mode="trailing-strings") if cut else orjson.loads(arguments)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise Garbled("The provider's reply has a tool call whose arguments are no JSON object.")
    return given
