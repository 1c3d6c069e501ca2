"""How much Gemini is to think: a budget of tokens up to 2.5, a level from 3 on (ThinkingConfig; never both in one request)."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from mitmgate.dialects.canonical import EFFORTS
from mitmgate.dialects.codec import Ask
from mitmgate.dialects.gemini.words import bare, generation
from mitmgate.errors import Refusal


class Thinking(NamedTuple):
    """What is said of it."""

    config: dict[str, Any]                  # a thinkingConfig; empty if nothing is said
    effort: str | None = None               # the effort that was applied, if one was asked
    dropped: tuple[str, ...] = ()


class _Budget(NamedTuple):
    least: int                              # that thinks at all
    most: int
    off: bool                               # whether thinking can be switched off


# "Gemini thinking", the table of budgets.
_BUDGETS: Final[Mapping[str, _Budget]] = {
    "flash-lite": _Budget(512, 24_576, True), "flash": _Budget(1, 24_576, True), "pro": _Budget(128, 32_768, False),
}  # fmt: skip
_EFFORT_BUDGETS: Final[Mapping[str, int]] = {"low": 1_024, "medium": 2_048, "high": 4_096, "xhigh": 8_192, "max": 16_384}
_LEVEL_UP_TO: Final = ((512, "minimal"), (1_024, "low"), (2_048, "medium"))
_THINKS_SINCE, _LEVELS_SINCE = 2.5, 3.0


def thinking_of(ask: Ask) -> Thinking:
    """The thinkingConfig for `thinking`, which is exact, or else for `reasoning_effort`. Raises Refusal."""
    document = ask.document
    effort, thinking = document.get("reasoning_effort"), document.get("thinking")
    if effort is None and thinking is None:
        return Thinking({})
    if effort is not None and effort not in EFFORTS:
        raise Refusal("invalid_request", f"`reasoning_effort` must be one of {', '.join(EFFORTS)}.", param="reasoning_effort")
    kind, budget = _exact(thinking)
    model = bare(ask.base_model or ask.model)
    since = generation(model)
    if since is not None and since < _THINKS_SINCE:
        return Thinking({}, dropped=tuple(name for name in document if name in ("reasoning_effort", "thinking")))
    levelled = since is not None and since >= _LEVELS_SINCE
    if kind == "disabled" or (kind is None and effort == "none"):
        return _off(model, levelled, asked=kind is None)
    if kind == "enabled":
        return _level(_level_for(budget), model, asked=False) if levelled else _exactly(budget, model)
    if effort is not None:
        return _level(effort, model) if levelled else _budget(effort, model)
    return Thinking({"includeThoughts": True} if levelled else {"thinkingBudget": -1, "includeThoughts": True})


def _exact(thinking: object) -> tuple[str | None, int]:
    """The kind of `thinking`, and its budget. Raises Refusal."""
    if thinking is None:
        return None, 0
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind in ("adaptive", "disabled"):
        return kind, 0
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    if kind != "enabled" or not isinstance(budget, int) or isinstance(budget, bool) or budget < 1:
        message = "`thinking` must be enabled with `budget_tokens`, adaptive or disabled."
        raise Refusal("invalid_request", message, param="thinking")
    return "enabled", budget


def _variant(model: str) -> _Budget:
    kind = "flash-lite" if "flash-lite" in model else "pro" if "-pro" in model else "flash"
    return _BUDGETS[kind]


def _off(model: str, levelled: bool, *, asked: bool) -> Thinking:
    """As little as the model can: not all of them can be kept from thinking."""
    if levelled:
        level = "low" if "-pro" in model else "minimal"
        return Thinking({"thinkingLevel": level.upper()}, level if asked else None)
    variant = _variant(model)
    if variant.off:
        return Thinking({"thinkingBudget": 0}, "none" if asked else None)
    return Thinking({"thinkingBudget": variant.least}, "minimal" if asked else None)


def _exactly(budget: int, model: str) -> Thinking:
    variant = _variant(model)
    return Thinking({"thinkingBudget": max(variant.least, min(budget, variant.most)), "includeThoughts": True})


def _budget(effort: str, model: str) -> Thinking:
    return Thinking(_exactly(_EFFORT_BUDGETS.get(effort, 0), model).config, effort)


def _level_for(budget: int) -> str:
    return next((level for most, level in _LEVEL_UP_TO if budget <= most), "high")


def _level(effort: str, model: str, *, asked: bool = True) -> Thinking:
    """The nearest level that the model has: `minimal` is Flash's alone, and `high` is the most."""
    level = "high" if effort in ("xhigh", "max") else "low" if effort == "minimal" and "-pro" in model else effort
    return Thinking({"thinkingLevel": level.upper(), "includeThoughts": True}, level if asked else None)
