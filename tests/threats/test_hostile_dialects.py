"""What another dialect opens: hostile replies through every codec, names in paths and headers, keys, rules by the path's model.

Each hostile reply goes through the real gateway to a client of each dialect: it gets an error in its own words or a visible
cut, never a made-up success; the fixtures see to it that no traceback stands in the log.
"""

import json
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from attacked import CHAT, JSON, call, everything, recorded

from mitmgate.dialects.codec import Ask, Asked
from mitmgate.dialects.reading import Kind
from mitmgate.dialects.registry import codecs
from mitmgate.dialects.translation import TranslatingReader
from mitmgate.errors import Refusal
from mitmgate.rehearsal import rehearse_now, rules_alone
from rig import behaviours as does
from rig import foreign
from rig.behaviours import EVENTS, body, chunks
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream
from rig.wire import Answer

FRAMES: does.Headers = (("content-type", "application/vnd.amazon.eventstream"),)
BASES = {"openai": "/v1", "anthropic": "", "gemini": "/v1beta", "bedrock": "", "cohere": ""}
MEDIA = {name: FRAMES if name == "bedrock" else EVENTS for name in BASES}
KEY = "client-key-that-must-not-travel"
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", CHAT),
    "responses": ("/v1/responses", {"model": "m", "input": "hello"}),
    "anthropic": ("/v1/messages", {"model": "m", "max_tokens": 9, "messages": CHAT["messages"]}),
    "gemini": ("/v1beta/models/m:generateContent", {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}),
}


def frame(kind: str, document: Any, message: str = "event") -> bytes:
    """A frame of AWS's event streams."""
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for name, value in ((":message-type", message), (f":{message}-type", kind))
    )
    payload = json.dumps(document).encode()
    lengths = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    before = lengths + struct.pack("!I", crc32(lengths)) + head + payload
    return before + struct.pack("!I", crc32(before))


def event(document: Any) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def chunk(delta: Any, finish: str | None = None, **more: Any) -> bytes:
    return event({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more})


def candidate(*parts: Any, **more: Any) -> bytes:
    return event({"candidates": [{"content": {"parts": parts}, **more}]})


MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "c", "content": [], "usage": {}}
START: dict[str, bytes] = {
    "openai": chunk({"role": "assistant", "content": ""}) + chunk({"content": "one"}),
    "anthropic": event({"type": "message_start", "message": MESSAGE})
    + event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    + event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "one"}}),
    "gemini": candidate({"text": "one"}),
    "bedrock": frame("messageStart", {"role": "assistant"})
    + frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "one"}}),
    "cohere": event({"type": "message-start", "id": "c", "delta": {"message": {"role": "assistant"}}})
    + event({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "one"}}}}),
}
"""A stream's beginning with its first content, in each dialect."""
ENDS: dict[str, bytes] = {
    "openai": chunk({}, "stop") + b"data: [DONE]\n\n",
    "anthropic": event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}})
    + event({"type": "message_stop"}),
    "gemini": candidate({"text": "two"}, finishReason="STOP"),
    "bedrock": frame("messageStop", {"stopReason": "end_turn"}) + frame("metadata", {"usage": {}}),
    "cohere": event({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}),
}
ERRORS: dict[str, bytes] = {
    "openai": event({"error": {"message": "boom", "code": "server_error"}}),
    "anthropic": event({"type": "error", "error": {"type": "overloaded_error", "message": "boom"}}),
    "gemini": event({"error": {"code": 503, "message": "boom", "status": "UNAVAILABLE"}}),
    "bedrock": frame("throttlingException", {"message": "boom"}, "exception"),
    "cohere": event({"type": "message-end", "delta": {"finish_reason": "ERROR"}}),
}
PAIRS = [(client, provider) for client in ASKED for provider in BASES]


@pytest.fixture(scope="module")
def upstreams(shared_upstream: StartUpstream) -> dict[str, Upstream]:
    return {name: shared_upstream(does.ok()) for name in (*BASES, "azure")}


@pytest.fixture(scope="module")
def gate(shared_gateway: StartGateway, upstreams: dict[str, Upstream]) -> Gateway:
    """The header `x-to` names the provider."""
    providers: dict[str, Any] = {
        name: {"dialect": name, "base_url": f"{upstreams[name].origin}{BASES.get(name, '')}", "zone": "internal",
               "credential": {"value": f"secret-of-{name}"}}
        for name in upstreams
    }  # fmt: skip
    providers["azure"]["api_version"] = "2024-10-21"
    timeout = {"connect": "2s", "first_token": "2s", "idle": "2s", "total": "8s"}
    routes = [{"name": name, "match": {"header": {"x-to": name}}, "targets": [{"provider": name}], "retry": {"max": 0},
               "timeout": timeout} for name in upstreams]  # fmt: skip
    return shared_gateway({"providers": providers, "routes": routes})


async def ask(gate: Gateway, client: str, provider: str, *, streamed: bool, **more: Any) -> Answer:
    """One call in this client's dialect, to this provider."""
    target, document = ASKED[client]
    if client == "gemini":
        target = target.replace(":g", ":streamG") + "?alt=sse" if streamed else target
    else:
        document = {**document, "stream": streamed}
    content = json.dumps({**document, **more}).encode()
    return await call(gate, target, headers=(JSON, ("x-to", provider)), body=content)


def error_in(client: str, document: Any) -> str:
    """The message of an error in this client's dialect."""
    assert isinstance(document, dict), document
    if client == "anthropic":
        assert document["type"] == "error", document
        assert document["error"]["type"].endswith("_error"), document
    error = document["error"]
    if client == "gemini":
        assert isinstance(error["code"], int), document
        assert error["status"].isupper(), document
    assert isinstance(error["message"], str), document
    return str(error["message"])


def failed(client: str, answer: Answer, status: int = 502) -> str:
    """The answer is an error with this status, in the client's dialect."""
    assert (answer.status, answer.whole) == (status, True), answer
    assert answer.header("content-type") == "application/json", answer
    return error_in(client, json.loads(answer.body))


def documents(answer: Answer) -> list[Any]:
    lines = [line[6:].strip() for line in answer.body.splitlines() if line.startswith(b"data: ")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


def broken(client: str, answer: Answer) -> None:
    """A stream that ends in an error event of the client's dialect, and not as a whole one would."""
    assert (answer.status, answer.whole) == (200, True), answer
    last = documents(answer)[-1]
    error_in("responses" if client == "responses" else client, last)
    for end in (b"[DONE]", b"message_stop", b"response.completed", b'"STOP"'):
        assert end not in answer.body, answer.body[-600:]


NESTED = b'{"a":' * 900 + b"1" + b"}" * 900
WHOLES: dict[str, Sequence[bytes]] = {
    "openai": [b'{"choices":[{"message":5}]}', b'{"choices":[]}', b'{"choices":5}'],
    "anthropic": [
        b'{"content":{"type":"text"},"stop_reason":"end_turn"}', b'{"content":[5],"stop_reason":"end_turn"}',
        b'{"content":[{"type":"text","text":5}],"stop_reason":"end_turn"}', b'{"content":[]}',
        b'{"content":[{"type":"tool_use","id":"a","name":"f","input":5}],"stop_reason":"tool_use"}',
    ],
    "gemini": [
        b'{"candidates":5}', b'{"candidates":[5]}', b'{"candidates":[{"content":{"parts":[5]},"finishReason":"STOP"}]}',
        b'{"candidates":[{"content":{"parts":[{"text":5}]},"finishReason":"STOP"}]}',
        b'{"candidates":[{"content":{"parts":[{"text":"half"}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":%s}}]},"finishReason":"STOP"}]}' % NESTED,
    ],
    "bedrock": [
        b'{"output":5,"stopReason":"end_turn"}', b'{"output":{"message":{"content":[5]}},"stopReason":"end_turn"}',
        b'{"output":{"message":{"content":[{"text":"x"}]}}}',
    ],
    "cohere": [
        b'{"message":5,"finish_reason":"COMPLETE"}', b'{"message":{"content":[{"type":"text","text":"x"}]}}',
        b'{"message":{"content":[{"type":"text","text":"x"}]},"finish_reason":"ERROR"}',
    ],
}  # fmt: skip
NO_ANSWERS = [b"", b"{}", b"[]", b"null", b"NaN", b'{"choices":NaN}', b"[" * 100_000, b'"\xff"', b'{"id":"x"}', b"<html>"]


FOREIGN = [(client, provider) for client, provider in PAIRS if client not in ("openai", "responses") or provider != "openai"]
"""All pairs but those in which nothing is translated and OpenAI is spoken: they have tests of their own."""


@pytest.mark.parametrize(("client", "provider"), FOREIGN)
async def test_a_reply_that_is_none(gate: Gateway, upstreams: dict[str, Upstream], client: str, provider: str) -> None:
    for content in (*NO_ANSWERS, *WHOLES[provider]):
        upstreams[provider].script(body(content))
        answer = await ask(gate, client, provider, streamed=False)
        assert failed(client, answer), content


@pytest.mark.parametrize(("client", "provider"), FOREIGN)
async def test_another_kind_of_reply_than_was_asked_for(
    gate: Gateway, upstreams: dict[str, Upstream], client: str, provider: str
) -> None:
    """An event stream for a client that asked for none; and for one that asked for it, pages and frames of something else."""
    upstream, whole = upstreams[provider], START[provider] + ENDS[provider]
    if client != provider:
        upstream.script(chunks(whole, headers=MEDIA[provider]))
        assert failed(client, await ask(gate, client, provider, streamed=False))
    other = EVENTS if provider == "bedrock" else FRAMES
    for headers in (other, (("content-type", "text/html"),), (("content-type", "application/octet-stream"),)):
        upstream.script(chunks(whole, headers=headers))
        answer = await ask(gate, client, provider, streamed=True)
        if client != provider:
            assert failed(client, answer), headers
        else:
            assert headers[0][1] in (answer.header("content-type") or "", "") or answer.status == 502


@pytest.mark.parametrize(("client", "provider"), FOREIGN)
async def test_a_stream_that_goes_wrong_after_its_first_content(
    gate: Gateway, upstreams: dict[str, Upstream], client: str, provider: str
) -> None:
    """It ends early, an error comes late, what comes is no event, or what it holds is of another type."""
    junk = b"\x00" * 40 if provider == "bedrock" else b"data: {\n\n"
    for rest in (b"", ERRORS[provider], junk, *BROKEN[provider]):
        upstreams[provider].script(chunks(START[provider] + rest, headers=MEDIA[provider]))
        answer = await ask(gate, client, provider, streamed=True)
        broken(client, answer)
        assert b"one" in answer.body
        assert recorded(gate, answer)["broken"], rest


@pytest.mark.parametrize(("client", "provider"), FOREIGN)
async def test_a_stream_that_goes_wrong_before_its_first_content(
    gate: Gateway, upstreams: dict[str, Upstream], client: str, provider: str
) -> None:
    junk = b"\x00" * 40 if provider == "bedrock" else b"data: {\n\n"
    for content in (b"", junk, b"<html>\n\n" * (provider != "bedrock"), START[provider][:40]):
        upstreams[provider].script(chunks(content, headers=MEDIA[provider]))
        assert failed(client, await ask(gate, client, provider, streamed=True)), content
    upstreams[provider].script(chunks(ERRORS[provider], headers=MEDIA[provider]))
    answer = await ask(gate, client, provider, streamed=True)
    assert answer.status >= 400
    assert error_in(client, json.loads(answer.body))


BROKEN: dict[str, Sequence[bytes]] = {
    "openai": [chunk([]), event({"choices": [5]}), event({"choices": [{"index": "x"}]})][1:],
    "anthropic": [
        event({"type": "content_block_delta", "index": 7, "delta": {"type": "text_delta", "text": "x"}}),
        event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 5}}),
        event({"type": "message_stop"}), event(5), event({"type": "message_start", "message": MESSAGE}),
    ],
    "gemini": [candidate(5), event({"candidates": 5}), candidate({"text": 5}), candidate(finishReason="MALFORMED_RESPONSE")],
    "bedrock": [
        START["bedrock"][:-1] + b"\xff", struct.pack("!III", 0xFFFFFFF0, 16, 0) + b"x" * 64,
        frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": 5}}), frame("messageStop", {"stopReason": 5}),
        frame("contentBlockDelta", 5), START["bedrock"][:50],
    ],
    "cohere": [
        event({"type": "content-delta", "delta": {"message": {"content": {"text": 5}}}}), event(5),
        event({"type": "message-end", "delta": {"finish_reason": 5}}),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("client", "provider"), PAIRS)
async def test_no_key_of_the_client_reaches_a_provider(
    gate: Gateway, upstreams: dict[str, Upstream], client: str, provider: str
) -> None:
    """In whichever place it stands, those of other dialects and of the query included."""
    upstream = upstreams[provider]
    upstream.script(does.status(400))
    target, document = ASKED[client]
    names = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "xi-api-key", "cookie", "x-amz-security-token")
    headers = (JSON, ("x-to", provider), *((name, KEY) for name in names))
    target += f"?key={KEY}&api-key={KEY}&access_token={KEY}&%6bey={KEY}&KEY={KEY}"
    await call(gate, target, headers=headers, body=json.dumps(document).encode())
    (request,) = upstream.requests
    assert KEY.encode() not in everything(request)
    assert f"secret-of-{provider}" in everything(request).decode()


NAMES = ["..", ".", "a/../b", "a/./b", "../../v1/files", "//evil/x", "a/", "a\\..\\b"]


@pytest.mark.parametrize("provider", ["gemini", "bedrock", "azure"])
@pytest.mark.parametrize("model", [*NAMES, "models/..", "models/x/../../y", "tunedModels/"])
async def test_a_model_that_would_leave_its_place_in_the_path(
    gate: Gateway, upstreams: dict[str, Upstream], provider: str, model: str
) -> None:
    upstreams[provider].script(does.ok())
    content = json.dumps({**CHAT, "model": model}).encode()
    answer = await call(gate, headers=(JSON, ("x-to", provider)), body=content)
    assert (answer.status, json.loads(answer.body)["error"]["param"]) == (400, "model"), answer
    assert upstreams[provider].untouched


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("a?alt=json&key=1#x", "a%3Falt%3Djson%26key%3D1%23x"), ("%2e%2e", "%252e%252e"), ("a%0d%0ab", "a%250d%250ab"),
        ("a:b", "a%3Ab"), ("models/a:countTokens", "a%3AcountTokens"), ("a;b c", "a%3Bb%20c"),
    ],
)  # fmt: skip
async def test_a_model_is_one_segment_of_the_path(
    gate: Gateway, upstreams: dict[str, Upstream], model: str, path: str
) -> None:
    upstreams["gemini"].script(foreign.gemini())
    answer = await call(gate, headers=(JSON, ("x-to", "gemini")), body=json.dumps({**CHAT, "model": model}).encode())
    assert answer.status == 200, answer
    assert [request.path for request in upstreams["gemini"].requests] == [f"/v1beta/models/{path}:generateContent"]


async def test_names_that_cannot_be_told_do_not_become_headers(gate: Gateway, upstreams: dict[str, Upstream]) -> None:
    upstreams["anthropic"].script(foreign.anthropic())
    odd = {"a\r\nset-cookie: x=1": 1, "\u2028\u00e9": 1, "x" * 5000: 1}
    answer = await ask(gate, "openai", "anthropic", streamed=False, **odd)
    assert answer.status == 200, answer
    assert answer.header("set-cookie") is None
    assert (answer.header("x-gateway-dropped") or "").startswith("a??set-cookie: x=1, ??, xxx")
    assert all(len(value) <= 256 and value.isascii() for _, value in answer.headers)


@pytest.mark.parametrize("query", ["alt=sse&alt=json", "alt=json&alt=sse", "xalt=sse", "alt=sse;key=x", "alt=proto"])
async def test_a_gemini_stream_in_two_forms(gate: Gateway, upstreams: dict[str, Upstream], query: str) -> None:
    """Asked for in a form that two parsers read in two ways: the provider is asked in one way, and nothing else goes on."""
    upstreams["gemini"].script(foreign.gemini())
    target = ASKED["gemini"][0].replace(":g", ":streamG")
    answer = await call(
        gate, f"{target}?{query}", headers=(JSON, ("x-to", "gemini")), body=json.dumps(ASKED["gemini"][1]).encode()
    )
    assert answer.status == 200, answer
    assert [request.path for request in upstreams["gemini"].requests] == [f"{target}?alt=sse"]
    if answer.header("content-type") == "application/json":
        assert len(json.loads(answer.body)) >= 2
    else:
        assert len(documents(answer)) >= 2


@pytest.mark.parametrize("client", ["anthropic", "gemini"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_counts_that_are_none(
    gate: Gateway, upstreams: dict[str, Upstream], client: str, streamed: bool
) -> None:
    """What a provider says of its usage gets into records and sums: whatever it is, the call is answered and recorded."""
    for count in ("7", {}, [], -1, 2**64 - 1, 1e300, True):
        usage = {"prompt_tokens": count, "completion_tokens": count, "prompt_tokens_details": {"cached_tokens": count}}
        whole = {**does.completion("hello"), "usage": usage}
        events = START["openai"] + chunk({}, "stop") + event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n"
        upstreams["openai"].script(chunks(events) if streamed else does.answer(whole))
        answer = await ask(gate, client, "openai", streamed=streamed)
        assert (answer.status, answer.whole) == (200, True), answer
        assert recorded(gate, answer)["tokens_input"] in (None, 0)


@pytest.mark.parametrize("more", [{"temperature": 10**30}, {"max_output_tokens": 10**30}, {"top_logprobs": 10**30}])
async def test_numbers_of_the_client_that_are_told_back(
    gate: Gateway, upstreams: dict[str, Upstream], more: dict[str, Any]
) -> None:
    """A response holds what was asked, in its stream too: the provider is not to blame for it."""
    for streamed in (False, True):
        upstreams["anthropic"].script(foreign.anthropic())
        answer = await ask(gate, "responses", "anthropic", streamed=streamed, **more)
        assert answer.status == 200, answer
        assert str(10**30).encode() in answer.body


async def test_a_budget_beyond_all_numbers(gate: Gateway, upstreams: dict[str, Upstream]) -> None:
    upstreams["openai"].script(foreign.openai())
    config = {"thinkingConfig": {"thinkingBudget": 10**30}}
    answer = await ask(gate, "gemini", "openai", streamed=False, generationConfig=config)
    assert answer.status == 200, answer
    assert upstreams["openai"].requests[0].json()["reasoning_effort"] == "high"


@pytest.mark.parametrize(
    "more",
    [
        {"systemInstruction": {"parts": [{"text": "clean"}]}, "system_instruction": {"parts": [{"text": "evil"}]}},
        {"generationConfig": {"candidateCount": 1, "candidate_count": 8}},
        {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "QQ=="}, "inline_data": {}}]}]},
    ],
)
async def test_a_member_under_both_of_its_names(
    gate: Gateway, upstreams: dict[str, Upstream], more: dict[str, Any]
) -> None:
    """Protocol buffers' JSON knows two names for each member; which of them counts differs between readers."""
    upstreams["openai"].script(foreign.openai())
    answer = await ask(gate, "gemini", "openai", streamed=False, **more)
    failed("gemini", answer, 400)
    assert upstreams["openai"].untouched


# Without the gateway: how long one event may take of the loop's time.

MILLION = "x" * 1_000_000


def fragments(*calls: dict[str, Any]) -> bytes:
    return chunk({"tool_calls": list(calls)})


def called(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    return {"index": index, **more, "function": {"arguments": arguments, **({"name": "f"} if more else {})}}


CROWDS: dict[str, Callable[[], Iterator[bytes]]] = {
    "calls in one event": lambda: iter([fragments(*(called(at, "{}", id=f"c{at}") for at in range(100_000)))]),
    "calls in many": lambda: (fragments(called(at, "{}", id=f"c{at}")) for at in range(10_000)),
    "fragments of a call that waits": lambda: iter(
        [fragments(called(0, '{"a":"' + MILLION, id="a"), called(0, "}")),
         fragments(called(1, "{", id="b"), *[called(1, " ")] * 1_500)]
    ),
    "ends of a call that has none": lambda: iter(
        [fragments(called(0, '{"a":"' + MILLION, id="a"), called(1, "{", id="b")), fragments(*[called(0, "}")] * 1_500)]
    ),
    "choices": lambda: (
        event({"choices": [{"index": at + 1_000 * of, "delta": {}, "finish_reason": "stop"} for at in range(1_000)]})
        for of in range(20)
    ),
    "values": lambda: iter([event({"choices": [{"index": 0, "delta": {"content": "x", "y": [{}] * 500_000}}]})]),
    "numbers": lambda: iter([event({"choices": [{"index": 0, "delta": {"content": "x", "y": [0] * 1_000_000}}]})]),
}  # fmt: skip


@pytest.mark.parametrize("crowd", CROWDS.values(), ids=CROWDS)
@pytest.mark.parametrize(("client", "operation"), [("openai", "responses"), ("anthropic", "messages"), ("gemini", "chat")])
def test_no_event_holds_the_loop(client: str, operation: str, crowd: Callable[[], Iterator[bytes]]) -> None:
    """Each is done with in well under 200 ms, whatever came before it: nothing is read again and again."""
    found = codecs(client, operation, "openai")
    assert found is not None
    asked = Asked(document=ASKED["responses"][1], model="m", stream=True, id="1", created=1, query={"alt": "sse"})
    reader = TranslatingReader(found.provider, found.client, Ask(document={}, model="m", stream=True, id="1", created=1), asked)
    longest = 0.0
    for each in crowd():
        begun = time.process_time()
        kind = reader.event(each)
        reader.written(each)
        longest = max(longest, time.process_time() - begun)
        if kind is Kind.GARBAGE:
            break
    begun = time.process_time()
    reader.ending()
    assert max(longest, time.process_time() - begun) < 0.2


# Rules: what the path names is what is judged.

RULES = """\
version: 1
intercept: [generativelanguage.googleapis.com, aiplatform.googleapis.com]
policies: [{name: cheap, allow: {models: [gemini-2.5-flash*]}}]
"""
VERTEX = "https://aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google/models"
STUDIO = "https://generativelanguage.googleapis.com/v1beta"


@pytest.mark.parametrize(
    "url",
    [
        f"{STUDIO}/models/gemini-3-pro:generateContent", f"{STUDIO}/models/gemini-3-pro%3AgenerateContent",
        f"{STUDIO}/models/gemini-3-pro:streamGenerateContent?alt=sse&alt=sse", f"{STUDIO}/models/gemini-3-pro:generateAnswer",
        f"{STUDIO}/tunedModels/gemini-3-pro:generateContent", f"{STUDIO}/models/gemini-3-pro:generateContent/",
        f"{STUDIO}/models/GEMINI-2.5-FLASH/../gemini-3-pro:generateContent", f"{STUDIO}/models/gemini-3-pro:GenerateContent",
        f"{STUDIO}/Models/gemini-3-pro:generateContent", f"{STUDIO}/models%2Fgemini-3-pro:generateContent",
        f"{VERTEX}/gemini-3-pro:generateContent", f"{VERTEX}/gemini-3-pro:rawPredict", f"{VERTEX}/gemini-3-pro:predict",
    ],
)  # fmt: skip
def test_the_model_of_the_path_is_judged_whatever_the_body_names(tmp_path: Path, url: str) -> None:
    (tmp_path / "rules.yaml").write_text(RULES, encoding="utf-8")
    body = {**ASKED["gemini"][1], "model": "gemini-2.5-flash"}
    found = rehearse_now({"url": url, "body": body}, rules_alone(tmp_path, {}))
    assert isinstance(found.refusal, Refusal)
    assert found.refusal.code in ("model_not_allowed", "invalid_request")
