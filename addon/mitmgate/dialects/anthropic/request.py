"""Canonical requests as POST /v1/messages.

Source: anthropic.types.MessageCreateParams; platform.claude.com, API reference, "Create a Message". Temperature, top_p and
top_k stand in the reference only for the models before Claude Opus 4.7.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from mitmgate.dialects.anthropic.effort import Thought, thought_of
from mitmgate.dialects.anthropic.formats import Format, Means, forces, format_of
from mitmgate.dialects.anthropic.models import Model, model_of
from mitmgate.dialects.anthropic.tools import FORCED, Tool, choice_of, single, tools_of
from mitmgate.dialects.anthropic.turns import turns_of
from mitmgate.dialects.anthropic.words import HEADERS, PATH
from mitmgate.dialects.canonical import output_limit_of, stops_of
from mitmgate.dialects.codec import Ask, Document, Sent
from mitmgate.errors import Refusal

_OUTPUT_LIMIT: Final = 4096
_LEAST_TOP_P: Final = 0.95                  # with thinking
_SAID: Final = frozenset(
    {
        "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "stop", "temperature", "top_p",
        "top_k", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "response_format", "user",
        "reasoning_effort", "thinking", "service_tier", "n",
    }
)  # fmt: skip
_IDLE: Final[Mapping[str, tuple[object, ...]]] = MappingProxyType(
    {
        "logprobs": (False,), "presence_penalty": (0,), "frequency_penalty": (0,), "logit_bias": ({},), "store": (False,),
        "metadata": ({},), "modalities": (["text"],), "top_logprobs": (0,),
    }
)  # fmt: skip
"""What says no more than its absence."""
_TIERS: Final[Mapping[str, str]] = MappingProxyType(
    {"auto": "auto", "priority": "auto", "default": "standard_only", "standard_only": "standard_only"}
)


def request(ask: Ask) -> Sent:
    """What Anthropic is sent. Raises Refusal."""
    document = ask.document
    _refuse_unsayable(document)
    model = model_of(ask.base_model or ask.model)
    dropped = {name for name, value in document.items() if name not in _SAID and value is not None and not _idle(name, value)}
    turns = turns_of(document, dropped)
    wanted = format_of(ask)
    tools, choice = _tools(document, wanted, model, dropped)
    forced = choice is not None and choice["type"] in FORCED
    thought = thought_of(document, model, dropped, forced=forced, unthought=turns.unthought)
    sent: dict[str, Any] = {"model": ask.model, "max_tokens": _max_tokens(ask, thought), "messages": turns.messages}
    if system := turns.system:
        sent["system"] = system
    if tools:
        sent["tools"] = tools
    if choice is not None:
        sent["tool_choice"] = choice
    if thought.thinking is not None:
        sent["thinking"] = thought.thinking
    if config := _output_config(wanted, thought):
        sent["output_config"] = config
    sent |= _sampling(document, model, thought, dropped)
    sent |= _rest(document, dropped)
    if ask.stream:
        sent["stream"] = True
    return Sent(PATH, sent, HEADERS, _in_order(document, dropped), thought.applied)


def _refuse_unsayable(document: Document) -> None:
    n = document.get("n")
    if n is not None and (not isinstance(n, int) or isinstance(n, bool) or n < 1):
        raise Refusal("invalid_request", "`n` must be a positive integer.", param="n")
    if n is not None and n > 1:
        raise Refusal("capability_missing", "Anthropic gives one answer.", param="n")
    modalities = document.get("modalities")
    if document.get("audio") is not None or (isinstance(modalities, list) and "audio" in modalities):
        param = "audio" if document.get("audio") is not None else "modalities"
        raise Refusal("capability_missing", "Anthropic's models do not speak.", param=param)


def _idle(name: str, value: object) -> bool:
    return value in _IDLE[name] if name in _IDLE else False


def _in_order(document: Document, dropped: set[str]) -> tuple[str, ...]:
    """Members as the request has them, then what stands inside its messages and tools."""
    if not dropped:
        return ()
    named = [name for name in document if name in dropped]
    return (*named, *sorted(dropped.difference(named)))


def _tools(
    document: Document, wanted: Format | None, model: Model, dropped: set[str]
) -> tuple[list[Tool], dict[str, Any] | None]:
    tools = tools_of(document, model, dropped)
    choice, tools = choice_of(document, tools, dropped, model)
    if wanted is not None and wanted.means is not Means.GRAMMAR and (wanted.means is Means.NONE or forces(document)):
        dropped.add("response_format")      # where the client's own tools must be called, there is no answer to shape
        wanted = None
    if wanted is None or wanted.means is Means.GRAMMAR:
        return tools, single(document, choice) if tools else None
    if not tools or (choice is not None and choice["type"] == "none"):
        choice = {"type": "tool", "name": wanted.name}
    else:
        choice = single(document, {"type": "any"})
    return [*tools, wanted.tool], choice


def _max_tokens(ask: Ask, thought: Thought) -> int:
    """Thinking counts toward it: where the client sets no bound, a budget comes on top."""
    asked = output_limit_of(ask.document)
    if asked is not None:
        return asked
    limit = ask.output_limit or _OUTPUT_LIMIT
    return limit if limit > thought.budget else limit + thought.budget


def _output_config(wanted: Format | None, thought: Thought) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if thought.effort is not None:
        config["effort"] = thought.effort
    if wanted is not None and wanted.means is Means.GRAMMAR:
        config["format"] = {"type": "json_schema", "schema": wanted.schema}
    return config


def _sampling(document: Document, model: Model, thought: Thought, dropped: set[str]) -> dict[str, Any]:
    """Temperature, top_p and top_k as far as the model takes them."""
    temperature, top_p, top_k = (_number(document, name) for name in ("temperature", "top_p", "top_k"))
    found: dict[str, Any] = {}
    if temperature is not None:
        if temperature > 1:
            dropped.add("temperature")
            temperature = 1
        found["temperature"] = temperature
    if top_p is not None:
        found["top_p"] = top_p
    if top_k is not None:
        found["top_k"] = top_k
    for name in [name for name, value in found.items() if not _takes(name, value, model, thought)]:
        if found.pop(name) != 1 or name == "top_k":
            dropped.add(name)
    if "temperature" in found and "top_p" in found and not model.both and found.pop("top_p") != 1:
        dropped.add("top_p")
    return found


def _takes(name: str, value: float, model: Model, thought: Thought) -> bool:
    if not model.sampling:
        return False
    return not thought.on or (name == "temperature" and value == 1) or (name == "top_p" and _LEAST_TOP_P <= value <= 1)


def _number(document: Document, name: str) -> float | None:
    value = document.get(name)
    if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
        raise Refusal("invalid_request", f"`{name}` must be a number.", param=name)
    return value


def _rest(document: Document, dropped: set[str]) -> dict[str, Any]:
    """Stop sequences, the user and the service tier."""
    found: dict[str, Any] = {}
    for part in (_stop, _user, _tier):
        found |= part(document, dropped)
    return found


def _stop(document: Document, dropped: set[str]) -> dict[str, Any]:
    stops = stops_of(document)
    sayable = [stop for stop in stops if stop.strip()]
    if len(sayable) < len(stops):           # the API refuses those of white space alone
        dropped.add("stop")
    return {"stop_sequences": sayable} if sayable else {}


def _user(document: Document, dropped: set[str]) -> dict[str, Any]:
    user = document.get("user")
    if user is None and isinstance(document.get("safety_identifier"), str):
        user = document["safety_identifier"]
        dropped.discard("safety_identifier")
    if user is None:
        return {}
    if not isinstance(user, str):
        raise Refusal("invalid_request", "`user` must be a text.", param="user")
    if "@" in user:                         # Anthropic wants nothing here that identifies a person
        dropped.add("user" if document.get("user") is not None else "safety_identifier")
        return {}
    return {"metadata": {"user_id": user}}


def _tier(document: Document, dropped: set[str]) -> dict[str, Any]:
    tier = document.get("service_tier")
    if tier is None:
        return {}
    if isinstance(tier, str) and tier in _TIERS:
        return {"service_tier": _TIERS[tier]}
    dropped.add("service_tier")
    return {}

