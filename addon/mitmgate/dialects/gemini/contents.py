"""Canonical messages as Gemini's contents: turns of `user` and `model` by turns, neighbours of one role merged.

Sources: google-genai's Content, Part, Blob, FileData, FunctionCall and FunctionResponse; Google's page "Thought signatures".
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from mitmgate.dialects.canonical import arguments_of, embedded, messages_of, parts_of
from mitmgate.dialects.codec import Document
from mitmgate.dialects.gemini.words import AUDIO, google_of, media_of, signature_of, too_deep
from mitmgate.errors import Refusal

type Part = dict[str, Any]

UNSIGNED: Final = "skip_thought_signature_validator"
"""Google's own word for a call that came from another model: Gemini 3 refuses one without a signature."""

_BESIDE: Final = ("videoMetadata", "mediaResolution", "partMetadata", "mediaProcessing")
"""Members of a Part beside its content that a client may keep in `extra_content.google`; none holds a prompt."""


class Turns:
    """The contents as they grow. `dropped` gets the names of what a message says and Gemini cannot be told."""

    __slots__ = ("_calls", "_strict", "contents", "dropped", "system")

    def __init__(self, *, signatures: bool) -> None:
        self.system: list[Part] = []
        self.contents: list[dict[str, Any]] = []
        self.dropped: dict[str, None] = {}
        self._calls: dict[str, str] = {}    # names of functions by the ids of their calls
        self._strict = signatures           # whether a call without a signature would be refused

    def read(self, document: Document) -> None:
        """All messages of a request. Raises Refusal."""
        listed = document.get("messages")
        for index, message in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(message, dict) and not isinstance(message.get("role"), str):
                raise Refusal("invalid_request", "Each message must have a `role`.", param=f"messages[{index}]")
        for index, message in enumerate(messages_of(document)):
            self._message(message, f"messages[{index}]")
        if not self.contents:  # Gemini answers contents alone
            self._turn("user", self.system)
            self.system = []
        if not self.contents:
            raise Refusal("invalid_request", "`messages` must say something.", param="messages")

    def _message(self, message: Mapping[str, Any], param: str) -> None:
        role, content = message["role"], message.get("content")
        if len(message) == 2 and content and isinstance(content, str) and role in ("user", "assistant"):  # as most are
            self._turn("user" if role == "user" else "model", [{"text": content}])
            return
        if role == "user":
            self._turn("user", self._parts(message, param))
        elif role == "assistant":
            self._turn("model", self._spoken(message, param))
        elif role in ("system", "developer"):
            self.system += self._texts(message, param)
        else:
            self._turn("user", self._result(message, param))
        if "name" in message and message["name"] is not None and role != "function":
            self.dropped["name"] = None
        if "cache_control" in message:
            self.dropped["cache_control"] = None

    def _turn(self, role: str, parts: list[Part]) -> None:
        if not parts:
            return
        contents = self.contents
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        else:
            contents.append({"role": role, "parts": parts})

    def _texts(self, message: Mapping[str, Any], param: str) -> list[Part]:
        parts = self._parts(message, param)
        if any("text" not in part for part in parts):
            raise Refusal("invalid_request", "Only text can stand in a system message.", param=f"{param}.content")
        return parts

    def _parts(self, message: Mapping[str, Any], param: str) -> list[Part]:
        content = message.get("content")
        if isinstance(content, str):
            return [{"text": content}] if content else []
        found: list[Part] = []
        for index, part in enumerate(parts_of(content, f"{param}.content")):
            said = self._part(part, f"{param}.content[{index}]")
            if said != {"text": ""}:
                found.append(said)
        return found

    def _part(self, part: Mapping[str, Any], param: str) -> Part:
        say = _SAID.get(part["type"])
        if say is None:
            raise Refusal("capability_missing", "Gemini cannot be told a part of this `type`.", param=param)
        said = say(part, param)
        if "extra_content" in part:
            _add_beside(said, part)
        if "cache_control" in part:
            self.dropped["cache_control"] = None
        shown = part.get("image_url")
        if isinstance(shown, dict) and shown.get("detail") not in (None, "auto"):
            self.dropped["detail"] = None
        return said

    def _spoken(self, message: Mapping[str, Any], param: str) -> list[Part]:
        """What the model said: its thoughts, its text, its images, its calls."""
        parts: list[Part] = []
        if isinstance(thoughts := message.get("reasoning_content"), str) and thoughts:
            parts.append({"text": thoughts, "thought": True})
        said = self._parts(message, param)
        if isinstance(refusal := message.get("refusal"), str) and refusal:
            said.append({"text": refusal})
        said += self._images(message, param)
        if (signature := signature_of(message)) is not None:
            if not said:
                said.append({"text": ""})
            said[-1].setdefault("thoughtSignature", signature)
        parts += said
        parts += self._function_calls(message, param)
        for name in ("thinking_blocks", "audio"):
            if message.get(name):
                self.dropped[name] = None
        return parts

    def _images(self, message: Mapping[str, Any], param: str) -> list[Part]:
        if not (images := message.get("images")):
            return []
        return [self._part(part, f"{param}.images[{index}]") for index, part in enumerate(parts_of(images, f"{param}.images"))]

    def _function_calls(self, message: Mapping[str, Any], param: str) -> list[Part]:
        calls = message.get("tool_calls")
        if not calls:
            return self._retired_call(message, param)
        if not isinstance(calls, list):
            raise Refusal("invalid_request", "`tool_calls` must be a list.", param=f"{param}.tool_calls")
        parts = [self._call(call, f"{param}.tool_calls[{index}]") for index, call in enumerate(calls)]
        if self._strict:
            parts[0].setdefault("thoughtSignature", UNSIGNED)
        return parts

    def _call(self, call: object, param: str) -> Part:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
            if isinstance(call, dict) and call.get("type", "function") != "function":
                raise Refusal("capability_missing", "Gemini knows calls of functions alone.", param=param)
            raise Refusal("invalid_request", "A tool call must name its `function`.", param=param)
        arguments = function.get("arguments")
        args = arguments_of(arguments, f"{param}.function.arguments")
        if isinstance(arguments, str) and too_deep(arguments, args):
            raise Refusal("invalid_request", "A tool call's `arguments` are too deep.", param=f"{param}.function.arguments")
        called: dict[str, Any] = {"name": function["name"], "args": args}
        identity = call.get("id")
        if isinstance(identity, str) and identity:
            called["id"] = identity
            self._calls[identity] = function["name"]
        part: Part = {"functionCall": called}
        if (signature := signature_of(call)) is not None:
            part["thoughtSignature"] = signature
        return part

    def _retired_call(self, message: Mapping[str, Any], param: str) -> list[Part]:
        """A `function_call` as OpenAI had it before tools."""
        if (function := message.get("function_call")) is None:
            return []
        part = self._call({"function": function}, f"{param}.function_call")
        return [{**part, "thoughtSignature": UNSIGNED} if self._strict else part]

    def _result(self, message: Mapping[str, Any], param: str) -> list[Part]:
        """A tool's result, under the name of the function that was called."""
        answer: dict[str, Any] = {}
        if message["role"] == "function":
            name = message.get("name")
            if not isinstance(name, str) or not name:
                raise Refusal("invalid_request", "A function's result must have its `name`.", param=f"{param}.name")
        else:
            identity = message.get("tool_call_id")
            name = self._calls.get(identity) if isinstance(identity, str) else None
            if name is None:
                raise Refusal(
                    "invalid_request", "A tool's result must have the id of a call that stands before it.",
                    param=f"{param}.tool_call_id",
                )  # fmt: skip
            answer["id"] = identity
        parts = self._parts(message, param)
        answer["name"] = name
        answer["response"] = _response("".join(part["text"] for part in parts if "text" in part))
        # Media of a result stand beside it: older models know no `parts` in a FunctionResponse.
        return [{"functionResponse": answer}, *(part for part in parts if "text" not in part)]


def _response(text: str) -> dict[str, Any]:
    """A result's text as an object; what is none stands as it is under `result`."""
    if text.lstrip()[:1] == "{":
        try:
            response = orjson.loads(text)
        except orjson.JSONDecodeError:
            return {"result": text}
        if isinstance(response, dict) and not too_deep(text, response):
            return response
    return {"result": text}


def _add_beside(said: Part, part: Mapping[str, Any]) -> None:
    google = google_of(part)
    said.update((name, google[name]) for name in _BESIDE if name in google)
    if (signature := signature_of(part)) is not None:
        said["thoughtSignature"] = signature


def _text(part: Mapping[str, Any], param: str) -> Part:
    text = part.get("refusal" if part["type"] == "refusal" else "text")
    if not isinstance(text, str):
        raise Refusal("invalid_request", "A part of text must hold a `text`.", param=param)
    return {"text": text}


def _image(part: Mapping[str, Any], param: str) -> Part:
    shown = part.get("image_url")
    url = shown.get("url") if isinstance(shown, dict) else shown
    if not isinstance(url, str) or not url:
        raise Refusal("invalid_request", "An image must have a URL.", param=param)
    return _by_url(url, shown.get("format") if isinstance(shown, dict) else None, param, image=True)


def _by_url(url: str, named: object, param: str, *, image: bool = False) -> Part:
    """Bytes out of a data URL; else a file by its address, its type by its extension."""
    inside = embedded(url, param)
    if inside is None:
        media = named if isinstance(named, str) and named else media_of(url)
        return {"fileData": {"mimeType": media, "fileUri": url} if media else {"fileUri": url}}
    if image and not inside.media.startswith("image/"):
        raise Refusal("invalid_request", "The data URL does not hold an image.", param=param)
    if not inside.media:
        raise Refusal("invalid_request", "A data URL must name its media type.", param=param)
    return {"inlineData": {"mimeType": inside.media, "data": inside.encoded}}


def _audio(part: Mapping[str, Any], param: str) -> Part:
    heard = part.get("input_audio")
    data, word = (heard.get("data"), heard.get("format")) if isinstance(heard, dict) else (None, None)
    if not isinstance(data, str) or not data or not isinstance(word, str):
        raise Refusal("invalid_request", "`input_audio` must have `data` and a `format`.", param=param)
    if word not in AUDIO:
        raise Refusal("capability_missing", "Gemini does not hear audio of this `format`.", param=param)
    return {"inlineData": {"mimeType": AUDIO[word], "data": data}}


def _file(part: Mapping[str, Any], param: str) -> Part:
    file = part.get("file")
    if not isinstance(file, dict):
        raise Refusal("invalid_request", "A file must be an object.", param=param)
    if isinstance(data := file.get("file_data"), str):
        if data[:5].lower() != "data:":
            raise Refusal("invalid_request", "`file_data` must be a data URL.", param=param)
        return _by_url(data, None, param)
    if isinstance(url := file.get("file_url"), str) and url:
        return _by_url(url, file.get("format"), param)
    if file.get("file_id") is not None:
        raise Refusal("capability_missing", "Gemini does not know another provider's files.", param=param)
    raise Refusal("invalid_request", "A file must have `file_data` or a `file_url`.", param=param)


_SAID: Final[Mapping[str, Callable[[Mapping[str, Any], str], Part]]] = {
    "text": _text, "input_text": _text, "output_text": _text, "refusal": _text,
    "image_url": _image, "input_audio": _audio, "file": _file,
}  # fmt: skip
