"""Tools and the choice between them, as Converse's ToolConfiguration.

Source: botocore's model of bedrock-runtime, shapes ToolConfiguration, Tool, ToolSpecification, ToolChoice.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from mitmgate.dialects.bedrock.contents import cache_point
from mitmgate.dialects.bedrock.models import Maker, Traits
from mitmgate.errors import Refusal

_OBJECT: Final = {"type": "object", "properties": {}}
_CHOICES: Final[Mapping[str, dict[str, Any]]] = {"auto": {"auto": {}}, "required": {"any": {}}}


class Choice(NamedTuple):
    """Which tool is to be called. `mode`: auto, required, none, or one by its name."""

    mode: str = "auto"
    name: str | None = None
    allowed: frozenset[str] | None = None   # only these of the tools

    @property
    def forced(self) -> bool:
        """Whether some tool must be called."""
        return self.mode == "required" or self.name is not None


def choice_of(document: Mapping[str, Any]) -> Choice:
    """`tool_choice`. Raises Refusal."""
    choice = document.get("tool_choice")
    if choice is None:
        return Choice()
    if isinstance(choice, str) and choice in ("auto", "required", "none"):
        return Choice(choice)
    if isinstance(choice, dict) and choice.get("type") == "function":
        return Choice("named", _name(choice, "tool_choice"))
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        return _allowed(choice.get("allowed_tools"))
    raise Refusal("invalid_request", "`tool_choice` must be auto, required, none or name a function.", param="tool_choice")


def _allowed(rule: object) -> Choice:
    tools = rule.get("tools") if isinstance(rule, dict) else None
    if not isinstance(rule, dict) or not isinstance(tools, list) or rule.get("mode") not in ("auto", "required"):
        raise Refusal("invalid_request", "`allowed_tools` must have a `mode` and `tools`.", param="tool_choice")
    return Choice(rule["mode"], None, frozenset(_name(tool, "tool_choice") for tool in tools))


class Toolbox(NamedTuple):
    """The tool configuration, if there is to be one, and what could not be told."""

    config: dict[str, Any] | None
    dropped: tuple[str, ...] = ()


def toolbox_of(document: Mapping[str, Any], choice: Choice, used: Collection[str], model: Traits) -> Toolbox:
    """`used`: tools that the messages call. Converse refuses such messages without a tool configuration, so tools stay even
    where none may be called, and those that are not described any more are described by their names. Raises Refusal."""
    tools = document.get("tools")
    if tools is None:
        tools = []
    if not isinstance(tools, list):
        raise Refusal("invalid_request", "`tools` must be an array.", param="tools")
    told: list[dict[str, Any]] = []
    dropped = False
    if choice.mode != "none" or used:
        told, dropped = _specifications(tools, choice.allowed, model)
    if not told and used:
        told = [{"toolSpec": {"name": name, "inputSchema": {"json": _OBJECT}}} for name in used]
    if not told:
        return Toolbox(None)
    config: dict[str, Any] = {"tools": told}
    if document.get("tool_choice") is not None and choice.mode != "none":
        config["toolChoice"] = {"tool": {"name": choice.name}} if choice.name else _CHOICES[choice.mode]
    lost = ("tool_choice",) if choice.mode == "none" else ()
    return Toolbox(config, ("cache_control", *lost) if dropped else lost)


def _specifications(
    tools: Sequence[object], allowed: frozenset[str] | None, model: Traits
) -> tuple[list[dict[str, Any]], bool]:
    """The tools that may be called, and whether a cache point had to be left out."""
    told: list[dict[str, Any]] = []
    dropped = False
    for index, tool in enumerate(tools):
        specification = _specification(tool, f"tools[{index}]")
        if allowed is not None and specification["name"] not in allowed:
            continue
        told.append({"toolSpec": specification})
        wanted = tool.get("cache_control") if isinstance(tool, dict) else None
        if wanted is not None and model.maker is Maker.ANTHROPIC:
            told.append(cache_point(wanted))
        dropped = dropped or (wanted is not None and model.maker is not Maker.ANTHROPIC)
    return told, dropped


def _specification(tool: object, param: str) -> dict[str, Any]:
    if isinstance(tool, dict) and tool.get("type", "function") != "function":
        raise Refusal("capability_missing", "Bedrock can be given functions only as tools.", param=param)
    specification: dict[str, Any] = {"name": _name(tool, param)}
    function = tool["function"] if isinstance(tool, dict) else {}
    description, schema = function.get("description"), function.get("parameters")
    if isinstance(description, str) and description:
        specification["description"] = description
    if schema is not None and not isinstance(schema, dict):
        raise Refusal("invalid_request", "A function's `parameters` must be an object.", param=f"{param}.function.parameters")
    if schema:
        specification["inputSchema"] = {"json": schema if "type" in schema else {"type": "object"} | schema}
    else:
        specification["inputSchema"] = {"json": _OBJECT}
    if function.get("strict") is True:
        specification["strict"] = True
    return specification


def _name(holder: object, param: str) -> str:
    function = holder.get("function") if isinstance(holder, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise Refusal("invalid_request", "A tool must have a `function` with a `name`.", param=param)
    return name
