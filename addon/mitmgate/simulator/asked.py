"""What a request asks for: typed fields out of its JSON body, or a 400 that names the field and what belongs there.

`null` counts as absent, as it does at OpenAI. Messages name fields and types, never the caller's text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

type Document = dict[str, Any]

MOST_CHOICES: Final = 128
MOST_TEXTS: Final = 2048
_ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text"})


class BadRequest(Exception):
    """What the simulator declines: status, and the fields of OpenAI's error object."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.status = status


def document_of(body: bytes) -> Document:
    """The JSON object that the body holds."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadRequest("We could not parse the JSON body of your request.", code="invalid_json") from None
    if not isinstance(document, dict):
        raise BadRequest("The body of the request must be a JSON object.", code="invalid_json")
    return document


def text_field(document: Document, name: str, default: str, *, most: int = 256) -> str:
    """A string of 1 to `most` characters."""
    value = document.get(name)
    if value is None:
        return default
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise BadRequest(f"'{name}' must be a string of 1 to {most} characters.", param=name)
    return value


def flag(document: Document, name: str, default: bool = False) -> bool:
    """True or false."""
    value = document.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadRequest(f"'{name}' must be true or false.", param=name)
    return value


def whole(document: Document, name: str, least: int = 1, most: int = 2**31) -> int | None:
    """A whole number in the range; None if absent."""
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise BadRequest(f"'{name}' must be a whole number from {least} to {most}.", param=name)
    return value


def record(document: Document, name: str) -> Document | None:
    """A JSON object; None if absent."""
    value = document.get(name)
    if value is not None and not isinstance(value, dict):
        raise BadRequest(f"'{name}' must be an object.", param=name)
    return value


def stops(document: Document) -> tuple[str, ...]:
    """`stop`: a string, or up to four (OpenAI's reference, "stop")."""
    value = document.get("stop")
    if value is None:
        return ()
    several = [value] if isinstance(value, str) else value
    if not isinstance(several, list) or len(several) > 4 or not all(isinstance(stop, str) and stop for stop in several):
        raise BadRequest("'stop' must be a string or an array of up to 4 strings.", param="stop")
    return tuple(several)


def streaming(document: Document) -> tuple[bool, bool]:
    """Whether to stream, and whether the stream ends with a usage chunk."""
    stream = flag(document, "stream")
    options = record(document, "stream_options")
    if options is not None and not stream:
        raise BadRequest("'stream_options' is only allowed when 'stream' is true.", param="stream_options")
    return stream, options is not None and flag(options, "include_usage")


@dataclass(frozen=True, slots=True)
class Message:
    """One message: who speaks, and the text of it. Images, sound and files have no text."""

    role: str
    text: str


def messages(value: Any, param: str) -> Sequence[Message]:
    """A conversation of at least one message; `param` is the field that holds it."""
    if not isinstance(value, list) or not value:
        raise BadRequest(f"'{param}' must be an array of at least one message.", param=param)
    return [_message(message, f"{param}[{index}]") for index, message in enumerate(value)]


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, dict):
        raise BadRequest(f"'{where}' must be an object.", param=where)
    role = value.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise BadRequest(f"'{where}.role' must be one of {', '.join(sorted(_ROLES))}.", param=f"{where}.role")
    return Message(role, text_of(value.get("content"), f"{where}.content"))


def text_of(content: Any, where: str) -> str:
    """The text of a message's content: a string, an array of parts, or nothing."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRequest(f"'{where}' must be a string or an array of content parts.", param=where)
    texts: list[str] = []
    for index, part in enumerate(content):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise BadRequest(f"'{where}[{index}]' must be an object with a 'type'.", param=f"{where}[{index}]")
        if part["type"] in _TEXT_PARTS:
            if not isinstance(part.get("text"), str):
                raise BadRequest(f"'{where}[{index}].text' must be a string.", param=f"{where}[{index}].text")
            texts.append(part["text"])
    return "\n".join(texts)


def prompts(value: Any, param: str) -> list[tuple[str, int]]:
    """A `prompt` or `input`: one text, several, one array of token numbers, several. Each with its tokens."""
    several = value if isinstance(value, list) and value and not isinstance(value[0], int) else [value]
    if len(several) > MOST_TEXTS:
        raise BadRequest(f"'{param}' may hold at most {MOST_TEXTS} texts.", param=param)
    asked: list[tuple[str, int]] = []
    for one in several:
        if isinstance(one, str) and one:
            asked.append((one, len(one.split())))
        elif isinstance(one, list) and one and all(isinstance(token, int) for token in one):
            asked.append((" ".join(map(str, one)), len(one)))
        else:
            raise BadRequest(
                f"'{param}' must be a string, an array of strings, or an array of tokens, and not empty.", param=param
            )
    return asked
