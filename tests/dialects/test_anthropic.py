"""Anthropic's codecs: there and back again, streams however they are cut, and whatever JSON a client or provider sends."""

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mitmgate.dialects.anthropic.codec import CLIENTS, PROVIDERS
from mitmgate.dialects.anthropic.models import Thinking, model_of
from mitmgate.dialects.anthropic.schema import closed
from mitmgate.dialects.codec import Ask, Asked, Garbled
from mitmgate.dialects.reading import Kind
from mitmgate.errors import Refusal
from mitmgate.sse import EventSplitter, event_data, event_name

CLIENT, PROVIDER = CLIENTS["messages"], PROVIDERS["chat"]
ID, CREATED = "0123456789abcdef", 1_700_000_000
JSON = dict[str, Any]


def ask(document: JSON, *, model: str = "claude-sonnet-4-5", stream: bool = False) -> Ask:
    return Ask(document, model, stream, ID, CREATED)


def asked(document: JSON, *, stream: bool = False) -> Asked:
    return Asked(document, document.get("model", "claude-sonnet-4-5"), stream, ID, CREATED)


# Timings are the bench's: here a machine may be busy.
brisk = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# --- what is generated ---

texts = st.text(min_size=1, max_size=12)
words = st.text("abcdefgh", min_size=1, max_size=6)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(words, scalars, max_size=2)
objects = st.dictionaries(texts, values, max_size=2)
anything = st.recursive(
    scalars | st.sampled_from(["user", "text", "tool", "type", "assistant", "image", "auto", "enabled"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | words, inner, max_size=4), max_leaves=6,
)  # fmt: skip
marks = st.sampled_from(
    [{}, {}, {"cache_control": {"type": "ephemeral"}}, {"cache_control": {"type": "ephemeral", "ttl": "1h"}}]
)
text_blocks = st.builds(lambda text, mark: {"type": "text", "text": text} | mark, texts, marks)
image_sources = st.sampled_from(
    [
        {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
        {"type": "base64", "media_type": "image/webp", "data": "UklGRg=="},
        {"type": "url", "url": "https://images.example/cat.png"},
    ]
)
image_blocks = st.builds(lambda source, mark: {"type": "image", "source": source} | mark, image_sources, marks)
document_sources = st.one_of(
    st.just({"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}),
    st.just({"type": "url", "url": "https://papers.example/one.pdf"}),
    st.just({"type": "file", "file_id": "file_011CNha8iCJcU1wXNR6q4V8w"}),
    texts.map(lambda text: {"type": "text", "media_type": "text/plain", "data": text}),
)
document_blocks = st.builds(
    lambda source, title, mark: {"type": "document", "source": source} | title | mark,
    document_sources, st.sampled_from([{}, {"title": "A paper"}]), marks,
)  # fmt: skip
thoughts = st.one_of(
    st.builds(lambda text, sign: {"type": "thinking", "thinking": text, "signature": sign}, st.text(max_size=12), words),
    words.map(lambda data: {"type": "redacted_thinking", "data": data}),
)
members = st.sampled_from([{"type": "string"}, {"type": "integer", "description": "How many."}])
schemas = st.dictionaries(words, members, max_size=3).map(
    lambda properties: {
        "type": "object", "properties": properties, "required": sorted(properties), "additionalProperties": False,
    }
)  # fmt: skip
tools = st.builds(
    lambda name, schema, description, strict, mark: {"name": name, "input_schema": schema} | description | strict | mark,
    words, schemas, st.sampled_from([{}, {"description": "It looks."}]), st.sampled_from([{}, {"strict": True}]), marks,
)  # fmt: skip

SIGNED = {"type": "thinking", "thinking": "Hm", "signature": "s"}


@st.composite
def requests(draw: st.DrawFn) -> JSON:
    """What a client may send that the canonical form can say, in the order that Anthropic's documents ask for."""
    messages: list[JSON] = []
    pending: list[str] = []
    calls = 0
    for _ in range(draw(st.integers(1, 3))):
        results = [draw(tool_results(id)) for id in pending]
        rest = draw(st.lists(st.one_of(text_blocks, image_blocks, document_blocks), min_size=0 if results else 1, max_size=3))
        lone = not results and draw(st.booleans())
        messages.append({"role": "user", "content": draw(texts) if lone else [*results, *rest]})
        pending = [f"toolu_{calls + k}" for k in range(draw(st.integers(0, 2)))]
        calls += len(pending)
        used = [
            {"type": "tool_use", "id": id, "name": draw(words), "input": draw(objects)} | draw(marks) for id in pending
        ]
        thinking = draw(st.lists(thoughts, max_size=2))
        said = draw(st.lists(text_blocks, min_size=0 if used else 1, max_size=2))
        messages.append({"role": "assistant", "content": [*thinking, *said, *used]})
    if pending:
        messages.append({"role": "user", "content": [draw(tool_results(id)) for id in pending]})
    request: JSON = {"model": "claude-sonnet-4-5", "max_tokens": draw(st.integers(20_000, 30_000)), "messages": messages}
    request |= draw(rest_of_requests())
    for message in messages if "thinking" in request else ():
        if message["role"] == "assistant" and not message["content"][0]["type"].endswith("thinking"):
            message["content"].insert(0, SIGNED)    # the API takes no budget for a turn that began without a thought
    return request


@st.composite
def tool_results(draw: st.DrawFn, id: str) -> JSON:
    content = draw(st.one_of(st.none(), texts, st.lists(text_blocks, min_size=1, max_size=2)))
    result: JSON = {"type": "tool_result", "tool_use_id": id} | ({} if content is None else {"content": content})
    return result | draw(st.sampled_from([{}, {"is_error": True}])) | draw(marks)


@st.composite
def rest_of_requests(draw: st.DrawFn) -> JSON:
    rest: JSON = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "system": texts | st.lists(text_blocks, min_size=1, max_size=2),
                "stop_sequences": st.lists(words, min_size=1, max_size=2),
                "metadata": st.just({"user_id": "u-1"}),
                "service_tier": st.sampled_from(["auto", "standard_only"]),
                "output_config": schemas.map(lambda schema: {"format": {"type": "json_schema", "schema": schema}}),
                "tools": st.lists(tools, min_size=1, max_size=2, unique_by=lambda tool: tool["name"]),
            },
        )
    )
    thinks = draw(st.booleans())
    if thinks:
        rest["thinking"] = {"type": "enabled", "budget_tokens": draw(st.integers(1024, 10_000))}
    else:
        rest |= draw(st.sampled_from([{}, {"temperature": 0.5}, {"top_p": 0.5}, {"temperature": 0, "top_k": 3}]))
    if "tools" in rest:
        kinds = ["auto", "none"] if thinks else ["auto", "none", "any", "tool"]
        choice: JSON = {"type": draw(st.sampled_from(kinds))}
        choice |= {"name": rest["tools"][0]["name"]} if choice["type"] == "tool" else {}
        choice |= {"disable_parallel_tool_use": True} if choice["type"] != "none" and draw(st.booleans()) else {}
        rest |= draw(st.sampled_from([{}, {"tool_choice": choice}]))
    return rest


def normal(request: JSON) -> JSON:
    """The same request with each content in one of its equivalent spellings (Messages: a text is short for one text block)."""
    request = copy.deepcopy(request)
    for message in request["messages"]:
        if isinstance(message["content"], str):
            message["content"] = [{"type": "text", "text": message["content"]}]
        for block in message["content"]:
            if block["type"] == "tool_result" and "content" in block:
                block["content"] = lone(block["content"])
    if "system" in request:
        request["system"] = lone(request["system"])
    return request


def lone(content: Any) -> Any:
    return content[0]["text"] if isinstance(content, list) and len(content) == 1 and len(content[0]) == 2 else content


# --- requests ---


@brisk
@given(requests(), st.booleans())
def test_what_a_client_sent_is_what_the_provider_is_sent(request: JSON, stream: bool) -> None:
    before = copy.deepcopy(request)
    canonical = CLIENT.request(asked(request, stream=stream))
    kept = copy.deepcopy(canonical)
    sent = PROVIDER.request(ask(canonical, model=request["model"], stream=stream))
    assert sent.document == normal(request) | ({"stream": True} if stream else {})
    assert not sent.dropped
    assert request == before
    assert canonical == kept


@pytest.mark.parametrize(
    ("model", "given", "expected"),
    [
        ("claude-opus-4-6", {"type": "adaptive"}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}}),
        ("claude-opus-4-6", {"type": "enabled", "budget_tokens": 2000},
         {"thinking": {"type": "enabled", "budget_tokens": 2000}, "output_config": {"effort": "medium"}}),
        ("claude-opus-5", {"type": "enabled", "budget_tokens": 2000, "display": "summarized"},
         {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "medium"}}),
        ("claude-sonnet-5-5", {"type": "disabled"},
         {"thinking": {"type": "between_tools"}, "output_config": {"effort": "medium"}}),
        ("claude-sonnet-4", {"type": "adaptive"}, {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        ("claude-3-5-haiku-latest", {"type": "disabled"}, {}),
    ],
)  # fmt: skip
def test_a_client_that_was_exact_is_obeyed_as_far_as_the_model_can(model: str, given: JSON, expected: JSON) -> None:
    request = {
        "max_tokens": 9000, "messages": [{"role": "user", "content": "Hi"}], "thinking": given,
        "output_config": {"effort": "medium"},
    }  # fmt: skip
    sent = PROVIDER.request(ask(CLIENT.request(asked(request)), model=model))
    assert {key: sent.document[key] for key in ("thinking", "output_config") if key in sent.document} == expected


@pytest.mark.parametrize(
    ("effort", "limit", "budget", "applied", "dropped"),
    [
        ("minimal", None, 1024, "minimal", ()), ("max", None, 16384, "max", ()), ("high", 4096, 2048, "medium", ()),
        ("high", 4097, 4096, "high", ()), ("max", 1024, None, None, ("reasoning_effort",)), ("none", None, None, "none", ()),
    ],
)  # fmt: skip
def test_a_budget_leaves_room_below_the_clients_bound(
    effort: str, limit: int | None, budget: int | None, applied: str | None, dropped: tuple[str, ...]
) -> None:
    document = {"messages": [{"role": "user", "content": "Hi"}], "reasoning_effort": effort, "max_tokens": limit}
    sent = PROVIDER.request(ask(document))
    assert sent.document.get("thinking") == (budget and {"type": "enabled", "budget_tokens": budget})
    assert sent.document["max_tokens"] > (budget or 0)
    assert (sent.effort, sent.dropped) == (applied, dropped)


@pytest.mark.parametrize(
    ("model", "thoughts", "last", "thinks"),
    [
        ("claude-sonnet-4-5", [], {"role": "tool", "tool_call_id": "t", "content": "A cat."}, False),
        ("claude-sonnet-4-5", [SIGNED], {"role": "tool", "tool_call_id": "t", "content": "A cat."}, True),
        ("claude-opus-4-6", [], {"role": "tool", "tool_call_id": "t", "content": "A cat."}, True),
        ("claude-sonnet-4-5", [], {"role": "assistant", "content": "I see"}, False),
    ],
)
def test_a_turn_that_began_without_a_thought_is_finished_without(
    model: str, thoughts: list[JSON], last: JSON, thinks: bool
) -> None:
    call = {"id": "t", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    said = {"role": "assistant", "tool_calls": [call], "thinking_blocks": thoughts}
    messages = [{"role": "user", "content": "Look"}, said, last]
    sent = PROVIDER.request(ask({"messages": messages, "reasoning_effort": "low"}, model=model))
    assert ("thinking" in sent.document, sent.dropped) == (thinks, () if thinks else ("reasoning_effort",))


def test_what_a_result_holds_beside_text_follows_it() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://images.example/cat.png"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "A cat."}, image]}
    messages = [
        {"role": "user", "content": "Look"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {}}]},
        {"role": "user", "content": [result, {"type": "text", "text": "Well?"}]},
    ]
    canonical = CLIENT.request(asked({"max_tokens": 1, "messages": messages}))
    url = {"type": "image_url", "image_url": {"url": "https://images.example/cat.png"}}
    assert canonical["messages"][2:] == [
        {"role": "tool", "tool_call_id": "t", "content": "A cat."},
        {"role": "user", "content": [url, {"type": "text", "text": "Well?"}]},
    ]


def test_the_whole_requests_cache_mark_is_the_last_messages() -> None:
    request = {"max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}], "cache_control": {"type": "ephemeral"}}
    sent = PROVIDER.request(ask(CLIENT.request(asked(request))))
    assert sent.document["messages"][0]["content"] == [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]


def test_other_providers_call_ids_are_made_anthropics() -> None:
    call = {"id": "functions.look:0", "type": "function", "function": {"name": "look", "arguments": ""}}
    messages = [
        {"role": "user", "content": "Look"}, {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "functions.look:0", "content": "A cat."},
    ]  # fmt: skip
    turns = PROVIDER.request(ask({"messages": messages})).document["messages"]
    assert turns[1]["content"][0]["id"] == turns[2]["content"][0]["tool_use_id"] == "functions_look_0"


ANSWER = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "properties": {}}}}
LOOK = {"type": "function", "function": {"name": "look"}}


@pytest.mark.parametrize(
    ("members", "tools", "choice", "dropped"),
    [
        ({}, ["json_response"], {"type": "tool", "name": "json_response"}, ()),
        ({"tools": [LOOK]}, ["look", "json_response"], {"type": "any"}, ()),
        ({"tools": [LOOK], "tool_choice": "auto", "parallel_tool_calls": False}, ["look", "json_response"],
         {"type": "any", "disable_parallel_tool_use": True}, ()),
        ({"tools": [LOOK], "tool_choice": "none"}, ["look", "json_response"], {"type": "tool", "name": "json_response"}, ()),
        ({"tools": [LOOK], "tool_choice": "required"}, ["look"], {"type": "any"}, ("response_format",)),
        ({"reasoning_effort": "high"}, ["json_response"], {"type": "tool", "name": "json_response"}, ("reasoning_effort",)),
        ({"tools": [{"type": "function", "function": {"name": "json_response"}}]}, ["json_response", "json_response_"],
         {"type": "any"}, ()),
    ],
)  # fmt: skip
def test_a_format_without_a_grammar_is_a_tool_beside_the_clients(
    members: JSON, tools: list[str], choice: JSON, dropped: tuple[str, ...]
) -> None:
    document = {"messages": [{"role": "user", "content": "Hi"}], "response_format": ANSWER} | members
    asking = ask(document, model="claude-sonnet-4-0")
    sent = PROVIDER.request(asking)
    assert [tool["name"] for tool in sent.document["tools"]] == tools
    assert (sent.document["tool_choice"], sent.dropped) == (choice, dropped)
    used = [{"type": "tool_use", "id": "t", "name": tools[-1], "input": {"a": 1}}]
    message = {"content": used, "stop_reason": "tool_use", "usage": {"input_tokens": 1, "output_tokens": 1}}
    choices = PROVIDER.reply(message, asking)["choices"][0]
    unwrapped = (choices["message"]["content"], choices["finish_reason"])
    assert unwrapped == ((None, "tool_calls") if "response_format" in dropped else ('{"a":1}', "stop"))


def test_allowed_tools_are_those_that_are_left() -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "look"}}]}
    document = {
        "messages": [{"role": "user", "content": "Hi"}], "tools": [LOOK, {"type": "function", "function": {"name": "hear"}}],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": allowed},
    }  # fmt: skip
    sent = PROVIDER.request(ask(document)).document
    assert ([tool["name"] for tool in sent["tools"]], sent["tool_choice"]) == (["look"], {"type": "any"})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "additionalProperties": {"type": "string"}}, {"type": "object", "additionalProperties": True},
        {"type": "object", "properties": {"a": {"patternProperties": {}}}}, {"anyOf": [True]}, {"items": False}, {"$defs": []},
    ],
)  # fmt: skip
def test_a_schema_with_free_keys_is_not_closed_in_silence(schema: JSON) -> None:
    assert closed(schema) is None


def test_a_schema_too_deep_to_walk() -> None:
    schema: JSON = {}
    for _ in range(5000):
        schema = {"items": schema}
    assert closed(schema) is None


def test_documents_in_documents_are_no_way_to_our_stack() -> None:
    block: JSON = {"type": "text", "text": "a"}
    for _ in range(5000):
        block = {"type": "document", "source": {"type": "content", "content": [block]}}
    with pytest.raises(Refusal):
        CLIENT.request(asked({"max_tokens": 1, "messages": [{"role": "user", "content": [block]}]}))


@pytest.mark.parametrize(
    ("name", "thinking", "sampling", "forced", "formats"),
    [
        ("claude-3-5-sonnet-20241022", Thinking.NONE, True, True, False),
        ("claude-3-haiku-20240307", Thinking.NONE, True, True, False),
        ("claude-2.1", Thinking.NONE, True, True, False),
        ("claude-3-7-sonnet-latest", Thinking.BUDGET, True, True, False),
        ("claude-opus-4-20250514", Thinking.BUDGET, True, True, False),
        ("claude-sonnet-4@20250514", Thinking.BUDGET, True, True, False),
        ("anthropic.claude-opus-4-1-20250805-v1:0", Thinking.BUDGET, True, True, False),
        ("claude-sonnet-4-5-20250929", Thinking.BUDGET, True, True, True),
        ("claude-haiku-4-5", Thinking.BUDGET, True, True, True),
        ("anthropic/claude-opus-4.5", Thinking.BUDGET, True, True, True),
        ("us.anthropic.claude-sonnet-4-6-v1", Thinking.EITHER, True, True, True),
        ("claude-opus-4-7", Thinking.ADAPTIVE, False, True, True),
        ("claude-opus-4-8", Thinking.ADAPTIVE, False, True, True),
        ("claude-sonnet-5", Thinking.ADAPTIVE, False, True, True),
        ("claude-haiku-5-5", Thinking.ADAPTIVE, False, True, True),
        ("claude-opus-5-5", Thinking.ADAPTIVE, False, False, True),
        ("claude-fable-5", Thinking.ADAPTIVE, False, True, True),
        ("claude-mythos-5-2", Thinking.ADAPTIVE, False, False, True),
        ("claude-mythos-preview", Thinking.ADAPTIVE, False, True, True),
        ("claude-opus-7", Thinking.ADAPTIVE, False, False, True),
        ("kimi-k3", Thinking.BUDGET, True, True, False),
    ],
)  # fmt: skip
def test_what_a_model_understands(name: str, thinking: Thinking, sampling: bool, forced: bool, formats: bool) -> None:
    model = model_of(name)
    assert (model.thinking, model.sampling, model.forced, model.formats) == (thinking, sampling, forced, formats)


# --- replies ---

usages = st.builds(
    lambda fresh, output, read, written: {
        "input_tokens": fresh, "cache_creation_input_tokens": written, "cache_read_input_tokens": read, "output_tokens": output,
    },
    *[st.integers(0, 999)] * 4,
)  # fmt: skip


@st.composite
def contents(draw: st.DrawFn) -> list[JSON]:
    """A message's blocks, in the one order that the canonical form keeps, neighbouring texts as one."""
    thinking = draw(st.lists(thoughts, max_size=2))
    said = draw(st.lists(st.builds(lambda text: {"type": "text", "text": text}, texts), max_size=1))
    used = [
        {"type": "tool_use", "id": f"toolu_{k}", "name": draw(words), "input": draw(objects)}
        for k in range(draw(st.integers(0, 3)))
    ]
    return [*thinking, *said, *used]


@st.composite
def replies(draw: st.DrawFn) -> JSON:
    content = draw(contents())
    called = any(block["type"] == "tool_use" for block in content)
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "content": content, "model": "claude-sonnet-4-5",
        "stop_reason": "tool_use" if called else draw(st.sampled_from(["end_turn", "max_tokens", "refusal"])),
        "stop_sequence": None, "usage": draw(usages),
    }  # fmt: skip


@brisk
@given(replies())
def test_a_reply_comes_back_as_it_was(message: JSON) -> None:
    before = copy.deepcopy(message)
    canonical = PROVIDER.reply(message, ask({}))
    assert CLIENT.reply(canonical, asked({})) == message == before


@brisk
@given(replies(), st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_a_stream_comes_back_as_it_was(message: JSON, cuts: list[int]) -> None:
    stream, written = PROVIDER.stream(ask({}, stream=True)), CLIENT.stream(asked({}, stream=True))
    out, chunks = b"", []
    for event in streamed(message, cuts):
        assert not stream.complete
        step = stream.read(event)
        assert step.kind not in (Kind.ERROR, Kind.GARBAGE)
        chunks += step.chunks
        out += b"".join(written.write(chunk) for chunk in step.chunks)
    assert stream.complete
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]
    assert gathered(out + written.end()) == message


@brisk
@given(replies())
def test_a_whole_reply_and_its_stream_say_the_same(message: JSON) -> None:
    stream = PROVIDER.stream(ask({}, stream=True))
    chunks = [chunk for event in streamed(message, [3]) for chunk in stream.read(event).chunks]
    joined = PROVIDER.reply(message, ask({}))
    told = joined["choices"][0]["message"]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == (told["content"] or "")
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == told.get("reasoning_content", "")
    assert [block for delta in deltas for block in delta.get("thinking_blocks", [])] == told.get("thinking_blocks", [])
    assert chunks[-2]["choices"][0]["finish_reason"] == joined["choices"][0]["finish_reason"]
    assert chunks[-1]["usage"] == joined["usage"]


def streamed(message: JSON, cuts: list[int]) -> Iterator[bytes]:
    """The events of a message, its texts in pieces of so many characters."""
    start = message | {"content": [], "stop_reason": None, "usage": {"input_tokens": 1}}
    yield sse({"type": "message_start", "message": start})
    yield sse({"type": "ping"})
    for index, block in enumerate(message["content"]):
        kind = block["type"]
        empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}.get(kind, {})
        yield sse({"type": "content_block_start", "index": index, "content_block": block | empty})
        if kind == "text":
            yield from deltas(index, "text_delta", "text", block["text"], cuts)
        elif kind == "tool_use" and block["input"]:
            yield from deltas(index, "input_json_delta", "partial_json", json.dumps(block["input"]), cuts)
        elif kind == "thinking":
            yield from deltas(index, "thinking_delta", "thinking", block["thinking"], cuts)
            yield from deltas(index, "signature_delta", "signature", block["signature"], cuts)
        yield sse({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield sse({"type": "message_delta", "delta": delta, "usage": message["usage"]})
    yield sse({"type": "message_stop"})


def deltas(index: int, kind: str, member: str, text: str, cuts: list[int]) -> Iterator[bytes]:
    sizes, at = cycle(cuts), 0
    while at < len(text):
        piece, at = text[at : (end := at + next(sizes))], end
        yield sse({"type": "content_block_delta", "index": index, "delta": {"type": kind, member: piece}})


def sse(document: JSON) -> bytes:
    return f"event: {document['type']}\ndata: {json.dumps(document)}\n\n".encode()


def gathered(out: bytes) -> JSON:
    """The message that a client makes of the events; they must stand in the order that the API documents."""
    message: JSON = {}
    opened: list[str] = []
    is_open = ended = False
    for event in EventSplitter().feed(out):
        document = json.loads(event_data(event) or b"")
        kind = document["type"]
        assert event_name(event) == kind.encode()
        assert not ended
        if kind == "message_start":
            assert not message
            message = document["message"]
        elif kind == "content_block_start":
            assert not is_open
            assert document["index"] == len(opened)
            is_open = True
            message["content"].append(document["content_block"])
            opened.append("")
        elif kind == "content_block_delta":
            assert is_open
            assert document["index"] == len(opened) - 1
            add(message["content"][-1], document["delta"], opened)
        elif kind == "content_block_stop":
            assert is_open
            is_open = False
            if opened[-1]:
                message["content"][-1]["input"] = json.loads(opened[-1])
        elif kind == "message_delta":
            assert not is_open
            message |= document["delta"] | {"usage": document["usage"]}
        else:
            ended = True
            assert kind == "message_stop"
    assert ended
    return message


def add(block: JSON, delta: JSON, opened: list[str]) -> None:
    assert any(value for key, value in delta.items() if key != "type"), "a delta that says nothing"
    if delta["type"] == "input_json_delta":
        opened[-1] += delta["partial_json"]
    else:
        [(member, text)] = [(key, value) for key, value in delta.items() if key != "type"]
        block[member] += text


def chunk(delta: JSON | None = None, finish: str | None = None) -> JSON:
    return {"choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}]}


def fragment(index: int, arguments: str, id: str | None = None) -> JSON:
    named = {"id": id, "type": "function"} if id else {}
    function = {"arguments": arguments} | ({"name": f"f{index}"} if id else {})
    return chunk({"tool_calls": [{"index": index, "function": function} | named]})


@brisk
@given(st.lists(st.sampled_from([0, 1, 2]), max_size=12), st.lists(objects, min_size=3, max_size=3))
def test_calls_whose_fragments_are_interleaved(order: list[int], inputs: list[JSON]) -> None:
    given = [json.dumps(each) for each in inputs]
    stream = CLIENT.stream(asked({}, stream=True))
    out = b"".join(stream.write(fragment(index, "", f"toolu_{index}")) for index in range(3))
    left = list(given)
    for index in order:
        piece, left[index] = left[index][:3], left[index][3:]
        out += stream.write(fragment(index, piece))
    out += b"".join(stream.write(fragment(index, left[index])) for index in (2, 0, 1))
    out += stream.write(chunk(finish="tool_calls")) + stream.end()
    assert [block["input"] for block in gathered(out)["content"]] == inputs


def test_a_call_is_told_before_the_next_one_begins() -> None:
    stream = CLIENT.stream(asked({}, stream=True))
    stream.write(fragment(0, '{"a":1}', "t0"))
    assert b'"t1"' in stream.write(fragment(1, "", "t1")), "a whole call does not hold back the next"
    stream.write(fragment(1, '{"b"'))
    assert stream.write(fragment(2, "{}", "t2")) == b"", "nothing of a call comes while another is in pieces"
    assert b'"t2"' in stream.write(fragment(1, ":1}"))


def test_a_call_without_an_id_gets_one() -> None:
    stream = CLIENT.stream(asked({}, stream=True))
    out = stream.write(chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}))
    message = gathered(out + stream.write(chunk(finish="stop")) + stream.end())
    assert message["content"] == [{"type": "tool_use", "id": f"toolu_{ID}_0", "name": "f", "input": {}}]
    assert message["stop_reason"] == "tool_use"


def test_a_signature_that_comes_too_late_tells_nothing_twice() -> None:
    stream = CLIENT.stream(asked({}, stream=True))
    block = {"type": "thinking", "thinking": "Hm", "signature": "s"}
    parts = [{"reasoning_content": "Hm"}, {"content": "Yes"}, {"thinking_blocks": [block]}]
    message = gathered(b"".join(stream.write(chunk(part)) for part in parts) + stream.write(chunk({}, "stop")) + stream.end())
    thought = {"type": "thinking", "thinking": "Hm", "signature": ""}
    assert message["content"] == [thought, {"type": "text", "text": "Yes"}]


def test_arguments_that_the_limit_cut_are_told_as_far_as_they_go() -> None:
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": '{"city": "Os'}}
    choice = {"message": {"tool_calls": [call]}, "finish_reason": "length"}
    message = CLIENT.reply({"choices": [choice]}, asked({}))
    assert (message["content"][0]["input"], message["stop_reason"]) == ({"city": "Os"}, "max_tokens")
    with pytest.raises(Garbled):
        CLIENT.reply({"choices": [choice | {"finish_reason": "tool_calls"}]}, asked({}))


def test_an_input_that_came_with_its_start() -> None:
    stream = PROVIDER.stream(ask({}, stream=True))
    use = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
    events = [
        {"type": "message_start", "message": {}}, {"type": "content_block_start", "index": 0, "content_block": use},
        {"type": "content_block_stop", "index": 0},
    ]  # fmt: skip
    chunks = [chunk for event in events for chunk in stream.read(sse(event)).chunks]
    assert chunks[-1]["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"] == '{"a":1}'


@pytest.mark.parametrize(
    "events",
    [
        [{"type": "message_stop"}],
        [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}}],
        [{"type": "message_start", "message": {}}, {"type": "message_stop"}],
        [{"type": "message_start", "message": {}}, {"type": "message_start", "message": {}}],
        [{"type": "message_start", "message": {}}, {"type": "content_block_delta", "index": 4, "delta": {}}],
    ],
)  # fmt: skip
def test_events_in_an_order_that_the_api_has_not(events: list[JSON]) -> None:
    stream = PROVIDER.stream(ask({}, stream=True))
    kinds = [stream.read(sse(event)).kind for event in events]
    assert kinds[-1] is Kind.GARBAGE
    assert not stream.complete


# --- whatever comes ---


@st.composite
def broken(draw: st.DrawFn, whole: st.SearchStrategy[Any]) -> Any:
    """Something whole, with anything at all in place of some of its parts."""
    document = copy.deepcopy(draw(whole))
    for _ in range(draw(st.integers(1, 3))):
        holder: Any = document
        while isinstance(holder, dict | list) and holder:
            key = draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
            if not isinstance(holder[key], dict | list) or not holder[key] or draw(st.integers(0, 3)) == 0:
                holder[key] = draw(anything)
                break
            holder = holder[key]
    return document


def canonical_of(request: JSON) -> JSON:
    return CLIENT.request(asked(request))


MODELS = st.sampled_from(["claude-sonnet-4-0", "claude-sonnet-4-5", "claude-opus-4-6", "claude-sonnet-5-5", "m"])
MORE = st.fixed_dictionaries(
    {},
    optional={
        "reasoning_effort": anything | st.just("high"), "n": anything, "stop": anything, "top_k": anything, "user": anything,
        "response_format": anything | st.just(ANSWER) | broken(st.just(ANSWER)), "tool_choice": anything,
        "modalities": anything, "logit_bias": anything, "service_tier": anything, "temperature": anything,
        "safety_identifier": anything,
    },
)  # fmt: skip


@brisk
@given(broken(requests()) | st.dictionaries(words, anything), MODELS, MORE)
def test_a_client_may_send_anything(document: JSON, model: str, more: JSON) -> None:
    before = copy.deepcopy(document)
    with suppress(Refusal):
        canonical = CLIENT.request(asked(document))
        PROVIDER.request(ask(canonical | more, model=model))
    assert document == before


@brisk
@given(broken(requests().map(canonical_of)) | st.dictionaries(words, anything), MODELS, MORE)
def test_a_canonical_request_may_be_anything(document: JSON, model: str, more: JSON) -> None:
    asking = ask(document | more, model=model)
    with suppress(Refusal):
        json.dumps(PROVIDER.request(asking).document)
    PROVIDER.stream(asking)


@brisk
@given(broken(replies()) | st.dictionaries(words, anything))
def test_a_provider_may_answer_anything(document: JSON) -> None:
    with suppress(Garbled):
        canonical = PROVIDER.reply(document, ask({}))
        json.dumps(CLIENT.reply(canonical, asked({})))


@brisk
@given(broken(replies().map(lambda message: PROVIDER.reply(message, ask({})))) | st.dictionaries(words, anything))
def test_a_canonical_reply_may_be_anything(document: JSON) -> None:
    with suppress(Garbled):
        json.dumps(CLIENT.reply(document, asked({})))


@brisk
@given(replies(), st.data())
def test_a_stream_may_hold_anything(message: JSON, data: st.DataObject) -> None:
    stream, written = PROVIDER.stream(ask({}, stream=True)), CLIENT.stream(asked({}, stream=True))
    events = [json.loads(event_data(event) or b"") for event in streamed(message, [5])]
    for event in data.draw(broken(st.just(events)), label="events"):
        raw = b"data: " + json.dumps(event).encode() + b"\n\n"
        step = stream.read(raw)
        if step.kind is Kind.ERROR:
            assert stream.fault_of(raw).status
        assert step.kind not in (Kind.ERROR, Kind.GARBAGE) or not step.chunks
        for each in step.chunks:
            written.write(each)
    written.end()


WHOLE = chunk({"content": "a", "thinking_blocks": [{"type": "thinking"}], "tool_calls": [{"index": 0, "function": {}}]}, "stop")


@brisk
@given(st.lists(st.dictionaries(words, anything) | broken(st.just(WHOLE)), max_size=6))
def test_chunks_may_be_anything(chunks: list[Any]) -> None:
    stream = CLIENT.stream(asked({}, stream=True))
    for each in chunks:
        stream.write(each)
    assert stream.end().endswith(b'{"type":"message_stop"}\n\n')


@brisk
@given(st.binary(max_size=60) | anything.map(lambda value: json.dumps({"type": "error", "error": value}).encode()))
def test_a_failing_reply_may_be_anything(body: bytes) -> None:
    failed = PROVIDER.failed(500, body)
    assert isinstance(failed.code, str | None)
    assert isinstance(failed.message, str | None)
    event = b"event: error\ndata: " + body.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n\n"
    assert PROVIDER.stream(ask({})).fault_of(event).status
    PROVIDER.stream(ask({})).read(event)
