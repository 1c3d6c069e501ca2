"""A chat completion as a response: its items, its usage, and what the client asked, told back.

`store` and `truncation` say what is so here, whatever was asked; `temperature` and `top_p` are null where the client left them
to the provider. Log probabilities of a refusal have no place in Responses.
Source: openai.types.responses.Response and the types that it names.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from mitmgate.dialects.canonical import count
from mitmgate.dialects.codec import Asked, Document, Garbled
from mitmgate.dialects.openai.responses_sealed import is_block, sealed
from mitmgate.errors import CODES

_INCOMPLETE: Final[Mapping[object, str]] = {"length": "max_output_tokens", "content_filter": "content_filter"}
_TIERS: Final = frozenset({"auto", "default", "flex", "scale", "priority", "fast", "ultrafast"})
_ECHOED: Final = ("type", "name", "description", "parameters", "strict")
_TYPES: Final[Mapping[int, str]] = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def response_of(reply: Document, asked: Asked) -> dict[str, Any]:
    """The response. Raises Garbled for what is no chat completion."""
    choice = _choice(reply)
    message = choice["message"]
    finish = choice.get("finish_reason")
    output = _output(message, logprobs_of(choice), asked.id, incomplete=is_incomplete(finish))
    return finished(frame(asked), output, finish, usage_of(reply.get("usage")), reply.get("service_tier"))


def frame(asked: Asked) -> dict[str, Any]:
    """A response that has just begun."""
    given = asked.document
    reasoning, flag = _object(given, "reasoning"), given.get("parallel_tool_calls")
    return {
        "id": f"resp_{asked.id}",
        "object": "response",
        "created_at": asked.created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": given.get("instructions"),
        "max_output_tokens": given.get("max_output_tokens"),
        "max_tool_calls": given.get("max_tool_calls"),
        "model": asked.model,
        "output": [],
        "parallel_tool_calls": True if flag is None else flag,
        "previous_response_id": None,
        "prompt_cache_key": given.get("prompt_cache_key"),
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": given.get("safety_identifier"),
        "service_tier": None,
        "store": False,
        "temperature": given.get("temperature"),
        "text": _text(_object(given, "text")),
        "tool_choice": "auto" if given.get("tool_choice") is None else given["tool_choice"],
        "tools": _tools(given.get("tools")),
        "top_logprobs": given.get("top_logprobs") or 0,
        "top_p": given.get("top_p"),
        "truncation": "disabled",
        "usage": None,
        "user": given.get("user"),
        "metadata": given.get("metadata") or {},
    }


def _object(given: Document, name: str) -> Mapping[str, Any]:
    value = given.get(name)
    return value if isinstance(value, dict) else {}


def _tools(tools: object) -> list[dict[str, Any]]:
    """The functions: no other tools are used here."""
    if not isinstance(tools, list):
        return []
    functions = (tool for tool in tools if isinstance(tool, dict) and tool.get("type") == "function")
    return [{name: tool[name] for name in _ECHOED if name in tool} for tool in functions]


def _text(text: Document) -> dict[str, Any]:
    shown: dict[str, Any] = {"format": text.get("format") or {"type": "text"}}
    if (verbosity := text.get("verbosity")) is not None:
        shown["verbosity"] = verbosity
    return shown


def finished(
    begun: dict[str, Any], output: list[dict[str, Any]], finish: object, usage: dict[str, Any] | None, tier: object
) -> dict[str, Any]:
    """The response at its end, out of its frame."""
    reason = _INCOMPLETE.get(finish) if isinstance(finish, str) else None
    return begun | {
        "status": "completed" if reason is None else "incomplete",
        "incomplete_details": None if reason is None else {"reason": reason},
        "output": output,
        "usage": usage,
        "service_tier": tier if isinstance(tier, str) and tier in _TIERS else None,
    }


def is_incomplete(finish: object) -> bool:
    """Whether a reply that finished so is not whole: then its last item is not either."""
    return isinstance(finish, str) and finish in _INCOMPLETE


def _choice(reply: Document) -> Mapping[str, Any]:
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        raise Garbled("the reply holds no message")
    return choice


def _output(message: Document, logprobs: list[dict[str, Any]], id: str, *, incomplete: bool) -> list[dict[str, Any]]:
    """Reasoning, message, calls."""
    output: list[dict[str, Any]] = []
    reasoning, blocks = text_in(message, "reasoning_content"), blocks_of(message)
    if reasoning or blocks:
        output.append(reasoning_item(f"rs_{id}_0", reasoning, blocks))
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise Garbled("the reply's tool calls are no list")
    status = "incomplete" if incomplete else "completed"
    if parts := _parts(message, logprobs):
        output.append(message_item(f"msg_{id}_{len(output)}", "completed" if calls else status, parts))
    for index, call in enumerate(calls):
        last = index == len(calls) - 1
        output.append(_call(call, f"fc_{id}_{len(output)}", f"call_{id}_{index}", status if last else "completed"))
    return output


def _parts(message: Document, logprobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    parts = []
    text, refusal, annotations = text_in(message, "content"), text_in(message, "refusal"), annotations_of(message)
    if text or logprobs or annotations:
        parts.append(text_part(text, annotations, logprobs))
    if refusal:
        parts.append(refusal_part(refusal))
    return parts


def text_in(message: Document, name: str) -> str:
    """A text of a message or of its delta, empty where there is none. Raises Garbled."""
    text = message.get(name)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise Garbled("the reply holds something else where its text should be")
    return text


def _call(call: object, id: str, call_id: str, status: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict):
        raise Garbled("the reply holds a tool call of no function")
    name = text_in(function, "name")
    if not name:
        raise Garbled("the reply holds a tool call without a name")
    given = call.get("id")
    known = given if isinstance(given, str) and given else call_id
    arguments = arguments_at_end(text_in(function, "arguments"), status)
    return call_item(id, status, known, name, arguments, extra_of(call))


def extra_of(call: object) -> dict[str, Any] | None:
    """Google's thought signature, to come back with the call."""
    extra = call.get("extra_content") if isinstance(call, dict) else None
    return extra if isinstance(extra, dict) else None


def arguments_at_end(arguments: str, status: str) -> str:
    """No arguments are an empty object, if none were cut off."""
    return arguments if arguments or status == "incomplete" else "{}"


def reasoning_item(id: str, summary: str, blocks: list[Any]) -> dict[str, Any]:
    """openai.types.responses.ResponseReasoningItem; the blocks travel in it."""
    item: dict[str, Any] = {"id": id, "type": "reasoning", "summary": [summary_part(summary)] if summary else []}
    if blocks:
        item["encrypted_content"] = sealed(blocks)
    return item


def summary_part(text: str) -> dict[str, Any]:
    """openai.types.responses.response_reasoning_item.Summary."""
    return {"type": "summary_text", "text": text}


def message_item(id: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    """openai.types.responses.ResponseOutputMessage."""
    return {"id": id, "type": "message", "status": status, "role": "assistant", "content": content}


def text_part(text: str, annotations: list[dict[str, Any]], logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    """openai.types.responses.ResponseOutputText."""
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": logprobs}


def refusal_part(refusal: str) -> dict[str, Any]:
    """openai.types.responses.ResponseOutputRefusal."""
    return {"type": "refusal", "refusal": refusal}


def call_item(
    id: str, status: str, call_id: str, name: str, arguments: str, extra: dict[str, Any] | None
) -> dict[str, Any]:
    """openai.types.responses.ResponseFunctionToolCall."""
    item: dict[str, Any] = {
        "id": id, "type": "function_call", "status": status, "call_id": call_id, "name": name, "arguments": arguments,
    }  # fmt: skip
    return item if extra is None else {**item, "extra_content": extra}


def blocks_of(message: Document) -> list[Any]:
    """The thinking blocks of a message or of its delta."""
    blocks = message.get("thinking_blocks")
    return [block for block in blocks if is_block(block)] if isinstance(blocks, list) else []


def annotations_of(message: Document) -> list[dict[str, Any]]:
    """Citations, flat as Responses have them."""
    annotations = message.get("annotations")
    if not isinstance(annotations, list):
        return []
    cited = (each.get("url_citation") for each in annotations if isinstance(each, dict))
    return [_citation(each) for each in cited if isinstance(each, dict)]


def _citation(cited: Mapping[str, Any]) -> dict[str, Any]:
    """openai.types.responses.response_output_text.AnnotationURLCitation; a vendor may know less than it wants."""
    title, url = cited.get("title"), cited.get("url")
    return {
        "type": "url_citation",
        "start_index": count(cited.get("start_index")),
        "end_index": count(cited.get("end_index")),
        "title": title if isinstance(title, str) else "",
        "url": url if isinstance(url, str) else "",
    }


def logprobs_of(choice: Document) -> list[dict[str, Any]]:
    """Those of the text; `bytes` is always a list."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list):
        return []
    return [{**_logprob(each), "top_logprobs": _tops(each.get("top_logprobs"))} for each in content if _is_logprob(each)]


def _tops(tops: object) -> list[dict[str, Any]]:
    return [_logprob(top) for top in tops if _is_logprob(top)] if isinstance(tops, list) else []


def _is_logprob(each: object) -> bool:
    if not isinstance(each, dict) or not isinstance(each.get("token"), str):
        return False
    logprob = each.get("logprob")
    return isinstance(logprob, int | float) and not isinstance(logprob, bool)


def _logprob(each: Mapping[str, Any]) -> dict[str, Any]:
    octets = each.get("bytes")
    whole = isinstance(octets, list) and all(type(octet) is int for octet in octets)
    return {"token": each["token"], "logprob": each["logprob"], "bytes": octets if whole else []}


def usage_of(usage: object) -> dict[str, Any] | None:
    """openai.types.responses.ResponseUsage; None where the provider did not say."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    read, made = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    read, made = read if isinstance(read, dict) else {}, made if isinstance(made, dict) else {}
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": count(read.get("cached_tokens")),
            "cache_write_tokens": count(read.get("cache_creation_tokens")) or count(read.get("cache_write_tokens")),
        },
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": count(made.get("reasoning_tokens"))},
        "total_tokens": count(usage.get("total_tokens")) or prompt + completion,
    }


def error_of(code: str, message: str, status: int = 502) -> dict[str, Any]:
    """OpenAI's error object; its type by the code, if it is one of ours, and by the status if not."""
    kind = CODES[code].type if code in CODES else _TYPES.get(status)
    kind = kind or ("invalid_request_error" if status < 500 else "api_error")
    return {"message": message, "type": kind, "param": None, "code": code}


def error_body(status: int, code: str, message: str) -> bytes:
    """The body of an error."""
    return orjson.dumps({"error": error_of(code, message, status)})
