"""OpenAI's chat completions beyond the goldens: what vendors call otherwise, and nonsense from either side."""

import copy
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitmgate.dialects.codec import Ask, Asked, Garbled
from mitmgate.dialects.openai.codec import CLIENTS, PROVIDERS
from mitmgate.dialects.openai.quirks import adapted
from mitmgate.dialects.openai.request import chat_request
from mitmgate.dialects.reading import Kind
from mitmgate.dialects.registry import codecs
from mitmgate.dialects.translation import TranslatingReader
from mitmgate.errors import Fault, Refusal
from mitmgate.providers.vendors import QUIRKS, VENDORS

CHAT = PROVIDERS["chat"]
MESSAGES = [{"role": "user", "content": "hi"}]


def ask(document: Any, **fields: Any) -> Ask:
    return Ask(**{"document": document, "model": "m", "stream": False, "id": "i", "created": 1} | fields)


def asked(document: Any, *, stream: bool = True) -> Asked:
    return Asked(document=document, model="m", stream=stream, id="i", created=1)


# Vendors

@pytest.mark.parametrize(
    ("quirk", "document", "expected", "dropped"),
    [
        ("max_tokens", {"max_completion_tokens": 5}, {"max_tokens": 5}, ()),
        ("max_tokens", {"max_completion_tokens": 5, "max_tokens": 6}, {"max_tokens": 6}, ()),
        ("max_tokens", {"max_tokens": 6}, {"max_tokens": 6}, ()),
        ("max_completion_tokens", {"max_tokens": 6}, {"max_completion_tokens": 6}, ()),
        ("max_completion_tokens", {"max_tokens": None}, {"max_completion_tokens": None}, ()),
        ("random_seed", {"seed": 0}, {"random_seed": 0}, ()),
        ("no_logit_bias", {"logit_bias": {}, "seed": 1}, {"seed": 1}, ("logit_bias",)),
        ("no_logit_bias", {"logit_bias": None}, {}, ()),
        ("no_logprobs", {"top_logprobs": 1, "logprobs": True}, {}, ("top_logprobs", "logprobs")),
        ("no_stream_options", {"stream_options": {"include_usage": True}}, {}, ()),
        ("no_names", {"messages": [{"role": "user", "content": "a", "name": "bob"}, 5]},
         {"messages": [{"role": "user", "content": "a"}, 5]}, ("name",)),
        ("no_names", {"messages": "none"}, {"messages": "none"}, ()),
        ("no_responses", {"seed": 1, "logprobs": True}, {"seed": 1, "logprobs": True}, ()),
    ],
)  # fmt: skip
def test_a_quirk(quirk: str, document: dict[str, Any], expected: dict[str, Any], dropped: tuple[str, ...]) -> None:
    before = copy.deepcopy(document)
    fit = adapted(document, {quirk})
    assert (fit.document, fit.dropped) == (expected, dropped)
    assert document == before


@pytest.mark.parametrize("quirk", [*QUIRKS, "unheard_of"])
def test_what_no_quirk_concerns_is_the_same_object(quirk: str) -> None:
    """So that a body which needs no change is not written anew."""
    document = {"model": "m", "messages": MESSAGES, "temperature": 1, "future": 1}
    assert adapted(document, {quirk}).document is document


def test_quirks_hold_in_translation_too() -> None:
    messages = [{"role": "user", "content": "hi", "name": "bob"}]
    document = {"messages": messages, "max_tokens": 5, "seed": 6, "logit_bias": {"5": 1}, "top_k": 7}
    sent = chat_request(ask(document, quirks=frozenset({"random_seed", "no_logit_bias", "no_names", "max_completion_tokens"})))
    assert sent.document == {"messages": MESSAGES, "max_completion_tokens": 5, "random_seed": 6, "model": "m"}
    assert sent.dropped == ("top_k", "logit_bias", "name")


@pytest.mark.parametrize("vendor", sorted(name for name, row in VENDORS.items() if row.dialect == "openai"))
def test_a_stream_asks_every_vendor_for_its_usage_unless_it_would_refuse(vendor: str) -> None:
    quirks = frozenset(VENDORS[vendor].quirks)
    document = chat_request(ask({"messages": MESSAGES}, stream=True, quirks=quirks)).document
    assert document["stream"] is True
    wanted = None if "no_stream_options" in quirks else {"include_usage": True}
    assert document.get("stream_options") == wanted


# What is ours

def test_what_has_nothing_of_ours_is_not_copied() -> None:
    """A long conversation is not written anew for nothing."""
    messages = [*MESSAGES, {"role": "user", "content": [{"type": "text", "text": "a", "future": 1}]}]
    sent = chat_request(ask({"messages": messages}))
    assert all(new is old for new, old in zip(sent.document["messages"], messages, strict=True))


@pytest.mark.parametrize("budget", [1, 1024, 1025, 2048, 2049, 1 << 62, 1 << 200, 0, -1, True])
def test_any_budget_is_an_effort(budget: int) -> None:
    sent = chat_request(ask({"messages": MESSAGES, "thinking": {"type": "enabled", "budget_tokens": budget}}))
    assert sent.effort == ("low" if budget <= 1024 else "medium" if budget <= 2048 else "high")
    assert sent.document["reasoning_effort"] == sent.effort
    assert "thinking" not in sent.document


@pytest.mark.parametrize("effort", ["highest", 5, {"a": 1}])
def test_an_effort_that_we_do_not_know_passes_and_is_not_told(effort: Any) -> None:
    sent = chat_request(ask({"messages": MESSAGES, "reasoning_effort": effort}))
    assert (sent.document["reasoning_effort"], sent.effort) == (effort, None)


# A client's streams

@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": 1}, "include_usage", []])
def test_usage_is_for_those_who_asked(options: Any) -> None:
    stream = CLIENTS["chat"].stream(asked({"stream_options": options}))
    assert stream.write({"choices": [], "usage": {"prompt_tokens": 1}}) == b""
    told = stream.write({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}})
    assert b"usage" not in told
    assert told.startswith(b"data: {")
    assert told.endswith(b"}\n\n")


def test_usage_for_one_who_asked() -> None:
    stream = CLIENTS["chat"].stream(asked({"stream_options": {"include_usage": True}}))
    assert json.loads(stream.write({"choices": [], "usage": {"prompt_tokens": 1}})[6:]) == {
        "choices": [], "usage": {"prompt_tokens": 1},
    }  # fmt: skip
    assert stream.end() == b"data: [DONE]\n\n"


# Nonsense

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def shaped(names: list[str], inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects that have some of these members, each of any value, or something else altogether."""
    return st.dictionaries(st.sampled_from(names), inner, max_size=6) | JSON


PART = shaped(["type", "text", "image_url", "file", "cache_control", "extra_content", "refusal"],
              JSON | st.sampled_from(["text", "image_url", "file"]) | shaped(["file_url", "url", "format"], JSON))  # fmt: skip
CALL = shaped(["index", "id", "type", "function", "extra_content"],
              JSON | st.integers(-1, 2) | shaped(["name", "arguments"], JSON | st.just('{"a":1}')))  # fmt: skip
MESSAGE = shaped(
    ["role", "content", "name", "tool_calls", "tool_call_id", "refusal", "reasoning_content", "thinking_blocks", "is_error",
     "extra_content", "annotations"],
    JSON | st.sampled_from(["user", "assistant", "tool"]) | st.lists(PART, max_size=3) | st.lists(CALL, max_size=3),
)  # fmt: skip
REQUEST = st.dictionaries(
    st.sampled_from(["model", "messages", "tools", "stream", "stream_options", "thinking", "reasoning_effort", "top_k", "n",
                     "extra_body", "max_tokens", "seed", "logprobs", "logit_bias", "anything"]),
    JSON | st.lists(MESSAGE, max_size=3) | shaped(["type", "budget_tokens"], st.just("enabled") | st.integers() | JSON),
)  # fmt: skip
USAGE = shaped(["prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"],
               st.integers() | JSON | shaped(["cached_tokens", "reasoning_tokens"], JSON))  # fmt: skip
FINISH = st.sampled_from(["stop", "length", "tool_calls", "content_filter", "?"])
CHOICE = shaped(["index", "message", "delta", "finish_reason", "logprobs"], MESSAGE | st.integers(-1, 2) | FINISH)
REPLY = st.fixed_dictionaries(
    {}, optional={"choices": st.lists(CHOICE, max_size=3) | JSON, "usage": USAGE, "model": JSON, "id": JSON, "created": JSON,
                  "error": JSON, "object": JSON, "service_tier": JSON, "type": JSON},
)  # fmt: skip
SPEAKING = [("openai", "chat"), ("openai", "responses"), ("anthropic", "messages"), ("gemini", "chat")]


@given(REQUEST, st.sets(st.sampled_from(sorted(QUIRKS))), st.booleans())
def test_any_request_is_told_or_refused(document: dict[str, Any], quirks: set[str], stream: bool) -> None:
    before = copy.deepcopy(document)
    with suppress(Refusal):
        sent = CHAT.request(ask(document, quirks=frozenset(quirks), stream=stream))
        assert sent.document["model"] == "m"
        assert {"thinking", "top_k", "extra_body"}.isdisjoint(sent.document)
    assert document == before


@given(REPLY)
def test_any_reply_is_canonical_or_garbled(document: dict[str, Any]) -> None:
    before = copy.deepcopy(document)
    with suppress(Garbled):
        reply = CHAT.reply(document, ask({"messages": MESSAGES}))
        assert all(isinstance(choice["message"], dict) for choice in reply["choices"])
    assert document == before


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()), st.integers(400, 599))
def test_no_failing_body_is_too_strange(body: bytes, status: int) -> None:
    code, message = CHAT.failed(status, body)
    assert code is None or isinstance(code, str)
    assert message is None or isinstance(message, str)


def reader_for(dialect: str, operation: str, *, stream: bool) -> TranslatingReader:
    found = codecs(dialect, operation, "openai")
    assert found is not None
    document: dict[str, Any] = {"messages": MESSAGES, "stream_options": {"include_usage": True}}
    return TranslatingReader(found.provider, found.client, ask(document, stream=stream), asked(document, stream=stream))


@pytest.mark.parametrize(("dialect", "operation"), SPEAKING)
@given(document=REPLY)
def test_no_reply_is_too_strange_for_a_client_of_another_dialect(
    dialect: str, operation: str, document: dict[str, Any]
) -> None:
    """A compatible server may say anything: it is an answer or a fault, and never an exception, which would be a 500."""
    reader = reader_for(dialect, operation, stream=False)
    body = json.dumps(document).encode()
    fault = reader.body(body)
    if fault is None:
        assert isinstance(json.loads(reader.answer(body)), dict)
    assert reader.tokens_input is None or reader.tokens_input >= 0


@pytest.mark.parametrize(("dialect", "operation"), SPEAKING)
@given(documents=st.lists(REPLY, max_size=5))
def test_no_stream_is_too_strange_for_a_client_of_another_dialect(
    dialect: str, operation: str, documents: list[dict[str, Any]]
) -> None:
    reader = reader_for(dialect, operation, stream=True)
    for document in documents:
        event = b"data: " + json.dumps(document).encode() + b"\n\n"
        kind = reader.event(event)
        if kind is Kind.ERROR:
            assert isinstance(reader.fault_of(event), Fault)
        if kind in (Kind.ERROR, Kind.GARBAGE):
            assert reader.broken("stream_broken", "no")
            return
        assert isinstance(reader.written(event), bytes)
    if reader.complete:
        assert isinstance(reader.ending(), bytes)


@given(st.lists(st.binary(max_size=30) | st.just(b"[DONE]"), max_size=4))
def test_no_event_is_too_strange(lines: list[bytes]) -> None:
    stream = CHAT.stream(ask({"messages": MESSAGES}, stream=True))
    for line in lines:
        step = stream.read(b"data: " + line + b"\n\n")
        assert step.chunks == () or step.kind not in (Kind.ERROR, Kind.GARBAGE)


@given(JSON)
def test_any_number_of_answers(n: Any) -> None:
    """`n` may be anything by the time that it comes here: `set:` of the rules may say it."""
    stream = CHAT.stream(ask({"messages": MESSAGES, "n": n}, stream=True))
    stream.read(b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n')
    stream.read(b"data: [DONE]\n\n")
    assert stream.complete
