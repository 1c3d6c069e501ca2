"""What the dialects owe their clients beside answers: refusals, headers, failover, visible cuts, bytes as they came."""

import json
import struct
from collections.abc import Iterator
from typing import Any
from zlib import crc32

import anthropic
import httpx
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types

from rig import behaviours as does
from rig import clients, foreign
from rig.behaviours import Behaviour, Reply
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream

PROVIDERS = {"openai": "/v1", "anthropic": "", "gemini": "/v1beta", "bedrock": ""}
ACCESS, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
HI = {"role": "user", "content": "hi"}
IMAGE = "data:image/png;base64,iVBORw0KGgo="


def _header(name: str, value: str) -> bytes:
    return struct.pack("!B", len(name)) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()


def frame(kind: str, payload: dict[str, Any], *, exception: bool = False) -> bytes:
    """A message of the Amazon event stream, as its specification has it."""
    what = "exception" if exception else "event"
    headers = _header(f":{what}-type", kind) + _header(":content-type", "application/json") + _header(":message-type", what)
    content = json.dumps(payload).encode()
    lengths = struct.pack("!II", 16 + len(headers) + len(content), len(headers))
    body = lengths + struct.pack("!I", crc32(lengths)) + headers + content
    return body + struct.pack("!I", crc32(body))


FRAMES = [
    frame("messageStart", {"role": "assistant"}),
    frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": foreign.TEXT[:5]}, "p": "abc"}),
    frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": foreign.TEXT[5:]}}),
    frame("contentBlockStop", {"contentBlockIndex": 0}),
    frame("messageStop", {"stopReason": "end_turn"}),
    frame("metadata", {"usage": {"inputTokens": 11, "outputTokens": 7, "totalTokens": 18}, "metrics": {"latencyMs": 9}}),
]
BINARY = (("content-type", "application/vnd.amazon.eventstream"),)


def bedrock(*pieces: bytes) -> Behaviour:
    """ConverseStream's reply, in these pieces of its bytes."""
    return does.chunks(*pieces, headers=BINARY)


def failing(provider: str) -> Behaviour:
    """200, and in the stream's beginning the provider's own error event."""
    events = {
        "openai": does.ERROR_EVENT,
        "anthropic": b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "secret"}}\n\n',
        "gemini": b'data: {"error": {"code": 503, "message": "secret", "status": "UNAVAILABLE"}}\r\n\r\n',
    }
    if provider == "bedrock":
        return bedrock(FRAMES[0], frame("serviceUnavailableException", {"message": "secret"}, exception=True))
    return does.chunks(events[provider])


def answering(provider: str) -> Behaviour:
    return bedrock(*FRAMES) if provider == "bedrock" else getattr(foreign, provider)()


@pytest.fixture(scope="module")
def upstreams(shared_upstream: StartUpstream) -> dict[str, Upstream]:
    return {name: shared_upstream(answering(name)) for name in PROVIDERS}


@pytest.fixture(scope="module")
def gate(shared_gateway: StartGateway, upstreams: dict[str, Upstream]) -> Gateway:
    """A model for each provider, and one for each that falls back to OpenAI's dialect or, from that, to Anthropic's."""
    providers: dict[str, Any] = {
        f"of-{name}": {"dialect": name, "base_url": f"http://127.0.0.1:{upstreams[name].port}{base}", "zone": "internal",
                       "credential": {"value": f"secret-of-{name}"}}
        for name, base in PROVIDERS.items()
    }  # fmt: skip
    providers["of-bedrock"] |= {"credential": {"value": f"{ACCESS}:{SECRET}"}, "region": "eu-west-1"}
    retry = {"retry": {"max": 0}}
    models: dict[str, Any] = {
        name: {"targets": [{"provider": f"of-{name}", "model": f"{name}-model"}], **retry} for name in PROVIDERS
    }
    for name in PROVIDERS:
        then = "anthropic" if name == "openai" else "openai"
        targets = [{"provider": f"of-{each}", "model": f"{each}-model"} for each in (name, then)]
        models[f"{name}-first"] = {"targets": targets, **retry}
    models["thinker"] = {"targets": [{"provider": "of-anthropic", "model": "claude-sonnet-4-5"}], **retry}
    models["blind"] = {"targets": [{"provider": "of-openai", "model": "gpt-3.5-turbo"}], "capabilities": ["tools"], **retry}
    rules = {"providers": providers, "models": models}
    return shared_gateway(rules)


@pytest.fixture
def wire(gate: Gateway) -> Iterator[httpx.Client]:
    """For what the packages hide."""
    with httpx.Client(base_url=gate.origin, trust_env=False, timeout=15) as client:
        yield client


@pytest.fixture
def package(gate: Gateway) -> Iterator[openai.OpenAI]:
    with clients.direct(gate) as client:
        yield client


@pytest.fixture
def claude(gate: Gateway) -> Iterator[anthropic.Anthropic]:
    connect = anthropic.DefaultHttpxClient(trust_env=False)
    with anthropic.Anthropic(base_url=gate.origin, api_key=clients.CLIENT_KEY, max_retries=0, http_client=connect) as client:
        yield client


@pytest.fixture
def google(gate: Gateway) -> Iterator[genai.Client]:
    with httpx.Client(trust_env=False, timeout=15) as connect:
        made = genai.Client(
            api_key=clients.CLIENT_KEY, http_options=genai_types.HttpOptions(base_url=gate.origin, httpx_client=connect)
        )
        yield made
        made.close()


# What the gateway refuses

def test_a_missing_capability_is_told_in_every_clients_words(
    package: openai.OpenAI, claude: anthropic.Anthropic, google: genai.Client, upstreams: dict[str, Upstream]
) -> None:
    upstreams["openai"].script(answering("openai"))
    seen: list[Any] = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": IMAGE}}]}]
    with pytest.raises(openai.BadRequestError) as of_openai:
        package.chat.completions.create(model="blind", messages=seen)
    assert (of_openai.value.code, of_openai.value.type) == ("capability_missing", "invalid_request_error")
    source: Any = {"type": "base64", "media_type": "image/png", "data": IMAGE.partition(",")[2]}
    with pytest.raises(anthropic.BadRequestError) as of_anthropic:
        claude.messages.create(
            model="blind", max_tokens=5, messages=[{"role": "user", "content": [{"type": "image", "source": source}]}]
        )
    told: Any = of_anthropic.value.body
    assert (told["type"], told["error"]["type"]) == ("error", "invalid_request_error")
    with pytest.raises(genai_errors.ClientError) as of_google:
        google.models.generate_content(
            model="blind", contents=[genai_types.Part.from_bytes(data=b"\x89PNG\r\n\x1a\n", mime_type="image/png")]
        )
    assert (of_google.value.code, of_google.value.status) == (400, "INVALID_ARGUMENT")
    for each in (of_openai.value, of_anthropic.value, of_google.value):
        assert "of-openai/gpt-3.5-turbo has no vision" in str(each)
    assert upstreams["openai"].untouched


def test_what_was_dropped_and_which_effort_was_applied(wire: httpx.Client, upstreams: dict[str, Upstream]) -> None:
    upstreams["anthropic"].script(answering("anthropic"))
    asked = {"model": "thinker", "messages": [HI], "reasoning_effort": "low", "seed": 1, "logit_bias": {"5": 1}}
    for more in ({}, {"stream": True}):
        reply = wire.post("/v1/chat/completions", json={**asked, **more})
        assert reply.status_code == 200, reply.text
        assert reply.headers["x-gateway-dropped"] == "seed, logit_bias"
        assert reply.headers["x-gateway-reasoning-effort"] == "low"
        assert upstreams["anthropic"].requests[-1].json()["thinking"]["type"] == "enabled"
    plain = wire.post("/v1/chat/completions", json={"model": "thinker", "messages": [HI]})
    assert plain.headers["x-gateway-reasoning-effort"] == "none"
    assert "x-gateway-dropped" not in plain.headers


BUSY = {
    "openai": {"error": {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}},
    "anthropic": {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}, "request_id": "req_x"},
    "gemini": {"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}},
    "bedrock": {"message": "slow down"},
}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_providers_limit_is_told_in_every_clients_words(
    package: openai.OpenAI, claude: anthropic.Anthropic, google: genai.Client, upstreams: dict[str, Upstream],
    provider: str, stream: bool,
) -> None:  # fmt: skip
    """With its status, its wait and the provider's id of the request."""
    headers = (("retry-after", "7"), ("request-id", "up_1"), ("x-amzn-errortype", "ThrottlingException"))
    upstreams[provider].script(does.answer(BUSY[provider], 429, headers))
    messages: Any = [HI]
    with pytest.raises(openai.RateLimitError) as of_openai:
        package.chat.completions.create(model=provider, messages=messages, stream=stream)
    with pytest.raises(anthropic.RateLimitError) as of_anthropic:
        claude.messages.create(model=provider, max_tokens=9, messages=messages, stream=stream)
    told: Any = of_anthropic.value.body
    assert told["error"]["type"] == "rate_limit_error"
    ask = google.models.generate_content_stream if stream else google.models.generate_content
    with pytest.raises(genai_errors.ClientError) as of_google:
        list(ask(model=provider, contents="hi"))
    assert (of_google.value.code, of_google.value.status) == (429, "RESOURCE_EXHAUSTED")
    for each in (of_openai.value, of_anthropic.value):
        assert each.response.headers["retry-after"] == "7"
        assert each.response.headers["x-gateway-upstream-request-id"] == "up_1"
    for said in (of_openai.value, of_anthropic.value, of_google.value):
        assert "slow down" in str(said)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_a_provider_says_of_our_credential_stays_here(
    package: openai.OpenAI, claude: anthropic.Anthropic, upstreams: dict[str, Upstream], provider: str
) -> None:
    upstreams[provider].script(does.answer({"error": {"message": f"bad key secret-of-{provider}"}}, 401))
    messages: Any = [HI]
    with pytest.raises(openai.AuthenticationError) as of_openai:
        package.chat.completions.create(model=provider, messages=messages)
    with pytest.raises(anthropic.AuthenticationError) as of_anthropic:
        claude.messages.create(model=provider, max_tokens=9, messages=messages)
    for each in (of_openai.value, of_anthropic.value):
        assert "The provider refused the gateway's credential." in str(each)
        assert "secret-of" not in str(each) + each.response.text


# Failover at the stream's beginning

@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_error_event_in_the_beginning_is_anothers_turn(
    package: openai.OpenAI, claude: anthropic.Anthropic, upstreams: dict[str, Upstream], provider: str
) -> None:
    then = "anthropic" if provider == "openai" else "openai"
    for _ in range(2):
        upstreams[provider].script(failing(provider))
        upstreams[then].script(answering(then))
    with package.chat.completions.stream(model=f"{provider}-first", messages=[{"role": "user", "content": "hi"}]) as stream:
        assert stream.get_final_completion().choices[0].message.content == foreign.TEXT
    with claude.messages.stream(
        model=f"{provider}-first", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
    ) as events:
        assert events.get_final_text() == foreign.TEXT
    assert len(upstreams[provider].requests) == len(upstreams[then].requests) == 2


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_error_event_of_the_only_target_is_no_answer(
    wire: httpx.Client, upstreams: dict[str, Upstream], provider: str
) -> None:
    upstreams[provider].script(failing(provider))
    reply = wire.post("/v1/chat/completions", json={"model": provider, "messages": [HI], "stream": True})
    assert reply.status_code >= 400, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert "error" in reply.json()


# Cuts

CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
OPENED = {"openai": 3, "anthropic": 4, "gemini": 1}
ASKING = {
    "chat": ("/v1/chat/completions", {"messages": [HI], "stream": True}, {}),
    "responses": ("/v1/responses", {"input": "hi", "stream": True}, {}),
    "messages": ("/v1/messages", {"messages": [HI], "max_tokens": 9, "stream": True}, {"anthropic-version": "2023-06-01"}),
    "gemini": ("/v1beta/models/{}:streamGenerateContent?alt=sse", CONTENTS, {}),
    "gemini array": ("/v1beta/models/{}:streamGenerateContent", CONTENTS, {}),
}
TERMINATORS = (b"[DONE]", b"message_stop", b"response.completed", b'"finishReason"')


@pytest.mark.parametrize("asking", ASKING)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_cut_never_looks_like_an_end(
    wire: httpx.Client, upstreams: dict[str, Upstream], provider: str, asking: str
) -> None:
    cut = bedrock(*FRAMES[:2]) if provider == "bedrock" else getattr(foreign, provider)(cut=OPENED[provider])
    if asking == "responses" and provider == "openai":
        kind = "response.output_text.delta"
        cut = does.chunks(f'event: {kind}\ndata: {{"type": "{kind}", "delta": "Bonjo"}}\n\n'.encode())
    upstreams[provider].script(cut)
    path, body, headers = ASKING[asking]
    reply = wire.post(path.format(provider), json={"model": provider, **body}, headers=headers)
    assert reply.status_code == 200, reply.text
    assert b"Bonjo" in reply.content
    assert b"error" in reply.content
    assert b"broken off" in reply.content
    if asking == "gemini array":
        assert list(reply.json()[-1]) == ["error"], "the array is one, and its last item is the error"
    for terminator in TERMINATORS:
        assert terminator not in reply.content, reply.text


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_cut_is_an_error_of_every_package(
    package: openai.OpenAI, claude: anthropic.Anthropic, google: genai.Client, upstreams: dict[str, Upstream], provider: str
) -> None:
    cut = bedrock(*FRAMES[:2]) if provider == "bedrock" else getattr(foreign, provider)(cut=OPENED[provider])
    upstreams[provider].script(cut)
    with pytest.raises(openai.APIError) as of_openai:
        list(package.chat.completions.create(model=provider, messages=[{"role": "user", "content": "hi"}], stream=True))
    assert of_openai.value.code == "stream_broken"
    with pytest.raises(anthropic.APIStatusError) as of_anthropic:
        list(claude.messages.create(
            model=provider, max_tokens=9, messages=[{"role": "user", "content": "hi"}], stream=True,
        ))  # fmt: skip
    assert "broken off" in str(of_anthropic.value)
    with pytest.raises(genai_errors.APIError) as of_google:
        list(google.models.generate_content_stream(model=provider, contents="hi"))
    assert "broken off" in str(of_google.value)


# Bedrock's binary event stream

def test_a_binary_event_stream(package: openai.OpenAI, upstreams: dict[str, Upstream]) -> None:
    """Cut into pieces that end in the middle of frames."""
    whole = b"".join(FRAMES)
    upstreams["bedrock"].script(bedrock(*(whole[at : at + 37] for at in range(0, len(whole), 37))))
    chunks = list(package.chat.completions.create(
        model="bedrock", messages=[{"role": "user", "content": "hi"}], stream=True, stream_options={"include_usage": True},
    ))  # fmt: skip
    assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == foreign.TEXT
    assert [each.choices[0].finish_reason for each in chunks if each.choices and each.choices[0].finish_reason] == ["stop"]
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (11, 7)
    asked = upstreams["bedrock"].requests[-1]
    assert asked.path == "/model/bedrock-model/converse-stream"
    signed = asked.header("authorization") or ""
    assert signed.startswith(f"AWS4-HMAC-SHA256 Credential={ACCESS}/")
    assert "/eu-west-1/bedrock/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=" in signed
    assert SECRET not in repr(asked.headers) + asked.body.decode()
    assert clients.CLIENT_KEY not in repr(asked.headers)


def test_a_flipped_bit_of_a_binary_event_stream_is_a_cut(wire: httpx.Client, upstreams: dict[str, Upstream]) -> None:
    broken = bytearray(FRAMES[2])
    broken[-6] ^= 1
    upstreams["bedrock"].script(bedrock(*FRAMES[:2], bytes(broken), *FRAMES[3:]))
    reply = wire.post("/v1/chat/completions", json={"model": "bedrock", "messages": [HI], "stream": True})
    assert b"Bonjo" in reply.content
    assert b"broken off" in reply.content
    assert b"[DONE]" not in reply.content


# Gemini's array

@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_gemini_client_without_alt_sse_gets_an_array(
    wire: httpx.Client, upstreams: dict[str, Upstream], provider: str
) -> None:
    upstreams[provider].script(answering(provider))
    reply = wire.post(ASKING["gemini array"][0].format(provider), json=ASKING["gemini array"][1])
    assert reply.headers["content-type"].startswith("application/json")
    items = reply.json()
    assert isinstance(items, list)
    text = "".join(part["text"] for each in items for part in each["candidates"][0]["content"].get("parts", ()))
    assert text == foreign.TEXT
    assert items[-1]["candidates"][0]["finishReason"] == "STOP"
    assert items[-1]["usageMetadata"]["candidatesTokenCount"] == 7


# The same dialect on both sides

RAW = (
    b'{ "model":"anthropic-model", "max_tokens" : 9,"future":{"a":[1.0,1e2]},\n "thinking":{"type":"later"},'
    b'"messages":[{"role":"user","content":[{"type":"hologram","data":"\\u00e9"}]}]%s }'
)
ANTHROPIC = {"anthropic-version": "2023-06-01", "anthropic-beta": "one,two", "x-api-key": clients.CLIENT_KEY,
             "content-type": "application/json"}  # fmt: skip


def test_anthropics_own_dialect_passes_byte_for_byte(wire: httpx.Client, upstreams: dict[str, Upstream]) -> None:
    answer = (
        b'{ "type":"message", "future" : 1.0,"content":[{"type":"hologram"}], "stop_reason":"later",'
        b'"usage":{"input_tokens":3,"output_tokens":4}}'
    )
    upstreams["anthropic"].script(does.body(answer))
    asked = RAW.replace(b"anthropic-model", b"anthropic") % b""
    reply = wire.post("/v1/messages", content=asked, headers=ANTHROPIC)
    assert reply.content == answer
    sent = upstreams["anthropic"].requests[-1]
    assert sent.body == RAW % b""
    assert sent.path == "/v1/messages"
    assert (sent.header("anthropic-version"), sent.header("anthropic-beta")) == ("2023-06-01", "one,two")
    assert sent.header("x-api-key") == "secret-of-anthropic"


def test_anthropics_own_stream_passes_byte_for_byte(wire: httpx.Client, upstreams: dict[str, Upstream]) -> None:
    events = [
        b': hello\n\n',
        b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":3}},"future":1.0}\n\n',
        b'event: hologram\ndata: {"type":"hologram", "x" : 1e2}\n\n', b'event: ping\ndata: {"type":"ping"}\n\n',
        b'event: content_block_start\n'
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"hologram"}}\n\n',
        b'event: content_block_delta\n'
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"hologram_delta","x":1}}\n\n',
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n',
        b'event: message_delta\n'
        b'data: {"type":"message_delta","delta":{"stop_reason":"later"},"usage":{"output_tokens":4}}\n\n',
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    ]  # fmt: skip
    upstreams["anthropic"].script(does.chunks(*events))
    asked = RAW.replace(b"anthropic-model", b"anthropic") % b', "stream":true'
    reply = wire.post("/v1/messages", content=asked, headers=ANTHROPIC)
    assert reply.content == b"".join(events)
    assert upstreams["anthropic"].requests[-1].body == RAW % b', "stream":true'


def test_a_count_of_tokens_passes_to_anthropic_and_to_nobody_else(
    claude: anthropic.Anthropic, upstreams: dict[str, Upstream]
) -> None:
    upstreams["anthropic"].script(does.answer({"input_tokens": 42}))
    upstreams["openai"].script(answering("openai"))
    messages: list[Any] = [HI]
    assert claude.messages.count_tokens(model="anthropic-first", messages=messages).input_tokens == 42
    asked = upstreams["anthropic"].requests[-1]
    assert (asked.path, asked.json()) == ("/v1/messages/count_tokens", {"model": "anthropic-model", "messages": [HI]})
    with pytest.raises(anthropic.APIStatusError) as caught:
        claude.messages.count_tokens(model="openai", messages=messages)
    assert caught.value.status_code == 501
    assert upstreams["openai"].untouched


def test_a_gemini_clients_count_of_tokens(google: genai.Client, upstreams: dict[str, Upstream]) -> None:
    upstreams["gemini"].script(does.answer({"totalTokens": 42}))
    assert google.models.count_tokens(model="gemini", contents="hi").total_tokens == 42
    assert upstreams["gemini"].requests[-1].path == "/v1beta/models/gemini-model:countTokens"


# What a provider says where a stream was asked for

async def _silent(reply: Reply) -> None:
    await reply.head(200, does.EVENTS)
    await reply.end()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_empty_stream_is_no_answer(wire: httpx.Client, upstreams: dict[str, Upstream], provider: str) -> None:
    upstreams[provider].script(bedrock(FRAMES[0]) if provider == "bedrock" else _silent)
    upstreams["anthropic" if provider == "openai" else "openai"].script(does.status(503))
    reply = wire.post("/v1/chat/completions", json={"model": f"{provider}-first", "messages": [HI], "stream": True})
    assert reply.status_code == 502
    assert reply.json()["error"]["code"] == "all_targets_failed"
