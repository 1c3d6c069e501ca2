"""Cohere's codecs beyond their goldens: nothing that comes breaks them, nothing that goes through them is lost."""

import copy
import json
import struct
from contextlib import suppress
from importlib import import_module
from typing import Any

import pytest
from golden import cases, outcome
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import DefaultHttpxClient, OpenAI

from mitmgate.dialects.codec import Ask, Garbled
from mitmgate.dialects.cohere.codec import PROVIDERS
from mitmgate.dialects.reading import Kind
from mitmgate.errors import FaultKind, Refusal
from mitmgate.sse import event_data

CHAT, EMBEDDINGS = PROVIDERS["chat"], PROVIDERS["embeddings"]
USER = {"role": "user", "content": "Hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}

WORDS = st.sampled_from(
    [
        "", "text", "user", "system", "assistant", "tool", "function", "enabled", "disabled", "adaptive", "none", "high",
        "auto", "required", "json_object", "json_schema", "image_url", "refusal", "document", "thinking", "c1", "f", "{}",
        "[1]", "base64", "https://example.com/a.png", "data:image/png;base64,AAAA", "data:,x", "COMPLETE", "ERROR",
        "TOOL_CALL",
    ]
)  # fmt: skip
NAMES = st.sampled_from(
    [
        "type", "role", "content", "text", "thinking", "message", "messages", "tools", "tool_calls", "tool_call_id",
        "tool_choice", "tool_plan", "function", "name", "arguments", "parameters", "id", "index", "delta", "finish_reason",
        "usage", "tokens", "billed_units", "input_tokens", "output_tokens", "cached_tokens", "logprobs", "error", "image_url",
        "url", "document", "data", "refusal", "reasoning_content", "strict", "response_format", "json_schema", "schema",
        "top_p", "top_k", "stop", "max_tokens", "reasoning_effort", "budget_tokens", "frequency_penalty", "input",
        "dimensions", "encoding_format", "input_type", "embeddings", "float", "meta", "query", "documents", "top_n",
        "results", "relevance_score", "return_documents", "allowed_tools", "mode", "detail",
    ]
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5)
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=5),
    max_leaves=25,
)
OBJECTS = st.dictionaries(NAMES | st.text(max_size=3), JSON, max_size=8)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"])},
        optional={"content": JSON, "tool_calls": JSON | st.just([CALL]), "tool_call_id": WORDS, "reasoning_content": SCALARS},
    ),
    max_size=4,
)
REQUESTS = OBJECTS | st.builds(lambda rest, messages: {**rest, "messages": messages}, OBJECTS, MESSAGES)
TYPES = st.sampled_from(
    [
        "message-start", "content-start", "content-delta", "content-end", "tool-plan-delta", "tool-call-start",
        "tool-call-delta", "tool-call-end", "citation-start", "citation-end", "message-end", "debug", "error", "news",
    ]
)  # fmt: skip
DELTAS = JSON | st.fixed_dictionaries({"message": JSON}, optional={"finish_reason": WORDS, "usage": JSON})
EVENTS = OBJECTS | st.fixed_dictionaries({"type": TYPES}, optional={"delta": DELTAS, "index": SCALARS, "logprobs": JSON})
REPLIES = st.fixed_dictionaries({"finish_reason": WORDS, "message": OBJECTS}, optional={"usage": JSON, "logprobs": JSON})
FLOATS32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
CALLS = st.lists(st.tuples(st.text(min_size=1), st.dictionaries(st.text(), st.integers(-9, 9), max_size=2)), max_size=3)


def ask(document: Any = None, **more: Any) -> Ask:
    return Ask({"messages": [USER]} if document is None else document, "m", False, "0123456789abcdef", 1_700_000_000, **more)


def event(document: object) -> bytes:
    return b"data: " + json.dumps(document, allow_nan=False).encode() + b"\n\n"


@settings(deadline=None)
@given(document=REQUESTS, operation=st.sampled_from(sorted(PROVIDERS)))
def test_any_request_is_sent_or_refused_and_never_changed(document: Any, operation: str) -> None:
    before = copy.deepcopy(document)
    with suppress(Refusal):
        sent = PROVIDERS[operation].request(ask(document))
        assert sent.path == {"chat": "/v2/chat", "embeddings": "/v2/embed", "rerank": "/v2/rerank"}[operation]
        assert set(sent.dropped) <= {*document, "tools[].function.strict", "messages[].name"}
    assert repr(document) == repr(before)


PLACES = [(dialect, case) for dialect in ("cohere", "rerank") for case in cases(dialect) if case["way"] != "provider.failed"]


def spoilt(value: Any, draw: Any) -> Any:
    """The value with one of its parts, however deep, replaced or missing."""
    if not value or not isinstance(value, dict | list) or draw(st.integers(0, 4)) == 0:
        return draw(JSON)
    if isinstance(value, list):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], spoilt(value[at], draw), *value[at + 1 :]]
    name = draw(st.sampled_from(sorted(value)))
    rest = {each: value[each] for each in value if each != name}
    return rest if draw(st.integers(0, 5)) == 0 else {**rest, name: spoilt(value[name], draw)}


@settings(deadline=None)
@given(data=st.data())
def test_a_golden_with_one_thing_wrong_breaks_nothing(data: st.DataObject) -> None:
    dialect, case = data.draw(st.sampled_from(PLACES))
    given_ = case["given"]
    if case["way"] == "provider.stream":
        at = data.draw(st.integers(0, len(given_) - 1))
        said = event_data(given_[at].encode()) or b"{}"
        document = spoilt(json.loads(said), data.draw) if said.startswith(b"{") and said.endswith(b"}") else {}
        given_ = [*given_[:at], f"data: {json.dumps(document)}\n\n", *given_[at + 1 :]]
    else:
        given_ = spoilt(given_, data.draw)
        given_ = given_ if isinstance(given_, dict) else {}
    assert isinstance(outcome(dialect, {**case, "given": given_}), dict)


@settings(deadline=None)
@given(document=OBJECTS | REPLIES)
def test_any_reply_is_read_or_garbled_and_never_changed(document: Any) -> None:
    before = copy.deepcopy(document)
    try:
        reply = CHAT.reply(document, ask())
    except Garbled:
        pass
    else:
        assert reply["choices"][0]["finish_reason"] in ("stop", "length", "tool_calls")
    assert repr(document) == repr(before)


@settings(deadline=None)
@given(vectors=JSON | st.lists(st.lists(st.floats() | st.integers(), max_size=3), max_size=2), base64=st.booleans(), meta=JSON)
def test_any_embeddings_are_read_or_garbled(vectors: Any, base64: bool, meta: Any) -> None:
    asked = ask({"input": ["a"], "encoding_format": "base64" if base64 else "float"})
    try:
        reply = EMBEDDINGS.reply({"embeddings": {"float": vectors}, "meta": meta}, asked)
    except Garbled:
        return
    assert len(reply["data"]) == 1


@settings(deadline=None)
@given(events=st.lists(EVENTS.filter(lambda each: "nan" not in repr(each) and "inf" not in repr(each)), max_size=8))
def test_any_events_are_read(events: list[Any]) -> None:
    stream = CHAT.stream(ask())
    for each in events:
        step = stream.read(event(each))
        if step.kind in (Kind.ERROR, Kind.GARBAGE):
            assert not step.chunks
        if step.kind is Kind.ERROR:
            assert stream.fault_of(event(each)).kind is FaultKind.ERROR_EVENT
        assert step.kind is not Kind.END or step.chunks[-1]["choices"] == []


@settings(deadline=None)
@given(raw=st.binary(max_size=40) | st.text(max_size=20).map(lambda text: b"data: " + text.encode(errors="replace") + b"\n\n"))
def test_any_bytes_are_an_event(raw: bytes) -> None:
    stream = CHAT.stream(ask())
    assert stream.read(raw).kind in (Kind.OTHER, Kind.GARBAGE)
    stream.fault_of(raw)


@settings(deadline=None)
@given(status=st.integers(400, 599), body=st.binary(max_size=30) | OBJECTS.map(lambda each: json.dumps(each).encode()))
def test_any_failing_body_is_read(status: int, body: bytes) -> None:
    for codec in PROVIDERS.values():
        assert isinstance(codec.failed(status, body).message, str | None)


def test_operations_without_a_stream_take_any_event_for_garbage() -> None:
    for operation in ("embeddings", "rerank"):
        stream = PROVIDERS[operation].stream(ask())
        assert stream.read(b"data: {}\n\n").kind is Kind.GARBAGE
        assert not stream.complete


@settings(deadline=None)
@given(vectors=st.lists(st.lists(FLOATS32, min_size=1, max_size=8), min_size=1, max_size=4))
def test_the_openai_package_decodes_what_is_encoded_here(vectors: list[list[float]]) -> None:
    """Its client asks for base64 of its own accord, and returns the numbers."""
    library = import_module(DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])  # httpx, or what follows it

    def answer(request: Any) -> Any:
        body = json.loads(request.content)
        assert body["encoding_format"] == "base64"
        given_ = {"id": "e", "embeddings": {"float": vectors}, "meta": {"billed_units": {"input_tokens": 3.0}}}
        return library.Response(200, json=EMBEDDINGS.reply(given_, ask(body)))

    with DefaultHttpxClient(transport=library.MockTransport(answer)) as http:
        client = OpenAI(api_key="sk-none", base_url="http://127.0.0.1:9/v1", http_client=http)
        reply = client.embeddings.create(model="m", input=["a"] * len(vectors))
    assert [struct.pack(f"<{len(each.embedding)}f", *each.embedding) for each in reply.data] == [
        struct.pack(f"<{len(vector)}f", *vector) for vector in vectors
    ]
    assert reply.usage.prompt_tokens == 3


@settings(deadline=None)
@given(texts=st.lists(st.text(), max_size=3), plan=st.text() | st.none(), calls=CALLS)
def test_a_reply_comes_back_on_the_next_turn(texts: list[str], plan: str | None, calls: list[tuple[str, Any]]) -> None:
    tool_calls = [
        {"id": f"c{k}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for k, (name, arguments) in enumerate(calls)
    ]
    given_ = {"role": "assistant", "content": [] if calls else [{"type": "text", "text": text} for text in texts]}
    if calls:
        given_ |= {"tool_calls": tool_calls, "tool_plan": plan}
    reply = CHAT.reply({"id": "r", "finish_reason": "COMPLETE", "message": given_}, ask())
    message = reply["choices"][0]["message"]
    sent = CHAT.request(ask({"messages": [USER, message]})).document["messages"][1]
    if not calls:
        assert sent == {"role": "assistant", "content": "".join(texts)}
    else:
        assert sent == {"role": "assistant", "tool_calls": tool_calls} | ({"tool_plan": plan} if plan else {})
        assert reply["choices"][0]["finish_reason"] == "tool_calls"


def test_a_stream_says_what_its_reply_says() -> None:
    said = {"thinking": "Hm.", "text": "Hello."}
    usage = {"tokens": {"input_tokens": 5.0, "output_tokens": 2.0}}
    whole = CHAT.reply(
        {
            "id": "r", "finish_reason": "TOOL_CALL", "usage": usage,
            "message": {
                "role": "assistant", "tool_plan": "Go.", "tool_calls": [CALL],
                "content": [{"type": kind, kind: text} for kind, text in said.items()],
            },
        },
        ask(),
    )  # fmt: skip
    stream = CHAT.stream(ask())
    start = {"delta": {"message": {"tool_calls": {**CALL, "function": {"name": "f", "arguments": ""}}}}, "index": 0}
    rest = {"delta": {"message": {"tool_calls": {"function": {"arguments": '{"x": 1}'}}}}, "index": 0}
    events = [
        {"type": "message-start", "id": "r"},
        *({"type": "content-delta", "delta": {"message": {"content": {kind: text}}}} for kind, text in said.items()),
        {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "Go."}}},
        {"type": "tool-call-start", **start},
        {"type": "tool-call-delta", **rest},
        {"type": "tool-call-end", "index": 0},
        {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": usage}},
    ]
    chunks = [chunk for each in events for chunk in stream.read(event(each)).chunks]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    message = whole["choices"][0]["message"]
    for name in ("content", "reasoning_content"):
        assert "".join(delta.get(name) or "" for delta in deltas) == message[name]
    fragments = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert "".join(each["function"]["arguments"] for each in fragments) == CALL["function"]["arguments"]
    assert (fragments[0]["id"], fragments[0]["function"]["name"]) == ("c1", "f")
    assert chunks[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["usage"] == whole["usage"]
    assert {chunk["id"] for chunk in chunks} == {whole["id"]}
    assert stream.complete


@pytest.mark.parametrize("status", [400, 413])
def test_a_window_that_is_too_small_is_told_by_the_message_of_a_400(status: int) -> None:
    code = CHAT.failed(status, b'{"message": "too many tokens: size limit exceeded by 3 tokens."}').code
    assert code == ("context_length_exceeded" if status == 400 else None)


def test_the_kinds_of_steps() -> None:
    stream = CHAT.stream(ask())
    told = [
        ({"type": "message-start", "id": "r"}, Kind.OTHER),
        ({"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}}, Kind.OTHER),
        ({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "a"}}}}, Kind.CONTENT),
        ({"type": "content-end", "index": 0}, Kind.OTHER),
        ({"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "p"}}}, Kind.CONTENT),
        ({"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": CALL}}}, Kind.CONTENT),
        ({"type": "citation-start", "index": 0, "delta": {}}, Kind.OTHER),
        ({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}, Kind.END),
        ({"type": "content-delta", "index": 0}, Kind.OTHER),
    ]
    assert [stream.read(event(document)).kind for document, _ in told] == [kind for _, kind in told]
