"""A Gemini client's GenerateContentRequest as a canonical request (google-genai `types.py`; Gemini API reference).

What only Google understands (safetySettings, cachedContent, labels, speechConfig, …) stays in `extra_body.google`, where
Google's own OpenAI-compatible API has such things: another provider's codec drops it by that name. What would change who
answers or with what (Google's server-side tools) is refused.
"""

from collections.abc import Mapping
from typing import Any, Final

from mitmgate.dialects.codec import Asked, Document
from mitmgate.dialects.gemini.client_contents import Conversation
from mitmgate.dialects.gemini.schema import json_schema
from mitmgate.dialects.gemini.words import worded
from mitmgate.errors import Refusal

_READ: Final = frozenset({"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "serviceTier", "model"})
_CONFIG: Final[Mapping[str, str]] = {
    "temperature": "temperature", "topP": "top_p", "topK": "top_k", "maxOutputTokens": "max_completion_tokens",
    "stopSequences": "stop", "candidateCount": "n", "seed": "seed", "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty", "responseLogprobs": "logprobs", "logprobs": "top_logprobs",
}  # fmt: skip
_FORMS: Final = frozenset({"responseMimeType", "responseSchema", "responseJsonSchema", "thinkingConfig", "responseModalities"})
_TIERS: Final[Mapping[str, str]] = {"standard": "default", "flex": "flex", "priority": "priority"}
_MODES: Final[Mapping[str, str]] = {"AUTO": "auto", "NONE": "none", "ANY": "required", "VALIDATED": "auto"}
_LEVELS: Final = frozenset({"minimal", "low", "medium", "high", "xhigh"})


def canonical_request(asked: Asked) -> dict[str, Any]:
    """The canonical request. Raises Refusal."""
    document = worded(asked.document)
    said: dict[str, Any] = {"model": asked.model, "stream": asked.stream, "messages": _messages(document, asked)}
    extra = {name: value for name, value in document.items() if name not in _READ and value is not None}
    if rest := _add_config(said, _object(document, "generationConfig")):
        extra["generationConfig"] = rest
    if tools := document.get("tools"):
        said["tools"] = _tools(tools)
    _add_choice(said, _object(document, "toolConfig"))
    _add_tier(said, document.get("serviceTier"))
    if extra:
        said["extra_body"] = {"google": extra}
    return said


def _object(document: Document, name: str) -> Mapping[str, Any]:
    found = document.get(name)
    if not (found is None or isinstance(found, dict)):
        raise Refusal("invalid_request", f"`{name}` must be an object.", param=name)
    return worded(found or {})


def _messages(document: Document, asked: Asked) -> list[dict[str, Any]]:
    contents = document.get("contents")
    if isinstance(contents, dict):  # as in Google's own samples
        contents = [contents]
    if not isinstance(contents, list) or not contents:
        raise Refusal("invalid_request", "`contents` must be a non-empty array.", param="contents")
    conversation = Conversation(asked.id)
    if (instruction := document.get("systemInstruction")) is not None:
        conversation.instruct(instruction)
    for index, content in enumerate(contents):
        conversation.add(content, f"contents[{index}]")
    return conversation.messages


def _add_config(said: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The members of generationConfig under their canonical names; returns the rest."""
    rest: dict[str, Any] = {}
    for name, value in config.items():
        if value is None or name in _FORMS:
            continue
        if name in _CONFIG:
            said[_CONFIG[name]] = value
        else:
            rest[name] = value
    _add_response_format(said, config)
    if (modalities := config.get("responseModalities")) is not None:
        if not isinstance(modalities, list) or not all(isinstance(each, str) for each in modalities):
            raise Refusal("invalid_request", "`responseModalities` must be words.", param="generationConfig.responseModalities")
        said["modalities"] = [each.lower() for each in modalities]
    if (thinking := config.get("thinkingConfig")) is not None:
        _add_thinking(said, thinking)
    return rest


def _add_response_format(said: dict[str, Any], config: Mapping[str, Any]) -> None:
    schema = config.get("responseJsonSchema")
    if schema is None and (schema := config.get("responseSchema")) is not None:
        schema = json_schema(schema, "generationConfig.responseSchema")
    media = config.get("responseMimeType")
    if media not in (None, "", "text/plain", "application/json"):
        raise Refusal(
            "invalid_request", "`responseMimeType` must be text/plain or application/json.",
            param="generationConfig.responseMimeType",
        )  # fmt: skip
    if schema is not None:
        said["response_format"] = {"type": "json_schema", "json_schema": {"name": "response", "schema": schema}}
    elif media == "application/json":
        said["response_format"] = {"type": "json_object"}


def _add_thinking(said: dict[str, Any], thinking: object) -> None:
    """thinkingConfig: a level is an effort, a budget is exact (0 is off, -1 is as the model likes)."""
    param = "generationConfig.thinkingConfig"
    if not isinstance(thinking, dict):
        raise Refusal("invalid_request", "`thinkingConfig` must be an object.", param=param)
    config = worded(thinking)
    level, budget = config.get("thinkingLevel"), config.get("thinkingBudget")
    if level is not None and level != "THINKING_LEVEL_UNSPECIFIED":
        if not isinstance(level, str) or level.lower() not in _LEVELS:
            raise Refusal("invalid_request", "`thinkingLevel` must be a known level.", param=param)
        said["reasoning_effort"] = level.lower()
    elif budget is not None:
        if not isinstance(budget, int) or isinstance(budget, bool) or budget < -1:
            raise Refusal("invalid_request", "`thinkingBudget` must be a number of tokens.", param=param)
        said["thinking"] = {"type": "enabled", "budget_tokens": budget} if budget > 0 else {"type": _BUDGETS[budget]}
    elif config.get("includeThoughts") is True:
        said["thinking"] = {"type": "adaptive"}


_BUDGETS: Final[Mapping[int, str]] = {0: "disabled", -1: "adaptive"}


def _tools(tools: object) -> list[dict[str, Any]]:
    """All functions of all tools. Raises Refusal."""
    listed = [tools] if isinstance(tools, dict) else tools
    if not isinstance(listed, list):
        raise Refusal("invalid_request", "`tools` must be a list.", param="tools")
    found: list[dict[str, Any]] = []
    for index, tool in enumerate(listed):
        param = f"tools[{index}]"
        kinds = {name: value for name, value in worded(tool).items() if value is not None} if isinstance(tool, dict) else {}
        functions = kinds.get("functionDeclarations")
        if kinds.keys() != {"functionDeclarations"} or not isinstance(functions, list):
            raise Refusal("invalid_request", "A tool must be `functionDeclarations`; others run at Google alone.", param=param)
        found += [_declared(each, f"{param}.functionDeclarations[{at}]") for at, each in enumerate(functions)]
    return found


def _declared(declaration: object, param: str) -> dict[str, Any]:
    found = worded(declaration) if isinstance(declaration, dict) else {}
    name, description = found.get("name"), found.get("description")
    if not isinstance(name, str) or not name or not (description is None or isinstance(description, str)):
        raise Refusal("invalid_request", "A function must have a `name`.", param=param)
    function: dict[str, Any] = {"name": name}
    if description is not None:
        function["description"] = description
    if (schema := found.get("parametersJsonSchema")) is not None:
        function["parameters"] = schema
    elif (schema := found.get("parameters")) is not None:
        function["parameters"] = json_schema(schema, f"{param}.parameters")
    if not isinstance(function.get("parameters", {}), dict):
        raise Refusal("invalid_request", "A function's parameters must be a schema.", param=param)
    beside = {each: found[each] for each in ("response", "responseJsonSchema", "behavior") if found.get(each) is not None}
    tool: dict[str, Any] = {"type": "function", "function": function}
    return {**tool, "extra_content": {"google": beside}} if beside else tool


def _add_choice(said: dict[str, Any], config: Mapping[str, Any]) -> None:
    """toolConfig.functionCallingConfig. Raises Refusal."""
    calling = _object(config, "functionCallingConfig")
    mode, names = calling.get("mode"), calling.get("allowedFunctionNames")
    if mode in (None, "", "MODE_UNSPECIFIED"):
        return
    if not isinstance(mode, str) or mode.upper() not in _MODES:
        raise Refusal("invalid_request", "`mode` must be AUTO, ANY, NONE or VALIDATED.", param="toolConfig")
    if not (names is None or (isinstance(names, list) and all(isinstance(each, str) for each in names))):
        raise Refusal("invalid_request", "`allowedFunctionNames` must be names.", param="toolConfig")
    choice = _MODES[mode.upper()]
    named = [{"type": "function", "function": {"name": each}} for each in names or ()]
    if not named or mode.upper() in ("AUTO", "NONE"):
        said["tool_choice"] = choice
    elif len(named) == 1 and choice == "required":
        said["tool_choice"] = named[0]
    else:
        said["tool_choice"] = {"type": "allowed_tools", "allowed_tools": {"mode": choice, "tools": named}}


def _add_tier(said: dict[str, Any], tier: object) -> None:
    if tier is None:
        return
    if not isinstance(tier, str):
        raise Refusal("invalid_request", "`serviceTier` must be a word.", param="serviceTier")
    if (word := _TIERS.get(tier.lower())) is not None:
        said["service_tier"] = word
