"""The Responses API, whole and streamed: text and JSON answers (OpenAI API reference, "Responses", "Streaming events").

Tools are not called here, and `previous_response_id` is not looked up: the answer follows from this request alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count as numbers
from typing import Any, Final

import orjson

from mitmgate.simulator.answers import (
    CREATED,
    DEFAULT_MODEL,
    Answer,
    Streamed,
    Whole,
    complete,
    count,
    error_of,
    seed_of,
)
from mitmgate.simulator.asked import BadRequest, Document, Message, flag, messages, record, text_field, text_of, whole
from mitmgate.simulator.chat import answer_text

_BEFORE: Final = 4  # events before the first content


def responses(document: Document, events: int | None) -> Answer:
    """POST /v1/responses."""
    model = text_field(document, "model", DEFAULT_MODEL)
    conversation = _conversation(document.get("input"))
    instructions = document.get("instructions")
    if instructions is not None and not isinstance(instructions, str):
        raise BadRequest("'instructions' must be a string.", param="instructions")
    most, stream = whole(document, "max_output_tokens"), flag(document, "stream")
    seed = seed_of("responses", model, conversation)
    text = record(document, "text") or {}
    form = record(text, "format")
    answer = complete(answer_text(form, "text.format", model, conversation, seed, 0, events), (), most)
    asked = count(instructions or "") + sum(count(message.text) for message in conversation)
    incomplete = answer.finish == "length"
    part = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
    item = {
        "id": f"msg_{seed.hex()[:48]}",
        "type": "message",
        "status": "incomplete" if incomplete else "completed",
        "role": "assistant",
        "content": [part],
    }
    response = _response(f"resp_{seed.hex()[:48]}", model, form) | {"store": flag(document, "store", default=True)}
    finished = response | {
        "status": item["status"],
        "incomplete_details": {"reason": "max_output_tokens"} if incomplete else None,
        "output": [item],
        "usage": {
            "input_tokens": asked,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": len(answer.pieces),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": asked + len(answer.pieces),
        },
    }
    if not stream:
        return Whole(orjson.dumps(finished))
    begun = item | {"status": "in_progress", "content": []}
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    last = numbers(_BEFORE + len(answer.pieces))
    return Streamed(
        opening=b"".join(
            [
                _event("response.created", 0, {"response": response}),
                _event("response.in_progress", 1, {"response": response}),
                _event("response.output_item.added", 2, {"output_index": 0, "item": begun}),
                _event("response.content_part.added", 3, place | {"part": part | {"text": ""}}),
            ]
        ),
        content=_deltas(place, answer.pieces),
        closing=b"".join(
            [
                _event("response.output_text.done", next(last), place | {"text": answer.text, "logprobs": []}),
                _event("response.content_part.done", next(last), place | {"part": part}),
                _event("response.output_item.done", next(last), {"output_index": 0, "item": item}),
                _event(f"response.{finished['status']}", next(last), {"response": finished}),
            ]
        ),
        error=_error,
    )


def _conversation(value: Any) -> Sequence[Message]:
    """`input`: a text, or items. Items that are no messages (calls, reasoning) have no text of a message."""
    if isinstance(value, str):
        return [Message("user", value)]
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise BadRequest("'input' must be a string or an array of at least one item.", param="input")
    conversation: list[Message] = []
    for index, item in enumerate(value):
        if item.get("type", "message") == "message":
            conversation.extend(messages([item], f"input[{index}]"))
        elif item.get("type") == "function_call_output":
            conversation.append(Message("tool", text_of(item.get("output"), f"input[{index}].output")))
    return conversation or [Message("user", "")]


def _response(ident: str, model: str, form: Document | None) -> dict[str, Any]:
    """The response object as it begins. The caller's instructions, tools and metadata are not repeated."""
    return {
        "id": ident,
        "object": "response",
        "created_at": CREATED,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "temperature": 1.0,
        "text": {"format": {"type": "text"} if form is None else form, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "metadata": {},
    }


def _deltas(place: Mapping[str, Any], pieces: Sequence[str]) -> Iterator[bytes]:
    for sent, piece in enumerate(pieces):
        fields = {**place, "delta": piece, "logprobs": []}
        yield _event("response.output_text.delta", _BEFORE + sent, fields)


def _event(kind: str, number: int, fields: Mapping[str, Any]) -> bytes:
    document = orjson.dumps({"type": kind, **fields, "sequence_number": number})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), document)


def _error(sent: int, code: str | None) -> bytes:
    """This API's own error event: its fields stand beside `type`, not inside an `error`."""
    error = error_of(500, f"Simulated error after {sent} content event(s).", code)["error"]
    fields = {"code": error["code"], "message": error["message"], "param": None}
    return _event("error", _BEFORE + sent, fields)
