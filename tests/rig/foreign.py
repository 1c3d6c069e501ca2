"""Scripted providers that speak Anthropic's and Gemini's dialects, as their API references show it."""

import json
from collections.abc import Sequence
from typing import Any

from rig.behaviours import EVENTS, Behaviour, Reply, answer

TEXT = "Bonjour, monde"
CALL = ("get_weather", {"city": "Paris"})


def _typed(*events: dict[str, Any]) -> list[bytes]:
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]


def _either(whole: dict[str, Any], events: Sequence[bytes], streams: str) -> Behaviour:
    """A reply, or its events where `streams` stands in the path or the body says `stream`."""

    async def behave(reply: Reply) -> None:
        if reply.request.json().get("stream") is True or (streams and streams in reply.request.path):
            await reply.head(200, EVENTS)
            for event in events:
                await reply.send(event)
            await reply.end()
        else:
            await answer(whole)(reply)

    return behave


def anthropic(*, call: bool = False, cut: int | None = None) -> Behaviour:
    """A message with the text, or with a call of the tool. `cut`: the stream ends after so many events."""
    block: dict[str, Any] = {"type": "text", "text": TEXT}
    begun: dict[str, Any] = {"type": "text", "text": ""}
    deltas: list[dict[str, Any]] = [{"type": "text_delta", "text": TEXT[:5]}, {"type": "text_delta", "text": TEXT[5:]}]
    if call:
        name, given = CALL
        block = {"type": "tool_use", "id": "toolu_1", "name": name, "input": given}
        begun = {**block, "input": {}}
        text = json.dumps(given)
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", text[:4], text[4:])]
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-served", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": {"input_tokens": 11, "output_tokens": 1},
    }  # fmt: skip
    reason = "tool_use" if call else "end_turn"
    whole = {**message, "content": [block], "stop_reason": reason, "usage": {"input_tokens": 11, "output_tokens": 7}}
    events = _typed(
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": begun},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    )
    return _either(whole, events[:cut], "")


def gemini(*, call: bool = False, cut: int | None = None) -> Behaviour:
    """A candidate with the text, or with a call of the tool."""
    used = {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18}

    def response(parts: list[dict[str, Any]], finish: str | None) -> dict[str, Any]:
        candidate = {"content": {"role": "model", "parts": parts}, "index": 0} | ({"finishReason": finish} if finish else {})
        return {"candidates": [candidate], "usageMetadata": used, "modelVersion": "gemini-served", "responseId": "r1"}

    if call:
        name, given = CALL
        parts = [{"functionCall": {"name": name, "args": given}}]
        pieces = [response(parts, "STOP")]
    else:
        parts = [{"text": TEXT}]
        pieces = [response([{"text": TEXT[:5]}], None), response([{"text": TEXT[5:]}], "STOP")]
    events = [b"data: " + json.dumps(piece).encode() + b"\r\n\r\n" for piece in pieces]
    return _either(response(parts, "STOP"), events[:cut], "streamGenerateContent")


def openai(*, call: bool = False, cut: int | None = None) -> Behaviour:
    """A chat completion with the text, or with a call of the tool."""
    name, given = CALL
    text = json.dumps(given)
    function = {"name": name, "arguments": text}
    message: dict[str, Any] = {"role": "assistant", "content": TEXT}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, {"content": TEXT[:5]}, {"content": TEXT[5:]}]
    if call:
        calls = [{"id": "call_1", "type": "function", "function": function}]
        message = {"role": "assistant", "content": None, "tool_calls": calls}
        head = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
        pieces = [{"index": 0, "function": {"arguments": piece}} for piece in (text[:4], text[4:])]
        deltas = [{"role": "assistant", "content": None}, *({"tool_calls": [each]} for each in (head, *pieces))]
    reason = "tool_calls" if call else "stop"
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    base = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": "gpt-served"}
    whole = {**base, "object": "chat.completion", "usage": usage,
             "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}]}  # fmt: skip
    chunks = [{**base, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
              for delta in deltas]  # fmt: skip
    chunks.append({**base, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    chunks.append({**base, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    events = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    return _either(whole, [*events, b"data: [DONE]\n\n"][:cut], "")
