"""Legacy completions, whole and streamed (OpenAI API reference, "Completions")."""

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
    digest,
    error_event,
    seed_of,
    sentence,
    usage,
)
from mitmgate.simulator.asked import (
    MOST_CHOICES,
    Document,
    Message,
    prompts,
    stops,
    streaming,
    text_field,
    whole,
)


def completions(document: Document, events: int | None) -> Answer:
    """POST /v1/completions, `n` choices per prompt. `echo`, `suffix` and `logprobs` are not simulated."""
    model = text_field(document, "model", DEFAULT_MODEL)
    asked = prompts(document.get("prompt"), "prompt")
    per_prompt = whole(document, "n", most=MOST_CHOICES) or 1
    most, stop, (stream, with_usage) = whole(document, "max_tokens"), stops(document), streaming(document)
    bounded(per_prompt * len(asked), events)
    answers: list[Completion] = []
    for text, _ in asked:
        conversation = [Message("user", text)]
        seed = seed_of("completions", model, conversation)
        spoken = (sentence(model, conversation, seed, index, events) for index in range(per_prompt))
        answers.extend(complete(text, stop, most) for text in spoken)
    tokens = usage(sum(size for _, size in asked), sum(len(answer.pieces) for answer in answers))
    envelope = {
        "id": f"cmpl-{digest('completions', model, *(text for text, _ in asked)).hex()[:29]}",
        "object": "text_completion",
        "created": CREATED,
        "model": model,
        "system_fingerprint": "fp_simulator",
    }
    if not stream:
        whole_choices = [_text_choice(at, answer.text, answer.finish) for at, answer in enumerate(answers)]
        return Whole(orjson.dumps(envelope | {"choices": whole_choices, "usage": tokens}))
    chunks = Chunks(envelope, with_usage=with_usage)
    closing = [chunks.choice(_text_choice(at, "", answer.finish)) for at, answer in enumerate(answers)]
    return Streamed(
        opening=b"",
        content=map(chunks.choice, _text_events(answers)),
        closing=b"".join([*closing, chunks.usage(tokens) if with_usage else b"", DONE]),
        error=error_event,
    )


def _text_events(answers: Sequence[Completion]) -> Iterator[Mapping[str, Any]]:
    for turn in zip_longest(*(answer.pieces for answer in answers)):
        for index, piece in enumerate(turn):
            if piece is not None:
                yield _text_choice(index, piece, None)


def _text_choice(index: int, text: str, finish: str | None) -> Mapping[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}
