"""What a condition may read, and its types.

Every field is a variable of its own with a dotted name, so that an unknown one is an error at load and only those that
an expression reads are converted, once for all conditions of one request. Source: OpenAI's API reference.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import cel_expr_python.cel as cel

_TYPE: Final = cel.Type


class Field(NamedTuple):
    """A field's type in CEL, and how its value is taken from JSON: None where it has another type, so is absent."""

    type: cel.Type
    take: Callable[[Any], Any]
    large: bool = False                     # as large as the body may be


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else None


def _flag(value: Any) -> Any:
    return value if isinstance(value, bool) else None


def _whole(value: Any) -> Any:
    return value if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63 else None


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e308 else None


def _list(value: Any) -> Any:
    return value if isinstance(value, list) else None


def _map(value: Any) -> Any:
    return value if isinstance(value, dict) else None


def _any(value: Any) -> Any:
    return value


_TEXT: Final = Field(_TYPE.STRING, _text)
_FLAG: Final = Field(_TYPE.BOOL, _flag)
_WHOLE: Final = Field(_TYPE.INT, _whole)
_NUMBER: Final = Field(_TYPE.DOUBLE, _number)
_LIST: Final = Field(_TYPE.List(_TYPE.DYN), _list, large=True)
_MAP: Final = Field(_TYPE.Map(_TYPE.STRING, _TYPE.DYN), _map, large=True)
_ANY: Final = Field(_TYPE.DYN, _any, large=True)

BODY: Final[Mapping[str, Field]] = {
    "model": _TEXT, "stream": _FLAG, "messages": _LIST, "user": _TEXT, "n": _WHOLE,
    "max_tokens": _WHOLE, "max_completion_tokens": _WHOLE, "max_output_tokens": _WHOLE,
    "temperature": _NUMBER, "top_p": _NUMBER, "top_k": _WHOLE, "seed": _WHOLE, "frequency_penalty": _NUMBER,
    "presence_penalty": _NUMBER, "logprobs": _FLAG, "top_logprobs": _WHOLE, "logit_bias": _MAP, "stop": _ANY,
    "tools": _LIST, "tool_choice": _ANY, "parallel_tool_calls": _FLAG, "functions": _LIST, "function_call": _ANY,
    "response_format": _MAP, "reasoning_effort": _TEXT, "reasoning": _MAP, "verbosity": _TEXT, "modalities": _LIST,
    "audio": _MAP, "prediction": _MAP, "stream_options": _MAP, "store": _FLAG, "metadata": _MAP, "service_tier": _TEXT,
    "prompt_cache_key": _TEXT, "safety_identifier": _TEXT, "web_search_options": _MAP,
    "input": _ANY, "prompt": _ANY, "instructions": _ANY, "previous_response_id": _TEXT, "conversation": _ANY,
    "include": _LIST, "truncation": _TEXT, "background": _FLAG, "text": _MAP, "system": _ANY, "thinking": _MAP,
    "dimensions": _WHOLE, "encoding_format": _TEXT, "suffix": _TEXT, "echo": _FLAG, "best_of": _WHOLE,
    "query": _TEXT, "documents": _LIST, "top_n": _WHOLE, "voice": _ANY, "response_modalities": _LIST,
    "size": _TEXT, "quality": _TEXT, "language": _TEXT, "project_id": _TEXT, "min_reasoning_level": _TEXT,
    "fallback": _ANY, "retries": _WHOLE, "timeout": _NUMBER, "load_balance": _MAP, "guardrails": _ANY,
    "prompt_id": _TEXT, "gateflow": _MAP, "options": _MAP,
}  # fmt: skip
"""What stands in a JSON body, under `request.`: OpenAI's chat, responses, completions, embeddings, images, audio, and ours."""

AROUND: Final[Mapping[str, cel.Type]] = {
    "request.given": _TYPE.List(_TYPE.STRING),      # the names of the body's members
    "request.bytes": _TYPE.INT,                     # the body's size
    "operation": _TYPE.STRING, "path": _TYPE.STRING, "method": _TYPE.STRING, "host": _TYPE.STRING,
    "client": _TYPE.STRING, "header": _TYPE.Map(_TYPE.STRING, _TYPE.STRING), "project": _TYPE.STRING,
    "tenant": _TYPE.STRING, "task": _TYPE.STRING, "tag": _TYPE.Map(_TYPE.STRING, _TYPE.STRING),
}  # fmt: skip
"""What a condition may read beside the body."""

# A body that lacks them is read as if they stood there with these, their documented defaults.
DEFAULTS: Final[Mapping[str, Any]] = {"stream": False, "messages": [], "tools": []}

ENVIRONMENT: Final = cel.NewEnv(
    variables={**{f"request.{name}": each.type for name, each in BODY.items()}, **AROUND}
)
