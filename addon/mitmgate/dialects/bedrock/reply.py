"""Converse's reply as a chat.completion.

Source: botocore's model of bedrock-runtime, shapes ConverseResponse, Message, ContentBlock, StopReason, TokenUsage,
PromptRouterTrace; Amazon Bedrock User Guide, "Prompt caching", for what inputTokens leaves out.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from mitmgate.dialects.canonical import completion, count, usage
from mitmgate.dialects.codec import Ask, Garbled

FINISH: Final = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "model_context_window_exceeded": "length",
    "tool_use": "tool_calls", "content_filtered": "content_filter", "guardrail_intervened": "content_filter",
}  # fmt: skip
MALFORMED: Final = frozenset({"malformed_model_output", "malformed_tool_use"})
"""Reasons that are failures: what the model wrote could not be read, so no answer may be made of it."""


def completion_of_reply(document: Mapping[str, Any], ask: Ask) -> dict[str, Any]:
    """The reply, whole. Raises Garbled."""
    output = document.get("output")
    message = output.get("message") if isinstance(output, dict) else None
    blocks = message.get("content") if isinstance(message, dict) else None
    reason = document.get("stopReason")
    if not isinstance(blocks, list) or not isinstance(reason, str):
        raise Garbled("the reply lacks its message or its stop reason")
    if reason in MALFORMED:
        raise Garbled("the model's output was malformed")
    said = _Said()
    for block in blocks:
        if not isinstance(block, dict):
            raise Garbled("a content block is not an object")
        said.read(block)
    tokens = document.get("usage")
    return completion(
        id=f"chatcmpl-{ask.id}", created=ask.created, model=served_model(document) or ask.model, message=said.message(),
        finish=finish_of(reason, called=bool(said.calls)), usage=usage_of(tokens) if isinstance(tokens, dict) else None,
    )  # fmt: skip


def finish_of(reason: str, *, called: bool) -> str:
    """Some models end their turn with a call and do not say so; a reason that is new is an end."""
    finish = FINISH.get(reason, "stop")
    return "tool_calls" if called and finish == "stop" else finish


def usage_of(tokens: Mapping[str, Any]) -> dict[str, Any]:
    """inputTokens counts neither what was read from the cache nor what was written to it."""
    read, written = count(tokens.get("cacheReadInputTokens")), count(tokens.get("cacheWriteInputTokens"))
    prompt = count(tokens.get("inputTokens")) + read + written
    return usage(prompt, count(tokens.get("outputTokens")), cached=read, written=written)


def served_model(document: Mapping[str, Any]) -> str | None:
    """The model that a prompt router chose; else a reply does not say whose it is."""
    found: Any = document
    for name in ("trace", "promptRouter", "invokedModelId"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) and found else None


def signed(text: str, signature: str) -> dict[str, Any]:
    """Reasoning that its model will know again."""
    return {"type": "thinking", "thinking": text, "signature": signature}


def redacted(data: str) -> dict[str, Any]:
    """Reasoning that only its model can read; base64, as it came."""
    return {"type": "redacted_thinking", "data": data}


class _Said:
    """What the blocks of one message come to. Blocks of other kinds, and those of tools that Bedrock itself runs, are not
    the client's business."""

    __slots__ = ("calls", "_texts", "_thoughts", "_blocks")  # noqa: RUF023

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._blocks: list[dict[str, Any]] = []

    def read(self, block: Mapping[str, Any]) -> None:
        """Raises Garbled."""
        if "text" in block:
            self._texts.append(_text(block, "text"))
        elif "toolUse" in block:
            self._tool_use(block["toolUse"])
        elif "reasoningContent" in block:
            self._reasoning(block["reasoningContent"])
        elif "citationsContent" in block:
            self._citations(block["citationsContent"])

    def message(self) -> dict[str, Any]:
        """The assistant's message."""
        text = "".join(self._texts)
        message: dict[str, Any] = {"role": "assistant", "content": text if text or not self.calls else None, "refusal": None}
        if self._thoughts:
            message["reasoning_content"] = "".join(self._thoughts)
        if self._blocks:
            message["thinking_blocks"] = self._blocks
        if self.calls:
            message["tool_calls"] = self.calls
        return message

    def _tool_use(self, use: object) -> None:
        if not isinstance(use, dict):
            raise Garbled("a tool use is not an object")
        if use.get("type") == "server_tool_use":
            return
        try:
            arguments = orjson.dumps(use.get("input") or {}).decode()
        except TypeError:
            raise Garbled("a tool use's input cannot be written") from None
        function = {"name": _text(use, "name"), "arguments": arguments}
        self.calls.append({"id": _text(use, "toolUseId"), "type": "function", "function": function})

    def _reasoning(self, reasoning: object) -> None:
        if not isinstance(reasoning, dict):
            raise Garbled("reasoning is not an object")
        if "redactedContent" in reasoning:
            self._blocks.append(redacted(_text(reasoning, "redactedContent")))
        elif isinstance(thought := reasoning.get("reasoningText"), dict):
            text, signature = _text(thought, "text"), thought.get("signature")
            self._thoughts.append(text)
            if isinstance(signature, str) and signature:
                self._blocks.append(signed(text, signature))

    def _citations(self, cited: object) -> None:
        """The text that sources support; Converse's citations have no place in a chat completion."""
        parts = cited.get("content") if isinstance(cited, dict) else None
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict) and "text" in part:
                self._texts.append(_text(part, "text"))


def _text(holder: Mapping[str, Any], name: str) -> str:
    text = holder.get(name)
    if not isinstance(text, str):
        raise Garbled(f"`{name}` is not a text")
    return text
