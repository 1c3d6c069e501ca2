"""A chat.completion as a GenerateContentResponse, and errors as google.rpc.Status (google-genai `types.py`, `errors.py`)."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from mitmgate.dialects.canonical import count
from mitmgate.dialects.codec import Asked, Document
from mitmgate.dialects.gemini.words import objects, signature_of
from mitmgate.errors import CODES

_FINISH: Final[Mapping[str, str]] = {
    "stop": "STOP", "tool_calls": "STOP", "function_call": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY",
}  # fmt: skip
_STATUS: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 408: "DEADLINE_EXCEEDED",
    409: "ABORTED", 429: "RESOURCE_EXHAUSTED", 499: "CANCELLED", 500: "INTERNAL", 501: "UNIMPLEMENTED", 502: "UNAVAILABLE",
    503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
"""google/rpc/code.proto, the statuses of HTTP that it names; 502 is ours and means the same as 503."""

MALFORMED: Final = "MALFORMED_FUNCTION_CALL"


def generate_response(reply: Document, asked: Asked) -> dict[str, Any]:
    """The response, with a candidate for each choice."""
    shown = thoughts_wanted(asked.document)
    candidates = [_candidate(choice, place, shown) for place, choice in enumerate(objects(reply.get("choices")))]
    return response(candidates, reply.get("usage"), asked, reply.get("id"))


def response(candidates: list[dict[str, Any]], usage: object, asked: Asked, identity: object) -> dict[str, Any]:
    """A GenerateContentResponse, whole or one of a stream."""
    document: dict[str, Any] = {"candidates": candidates}
    if isinstance(usage, dict):
        document["usageMetadata"] = usage_metadata(usage)
    document["modelVersion"] = asked.model
    document["responseId"] = identity if isinstance(identity, str) else asked.id
    return document


def usage_metadata(usage: Mapping[str, Any]) -> dict[str, int]:
    """What it cost, as Gemini counts: thoughts are not among the candidates' tokens."""
    prompt, completion = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    thoughts = min(completion, _detail(usage, "completion_tokens_details", "reasoning_tokens"))
    told = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": completion - thoughts,
        "totalTokenCount": count(usage.get("total_tokens")) or prompt + completion,
    }
    if cached := _detail(usage, "prompt_tokens_details", "cached_tokens"):
        told["cachedContentTokenCount"] = cached
    if thoughts:
        told["thoughtsTokenCount"] = thoughts
    return told


def thoughts_wanted(document: Document) -> bool:
    """Whether to show the model's thoughts: not to a client that configured its thinking and did not ask to see it."""
    config = document.get("generationConfig", document.get("generation_config"))
    thinking = config.get("thinkingConfig", config.get("thinking_config")) if isinstance(config, dict) else None
    if not isinstance(thinking, dict) or not thinking:
        return True
    return thinking.get("includeThoughts", thinking.get("include_thoughts")) is True


def finish_reason(finish: object) -> str | None:
    """Gemini's word for a finish reason."""
    return _FINISH.get(finish, "OTHER") if isinstance(finish, str) else None


def spoken_parts(said: Mapping[str, Any], shown: bool) -> list[dict[str, Any]]:
    """The parts of a message, or of a delta, but for its calls."""
    parts: list[dict[str, Any]] = []
    if shown and isinstance(thoughts := said.get("reasoning_content"), str) and thoughts:
        parts.append({"text": thoughts, "thought": True})
    for name in ("content", "refusal"):
        if isinstance(text := said.get(name), str) and text:
            parts.append({"text": text})
    if said.get("images"):
        parts += [part for part in map(_image, objects(said["images"])) if part is not None]
    if (signature := signature_of(said)) is not None:
        if not parts:
            parts.append({"text": ""})
        parts[-1].setdefault("thoughtSignature", signature)
    return parts


def call_part(call: Mapping[str, Any]) -> dict[str, Any] | None:
    """A whole tool call; None if its arguments are no JSON object."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(name := function.get("name"), str):
        return None
    args = _arguments(function.get("arguments"))
    if args is None:
        return None
    identity = call.get("id")
    called = {"id": identity} if isinstance(identity, str) and identity else {}
    part: dict[str, Any] = {"functionCall": {**called, "name": name, "args": args}}
    if (signature := signature_of(call)) is not None:
        part["thoughtSignature"] = signature
    return part


def logprobs_result(logprobs: object) -> dict[str, Any]:
    """OpenAI's log probabilities as `logprobsResult`; nothing if there are none."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list) or not content:
        return {}
    chosen = [_token(each) for each in objects(content)]
    tops = [{"candidates": [_token(top) for top in objects(each.get("top_logprobs"))]} for each in objects(content)]
    return {"logprobsResult": {"topCandidates": tops, "chosenCandidates": chosen}}


def error_document(status: int, message: str) -> dict[str, Any]:
    """Google's error object."""
    word = _STATUS.get(status) or ("INVALID_ARGUMENT" if status < 500 else "INTERNAL")
    return {"error": {"code": status, "message": message, "status": word}}


def broken_document(code: str, message: str) -> dict[str, Any]:
    """The error that ends a stream."""
    return error_document(CODES[code].status if code in CODES else 500, message)


def _candidate(choice: Mapping[str, Any], place: int, shown: bool) -> dict[str, Any]:
    message = choice.get("message")
    said: Mapping[str, Any] = message if isinstance(message, dict) else {}
    calls = [call_part(call) for call in objects(said.get("tool_calls"))]
    finish = finish_reason(choice.get("finish_reason"))
    parts = spoken_parts(said, shown) + [part for part in calls if part is not None]
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
    if None in calls and finish == "STOP":
        finish = MALFORMED
    if finish is not None:
        candidate["finishReason"] = finish
    index = choice.get("index")
    candidate["index"] = index if isinstance(index, int) else place
    return {**candidate, **logprobs_result(choice.get("logprobs"))}


def _detail(usage: Mapping[str, Any], member: str, name: str) -> int:
    details = usage.get(member)
    return count(details.get(name)) if isinstance(details, dict) else 0


def _image(image: Mapping[str, Any]) -> dict[str, Any] | None:
    shown = image.get("image_url")
    url = shown.get("url") if isinstance(shown, dict) else shown
    if not isinstance(url, str):
        return None
    head, comma, data = url.partition(";base64,")
    if comma and head[:5].lower() == "data:":
        part: dict[str, Any] = {"inlineData": {"mimeType": head[5:], "data": data}}
    else:
        part = {"fileData": {"fileUri": url}}
    if (signature := signature_of(image)) is not None:
        part["thoughtSignature"] = signature
    return part


def _arguments(text: object) -> dict[str, Any] | None:
    if text is None or (isinstance(text, str) and not text.strip()):
        return {}
    try:
        args = orjson.loads(text) if isinstance(text, str) else None
    except orjson.JSONDecodeError:
        return None
    return args if isinstance(args, dict) else None


def _token(token: Mapping[str, Any]) -> dict[str, Any]:
    return {"token": token.get("token"), "logProbability": token.get("logprob")}
