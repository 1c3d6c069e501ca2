"""Blocks of a client's message as canonical parts.

Sources: anthropic.types.ContentBlockParam, ToolResultBlockParam, DocumentBlockParam. What only Anthropic's own servers can make
or read (server tools, containers, its Files API's images) is refused; hints that no other dialect has are left out.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from mitmgate.dialects.anthropic.words import cache_mark
from mitmgate.errors import Refusal

type Part = dict[str, Any]
type Given = Mapping[str, Any]


def blocks(content: object, where: str) -> Iterator[tuple[Given, str]]:
    """The blocks of a content that is a list, each with its place. Raises Refusal."""
    if not isinstance(content, list):
        raise Refusal("invalid_request", "`content` must be a text or a list of blocks.", param=where)
    for index, block in enumerate(content):
        place = f"{where}[{index}]"
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise Refusal("invalid_request", "Each block must be an object with a `type`.", param=place)
        yield block, place


def parts_of(block: Given, where: str) -> list[Part]:
    """The parts that a block stands for; its cache mark is the last one's. Raises Refusal."""
    write = _BLOCKS.get(block["type"])
    if write is None:
        raise Refusal("invalid_request", "This `type` of block cannot be said to other models.", param=f"{where}.type")
    parts = write(block, where)
    if parts and block.get("cache_control") is not None:
        parts[-1] |= cache_mark(block, where)
    return parts


def simple(parts: list[Part]) -> str | list[Part]:
    """A lone text without a mark as that text: some providers take no list here."""
    if not parts:
        return ""
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        text: str = parts[0]["text"]
        return text
    return parts


def text_of(holder: Given, name: str, where: str) -> str:
    """A member that must be a text. Raises Refusal."""
    value = holder.get(name)
    if not isinstance(value, str):
        raise Refusal("invalid_request", f"`{name}` must be a text.", param=f"{where}.{name}")
    return value


def _text(block: Given, where: str) -> list[Part]:
    return [{"type": "text", "text": text_of(block, "text", where)}]


def _image(block: Given, where: str) -> list[Part]:
    source = _source(block, where)
    kind = source.get("type")
    if kind == "base64":
        media, data = text_of(source, "media_type", f"{where}.source"), text_of(source, "data", f"{where}.source")
        return [{"type": "image_url", "image_url": {"url": f"data:{media};base64,{data}"}}]
    if kind == "url":
        return [{"type": "image_url", "image_url": {"url": text_of(source, "url", f"{where}.source")}}]
    raise Refusal("invalid_request", "This source of an image cannot be said to other models.", param=f"{where}.source.type")


def _document(block: Given, where: str) -> list[Part]:
    source, place = _source(block, where), f"{where}.source"
    kind = source.get("type")
    if kind == "content":
        return [*_context(block), *_inner(source.get("content"), f"{place}.content")]
    if kind == "base64":
        file = {"file_data": f"data:{text_of(source, 'media_type', place)};base64,{text_of(source, 'data', place)}"}
    elif kind == "text":
        encoded = base64.b64encode(text_of(source, "data", place).encode("utf-8", "replace")).decode()
        file = {"file_data": f"data:text/plain;base64,{encoded}"}
    elif kind == "url":
        file = {"file_url": text_of(source, "url", place)}
    elif kind == "file":
        file = {"file_id": text_of(source, "file_id", place)}
    else:
        raise Refusal("invalid_request", "This source of a document is not known.", param=f"{place}.type")
    if isinstance(title := block.get("title"), str) and title:
        file["filename"] = title
    return [*_context(block), {"type": "file", "file": file}]


def _context(block: Given) -> list[Part]:
    context = block.get("context")
    return [{"type": "text", "text": context}] if isinstance(context, str) and context else []


def _inner(content: object, where: str) -> list[Part]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    parts: list[Part] = []
    for block, place in blocks(content, where):
        if block["type"] not in ("text", "image"):
            raise Refusal("invalid_request", "Only texts and images can stand here.", param=f"{place}.type")
        parts += parts_of(block, place)
    return parts


def _search_result(block: Given, where: str) -> list[Part]:
    title, source = text_of(block, "title", where), text_of(block, "source", where)
    found = [text_of(each, "text", place) for each, place in blocks(block.get("content"), f"{where}.content")]
    return [{"type": "text", "text": "\n".join([title, source, *found])}]


def _source(block: Given, where: str) -> Given:
    source = block.get("source")
    if not isinstance(source, dict):
        raise Refusal("invalid_request", "`source` must be an object.", param=f"{where}.source")
    return source


_BLOCKS: Final[Mapping[str, Callable[[Given, str], list[Part]]]] = MappingProxyType(
    {"text": _text, "image": _image, "document": _document, "search_result": _search_result}
)
