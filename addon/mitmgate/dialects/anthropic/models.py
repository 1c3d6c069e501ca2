"""What Claude's models understand, by generation: how they think, which efforts, sampling and formats they take.

Sources: platform.claude.com, "Extended thinking", "Adaptive thinking", "Effort", "Structured outputs", the migration guides
of Opus 4.7, Opus 5, Opus 5.5, Sonnet 5.5 and Haiku 5.5; anthropic.types.Model for the names.
"""

import re
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import Final


class Thinking(Enum):
    """How a model is told to think."""

    NONE = "none"                           # it cannot
    BUDGET = "budget"                       # {type: enabled, budget_tokens}
    EITHER = "either"                       # adaptive; a budget is still understood
    ADAPTIVE = "adaptive"                   # {type: adaptive}; a budget is refused


@dataclass(frozen=True, slots=True)
class Model:
    """What one model understands."""

    thinking: Thinking = Thinking.BUDGET
    off: str | None = None                  # the type that turns thinking off where it is on by itself
    always: bool = False                    # thinking cannot be turned off
    efforts: tuple[str, ...] = ()           # of output_config.effort, ascending
    sampling: bool = True                   # takes temperature, top_p, top_k at other than their defaults
    both: bool = True                       # takes temperature together with top_p
    forced: bool = True                     # takes a tool_choice that forces a tool
    formats: bool = False                   # takes output_config.format


_LOW: Final = ("low", "medium", "high")
_ALL: Final = ("low", "medium", "high", "xhigh", "max")
_OLD: Final = Model(Thinking.NONE)
_FOUR: Final = Model()
_FOUR_ONE: Final = Model(both=False)
_FOUR_FIVE: Final = Model(both=False, formats=True)
_FOUR_SIX: Final = replace(_FOUR_FIVE, thinking=Thinking.EITHER, efforts=(*_LOW, "max"))
_FOUR_SEVEN: Final = replace(_FOUR_FIVE, thinking=Thinking.ADAPTIVE, efforts=_ALL, sampling=False)
_FIVE: Final = replace(_FOUR_SEVEN, off="disabled")
_ALWAYS: Final = replace(_FOUR_SEVEN, always=True)
_UNFORCED: Final = replace(_ALWAYS, forced=False)

# By family, the first version (major, minor) from which a row holds, ascending. A version beyond the last is like the last.
_FAMILIES: Final[dict[str, tuple[tuple[tuple[int, int], Model], ...]]] = {
    "opus": (
        ((0, 0), _OLD), ((4, 0), _FOUR), ((4, 1), _FOUR_ONE), ((4, 5), replace(_FOUR_FIVE, efforts=_LOW)),
        ((4, 6), _FOUR_SIX), ((4, 7), _FOUR_SEVEN), ((5, 0), _FIVE), ((5, 5), _UNFORCED),
    ),
    "sonnet": (
        ((0, 0), _OLD), ((3, 7), _FOUR), ((4, 5), _FOUR_FIVE), ((4, 6), _FOUR_SIX), ((5, 0), _FIVE),
        ((5, 5), replace(_FIVE, off="between_tools", forced=False)),
    ),
    "haiku": (((0, 0), _OLD), ((4, 5), _FOUR_FIVE), ((5, 0), _FIVE)),
    "fable": (((0, 0), _ALWAYS), ((5, 1), _UNFORCED)),
    "mythos": (((0, 0), _ALWAYS), ((5, 1), _UNFORCED)),
}  # fmt: skip
_PREVIEW: Final = replace(_ALWAYS, efforts=(*_LOW, "max"))
_VERSION: Final = r"(?P<{0}major>\d)(?:[-._](?P<{0}minor>\d{{1,2}})(?!\d))?"
# claude-opus-4-5-20251101, claude-3-7-sonnet-latest, anthropic.claude-opus-4-6-v1:0, claude-sonnet-4@20250514, claude-opus-4.5
_NAME: Final = re.compile(
    rf"claude-(?:{_VERSION.format('old_')}-)?(?P<family>{'|'.join(_FAMILIES)})(?:-{_VERSION.format('')}(?!\d))?"
)

_ANCIENT: Final = re.compile(r"claude-(?:instant|v?[12]\b)")


@lru_cache(maxsize=512)
def model_of(name: str) -> Model:
    """What the model of this name understands. One that is no Claude is taken for the plainest that thinks."""
    found = _NAME.search(name[:256].lower())
    if found is None:
        return _OLD if _ANCIENT.search(name) else _FOUR
    family = _FAMILIES[found["family"]]
    major, minor = found["major"] or found["old_major"], found["minor"] or found["old_minor"] or "0"
    if major is None:
        return _PREVIEW if "mythos-preview" in name else family[-1][1]
    version = (int(major), int(minor))
    return [model for since, model in family if since <= version][-1]
