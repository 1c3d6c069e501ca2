"""Canonical messages as Cohere's (SDK, `types/chat_message_v2.py`).

A message with tool calls may hold no text: the API refuses it, and has `tool_plan` for what was said before the calls. So a
reply's plan is canonical reasoning (`reply.py`), and on the next turn reasoning and text of such a message become the plan.
Reasoning of other messages goes back as `thinking` content where this request thinks too; elsewhere it stays behind.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from mitmgate.dialects.canonical import arguments_of, embedded, parts_of, text_of
from mitmgate.dialects.codec import Document
from mitmgate.errors import Refusal

type _Message = Mapping[str, Any]

_UNSAYABLE: Final = frozenset({"input_audio", "file"})


def messages_for(document: Document, *, thinking: bool) -> list[dict[str, Any]]:
    """The messages, in their order. `thinking`: whether this request asks for it. Raises Refusal."""
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal("invalid_request", "`messages` must be a non-empty array.", param="messages")
    calls: set[str] = set()
    written = []
    for index, message in enumerate(messages):
        param = f"messages[{index}]"
        role = message.get("role") if isinstance(message, dict) else None
        write = _WRITERS.get(role) if isinstance(role, str) else None
        if write is None:
            raise Refusal("invalid_request", "Each message must be an object with a known `role`.", param=param)
        written.append(write(message, param, calls, thinking))
    return written


def _system(message: _Message, param: str, calls: set[str], thinking: bool) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, str):
        return {"role": "system", "content": content}
    texts = [{"type": "text", "text": text_of([part], f"{param}.content")} for part in parts_of(content, f"{param}.content")]
    return {"role": "system", "content": _some(texts, param)}


def _user(message: _Message, param: str, calls: set[str], thinking: bool) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, str):
        return {"role": "user", "content": content}
    parts = [_part(part, f"{param}.content[{at}]") for at, part in enumerate(parts_of(content, f"{param}.content"))]
    return {"role": "user", "content": _some(parts, param)}


def _part(part: _Message, param: str) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "text", "text": text_of([part], param)}
    if part["type"] == "image_url":
        return {"type": "image_url", "image_url": _image(part.get("image_url"), param)}
    if part["type"] in _UNSAYABLE:
        raise Refusal("capability_missing", "This provider takes text and images, no audio and no files.", param=param)
    raise Refusal("invalid_request", "This type of part is not known.", param=param)


def _image(image: object, param: str) -> dict[str, str]:
    url = image.get("url") if isinstance(image, dict) else None
    if not isinstance(image, dict) or not isinstance(url, str):
        raise Refusal("invalid_request", "`image_url` must be an object with a `url`.", param=param)
    data = embedded(url, param)
    if not (data.media.startswith("image/") if data else url[:8].lower().startswith(("https://", "http://"))):
        raise Refusal("invalid_request", "An image must be a data URL of an image type, or a web URL.", param=param)
    detail = image.get("detail")
    return {"url": url, "detail": detail} if isinstance(detail, str) else {"url": url}


def _assistant(message: _Message, param: str, calls: set[str], thinking: bool) -> dict[str, Any]:
    if message.get("function_call") is not None or message.get("audio") is not None:
        raise Refusal("capability_missing", "This provider takes tool calls and text from the assistant.", param=param)
    text, reasoning = _said(message, param), message.get("reasoning_content")
    reasoning = reasoning if isinstance(reasoning, str) else ""
    given = message.get("tool_calls")
    if given:
        plan = "\n\n".join(each for each in (reasoning, text) if each)
        written = {"role": "assistant", "tool_calls": _calls(given, f"{param}.tool_calls", calls)}
        return {**written, "tool_plan": plan} if plan else written
    if reasoning and thinking:
        thoughts = {"type": "thinking", "thinking": reasoning}
        return {"role": "assistant", "content": [thoughts, {"type": "text", "text": text}] if text else [thoughts]}
    return {"role": "assistant", "content": text}


def _said(message: _Message, param: str) -> str:
    """The text of an assistant's content; what it refused is text to this provider."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    texts = []
    for at, part in enumerate(parts_of(content, f"{param}.content")):
        refusal = part.get("refusal") if part["type"] == "refusal" else None
        texts.append(refusal if isinstance(refusal, str) else text_of([part], f"{param}.content[{at}]"))
    refused = message.get("refusal")
    return "".join(texts) or (refused if isinstance(refused, str) else "")


def _calls(given: object, param: str, calls: set[str]) -> list[dict[str, Any]]:
    if not isinstance(given, list):
        raise Refusal("invalid_request", "`tool_calls` must be an array.", param=param)
    written = []
    for at, call in enumerate(given):
        here = f"{param}[{at}]"
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Refusal("invalid_request", "A tool call must be an object with an `id` and a `function`.", param=here)
        if not isinstance(call.get("id"), str):
            raise Refusal("invalid_request", "A tool call must have an `id`.", param=here)
        calls.add(call["id"])
        said = {"name": function["name"], "arguments": _arguments(function.get("arguments"), f"{here}.function.arguments")}
        written.append({"id": call["id"], "type": "function", "function": said})
    return written


def _arguments(text: object, param: str) -> str:
    if text is not None and not isinstance(text, str):
        raise Refusal("invalid_request", "A tool call's `arguments` must be a text of JSON.", param=param)
    return text if text is not None and arguments_of(text, param) else "{}"


def _tool(message: _Message, param: str, calls: set[str], thinking: bool) -> dict[str, Any]:
    call = message.get("tool_call_id")
    if not isinstance(call, str) or call not in calls:
        message_ = "`tool_call_id` must be that of a tool call in an earlier message."
        raise Refusal("invalid_request", message_, param=f"{param}.tool_call_id")
    return {"role": "tool", "tool_call_id": call, "content": _result(message.get("content"), f"{param}.content")}


def _result(content: object, param: str) -> str | list[dict[str, Any]]:
    """A JSON object as the text that it came as; any other text as a block: so the API wants it."""
    if isinstance(content, str) and content.lstrip()[:1] == "{":
        return content
    blocks = [_block(part, f"{param}[{at}]") for at, part in enumerate(parts_of(content, param))]
    return blocks or [{"type": "text", "text": ""}]


def _block(part: _Message, param: str) -> dict[str, Any]:
    """Text, or a document as Cohere's own: {type: document, document: {data, id}}."""
    if part["type"] == "text":
        return {"type": "text", "text": text_of([part], param)}
    document = part.get("document") if part["type"] == "document" else None
    if isinstance(document, dict) and isinstance(document.get("data"), dict):
        return {"type": "document", "document": document}
    raise Refusal("capability_missing", "This provider takes text and {data} documents as results.", param=param)


def _function(message: _Message, param: str, calls: set[str], thinking: bool) -> dict[str, Any]:
    raise Refusal("capability_missing", "This provider takes results of tools, not of functions.", param=param)


def _some(parts: list[dict[str, Any]], param: str) -> list[dict[str, Any]]:
    if not parts:
        raise Refusal("invalid_request", "`content` must not be empty.", param=f"{param}.content")
    return parts


_WRITERS: Final[Mapping[str, Callable[[_Message, str, set[str], bool], dict[str, Any]]]] = {
    "system": _system, "developer": _system, "user": _user, "assistant": _assistant, "tool": _tool, "function": _function,
}  # fmt: skip
