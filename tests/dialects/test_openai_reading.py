"""OpenAI's replies as they pass: what each event is, whether the end was seen, and what is noted on the way."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitmgate.dialects.openai.reading import OpenAIBodyReader, OpenAIReader
from mitmgate.dialects.reading import Kind
from mitmgate.errors import FaultKind
from mitmgate.sse import EventSplitter

OTHER, CONTENT, END, ERROR, GARBAGE = Kind.OTHER, Kind.CONTENT, Kind.END, Kind.ERROR, Kind.GARBAGE
DONE = "[DONE]"


def chunk(delta: dict[str, Any] | None = None, *, index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta or {}, "logprobs": None, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "model": "gpt-4o-2024", "choices": [choice], **more}


def typed(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "sequence_number": 1, **more}


ROLE = chunk({"role": "assistant", "content": "", "refusal": None})
USAGE = chunk(usage={"prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46}) | {"choices": []}
TOOL = chunk({"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}]})
RESPONSE = {"model": "gpt-5", "usage": {"input_tokens": 5, "output_tokens": 6}}

# Name: (choices asked for, the events' data, what each is, whether the stream is complete after each).
STREAMS: dict[str, tuple[int, list[Any], list[Kind], list[bool]]] = {
    "chat": (
        1, [ROLE, chunk({"content": "Hi"}), chunk(finish="stop"), USAGE, DONE],
        [OTHER, CONTENT, END, OTHER, END], [False, False, True, True, True],
    ),
    "chat cut after its role": (1, [ROLE], [OTHER], [False]),
    "chat of a vendor whose last text has the finish reason": (1, [chunk({"content": "Hi"}, finish="stop")], [CONTENT], [True]),
    "tools": (
        1, [ROLE, TOOL, chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
        chunk(finish="tool_calls"), DONE],
        [OTHER, CONTENT, CONTENT, END, END], [False, False, False, True, True],
    ),
    "old function calls": (1, [chunk({"function_call": {"name": "f", "arguments": ""}})], [CONTENT], [False]),
    "refusal": (1, [chunk({"refusal": "No."})], [CONTENT], [False]),
    "reasoning of other vendors": (1, [chunk({"role": "assistant", "reasoning_content": "Hm"})], [CONTENT], [False]),
    "fields that nobody knows yet": (1, [chunk({"hologram": {"x": 1}})], [CONTENT], [False]),
    "Azure's first event": (
        1, [{"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}, chunk({"content": "a"})], [OTHER,
        CONTENT], [False, False],
    ),
    "two answers": (
        2, [chunk({"content": "a"}), chunk({"content": "b"}, index=1), chunk(finish="stop"), chunk(finish="length",
        index=1), DONE],
        [CONTENT, CONTENT, END, END, END], [False, False, False, True, True],
    ),
    "one answer twice finished of two": (2, [chunk(finish="stop"), chunk(finish="stop")], [END, END], [False, False]),
    "two answers in one event": (
        2, [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}, {"index": 1, "delta": {"content": "b"}}]}],
        [CONTENT], [False],
    ),
    "done alone": (1, [DONE], [END], [False]),
    "an error in place of an answer": (1, [{"error": {"message": "m", "code": "server_error"}}], [ERROR], [False]),
    "an error after text": (1, [chunk({"content": "a"}), {"error": {"message": "m"}}], [CONTENT, ERROR], [False, False]),
    "an error beside choices": (1, [chunk(error={"message": "m"})], [ERROR], [False]),
    "no error after all": (1, [chunk({"content": "a"}, error=None)], [CONTENT], [False]),
    "completions": (
        1, [
            {"object": "text_completion", "choices": [{"text": "", "index": 0, "finish_reason": None}]},
            {"object": "text_completion", "choices": [{"text": "a", "index": 0, "finish_reason": None}]},
            {"object": "text_completion", "choices": [{"text": "", "index": 0, "finish_reason": "stop"}]},
            DONE,
        ], [OTHER, CONTENT, END, END], [False, False, True, True],
    ),
    "responses": (
        1, [
            typed("response.created", response=RESPONSE), typed("response.in_progress", response=RESPONSE),
            typed("response.output_item.added", item={}), typed("response.content_part.added", part={}),
            typed("response.output_text.delta", delta="a"), typed("response.output_text.done", text="a"),
            typed("response.completed", response=RESPONSE),
        ], [OTHER, OTHER, OTHER, OTHER, CONTENT, CONTENT, END], [False] * 6 + [True],
    ),
    "responses, incomplete": (
        1, [typed("response.reasoning_summary_text.delta", delta="a"), typed("response.incomplete", response=RESPONSE)],
        [CONTENT, END], [False, True],
    ),
    "responses, failed": (1, [typed("response.failed", response={"error": {"code": "server_error"}})], [ERROR], [False]),
    "responses, error": (1, [typed("error", code="rate_limit_exceeded", message="m", param=None)], [ERROR], [False]),
    "speech": (
        1, [typed("speech.audio.delta", audio="AAAA"), typed("speech.audio.done", usage={"input_tokens": 5,
        "output_tokens": 6})],
        [CONTENT, END], [False, True],
    ),
    "transcription": (
        1, [typed("transcript.text.delta", delta="a"), typed("transcript.text.done", text="a")], [CONTENT, END], [False, True],
    ),
    "images": (
        1, [typed("image_generation.partial_image", b64_json="AA"), typed("image_generation.completed", b64_json="AA")],
        [CONTENT, END], [False, True],
    ),
    "image edits": (1, [typed("image_edit.completed", b64_json="AA")], [END], [True]),
    "pings": (1, [typed("ping"), typed("keepalive")], [OTHER, OTHER], [False, False]),
    "garbage": (
        1, ["", "{", "<html>", "[]", "1", "null", '"text"', {"choices": [1]}, {"choices": [{"index": "0"}]}],
        [GARBAGE] * 9, [False] * 9,
    ),
}  # fmt: skip


def events_of(documents: list[Any], end: str = "\n\n") -> list[bytes]:
    return [f"data: {each if isinstance(each, str) else json.dumps(each)}{end}".encode() for each in documents]


def seen(found: OpenAIReader, events: list[bytes]) -> tuple[list[Kind], list[bool]]:
    kinds, complete = [], []
    for event in events:
        kinds.append(found.event(event))
        complete.append(found.complete)
    return kinds, complete


@pytest.mark.parametrize("name", STREAMS)
def test_what_each_event_is(name: str) -> None:
    choices, documents, kinds, complete = STREAMS[name]
    assert seen(OpenAIReader(choices), events_of(documents)) == (kinds, complete)


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n"])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_at_every_byte_is_the_same_stream(name: str, end: str) -> None:
    choices, documents, kinds, complete = STREAMS[name]
    whole = b"".join(events_of(documents, end))
    for cut in range(len(whole) + 1):
        splitter = EventSplitter()
        events = splitter.feed(whole[:cut]) + splitter.feed(whole[cut:])
        assert b"".join(events) == whole
        assert seen(OpenAIReader(choices), events) == (kinds, complete), cut


def test_events_without_data_are_nothing() -> None:
    found = OpenAIReader()
    assert seen(found, [b": ping\n\n", b"event: x\n\n", b"\n\n"]) == ([OTHER] * 3, [False] * 3)


def test_terminated_is_the_terminator_alone() -> None:
    found = OpenAIReader()
    seen(found, events_of([chunk(finish="stop")]))
    assert (found.complete, found.terminated) == (True, False)
    seen(found, events_of([DONE]))
    assert found.terminated


@pytest.mark.parametrize(
    ("name", "noted"),
    [
        ("chat", ("gpt-4o-2024", 12, 34)), ("responses", ("gpt-5", 5, 6)), ("speech", (None, 5, 6)), ("done alone",
        (None, None, None)),
        ("tools", ("gpt-4o-2024", None, None)),
    ],
)  # fmt: skip
def test_model_and_usage_are_noted(name: str, noted: tuple[str | None, int | None, int | None]) -> None:
    choices, documents, _, _ = STREAMS[name]
    found = OpenAIReader(choices)
    seen(found, events_of(documents))
    assert (found.served_model, found.tokens_input, found.tokens_output) == noted


@pytest.mark.parametrize("usage", [None, [], "12", {}, {"prompt_tokens": "12"}, {"prompt_tokens": -1}, {"prompt_tokens": True}])
def test_a_usage_that_is_none_is_not_noted(usage: Any) -> None:
    found = OpenAIReader()
    assert found.body(json.dumps({"choices": [], "usage": usage, "model": ["x"]}).encode()) is None
    assert (found.served_model, found.tokens_input, found.tokens_output) == (None, None, None)


def test_a_huge_model_name_is_cut() -> None:
    found = OpenAIReader()
    found.body(json.dumps({"model": "m" * 100_000}).encode())
    assert found.served_model is not None
    assert len(found.served_model) <= 256


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"error": {"message": "secret", "type": "t", "code": "rate_limit_exceeded"}}, "rate_limit_exceeded"),
        ({"error": {"message": "secret", "type": "overloaded_error", "code": None}}, "overloaded_error"),
        ({"error": {"message": "secret", "code": 429}}, None),
        ({"error": "secret"}, None),
        (typed("error", code="context_length_exceeded", message="secret"), "context_length_exceeded"),
        # The code decides who may be asked next: in a failed response it stands one level deeper.
        (typed("response.failed", response={"error": {"code": "context_length_exceeded", "message": "secret"}}),
         "context_length_exceeded"),
    ],
)  # fmt: skip
def test_the_fault_of_an_error_event(document: dict[str, Any], code: str | None) -> None:
    (event,) = events_of([document])
    found = OpenAIReader()
    assert found.event(event) is ERROR
    fault = found.fault_of(event)
    assert (fault.kind, fault.code) == (FaultKind.ERROR_EVENT, code)
    assert "secret" not in fault.reason


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b'{"id": "c", "choices": [], "model": "m"}', None, None),
        (b'{"object": "list", "data": []}', None, None),
        (b'{"id": "r", "error": null, "output": []}', None, None),
        (b'{"id": "r", "error": {"code": "x"}, "status": "failed"}', None, None),      # a failed response, whole
        (b'{"error": {"message": "m", "code": "model_not_found"}}', FaultKind.ERROR_EVENT, "model_not_found"),
        (b"<html>", FaultKind.GARBAGE, None),
        (b"", FaultKind.GARBAGE, None),
        (b'{"id": "c", "choi', FaultKind.GARBAGE, None),
        (b'{"a": "\xff"}', FaultKind.GARBAGE, None),
    ],
)
def test_whole_bodies(body: bytes, kind: FaultKind | None, code: str | None) -> None:
    for found in (OpenAIReader(), OpenAIBodyReader()):
        fault = found.body(body)
        assert (fault.kind if fault else None, fault.code if fault else None) == (kind, code)


def test_a_bare_list_is_no_answer_of_a_chat() -> None:
    fault = OpenAIReader().body(b"[]")
    assert fault is not None
    assert fault.kind is FaultKind.GARBAGE
    assert OpenAIBodyReader().body(b"[]") is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error": {"code": "model_not_found"}}', "model_not_found"),
        (b'{"error": {"type": "not_found_error"}}', "not_found_error"),
        (b'[{"error": {"code": "x"}}]', "x"),
        (b'{"code": "x", "message": "m"}', "x"),
        (b"<html>", None), (b"", None), (b"[]", None), (b"[1]", None), (b'{"error": {"code": ""}}', None), (b"\xff", None),
    ],
)  # fmt: skip
def test_the_code_of_a_failing_reply(body: bytes, code: str | None) -> None:
    assert OpenAIReader().failure(400, body) == code


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["choices", "error", "type", "usage", "model", "delta", "index", "finish_reason", "response",
        "code", "text"]),
        inner, max_size=4,
    ),
    max_leaves=10,
)  # fmt: skip


@given(JSON.map(json.dumps) | st.text(max_size=20))
def test_no_event_and_no_body_raises(text: str) -> None:
    found = OpenAIReader()
    event = b"data: " + text.encode().translate(None, b"\r\n") + b"\n\n"
    assert found.event(event) in Kind
    assert found.fault_of(event).kind is FaultKind.ERROR_EVENT
    found.body(text.encode())
    found.failure(500, text.encode())
    assert found.served_model is None or isinstance(found.served_model, str)
    assert found.tokens_input is None or found.tokens_input >= 0
