"""Bedrock beyond the goldens that the common runner sees: frames, streams, AWS's own model of the service, and nonsense."""

import base64
import copy
import json
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.session import Session
from golden import ask_of, cases, codec, outcome
from hypothesis import given, settings
from hypothesis import strategies as st

from mitmgate.dialects.bedrock.codec import PROVIDERS, BedrockChat
from mitmgate.dialects.bedrock.frames import LARGEST, FrameSplitter, read_frame
from mitmgate.dialects.bedrock.models import Maker, Reasons, traits_of
from mitmgate.dialects.codec import Ask, Garbled
from mitmgate.dialects.reading import Kind
from mitmgate.errors import FaultKind, Refusal

CHAT = PROVIDERS["chat"]
STREAMS = json.loads((Path(__file__).parent / "goldens" / "bedrock" / "streams" / "streams.json").read_text())
REQUESTS = [case for case in cases("bedrock") if case["way"] == "provider.request" and "refusal" not in case["expected"]]
REPLIES = [case for case in cases("bedrock") if case["way"] == "provider.reply" and "garbled" not in case["expected"]]


def ask(document: Any = None, **fields: Any) -> Ask:
    return Ask(**{"document": document or {"messages": []}, "model": "m", "stream": True, "id": "i", "created": 1} | fields)


def header(name: str, value: str) -> bytes:
    return struct.pack("!B", len(name)) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()


def frame(headers: bytes, payload: bytes) -> bytes:
    """As the specification of the Amazon event stream has it."""
    lengths = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    body = lengths + struct.pack("!I", crc32(lengths)) + headers + payload
    return body + struct.pack("!I", crc32(body))


def framed(event: dict[str, Any]) -> bytes:
    """An event of a golden stream, with the headers that Bedrock sends."""
    payload = json.dumps(event["payload"], ensure_ascii=False).encode()
    if "exception" in event:
        kind = header(":exception-type", event["exception"])
        return frame(kind + header(":content-type", "application/json") + header(":message-type", "exception"), payload)
    if "error" in event:
        named = header(":error-code", event["error"]) + header(":error-message", event["message"])
        return frame(named + header(":message-type", "error"), payload)
    kind = header(":event-type", event["type"])
    return frame(kind + header(":content-type", "application/json") + header(":message-type", "event"), payload)


def shown(case: dict[str, Any], events: list[bytes]) -> dict[str, Any]:
    """What the reader makes of a stream, in the shape of the goldens' `expected`."""
    stream = CHAT.stream(ask_of(case, {"messages": [], "stream": True}))
    found: dict[str, Any] = {"deltas": [], "kinds": [], "complete": False}
    for event in events:
        step = stream.read(event)
        found["kinds"].append(step.kind.value)
        if step.kind is Kind.ERROR:
            fault = stream.fault_of(event)
            assert fault.kind is FaultKind.ERROR_EVENT
            assert isinstance(json.loads(fault.body), dict)
            found["fault"] = {"status": fault.status, "code": fault.code}
            break
        if step.kind is Kind.GARBAGE:
            found["garbled"] = True
            break
        for chunk in step.chunks:
            assert "usage" not in found, "the usage is the last chunk"
            assert (chunk["id"], chunk["created"]) == ("chatcmpl-0123456789abcdef", 1_700_000_000)
            found["model"] = chunk["model"]
            if chunk["choices"]:
                (choice,) = chunk["choices"]
                assert choice["index"] == 0
                found["deltas"].append([choice["delta"], choice["finish_reason"]])
            else:
                found["usage"] = chunk["usage"]
    return found | {"complete": stream.complete}


def expected(case: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The kinds are spelt out where they are the point."""
    return {"kinds": found["kinds"]} | case["expected"]


@pytest.mark.parametrize("case", STREAMS, ids=lambda case: case["name"])
def test_a_golden_stream(case: dict[str, Any]) -> None:
    assert case["source"], "where it is documented"
    found = shown(case, [framed(event) for event in case["given"]])
    assert found == expected(case, found)


@pytest.mark.parametrize("case", STREAMS, ids=lambda case: case["name"])
def test_a_golden_stream_cut_at_every_byte(case: dict[str, Any]) -> None:
    events = [framed(event) for event in case["given"]]
    whole = b"".join(events)
    for cut in range(1, len(whole)):
        splitter = FrameSplitter()
        assert [*splitter.feed(whole[:cut]), *splitter.feed(whole[cut:])] == events, cut
        assert splitter.rest() == b""
    splitter = FrameSplitter()
    assert [each for index in range(len(whole)) for each in splitter.feed(whole[index : index + 1])] == events


@pytest.mark.parametrize("case", STREAMS, ids=lambda case: case["name"])
def test_our_frames_are_what_botocore_reads(case: dict[str, Any]) -> None:
    """The encoder of these tests is right, and `read_frame` reads what AWS's own parser reads."""
    buffer = EventStreamBuffer()
    events = [framed(event) for event in case["given"]]
    buffer.add_data(b"".join(events))
    for event, message in zip(events, buffer, strict=True):
        assert read_frame(event) == (message.headers, message.payload)


def test_headers_of_every_type() -> None:
    """The text ones are kept; the others have their lengths (Smithy, header value types 0 to 9)."""
    others = (
        b"\x01a\x00" + b"\x01b\x01" + b"\x01c\x02\x07" + b"\x01d\x03\x00\x07" + b"\x01e\x04" + bytes(4)
        + b"\x01f\x05" + bytes(8) + b"\x01g\x06\x00\x03xyz" + b"\x01h\x08" + bytes(8) + b"\x01i\x09" + bytes(16)
    )  # fmt: skip
    event = frame(others + header("j", "text"), b"{}")
    buffer = EventStreamBuffer()
    buffer.add_data(event)
    assert len(next(buffer).headers) == 10
    assert read_frame(event) == ({"j": "text"}, b"{}")


def test_the_splitter_keeps_the_tail_to_itself() -> None:
    event = frame(header(":message-type", "event"), b"{}")
    splitter = FrameSplitter()
    assert splitter.feed(b"") == []
    assert splitter.feed(event + event[:20]) == [event]
    assert splitter.pending == 20
    assert splitter.rest() == event[:20]
    assert splitter.pending == 0
    assert splitter.feed(event) == [event]


def test_a_byte_that_was_changed_is_noticed() -> None:
    event = framed(STREAMS[0]["given"][1])
    for index in range(len(event)):
        broken = bytearray(event)
        broken[index] ^= 0x20
        with pytest.raises(Garbled):
            read_frame(bytes(broken))
        stream = CHAT.stream(ask())
        events = FrameSplitter().feed(bytes(broken) + event)
        assert stream.read(events[0]).kind is Kind.GARBAGE
        assert stream.fault_of(events[0]).status is None


@pytest.mark.parametrize("total", [0, 15, LARGEST + 1, 0xFFFFFFFF])
def test_a_length_out_of_bounds_is_not_waited_for(total: int) -> None:
    lengths = struct.pack("!II", total, 0)
    prelude = lengths + struct.pack("!I", crc32(lengths))
    splitter = FrameSplitter()
    (event,) = splitter.feed(prelude + b"more")
    assert splitter.pending == 0
    assert CHAT.stream(ask()).read(event).kind is Kind.GARBAGE
    assert splitter.feed(b"and more") == [b"and more"], "there is no next frame to be found, and nothing is kept"
    assert CHAT.stream(ask()).read(b"and more").kind is Kind.GARBAGE


def test_server_sent_events_are_no_frames() -> None:
    (event,) = FrameSplitter().feed(b'data: {"choices": []}\n\n')
    assert CHAT.stream(ask()).read(event).kind is Kind.GARBAGE


def test_a_large_frame_in_small_pieces() -> None:
    """Were the tail copied with each piece, this would take longer than a test may."""
    event = frame(header(":message-type", "event"), bytes(8 << 20))
    splitter = FrameSplitter()
    assert [each for start in range(0, len(event), 64) for each in splitter.feed(event[start : start + 64])] == [event]


def test_the_codec_says_what_its_streams_are() -> None:
    assert BedrockChat.stream_media == "application/vnd.amazon.eventstream"
    first, second = BedrockChat().splitter(), BedrockChat().splitter()
    assert isinstance(first, FrameSplitter)
    assert first is not second


# ---- AWS's own model of the service


@cache
def service() -> ServiceModel:
    return ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"), "bedrock-runtime")


def conforms(value: Any, shape: Any, where: str = "") -> Iterator[str]:
    """What of a value its shape does not allow: unknown or missing members, types, lengths, ranges, enumerations."""
    kind = shape.type_name
    if getattr(shape, "is_document_type", False):
        return
    if kind == "structure":
        members = shape.members
        yield from (f"{where}.{name} is unknown" for name in value.keys() - members.keys())
        yield from (f"{where}.{name} is missing" for name in shape.required_members if name not in value)
        if getattr(shape, "is_tagged_union", False) and len(value) != 1:
            yield f"{where} is a union"
        for name in value.keys() & members.keys():
            yield from conforms(value[name], members[name], f"{where}.{name}")
    elif kind == "list":
        for index, each in enumerate(value):
            yield from conforms(each, shape.member, f"{where}[{index}]")
    elif kind == "map":
        for name, each in value.items():
            yield from conforms(each, shape.value, f"{where}.{name}")
    elif kind == "blob":
        base64.b64decode(value, validate=True)
    else:
        yield from _plain(value, shape, where)


def _plain(value: Any, shape: Any, where: str) -> Iterator[str]:
    kinds = {"string": str, "integer": int, "long": int, "float": (int, float), "double": (int, float), "boolean": bool}
    if not isinstance(value, kinds[shape.type_name]):
        yield f"{where} is no {shape.type_name}"
        return
    size = len(value) if isinstance(value, str) else value
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if (least is not None and size < least) or (most is not None and size > most):
        yield f"{where} is out of range"
    named = shape.type_name == "string" and shape.enum
    if named and value not in named:
        yield f"{where} is none of {named}"


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case["name"])
def test_requests_conform_to_the_service_model(case: dict[str, Any]) -> None:
    for operation in ("Converse", "ConverseStream"):
        shape = service().operation_model(operation).input_shape
        document = outcome("bedrock", case)["document"] | {"modelId": case["given"]["model"]}
        assert list(conforms(document, shape)) == []


@pytest.mark.parametrize("case", REPLIES, ids=lambda case: case["name"])
def test_the_replies_that_we_read_conform_to_it(case: dict[str, Any]) -> None:
    shape = service().operation_model("Converse").output_shape
    assert [each for each in conforms(case["given"], shape) if "hologram" not in each] == []


@pytest.mark.parametrize("case", STREAMS, ids=lambda case: case["name"])
def test_the_streams_that_we_read_conform_to_it(case: dict[str, Any]) -> None:
    members = service().operation_model("ConverseStream").output_shape.members["stream"].members
    wrong = []
    for event in case["given"]:
        shape = members.get(event.get("type") or event.get("exception"))
        if shape is not None:
            payload = {name: value for name, value in event["payload"].items() if name != "p"}   # padding, not in the model
            wrong += [each for each in conforms(payload, shape) if "hologram" not in each]
    assert wrong == []


def bytes_for_blobs(value: Any) -> Any:
    """The document as the SDK wants it: blobs as bytes."""
    if isinstance(value, list):
        return [bytes_for_blobs(each) for each in value]
    if isinstance(value, dict):
        blob = ("bytes", "redactedContent")
        return {name: base64.b64decode(each) if name in blob else bytes_for_blobs(each) for name, each in value.items()}
    return value


@cache
def sdk() -> Any:
    session = Session()
    session.set_credentials("AKIDEXAMPLE", "secret")
    client = session.create_client("bedrock-runtime", region_name="us-east-1")
    client.meta.events.register("before-send.bedrock-runtime", catch)
    return client


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case["name"])
def test_the_sdk_sends_the_same(case: dict[str, Any]) -> None:
    """What botocore's client puts on the wire for these parameters: the same path, the same JSON."""
    sent = codec("bedrock", case).request(ask_of(case, case["given"]))
    call = sdk().converse_stream if case["given"].get("stream") else sdk().converse
    with pytest.raises(Caught) as caught:
        call(modelId=case["given"]["model"], **bytes_for_blobs(sent.document))
    assert caught.value.request.url == "https://bedrock-runtime.us-east-1.amazonaws.com" + sent.path
    assert json.loads(caught.value.request.body) == sent.document


class Caught(Exception):
    """Stands where the network would be."""

    def __init__(self, request: Any) -> None:
        super().__init__()
        self.request = request


def catch(request: Any, **_: Any) -> None:
    raise Caught(request)


# ---- Models by their names


@pytest.mark.parametrize(
    ("name", "maker", "reasons"),
    [
        ("anthropic.claude-v2:1", Maker.ANTHROPIC, Reasons.NOT),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", Maker.ANTHROPIC, Reasons.NOT),
        ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", Maker.ANTHROPIC, Reasons.BUDGET),
        ("anthropic.claude-opus-4-20250514-v1:0", Maker.ANTHROPIC, Reasons.BUDGET),
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0", Maker.ANTHROPIC, Reasons.BUDGET),
        ("anthropic.claude-opus-4-6-v1", Maker.ANTHROPIC, Reasons.ADAPTIVE),
        ("claude-sonnet-5", Maker.ANTHROPIC, Reasons.ADAPTIVE),
        ("anthropic.claude-mythos-preview", Maker.ANTHROPIC, Reasons.ADAPTIVE),
        ("amazon.nova-premier-v1:0", Maker.NOVA, Reasons.NOT),
        ("global.amazon.nova-2-lite-v1:0", Maker.NOVA, Reasons.NOVA),
        ("openai.gpt-oss-20b-1:0", Maker.GPT_OSS, Reasons.GPT_OSS),
        ("deepseek.r1-v1:0", Maker.OTHER, Reasons.NOT),
    ],
)
def test_traits(name: str, maker: Maker, reasons: Reasons) -> None:
    assert traits_of(name)[:2] == (maker, reasons)


@pytest.mark.parametrize("effort", ["minimal", "low", "medium", "high", "xhigh", "max"])
def test_efforts_are_budgets(effort: str) -> None:
    document = {"messages": [{"role": "user", "content": "Why?"}], "reasoning_effort": effort}
    sent = CHAT.request(ask(document, model="anthropic.claude-sonnet-4-20250514-v1:0"))
    budgets = {"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16384}
    thinking = {"type": "enabled", "budget_tokens": budgets[effort]}
    assert sent.document["additionalModelRequestFields"] == {"thinking": thinking}
    assert sent.effort == effort


def test_thoughts_at_the_beginning_of_a_turn_are_enough() -> None:
    """Between its calls Claude need not think again: only a turn without any thought cannot go on thinking."""

    def call(id: str, **more: Any) -> dict[str, Any]:
        return {"role": "assistant", "tool_calls": [{"id": id, "function": {"name": "f", "arguments": "{}"}}], **more}

    thought = [{"type": "thinking", "thinking": "t", "signature": "s"}]
    opening = {"role": "user", "content": "Go"}
    first = [opening, call("1", thinking_blocks=thought), {"role": "tool", "tool_call_id": "1", "content": "x"}]
    second = [call("2"), {"role": "tool", "tool_call_id": "2", "content": "y"}]
    tools = [{"type": "function", "function": {"name": "f"}}]
    model = "anthropic.claude-sonnet-4-20250514-v1:0"
    going_on = {"messages": first + second, "tools": tools, "reasoning_effort": "low"}
    assert CHAT.request(ask(going_on, model=model)).effort == "low"
    thoughtless = {"messages": [opening, *second], "tools": tools, "reasoning_effort": "low"}
    assert CHAT.request(ask(thoughtless, model=model)).dropped == ("reasoning_effort",)


@pytest.mark.parametrize(
    ("effort", "temperature", "level"), [("max", None, "high"), ("high", 0.2, "medium"), ("low", 0.2, "low")]
)
def test_nova_s_high_effort_wants_its_sampling_alone(effort: str, temperature: float | None, level: str) -> None:
    document = {"messages": [{"role": "user", "content": "?"}], "reasoning_effort": effort, "temperature": temperature}
    sent = CHAT.request(ask(document, model="amazon.nova-2-lite-v1:0"))
    assert sent.document["additionalModelRequestFields"]["reasoningConfig"]["maxReasoningEffort"] == level
    assert sent.effort == level


def test_many_documents_of_one_name() -> None:
    name = "a" * 300 + ".pdf"
    file = {"type": "file", "file": {"filename": name, "file_data": "data:application/pdf;base64,JVBERi0="}}
    sent = CHAT.request(ask({"messages": [{"role": "user", "content": [file] * 500}]}))
    names = [block["document"]["name"] for block in sent.document["messages"][0]["content"]]
    assert len(set(names)) == 500
    assert max(map(len, names)) <= 200


# ---- Nonsense

VALUES = st.sampled_from(
    [
        None, True, False, 0, 1, -1, 2**70, 0.5, float("nan"), float("inf"), "", " ", "text", "auto", "none", "data:",
        "data:a;base64,!", [], {}, [None], [[]], [{}], {"type": "text"}, {"type": []}, {"a": {"b": []}},
        {"function": {"name": 1}}, {"type": "function"},
    ]
)  # fmt: skip
"""What a JSON document may hold where something else is expected."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for name, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(each, (*path, name))


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value in one place; the rest is shared."""
    if not path:
        return value
    copied = copy.copy(document)
    copied[path[0]] = replaced(document[path[0]], path[1:], value)
    return copied


@st.composite
def spoilt(draw: Any, documents: list[Any]) -> Any:
    """One of these documents with something else in one or two of its places."""
    document = draw(st.sampled_from(documents))
    for _ in range(draw(st.integers(1, 2))):
        document = replaced(document, draw(st.sampled_from(list(places(document)))), draw(VALUES))
    return document


MODELS = (
    "anthropic.claude-opus-4-6-v1", "anthropic.claude-sonnet-4-v1:0", "amazon.nova-2-lite-v1:0", "openai.gpt-oss-20b-1:0", "m",
)  # fmt: skip


def requested(document: Any, **fields: Any) -> Any:
    """What Bedrock is sent, or the refusal."""
    try:
        return CHAT.request(ask(document, **fields))
    except Refusal as refusal:
        return refusal


@settings(max_examples=400, deadline=None)
@given(spoilt([case["given"] for case in REQUESTS]))
def test_no_request_is_a_crash(document: Any) -> None:
    if not isinstance(document, dict):
        return
    before = repr(document)
    for model in MODELS:
        found = requested(document, model=model)
        if isinstance(found, Refusal):
            assert found.code in ("invalid_request", "capability_missing")
        else:
            assert found.document["messages"]
    assert repr(document) == before


def test_every_place_of_every_request_may_hold_anything() -> None:
    """Without luck: each place of each golden request, with each of some values."""
    values = [None, True, 1, "", "x", [], {}, [{}], {"type": []}, {"type": "text"}, [[]]]
    for case in REQUESTS:
        for path in places(case["given"]):
            for value in values if path else ():
                found = requested(replaced(case["given"], path, value), model=case["given"]["model"])
                assert not isinstance(found, Refusal) or found.code in ("invalid_request", "capability_missing")


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_no_model_name_leaves_its_place_in_the_path(model: str) -> None:
    found = requested({"messages": [{"role": "user", "content": "Hi"}]}, model=model, stream=False)
    assert found.param == "model" if isinstance(found, Refusal) else found.path.split("/")[3:] == ["converse"]


def test_every_place_of_every_reply_may_hold_anything() -> None:
    finishes = set()
    for case in REPLIES:
        for path in places(case["given"]):
            for value in (None, True, 1, "x", [], {}, [{}], [None]) if path else ():
                try:
                    reply = CHAT.reply(replaced(case["given"], path, value), ask())
                except Garbled:
                    continue
                finishes.add(reply["choices"][0]["finish_reason"])
    assert finishes == {"stop", "length", "tool_calls", "content_filter"}


def test_every_place_of_every_stream_may_hold_anything() -> None:
    kinds = set()
    for case in STREAMS:
        for index, event in enumerate(case["given"]):
            for path in places(event["payload"]):
                for value in (None, True, -1, "x", [], {}, [None]):
                    stream = CHAT.stream(ask())
                    for each in (*case["given"][:index], event | {"payload": replaced(event["payload"], path, value)}):
                        whole = framed(each)
                        step = stream.read(whole)
                        kinds.add(step.kind)
                        assert step.kind not in (Kind.ERROR, Kind.GARBAGE) or step.chunks == ()
                        assert stream.fault_of(whole).kind is FaultKind.ERROR_EVENT
    assert kinds == set(Kind)


@settings(max_examples=300, deadline=None)
@given(st.binary(), st.binary())
def test_no_bytes_are_a_crash(head: bytes, payload: bytes) -> None:
    splitter, stream = FrameSplitter(), CHAT.stream(ask())
    for event in (*splitter.feed(head), *splitter.feed(payload), frame(head, payload), head):
        stream.read(event)
        stream.fault_of(event)
    assert CHAT.failed(500, payload).code == "server_error"
