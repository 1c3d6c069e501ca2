"""A canonical request as a GenerateContentRequest (Gemini API reference, `models.generateContent`; google-genai `types.py`)."""

from collections.abc import Mapping
from typing import Any, Final

from mitmgate.dialects.canonical import output_limit_of, stops_of
from mitmgate.dialects.codec import Ask, Document, Sent
from mitmgate.dialects.gemini.contents import Turns
from mitmgate.dialects.gemini.thinking import thinking_of
from mitmgate.dialects.gemini.words import bare, camel, generation, google_of, method_path
from mitmgate.errors import Refusal

_MOST_STOPS: Final = 5                      # GenerationConfig.stopSequences, API reference
_NUMBERS: Final = (
    ("temperature", "temperature"), ("top_p", "topP"), ("top_k", "topK"), ("presence_penalty", "presencePenalty"),
    ("frequency_penalty", "frequencyPenalty"),
)  # fmt: skip
_WHOLE: Final = (("n", "candidateCount"), ("top_logprobs", "logprobs"), ("seed", "seed"))
_TIERS: Final[Mapping[str, str | None]] = {"auto": None, "default": "standard", "flex": "flex", "priority": "priority"}
_MODES: Final[Mapping[str, str]] = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
_TOLD: Final = frozenset(
    {
        "model", "messages", "stream", "stream_options", "tools", "tool_choice", "max_tokens", "max_completion_tokens",
        "stop", "logprobs", "response_format", "reasoning_effort", "thinking", "modalities", "service_tier", "extra_body",
        *(name for name, _ in _NUMBERS), *(name for name, _ in _WHOLE),
    }
)  # fmt: skip

# What a client may say under `extra_body.google`: nothing that holds a prompt, tools or a limit, which others have read by now.
_EXTRA: Final = frozenset({"safetySettings", "cachedContent", "labels", "store"})
_EXTRA_CONFIG: Final = frozenset(
    {
        "speechConfig", "mediaResolution", "imageConfig", "audioTimestamp", "enableEnhancedCivicAnswers",
        "enableAffectiveDialog", "routingConfig", "audioTranscriptionConfig", "translationConfig", "thinkingConfig",
    }
)  # fmt: skip


def generate_request(ask: Ask) -> Sent:
    """The request to generateContent or streamGenerateContent. Raises Refusal."""
    document = ask.document
    since = generation(bare(ask.base_model or ask.model))
    turns = Turns(signatures=since is not None and since >= 3)
    turns.read(document)
    said: dict[str, Any] = {"contents": turns.contents}
    if turns.system:
        said["systemInstruction"] = {"parts": turns.system}
    _add_tools(said, document, turns.dropped)
    dropped: dict[str, None] = {}
    thinking = thinking_of(ask)
    config = _config(document, dropped)
    if thinking.config:
        config["thinkingConfig"] = thinking.config
    _add_tier(said, document, dropped)
    _add_extra(said, config, document, dropped)
    if config:
        said["generationConfig"] = config
    dropped.update(dict.fromkeys(thinking.dropped))
    method = "streamGenerateContent?alt=sse" if ask.stream else "generateContent"
    unsaid = _in_order(document, dropped) + tuple(turns.dropped)
    return Sent(method_path(ask.model, method), said, dropped=unsaid, effort=thinking.effort)


def _in_order(document: Document, dropped: Mapping[str, None]) -> tuple[str, ...]:
    """The members that were not told, as they stand in the request."""
    return tuple(name for name, value in document.items() if name in dropped or _unsaid(name, value))


def _unsaid(name: str, value: object) -> bool:
    """Whether a member that nobody reads would have said something."""
    if name == "parallel_tool_calls":
        return value is False               # true is what Gemini does
    return value is not None and name not in _TOLD


def _config(document: Document, dropped: dict[str, None]) -> dict[str, Any]:
    """generationConfig, but for thinking. Raises Refusal."""
    config: dict[str, Any] = {}
    for name, said in _NUMBERS:
        if (value := document.get(name)) is not None:
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                raise Refusal("invalid_request", f"`{name}` must be a number.", param=name)
            config[said] = value
    for name, said in _WHOLE:
        if (value := document.get(name)) is not None:
            if not isinstance(value, int) or isinstance(value, bool) or (value < 0 and name != "seed"):
                raise Refusal("invalid_request", f"`{name}` must be a whole number.", param=name)
            config[said] = value
    if not -(1 << 31) <= config.get("seed", 0) < 1 << 31:  # an int32 there
        dropped["seed"] = None
        del config["seed"]
    if (limit := output_limit_of(document)) is not None:
        config["maxOutputTokens"] = limit
    if stops := stops_of(document):
        if len(stops) > _MOST_STOPS:
            raise Refusal("invalid_request", f"Gemini knows at most {_MOST_STOPS} stop sequences.", param="stop")
        config["stopSequences"] = list(stops)
    _add_forms(config, document)
    return config


def _add_forms(config: dict[str, Any], document: Document) -> None:
    """In which form the answer is to come."""
    if (logprobs := document.get("logprobs")) is not None:
        if not isinstance(logprobs, bool):
            raise Refusal("invalid_request", "`logprobs` must be true or false.", param="logprobs")
        config["responseLogprobs"] = logprobs
    if (modalities := document.get("modalities")) is not None:
        if not isinstance(modalities, list) or not all(isinstance(each, str) for each in modalities):
            raise Refusal("invalid_request", "`modalities` must be a list of words.", param="modalities")
        config["responseModalities"] = [each.upper() for each in modalities]
    if (form := document.get("response_format")) is not None:
        _add_response_format(config, form)


def _add_response_format(config: dict[str, Any], form: object) -> None:
    kind = form.get("type") if isinstance(form, dict) else None
    if not isinstance(form, dict) or kind not in ("text", "json_object", "json_schema"):
        raise Refusal("invalid_request", "`response_format` must have a known `type`.", param="response_format")
    if kind == "text":
        return
    config["responseMimeType"] = "application/json"
    if kind == "json_object":
        return
    named = form.get("json_schema")
    schema = named.get("schema") if isinstance(named, dict) else None
    if not isinstance(named, dict) or not (schema is None or isinstance(schema, dict)):
        raise Refusal("invalid_request", "`json_schema` must hold a `schema`.", param="response_format.json_schema")
    if schema is not None:
        config["responseJsonSchema"] = schema


def _add_tools(said: dict[str, Any], document: Document, dropped: dict[str, None]) -> None:
    """tools and toolConfig. Raises Refusal."""
    for name in ("functions", "function_call"):
        if document.get(name) is not None:
            raise Refusal("capability_missing", "Gemini is told functions as `tools`.", param=name)
    tools = document.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise Refusal("invalid_request", "`tools` must be a list.", param="tools")
    if tools:
        said["tools"] = [{"functionDeclarations": [_declared(tool, f"tools[{at}]", dropped) for at, tool in enumerate(tools)]}]
    if (choice := document.get("tool_choice")) is not None:
        config = _calling_config(choice)
        if tools:
            said["toolConfig"] = {"functionCallingConfig": config}
        elif config["mode"] == "ANY":
            raise Refusal("invalid_request", "`tool_choice` asks for a tool, and there is none.", param="tool_choice")


def _declared(tool: object, param: str, dropped: dict[str, None]) -> dict[str, Any]:
    """A FunctionDeclaration; its parameters are a JSON schema as it came."""
    if not isinstance(tool, dict):
        raise Refusal("invalid_request", "A tool must be an object.", param=param)
    if tool.get("type") != "function":
        raise Refusal("capability_missing", "Gemini is told functions alone as tools.", param=param)
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(name := function.get("name"), str) or not name:
        raise Refusal("invalid_request", "A function must have a `name`.", param=param)
    declared: dict[str, Any] = {"name": name}
    description, parameters = function.get("description"), function.get("parameters")
    if description is not None:
        if not isinstance(description, str):
            raise Refusal("invalid_request", "A function's `description` must be a text.", param=param)
        declared["description"] = description
    if parameters is not None:
        if not isinstance(parameters, dict):
            raise Refusal("invalid_request", "A function's `parameters` must be a JSON schema.", param=param)
        declared["parametersJsonSchema"] = parameters
    if "extra_content" in tool:
        google = google_of(tool)
        declared.update((name, google[name]) for name in ("response", "responseJsonSchema", "behavior") if name in google)
    if function.get("strict") is True:
        dropped["strict"] = None
    if "cache_control" in tool:
        dropped["cache_control"] = None
    return declared


def _calling_config(choice: object) -> dict[str, Any]:
    """A FunctionCallingConfig. Raises Refusal."""
    if isinstance(choice, str) and choice in _MODES:
        return {"mode": _MODES[choice]}
    if isinstance(choice, dict):
        if choice.get("type") == "function" and (name := _name_of(choice)) is not None:
            return {"mode": "ANY", "allowedFunctionNames": [name]}
        allowed = choice.get("allowed_tools")
        if choice.get("type") == "allowed_tools" and isinstance(allowed, dict):
            tools = allowed.get("tools")
            names = [_name_of(each) for each in tools] if isinstance(tools, list) else []
            mode = {"auto": "VALIDATED", "required": "ANY"}.get(str(allowed.get("mode")))
            if names and mode is not None and None not in names:
                return {"mode": mode, "allowedFunctionNames": names}
    raise Refusal("invalid_request", "`tool_choice` must be auto, none, required, or name functions.", param="tool_choice")


def _name_of(tool: object) -> str | None:
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def _add_tier(said: dict[str, Any], document: Document, dropped: dict[str, None]) -> None:
    if (tier := document.get("service_tier")) is None:
        return
    if not isinstance(tier, str) or tier not in _TIERS:
        dropped["service_tier"] = None
    elif (word := _TIERS[tier]) is not None:
        said["serviceTier"] = word


def _add_extra(said: dict[str, Any], config: dict[str, Any], document: Document, dropped: dict[str, None]) -> None:
    """What a client says to Google alone, as Google's OpenAI-compatible API has it: `extra_body: {google: {…}}`."""
    if (extra := document.get("extra_body")) is None:
        return
    google = extra.get("google") if isinstance(extra, dict) else None
    if not isinstance(google, dict) or len(extra) > 1:
        dropped["extra_body"] = None
    for name, value in google.items() if isinstance(google, dict) else ():
        member = camel(name)
        if member == "generationConfig" and isinstance(value, dict):
            for each, setting in value.items():
                _extra_setting(config, camel(each), setting, dropped)
        elif member in _EXTRA:
            said[member] = value
        else:
            _extra_setting(config, member, value, dropped)


def _extra_setting(config: dict[str, Any], name: str, value: object, dropped: dict[str, None]) -> None:
    if name in _EXTRA_CONFIG:
        config[name] = value
    else:
        dropped["extra_body"] = None
