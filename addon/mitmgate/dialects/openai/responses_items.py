"""The input of a Responses request as messages.

A turn of the model is several items there (reasoning, messages, calls) and one assistant message here: the calls of a turn must
stand together, before their outputs. Left out, because they only address an item or hint how it came about: `id`, `status`,
`phase` (of an assistant's message), `detail` of a file, annotations and log probabilities of earlier answers. Left out as well:
reasoning that another provider encrypted for itself, which no one else can read.

Source: openai.types.responses.ResponseInputItemParam and the types that it names.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from mitmgate.dialects.openai.responses_sealed import unsealed
from mitmgate.errors import Refusal

type Item = Mapping[str, Any]
type Message = dict[str, Any]

_ROLES: Final = frozenset({"user", "system", "developer"})
_MARKS: Final = ("cache_control", "prompt_cache_breakpoint")
_OF_HOSTED_TOOLS: Final = frozenset(
    {
        "additional_tools", "apply_patch_call", "apply_patch_call_output", "code_interpreter_call", "compaction",
        "compaction_trigger", "computer_call", "computer_call_output", "configuration_update", "custom_tool_call",
        "custom_tool_call_output", "file_search_call", "image_generation_call", "local_shell_call", "local_shell_call_output",
        "mcp_approval_request", "mcp_approval_response", "mcp_call", "mcp_list_tools", "program", "program_output",
        "shell_call", "shell_call_output", "tool_search_call", "tool_search_output", "web_search_call",
    }
)  # fmt: skip
"""Items of tools that run at OpenAI or are of another kind than functions: no chat completion can hold them."""


def messages_of(items: list[Any]) -> list[Message]:
    """The messages. Raises Refusal."""
    transcript = _Transcript()
    for index, item in enumerate(items):
        param = f"input[{index}]"
        if not isinstance(item, dict):
            raise Refusal("invalid_request", "Each item of `input` must be an object.", param=param)
        transcript.add(_kind(item, param), item, param)
    return transcript.messages()


def _kind(item: Item, param: str) -> str:
    """The item's type, which messages and references may leave out."""
    kind = item.get("type")
    if kind is None:
        kind = "message" if "role" in item else "item_reference" if "id" in item else None
    if kind == "item_reference":
        raise Refusal(
            "invalid_request",
            "Nothing is stored here that could be referred to: send the item itself (most clients do with `store: false`).",
            param=param,
        )
    if not isinstance(kind, str):
        raise Refusal("invalid_request", "Each item of `input` must have a `type`, or a `role`.", param=param)
    return kind


class _Turn:
    """What the model said between two of the others' items."""

    __slots__ = ("blocks", "calls", "parts", "reasoning", "refusals")

    def __init__(self) -> None:
        self.reasoning: list[str] = []
        self.blocks: list[dict[str, Any]] = []
        self.parts: list[dict[str, Any]] = []
        self.refusals: list[str] = []
        self.calls: list[dict[str, Any]] = []

    @property
    def answered(self) -> bool:
        """It has its text and no call: what follows is another message of the model's."""
        return bool(self.parts or self.refusals) and not self.calls

    def message(self) -> Message | None:
        """Nothing if all there was is another provider's private reasoning."""
        if not (self.parts or self.refusals or self.calls or self.reasoning or self.blocks):
            return None
        message: Message = {"role": "assistant", "content": _content(self.parts)}
        if not self.parts and (self.calls or self.refusals):
            message["content"] = None
        if self.refusals:
            message["refusal"] = "".join(self.refusals)
        if self.reasoning:
            message["reasoning_content"] = "\n\n".join(self.reasoning)
        if self.blocks:
            message["thinking_blocks"] = self.blocks
        if self.calls:
            message["tool_calls"] = self.calls
        return message


class _Transcript:
    """The messages so far, and the model's turn that may go on."""

    __slots__ = ("_called", "_messages", "_turn")

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._turn = _Turn()
        self._called: set[str] = set()

    def add(self, kind: str, item: Item, param: str) -> None:
        """One item. Raises Refusal."""
        add = _ITEMS.get(kind)
        if add is not None:
            add(self, item, param)
        elif kind in _OF_HOSTED_TOOLS:
            raise Refusal("capability_missing", f"Items of type `{kind}` need OpenAI's own tools or state.", param=param)
        else:
            raise Refusal("invalid_request", "This is no item of the Responses API.", param=f"{param}.type")

    def messages(self) -> list[Message]:
        """All of them."""
        self._end_turn()
        return self._messages

    def message(self, item: Item, param: str) -> None:
        """A message of whichever role."""
        role, content = item.get("role"), item.get("content")
        if role == "assistant":
            self._answer(content, f"{param}.content")
            return
        if not isinstance(role, str) or role not in _ROLES:
            raise Refusal("invalid_request", "The `role` is none that a message may have.", param=f"{param}.role")
        self._end_turn()
        message = {"role": role, "content": _content(_parts(content, f"{param}.content", _INPUT))}
        if (mark := item.get("cache_control")) is not None:
            message["cache_control"] = mark
        self._messages.append(message)

    def _answer(self, content: object, param: str) -> None:
        turn = self._next_turn()
        for part in _parts(content, param, _OUTPUT):
            if part["type"] == "refusal":
                turn.refusals.append(part["refusal"])
            else:
                turn.parts.append(part)

    def reasoning(self, item: Item, param: str) -> None:
        """Its summary, or where there is none its text; and thinking blocks if we sealed them."""
        texts = _texts(item.get("summary"), f"{param}.summary") or _texts(item.get("content"), f"{param}.content")
        blocks = unsealed(item.get("encrypted_content"), f"{param}.encrypted_content")
        turn = self._next_turn()
        turn.reasoning += texts
        turn.blocks += blocks

    def call(self, item: Item, param: str) -> None:
        """A call of a function."""
        id, name = _text(item, "call_id", param), _text(item, "name", param)
        if item.get("namespace") is not None:
            raise Refusal("capability_missing", "Functions in namespaces are OpenAI's own.", param=f"{param}.namespace")
        call = {"id": id, "type": "function", "function": {"name": name, "arguments": _text(item, "arguments", param)}}
        if isinstance(extra := item.get("extra_content"), dict):
            call["extra_content"] = extra
        self._turn.calls.append(call)
        self._called.add(id)

    def output(self, item: Item, param: str) -> None:
        """What a function gave."""
        id = _text(item, "call_id", param)
        if id not in self._called:
            raise Refusal("invalid_request", "There is no call before it with this `call_id`.", param=f"{param}.call_id")
        self._end_turn()
        content = _content(_parts(item.get("output"), f"{param}.output", _INPUT))
        self._messages.append({"role": "tool", "tool_call_id": id, "content": content})

    def _next_turn(self) -> _Turn:
        if self._turn.answered:
            self._end_turn()
        return self._turn

    def _end_turn(self) -> None:
        if (message := self._turn.message()) is not None:
            self._messages.append(message)
            self._turn = _Turn()


_ITEMS: Final[Mapping[str, Callable[[_Transcript, Item, str], None]]] = {
    "message": _Transcript.message,
    "reasoning": _Transcript.reasoning,
    "function_call": _Transcript.call,
    "function_call_output": _Transcript.output,
}


def _content(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """One unmarked text as such, which every provider takes."""
    if not parts:
        return ""
    first = parts[0]
    return first["text"] if len(parts) == 1 and first["type"] == "text" and len(first) == 2 else parts


def _texts(parts: object, param: str) -> list[str]:
    """The texts of a reasoning item's summary or content."""
    if parts is None:
        return []
    if not isinstance(parts, list):
        raise Refusal("invalid_request", "This must be an array of texts.", param=param)
    for index, part in enumerate(parts):
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            raise Refusal("invalid_request", "Each part must have its `text`.", param=f"{param}[{index}]")
    return [part["text"] for part in parts]


def _text(item: Item, name: str, param: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise Refusal("invalid_request", f"`{name}` must be a text.", param=f"{param}.{name}")
    return value


type Parts = Mapping[str, Callable[[Item, str], dict[str, Any]]]


def _parts(content: object, param: str, known: Parts) -> list[dict[str, Any]]:
    """The canonical parts of a content. Raises Refusal for parts that may not stand there."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise Refusal("invalid_request", "This must be a text or an array of parts.", param=param)
    parts = []
    for index, part in enumerate(content):
        place = f"{param}[{index}]"
        kind = part.get("type") if isinstance(part, dict) else None
        read = known.get(kind) if isinstance(kind, str) else None
        if read is None:
            raise Refusal("invalid_request", "This part is of no type that may stand here.", param=f"{place}.type")
        made = read(part, place)
        parts.append(made | {mark: part[mark] for mark in _MARKS if part.get(mark) is not None} if len(part) > 2 else made)
    return parts


def _text_part(part: Item, param: str) -> dict[str, Any]:
    return {"type": "text", "text": _text(part, "text", param)}


def _refusal_part(part: Item, param: str) -> dict[str, Any]:
    return {"type": "refusal", "refusal": _text(part, "refusal", param)}


def _image(part: Item, param: str) -> dict[str, Any]:
    if part.get("file_id") is not None:
        raise Refusal("capability_missing", "Send the image or its URL: the file lies elsewhere.", param=f"{param}.file_id")
    image = {"url": _text(part, "image_url", param)}
    if part.get("detail") is not None:
        image["detail"] = _text(part, "detail", param)
    return {"type": "image_url", "image_url": image}


def _file(part: Item, param: str) -> dict[str, Any]:
    names = [name for name in ("file_data", "file_id", "file_url", "filename") if part.get(name) is not None]
    if not names or names == ["filename"]:
        raise Refusal("invalid_request", "A file needs its `file_data`, `file_id` or `file_url`.", param=param)
    return {"type": "file", "file": {name: _text(part, name, param) for name in names}}


def _audio(part: Item, param: str) -> dict[str, Any]:
    audio = part.get("input_audio")
    if not isinstance(audio, dict):
        raise Refusal("invalid_request", "`input_audio` must be an object.", param=f"{param}.input_audio")
    place = f"{param}.input_audio"
    return {"type": "input_audio", "input_audio": {name: _text(audio, name, place) for name in ("data", "format")}}


_INPUT: Final[Parts] = {"input_text": _text_part, "input_image": _image, "input_file": _file, "input_audio": _audio}
_OUTPUT: Final[Parts] = {"output_text": _text_part, "input_text": _text_part, "refusal": _refusal_part}
