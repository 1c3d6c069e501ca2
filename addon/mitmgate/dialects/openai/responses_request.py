"""A Responses request as a chat completion's.

What is kept at the provider (earlier responses, conversations, prompts) or runs there (hosted tools, work in the background) is
refused: it cannot be had elsewhere. What only says how the reply should look or be kept is taken and answered by what is so:

    store               nothing is stored, whatever it says; the reply says `store: false`
    truncation: auto    is not done: an input that is too long is the provider's error; the reply says `disabled`
    include             encrypted reasoning is always given where there is some; log probabilities are asked for;
                        the rest is of hosted tools' items, of which there are none
    reasoning.summary   the provider's reasoning text is given as the summary, of whatever length; `context` is the input's
    max_tool_calls      counts calls of hosted tools, of which there are none
    stream_options      `include_obfuscation` is a padding that we do not write
    tools[].strict      as it came: where it is absent, chat completions are not strict; so are `defer_loading`
                        (the function is given at once) and `output_schema` left out

A member that the API does not have is carried to the provider as it came, as vendors have their own.
Source: openai.types.responses.ResponseCreateParams, openai.types.chat.CompletionCreateParams.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, NoReturn

from mitmgate.dialects.canonical import EFFORTS
from mitmgate.dialects.codec import Asked, Document
from mitmgate.dialects.openai.responses_items import messages_of
from mitmgate.errors import Refusal


class _Sort(NamedTuple):
    """What a value must be."""

    holds: Callable[[object], bool]
    words: str


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _one_of(*words: str) -> _Sort:
    return _Sort(lambda value: isinstance(value, str) and value in words, "one of " + ", ".join(f"`{word}`" for word in words))


_NUMBER: Final = _Sort(lambda value: isinstance(value, int | float) and not isinstance(value, bool), "a number")
_COUNT: Final = _Sort(_is_count, "an integer that is not negative")
_LIMIT: Final = _Sort(lambda value: _is_count(value) and value != 0, "a positive integer")
_FLAG: Final = _Sort(lambda value: isinstance(value, bool), "true or false")
_TEXT: Final = _Sort(lambda value: isinstance(value, str), "a text")
_TEXTS: Final = _Sort(_is_texts, "an object of texts")
_OBJECT: Final = _Sort(lambda value: isinstance(value, dict), "an object")
_ARRAY: Final = _Sort(lambda value: isinstance(value, list), "an array")

_SORTS: Final[Mapping[str, _Sort]] = {
    "background": _FLAG,
    "include": _ARRAY,
    "instructions": _TEXT,
    "max_output_tokens": _LIMIT,
    "max_tool_calls": _LIMIT,
    "metadata": _TEXTS,
    "parallel_tool_calls": _FLAG,
    "prompt_cache_key": _TEXT,
    "prompt_cache_retention": _TEXT,
    "reasoning": _OBJECT,
    "safety_identifier": _TEXT,
    "service_tier": _TEXT,
    "store": _FLAG,
    "stream_options": _OBJECT,
    "temperature": _NUMBER,
    "text": _OBJECT,
    "tools": _ARRAY,
    "top_logprobs": _COUNT,
    "top_p": _NUMBER,
    "truncation": _one_of("auto", "disabled"),
    "user": _TEXT,
}
_READ: Final = frozenset({"input", "model", "stream", "tool_choice"})
"""Looked at where they are used."""

_SAME: Final[Mapping[str, str]] = {
    "max_output_tokens": "max_completion_tokens", "metadata": "metadata", "parallel_tool_calls": "parallel_tool_calls",
    "prompt_cache_key": "prompt_cache_key", "prompt_cache_retention": "prompt_cache_retention",
    "safety_identifier": "safety_identifier", "service_tier": "service_tier", "temperature": "temperature", "top_p": "top_p",
    "user": "user",
}  # fmt: skip
"""What chat completions have too, and their name for it."""

_ELSEWHERE: Final[Mapping[str, str]] = {
    "previous_response_id": "Earlier responses are stored where they were made: send the whole `input`.",
    "conversation": "Conversations are stored at OpenAI: send the whole `input`.",
    "prompt": "Prompt templates are stored at OpenAI.",
    "access_programs": "Access programs are OpenAI's own.",
    "background_options": "Responses are not made in the background here.",
    "context_management": "The input is not compacted here.",
    "image": "Images are passed as they come.",
    "moderation": "No other provider reports on moderation.",
}
_MOVED: Final[Mapping[str, str]] = {
    "audio": "",
    "function_call": "tool_choice",
    "functions": "tools",
    "logprobs": "include",
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "messages": "input",
    "modalities": "",
    "n": "",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
    "web_search_options": "",
}
"""Parameters of chat completions that would get in the way of ours, and what they are called in Responses."""

_INCLUDABLE: Final = frozenset(
    {
        "code_interpreter_call.outputs", "computer_call_output.output.image_url", "file_search_call.results",
        "message.input_image.image_url", "message.output_text.logprobs", "reasoning.encrypted_content",
        "web_search_call.action.sources", "web_search_call.results",
    }
)  # fmt: skip
_SUMMARY: Final = _one_of("auto", "concise", "detailed")
_EFFORT: Final = _one_of(*EFFORTS)
_VERBOSITY: Final = _one_of("low", "medium", "high")


def chat_of(asked: Asked) -> dict[str, Any]:
    """The canonical request. Raises Refusal."""
    document = asked.document
    chat = _plain(document)
    if document.get("background"):
        raise Refusal("capability_missing", "Responses are not made in the background here.", param="background")
    chat |= {"model": asked.model, "stream": asked.stream, "messages": _messages(document)}
    if asked.stream:
        chat["stream_options"] = {"include_usage": True}
    if text := document.get("text"):
        chat |= _text(text)
    if reasoning := document.get("reasoning"):
        chat |= _reasoning(reasoning)
    return chat | _tools(document) | _logprobs(document)


def _plain(document: Document) -> dict[str, Any]:
    """What needs no more than a name, after a look at every member. Raises Refusal."""
    chat: dict[str, Any] = {}
    for name, value in document.items():
        if value is None:
            continue
        if (sort := _SORTS.get(name)) is not None:
            if not sort.holds(value):
                raise Refusal("invalid_request", f"`{name}` must be {sort.words}.", param=name)
            if name in _SAME:
                chat[_SAME[name]] = value
        elif name not in _READ:
            _refuse_elsewhere(name)
            chat[name] = value
    return chat


def _refuse_elsewhere(name: str) -> None:
    if name in _ELSEWHERE:
        raise Refusal("capability_missing", _ELSEWHERE[name], param=name)
    if name in _MOVED:
        instead = f" It is `{_MOVED[name]}`." if _MOVED[name] else ""
        raise Refusal("invalid_request", f"The Responses API has no `{name}`.{instead}", param=name)


def _checked(document: Document, name: str, sort: _Sort, within: str) -> Any:
    """A member's value; None if it is not there. Raises Refusal."""
    value = document.get(name)
    if value is not None and not sort.holds(value):
        raise Refusal("invalid_request", f"`{within}{name}` must be {sort.words}.", param=within + name)
    return value


def _messages(document: Document) -> list[dict[str, Any]]:
    given = document.get("input")
    if isinstance(given, str):
        messages: list[dict[str, Any]] = [{"role": "user", "content": given}]
    elif isinstance(given, list) and given:
        messages = messages_of(given)
    else:
        messages = []
    if not messages:
        raise Refusal("invalid_request", "`input` must be a text or an array of items that hold something.", param="input")
    if document.get("instructions"):
        messages.insert(0, {"role": "system", "content": document["instructions"]})
    return messages


def _tools(document: Document) -> dict[str, Any]:
    chat: dict[str, Any] = {}
    if tools := document.get("tools"):
        chat["tools"] = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)]
    if (choice := document.get("tool_choice")) is not None:
        chat["tool_choice"] = _choice(choice)
    return chat


_TOOLS_ELSEWHERE: Final = frozenset(
    {
        "apply_patch", "code_interpreter", "computer", "computer_use", "computer_use_preview", "custom", "file_search",
        "image_generation", "local_shell", "mcp", "namespace", "programmatic_tool_calling", "shell", "tool_search",
        "web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11",
    }
)  # fmt: skip
"""openai.types.responses.ToolParam and ToolChoice: run at OpenAI, or are of another kind than functions."""


def _tool(tool: object, param: str) -> dict[str, Any]:
    """A function, nested as chat completions have it."""
    if not isinstance(tool, dict):
        raise Refusal("invalid_request", "Each tool must be an object.", param=param)
    if (kind := tool.get("type")) != "function":
        _refuse_type(kind, f"{param}.type", param)
    if not isinstance(tool.get("name"), str) or not tool["name"]:
        raise Refusal("invalid_request", "A function needs its `name`.", param=f"{param}.name")
    callers = _checked(tool, "allowed_callers", _ARRAY, f"{param}.")
    if (callers is not None and "direct" not in callers) or tool.get("async"):
        raise Refusal("capability_missing", "Functions are called by the model itself, and waited for.", param=param)
    function = {"name": tool["name"]}
    for name, sort in (("description", _TEXT), ("parameters", _OBJECT), ("strict", _FLAG)):
        if (value := _checked(tool, name, sort, f"{param}.")) is not None:
            function[name] = value
    made: dict[str, Any] = {"type": "function", "function": function}
    return made if tool.get("cache_control") is None else {**made, "cache_control": tool["cache_control"]}


def _refuse_type(kind: object, param: str, missing: str) -> NoReturn:
    if isinstance(kind, str) and kind in _TOOLS_ELSEWHERE:
        raise Refusal("capability_missing", f"Tools of type `{kind}` are OpenAI's own; functions can be used.", param=missing)
    raise Refusal("invalid_request", "This is no type of tool.", param=param)


def _choice(choice: object) -> str | dict[str, Any]:
    if isinstance(choice, str) and choice in ("none", "auto", "required"):
        return choice
    if not isinstance(choice, dict):
        raise Refusal("invalid_request", "This is no form of `tool_choice`.", param="tool_choice")
    if choice.get("type") == "allowed_tools":
        return _allowed(choice)
    return _named(choice, "tool_choice")


def _allowed(choice: Document) -> dict[str, Any]:
    mode = _checked(choice, "mode", _one_of("auto", "required"), "tool_choice.")
    tools = _checked(choice, "tools", _ARRAY, "tool_choice.")
    if mode is None or tools is None:
        raise Refusal("invalid_request", "Allowed tools need `mode` and `tools`.", param="tool_choice")
    named = [_named(tool, f"tool_choice.tools[{index}]") for index, tool in enumerate(tools)]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": named}}


def _named(choice: object, param: str) -> dict[str, Any]:
    kind = choice.get("type") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or kind != "function":
        _refuse_type(kind, param, param)
    if not isinstance(name := choice.get("name"), str):
        raise Refusal("invalid_request", "A function needs its `name`.", param=f"{param}.name")
    return {"type": "function", "function": {"name": name}}


def _text(text: Document) -> dict[str, Any]:
    chat: dict[str, Any] = {}
    if (verbosity := _checked(text, "verbosity", _VERBOSITY, "text.")) is not None:
        chat["verbosity"] = verbosity
    wanted = _checked(text, "format", _OBJECT, "text.")
    kind = wanted.get("type") if wanted is not None else "text"
    if kind == "json_object":
        chat["response_format"] = {"type": "json_object"}
    elif kind == "json_schema":
        chat["response_format"] = {"type": "json_schema", "json_schema": _schema(wanted)}
    elif kind != "text":
        raise Refusal("invalid_request", "This is no type of format.", param="text.format.type")
    return chat


def _schema(wanted: Document) -> dict[str, Any]:
    sorts = {"name": _TEXT, "schema": _OBJECT, "strict": _FLAG, "description": _TEXT}
    values = {name: _checked(wanted, name, sort, "text.format.") for name, sort in sorts.items()}
    for name in ("name", "schema"):
        if values[name] is None:
            raise Refusal("invalid_request", f"The format needs its `{name}`.", param=f"text.format.{name}")
    return {name: value for name, value in values.items() if value is not None}


def _reasoning(reasoning: Document) -> dict[str, Any]:
    for name in ("summary", "generate_summary"):
        _checked(reasoning, name, _SUMMARY, "reasoning.")
    if reasoning.get("mode") not in (None, "standard"):
        raise Refusal("capability_missing", "Modes of reasoning are OpenAI's own.", param="reasoning.mode")
    effort = _checked(reasoning, "effort", _EFFORT, "reasoning.")
    return {} if effort is None else {"reasoning_effort": effort}


def _logprobs(document: Document) -> dict[str, Any]:
    included = document.get("include") or []
    for index, each in enumerate(included):
        if not isinstance(each, str):
            raise Refusal("invalid_request", "What is to be included is named.", param=f"include[{index}]")
        if each not in _INCLUDABLE:
            raise Refusal("capability_missing", "This cannot be included.", param=f"include[{index}]")
    most = document.get("top_logprobs")
    if most:
        return {"logprobs": True, "top_logprobs": most}
    return {"logprobs": True} if "message.output_text.logprobs" in included else {}
