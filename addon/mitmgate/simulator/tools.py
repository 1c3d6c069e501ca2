"""Which tools an answer calls: those that the last user message names, or the one that `tool_choice` forces."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mitmgate.simulator.answers import pieces
from mitmgate.simulator.asked import BadRequest, Document, Message, flag
from mitmgate.simulator.instances import instance_text

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Call:
    """One call: its id, the function and its arguments as JSON text in tokens."""

    id: str
    name: str
    arguments: Sequence[str]


def calls(document: Document, conversation: Sequence[Message], seed: bytes) -> list[Call]:
    """The calls to make; none where the answer is text. After a tool's result the answer is always text."""
    offered = _offered(document.get("tools"))
    chosen = _chosen(document.get("tool_choice"), offered, conversation)
    if not flag(document, "parallel_tool_calls", default=True):
        chosen = chosen[:1]
    if conversation[-1].role in ("tool", "function"):
        return []
    return [
        Call(f"call_{seed.hex()[:22]}{index:02}", name, pieces(instance_text(offered[name], "tools")))
        for index, name in enumerate(chosen)
    ]


def _offered(tools: Any) -> Mapping[str, Any]:
    """The functions by name, each with the schema of its arguments. Tools of other types are never called."""
    if tools is None:
        return {}
    if not isinstance(tools, list) or len(tools) > 128:
        raise BadRequest("'tools' must be an array of at most 128 tools.", param="tools")
    offered: dict[str, Any] = {}
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
            raise BadRequest(f"'tools[{index}]' must be an object with a 'type'.", param=f"tools[{index}]")
        if tool["type"] != "function":
            continue
        function = tool.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str) or not _NAME.fullmatch(name):
            raise BadRequest(
                f"'tools[{index}].function.name' must be letters, digits, underscores and dashes.",
                param=f"tools[{index}].function.name",
            )
        offered[name] = function.get("parameters") or {"type": "object", "properties": {}}
    return offered


def _chosen(choice: Any, offered: Mapping[str, Any], conversation: Sequence[Message]) -> list[str]:
    spoken = next((message.text for message in reversed(conversation) if message.role == "user"), "")
    mentioned = set(_NAME.findall(spoken))
    named = [name for name in offered if name in mentioned]
    if choice is None or choice == "auto":
        return named
    if choice == "none":
        return []
    if choice == "required":
        if not offered:
            raise BadRequest("'tool_choice' requires a function, but 'tools' offers none.", param="tool_choice")
        return named or list(offered)[:1]
    function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    forced = function.get("name") if isinstance(function, dict) else None
    if not isinstance(forced, str) or forced not in offered:
        raise BadRequest(
            "'tool_choice' must be none, auto, required or an object that names a function of 'tools'.",
            param="tool_choice",
        )
    return [forced]
