"""Anthropic's whole replies as chat.completion objects.

Source: anthropic.types.Message and ContentBlock. Blocks of a type that is not known are left out: the API's versioning policy
allows new ones.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from mitmgate.dialects.anthropic.formats import json_tool
from mitmgate.dialects.anthropic.usage import Tokens
from mitmgate.dialects.anthropic.words import FINISH_OF, dumped
from mitmgate.dialects.canonical import completion
from mitmgate.dialects.codec import Ask, Document, Garbled


@dataclass(slots=True)
class _Message:
    """What the blocks add up to."""

    answer: str | None                      # the tool whose input is the answer
    texts: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    thoughts: list[dict[str, Any]] = field(default_factory=list)
    answered: bool = False

    def document(self, refusal: str | None) -> dict[str, Any]:
        """The message as OpenAI has it."""
        content = None if self.calls and not self.texts else "".join(self.texts)
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if refusal:
            message["refusal"] = refusal
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if self.thoughts:
            message["thinking_blocks"] = self.thoughts
        if self.calls:
            message["tool_calls"] = self.calls
        return message


def reply(document: Document, ask: Ask) -> dict[str, Any]:
    """A chat.completion object. Raises Garbled."""
    blocks, stop = document.get("content"), document.get("stop_reason")
    if not isinstance(blocks, list):
        raise Garbled("The provider's message has no list of content.")
    if not isinstance(stop, str):
        raise Garbled("The provider's message has no reason for its end.")
    message = _Message(json_tool(ask))
    for block in blocks:
        kind = block.get("type") if isinstance(block, dict) else None
        if not isinstance(kind, str):
            raise Garbled("The provider's message holds what is no block.")
        if kind in _BLOCKS:
            _BLOCKS[kind](block, message)
    tokens = Tokens()
    tokens.note(document.get("usage"))
    id, model = document.get("id"), document.get("model")
    return completion(
        id=id if isinstance(id, str) and id else f"chatcmpl-{ask.id}", created=ask.created,
        model=model if isinstance(model, str) and model else ask.model,
        message=message.document(refusal_of(document)),
        finish=finish_of(stop, answered=message.answered and not message.calls),
        usage=tokens.usage if isinstance(document.get("usage"), dict) else None,
    )  # fmt: skip


def finish_of(stop: str, *, answered: bool) -> str:
    """OpenAI's finish reason. `answered`: the only tool that was called was the answer itself."""
    finish = FINISH_OF.get(stop, "stop")
    return "stop" if answered and finish == "tool_calls" else finish


def refusal_of(document: Document) -> str | None:
    """Why the provider's classifiers stopped the model, if they say."""
    details = document.get("stop_details")
    explanation = details.get("explanation") if isinstance(details, dict) else None
    return explanation if isinstance(explanation, str) else None


def _text(block: Document, message: _Message) -> None:
    message.texts.append(_string(block, "text"))


def _tool_use(block: Document, message: _Message) -> None:
    id, name, given = _string(block, "id"), _string(block, "name"), block.get("input")
    if not isinstance(given, dict):
        raise Garbled("The provider's tool call has no object for its input.")
    try:
        arguments = dumped(given)
    except ValueError:
        raise Garbled("The provider's tool call has an input that is no JSON.") from None
    if name == message.answer:
        message.texts.append(arguments)
        message.answered = True
    else:
        message.calls.append({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})


def _thinking(block: Document, message: _Message) -> None:
    thinking, signature = _string(block, "thinking"), block.get("signature")
    if thinking:
        message.reasoning.append(thinking)
    if isinstance(signature, str) and signature:
        message.thoughts.append({"type": "thinking", "thinking": thinking, "signature": signature})


def _redacted(block: Document, message: _Message) -> None:
    message.thoughts.append({"type": "redacted_thinking", "data": _string(block, "data")})


def _string(block: Document, name: str) -> str:
    value = block.get(name)
    if not isinstance(value, str):
        raise Garbled(f"A block of the provider's message has no `{name}`.")
    return value


_BLOCKS: Final[Mapping[str, Callable[[Document, _Message], None]]] = MappingProxyType(
    {"text": _text, "tool_use": _tool_use, "thinking": _thinking, "redacted_thinking": _redacted}
)
