"""The table of model families: what must hold for each row, and names as vendors write them."""

import re

import pytest

from mitmgate.providers.capabilities import (
    _AT_VENDOR,
    _FAMILIES,
    CAPABILITIES,
    TIERS,
    UNKNOWN,
    Family,
    Traits,
    family_of,
    overridden,
    traits_of,
)
from mitmgate.providers.vendors import VENDORS

ROWS = (*_FAMILIES, *(row for rows in _AT_VENDOR.values() for row in rows))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.names.split()[0])
def test_a_row(row: Family) -> None:
    for glob in row.names.split():
        assert re.fullmatch(r"[a-z0-9.:@?*-]+", glob), "names are compared in lower case, without a path"
        assert glob.strip("*?-"), "it would match everything"
    words = (row.can or "").split()
    assert {word.removesuffix("?") for word in words} <= set(CAPABILITIES)
    assert len({word.removesuffix("?") for word in words}) == len(words)
    assert row.reasoning is None or row.reasoning in TIERS
    assert row.can is not None or row[2:] == (None, None, None)
    if row.context_window is not None and row.output_limit is not None:
        assert row.output_limit <= row.context_window


@pytest.mark.parametrize("vendor", _AT_VENDOR)
def test_what_is_otherwise_is_so_at_a_vendor(vendor: str) -> None:
    assert vendor in VENDORS


@pytest.mark.parametrize("row", _FAMILIES, ids=lambda row: row.names.split()[0])
def test_no_row_stands_in_anothers_shadow(row: Family) -> None:
    """Of every row some name is its own: the globs with nothing, or with something ordinary, for their stars."""
    globs = [glob.replace("?", "-") for glob in row.names.split()]
    names = [glob.replace("*", filling) for glob in globs for filling in ("", "-x", "x", "5", "2")]
    assert any(family_of(None, name) is row for name in names)


def can(model: str, vendor: str | None = None) -> set[str]:
    known = traits_of(family_of(vendor, model))
    return {name for name in CAPABILITIES if getattr(known, name)}


SEES = {"tools", "json", "json_schema", "vision"}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4o", SEES),
        ("gpt-4o-2024-08-06", SEES),
        ("gpt-4o-2024-05-13", SEES - {"json_schema"}),
        ("gpt-4o-audio-preview", {"tools", "audio"}),
        ("gpt-4.1-nano", SEES),
        ("gpt-4", {"tools"}),
        ("gpt-4-0613", {"tools"}),
        ("gpt-4-1106-preview", {"tools", "json"}),
        ("gpt-4-turbo-2024-04-09", {"tools", "json", "vision"}),
        ("gpt-3.5-turbo", {"tools", "json"}),
        ("gpt-35-turbo", {"tools", "json"}),
        ("o1-mini", set()),
        ("o3-mini", SEES - {"vision"}),
        ("o3", SEES),
        ("gpt-5-mini", SEES),
        ("GPT-5", SEES),
        ("ft:gpt-4o-mini-2024-07-18:org::id", SEES),
        ("openai/gpt-4o-mini", SEES),
        ("claude-3-5-sonnet-20241022", SEES),
        ("anthropic/claude-3.5-sonnet", SEES),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", SEES),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", SEES),
        ("claude-sonnet-4@20250514", SEES),
        ("claude-2.1", set()),
        ("gemini-1.5-flash-8b", {*SEES, "audio"}),
        ("models/gemini-2.5-pro", {*SEES, "audio"}),
        ("llama-3.3-70b-versatile", {"tools", "json"}),
        ("meta-llama/Llama-3.3-70B-Instruct-Turbo", {"tools", "json"}),
        ("Meta-Llama-3.1-8B-Instruct", {"tools", "json"}),
        ("us.meta.llama3-3-70b-instruct-v1:0", {"tools", "json"}),
        ("meta-llama/llama-4-scout-17b-16e-instruct", {"tools", "json", "vision"}),
        ("accounts/fireworks/models/llama-v3p2-90b-vision-instruct", {"vision"}),
        ("mixtral-8x7b-32768", {"tools", "json"}),
        ("pixtral-12b-2409", SEES),
        ("deepseek-ai/DeepSeek-V3", {"tools", "json"}),
        ("grok-2-vision-1212", SEES),
        ("command-r-plus-08-2024", SEES - {"vision"}),
        ("sonar-pro", {"json_schema", "vision"}),
        ("gpt-oss-120b", {"tools", "json"}),
        ("sim-1", set(CAPABILITIES)),
    ],
)  # fmt: skip
def test_what_models_can(model: str, expected: set[str]) -> None:
    assert can(model) == expected


def test_what_one_vendor_does_otherwise() -> None:
    assert "vision" in can("llama-4-scout-17b-16e-instruct", "groq")
    assert "vision" not in can("llama-4-scout-17b-16e-instruct", "cerebras")
    assert traits_of(family_of("deepseek", "deepseek-chat")).json_schema is False
    assert traits_of(family_of("fireworks", "accounts/fireworks/models/deepseek-v3")).json_schema is None


@pytest.mark.parametrize(
    ("model", "tier"),
    [
        ("gpt-3.5-turbo", "none"), ("gpt-4o", "low"), ("o4-mini", "medium"), ("o3", "high"), ("gpt-5-nano", "low"),
        ("claude-3-haiku-20240307", "none"), ("claude-haiku-4-5", "medium"), ("claude-opus-4-1", "high"),
        ("gemini-2.5-flash", "medium"), ("gemini-2.5-pro", "high"), ("llama-3.1-8b-instant", "none"),
        ("llama-3.3-70b-versatile", "low"), ("deepseek-r1", "high"), ("deepseek-r1-distill-llama-70b", "medium"),
        ("gpt-oss-20b", "medium"), ("gpt-oss-120b", "high"), ("magistral-medium-latest", "high"), ("grok-4-0709", "high"),
        ("grok-4-fast-non-reasoning", "low"),
    ],
)  # fmt: skip
def test_reasoning(model: str, tier: str) -> None:
    assert traits_of(family_of(None, model)).reasoning == tier


@pytest.mark.parametrize(
    "model",
    [
        "my-own-model", "gpt-99", "", "/", "x" * 100_000, "whisper-1", "text-embedding-3-small", "gpt-4o-mini-tts",
        "gpt-image-1", "gpt-4o-realtime-preview", "llama-guard-3-8b", "sim-embedding-1", "gpt-3.5-turbo-instruct",
    ],
)  # fmt: skip
def test_what_is_not_known(model: str) -> None:
    """Or takes no chat."""
    assert traits_of(family_of(None, model)) == UNKNOWN


def test_the_rules_have_the_last_word() -> None:
    known = traits_of(family_of(None, "gpt-4o"))
    assert overridden(known) == known
    told = overridden(known, ("tools", "json"), "high", 9_000)
    assert told == Traits(True, True, False, False, False, "high", 9_000, known.output_limit)
    assert overridden(UNKNOWN, ("json_schema",)) == Traits(False, True, True, False, False), "a schema is JSON too"
    assert overridden(UNKNOWN, ()) == Traits(False, False, False, False, False), "an empty list is one too"
    assert overridden(UNKNOWN, None, None, 5) == Traits(context_window=5)
