"""Gemini's own words, for every file of this dialect: names, media types, signatures, models.

Facts are from google-genai's `types.py` and Google's pages on generateContent, on thought signatures and on the
OpenAI-compatible API, which is where `extra_content.google` and `extra_body.google` come from.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

import orjson

from mitmgate.dialects.canonical import in_path
from mitmgate.errors import Refusal

DEEPEST: Final = 100
"""How deep JSON may be nested: orjson reads more than it writes, and Python's own stack ends at a thousand."""

AUDIO: Final[Mapping[str, str]] = {
    "wav": "audio/wav", "mp3": "audio/mp3", "aiff": "audio/aiff", "aac": "audio/aac", "ogg": "audio/ogg",
    "flac": "audio/flac",
}  # fmt: skip
"""What Gemini hears ("Audio understanding"), by the word of OpenAI's `input_audio.format`."""

FORMATS: Final[Mapping[str, str]] = {media: word for word, media in AUDIO.items()} | {"audio/mpeg": "mp3", "audio/x-wav": "wav"}

_BY_EXTENSION: Final[Mapping[str, str]] = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "heic": "image/heic",
    "heif": "image/heif", "gif": "image/gif", "bmp": "image/bmp", "avif": "image/avif",
    "pdf": "application/pdf", "txt": "text/plain", "md": "text/markdown", "html": "text/html", "htm": "text/html",
    "csv": "text/csv", "xml": "text/xml", "css": "text/css", "rtf": "text/rtf", "json": "application/json",
    "mp3": "audio/mp3", "wav": "audio/wav", "aiff": "audio/aiff", "aac": "audio/aac", "ogg": "audio/ogg",
    "flac": "audio/flac", "m4a": "audio/m4a",
    "mp4": "video/mp4", "mpeg": "video/mpeg", "mpg": "video/mpg", "mov": "video/mov", "avi": "video/avi",
    "flv": "video/x-flv", "webm": "video/webm", "wmv": "video/wmv", "3gp": "video/3gpp",
}  # fmt: skip
"""The media types of Google's pages on images, documents, audio and video."""


def media_of(url: str) -> str | None:
    """The media type that a URL's extension promises."""
    path = url.partition("#")[0].partition("?")[0]
    return _BY_EXTENSION.get(path.rpartition("/")[2].rpartition(".")[2].lower())


def worded(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """An object with its members' names in camelCase: protocol buffers' JSON reads `system_instruction` as well. Raises
    Refusal where a member stands there under both names: who reads it next may take the other."""
    if "_" not in "".join(document):
        return document
    found = {camel(each): value for each, value in document.items()}
    if len(found) != len(document):
        raise Refusal("invalid_request", "A member is given twice, in camelCase and with underscores.")
    return found


def camel(name: str) -> str:
    """A member's name in camelCase."""
    first, *rest = name.split("_")
    return first + "".join(each[:1].upper() + each[1:] for each in rest)


def google_of(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `extra_content.google` of a message, a part or a tool call."""
    extra = holder.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    return google if isinstance(google, dict) else {}


def signature_of(holder: Mapping[str, Any]) -> str | None:
    """The thought signature that is kept with a message, a part or a tool call."""
    if "extra_content" not in holder:
        return None
    signature = google_of(holder).get("thought_signature")
    return signature if isinstance(signature, str) and signature else None


def signed(signature: object) -> dict[str, Any]:
    """`extra_content` with a thought signature; nothing if there is none."""
    if not isinstance(signature, str) or not signature:
        return {}
    return {"extra_content": {"google": {"thought_signature": signature}}}


def compact(value: object) -> str | None:
    """JSON; None for what cannot be written (nested too deep, a number beyond 64 bits)."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return None


def too_deep(text: str, value: object) -> bool:
    """Whether what was read out of a text cannot be written inside a request, where it is deeper than it was."""
    if text.count("{") + text.count("[") < DEEPEST:
        return False
    for _ in range(16):
        value = [value]
    return compact(value) is None


def method_path(model: str, method: str) -> str:
    """The path of a model's method. A name that begins with its collection stands as it is, as in the SDK's `t_model`."""
    collection = model.partition("/")[0]
    if collection not in ("models", "tunedModels"):
        if not model:
            raise Refusal("invalid_request", "`model` must not be empty.", param="model")
        return f"/models/{in_path(model)}:{method}"
    if any(segment in ("", ".", "..") for segment in model.split("/")[1:]) or collection == model:
        raise Refusal("invalid_request", "`model` must be a name, not a path.", param="model")
    return f"/{quote(model, safe='/', errors='replace')}:{method}"


def bare(model: str) -> str:
    """A model's name without its collection or publisher, in lower case."""
    return model.rpartition("/")[2].lower()


def generation(model: str) -> float | None:
    """Which generation of Gemini a bare name is of; None for another model. `gemini-flash-latest` is the newest."""
    if not model.startswith("gemini-"):
        return None
    version = model.split("-")[1]
    whole, _, part = version.partition(".")
    if whole.isascii() and whole.isdigit() and len(whole) < 4:
        return float(f"{whole}.{part[:1]}") if part[:1].isascii() and part[:1].isdigit() else float(whole)
    return 9.0 if model.endswith("-latest") else None


def objects(value: object) -> Iterator[Mapping[str, Any]]:
    """The objects of a provider's list; nothing else."""
    if isinstance(value, list):
        yield from (each for each in value if isinstance(each, dict))
