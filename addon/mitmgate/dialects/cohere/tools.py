"""Tools and the choice among them.

Cohere's `tool_choice` is REQUIRED or NONE; without it the model is free. It cannot be told one tool's name. To force one, or
to allow some, the others are left out of this request: the model then can call no other, which is what was asked.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from mitmgate.dialects.codec import Document
from mitmgate.errors import Refusal

_ANYTHING: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}
_SAID: Final[Mapping[str, str | None]] = {"auto": None, "none": "NONE", "required": "REQUIRED"}


class Toolbox(NamedTuple):
    """What is sent of tools: members of the request, and whether some tools' `strict` is lost."""

    members: Mapping[str, Any]
    loosened: bool = False


def toolbox_of(document: Document) -> Toolbox:
    """`tools`, `tool_choice` and `strict_tools`, which is for all or none. Raises Refusal."""
    tools = document.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise Refusal("invalid_request", "`tools` must be an array.", param="tools")
    functions = [_function(tool, f"tools[{at}]") for at, tool in enumerate(tools or ())]
    names, choice = _choice(document.get("tool_choice"))
    if names is not None:
        functions = _only(functions, names)
    if choice == "REQUIRED" and not functions:
        raise Refusal("invalid_request", "`tool_choice` asks for a tool, but there is none.", param="tool_choice")
    if not functions:
        return Toolbox({})
    strict = [each.get("strict") is True for each in functions]
    members: dict[str, Any] = {"tools": [_tool(each) for each in functions]}
    if all(strict):
        members["strict_tools"] = True
    if choice is not None:
        members["tool_choice"] = choice
    return Toolbox(members, any(strict) and not all(strict))


def _function(tool: object, param: str) -> Mapping[str, Any]:
    if isinstance(tool, dict) and isinstance(tool.get("type"), str) and tool["type"] != "function":
        raise Refusal("capability_missing", "This provider knows tools of type `function` only.", param=param)
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Refusal("invalid_request", "A tool must be an object with a `function` that has a `name`.", param=param)
    if not isinstance(function.get("parameters") or {}, dict):
        raise Refusal("invalid_request", "A tool's `parameters` must be a JSON schema.", param=f"{param}.function.parameters")
    return function


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"name": function["name"], "parameters": function.get("parameters") or dict(_ANYTHING)}
    if isinstance(function.get("description"), str):
        said["description"] = function["description"]
    return {"type": "function", "function": said}


def _choice(choice: object) -> tuple[list[str] | None, str | None]:
    """The names of the tools that may be called, None for all; and Cohere's word."""
    if choice is None:
        return None, None
    if isinstance(choice, str) and choice in _SAID:
        return None, _SAID[choice]
    kind = choice.get("type") if isinstance(choice, dict) else None
    if isinstance(choice, dict) and kind == "function":
        return [_name(choice)], "REQUIRED"
    if isinstance(choice, dict) and kind == "allowed_tools":
        return _allowed(choice.get("allowed_tools"))
    if isinstance(choice, dict) and kind == "custom":
        raise Refusal("capability_missing", "This provider knows tools of type `function` only.", param="tool_choice")
    raise _unknown()


def _allowed(allowed: object) -> tuple[list[str], str | None]:
    tools, mode = (allowed.get("tools"), allowed.get("mode")) if isinstance(allowed, dict) else (None, None)
    if not isinstance(tools, list) or not isinstance(mode, str) or mode not in ("auto", "required"):
        raise _unknown()
    return [_name(each) for each in tools], _SAID[mode]


def _name(tool: object) -> str:
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise _unknown()
    return name


def _only(functions: Iterable[Mapping[str, Any]], names: list[str]) -> list[Mapping[str, Any]]:
    wanted = frozenset(names)
    chosen = [each for each in functions if each["name"] in wanted]
    if {each["name"] for each in chosen} != wanted:
        raise Refusal("invalid_request", "`tool_choice` names a tool that is not among `tools`.", param="tool_choice")
    return chosen


def _unknown() -> Refusal:
    return Refusal("invalid_request", "`tool_choice` is not one that is known.", param="tool_choice")
