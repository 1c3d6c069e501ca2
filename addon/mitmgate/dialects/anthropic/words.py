"""Small words of this dialect: JSON texts, ids, the reasons for stopping."""

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from mitmgate.errors import Refusal

PATH: Final = "/v1/messages"
HEADERS: Final = (("anthropic-version", "2023-06-01"),)
FINISH_OF: Final[Mapping[str, str]] = MappingProxyType(
    {
        "end_turn": "stop", "stop_sequence": "stop", "pause_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length",
        "model_context_window_exceeded": "length", "refusal": "content_filter",
    }
)  # fmt: skip
"""anthropic.types.StopReason; one that is not known yet is a stop."""
STOP_OF: Final[Mapping[str, str]] = MappingProxyType(
    {
        "stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "function_call": "tool_use",
        "content_filter": "refusal",
    }
)  # fmt: skip
_FOREIGN: Final = re.compile(r"[^a-zA-Z0-9_-]")


def tool_id(id: str) -> str:
    """A tool call's id as Anthropic takes it: other providers' ids have dots and colons."""
    return _FOREIGN.sub("_", id)


def dumped(value: object) -> str:
    """JSON text. Raises ValueError where there is none (a depth that no parser of ours lets through)."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:                       # integers beyond 64 bits, lone surrogates
        try:
            return json.dumps(value, separators=(",", ":"))
        except (TypeError, RecursionError) as error:
            raise ValueError("no JSON") from error


def cache_mark(holder: Mapping[str, Any], param: str) -> dict[str, Any]:
    """`cache_control` of a part, a message or a tool, as members to add. Raises Refusal if it is no object."""
    mark = holder.get("cache_control")
    if mark is None:
        return {}
    if not isinstance(mark, dict):
        raise Refusal("invalid_request", "`cache_control` must be an object.", param=f"{param}.cache_control")
    return {"cache_control": mark}
