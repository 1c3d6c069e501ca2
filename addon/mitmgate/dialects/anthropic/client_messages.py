"""A client's `system` and turns as canonical messages.

Sources: anthropic.types.MessageParam; OpenAI API reference, chat messages: a tool's result is a message of its own, directly
after the call, and holds text alone, so what else a result holds follows in the user's message. `is_error` stays beside it.
"""

from collections.abc import Iterator
from typing import Any

from mitmgate.dialects.anthropic.client_contents import Given, Part, blocks, parts_of, simple, text_of
from mitmgate.dialects.anthropic.words import cache_mark, dumped
from mitmgate.dialects.codec import Document
from mitmgate.errors import Refusal

type Message = dict[str, Any]


def messages_of(document: Document) -> list[Message]:
    """The canonical messages. Raises Refusal."""
    turns = document.get("messages")
    if not isinstance(turns, list) or not turns:
        raise Refusal("invalid_request", "`messages` must be a non-empty array.", param="messages")
    messages = list(_system(document.get("system"), "system"))
    calls: set[str] = set()
    for index, turn in enumerate(turns):
        messages += _turn(turn, f"messages[{index}]", calls)
    if document.get("cache_control") is not None and messages:
        # Anthropic marks the last block that can be cached: in canonical words, the last message.
        messages[-1] = messages[-1] | cache_mark(document, "")
    return messages


def _system(system: object, where: str) -> Iterator[Message]:
    if system is None or system == "":
        return
    if isinstance(system, str):
        yield {"role": "system", "content": system}
        return
    parts = [part for block, place in blocks(system, where) for part in parts_of(block, place)]
    if any(part["type"] != "text" for part in parts):
        raise Refusal("invalid_request", "Only text can stand in a system's message.", param=where)
    if parts:
        yield {"role": "system", "content": simple(parts)}


def _turn(turn: object, where: str, calls: set[str]) -> Iterator[Message]:
    role = turn.get("role") if isinstance(turn, dict) else None
    if not isinstance(turn, dict) or role not in ("user", "assistant", "system"):
        raise Refusal("invalid_request", "Each message must be an object with a known `role`.", param=where)
    content, place = turn.get("content"), f"{where}.content"
    text = content if isinstance(content, str) else _lone_text(content)
    if text is not None:                    # by far the most common shape
        yield {"role": role, "content": text}
    elif role == "user":
        yield from _user(content, place, calls)
    elif role == "assistant":
        yield _assistant(content, place, calls)
    else:
        yield from _system(content, place)


def _lone_text(content: object) -> str | None:
    """The text of a content that is one text block and no more."""
    block = content[0] if isinstance(content, list) and len(content) == 1 else None
    if not isinstance(block, dict) or len(block) != 2 or block.get("type") != "text":
        return None
    text = block.get("text")
    return text if isinstance(text, str) else None


def _user(content: object, where: str, calls: set[str]) -> Iterator[Message]:
    parts: list[Part] = []
    beside: list[Part] = []                 # what results hold beside text
    for block, place in blocks(content, where):
        if block["type"] == "tool_result":
            yield _result(block, place, calls, beside)
        else:
            parts += parts_of(block, place)
    if beside or parts:
        yield {"role": "user", "content": simple([*beside, *parts])}


def _result(block: Given, where: str, calls: set[str], beside: list[Part]) -> Message:
    id = text_of(block, "tool_use_id", where)
    if id not in calls:
        raise Refusal("invalid_request", "A tool's result must name a call before it.", param=f"{where}.tool_use_id")
    content = block.get("content")
    if content is not None and not isinstance(content, str):
        parts = [part for each, place in blocks(content, f"{where}.content") for part in _result_parts(each, place)]
        beside += [part for part in parts if part["type"] != "text"]
        content = simple([part for part in parts if part["type"] == "text"])
    message: Message = {"role": "tool", "tool_call_id": id, "content": content or ""}
    if block.get("is_error") is True:
        message["is_error"] = True
    return message | cache_mark(block, where)


def _result_parts(block: Given, where: str) -> list[Part]:
    if block["type"] == "tool_reference":   # tool search is Anthropic's own
        raise Refusal("invalid_request", "A reference to a tool cannot be said to other models.", param=where)
    return parts_of(block, where)


def _assistant(content: object, where: str, calls: set[str]) -> Message:
    parts: list[Part] = []
    thoughts: list[Part] = []
    called: list[Part] = []
    for block, place in blocks(content, where):
        kind = block["type"]
        if kind == "thinking":
            signature = block.get("signature", "")
            if not isinstance(signature, str):
                raise Refusal("invalid_request", "`signature` must be a text.", param=f"{place}.signature")
            thoughts.append({"type": kind, "thinking": text_of(block, "thinking", place), "signature": signature})
        elif kind == "redacted_thinking":
            thoughts.append({"type": kind, "data": text_of(block, "data", place)})
        elif kind == "tool_use":
            called.append(_call(block, place))
            calls.add(called[-1]["id"])
        else:
            parts += parts_of(block, place)
    if any(part["type"] != "text" for part in parts):
        raise Refusal("invalid_request", "An assistant's message holds text, thinking and tool calls.", param=where)
    message: Message = {"role": "assistant", "content": simple(parts) if parts else None}
    if thoughts:
        message["thinking_blocks"] = thoughts
        if reasoning := "".join(thought.get("thinking", "") for thought in thoughts):
            message["reasoning_content"] = reasoning
    if called:
        message["tool_calls"] = called
    return message


def _call(block: Given, where: str) -> Part:
    id, name, given = text_of(block, "id", where), text_of(block, "name", where), block.get("input")
    if not isinstance(given, dict):
        raise Refusal("invalid_request", "`input` must be an object.", param=f"{where}.input")
    try:
        arguments = dumped(given)
    except ValueError:
        raise Refusal("invalid_request", "`input` is too deep.", param=f"{where}.input") from None
    call: Part = {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return call | cache_mark(block, where)
