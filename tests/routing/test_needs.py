"""What requests need and what models lack; the prompt's size against counts that OpenAI publishes for `o200k_base`."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitmgate.errors import Refusal
from mitmgate.providers.capabilities import CAPABILITIES, TIERS, UNKNOWN, Traits
from mitmgate.providers.catalogue import traits
from mitmgate.providers.tokens import PIECE, at_most, count, pieces, tokenizer
from mitmgate.routing.needs import NOTHING, Needs, counting, lacking, matters, missing, needs_of

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
TEXT = {"type": "text", "text": "what is it"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
SOUND = {"type": "input_audio", "input_audio": {"data": "A" * 100_000, "format": "wav"}}


def chat(*parts: Mapping[str, Any], **members: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": list(parts) or "hello"}], **members}


def asked(document: Mapping[str, Any]) -> set[str]:
    needs = needs_of(document, "chat")
    return {name for name in CAPABILITIES if getattr(needs, name)}


def counted(document: Mapping[str, Any], windows: Iterable[int | None] = (10**9,), operation: str = "chat") -> Needs:
    *_, last = counting(document, operation, needs_of(document, operation), windows)
    return last


@pytest.mark.parametrize(
    ("document", "needed"),
    [
        (chat(), set()),
        (chat(tools=TOOLS), {"tools"}),
        (chat(tools=TOOLS, tool_choice="auto"), {"tools"}),
        (chat(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "f"}}), {"tools"}),
        (chat(tools=TOOLS, tool_choice="none"), set()),
        (chat(tools=[]), set()),
        (chat(tools=None), set()),
        (chat(functions=[{"name": "f"}]), {"tools"}),
        (chat(functions=[{"name": "f"}], function_call="none"), set()),
        (chat(response_format={"type": "json_object"}), {"json"}),
        (chat(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}), {"json_schema"}),
        (chat(response_format={"type": "text"}), set()),
        (chat(response_format=None), set()),
        (chat(TEXT, IMAGE), {"vision"}),
        (chat(TEXT, SOUND), {"audio"}),
        (chat(TEXT, {"type": "file", "file": {"file_id": "f"}}), set()),
        (chat(IMAGE, SOUND, tools=TOOLS, response_format={"type": "json_object"}), {"vision", "audio", "tools", "json"}),
    ],
)  # fmt: skip
def test_what_a_chat_needs(document: dict[str, Any], needed: set[str]) -> None:
    assert asked(document) == needed


def test_an_image_anywhere_in_the_conversation_needs_eyes() -> None:
    turns = [{"role": "user", "content": [IMAGE]}, {"role": "user", "content": "sure?"}]
    assert needs_of({"messages": turns}, "chat").vision


@pytest.mark.parametrize("level", ["low", "medium", "high"])
def test_reasoning(level: str) -> None:
    assert needs_of(chat(min_reasoning_level=level), "chat").reasoning == level


@pytest.mark.parametrize("level", [None, "none"])
def test_no_reasoning(level: str | None) -> None:
    assert needs_of(chat(min_reasoning_level=level), "chat").reasoning == "none"
    assert needs_of(chat(), "chat").reasoning == "none"


@pytest.mark.parametrize("level", ["HIGH", "", 3, True, ["high"], {"high": 1}])
def test_no_such_level(level: object) -> None:
    with pytest.raises(Refusal) as caught:
        needs_of(chat(min_reasoning_level=level), "chat")
    assert (caught.value.code, caught.value.param) == ("invalid_request", "min_reasoning_level")


@pytest.mark.parametrize(
    ("members", "output"),
    [
        ({}, 0), ({"max_tokens": 7}, 7), ({"max_completion_tokens": 8}, 8), ({"max_tokens": 7, "max_completion_tokens": 8}, 8),
        ({"max_tokens": None}, 0), ({"max_tokens": "7"}, 0), ({"max_tokens": True}, 0), ({"max_tokens": -1}, 0),
        ({"max_tokens": 1.5}, 0),
    ],
)  # fmt: skip
def test_the_answers_tokens(members: dict[str, Any], output: int) -> None:
    assert needs_of(chat(**members), "chat").output == output


@pytest.mark.parametrize("operation", ["embeddings", "transcription", "files", "other", "rerank"])
def test_what_is_no_chat_needs_nothing(operation: str) -> None:
    assert needs_of(chat(IMAGE, tools=TOOLS), operation) == NOTHING


# "How to count tokens with tiktoken" (OpenAI cookbook) has four of these for o200k_base, the tokenizer's readme one.
@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("hello world", 2),
        ("antidisestablishmentarianism", 6),
        ("2 + 2 = 4", 7),
        ("お誕生日おめでとう", 8),
        ("tiktoken is great!", 6),
        ("<|endoftext|>", 7),               # a user's text: no special token
        ("\ud800", 1),                      # what UTF-8 cannot say
    ],
)
def test_tokens(text: str, tokens: int) -> None:
    assert count(text) == tokens


@given(st.text(max_size=300))
def test_no_text_has_more_tokens_than_its_bound(text: str) -> None:
    assert count(text) <= at_most(text)


@given(st.lists(st.sampled_from(["word ", "a b ", "  ", "\n", "é", "中文", "😀", "12 ", "x" * 50, "don't ", "A"]), max_size=40))
def test_pieces_make_up_the_text_and_its_tokens(parts: list[str]) -> None:
    text = "".join(parts) * 400
    cut = list(pieces(text))
    assert "".join(cut) == text
    assert all(len(piece) <= PIECE for piece in cut)
    # Where there is no space between words to cut at, a cut may split one token, or hinder a few from being found.
    assert abs(sum(map(count, cut)) - count(text)) <= 4 * len(cut)


def test_prose_is_counted_exactly_though_in_pieces() -> None:
    text = "The quick brown fox, who couldn't care less, jumps over 13 lazy dogs.\n\n" * 3_000
    assert len(list(pieces(text))) > 5
    assert sum(map(count, pieces(text))) == count(text)


def test_a_chat_is_counted_whole() -> None:
    """Texts, names, tool calls and tools; not what pictures are made of."""
    call = {"id": "c", "type": "function", "function": {"name": "look_up", "arguments": '{"city": "Rome"}'}}
    document = {
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "name": "alice", "content": [TEXT, IMAGE, SOUND]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "sunny"},
        ],
        "tools": TOOLS,
    }
    texts = ["be brief", "what is it", "alice", "look_up", '{"city": "Rome"}', "sunny"]
    found = counted(document)
    beside = 3 + 4 * 4 + 85
    written = '[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]'
    assert found.prompt == sum(map(count, [*texts, written])) + beside
    assert not found.more
    assert found.at_most == sum(map(len, [*texts, written])) + beside


def test_a_completion_is_as_long_as_its_longest_prompt() -> None:
    def prompt(value: object) -> int | None:
        return counted({"prompt": value}, operation="completions").prompt

    assert prompt("hello world") == 2
    assert prompt(["hello", "hello world", "bye"]) == 2
    assert prompt([1, 2, 3]) == 3
    assert prompt([[1, 2, 3], [4]]) == 3
    assert prompt([]) == prompt(None) == prompt({}) == 0


def test_it_is_counted_only_where_it_matters() -> None:
    needs = needs_of(chat({"type": "text", "text": "x" * 1_000}, max_tokens=100), "chat")
    assert needs.prompt is None
    assert not matters(needs, [])
    assert not matters(needs, [None, 8_192])
    assert not matters(needs, [needs.at_most + 100])
    assert matters(needs, [needs.at_most + 99])
    assert matters(needs, [8_192, None, 500])


def test_a_machine_without_a_tokenizer_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mitmgate.providers.tokens.find_spec", lambda name: None)
    tokenizer.cache_clear()
    try:
        assert not matters(Needs(at_most=10**6), [1])
    finally:
        monkeypatch.undo()
        tokenizer.cache_clear()
    assert matters(Needs(at_most=10**6), [1])
    assert count("hello world") == 2


def test_counting_stops_when_no_window_is_left() -> None:
    document = chat({"type": "text", "text": "word " * 1_000_000}, max_tokens=50)
    steps = list(counting(document, "chat", needs_of(document, "chat"), [8_192, 16_385, None]))
    assert len(steps) < 10
    assert steps[-1].more
    assert steps[-1].prompt is not None
    assert 16_385 - 50 < steps[-1].prompt < 16_385 + PIECE
    assert lacking(steps[-1], Traits(context_window=16_385))
    assert [step.prompt for step in steps] == sorted(step.prompt or 0 for step in steps)


def test_a_body_of_60_mib_does_not_hold_others_up() -> None:
    """Prose, which ends at the largest window; and the longest tokens that there are, which have to be read through."""
    count("the tokenizer is loaded")
    for text in ("The quick brown fox jumps over the lazy dog. " * (60 * 2**20 // 45), " " * (60 * 2**20)):
        document = chat({"type": "text", "text": text})
        began = last = time.perf_counter()
        longest: list[float] = []
        for _ in counting(document, "chat", needs_of(document, "chat"), [2_000_000]):
            now = time.perf_counter()
            longest.append(now - last)
            last = now
        assert last - began < 10, "some 0.5 s and 1 s on an idle machine"
        assert sorted(longest)[len(longest) * 9 // 10] < 0.02, "some 1 ms"


def test_pictures_are_not_read() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * (50 * 2**20)}}
    needs = needs_of(chat(TEXT, picture), "chat")
    assert needs.at_most < 200


@pytest.mark.parametrize("name", CAPABILITIES)
def test_what_is_not_known_is_not_lacking(name: str) -> None:
    needs = Needs(**{name: True})
    assert lacking(needs, UNKNOWN) == ()
    assert lacking(needs, Traits(**{name: True})) == ()
    assert len(lacking(needs, Traits(**{name: False}))) == 1
    assert lacking(NOTHING, Traits(**dict.fromkeys(CAPABILITIES, False))) == ()


@pytest.mark.parametrize("needed", TIERS)
@pytest.mark.parametrize("tier", TIERS)
def test_tiers(needed: Any, tier: Any) -> None:
    found = lacking(Needs(reasoning=needed), Traits(reasoning=tier))
    assert bool(found) is (TIERS.index(tier) < TIERS.index(needed))
    assert lacking(Needs(reasoning=needed), UNKNOWN) == ()


def test_windows() -> None:
    needs = Needs(prompt=8_000, output=1_000)
    assert lacking(needs, Traits(context_window=9_000)) == ()
    assert lacking(needs, Traits()) == ()
    assert lacking(needs, Traits(context_window=8_192)) == (
        "its context window of 8192 tokens is smaller than the 9000 that the request needs",
    )
    assert lacking(Needs(at_most=10**9), Traits(context_window=1)) == (), "not counted, because it does not matter"


def test_the_words() -> None:
    needs = Needs(tools=True, vision=True, reasoning="high", prompt=8_000, output=1_000)
    found = lacking(needs, traits("openai", "gpt-4"))
    assert found == (
        "has no vision", "its reasoning tier is low, below high",
        "its context window of 8192 tokens is smaller than the 9000 that the request needs",
    )  # fmt: skip
    assert missing(needs, [("openai/gpt-4", found), ("p/m", ("has no tool calling",))]) == (
        "No target can do what this request needs (tool calling, vision, a reasoning tier of at least high, a context window "
        "of 9000 tokens): openai/gpt-4 has no vision, its reasoning tier is low, below high and its context window of "
        "8192 tokens is smaller than the 9000 that the request needs; p/m has no tool calling."
    )
    stopped = Needs(prompt=20_000, more=True)
    assert "20000 or more" in missing(stopped, [("p/m", lacking(stopped, Traits(context_window=8_192)))])


def test_the_message_is_bounded() -> None:
    needs = Needs(vision=True, tools=True)
    words = ("has no tool calling", "has no vision")
    many = missing(needs, [(f"provider/model-{number}", words) for number in range(500)])
    assert len(many) <= 1_200
    assert "model-7 " in many
    assert "and 492 more" in many
    assert len(missing(needs, [("p/" + "m" * 100_000, words)] * 500)) <= 1_200


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "text", "content", "role", "name", "function", "arguments", "tool_calls", "json_schema"]),
        inner, max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip
MEMBERS = ["messages", "tools", "functions", "tool_choice", "response_format", "max_tokens", "prompt"]


@given(st.dictionaries(st.sampled_from(MEMBERS), anything, max_size=5), st.sampled_from(["chat", "completions", "messages"]))
def test_no_body_breaks_it(document: dict[str, Any], operation: str) -> None:
    """What is malformed is for others to refuse."""
    needs = needs_of(document, operation)
    found = counted(document, operation=operation)
    assert found.prompt is not None
    assert found.prompt <= needs.at_most
    assert lacking(found, UNKNOWN) == ()
