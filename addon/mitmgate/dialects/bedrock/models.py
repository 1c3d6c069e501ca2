"""What a model on Bedrock understands, by its name: its maker, and how it is told to reason.

Sources: Amazon Bedrock User Guide, "Adaptive thinking", "Extended thinking" and "Prompt caching"; Amazon Nova 2 User Guide,
"Extended thinking"; Anthropic's "Migrating to Claude 4.x" for what its sampling parameters may be.
"""

import re
from enum import Enum
from typing import Final, NamedTuple

_VERSION: Final = re.compile(r"claude(?:-[a-z]+)?-(\d{1,2})(?!\d)(?:-(\d{1,2})(?!\d))?")
_ADAPTIVE_NAMES: Final = ("mythos", "fable")
_ADAPTIVE: Final = (4, 6)                   # from here on a model decides itself how much it thinks
_BUDGETED: Final = (3, 7)                   # from here on it takes a budget
_SET_SAMPLING: Final = (4, 7)               # from here on temperature, top_p and top_k must be left alone
_ONE_SAMPLING: Final = (4, 1)               # from here on temperature and top_p exclude each other


class Maker(Enum):
    """Whose dialect stands behind Converse."""

    ANTHROPIC = "anthropic"
    NOVA = "nova"
    GPT_OSS = "gpt-oss"
    OTHER = "other"


class Reasons(Enum):
    """How a model is told how much to reason."""

    NOT = "not"
    BUDGET = "budget"                       # thinking: {type: enabled, budget_tokens}
    ADAPTIVE = "adaptive"                   # thinking: {type: adaptive}, and an effort
    NOVA = "nova"                           # reasoningConfig: {type: enabled, maxReasoningEffort}
    GPT_OSS = "gpt-oss"                     # reasoning_effort


class Traits(NamedTuple):
    """What one model understands."""

    maker: Maker
    reasons: Reasons
    fixed_sampling: bool = False            # only the defaults of temperature, top_p and top_k
    one_sampling: bool = False              # temperature or top_p, not both

    @property
    def caches(self) -> bool:
        """Whether it takes cache points in its messages and system blocks."""
        return self.maker in (Maker.ANTHROPIC, Maker.NOVA)


def traits_of(name: str) -> Traits:
    """By an id, an ARN or a base model's name."""
    name = name.lower()
    if "claude" in name or "anthropic" in name:
        return _claude(name)
    if "nova" in name:
        return Traits(Maker.NOVA, Reasons.NOVA if "nova-2" in name else Reasons.NOT)
    if "gpt-oss" in name:
        return Traits(Maker.GPT_OSS, Reasons.GPT_OSS)
    return Traits(Maker.OTHER, Reasons.NOT)


def _claude(name: str) -> Traits:
    if any(each in name for each in _ADAPTIVE_NAMES):
        return Traits(Maker.ANTHROPIC, Reasons.ADAPTIVE, fixed_sampling=True, one_sampling=True)
    found = _VERSION.search(name)
    version = (int(found[1]), int(found[2] or 0)) if found else (0, 0)
    reasons = Reasons.ADAPTIVE if version >= _ADAPTIVE else Reasons.BUDGET if version >= _BUDGETED else Reasons.NOT
    return Traits(Maker.ANTHROPIC, reasons, version >= _SET_SAMPLING, version >= _ONE_SAMPLING)
