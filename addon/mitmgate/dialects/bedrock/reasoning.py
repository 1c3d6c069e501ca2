"""How much a model is to reason, and what it then allows beside: each maker's own words for it.

Sources: Amazon Bedrock User Guide, "Extended thinking" and "Adaptive thinking" (Claude); Amazon Nova 2 User Guide, "Extended
thinking"; botocore's model of bedrock-runtime, shape OutputConfig (`effort`); OpenAI's gpt-oss model card (`reasoning_effort`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from mitmgate.dialects.bedrock.models import Reasons, Traits
from mitmgate.dialects.canonical import EFFORTS, output_limit_of
from mitmgate.errors import Refusal

BUDGETS: Final = {"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16384}
_LEVELS: Final = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_SAMPLING: Final = ("temperature", "top_p", "max_tokens", "max_completion_tokens")


class Reasoning(NamedTuple):
    """What the provider is told. `on`: the model thinks aloud, which forbids it some things."""

    fields: Mapping[str, Any] = {}          # of additionalModelRequestFields
    output: str | None = None               # outputConfig.effort
    effort: str | None = None               # that was applied
    on: bool = False
    dropped: tuple[str, ...] = ()


_NONE: Final = Reasoning()


class _Asked(NamedTuple):
    document: Mapping[str, Any]
    messages: Sequence[Mapping[str, Any]]   # as Converse gets them
    forced: bool


def reasoning_of(
    document: Mapping[str, Any], model: Traits, messages: Sequence[Mapping[str, Any]], *, forced: bool
) -> Reasoning:
    """`messages`: Converse's. `forced`: a tool must be called, which Claude cannot do while it thinks. Raises Refusal."""
    effort, thinking = document.get("reasoning_effort"), document.get("thinking")
    if effort is not None and (not isinstance(effort, str) or effort not in EFFORTS):
        raise Refusal("invalid_request", f"`reasoning_effort` must be one of {', '.join(EFFORTS)}.", param="reasoning_effort")
    if thinking is not None and (not isinstance(thinking, dict) or not isinstance(thinking.get("type"), str)):
        raise Refusal("invalid_request", "`thinking` must be an object with a `type`.", param="thinking")
    if thinking is not None:
        return _exact(thinking, effort, model, forced)
    if effort is None:
        return _NONE
    return _WAYS[model.reasons](effort, _Asked(document, messages, forced))


def _exact(thinking: Mapping[str, Any], effort: str | None, model: Traits, forced: bool) -> Reasoning:
    """What the client spelt out goes as it is to the models whose words these are."""
    adaptive = model.reasons is Reasons.ADAPTIVE
    dropped = ("reasoning_effort",) if effort is not None and not adaptive else ()
    if model.reasons not in (Reasons.BUDGET, Reasons.ADAPTIVE):
        return Reasoning(dropped=("thinking", *dropped))
    on = thinking["type"] != "disabled"
    if on and forced:
        return Reasoning(dropped=("thinking", *dropped))
    output = _LEVEL_OF_OUTPUT.get(effort or "") if adaptive else None
    return Reasoning({"thinking": dict(thinking)}, output, output, on, dropped)


def _budget(effort: str, asked: _Asked) -> Reasoning:
    """The budget must be below the output's limit: the next smaller effort whose is, or none."""
    if effort == "none":
        return Reasoning(effort="none")
    limit = output_limit_of(asked.document)
    fitting = [each for each in EFFORTS[EFFORTS.index(effort) : 0 : -1] if limit is None or BUDGETS[each] < limit]
    if asked.forced or not fitting or _thoughtless(asked.messages):
        return Reasoning(dropped=("reasoning_effort",))
    applied = fitting[0]
    return Reasoning({"thinking": {"type": "enabled", "budget_tokens": BUDGETS[applied]}}, None, applied, True)


def _adaptive(effort: str, asked: _Asked) -> Reasoning:
    """`none` is told by silence: some of these models refuse to be told not to think."""
    if effort == "none":
        return Reasoning(effort="none")
    output = _LEVEL_OF_OUTPUT[effort]
    if asked.forced:
        return Reasoning(dropped=("reasoning_effort",))
    return Reasoning({"thinking": {"type": "adaptive"}}, output, output, True)


def _nova(effort: str, asked: _Asked) -> Reasoning:
    """The high effort excludes temperature, topP and maxTokens: where one is given, the medium one is asked for."""
    if effort == "none":
        return Reasoning({"reasoningConfig": {"type": "disabled"}}, None, "none")
    level = _LEVELS[effort]
    if level == "high" and any(asked.document.get(name) is not None for name in _SAMPLING):
        level = "medium"
    return Reasoning({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": level}}, None, level)


def _gpt_oss(effort: str, asked: _Asked) -> Reasoning:
    """These always reason."""
    if effort == "none":
        return Reasoning(dropped=("reasoning_effort",))
    return Reasoning({"reasoning_effort": _LEVELS[effort]}, None, _LEVELS[effort])


def _not(effort: str, asked: _Asked) -> Reasoning:
    return Reasoning(dropped=("reasoning_effort",))


def _thoughtless(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the assistant's turn goes on after tool results but has none of the reasoning that led to its calls: with a
    budget Claude refuses to finish a turn that did not begin with its thoughts, and OpenAI's clients do not keep them."""
    called = False
    for message in reversed(messages):
        content = message["content"]
        if message["role"] == "assistant":
            called = True
            if "reasoningContent" in content[0]:
                return False
        elif not any("toolResult" in block for block in content):
            break
    return called and any("toolResult" in block for block in messages[-1]["content"])


_LEVEL_OF_OUTPUT: Final = {each: "low" if each == "minimal" else each for each in EFFORTS if each != "none"}
_WAYS: Final[Mapping[Reasons, Callable[[str, _Asked], Reasoning]]] = {
    Reasons.NOT: _not, Reasons.BUDGET: _budget, Reasons.ADAPTIVE: _adaptive, Reasons.NOVA: _nova, Reasons.GPT_OSS: _gpt_oss,
}  # fmt: skip
