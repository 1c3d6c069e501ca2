"""Canonical parts of a content as Anthropic's blocks.

Sources: anthropic.types.TextBlockParam, ImageBlockParam, DocumentBlockParam and their sources.
"""

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from mitmgate.dialects.anthropic.words import cache_mark
from mitmgate.dialects.canonical import embedded
from mitmgate.errors import Refusal

type Block = dict[str, Any]
type Part = Mapping[str, Any]

_IMAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "image/jpeg": "image/jpeg", "image/jpg": "image/jpeg", "image/png": "image/png", "image/gif": "image/gif",
        "image/webp": "image/webp",
    }
)  # fmt: skip
_HOSTED: Final = "file_"                    # how the ids of Anthropic's own Files API begin; OpenAI's begin with "file-"


def blocks_of(content: object, param: str, dropped: set[str]) -> Iterator[Block]:
    """A content's blocks; empty texts, which the API refuses, are left out. Raises Refusal."""
    if isinstance(content, str):
        if content:
            yield {"type": "text", "text": content}
        return
    if content is None:
        return
    if not isinstance(content, list):
        raise Refusal("invalid_request", "`content` must be a text or a list of parts.", param=f"{param}.content")
    for index, part in enumerate(content):
        where = f"{param}.content[{index}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str):
            raise Refusal("invalid_request", "Each part of `content` must be an object with a `type`.", param=where)
        write = _PARTS.get(kind)
        if write is None:
            raise _unsayable(kind, where)
        block = write(part, where, dropped)
        if block is not None:
            mark = part.get("cache_control")
            yield block if mark is None else block | cache_mark(part, where)


def _unsayable(kind: str, where: str) -> Refusal:
    if kind in ("input_audio", "video_url", "input_video"):
        return Refusal("capability_missing", "Anthropic's models take no audio and no video.", param=where)
    return Refusal("invalid_request", "This `type` of a content's part is not known.", param=where)


def _text(part: Part, where: str, dropped: set[str]) -> Block | None:
    text = part.get("refusal" if part["type"] == "refusal" else "text")
    if not isinstance(text, str):
        raise Refusal("invalid_request", "A text part must have a text.", param=where)
    return {"type": "text", "text": text} if text else None


def _image(part: Part, where: str, dropped: set[str]) -> Block:
    given = part.get("image_url")
    url = given.get("url") if isinstance(given, dict) else given
    if not isinstance(url, str) or not url:
        raise Refusal("invalid_request", "An image must have a `url`.", param=where)
    if isinstance(given, dict) and given.get("detail") not in (None, "auto"):
        dropped.add("detail")
    return {"type": "image", "source": _image_source(url, where)}


def _image_source(url: str, where: str) -> Block:
    data = embedded(url, where)
    if data is None:
        return _address(url, where)
    if data.media in _IMAGES:
        return {"type": "base64", "media_type": _IMAGES[data.media], "data": data.encoded}
    if data.media.startswith("image/"):
        raise Refusal("capability_missing", "Anthropic takes images as JPEG, PNG, GIF or WebP.", param=where)
    raise Refusal("invalid_request", "The data URL of an image must hold an image.", param=where)


def _address(url: str, where: str) -> Block:
    scheme = url[:8].lower()
    if scheme == "https://":
        return {"type": "url", "url": url}
    if scheme.startswith("http://"):
        raise Refusal("capability_missing", "Anthropic fetches only https URLs.", param=where)
    raise Refusal("invalid_request", "A URL must be https or a data URL.", param=where)


def _file(part: Part, where: str, dropped: set[str]) -> Block:
    file = part.get("file")
    if not isinstance(file, dict):
        raise Refusal("invalid_request", "A file part must have a `file`.", param=where)
    name = file.get("filename")
    block: Block = {"type": "document", "source": _file_source(file, where)}
    if block["source"].get("media_type") in _IMAGES:
        return {"type": "image", "source": block["source"]}
    if isinstance(name, str) and name:
        block["title"] = name
    return block


def _file_source(file: Part, where: str) -> Block:
    if isinstance(url := file.get("file_url"), str):
        return _address(url, where)
    if isinstance(data := file.get("file_data"), str) and data:
        return _file_data(data, where)
    if isinstance(id := file.get("file_id"), str):
        if id.startswith(_HOSTED):
            return {"type": "file", "file_id": id}
        raise Refusal("capability_missing", "A file of another provider cannot be read by its id.", param=where)
    raise Refusal("invalid_request", "A file must have `file_data`, `file_url` or `file_id`.", param=where)


def _file_data(data: str, where: str) -> Block:
    # OpenAI takes a PDF as bare base64 too.
    file = embedded(data if data[:5].lower() == "data:" else f"data:application/pdf;base64,{data}", where)
    assert file is not None
    if file.media == "application/pdf":
        return {"type": "base64", "media_type": "application/pdf", "data": file.encoded}
    if file.media in _IMAGES:
        return {"type": "base64", "media_type": _IMAGES[file.media], "data": file.encoded}
    if file.media.startswith("text/"):
        return {"type": "text", "media_type": "text/plain", "data": _plain(file.encoded, where)}
    raise Refusal("capability_missing", "Anthropic takes documents as PDF or plain text.", param=where)


def _plain(encoded: str, where: str) -> str:
    try:
        return base64.b64decode(encoded).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise Refusal("invalid_request", "A text file must be UTF-8.", param=where) from None


_PARTS: Final[Mapping[str, Callable[[Part, str, set[str]], Block | None]]] = MappingProxyType(
    {"text": _text, "input_text": _text, "output_text": _text, "refusal": _text, "image_url": _image, "file": _file}
)
