"""A GenerateContentResponse as a chat.completion (google-genai `types.py`: Candidate, Part, FinishReason, BlockedReason).

A candidate whose finish reason says that the model failed, not that it stopped, is no answer: the reply is Garbled, and
another target may be asked.
"""

from collections.abc import Mapping
from typing import Any, Final

from mitmgate.dialects.canonical import completion_of, count, usage
from mitmgate.dialects.codec import Ask, Document, Garbled
from mitmgate.dialects.gemini.words import compact, objects, signed

_FINISH: Final[Mapping[str, str]] = {
    "STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "length", "TOO_MANY_TOOL_CALLS": "length", "NO_IMAGE": "stop",
}  # fmt: skip
"""Any other reason is a filter's: they are the ones that Google adds to, and `stop` would be a success that nobody saw."""

_BROKEN: Final = frozenset(
    {"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE", "MISSING_THOUGHT_SIGNATURE"}
)
_NOT_YET: Final = frozenset({"", "FINISH_REASON_UNSPECIFIED"})


def generate_reply(document: Document, ask: Ask) -> dict[str, Any]:
    """The completion. Raises Garbled."""
    listed = candidates_of(document)
    if listed:
        ids = CallIds(ask.id)
        choices = [_choice(candidate, at, ids) for at, candidate in enumerate(listed)]
        choices.sort(key=lambda choice: choice["index"])
    elif blocked(document):
        message = {"role": "assistant", "content": None}
        choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": "content_filter"}]
    else:
        raise Garbled("the reply has neither candidates nor a reason for having none")
    return completion_of(
        id=id_of(document, ask), created=ask.created, model=model_of(document, ask), choices=choices, usage=usage_of(document)
    )


class CallIds:
    """Ids of tool calls that have none, counted over one reply."""

    __slots__ = ("_exchange", "_made")

    def __init__(self, exchange: str) -> None:
        self._exchange = exchange
        self._made = 0

    def next(self) -> str:
        """A fresh one."""
        self._made += 1
        return f"call_{self._exchange}_{self._made - 1}"


def candidates_of(document: Document) -> list[Mapping[str, Any]]:
    """The candidates; none is allowed here. Raises Garbled."""
    listed = document.get("candidates")
    if listed is None:
        return []
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise Garbled("the candidates are no list of objects")
    return listed


def blocked(document: Document) -> bool:
    """Whether the prompt was blocked."""
    feedback = document.get("promptFeedback")
    return isinstance(feedback, dict) and isinstance(feedback.get("blockReason"), str)


def id_of(document: Document, ask: Ask) -> str:
    """The provider's id, or one of the exchange's."""
    found = document.get("responseId")
    return found if isinstance(found, str) and found else f"chatcmpl-{ask.id}"


def model_of(document: Document, ask: Ask) -> str:
    """The model that answered, as far as the provider says."""
    found = document.get("modelVersion")
    return found if isinstance(found, str) and found else ask.model


def usage_of(document: Document) -> dict[str, Any] | None:
    """usageMetadata as OpenAI counts: the results of server-side tools are prompt, thoughts are completion."""
    told = document.get("usageMetadata")
    if not isinstance(told, dict):
        return None
    prompt = count(told.get("promptTokenCount")) + count(told.get("toolUsePromptTokenCount"))
    thoughts = told.get("thoughtsTokenCount")
    return usage(
        prompt, count(told.get("candidatesTokenCount")) + count(thoughts),
        cached=count(told.get("cachedContentTokenCount")), reasoning=None if thoughts is None else count(thoughts),
    )  # fmt: skip


def index_of(candidate: Mapping[str, Any], place: int) -> int:
    """A candidate's index; its place if it has none."""
    index = candidate.get("index")
    return index if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < 1024 else place


def parts_of(candidate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A candidate's parts; it may have none. Raises Garbled."""
    content = candidate.get("content")
    if content is None:
        return []
    parts = content.get("parts") if isinstance(content, dict) else ()
    if parts is None:
        return []
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise Garbled("a candidate's content is no list of parts")
    return parts


def finish_of(candidate: Mapping[str, Any], called: bool) -> str | None:
    """The finish reason; None as long as there is none. Raises Garbled for one that says that the model failed."""
    reason = candidate.get("finishReason")
    if reason is None:
        return None
    if not isinstance(reason, str) or reason in _BROKEN:
        raise Garbled("the model's answer was malformed")
    if reason in _NOT_YET:
        return None
    finish = _FINISH.get(reason, "content_filter")
    return "tool_calls" if called and finish == "stop" else finish


def text_of(part: Mapping[str, Any]) -> str:
    """A part's text. Raises Garbled."""
    text = part["text"]
    if not isinstance(text, str):
        raise Garbled("a part's text is none")
    return text


def tool_call_of(part: Mapping[str, Any], ids: CallIds) -> dict[str, Any]:
    """A part's function call. Raises Garbled."""
    call = part["functionCall"]
    if not isinstance(call, dict) or not isinstance(name := call.get("name"), str) or not name:
        raise Garbled("a function call has no name")
    args = call.get("args")
    if not (args is None or isinstance(args, dict)) or (arguments := compact(args or {})) is None:
        raise Garbled("a function call's arguments are no object")
    identity = call.get("id")
    return {
        "id": identity if isinstance(identity, str) and identity else ids.next(),
        "type": "function",
        "function": {"name": name, "arguments": arguments},
        **signed(part.get("thoughtSignature")),
    }


def image_of(part: Mapping[str, Any]) -> dict[str, Any] | None:
    """An image that the model made, as OpenRouter's `images` have it; None for other media, which were never asked."""
    blob = part["inlineData"]
    media, data = (blob.get("mimeType"), blob.get("data")) if isinstance(blob, dict) else (None, None)
    if not isinstance(media, str) or not isinstance(data, str):
        raise Garbled("a part's media are none")
    if not media.startswith("image/"):
        return None
    return {
        "type": "image_url", "image_url": {"url": f"data:{media};base64,{data}"}, **signed(part.get("thoughtSignature")),
    }  # fmt: skip


def logprobs_of(candidate: Mapping[str, Any]) -> dict[str, Any] | None:
    """LogprobsResult as OpenAI has it."""
    result = candidate.get("logprobsResult")
    if not isinstance(result, dict):
        return None
    tops = [[_token(each) for each in objects(step.get("candidates"))] for step in objects(result.get("topCandidates"))]
    content = [
        {**_token(chosen), "top_logprobs": tops[at] if at < len(tops) else []}
        for at, chosen in enumerate(objects(result.get("chosenCandidates")))
    ]
    return {"content": content, "refusal": None}


def _token(candidate: Mapping[str, Any]) -> dict[str, Any]:
    token, logprob = candidate.get("token"), candidate.get("logProbability")
    text = token if isinstance(token, str) else ""
    return {
        "token": text, "logprob": logprob if isinstance(logprob, (int, float)) else 0.0,
        "bytes": list(text.encode(errors="replace")),
    }  # fmt: skip


def _choice(candidate: Mapping[str, Any], place: int, ids: CallIds) -> dict[str, Any]:
    message = _message(parts_of(candidate), ids)
    finish = finish_of(candidate, "tool_calls" in message)
    if finish is None:
        raise Garbled("a whole reply has a candidate that has not finished")
    return {
        "index": index_of(candidate, place), "message": message, "logprobs": logprobs_of(candidate), "finish_reason": finish,
    }  # fmt: skip


def _message(parts: list[Mapping[str, Any]], ids: CallIds) -> dict[str, Any]:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    signature: object = None
    for part in parts:
        if "text" in part:
            (thoughts if part.get("thought") is True else texts).append(text_of(part))
            signature = part.get("thoughtSignature") or signature
        elif "functionCall" in part:
            calls.append(tool_call_of(part, ids))
        elif "inlineData" in part and part.get("thought") is not True and (image := image_of(part)) is not None:
            images.append(image)
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None}
    if any(thoughts):
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    if images:
        message["images"] = images
    return {**message, **signed(signature)}
