"""A chat completion's request as Converse's.

Source: botocore's model of bedrock-runtime (service-2.json), operations Converse and ConverseStream; FIELD.md §3.4.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from mitmgate.dialects.bedrock.contents import Contents
from mitmgate.dialects.bedrock.models import Maker, Traits, traits_of
from mitmgate.dialects.bedrock.reasoning import Reasoning, reasoning_of
from mitmgate.dialects.bedrock.tools import choice_of, toolbox_of
from mitmgate.dialects.canonical import in_path, output_limit_of, stops_of
from mitmgate.dialects.codec import Ask, Sent
from mitmgate.errors import Refusal

_TOLD: Final = frozenset(
    {
        "model", "stream", "stream_options", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k",
        "stop", "tools", "tool_choice", "n", "reasoning_effort", "thinking", "response_format", "service_tier", "metadata",
        "modalities",
    }
)  # fmt: skip
"""Members that are looked at; any other cannot be told."""

_AS_IF_ABSENT: Final[Mapping[str, Any]] = {
    "frequency_penalty": 0, "presence_penalty": 0, "logprobs": False, "top_logprobs": 0, "store": False,
    "parallel_tool_calls": True, "logit_bias": {},
}  # fmt: skip
"""What a model does without being told: nothing is lost."""

_MODEL: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._:/-]{0,2047}")
_TIERS: Final = ("default", "flex", "priority")
_LABEL: Final = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{1,256}", re.ASCII)
_MOST_LABELS: Final = 16
_LEAST_TOP_P: Final = 0.95                  # that Claude takes while it thinks


def sent(ask: Ask) -> Sent:
    """What Bedrock is sent. Raises Refusal."""
    document = ask.document
    model = traits_of(ask.base_model or ask.model)
    _refuse_what_cannot_be(document)
    contents = Contents(document, model)
    choice = choice_of(document)
    toolbox = toolbox_of(document, choice, contents.tools, model)
    reasoning = reasoning_of(document, model, contents.messages, forced=choice.forced and toolbox.config is not None)
    sampling = _sampling(document, model, reasoning)
    output, lost_format = _output(document, reasoning)
    fields = {**sampling.fields, **reasoning.fields}
    labels, lost_labels = _labels(document.get("metadata"))
    tier, lost_tier = _tier(document.get("service_tier"))
    body: dict[str, Any] = {"messages": contents.messages}
    for name, value in (
        ("system", contents.system), ("inferenceConfig", sampling.config), ("toolConfig", toolbox.config),
        ("additionalModelRequestFields", fields), ("outputConfig", output), ("requestMetadata", labels), ("serviceTier", tier),
    ):  # fmt: skip
        if value:
            body[name] = value
    dropped = {
        *contents.dropped, *toolbox.dropped, *reasoning.dropped, *sampling.dropped, *lost_format, *lost_labels, *lost_tier,
        *_untold(document),
    }  # fmt: skip
    return Sent(_path(ask), body, (), tuple(sorted(dropped)), reasoning.effort)


def _path(ask: Ask) -> str:
    """Every character of an ARN or id but the unreserved ones is escaped, as botocore does it: the signature covers that."""
    if not _MODEL.fullmatch(ask.model):
        raise Refusal("invalid_request", "This cannot be the id or ARN of a model on Bedrock.", param="model")
    return f"/model/{in_path(ask.model)}/{'converse-stream' if ask.stream else 'converse'}"


def _refuse_what_cannot_be(document: Mapping[str, Any]) -> None:
    """What would give another answer than was asked for, not merely a poorer one."""
    if document.get("n") not in (None, 1):
        raise Refusal("capability_missing", "Bedrock gives one answer to a request.", param="n")
    for name in ("functions", "function_call"):
        if document.get(name) not in (None, [], "none"):
            raise Refusal("capability_missing", "Functions must be given as tools.", param=name)
    if document.get("modalities") not in (None, [], ["text"]):
        raise Refusal("capability_missing", "Converse answers in text.", param="modalities")


def _untold(document: Mapping[str, Any]) -> set[str]:
    return {
        name for name, value in document.items()
        if name not in _TOLD and value is not None and not (name in _AS_IF_ABSENT and value == _AS_IF_ABSENT[name])
        and name not in ("functions", "function_call")
    }  # fmt: skip


class _Sampling(NamedTuple):
    config: dict[str, Any]                  # inferenceConfig
    fields: dict[str, Any]                  # of additionalModelRequestFields
    dropped: set[str]


def _sampling(document: Mapping[str, Any], model: Traits, reasoning: Reasoning) -> _Sampling:
    """Claude forbids some of it, the more the newer it is and while it thinks; Converse ends temperature at 1."""
    temperature, top_p = _number(document, "temperature", 2), _number(document, "top_p", 1)
    dropped: set[str] = set()
    if temperature is not None and temperature > 1:
        dropped.add("temperature")
        temperature = 1
    if temperature is not None and temperature != 1 and (model.fixed_sampling or reasoning.on):
        dropped.add("temperature")
        temperature = None
    if top_p is not None and top_p != 1 and (model.fixed_sampling or (reasoning.on and top_p < _LEAST_TOP_P)):
        dropped.add("top_p")
        top_p = None
    if top_p is not None and temperature is not None and model.one_sampling:
        if top_p != 1:
            dropped.add("top_p")
        top_p = None
    stops, lost = _stops(document)
    config = {
        "maxTokens": output_limit_of(document), "temperature": temperature, "topP": top_p, "stopSequences": stops or None,
    }  # fmt: skip
    fields = _top_k(document, model, allowed=not (model.fixed_sampling or reasoning.on))
    if not fields and document.get("top_k") is not None:
        dropped.add("top_k")
    return _Sampling({name: value for name, value in config.items() if value is not None}, fields, dropped | lost)


def _top_k(document: Mapping[str, Any], model: Traits, *, allowed: bool) -> dict[str, Any]:
    """Not one of Converse's own parameters: told in the maker's words."""
    value = document.get("top_k")
    if value is None:
        return {}
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Refusal("invalid_request", "`top_k` must be a positive integer.", param="top_k")
    if not allowed:
        return {}
    if model.maker is Maker.ANTHROPIC:
        return {"top_k": value}
    return {"inferenceConfig": {"topK": value}} if model.maker is Maker.NOVA else {}


def _stops(document: Mapping[str, Any]) -> tuple[list[str], set[str]]:
    """An empty one cannot be told, and Claude refuses a blank one."""
    stops = stops_of(document)
    told = [stop for stop in stops if stop and not stop.isspace()]
    return told, {"stop"} if len(told) < len(stops) else set()


def _number(document: Mapping[str, Any], name: str, most: int) -> float | None:
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
        raise Refusal("invalid_request", f"`{name}` must be a number from 0 to {most}.", param=name)
    return value


def _output(document: Mapping[str, Any], reasoning: Reasoning) -> tuple[dict[str, Any], set[str]]:
    """outputConfig: a JSON schema, which goes as text, and the effort. JSON without a schema cannot be asked for."""
    told: dict[str, Any] = {} if reasoning.output is None else {"effort": reasoning.output}
    wanted = document.get("response_format")
    if wanted is None:
        return told, set()
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind not in ("text", "json_object", "json_schema"):
        raise Refusal("invalid_request", "`response_format` must have a known `type`.", param="response_format")
    if kind != "json_schema":
        return told, {"response_format"} if kind == "json_object" else set()
    form, param = wanted.get("json_schema"), "response_format.json_schema"
    if not isinstance(form, dict) or not isinstance(form.get("schema", {}), dict):
        raise Refusal("invalid_request", "`json_schema` must be an object with a `schema`.", param=param)
    if not form.get("schema"):
        return told, {"response_format"}
    definition = {"schema": _json(form["schema"], f"{param}.schema")}
    definition |= {name: form[name] for name in ("name", "description") if isinstance(form.get(name), str) and form[name]}
    return told | {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": definition}}}, set()


def _json(value: object, param: str) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:                       # orjson.JSONEncodeError: too deep, or a number beyond 64 bits
        raise Refusal("invalid_request", "This JSON cannot be passed on.", param=param) from None


def _labels(metadata: object) -> tuple[dict[str, str], set[str]]:
    """OpenAI's metadata as requestMetadata, both for finding a request again; all of it or nothing."""
    if metadata is None or metadata == {}:
        return {}, set()
    if not isinstance(metadata, dict) or len(metadata) > _MOST_LABELS:
        return {}, {"metadata"}
    fits = all(_LABEL.fullmatch(name) and _is_label(value) for name, value in metadata.items())
    return (dict(metadata), set()) if fits else ({}, {"metadata"})


def _is_label(value: object) -> bool:
    return isinstance(value, str) and (not value or _LABEL.fullmatch(value) is not None)


def _tier(wanted: object) -> tuple[dict[str, str], set[str]]:
    if wanted in (None, "auto"):
        return {}, set()
    return ({"type": str(wanted)}, set()) if wanted in _TIERS else ({}, {"service_tier"})
