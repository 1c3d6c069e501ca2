"""Chat completions, whole and streamed (OpenAI API reference, "Chat completions")."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import orjson

from mitmgate.simulator.answers import (
    CREATED,
    DEFAULT_MODEL,
    DONE,
    Answer,
    Chunks,
    Completion,
    Streamed,
    Whole,
    bounded,
    complete,
    count,
    error_event,
    seed_of,
    sentence,
    usage,
)
from mitmgate.simulator.asked import (
    MOST_CHOICES,
    BadRequest,
    Document,
    Message,
    messages,
    record,
    stops,
    streaming,
    text_field,
    whole,
)
from mitmgate.simulator.instances import instance_text
from mitmgate.simulator.tools import Call, calls

type Choice = Mapping[str, Any]


def chat(document: Document, events: int | None) -> Answer:
    """POST /v1/chat/completions. `max_tokens` cuts text and JSON, never the arguments of a tool call."""
    model = text_field(document, "model", DEFAULT_MODEL)
    conversation = messages(document.get("messages"), "messages")
    choices = whole(document, "n", most=MOST_CHOICES) or 1
    most = whole(document, "max_completion_tokens") or whole(document, "max_tokens")
    stop, (stream, with_usage) = stops(document), streaming(document)
    bounded(choices, events)
    seed = seed_of("chat", model, conversation)
    called = calls(document, conversation, seed)
    form = record(document, "response_format")
    answers = [
        complete(answer_text(form, "response_format", model, conversation, seed, index, events), stop, most)
        for index in range(choices)
    ]
    said = sum(len(call.arguments) for call in called) * choices or sum(len(answer.pieces) for answer in answers)
    tokens = usage(sum(count(message.text) for message in conversation), said)
    envelope = {
        "id": f"chatcmpl-{seed.hex()[:29]}",
        "object": "chat.completion.chunk" if stream else "chat.completion",
        "created": CREATED,
        "model": model,
        "service_tier": "default",
        "system_fingerprint": "fp_simulator",
    }
    if not stream:
        whole_choices = [_whole_choice(index, answer, called) for index, answer in enumerate(answers)]
        return Whole(orjson.dumps(envelope | {"choices": whole_choices, "usage": tokens}))
    chunks = Chunks(envelope, with_usage=with_usage)
    role = {"role": "assistant", "content": None if called else "", "refusal": None}
    content = _call_deltas(called, choices) if called else _text_deltas(answers)
    finishes = ["tool_calls" if called else answer.finish for answer in answers]
    closing = [chunks.choice(_delta(index, {}, finish)) for index, finish in enumerate(finishes)]
    return Streamed(
        opening=b"".join(chunks.choice(_delta(index, role)) for index in range(choices)),
        content=map(chunks.choice, content),
        closing=b"".join([*closing, chunks.usage(tokens) if with_usage else b"", DONE]),
        error=error_event,
    )


def answer_text(
    form: Document | None,
    param: str,
    model: str,
    conversation: Sequence[Message],
    seed: bytes,
    index: int,
    events: int | None,
) -> str:
    """What choice `index` says in the form that was asked for: a sentence, a JSON object, an instance of a schema.

    `form` is a `response_format` of chat or a `text.format` of responses, which differ in where the schema stands.
    """
    kind = form.get("type") if form else "text"
    if kind == "text":
        return sentence(model, conversation, seed, index, events)
    if kind == "json_object":
        says = sentence(model, conversation, seed, index, None)
        schema = {"type": "object", "properties": {"answer": {"const": says}, "messages": {"const": len(conversation)}}}
        return instance_text(schema, param)
    if kind == "json_schema" and form:
        holder = form if "schema" in form else record(form, "json_schema") or {}
        if not isinstance(holder.get("schema"), dict):
            raise BadRequest(f"'{param}' of type json_schema must hold a 'schema' object.", param=param)
        return instance_text(holder["schema"], param)
    raise BadRequest(f"'{param}.type' must be text, json_object or json_schema.", param=f"{param}.type")


def _whole_choice(index: int, answer: Completion, called: Sequence[Call]) -> Choice:
    message: dict[str, Any] = {"role": "assistant", "content": None if called else answer.text, "refusal": None}
    if called:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": "".join(call.arguments)}}
            for call in called
        ]
    finish = "tool_calls" if called else answer.finish
    return {"index": index, "message": message, "logprobs": None, "finish_reason": finish}


def _delta(index: int, delta: Mapping[str, Any], finish: str | None = None) -> Choice:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


def _text_deltas(answers: Sequence[Completion]) -> Iterator[Choice]:
    """The choices take turns, as they do at OpenAI."""
    for turn in zip_longest(*(answer.pieces for answer in answers)):
        for index, piece in enumerate(turn):
            if piece is not None:
                yield _delta(index, {"content": piece})


def _call_deltas(called: Sequence[Call], choices: int) -> Iterator[Choice]:
    """Per call: its id and name with empty arguments, then the arguments in fragments."""
    for choice in range(choices):
        for at, call in enumerate(called):
            begun = {"index": at, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
            yield _delta(choice, {"tool_calls": [begun]})
            for piece in call.arguments:
                yield _delta(choice, {"tool_calls": [{"index": at, "function": {"arguments": piece}}]})
