"""A Gemini client's contents as canonical messages (google-genai `types.py`: Content, Part).

Two differences shape this. Calls and their results may come without ids: then they are given some, in the order of the
calls, and a result belongs to the first call of its function that has none yet. And one content may hold results and a
prompt: the results become messages of their own, before it.
"""

from collections.abc import Mapping
from typing import Any, Final

from mitmgate.dialects.canonical import arguments_of
from mitmgate.dialects.gemini.words import FORMATS, compact, media_of, signed, worded
from mitmgate.errors import Refusal

type Message = dict[str, Any]
type Named = tuple[Mapping[str, Any], str]
"""A part, and what to call it in an error."""

_KINDS: Final = frozenset({"text", "inlineData", "fileData", "functionCall", "functionResponse"})
_BESIDE: Final = ("videoMetadata", "mediaResolution", "partMetadata", "mediaProcessing")
_STANDARD: Final = str.maketrans("-_", "+/")


class Conversation:
    """The messages as they grow."""

    __slots__ = ("_exchange", "_made", "_open", "messages")

    def __init__(self, exchange: str) -> None:
        self.messages: list[Message] = []
        self._exchange = exchange
        self._made = 0
        self._open: dict[str, str] = {}     # ids of calls without a result, each with its function's name

    def instruct(self, content: object) -> None:
        """The system instruction. Raises Refusal."""
        parts = _parts({"parts": content} if isinstance(content, str) else content, "systemInstruction")
        texts = [_text_part(part, param) for part, param in parts]
        if texts:
            self.messages.append({"role": "system", "content": _content(texts)})

    def add(self, content: object, param: str) -> None:
        """One of the contents. Raises Refusal."""
        role = content.get("role") if isinstance(content, dict) else None
        if (text := _only_text(content)) and (role == "user" or role == "model"):
            self.messages.append({"role": "user" if role == "user" else "assistant", "content": text})
            return
        parts = _parts(content, param)
        if role == "model":
            self.messages.append(self._spoken(parts))
        elif role in (None, "", "user", "function"):
            self._asked(parts)
        else:
            raise Refusal("invalid_request", "A content's `role` must be user or model.", param=param)

    def _asked(self, parts: list[Named]) -> None:
        rest: list[Message] = []
        for part, param in parts:
            if "functionResponse" in part:
                self.messages.append(self._result(part, param))
            else:
                rest.append(_part(part, param))
        if rest:
            self.messages.append({"role": "user", "content": _content(rest)})

    def _spoken(self, parts: list[Named]) -> Message:
        """What the model said in an earlier turn: its text is one, its thoughts are one."""
        texts: list[str] = []
        thoughts: list[str] = []
        others: dict[str, list[Message]] = {}
        signature: object = None
        for part, param in parts:
            if "functionCall" in part:
                others.setdefault("tool_calls", []).append(self._call(part, param))
            elif "text" in part:
                text = _text_part(part, param)["text"]
                (thoughts if part.get("thought") is True else texts).append(text)
                signature = part.get("thoughtSignature") or signature
            elif (said := _part(part, param))["type"] == "image_url":
                others.setdefault("images", []).append(said)
            else:
                raise Refusal("invalid_request", "The model's turns hold text, images and calls.", param=param)
        message: Message = {"role": "assistant", "content": "".join(texts) or None}
        if any(thoughts):
            message["reasoning_content"] = "".join(thoughts)
        return {**message, **others, **signed(signature)}

    def _call(self, part: Mapping[str, Any], param: str) -> Message:
        call = part["functionCall"]
        name = call.get("name") if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(name, str) or not name:
            raise Refusal("invalid_request", "A `functionCall` must have a `name`.", param=param)
        arguments = compact(arguments_of(call.get("args"), f"{param}.functionCall.args"))
        if arguments is None:
            raise Refusal("invalid_request", "A call's `args` cannot be read.", param=param)
        identity = call.get("id")
        if not isinstance(identity, str) or not identity:
            identity = f"call_{self._exchange}_{self._made}"
            self._made += 1
        self._open[identity] = name
        function = {"name": name, "arguments": arguments}
        return {"id": identity, "type": "function", "function": function, **signed(part.get("thoughtSignature"))}

    def _result(self, part: Mapping[str, Any], param: str) -> Message:
        answer = worded(part["functionResponse"]) if isinstance(part["functionResponse"], dict) else {}
        response = answer.get("response")
        if not isinstance(answer.get("name"), str) or not (response is None or isinstance(response, dict)):
            raise Refusal("invalid_request", "A `functionResponse` must have a `name` and a `response`.", param=param)
        text = compact(response or {})
        if text is None:
            raise Refusal("invalid_request", "A `response` cannot be read.", param=param)
        content: Any = text
        if media := answer.get("parts"):
            shown = [_part(each, where) for each, where in _parts({"parts": media}, f"{param}.functionResponse")]
            content = [{"type": "text", "text": text}, *shown]
        return {"role": "tool", "tool_call_id": self._answered(answer, param), "content": content}

    def _answered(self, answer: Mapping[str, Any], param: str) -> str:
        """The id of the call that this is the result of."""
        identity = answer.get("id")
        if not isinstance(identity, str) or identity not in self._open:
            identity = next((each for each, name in self._open.items() if name == answer["name"]), None)
        if identity is None:
            raise Refusal("invalid_request", "A `functionResponse` must follow its `functionCall`.", param=param)
        del self._open[identity]
        return identity


def _only_text(content: object) -> str | None:
    """The text of a content that is a text and nothing else, as most are."""
    parts = content.get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, list) or len(parts) != 1 or not isinstance(part := parts[0], dict) or len(part) != 1:
        return None
    text = part.get("text")
    return text if isinstance(text, str) else None


def _parts(content: object, param: str) -> list[Named]:
    """The parts of a content, names in camelCase. Google's own samples write a single one without its array."""
    parts = content.get("parts") if isinstance(content, dict) else None
    if isinstance(parts, str):
        parts = {"text": parts}
    if isinstance(parts, dict):
        parts = [parts]
    if not isinstance(parts, list):
        raise Refusal("invalid_request", "A content must be an object with `parts`.", param=param)
    named: list[Named] = []
    for index, part in enumerate(parts):
        where = f"{param}.parts[{index}]"
        if not isinstance(part, dict):
            raise Refusal("invalid_request", "A part must be an object.", param=where)
        found = {name: value for name, value in worded(part).items() if value is not None}
        if len(_KINDS & found.keys()) != 1:
            raise Refusal("invalid_request", "A part must hold text, media, a function's call or its response.", param=where)
        named.append((found, where))
    return named


def _content(parts: list[Message]) -> Any:
    """A single text is a text."""
    return parts[0]["text"] if len(parts) == 1 and parts[0].keys() == {"type", "text"} else parts


def _text_part(part: Mapping[str, Any], param: str) -> Message:
    text = part.get("text")
    if not isinstance(text, str):
        raise Refusal("invalid_request", "Only text can stand here.", param=param)
    return {"type": "text", "text": text}


def _part(part: Mapping[str, Any], param: str) -> Message:
    """A part of a prompt."""
    if "text" in part:
        said = _text_part(part, param)
    elif "inlineData" in part:
        said = _inline(part["inlineData"], param)
    elif "fileData" in part:
        said = _by_address(part["fileData"], param)
    else:
        raise Refusal("invalid_request", "A function's call is the model's, its response the user's.", param=param)
    beside = {name: part[name] for name in _BESIDE if name in part}
    if "thoughtSignature" in part:
        beside["thought_signature"] = part["thoughtSignature"]
    return {**said, "extra_content": {"google": beside}} if beside else said


def _inline(blob: object, param: str) -> Message:
    found = worded(blob) if isinstance(blob, dict) else {}
    media, data = found.get("mimeType"), found.get("data")
    if not isinstance(media, str) or not media or not isinstance(data, str) or not data:
        raise Refusal("invalid_request", "`inlineData` must have a `mimeType` and `data`.", param=param)
    data = data.translate(_STANDARD) if "-" in data or "_" in data else data  # google-genai writes URL-safe base64
    data += "=" * (-len(data) % 4)
    if media in FORMATS:
        return {"type": "input_audio", "input_audio": {"data": data, "format": FORMATS[media]}}
    url = f"data:{media};base64,{data}"
    if media.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    name = found.get("displayName")
    named = {"filename": name} if isinstance(name, str) and name else {}
    return {"type": "file", "file": {"file_data": url, **named}}


def _by_address(file: object, param: str) -> Message:
    found = worded(file) if isinstance(file, dict) else {}
    media, url = found.get("mimeType"), found.get("fileUri")
    if not isinstance(url, str) or not url or not (media is None or isinstance(media, str)):
        raise Refusal("invalid_request", "`fileData` must have a `fileUri`.", param=param)
    # `format`, as LiteLLM has it, only where the address does not say the type.
    kept = {"format": media} if media and media != media_of(url) else {}
    if (media or media_of(url) or "").startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url, **kept}}
    name = found.get("displayName")
    named = {"filename": name} if isinstance(name, str) and name else {}
    return {"type": "file", "file": {"file_url": url, **named, **kept}}
