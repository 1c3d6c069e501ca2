"""What models can do, by the family that a name belongs to. What is not in the table is not known.

Sources: the vendors' model pages and API references (OpenAI, Anthropic, Google, Mistral, DeepSeek, xAI, Cohere, Perplexity,
Amazon) and, for open weights, the model cards, as of November 2026. The tiers of reasoning are this house's own judgement:

    high    thinks before it answers, at full strength
    medium  thinks, but is small or meant to be fast
    low     does not think by itself, or hardly; a capable general model all the same
    none    small or old

What is not known (None) never takes a target out of a plan: the provider will say if it cannot. Where it is known but wrong
for somebody's deployment, `models:` of the rules says otherwise (`overridden`). A family's context window is the most that
the model has anywhere, because a window that is thought too small refuses what would have fitted; servers may offer less.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal, NamedTuple

Tier = Literal["none", "low", "medium", "high"]

TIERS: Final[tuple[Tier, ...]] = ("none", "low", "medium", "high")
"""From the least to the most."""

CAPABILITIES: Final = ("tools", "json", "json_schema", "vision", "audio")
"""What `capabilities:` of the rules may list: tool calling, JSON mode, answers by a JSON schema, images, audio as input."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a model at a vendor; None: it is not."""

    tools: bool | None = None
    json: bool | None = None
    json_schema: bool | None = None
    vision: bool | None = None
    audio: bool | None = None               # as input
    reasoning: Tier | None = None
    context_window: int | None = None       # tokens
    output_limit: int | None = None         # tokens


UNKNOWN: Final = Traits()


def overridden(
    known: Traits,
    capabilities: Collection[str] | None = None,
    reasoning: Tier | None = None,
    context_window: int | None = None,
) -> Traits:
    """What is known, but for what the rules say. A list of capabilities is whole: what it leaves out is lacking."""
    if capabilities is not None:
        schema = "json_schema" in capabilities
        known = replace(
            known,
            tools="tools" in capabilities,
            json="json" in capabilities or schema,
            json_schema=schema,
            vision="vision" in capabilities,
            audio="audio" in capabilities,
        )
    if reasoning is not None:
        known = replace(known, reasoning=reasoning)
    return known if context_window is None else replace(known, context_window=context_window)


class Family(NamedTuple):
    """A row. `names` are globs; `can` lists capabilities, with `?` where it depends on the server or is not known."""

    names: str
    can: str | None                         # None: nothing is known, it does not chat
    reasoning: Tier | None = None
    context_window: int | None = None
    output_limit: int | None = None


_TEXT: Final = "tools json json_schema"
_SEES: Final = f"{_TEXT} vision"
_HEARS: Final = f"{_SEES} audio"
# Open weights: which answers a schema can bind depends on who serves them.
_OPEN: Final = "tools json json_schema?"
_OPEN_SEES: Final = f"{_OPEN} vision"
_OPEN_MAYBE: Final = "tools? json? json_schema?"

_AT_VENDOR: Final[Mapping[str | None, tuple[Family, ...]]] = {
    "deepseek": (   # its API has `json_object` only, whatever others offer for the same weights
        Family("deepseek-chat*", "tools json", "low", 131_072, 8_192),
        Family("deepseek-reasoner*", "tools json", "high", 131_072, 65_536),
        Family("deepseek-*", "tools json vision?", "high"),
    ),
    "cerebras": (Family("llama-4*", _OPEN, "low"),),
}
"""What is otherwise at one vendor; looked at first."""

_FAMILIES: Final[tuple[Family, ...]] = (
    # What takes no chat, though it may have the name of a family that does.
    Family(
        "*embed* *rerank* *moderation* *whisper* *-tts* tts-* *transcribe* *realtime* *-live* *-guard-* *-ocr* dall-e*"
        " *image* imagen* *nano-banana* gpt-3.5-turbo-instruct* *voice* *computer-use* gemini*omni* gemini*robotics*",
        None,
    ),
    Family("sim-1", _HEARS, "high"),
    # OpenAI
    Family("gpt-4o*-audio* gpt-audio*", "tools audio", "low", 128_000, 16_384),
    Family("gpt-4o*-search*", "json? json_schema vision?", "low", 128_000, 16_384),
    Family("chatgpt-4o*", "json? vision", "low", 128_000, 16_384),
    Family("gpt-4o-2024-05-13", "tools json vision", "low", 128_000, 4_096),
    Family("gpt-4o*", _SEES, "low", 128_000, 16_384),
    Family("gpt-4.1*", _SEES, "low", 1_047_576, 32_768),
    Family("gpt-4.5*", _SEES, "low", 128_000, 16_384),
    Family("gpt-4-turbo-preview gpt-4-1106* gpt-4-0125*", "tools json", "low", 128_000, 4_096),
    Family("gpt-4-turbo*", "tools json vision", "low", 128_000, 4_096),
    Family("gpt-4-vision* gpt-4-*-vision*", "vision", "low", 128_000, 4_096),
    Family("gpt-4-32k*", "tools", "low", 32_768, 32_768),
    Family("gpt-4 gpt-4-*", "tools", "low", 8_192, 8_192),
    Family("gpt-3.5* gpt-35*", "tools json", "none", 16_385, 4_096),
    Family("o3-deep-research* o4-mini-deep-research*", f"{_OPEN_MAYBE} vision", "high", 200_000, 100_000),
    Family("o1-preview*", "", "high", 128_000, 32_768),
    Family("o1-mini*", "", "medium", 128_000, 65_536),
    Family("o3-mini*", _TEXT, "medium", 200_000, 100_000),
    Family("o4-mini* codex-mini*", _SEES, "medium", 200_000, 100_000),
    Family("o1 o1-* o3 o3-*", _SEES, "high", 200_000, 100_000),
    Family("gpt-5*-chat* gpt-chat*", "tools? json json_schema vision", "low", 128_000, 16_384),
    Family("gpt-5-nano*", _SEES, "low", 400_000, 128_000),
    Family("gpt-5-mini*", _SEES, "medium", 400_000, 128_000),
    Family("gpt-5 gpt-5-* gpt-5.1* gpt-5.2*", _SEES, "high", 400_000, 128_000),
    Family("gpt-5.*-nano*", _SEES, "low", None, 128_000),
    Family("gpt-5.*-mini* gpt-5.*-luna*", _SEES, "medium", None, 128_000),
    Family("gpt-5.*", _SEES, "high", None, 128_000),
    # Some of these call tools through the Responses API only.
    Family("gpt-6*-luna*", "tools? json json_schema vision", "medium", 1_050_000, 128_000),
    Family("gpt-6*", "tools? json json_schema vision", "high", 1_050_000, 128_000),
    Family("gpt-oss*120b*", _OPEN, "high", 131_072),
    Family("gpt-oss*", _OPEN, "medium", 131_072),
    # Anthropic: JSON is what our codec makes of its tools and of its output format.
    Family("claude-instant* claude-2* claude-v1*", "", "none", 200_000, 4_096),
    Family("claude-3-haiku*", _SEES, "none", 200_000, 4_096),
    Family("claude-3-sonnet* claude-3-opus*", _SEES, "low", 200_000, 4_096),
    Family("claude-3?5-*", _SEES, "low", 200_000, 8_192),
    Family("claude-3?7-*", _SEES, "high", 200_000, 64_000),
    Family("claude-opus-4?5* claude-sonnet-4* claude-4-sonnet*", _SEES, "high", None, 64_000),
    Family("claude-opus-4 claude-opus-4-2* claude-opus-4@* claude-opus-4?0* claude-opus-4?1* claude-4-opus*",
           _SEES, "high", 200_000, 32_000),
    Family("claude-opus-4*", _SEES, "high", None, 128_000),
    Family("claude-haiku-4* claude-4?5-haiku*", _SEES, "medium", 200_000, 64_000),
    Family("claude-haiku-5*", _SEES, "medium"),
    Family("claude-sonnet-5* claude-opus-5* claude-fable-5* claude-mythos-5*", _SEES, "high", 1_000_000, 128_000),
    # Google
    Family("gemini-1.0-pro-vision* gemini-pro-vision*", "vision", "none", 16_384, 2_048),
    Family("gemini-1.0* gemini-pro", "tools", "none", 32_768, 8_192),
    Family("gemini-1.5-flash-8b* gemini-flash-1.5-8b*", _HEARS, "none", 1_048_576, 8_192),
    Family("gemini-1.5-flash* gemini-flash-1.5*", _HEARS, "low", 1_048_576, 8_192),
    Family("gemini-1.5-pro* gemini-pro-1.5*", _HEARS, "low", 2_097_152, 8_192),
    Family("gemini-2.0-flash-thinking*", "vision", "high", 1_048_576, 65_536),
    Family("gemini-2.0*", _HEARS, "low", 1_048_576, 8_192),
    Family("gemini-2.5-flash-lite*", _HEARS, "low", 1_048_576, 65_536),
    Family("gemini-2.5-flash*", _HEARS, "medium", 1_048_576, 65_536),
    Family("gemini-2.5-pro*", _HEARS, "high", 1_048_576, 65_536),
    Family("gemini-3*-lite*", _HEARS, "low", 1_048_576, 65_536),
    Family("gemini-3*-flash*", _HEARS, "medium", 1_048_576, 65_536),
    Family("gemini-3*-pro*", _HEARS, "high", 1_048_576, 65_536),
    Family("gemma-7b* gemma2* gemma-2*", "json?", "none", 8_192),
    Family("gemma3n* gemma-3n*", f"{_OPEN_MAYBE} vision? audio?", "none", 32_768),
    Family("gemma3* gemma-3*", f"{_OPEN_MAYBE} vision?", "none", 131_072),
    Family("gemma4* gemma-4*", f"{_OPEN_MAYBE} vision audio?", "low"),
    # Meta
    Family("llama-4* llama4*", _OPEN_SEES, "low"),
    Family("llama-3.3* llama3.3* llama3-3* llama-v3p3*", _OPEN, "low", 131_072),
    Family("llama-3.2-90b* llama3-2-90b* llama-v3p2-90b*", f"{_OPEN_MAYBE} vision", "low", 131_072),
    Family("llama-3.2-11b* llama3-2-11b* llama-v3p2-11b* llama3.2-vision*", f"{_OPEN_MAYBE} vision", "none", 131_072),
    Family("llama-3.2* llama3.2* llama3-2* llama-v3p2*", _OPEN_MAYBE, "none", 131_072),
    Family("llama-3.1*-8b* llama3.1-8b* llama3-1-8b* llama-v3p1-8b* llama3.1:8b* llama3.1", _OPEN, "none", 131_072),
    Family("llama-3.1* llama3.1* llama3-1* llama-v3p1*", _OPEN, "low", 131_072),
    Family("llama-3-* llama3-* llama3:* llama3 llama-v3-*", _OPEN_MAYBE, "none"),
    Family("llama-2* llama2*", "json? json_schema?", "none"),
    # Mistral
    Family("pixtral-large*", _SEES, "low", 131_072),
    Family("pixtral*", _SEES, "none", 131_072),
    Family("magistral-medium*", f"{_TEXT} vision?", "high"),
    Family("magistral*", f"{_TEXT} vision?", "medium"),
    Family("voxtral*", f"{_TEXT} audio", "none"),
    Family("ministral*", f"{_TEXT} vision?", "none"),
    Family("mistral-large* mistral-medium* mistral-small*", f"{_TEXT} vision?", "low"),
    Family("codestral* devstral*", f"{_TEXT} vision?", "low"),
    Family("mistral-saba* mistral-nemo* open-mistral-nemo*", _OPEN, "none"),
    Family("mixtral-8x22b* open-mixtral-8x22b*", _OPEN, "none", 65_536),
    Family("mixtral* open-mixtral*", _OPEN, "none", 32_768),
    Family("mistral-7b* open-mistral-7b* mistral-tiny* mistral mistral:*", _OPEN_MAYBE, "none", 32_768),
    # DeepSeek's weights, wherever they are
    Family("deepseek-r1-distill*", _OPEN_MAYBE, "medium", 131_072),
    Family("deepseek-r1* deepseek-reasoner* r1-v1*", _OPEN_MAYBE, "high", 163_840),
    Family("deepseek-v3.* deepseek-v3-1* deepseek-v3p*", _OPEN, "high", 163_840),
    Family("deepseek-v3* deepseek-chat*", _OPEN, "low", 163_840),
    Family("deepseek-v4*", f"{_OPEN} vision?", "high"),
    # Alibaba
    Family("qwq* qvq*", f"{_OPEN_MAYBE} vision?", "high", 131_072),
    Family("qwen*-vl* qwen*vl:*", f"{_OPEN_MAYBE} vision"),
    Family("qwen*-omni*", f"{_OPEN_MAYBE} vision audio"),
    Family("qwen2* qwen-2*", _OPEN_MAYBE, "low"),
    Family("qwen3-coder* qwen-3-coder*", _OPEN, "low"),
    Family("qwen3* qwen-3*", f"{_OPEN} vision?", "medium"),
    # xAI
    Family("grok-2-vision* grok-vision*", _SEES, "low", 32_768),
    Family("grok-beta* grok-2*", _TEXT, "low", 131_072),
    Family("grok-3-mini*", _TEXT, "medium", 131_072),
    Family("grok-3*", _TEXT, "low", 131_072),
    Family("grok-4*non-reasoning*", _SEES, "low"),
    Family("grok-4*", _SEES, "high"),
    Family("grok-code* grok-build*", f"{_TEXT} vision?", "medium", 256_000),
    # Cohere
    Family("command-a-vision*", "json json_schema vision", "low", 128_000, 8_000),
    Family("command-a-reasoning*", _TEXT, "high", 256_000, 32_000),
    Family("command-a*", _TEXT, "low", 256_000, 8_000),
    Family("command-r7b*", _TEXT, "none", 128_000, 4_000),
    Family("command-r*", _TEXT, "low", 128_000, 4_000),
    Family("command command-light*", "", "none", 4_096, 4_000),
    Family("c4ai-aya-vision*", "vision", "none", 16_384, 4_000),
    Family("c4ai-aya*", "", "none", 128_000, 4_000),
    # Perplexity: no tools
    Family("sonar-reasoning* sonar-deep-research*", "json? json_schema vision?", "high", 128_000),
    Family("sonar-pro*", "json? json_schema vision", "low", 200_000),
    Family("sonar*", "json? json_schema vision", "low", 128_000),
    # Amazon
    Family("nova-micro*", _OPEN_MAYBE, "none", 128_000, 10_000),
    Family("nova-2*", f"{_OPEN_MAYBE} vision audio?", "medium", 1_000_000, 64_000),
    Family("nova-lite* nova-pro*", f"{_OPEN_MAYBE} vision", "low", 300_000, 10_000),
    Family("nova-premier*", f"{_OPEN_MAYBE} vision", "low", 1_000_000, 32_000),
    # Moonshot, Zhipu
    Family("kimi-k2-thinking*", _OPEN, "high", 262_144),
    Family("kimi-k2*", f"{_OPEN} vision?", None, 262_144),
    Family("glm-4.5v* glm-4.6v*", _OPEN_SEES, "medium"),
    Family("glm-4*", _OPEN, "medium"),
)  # fmt: skip
"""The first row that a name fits decides."""



def _pattern(rows: Iterable[Family]) -> re.Pattern[str]:
    """One group a row: all globs at once are twenty times faster than one by one."""
    groups = ("|".join(_regex(glob) for glob in row.names.split()) for row in rows)
    return re.compile("|".join(f"({group})" for group in groups), re.DOTALL)


def _regex(glob: str) -> str:
    return re.escape(glob).replace(r"\*", ".*").replace(r"\?", ".")


_PATTERN: Final = _pattern(_FAMILIES)
_PATTERNS_AT_VENDOR: Final = {vendor: _pattern(rows) for vendor, rows in _AT_VENDOR.items()}

_LONGEST_NAME: Final = 200
# Who stands before the name: a fine-tune's mark (OpenAI), a region and a maker (Bedrock), Meta's own prefix.
_BEFORE: Final = re.compile(
    r"\A(?:ft:)?(?:(?:us|us-gov|eu|apac|jp|au|ca|global|regional)\.)?"
    r"(?:(?:anthropic|meta|mistral|amazon|cohere|deepseek|openai|qwen|moonshotai?|google|zai)\.)?(?:meta-(?=llama))?"
)


@lru_cache(4_096)
def family_of(vendor: str | None, model: str) -> Family | None:
    """The row of a name, also under a maker's or a path's prefix (`meta-llama/Llama-3.3-70B`, `us.anthropic.claude-…`)."""
    name = _BEFORE.sub("", model[:_LONGEST_NAME].lower().rpartition("/")[2], count=1)
    for pattern, rows in ((_PATTERNS_AT_VENDOR.get(vendor), _AT_VENDOR.get(vendor, ())), (_PATTERN, _FAMILIES)):
        found = pattern.fullmatch(name) if pattern is not None else None
        if found is not None and found.lastindex is not None:
            return rows[found.lastindex - 1]
    return None


@lru_cache(1_024)
def traits_of(row: Family | None) -> Traits:
    """What a row says."""
    if row is None or row.can is None:
        return UNKNOWN
    words = row.can.split()
    can = {name: None if f"{name}?" in words else name in words for name in CAPABILITIES}
    return Traits(**can, reasoning=row.reasoning, context_window=row.context_window, output_limit=row.output_limit)
