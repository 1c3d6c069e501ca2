"""How much the model is to think: `thinking` and `reasoning_effort` as each generation of models takes them.

Sources: platform.claude.com, "Extended thinking", "Adaptive thinking", "Effort"; anthropic.types.ThinkingConfigParam,
OutputConfigParam. A client that sent `thinking` was exact and is obeyed as far as the model can; an effort is a wish.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from mitmgate.dialects.anthropic.models import Model, Thinking
from mitmgate.dialects.canonical import EFFORTS, output_limit_of
from mitmgate.dialects.codec import Document
from mitmgate.errors import Refusal

_BUDGETS: Final[Mapping[str, int]] = MappingProxyType(
    {"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16384}
)
_OFF: Final = frozenset({"disabled", "between_tools"})


class Thought(NamedTuple):
    """What the request says of thinking."""

    thinking: dict[str, Any] | None = None
    effort: str | None = None               # of output_config
    applied: str | None = None              # for Sent.effort
    budget: int = 0                         # tokens that max_tokens must exceed

    @property
    def on(self) -> bool:
        """Whether the request turns thinking on."""
        return self.thinking is not None and self.thinking["type"] not in _OFF


def thought_of(document: Document, model: Model, dropped: set[str], *, forced: bool, unthought: bool) -> Thought:
    """`forced`: a tool must be called, so the model cannot think; `unthought`: it can, but on no budget. Raises Refusal."""
    effort, thinking = _effort(document), _thinking(document)
    if model.thinking is Thinking.NONE:
        if effort not in (None, "none"):
            dropped.add("reasoning_effort")
        if thinking is not None and thinking["type"] not in _OFF:
            dropped.add("thinking")
        return Thought()
    thought = _exactly(thinking, effort, document, model, dropped) if thinking else _wished(effort, document, model, dropped)
    if thought.on and (forced or (unthought and thought.budget)):
        dropped.add("thinking" if thinking else "reasoning_effort")
        return Thought()
    return thought


def _effort(document: Document) -> str | None:
    effort = document.get("reasoning_effort")
    if effort is not None and effort not in EFFORTS:
        raise Refusal("invalid_request", "This `reasoning_effort` is not known.", param="reasoning_effort")
    return effort


def _thinking(document: Document) -> dict[str, Any] | None:
    thinking = document.get("thinking")
    if thinking is None:
        return None
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind not in ("enabled", "adaptive", *_OFF):
        raise Refusal("invalid_request", "`thinking` must have a known `type`.", param="thinking")
    budget = thinking.get("budget_tokens")
    if kind == "enabled" and (not isinstance(budget, int) or isinstance(budget, bool) or budget < 1):
        raise Refusal("invalid_request", "`budget_tokens` must be a positive integer.", param="thinking.budget_tokens")
    return dict(thinking)


def _wished(effort: str | None, document: Document, model: Model, dropped: set[str]) -> Thought:
    if effort is None:
        return Thought()
    if effort == "none":
        return _off(model, dropped)
    if model.thinking is Thinking.BUDGET:
        return _budgeted(effort, document, dropped)
    applied = _nearest(effort, model)
    return Thought({"type": "adaptive"}, applied, applied)


def _exactly(
    thinking: dict[str, Any], effort: str | None, document: Document, model: Model, dropped: set[str]
) -> Thought:
    kind = thinking["type"]
    said = _nearest(effort, model) if effort not in (None, "none") and model.efforts else None
    if kind in _OFF:
        off = _off(model, dropped, exact=True)
        return off if said is None else off._replace(effort=said, applied=said)
    if kind == "enabled" and model.thinking is Thinking.ADAPTIVE:
        said = said or _nearest(_level(thinking["budget_tokens"]), model)
        thinking = {"type": "adaptive"} | {key: thinking[key] for key in ("display",) if key in thinking}
    elif kind == "adaptive" and model.thinking is Thinking.BUDGET:
        applied = effort if effort not in (None, "none") else "high"     # what adaptive thinking does by itself
        return _budgeted(applied, document, dropped)
    budget = thinking["budget_tokens"] if thinking["type"] == "enabled" else 0
    return Thought(thinking, said, said, budget)


def _budgeted(effort: str, document: Document, dropped: set[str]) -> Thought:
    """A budget for this effort, or the next lower one that leaves room below the client's own bound."""
    bound = output_limit_of(document)
    for applied in EFFORTS[EFFORTS.index(effort) : 0 : -1]:
        budget = _BUDGETS[applied]
        if bound is None or budget < bound:
            return Thought({"type": "enabled", "budget_tokens": budget}, None, applied, budget)
    dropped.add("reasoning_effort")
    return Thought()


def _off(model: Model, dropped: set[str], *, exact: bool = False) -> Thought:
    """Thinking turned off; where it cannot be, the least of it."""
    if model.always:
        if exact:
            dropped.add("thinking")
        return Thought(None, "low", "low")
    kind = model.off or ("disabled" if exact else None)
    return Thought({"type": kind} if kind else None, None, "none")


def _nearest(effort: str, model: Model) -> str:
    """The model's highest effort that is not above this one."""
    rank = EFFORTS.index(effort)
    fitting = [each for each in model.efforts if EFFORTS.index(each) <= rank]
    return fitting[-1] if fitting else model.efforts[0]


def _level(budget: int) -> str:
    levels = [effort for effort, tokens in _BUDGETS.items() if tokens <= budget and effort != "minimal"]
    return levels[-1] if levels else "low"
