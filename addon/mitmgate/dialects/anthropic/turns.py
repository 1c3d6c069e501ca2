"""Canonical messages as Anthropic's `system` and alternating turns.

Sources: anthropic.types.MessageParam, ToolUseBlockParam, ToolResultBlockParam, ThinkingBlockParam; platform.claude.com, "Tool
use" (results stand first in the user's turn) and "Extended thinking" (thinking blocks stand first in the assistant's).
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from mitmgate.dialects.anthropic.contents import Block, blocks_of
from mitmgate.dialects.anthropic.words import cache_mark, tool_id
from mitmgate.dialects.canonical import arguments_of
from mitmgate.dialects.codec import Document
from mitmgate.errors import Refusal

_JOINT: Final = "\n\n"


class Turns:
    """Collects the messages of one request."""

    def __init__(self, dropped: set[str]) -> None:
        self._dropped = dropped
        self._system: list[str | list[Block]] = []
        self._turns: list[tuple[str, list[Block]]] = []
        self._results = 0                   # how many blocks of the open turn are tool results
        self._calls: set[str] = set()

    @property
    def system(self) -> str | list[Block] | None:
        """A text where every message of it was one, else blocks."""
        if not self._system:
            return None
        if all(isinstance(each, str) for each in self._system):
            return _JOINT.join(each for each in self._system if isinstance(each, str))
        return [block for each in self._system for block in _as_blocks(each)]

    @property
    def messages(self) -> list[Block]:
        """The turns in order."""
        return [{"role": role, "content": content} for role, content in self._turns]

    @property
    def unthought(self) -> bool:
        """Whether the model would go on with a turn that has no thought at its head: one whose calls were just answered, or
        the last. A budget for thinking is refused then ("Extended thinking", tool use), adaptive thinking is not."""
        answered = bool(self._turns) and self._turns[-1][0] == "user" and self._results > 0
        turn = self._turns[-2:-1] if answered else self._turns[-1:]
        return any(role == "assistant" and not blocks[0]["type"].endswith("thinking") for role, blocks in turn)

    def add(self, message: Document, where: str) -> None:
        """The next message. Raises Refusal."""
        role = message.get("role")
        if role in ("user", "assistant") and len(message) == 2 and isinstance(content := message.get("content"), str):
            self._append(role, content)     # by far the most common shape
            return
        if message.get("name") and role != "tool":
            self._dropped.add("name")
        if role == "user":
            self._add_user(message, where)
        elif role == "assistant":
            self._add_assistant(message, where)
        elif role == "tool":
            self._add_result(message, where)
        elif role in ("system", "developer"):
            self._add_system(message, where)
        elif role == "function":
            raise Refusal("capability_missing", "Anthropic knows no `function` messages; send `tool` messages.", param=where)
        else:
            raise Refusal("invalid_request", "Each message must have a known `role`.", param=where)

    def _add_system(self, message: Document, where: str) -> None:
        content = _lone(_marked(_content(message, where, self._dropped), message, where))
        for block in content if isinstance(content, list) else ():
            if block["type"] != "text":
                raise Refusal("invalid_request", "Only text can stand in a system message.", param=f"{where}.content")
        if content:
            self._system.append(content)

    def _add_user(self, message: Document, where: str) -> None:
        self._append("user", _marked(_content(message, where, self._dropped), message, where))

    def _add_assistant(self, message: Document, where: str) -> None:
        if message.get("function_call") is not None or message.get("audio") is not None:
            raise Refusal("capability_missing", "Anthropic knows neither `function_call` nor `audio` here.", param=where)
        thoughts = list(self._thoughts(message, where))
        calls = list(self._tool_uses(message, where))
        content = _content(message, where, self._dropped)
        if not content and isinstance(refusal := message.get("refusal"), str):
            content = refusal
        if thoughts or calls:
            content = [*thoughts, *_as_blocks(content), *calls]
        self._append("assistant", _marked(content, message, where))

    def _thoughts(self, message: Document, where: str) -> Iterable[Block]:
        blocks = message.get("thinking_blocks")
        if blocks is not None and not isinstance(blocks, list):
            raise Refusal("invalid_request", "`thinking_blocks` must be a list.", param=f"{where}.thinking_blocks")
        replayed = False
        for block in blocks or ():
            thought = _thought(block)
            if thought is None:             # made by another provider: Anthropic refuses what it did not sign
                self._dropped.add("thinking_blocks")
            else:
                replayed = True
                yield thought
        if message.get("reasoning_content") and not replayed:
            self._dropped.add("reasoning_content")

    def _tool_uses(self, message: Document, where: str) -> Iterable[Block]:
        calls = message.get("tool_calls")
        if calls is None:
            return
        if not isinstance(calls, list):
            raise Refusal("invalid_request", "`tool_calls` must be a list.", param=f"{where}.tool_calls")
        for index, call in enumerate(calls):
            block = _tool_use(call, f"{where}.tool_calls[{index}]")
            self._calls.add(block["id"])
            yield block

    def _add_result(self, message: Document, where: str) -> None:
        id = message.get("tool_call_id")
        if not isinstance(id, str) or (id := tool_id(id)) not in self._calls:
            raise Refusal("invalid_request", "A tool's result must name a call before it.", param=f"{where}.tool_call_id")
        result: Block = {"type": "tool_result", "tool_use_id": id}
        if content := _content(message, where, self._dropped):
            result["content"] = content
        if message.get("is_error") is True:
            result["is_error"] = True
        result |= cache_mark(message, where)
        self._turn("user").insert(self._results, result)
        self._results += 1

    def _append(self, role: str, content: str | list[Block]) -> None:
        if content:
            self._turn(role).extend(_as_blocks(content))

    def _turn(self, role: str) -> list[Block]:
        """The open turn's blocks, if it is this role's, else a new one's."""
        if not self._turns or self._turns[-1][0] != role:
            self._turns.append((role, []))
            self._results = 0
        return self._turns[-1][1]


def turns_of(document: Document, dropped: set[str]) -> Turns:
    """The request's messages as turns. Raises Refusal."""
    turns = Turns(dropped)
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal("invalid_request", "`messages` must be a non-empty array.", param="messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise Refusal("invalid_request", "Each message must be an object.", param=f"messages[{index}]")
        turns.add(message, f"messages[{index}]")
    if not turns.messages:
        raise Refusal("invalid_request", "Anthropic needs a message that is not the system's, and not empty.", param="messages")
    return turns


def _content(message: Document, where: str, dropped: set[str]) -> str | list[Block]:
    content = message.get("content")
    return content if isinstance(content, str) else list(blocks_of(content, where, dropped))


def _lone(content: str | list[Block]) -> str | list[Block]:
    """A lone text without a mark as that text."""
    if isinstance(content, list) and len(content) == 1 and content[0].keys() == {"type", "text"}:
        text: str = content[0]["text"]
        return text
    return content


def _as_blocks(content: str | list[Block]) -> list[Block]:
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


def _marked(content: str | list[Block], message: Document, where: str) -> str | list[Block]:
    """A message's own `cache_control` marks its last block."""
    mark = cache_mark(message, where)
    if not mark or not content:
        return content
    blocks = _as_blocks(content)
    # The API refuses a mark on thinking; those stand first, so one that is last stands alone.
    return blocks if blocks[-1]["type"].endswith("thinking") else [*blocks[:-1], blocks[-1] | mark]


def _thought(block: object) -> Block | None:
    if not isinstance(block, dict):
        return None
    thinking, signature, data = block.get("thinking"), block.get("signature"), block.get("data")
    if block.get("type") == "thinking" and isinstance(thinking, str) and isinstance(signature, str) and signature:
        return {"type": "thinking", "thinking": thinking, "signature": signature}
    if block.get("type") == "redacted_thinking" and isinstance(data, str) and data:
        return {"type": "redacted_thinking", "data": data}
    return None


def _tool_use(call: object, where: str) -> Block:
    if not isinstance(call, dict):
        raise Refusal("invalid_request", "A tool call must be an object.", param=where)
    function = call.get("function")
    if call.get("type") == "custom":
        raise Refusal("capability_missing", "Anthropic knows no custom tools with free text.", param=where)
    if not isinstance(function, dict):
        raise Refusal("invalid_request", "A tool call must have a `function`.", param=f"{where}.function")
    id, name = call.get("id"), function.get("name")
    if not isinstance(id, str) or not id:
        raise Refusal("invalid_request", "A tool call must have an `id`.", param=f"{where}.id")
    if not isinstance(name, str) or not name:
        raise Refusal("invalid_request", "A tool call must name its function.", param=f"{where}.function.name")
    arguments = arguments_of(function.get("arguments"), f"{where}.function.arguments")
    return {"type": "tool_use", "id": tool_id(id), "name": name, "input": arguments} | _call_mark(call, where)


def _call_mark(call: Mapping[str, Any], where: str) -> dict[str, Any]:
    return cache_mark(call, where) if "cache_control" in call else {}
