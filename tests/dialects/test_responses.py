"""Responses clients: what the `openai` package makes of what is written, and what must hold for any input."""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import httpx
import orjson
import pytest
from golden import CREATED, FOLDER, ID, asked_of, plain
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import APIError, OpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from mitmgate.dialects.codec import Asked, Garbled
from mitmgate.dialects.openai.reading import OpenAIReader
from mitmgate.dialects.openai.responses import RESPONSES
from mitmgate.dialects.openai.responses_sealed import sealed
from mitmgate.dialects.reading import Kind
from mitmgate.errors import Refusal
from mitmgate.sse import EventSplitter, event_data, event_name

EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
CASES = [case for file in sorted((FOLDER / "openai").glob("responses_*.json")) for case in json.loads(file.read_text())]
BLOCKS = [
    {"type": "thinking", "thinking": "First.", "signature": "c2ln"},
    {"type": "redacted_thinking", "data": "cmVk"},
]


def asked(document: Mapping[str, Any] | None = None) -> Asked:
    return Asked(document or {"model": "m", "input": "Hi"}, "m", False, ID, CREATED)


def cases(way: str) -> Any:
    found = [case for case in CASES if case["way"] == way and case["expected"] != {"garbled": True}]
    assert found
    return pytest.mark.parametrize("case", found, ids=lambda case: case["name"])


def documents(written: bytes) -> Iterator[dict[str, Any]]:
    """The events, each named by its type, in the order of their numbers."""
    splitter = EventSplitter()
    for number, event in enumerate(splitter.feed(written)):
        document = json.loads(event_data(event) or b"")
        assert event_name(event) == document["type"].encode()
        assert document["sequence_number"] == number
        yield document
    assert not splitter.rest()


def streamed(chunks: list[dict[str, Any]], document: Mapping[str, Any] | None = None) -> bytes:
    stream = RESPONSES.stream(asked(document))
    return b"".join([*map(stream.write, chunks), stream.end()])


# what the SDK's types say


@cases("client.reply")
def test_a_reply_is_the_sdks_response(case: dict[str, Any]) -> None:
    reply = RESPONSES.reply(case["given"], asked_of(case, {}))
    response = Response.model_validate_json(json.dumps(reply), strict=True)
    content = case["given"]["choices"][0]["message"].get("content")
    assert response.output_text == (content or "")
    assert response.model_dump(mode="json", by_alias=True, exclude_unset=True) == plain(reply)


@cases("client.stream")
def test_each_event_is_one_of_the_sdks(case: dict[str, Any]) -> None:
    for document in documents("".join(case["expected"]).encode()):
        event = EVENTS.validate_json(json.dumps(document), strict=True)
        assert event.type == document["type"]
        assert event.model_dump(mode="json", by_alias=True, exclude_unset=True) == document


@cases("client.stream")
def test_our_own_reader_understands_them(case: dict[str, Any]) -> None:
    reader = OpenAIReader()
    kinds = [reader.event(event) for event in EventSplitter().feed("".join(case["expected"]).encode())]
    assert Kind.GARBAGE not in kinds
    assert kinds[-1] is (Kind.ERROR if "event: error" in case["expected"][-1] else Kind.END)


# what the SDK's client does


def client(answer: Callable[[httpx.Request], httpx.Response]) -> OpenAI:
    http = httpx.Client(transport=httpx.MockTransport(answer))
    return OpenAI(api_key="k", base_url="http://127.0.0.1/v1", http_client=http, max_retries=0)


def reading(written: bytes) -> OpenAI:
    return client(lambda request: httpx.Response(200, headers={"content-type": RESPONSES.media}, content=written))


def chunk(delta: Mapping[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": dict(delta), "finish_reason": finish, **more}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "served", "choices": [choice]}


USAGE = {
    "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "served", "choices": [],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}  # fmt: skip
CHUNKS = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"reasoning_content": "Hm."}),
    chunk({"thinking_blocks": BLOCKS}),
    chunk({"content": "Let me "}),
    chunk({"content": "look."}),
    chunk({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"Oslo"}'}}]}),
    chunk({}, "tool_calls"),
    USAGE,
]


def test_the_sdk_puts_a_stream_together() -> None:
    with reading(streamed(CHUNKS)).responses.stream(model="m", input="Hi") as stream:
        texts = [event.delta for event in stream if event.type == "response.output_text.delta"]
        response = stream.get_final_response()
    assert texts == ["Let me ", "look."]
    assert response.output_text == "Let me look."
    assert response.output[-1].type == "function_call"
    assert response.output[-1].arguments == '{"city":"Oslo"}'
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (10, 5)


def test_a_broken_stream_raises_in_the_sdk() -> None:
    writer = RESPONSES.stream(asked())
    written = b"".join(map(writer.write, CHUNKS[:4])) + writer.broken("stream_broken", "The stream was broken off.")
    with pytest.raises(APIError, match="broken off") as raised:
        list(reading(written).responses.create(model="m", input="Hi", stream=True))
    assert raised.value.code == "stream_broken"


def test_an_unreadable_stream_raises_in_the_sdk() -> None:
    written = streamed([chunk({"content": [{"type": "text", "text": "Hi"}]}), chunk({"content": "Hi"}), chunk({}, "stop")])
    assert b"response.completed" not in written
    with pytest.raises(APIError, match="cannot be read"):
        list(reading(written).responses.create(model="m", input="Hi", stream=True))


def test_what_the_sdk_sends_back_of_a_reply_is_the_turn_that_it_was() -> None:
    message = {
        "role": "assistant", "content": "Look.", "reasoning_content": "Hm.", "thinking_blocks": BLOCKS,
        "tool_calls": [
            {
                "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"},
                "extra_content": {"google": {"thought_signature": "c2ln"}},
            }
        ],
    }  # fmt: skip
    reply = RESPONSES.reply({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}, asked())
    sent: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(200, json=reply)

    openai = client(answer)
    first = openai.responses.create(model="m", input="Hi")
    output: Any = {"type": "function_call_output", "call_id": "call_1", "output": "4"}
    openai.responses.create(model="m", input=[{"role": "user", "content": "Hi"}, *first.output, output])  # type: ignore[list-item]
    messages = RESPONSES.request(asked(sent[-1]))["messages"]
    assert messages == [{"role": "user", "content": "Hi"}, message, {"role": "tool", "tool_call_id": "call_1", "content": "4"}]


# what must hold for any input

ODD = ("null", "true", "0", "-1", "1.5", "1e300", '""', '"auto"', "[]", "{}", "[null]", "[[]]", "[{}]", '{"": 0}')
ODD_ONES = st.sampled_from(ODD).map(json.loads) | st.text(max_size=4) | st.integers(-(2**63), 2**64 - 1)


@st.composite
def spoilt(draw: st.DrawFn, documents: list[Any]) -> Any:
    """One of the documents, with something odd in the place of some of its parts."""
    document = copy.deepcopy(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(1, 3))):
        parent = document
        while True:
            keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if not isinstance(parent[key], dict | list) or draw(st.integers(0, 3)) == 0:
                parent[key] = draw(ODD_ONES)
                break
            parent = parent[key]
    return document


def given_to(way: str) -> list[Any]:
    return [case["given"] for case in CASES if case["way"] == way]


BODY = spoilt(given_to("client.request"))


def taken(body: dict[str, Any]) -> bool:
    try:
        chat = RESPONSES.request(asked(body))
    except Refusal as refusal:
        return not refusal.param            # each says where it is
    assert chat["messages"]
    return all("role" in message and "content" in message for message in chat["messages"])


@settings(max_examples=500, deadline=None)
@given(body=BODY)
def test_no_request_raises_anything_but_a_refusal(body: dict[str, Any]) -> None:
    before = copy.deepcopy(body)
    if taken(body):
        reply = RESPONSES.reply(completion({"content": "Hi"}), asked(body))
        Response.model_validate_json(orjson.dumps(reply), strict=True)
    assert body == before


@settings(max_examples=300, deadline=None)
@given(body=BODY, reply=spoilt(given_to("client.reply")))
def test_no_reply_raises_anything_but_garbled(body: dict[str, Any], reply: dict[str, Any]) -> None:
    before = copy.deepcopy(reply)
    with suppress(Garbled):
        Response.model_validate_json(orjson.dumps(RESPONSES.reply(reply, asked())), strict=True)
    with suppress(Garbled):
        orjson.dumps(RESPONSES.reply(reply, asked(body)))       # what passes as it came was asked unread
    assert reply == before


@settings(max_examples=100, deadline=None)
@given(body=BODY, chunks=spoilt(given_to("client.stream")))
def test_whatever_comes_is_written_as_events(body: dict[str, Any], chunks: list[Any]) -> None:
    chunks = [each for each in chunks if isinstance(each, dict)]
    list(documents(streamed(chunks, body)))
    written = list(documents(streamed(chunks)))
    for document in written:
        EVENTS.validate_json(orjson.dumps(document), strict=True)
    assert written[0]["type"] == "response.created"
    assert written[-1]["type"] in ("response.completed", "response.incomplete", "error")


def completion(message: Mapping[str, Any], finish: str = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, **more}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE["usage"]}


SAID = st.text(min_size=1, max_size=20)
CALL = st.builds(
    lambda number, name, arguments, extra: {
        "id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}, **extra,
    },
    st.integers(), SAID, SAID, st.sampled_from([{}, {"extra_content": {"google": {"thought_signature": "c2ln"}}}]),
)  # fmt: skip
MESSAGE = st.fixed_dictionaries(
    {"role": st.just("assistant")},
    optional={
        "reasoning_content": SAID, "thinking_blocks": st.just(BLOCKS), "content": SAID, "refusal": SAID,
        "tool_calls": st.lists(CALL, min_size=1, max_size=3, unique_by=lambda call: call["id"]),
    },
)  # fmt: skip


@st.composite
def cut(draw: st.DrawFn, text: str) -> list[str]:
    """A text in pieces."""
    at = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[start:stop] for start, stop in zip([0, *at], [*at, len(text)], strict=True)]


@st.composite
def chunks_of(draw: st.DrawFn, message: Mapping[str, Any], finish: str) -> list[dict[str, Any]]:
    """The chunks of a message, its texts and arguments cut anywhere, the calls' fragments mixed."""
    chunks = [chunk({"role": "assistant", "content": ""})]
    for name in ("reasoning_content", "thinking_blocks", "content", "refusal"):
        pieces = [message[name]] if name == "thinking_blocks" and name in message else draw(cut(message.get(name, "")))
        chunks += [chunk({name: piece}) for piece in pieces]
    rest = []
    for index, call in enumerate(message.get("tool_calls", ())):
        first, *others = draw(cut(call["function"]["arguments"]))
        chunks.append(
            chunk({"tool_calls": [{**call, "index": index, "function": {**call["function"], "arguments": first}}]})
        )
        rest.append([{"index": index, "function": {"arguments": piece}} for piece in others])
    while any(rest):
        chunks.append(chunk({"tool_calls": [draw(st.sampled_from([queue for queue in rest if queue])).pop(0)]}))
    return [*chunks, chunk({}, finish), USAGE]


@settings(max_examples=150, deadline=None)
@given(drawn=st.data(), message=MESSAGE, finish=st.sampled_from(["stop", "length", "content_filter", "tool_calls"]))
def test_a_stream_however_cut_ends_with_the_reply(drawn: st.DataObject, message: dict[str, Any], finish: str) -> None:
    written = list(documents(streamed(drawn.draw(chunks_of(message, finish)))))
    response = RESPONSES.reply(completion(message, finish), asked())
    assert written[-1]["response"] == plain(response)
    assert written[-1]["type"] == f"response.{response['status']}"
    deltas = [event["delta"] for event in written if event["type"] == "response.output_text.delta"]
    assert "".join(deltas) == message.get("content", "")


@settings(max_examples=150, deadline=None)
@given(message=MESSAGE)
def test_a_reply_that_is_sent_back_is_the_same_turn(message: dict[str, Any]) -> None:
    output = RESPONSES.reply(completion(message), asked())["output"]
    chat = RESPONSES.request(asked({"input": [{"role": "user", "content": "Hi"}, *output, {"role": "user", "content": "Bye"}]}))
    said = {"content": "", **message} if not {"tool_calls", "refusal"} & set(message) else {"content": None, **message}
    assert chat["messages"][1:-1] == ([said] if len(message) > 1 else [])


# what is easily got wrong


@pytest.mark.parametrize("role", [[], {}, 1, True])
def test_a_role_that_is_no_text_is_refused(role: object) -> None:
    with pytest.raises(Refusal) as refused:
        RESPONSES.request(asked({"input": [{"role": role, "content": "Hi"}]}))
    assert refused.value.param == "input[0].role"


def test_sealed_thinking_that_was_damaged_is_refused() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": sealed(BLOCKS)[:-9]}
    with pytest.raises(Refusal) as refused:
        RESPONSES.request(asked({"input": [{"role": "user", "content": "Hi"}, item]}))
    assert (refused.value.code, refused.value.param) == ("invalid_request", "input[1].encrypted_content")


def test_a_vendors_second_call_with_the_index_of_the_first() -> None:
    calls = [
        {"index": 0, "id": id, "type": "function", "function": {"name": "a", "arguments": arguments}}
        for id, arguments in (("call_1", "[1]"), ("call_2", "[2]"))
    ]
    *_, last = documents(streamed([*(chunk({"tool_calls": [call]}) for call in calls), chunk({}, "tool_calls")]))
    output = last["response"]["output"]
    assert [(item["call_id"], item["arguments"]) for item in output] == [("call_1", "[1]"), ("call_2", "[2]")]


def test_no_message_quotes_what_was_sent() -> None:
    secret = "hunter2"
    for body in (
        {"input": [{"type": secret}]}, {"input": [{"role": secret, "content": "x"}]}, {"input": "x", "include": [secret]},
        {"input": "x", "tools": [{"type": secret}]}, {"input": "x", "tool_choice": secret},
        {"input": "x", "truncation": secret}, {"input": "x", "temperature": secret},
        {"input": [{"type": "function_call_output", "call_id": secret, "output": ""}]},
    ):  # fmt: skip
        with pytest.raises(Refusal) as refused:
            RESPONSES.request(asked(body))
        assert secret not in refused.value.message
