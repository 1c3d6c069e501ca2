"""What is known of a model at a vendor: the price list's own windows, and the families' where it has none."""

import time

import pytest

from mitmgate.providers.capabilities import UNKNOWN
from mitmgate.providers.catalogue import context_window, models_of, traits


@pytest.mark.parametrize(
    ("vendor", "model", "window"),
    [
        ("openai", "gpt-4o-mini", 128_000),
        ("openai", "gpt-4o-mini-2024-07-18", 128_000),      # a dated name
        ("openai", "gpt-4.1", 1_047_576),                   # the list rounds it down
        ("azure", "gpt-4.1", 1_047_576),
        ("azure", "gpt-5.4", 1_050_000),                    # Azure's list has a gap there
        ("gemini", "gemini-1.5-pro", 2_097_152),
        ("vertex", "gemini-2.5-flash", 1_048_576),
        ("bedrock", "us.anthropic.claude-3-5-sonnet-20241022-v2:0", 200_000),
        ("claude", "claude-opus-4-1", 200_000),
        ("groq", "llama-3.3-70b-versatile", 131_072),       # not in the list: the family's
        ("cerebras", "llama3.1-8b", 32_768),                # a reseller may offer less than the model has
        ("deepseek", "deepseek-chat", 131_072),             # the list is old
        ("ollama", "llama3.1:8b", 131_072),                 # the most that it may be told to offer
        (None, "gpt-4o", 128_000),
        (None, "llama3.1-8b", 131_072),
        ("groq", "no-such-model", None),
        ("simulator", "sim-1", None),
        ("no-such-vendor", "my-model", None),
    ],
)
def test_context_windows(vendor: str | None, model: str, window: int | None) -> None:
    assert traits(vendor, model).context_window == window


@pytest.mark.parametrize(
    ("model", "limit"),
    [("gpt-4o", 16_384), ("claude-3-5-sonnet-20241022", 8_192), ("claude-opus-4-1", 32_000), ("claude-sonnet-4-5", 64_000),
     ("gemini-2.5-pro", 65_536), ("my-model", None)],
)  # fmt: skip
def test_output_limits(model: str, limit: int | None) -> None:
    assert traits(None, model).output_limit == limit


def test_no_window_is_smaller_than_what_the_answer_may_have() -> None:
    for vendor in ("openai", "anthropic", "gemini", "cohere", "deepseek"):
        for model in models_of(vendor):
            known = traits(vendor, model)
            assert (known.output_limit or 0) <= (known.context_window or 10**9), (vendor, model)


def test_the_two_ways_to_a_window_agree() -> None:
    for vendor in ("openai", "anthropic", "gemini", "groq", "cerebras", "deepseek", "mistral"):
        for model in models_of(vendor):
            window = context_window(vendor, model)
            assert window is None or window == traits(vendor, model).context_window, (vendor, model)


def test_nothing_is_known_of_what_nobody_knows() -> None:
    assert traits("openai", "my-deployment") == UNKNOWN
    assert traits("ollama", "my-finetune:latest") == UNKNOWN
    assert traits(None, "") == UNKNOWN


def test_a_client_may_name_anything() -> None:
    for model in ("x" * 1_000_000, "\0", "\ud800", "a/" * 50_000, "*", "gpt-4o\n"):
        assert traits("openai", model).tools in (None, True)


def test_it_is_looked_up_once() -> None:
    """The first look takes a fraction of a millisecond; those that follow are on every request's way."""
    traits("openai", "gpt-4o")
    best = min(_seconds() for _ in range(5))
    assert best / 1_000 < 20e-6


def _seconds() -> float:
    start = time.perf_counter()
    for _ in range(1_000):
        traits("openai", "gpt-4o")
    return time.perf_counter() - start
