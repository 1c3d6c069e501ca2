"""A chat's messages as Converse's: system blocks aside, neighbours of one role joined, each part a block.

Source: botocore's model of bedrock-runtime (service-2.json), shapes Message, ContentBlock, SystemContentBlock, ImageBlock,
DocumentBlock, AudioBlock, ToolUseBlock, ToolResultBlock, ReasoningContentBlock, CachePointBlock. Blobs are base64 in JSON.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from mitmgate.dialects.bedrock.models import Maker, Traits
from mitmgate.dialects.canonical import arguments_of, embedded, messages_of, parts_of
from mitmgate.errors import Refusal

type Block = dict[str, Any]

_IMAGES: Final = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_DOCUMENTS: Final = {
    "application/pdf": "pdf", "text/csv": "csv", "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html", "text/plain": "txt", "text/markdown": "md",
}  # fmt: skip
_EXTENSIONS: Final = frozenset(_DOCUMENTS.values())
_SOUNDS: Final = ("mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "m4a", "pcm", "webm")
_ID: Final = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_NOT_IN_A_NAME: Final = re.compile(r"[^0-9A-Za-z\-()\[\]]+")
_LONGEST_NAME: Final = 180                  # of a document; Converse takes 200, and a number may follow


class Contents:
    """Writes the messages of one request. `dropped`: what of them could not be told."""

    def __init__(self, document: Mapping[str, Any], model: Traits) -> None:
        """Raises Refusal."""
        self.system: list[Block] = []
        self.messages: list[Block] = []
        self.tools: dict[str, None] = {}    # names of the tools that were called, in order
        self.dropped: set[str] = set()
        self._model = model
        self._calls: set[str] = set()
        self._titles: dict[str, int] = {}
        for index, message in enumerate(_messages(document)):
            _TURNS[message["role"]](self, message, f"messages[{index}]")
        if not self.messages:
            raise Refusal("invalid_request", "`messages` must hold something that is not blank.", param="messages")

    def add(self, role: str, blocks: list[Block]) -> None:
        """Say something; the same speaker's words belong to one message."""
        if not blocks:
            return
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += blocks
        else:
            self.messages.append({"role": role, "content": blocks})

    def blocks(self, message: Mapping[str, Any], param: str) -> list[Block]:
        """A message's parts, and the cache points that are wanted after them."""
        content = message.get("content")
        if isinstance(content, str):
            found = text_block(content)
        else:
            found = []
            for index, part in enumerate(parts_of(content, f"{param}.content")):
                found += self.block(part, f"{param}.content[{index}]")
                if "cache_control" in part:
                    self.cache_point(part, found)
        if "cache_control" in message:
            self.cache_point(message, found)
        if message.get("name") is not None:
            self.dropped.add("name")
        return found

    def block(self, part: Mapping[str, Any], param: str) -> list[Block]:
        """One part; nothing for a blank text."""
        kind = part["type"]
        if kind == "text":
            return text_block(_text(part, "text", param))
        if kind == "refusal":
            return text_block(_text(part, "refusal", param))
        write = _PARTS.get(kind)
        if write is None:
            raise Refusal("capability_missing", "Bedrock cannot be told this kind of part.", param=param)
        return [write(self, part, param)]

    def cache_point(self, holder: Mapping[str, Any], blocks: list[Block]) -> None:
        """After what has `cache_control`, if there is anything before it."""
        wanted = holder.get("cache_control")
        if wanted is None or not blocks or "cachePoint" in blocks[-1]:
            return
        if self._model.caches:
            blocks.append(cache_point(wanted))
        else:
            self.dropped.add("cache_control")

    def _instruct(self, message: Mapping[str, Any], param: str) -> None:
        """Wherever it stands, it becomes part of the system prompt; it holds text only."""
        blocks = self.blocks(message, param)
        if any("text" not in block and "cachePoint" not in block for block in blocks):
            raise Refusal("invalid_request", "Only text can stand here.", param=f"{param}.content")
        self.system += blocks

    def _user(self, message: Mapping[str, Any], param: str) -> None:
        self.add("user", self.blocks(message, param))

    def _assistant(self, message: Mapping[str, Any], param: str) -> None:
        if message.get("function_call"):
            raise Refusal("capability_missing", "Functions must be given as tools.", param=f"{param}.function_call")
        blocks = self._thoughts(message) + self.blocks(message, param)
        refusal = message.get("refusal")
        if isinstance(refusal, str):
            blocks += text_block(refusal)
        calls = message.get("tool_calls")
        if calls is not None:
            blocks += self._tool_calls(calls, f"{param}.tool_calls")
        self.add("assistant", blocks)

    def _thoughts(self, message: Mapping[str, Any]) -> list[Block]:
        """Signed reasoning goes back to the model that signed it; another's would be refused."""
        blocks = message.get("thinking_blocks")
        if not isinstance(blocks, list) or self._model.maker is not Maker.ANTHROPIC:
            return []
        return [thought for block in blocks if isinstance(block, dict) and (thought := _thought(block)) is not None]

    def _tool_calls(self, calls: object, param: str) -> list[Block]:
        if not isinstance(calls, list):
            raise Refusal("invalid_request", "`tool_calls` must be an array.", param=param)
        return [self._tool_call(call, f"{param}[{index}]") for index, call in enumerate(calls)]

    def _tool_call(self, call: object, param: str) -> Block:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(function, dict):
            raise Refusal("invalid_request", "A tool call must be an object with a `function`.", param=param)
        id, name = _text(call, "id", param), _text(function, "name", param)
        self._calls.add(id)
        self.tools[name] = None
        arguments = arguments_of(function.get("arguments"), f"{param}.function.arguments")
        return {"toolUse": {"toolUseId": tool_id(id), "name": name, "input": arguments}}

    def _tool_result(self, message: Mapping[str, Any], param: str) -> None:
        id = _text(message, "tool_call_id", param)
        if id not in self._calls:
            raise Refusal("invalid_request", "No tool call before this has that `tool_call_id`.", param=f"{param}.tool_call_id")
        blocks = self.blocks({"content": message.get("content")}, param)
        if any("audio" in block for block in blocks):
            raise Refusal("capability_missing", "A tool result on Bedrock cannot hold audio.", param=f"{param}.content")
        points = [block for block in blocks if "cachePoint" in block]
        result = [block for block in blocks if "cachePoint" not in block]
        blocks = [{"toolResult": {"toolUseId": tool_id(id), "content": result}}, *points[:1]]
        self.cache_point(message, blocks)
        self.add("user", blocks)

    def _function_result(self, message: Mapping[str, Any], param: str) -> None:
        raise Refusal("capability_missing", "Results of functions must be given as results of tools.", param=param)

    def _image(self, part: Mapping[str, Any], param: str) -> Block:
        source = part.get("image_url")
        url = source.get("url") if isinstance(source, dict) else source
        if not isinstance(url, str):
            raise Refusal("invalid_request", "`image_url` must have a `url`.", param=param)
        if isinstance(source, dict) and source.get("detail") not in (None, "auto"):
            self.dropped.add("detail")
        found = embedded(url, param)
        if found is None:
            raise Refusal("capability_missing", "Bedrock takes an image's bytes, not its URL.", param=param)
        if found.media not in _IMAGES:
            raise Refusal("capability_missing", "Bedrock takes PNG, JPEG, GIF and WebP images.", param=param)
        return {"image": {"format": _IMAGES[found.media], "source": {"bytes": found.encoded}}}

    def _document(self, part: Mapping[str, Any], param: str) -> Block:
        file = part.get("file")
        if not isinstance(file, dict):
            raise Refusal("invalid_request", "`file` must be an object.", param=param)
        content = file.get("file_data")
        if content is None and (file.get("file_url") is not None or file.get("file_id") is not None):
            raise Refusal("capability_missing", "Bedrock takes a file's bytes, neither its URL nor its id.", param=param)
        if not isinstance(content, str):
            raise Refusal("invalid_request", "`file` must have its `file_data`.", param=param)
        name = file.get("filename")
        stem, _, extension = name.rpartition(".") if isinstance(name, str) else ("", "", "")
        found = embedded(content, param) or embedded(f"data:;base64,{content}", param)
        kind = _DOCUMENTS.get(found.media if found else "") or extension.lower()
        if kind not in _EXTENSIONS or found is None:
            kinds = ", ".join(_DOCUMENTS.values())
            raise Refusal("capability_missing", f"Bedrock takes these documents: {kinds}.", param=param)
        return {"document": {"format": kind, "name": self._title(stem or extension), "source": {"bytes": found.encoded}}}

    def _title(self, name: str) -> str:
        """Only what a document's name may hold, and no name twice in one request."""
        title = _NOT_IN_A_NAME.sub(" ", name).strip()[:_LONGEST_NAME].strip() or "document"
        number = self._titles.get(title, 0) + 1
        unique = title if number == 1 else f"{title} ({number})"
        while unique in self._titles:
            number += 1
            unique = f"{title} ({number})"
        self._titles[unique] = 1
        self._titles[title] = number
        return unique

    def _audio(self, part: Mapping[str, Any], param: str) -> Block:
        sound = part.get("input_audio")
        if not isinstance(sound, dict):
            raise Refusal("invalid_request", "`input_audio` must be an object.", param=param)
        if self._model.maker is Maker.ANTHROPIC or sound.get("format") not in _SOUNDS:
            raise Refusal("capability_missing", "This model cannot be given this audio.", param=param)
        found = embedded(f"data:;base64,{_text(sound, 'data', param)}", param)
        return {"audio": {"format": sound["format"], "source": {"bytes": found.encoded if found else ""}}}


_TURNS: Final = {
    "system": Contents._instruct,
    "developer": Contents._instruct,
    "user": Contents._user,
    "assistant": Contents._assistant,
    "tool": Contents._tool_result,
    "function": Contents._function_result,
}
_PARTS: Final = {"image_url": Contents._image, "file": Contents._document, "input_audio": Contents._audio}


def text_block(text: str) -> list[Block]:
    """A text; nothing for a blank one, which Converse refuses ("The text field in the ContentBlock object is blank")."""
    return [{"text": text}] if text and not text.isspace() else []


def cache_point(wanted: object) -> Block:
    """What Anthropic's `cache_control` is here."""
    life = wanted.get("ttl") if isinstance(wanted, dict) else None
    return {"cachePoint": {"type": "default", "ttl": life} if life in ("5m", "1h") else {"type": "default"}}


def tool_id(id: str) -> str:
    """The id itself if it may be a ToolUseId; else one that always stands for it."""
    return id if _ID.fullmatch(id) else f"call_{sha256(id.encode(errors='replace')).hexdigest()[:40]}"


def _messages(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    try:
        return messages_of(document)
    except TypeError:                       # a role that cannot be hashed
        raise Refusal("invalid_request", "Each message must have a known `role`.", param="messages") from None


def _text(holder: Mapping[str, Any], name: str, param: str) -> str:
    """A member that must be a text and, unless it is the content itself, not an empty one."""
    text = holder.get(name)
    if not isinstance(text, str) or not (text or name in ("text", "refusal")):
        raise Refusal("invalid_request", f"`{name}` must be a text.", param=f"{param}.{name}")
    return text


def _thought(block: Mapping[str, Any]) -> Block | None:
    """A thinking block as the model gave it; None for what Converse would not take back: no signature, no base64."""
    text, signature, data = block.get("thinking"), block.get("signature"), block.get("data")
    if block.get("type") == "thinking" and isinstance(text, str) and isinstance(signature, str) and signature:
        return {"reasoningContent": {"reasoningText": {"text": text, "signature": signature}}}
    if block.get("type") == "redacted_thinking" and isinstance(data, str) and data:
        try:
            base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            return None
        return {"reasoningContent": {"redactedContent": data}}
    return None
