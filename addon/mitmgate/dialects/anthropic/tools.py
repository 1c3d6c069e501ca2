"""Canonical tools and `tool_choice` as Anthropic's.

Sources: anthropic.types.ToolParam, ToolChoiceParam.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from mitmgate.dialects.anthropic.models import Model
from mitmgate.dialects.anthropic.schema import closed
from mitmgate.dialects.anthropic.words import cache_mark
from mitmgate.dialects.codec import Document
from mitmgate.errors import Refusal

type Tool = dict[str, Any]

_CHOICES: Final[Mapping[str, str]] = MappingProxyType({"auto": "auto", "required": "any", "none": "none"})
FORCED: Final = frozenset({"any", "tool"})


def tools_of(document: Document, model: Model, dropped: set[str]) -> list[Tool]:
    """The request's tools. Raises Refusal."""
    for legacy in ("functions", "function_call"):
        if document.get(legacy):
            raise Refusal("capability_missing", f"Anthropic knows no `{legacy}`; send `tools`.", param=legacy)
    tools = document.get("tools")
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise Refusal("invalid_request", "`tools` must be a list.", param="tools")
    return [_tool(tool, f"tools[{index}]", model, dropped) for index, tool in enumerate(tools)]


def choice_of(
    document: Document, tools: list[Tool], dropped: set[str], model: Model
) -> tuple[dict[str, Any] | None, list[Tool]]:
    """What is said about the choice, if anything, and the tools that are left to choose from. Raises Refusal."""
    choice, allowed = _choice(document.get("tool_choice"))
    if not tools:
        if choice is not None and choice["type"] in FORCED:
            raise Refusal("invalid_request", "A `tool_choice` needs `tools`.", param="tool_choice")
        return None, tools
    if allowed is not None:
        tools = [tool for tool in tools if tool["name"] in allowed]
        if not tools:
            raise Refusal("invalid_request", "None of the allowed tools is given.", param="tool_choice.allowed_tools.tools")
    if choice is not None and choice["type"] == "tool" and all(tool["name"] != choice["name"] for tool in tools):
        raise Refusal("invalid_request", "The chosen tool is not given.", param="tool_choice")
    if choice is not None and choice["type"] in FORCED and not model.forced:
        dropped.add("tool_choice")
        choice = None
    return choice, tools


def single(document: Document, choice: dict[str, Any] | None) -> dict[str, Any] | None:
    """The choice with `parallel_tool_calls: false` said in it."""
    if document.get("parallel_tool_calls") is not False or (choice is not None and choice["type"] == "none"):
        return choice
    return (choice or {"type": "auto"}) | {"disable_parallel_tool_use": True}


def _tool(tool: object, where: str, model: Model, dropped: set[str]) -> Tool:
    if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
        raise Refusal("invalid_request", "A tool must be an object with a `type`.", param=where)
    if tool.get("type") != "function":
        raise Refusal("capability_missing", "Anthropic takes only function tools from other dialects.", param=where)
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not name:
        raise Refusal("invalid_request", "A tool must name its function.", param=f"{where}.function.name")
    schema = _schema(function.get("parameters"), f"{where}.function.parameters")
    made: Tool = {"name": name, "input_schema": schema}
    if (description := function.get("description")) is not None:
        if not isinstance(description, str):
            raise Refusal("invalid_request", "A description must be a text.", param=f"{where}.function.description")
        made["description"] = description
    if function.get("strict") is True:
        strict = closed(schema) if model.formats else None
        if strict is None:
            dropped.add("strict")
        else:
            made |= {"strict": True, "input_schema": strict}
    return made | cache_mark(tool, where)


def _schema(parameters: object, where: str) -> dict[str, Any]:
    if parameters is None:
        return {"type": "object", "properties": {}}
    if not isinstance(parameters, dict):
        raise Refusal("invalid_request", "A tool's `parameters` must be a JSON schema.", param=where)
    return parameters if "type" in parameters else {"type": "object"} | parameters


def _choice(choice: object) -> tuple[dict[str, Any] | None, set[str] | None]:
    """The choice, and the names it allows if it names several."""
    if choice is None:
        return None, None
    if isinstance(choice, str) and choice in _CHOICES:
        return {"type": _CHOICES[choice]}, None
    if isinstance(choice, dict):
        function, several = choice.get("function"), choice.get("allowed_tools")
        if choice.get("type") == "function" and isinstance(function, dict) and isinstance(function.get("name"), str):
            return {"type": "tool", "name": function["name"]}, None
        if choice.get("type") == "allowed_tools" and isinstance(several, dict):
            mode = several.get("mode")
            return {"type": "any" if mode == "required" else "auto"}, _names(several.get("tools"))
        if choice.get("type") == "custom":
            raise Refusal("capability_missing", "Anthropic knows no custom tools with free text.", param="tool_choice")
    raise Refusal("invalid_request", "This `tool_choice` is not known.", param="tool_choice")


def _names(tools: object) -> set[str]:
    functions = [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    names = [function.get("name") for function in functions if isinstance(function, dict)]
    return {name for name in names if isinstance(name, str)}
