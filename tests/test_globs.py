"""Globs: what each stands for, and that they are what a slow reading of their definition says."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitmgate.globs import Glob, Globs


@pytest.mark.parametrize(
    ("pattern", "subject", "captured"),
    [
        ("gpt-4o", "gpt-4o", ""),
        ("gpt-4o", "gpt-4o-mini", None),
        ("gpt-4o", "GPT-4o", None),
        ("gpt-4o*", "gpt-4o", ""),
        ("gpt-4o*", "gpt-4o-mini", "-mini"),
        ("*", "", ""),
        ("*", "a/b.c", "a/b.c"),
        ("claude/*", "claude/haiku", "haiku"),
        ("claude/*", "claude", None),
        ("/v1/*", "/v1/chat/completions", "chat/completions"),
        ("*.openai.azure.com", "x.y.openai.azure.com", "x.y"),
        ("*.openai.azure.com", "openai.azure.com", None),
        ("*-audio*", "gpt-4o-audio-preview", "gpt-4o"),
        ("*a*b", "xaybzb", "x"),
        ("*a*b*", "xaybz", "x"),
        ("a*a", "a", None),
        ("ab*ba", "aba", None),
        ("**", "x", "x"),
        ("a**b", "a-b", "-"),
        ("gpt-?", "gpt-4", ""),
        ("gpt-?", "gpt-", None),
        ("?*", "", None),
        ("?*", "ab", "b"),
        ("*?", "ab", "a"),
        ("*?b*", "ab", ""),
        ("*?b*", "b", None),
        ("[ab]", "[ab]", ""),
        ("[ab]", "a", None),
        ("a.c", "abc", None),
        ("", "", ""),
        ("", "a", None),
        ("?", "\u2028", ""),
    ],
)
def test_match(pattern: str, subject: str, captured: str | None) -> None:
    assert Glob.parse(pattern).match(subject) == captured


@pytest.mark.parametrize(("pattern", "literal"), [("a", True), ("", True), ("[a]", True), ("a*", False), ("a?", False)])
def test_literal(pattern: str, literal: bool) -> None:
    assert Glob.parse(pattern).literal is literal


def by_definition(pattern: str, subject: str) -> str | None:
    """The shortest first star: as a regular expression, which may backtrack on such short texts."""
    groups = "".join("(.*?)" if c == "*" else "." if c == "?" else re.escape(c) for c in re.sub(r"\*+", "*", pattern))
    found = re.fullmatch(groups, subject, re.DOTALL)
    if found is None:
        return None
    return found[1] if "*" in pattern else ""


@given(st.text("ab/*?", max_size=8), st.text("ab/", max_size=10))
def test_globs_are_what_their_definition_says(pattern: str, subject: str) -> None:
    found, expected = Glob.parse(pattern).match(subject), by_definition(pattern, subject)
    assert (found is None) == (expected is None)
    if "?" not in pattern:
        assert found == expected


def test_several_patterns() -> None:
    globs = Globs.parse(("gpt-4o", "gpt-*", "*-mini"))
    assert globs.literals == {"gpt-4o"}
    assert globs.match("gpt-4o") == ""
    assert globs.match("gpt-4o-mini") == "4o-mini"      # of the first pattern that matches
    assert globs.match("o3-mini") == "o3"
    assert globs.match("o3") is None
    assert Globs.parse(()).match("") is None


@pytest.mark.parametrize("pattern", ["*a*a*a*a*a*a*a*a*b", "*aaaaaaaa*aaaaaaab", "a*" * 20 + "b", "*?a?a?a?a*b"])
def test_no_pattern_is_slow(pattern: str) -> None:
    """STYLE §4: on 100 kB of `a`. Backtracking would take longer than the sun has left."""
    began = time.process_time()
    assert Glob.parse(pattern).match("a" * 100_000) is None
    assert time.process_time() - began < 5
