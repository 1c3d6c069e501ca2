"""Tokens, counted Anthropic's way and OpenAI's.

Source: anthropic.types.Usage, MessageDeltaUsage. What was read from the cache and written to it is part of OpenAI's prompt
tokens and beside Anthropic's input tokens; a delta's counts are totals, and what it leaves out stands as it was.
"""

from typing import Any, Final

from mitmgate.dialects.canonical import count, usage

_COUNTS: Final = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class Tokens:
    """What the provider has counted so far."""

    __slots__ = ("_counts", "_thought")

    def __init__(self) -> None:
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._thought: int | None = None

    def note(self, counted: object) -> None:
        """A `usage` object: its counts take the place of those before."""
        if not isinstance(counted, dict):
            return
        for name in _COUNTS:
            if counted.get(name) is not None:
                self._counts[name] = count(counted[name])
        details = counted.get("output_tokens_details")
        if isinstance(details, dict) and details.get("thinking_tokens") is not None:
            self._thought = count(details["thinking_tokens"])

    @property
    def usage(self) -> dict[str, Any]:
        """As OpenAI counts."""
        fresh, output, read, written = (self._counts[name] for name in _COUNTS)
        return usage(fresh + read + written, output, cached=read, written=written, reasoning=self._thought)


def counted(usage: object) -> dict[str, Any]:
    """A canonical usage as Anthropic counts; zeros for one that is not there, for the members are not optional."""
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    details = details if isinstance(details, dict) else {}
    read, written = count(details.get("cached_tokens")), count(details.get("cache_creation_tokens"))
    return {
        "input_tokens": max(0, count(usage.get("prompt_tokens")) - read - written), "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read, "output_tokens": count(usage.get("completion_tokens")),
    } | _thought(usage.get("completion_tokens_details"))  # fmt: skip


def _thought(details: object) -> dict[str, Any]:
    reasoning = details.get("reasoning_tokens") if isinstance(details, dict) else None
    return {"output_tokens_details": {"thinking_tokens": count(reasoning)}} if reasoning is not None else {}
