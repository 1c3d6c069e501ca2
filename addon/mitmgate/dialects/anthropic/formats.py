"""`response_format`: a grammar where the model has one, else a tool that it must call.

Sources: platform.claude.com, "Structured outputs" and "Tool use" (forcing a tool to get JSON). The tool's input is the answer:
`json_tool` tells the reply and the stream which tool that is, from the request alone.
"""

from enum import Enum
from typing import Any, Final, NamedTuple

from mitmgate.dialects.anthropic.models import Model, model_of
from mitmgate.dialects.anthropic.schema import closed
from mitmgate.dialects.codec import Ask, Document
from mitmgate.errors import Refusal

_NAME: Final = "json_response"


class Means(Enum):
    """How the model is held to a format."""

    GRAMMAR = "grammar"
    TOOL = "tool"
    NONE = "none"                           # neither: the model has no grammar for it and cannot be forced


class Format(NamedTuple):
    """What the answer must look like, and how the model is held to it."""

    means: Means
    schema: dict[str, Any]                  # as it goes to the provider
    name: str = _NAME                       # of the tool
    description: str | None = None

    @property
    def tool(self) -> dict[str, Any]:
        """The tool whose input is the answer."""
        described = {} if self.description is None else {"description": self.description}
        return {"name": self.name, "input_schema": self.schema} | described


def format_of(ask: Ask) -> Format | None:
    """What `response_format` asks for; None for text. Raises Refusal."""
    wanted = ask.document.get("response_format")
    if wanted is None:
        return None
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return _by_tool(ask, {"type": "object"}, None)
    if kind != "json_schema":
        raise Refusal("invalid_request", "This `type` of a response format is not known.", param="response_format.type")
    described = wanted.get("json_schema")
    schema = described.get("schema", {}) if isinstance(described, dict) else None
    if not isinstance(described, dict) or not isinstance(schema, dict):
        raise Refusal("invalid_request", "`json_schema` must have a `schema`.", param="response_format.json_schema")
    return _held(ask, described, schema)


def json_tool(ask: Ask) -> str | None:
    """The name of the tool whose input is the answer's content, if the request had one."""
    try:
        wanted = format_of(ask)
    except Refusal:
        return None
    return wanted.name if wanted is not None and wanted.means is Means.TOOL and not forces(ask.document) else None


def forces(document: Document) -> bool:
    """Whether the client itself demands that one of its tools is called."""
    choice = document.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools")
        return isinstance(allowed, dict) and allowed.get("mode") == "required"
    return choice == "required" or isinstance(choice, dict)


def _held(ask: Ask, described: Document, schema: dict[str, Any]) -> Format:
    description = described.get("description")
    said = closed(schema) if schema and _model(ask).formats else None
    if said is not None:
        return Format(Means.GRAMMAR, said)
    schema = schema if schema.get("type") == "object" else {"type": "object"} | schema
    return _by_tool(ask, schema, description if isinstance(description, str) else None)


def _by_tool(ask: Ask, schema: dict[str, Any], description: str | None) -> Format:
    return Format(Means.TOOL if _model(ask).forced else Means.NONE, schema, _name(ask.document), description)


def _model(ask: Ask) -> Model:
    return model_of(ask.base_model or ask.model)


def _name(document: Document) -> str:
    """A tool's name that is none of the client's."""
    tools = document.get("tools")
    functions = [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    taken = [function.get("name") for function in functions if isinstance(function, dict)]
    name = _NAME
    while name in taken:
        name += "_"
    return name
