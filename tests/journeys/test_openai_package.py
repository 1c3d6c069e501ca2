"""The official `openai` package through the real gateway, by `base_url` and behind the proxy."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import openai
import pytest

from rig import behaviours as does
from rig import clients
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream

SAY: list[Any] = [{"role": "user", "content": "Say hello."}]
CALL: list[Any] = [{"role": "user", "content": "Please call get_weather."}]  # the simulator calls what is named
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
SECRET = "sk-of-the-provider"
WAYS = ("direct", "proxied")


@pytest.fixture(scope="module")
def scripted(shared_upstream: StartUpstream) -> Upstream:
    """The provider `scripted`."""
    return shared_upstream(does.ok())


@pytest.fixture(scope="module")
def gate(shared_gateway: StartGateway, scripted: Upstream) -> Gateway:
    """Models under `scripted` and `renamed` go to the scripted upstream, all others to the simulator."""
    return shared_gateway(
        {
            "intercept": ["api.openai.com"],
            "providers": {
                "simulator": {"dialect": "simulator"},
                "scripted": {
                    "dialect": "openai",
                    "base_url": scripted.base_url,
                    "zone": "internal",
                    "credential": {"value": SECRET},
                },
            },
            "routes": [
                {"name": "as-named", "match": {"model": ["scripted*"]}, "targets": [{"provider": "scripted"}]},
                {
                    "name": "renamed",
                    "match": {"model": ["renamed"]},
                    "targets": [{"provider": "scripted", "model": "served-model"}],
                },
                {"name": "simulated", "match": {}, "targets": [{"provider": "simulator"}]},
            ],
        }
    )


@pytest.fixture(params=WAYS)
def client(request: pytest.FixtureRequest, gate: Gateway) -> Iterator[openai.OpenAI]:
    make: Callable[[Gateway], openai.OpenAI] = getattr(clients, request.param)
    with make(gate) as made:
        yield made


@pytest.fixture(params=WAYS)
async def async_client(request: pytest.FixtureRequest, gate: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    make: Callable[[Gateway], openai.AsyncOpenAI] = getattr(clients, f"{request.param}_async")
    async with make(gate) as made:
        yield made


# The simulator answers


def test_chat(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="gpt-4o-mini", messages=SAY)
    assert reply.object == "chat.completion"
    assert reply.choices[0].message.content
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0
    assert reply._request_id  # ours: x-request-id


def test_reply_headers(client: openai.OpenAI, gate: Gateway) -> None:
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=SAY)
    assert raw.headers["x-gateway-provider"] == "simulator"
    assert raw.headers["x-gateway-route"] == "simulated"
    assert raw.headers["x-gateway-attempts"] == "1"
    assert raw.headers["x-retry-count"] == "0"
    assert raw.headers["x-gateway-model"] == raw.headers["x-model-used"] == "gpt-4o-mini"
    assert raw.headers["x-gateway-reasoning-effort"] == "none"
    assert raw.headers["x-cache"] == "BYPASS"
    assert raw.headers["x-request-id"] == raw.headers["x-gateway-request-id"]
    assert "x-fallback-from" not in raw.headers
    parsed = raw.parse()
    assert parsed._request_id == raw.headers["x-request-id"]
    record = gate.record(raw.headers["x-request-id"])
    assert (record["status"], record["operation"], record["provider"]) == (200, "chat", "simulator")
    assert parsed.usage is not None
    assert (record["tokens_input"], record["tokens_output"]) == (
        parsed.usage.prompt_tokens,
        parsed.usage.completion_tokens,
    )
    assert "Say hello" not in json.dumps(record)


def test_the_way_in_is_recorded(gate: Gateway) -> None:
    for make, way in ((clients.direct, "direct"), (clients.proxied, "proxied")):
        with make(gate) as client:
            reply = client.chat.completions.create(model="gpt-4o-mini", messages=SAY)
        assert gate.record(reply._request_id or "")["way"] == way


def test_chat_streamed(client: openai.OpenAI) -> None:
    asked: Any = {"model": "gpt-4o-mini", "messages": SAY, "stream_options": {"include_usage": True}}
    chunks = list(client.chat.completions.create(stream=True, **asked))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    whole = client.chat.completions.create(model="gpt-4o-mini", messages=SAY).choices[0].message.content
    assert text == whole
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


def test_no_usage_event_unless_asked(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="gpt-4o-mini", messages=SAY, stream=True))
    assert all(chunk.choices for chunk in chunks)


def test_stream_context_and_early_close(client: openai.OpenAI) -> None:
    with client.chat.completions.create(model="gpt-4o-mini", messages=SAY, stream=True) as stream:
        assert next(iter(stream)).object == "chat.completion.chunk"
    assert client.chat.completions.create(model="gpt-4o-mini", messages=SAY).choices


async def test_chat_async(async_client: openai.AsyncOpenAI) -> None:
    reply = await async_client.chat.completions.create(model="gpt-4o-mini", messages=SAY)
    assert reply.choices[0].message.content
    assert reply._request_id


async def test_chat_async_streamed(async_client: openai.AsyncOpenAI) -> None:
    stream = await async_client.chat.completions.create(model="gpt-4o-mini", messages=SAY, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_tools(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(model="gpt-4o-mini", messages=CALL, tools=TOOLS).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls
    call = choice.message.tool_calls[0]
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert isinstance(json.loads(call.function.arguments)["city"], str)


def test_tools_streamed(client: openai.OpenAI) -> None:
    name, arguments, finish = "", "", None
    for chunk in client.chat.completions.create(model="gpt-4o-mini", messages=CALL, tools=TOOLS, stream=True):
        for call in chunk.choices[0].delta.tool_calls or ():
            assert call.function is not None
            name += call.function.name or ""
            arguments += call.function.arguments or ""
        finish = chunk.choices[0].finish_reason or finish
    assert (name, finish) == ("get_weather", "tool_calls")
    assert isinstance(json.loads(arguments)["city"], str)


def test_json_mode(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="gpt-4o-mini", messages=SAY, response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(reply.choices[0].message.content or ""), dict)


def test_embeddings(client: openai.OpenAI) -> None:
    """The package asks for base64 by itself and decodes it."""
    first, second = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"]).data
    assert len(first.embedding) == len(second.embedding) > 1
    assert first.embedding != second.embedding
    assert all(isinstance(number, float) for number in first.embedding)
    again = client.embeddings.create(model="text-embedding-3-small", input=["one"]).data[0]
    assert again.embedding == first.embedding


def test_models_by_base_url(gate: Gateway) -> None:
    """What the rules offer, from the gateway itself: no provider is asked."""
    with clients.direct(gate) as client:
        listed = {model.id for model in client.models.list()}
        assert "renamed" in listed
        assert client.models.retrieve("renamed").id == "renamed"
        with pytest.raises(openai.NotFoundError) as missing:
            client.models.retrieve("no-such-model")
    assert missing.value.code == "model_not_found"


def test_responses(client: openai.OpenAI) -> None:
    reply = client.responses.create(model="gpt-4o-mini", input="Say hello.")
    assert reply.status == "completed"
    assert reply.output_text


def test_responses_streamed(client: openai.OpenAI) -> None:
    kinds, text = [], ""
    for event in client.responses.create(model="gpt-4o-mini", input="Say hello.", stream=True):
        kinds.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert text


# What the provider receives


def test_the_provider_sees_its_own_credential(client: openai.OpenAI, gate: Gateway, scripted: Upstream) -> None:
    scripted.script(does.ok("from the upstream"))
    reply = client.chat.completions.create(
        model="scripted-1",
        messages=SAY,
        extra_headers={"X-Unknown-Header": "kept", "x-gateway-secret": "dropped"},
        extra_body={"unknown_field": {"kept": [1, 2.50, None]}},
    )
    assert reply.choices[0].message.content == "from the upstream"
    request = scripted.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.header("authorization") == f"Bearer {SECRET}"
    assert request.header("host") == f"127.0.0.1:{scripted.port}"
    assert request.header("x-unknown-header") == "kept"
    assert request.json()["unknown_field"] == {"kept": [1, 2.5, None]}
    assert request.json()["model"] == "scripted-1"
    everything = repr(request.headers).encode() + request.body
    assert clients.CLIENT_KEY.encode() not in everything
    assert not [name for name, _ in request.headers if name.lower().startswith(b"x-gateway-")]
    assert request.header("proxy-connection") is None
    assert SECRET not in gate.log()


@pytest.mark.parametrize("through_proxy", [False, True], ids=WAYS)
def test_an_unchanged_body_arrives_byte_for_byte(gate: Gateway, scripted: Upstream, through_proxy: bool) -> None:
    """Odd spacing, escapes, number spellings and members we do not know: the provider gets the client's bytes."""
    body = (
        b'{ "model":"scripted-x",\t"messages":[{"role":"user","content":"\\u00e9 \xc3\xa9 \xe2\x80\xa8 \\/"}],\r\n'
        b'"temperature": 1.0E0, "seed": 12345678901234567890123, "zzz": {"b":1, "a":[ ]} }\n'
    )
    scripted.script(does.ok())
    with clients.plain(gate, through_proxy=through_proxy) as client:
        reply = client.post("/chat/completions", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 200, reply.text
    assert scripted.requests[0].body == body


def test_a_target_that_names_a_model_replaces_only_that(gate: Gateway, scripted: Upstream) -> None:
    body = b'{"messages": [{"role":"user","content":"model \\u0022renamed\\u0022"}],  "model" : "renamed", "x": 1.50}'
    scripted.script(does.ok())
    with clients.plain(gate) as client:
        reply = client.post("/chat/completions", content=body, headers={"content-type": "application/json"})
    assert reply.headers["x-model-used"] == "served-model"
    received = scripted.requests[0]
    assert received.json() == {**json.loads(body), "model": "served-model"}
    assert received.body == body.replace(b'"model" : "renamed"', b'"model" : "served-model"')


def test_a_multipart_body_is_routed_by_its_model(client: openai.OpenAI, scripted: Upstream) -> None:
    sound = hashlib.sha256(b"sound").digest() * 4000
    scripted.script(does.answer({"text": "what was said"}))
    heard = client.audio.transcriptions.create(model="scripted-whisper", file=("a.wav", sound))
    assert heard.text == "what was said"
    request = scripted.requests[0]
    assert request.path == "/v1/audio/transcriptions"
    assert sound in request.body
    assert b"scripted-whisper" in request.body


def test_a_reply_we_do_not_read_arrives_byte_for_byte(client: openai.OpenAI, scripted: Upstream) -> None:
    speech = bytes(range(256)) * 400
    scripted.script(does.body(speech, (("content-type", "audio/mpeg"),)))
    with client.audio.speech.with_streaming_response.create(model="scripted-tts", voice="alloy", input="x") as reply:
        assert reply.read() == speech
        assert reply.headers["content-type"] == "audio/mpeg"


# Errors, as the package shows them


def test_an_unknown_model(gateway: StartGateway, scripted: Upstream) -> None:
    rules = {"providers": {"scripted": {"dialect": "openai", "base_url": scripted.base_url, "zone": "internal"}}}
    scripted.forget()
    with clients.direct(gateway(rules)) as client, pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="no-such-model", messages=SAY)
    assert missing.value.code == "model_not_found"
    assert missing.value.type == "invalid_request_error"
    assert missing.value.request_id
    assert scripted.untouched


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, openai.BadRequestError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
def test_a_providers_error_keeps_its_shape(
    client: openai.OpenAI, scripted: Upstream, code: int, kind: type[openai.APIStatusError]
) -> None:
    """One target: its status, message and code are passed on."""
    scripted.script(does.status(code, (("x-request-id", "req_upstream"),), "as the provider said", "its_code"))
    with pytest.raises(kind) as refused:
        client.with_options(max_retries=0).chat.completions.create(model="scripted-1", messages=SAY)
    assert refused.value.code == "its_code"
    assert "as the provider said" in str(refused.value)
    assert refused.value.request_id != "req_upstream"
    assert refused.value.response.headers["x-gateway-upstream-request-id"] == "req_upstream"


def test_malformed_json(gate: Gateway, scripted: Upstream) -> None:
    scripted.forget()
    for body in (b"", b"{", b"[]", b'{"model": "scripted-1", "model": "scripted-2"}', b'{"model": 7}', b"\xff\xfe"):
        with clients.plain(gate) as client:
            reply = client.post("/chat/completions", content=body, headers={"content-type": "application/json"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_request"), body
        assert reply.headers["x-gateway-attempts"] == "0"
        assert "x-gateway-provider" not in reply.headers
    assert scripted.untouched


def test_a_broken_stream_raises_in_the_package(client: openai.OpenAI, scripted: Upstream) -> None:
    """The package must not take a cut-off answer for a whole one."""
    scripted.script(does.cut(2))
    stream = client.chat.completions.create(model="scripted-1", messages=SAY, stream=True)
    got = ""

    def read() -> None:
        nonlocal got
        for chunk in stream:
            got += chunk.choices[0].delta.content or ""

    with pytest.raises(openai.APIError) as broken:
        read()
    assert got == "w0 w1 "
    assert broken.value.code == "stream_broken"


# An application that knows nothing of the gateway


def test_an_unchanged_application(gate: Gateway, scripted: Upstream) -> None:
    """Only its environment is changed: HTTPS_PROXY and SSL_CERT_FILE."""
    scripted.script(does.ok("hello from elsewhere"))
    told = clients.run_application(
        gate,
        """
        import asyncio, json, openai

        asked = {"model": "scripted-9", "messages": [{"role": "user", "content": "x"}]}
        client = openai.OpenAI()
        reply = client.chat.completions.create(**asked)
        text = "".join(c.choices[0].delta.content or "" for c in client.chat.completions.create(stream=True, **asked))

        async def later():
            async with openai.AsyncOpenAI() as client:
                return (await client.chat.completions.create(**asked)).choices[0].message.content

        later = asyncio.run(later())
        base = str(client.base_url)
        print(json.dumps([base, reply.choices[0].message.content, reply._request_id, text, later]))
        """,
    )
    base, content, request_id, streamed, later = told
    assert base == "https://api.openai.com/v1/"
    assert content == later == "hello from elsewhere"
    assert streamed == "w0 w1 w2 "
    assert gate.record(request_id)["way"] == "proxied"
    assert {request.header("authorization") for request in scripted.requests} == {f"Bearer {SECRET}"}
