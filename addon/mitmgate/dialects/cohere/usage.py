"""Cohere's counts. Its SDK types them as floats, and so they may come: 913.0 is 913."""

from math import isfinite
from typing import Any

from mitmgate.dialects.canonical import count, usage


def whole(value: object) -> int:
    """A count, however it is written; 0 for what is none."""
    if isinstance(value, float):
        return count(int(value)) if isfinite(value) else 0
    return count(value)


def member(document: object, *names: str) -> Any:
    """What stands at this path of objects; None where it ends before."""
    for name in names:
        if not isinstance(document, dict):
            return None
        document = document.get(name)
    return document


def usage_of(counts: object) -> dict[str, Any]:
    """The canonical usage of `Usage` (SDK, `types/usage.py`).

    `tokens` is what the model read and wrote. `billed_units` is money: it leaves out what Cohere itself put into the prompt,
    and stands in only where there is no `tokens`. `cached_tokens` is part of the input. `reasoning_tokens`, which the SDK's
    type does not have yet, is part of the output.
    """
    told = member(counts, "tokens")
    tokens = told if isinstance(told, dict) else member(counts, "billed_units")
    reasoning = member(tokens, "reasoning_tokens")
    return usage(
        whole(member(tokens, "input_tokens")),
        whole(member(tokens, "output_tokens")),
        cached=whole(member(counts, "cached_tokens")),
        reasoning=None if reasoning is None else whole(reasoning),
    )
