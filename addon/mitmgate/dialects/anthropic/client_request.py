"""A client's POST /v1/messages as a canonical request.

Source: anthropic.types.MessageCreateParams, ToolUnionParam, ToolChoiceParam. Tools that Anthropic itself defines or runs, MCP
servers and containers are refused; `speed`, `inference_geo`, `diagnostics` and a tool's hints are left out, for they change
nothing of what is answered.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from mitmgate.dialects.anthropic.client_messages import messages_of
from mitmgate.dialects.anthropic.words import cache_mark
from mitmgate.dialects.codec import Asked, Document
from mitmgate.errors import Refusal

_CHOICES: Final[Mapping[str, str]] = MappingProxyType({"auto": "auto", "any": "required", "none": "none"})
_TIERS: Final[Mapping[str, str]] = MappingProxyType({"auto": "auto", "standard_only": "default"})
_SAME: Final = ("temperature", "top_p", "top_k", "thinking")
_REFUSED: Final = ("container", "mcp_servers")


def request(asked: Asked) -> dict[str, Any]:
    """The canonical request. Raises Refusal."""
    document = asked.document
    for name in _REFUSED:
        if document.get(name):
            raise Refusal("invalid_request", f"`{name}` cannot be said to other models.", param=name)
    made: dict[str, Any] = {"model": asked.model, "messages": messages_of(document), "max_tokens": _max_tokens(document)}
    made["stream"] = asked.stream
    made |= {name: document[name] for name in _SAME if document.get(name) is not None}
    made |= _tools(document) | _tool_choice(document) | _output(document) | _rest(document)
    return made


def _max_tokens(document: Document) -> int:
    limit = document.get("max_tokens")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise Refusal("invalid_request", "`max_tokens` must be a positive integer.", param="max_tokens")
    return limit


def _tools(document: Document) -> dict[str, Any]:
    tools = document.get("tools")
    if tools is None or tools == []:
        return {}
    if not isinstance(tools, list):
        raise Refusal("invalid_request", "`tools` must be a list.", param="tools")
    return {"tools": [_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)]}


def _tool(tool: object, where: str) -> dict[str, Any]:
    name = tool.get("name") if isinstance(tool, dict) else None
    if not isinstance(tool, dict) or not isinstance(name, str) or not name:
        raise Refusal("invalid_request", "A tool must have a `name`.", param=f"{where}.name")
    if tool.get("type") not in (None, "custom"):
        raise Refusal("invalid_request", "A tool that Anthropic defines cannot be said to other models.", param=where)
    schema = tool.get("input_schema")
    if not isinstance(schema, dict):
        raise Refusal("invalid_request", "`input_schema` must be a JSON schema.", param=f"{where}.input_schema")
    function: dict[str, Any] = {"name": name, "parameters": schema}
    function |= {key: tool[key] for key in ("description", "strict") if tool.get(key) is not None}
    return {"type": "function", "function": function} | cache_mark(tool, where)


def _tool_choice(document: Document) -> dict[str, Any]:
    choice = document.get("tool_choice")
    if choice is None:
        return {}
    kind = choice.get("type") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(kind, str) or (kind not in _CHOICES and kind != "tool"):
        raise Refusal("invalid_request", "`tool_choice` must have a known `type`.", param="tool_choice.type")
    made: dict[str, Any] = {"tool_choice": _CHOICES.get(kind)}
    if kind == "tool":
        name = choice.get("name")
        if not isinstance(name, str):
            raise Refusal("invalid_request", "`tool_choice` must name its tool.", param="tool_choice.name")
        made["tool_choice"] = {"type": "function", "function": {"name": name}}
    if choice.get("disable_parallel_tool_use") is True:
        made["parallel_tool_calls"] = False
    return made


def _output(document: Document) -> dict[str, Any]:
    """`output_config`, and `output_format` as it was called before."""
    config = document.get("output_config")
    if config is not None and not isinstance(config, dict):
        raise Refusal("invalid_request", "`output_config` must be an object.", param="output_config")
    config = config or {}
    made: dict[str, Any] = {}
    if config.get("effort") is not None:
        made["reasoning_effort"] = config["effort"]
    where = "output_config.format" if config.get("format") is not None else "output_format"
    wanted = config.get("format") or document.get("output_format")
    if wanted is not None:
        schema = wanted.get("schema") if isinstance(wanted, dict) and wanted.get("type") == "json_schema" else None
        if not isinstance(schema, dict):
            raise Refusal("invalid_request", "A format must be a JSON schema.", param=where)
        described = {"name": "response", "schema": schema, "strict": True}
        made["response_format"] = {"type": "json_schema", "json_schema": described}
    return made


def _rest(document: Document) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if document.get("stop_sequences"):
        made["stop"] = document["stop_sequences"]
    metadata = document.get("metadata")
    if isinstance(metadata, dict) and metadata.get("user_id") is not None:
        made["user"] = metadata["user_id"]
    tier = document.get("service_tier")
    if isinstance(tier, str) and tier in _TIERS:
        made["service_tier"] = _TIERS[tier]
    return made
