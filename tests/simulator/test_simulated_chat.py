"""Chat and legacy completions of the simulator, asked by the official package."""

import asyncio
from typing import Any

import httpx
import openai
import pytest

from mitmgate.exchange import Origin

HELLO: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello to us"}]


async def test_an_answer_names_the_model_and_counts(client: openai.AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    text = reply.choices[0].message.content or ""
    assert text.startswith("Simulated answer of gpt-4o-mini to 2 message(s). The last one has 4 word(s)")
    assert (reply.object, reply.model, reply.choices[0].finish_reason) == ("chat.completion", "gpt-4o-mini", "stop")
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 6
    assert reply.usage.completion_tokens == len(text.split())
    assert reply.usage.total_tokens == 6 + len(text.split())


async def test_no_user_text_comes_back(http: httpx.AsyncClient) -> None:
    secret = "xyzzyplugh"
    for content in (secret, [{"type": "text", "text": secret}, {"type": "image_url", "image_url": {"url": secret}}]):
        reply = await http.post("/chat/completions", json={"messages": [{"role": "user", "content": content}]})
        assert reply.status_code == 200
        assert secret not in reply.text
        assert reply.json()["usage"]["prompt_tokens"] == 1


def ask_sync(origin: Origin) -> tuple[str | None, str]:
    connect = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=f"{origin}/v1", api_key="none", max_retries=0, http_client=connect) as client:
        whole = client.chat.completions.create(model="m", messages=HELLO)
        chunks = list(client.chat.completions.create(model="m", messages=HELLO, stream=True))
    return whole.choices[0].message.content, "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def test_the_sync_package_streamed_says_the_same_as_whole(origin: Origin) -> None:
    whole, streamed = await asyncio.to_thread(ask_sync, origin)
    assert whole
    assert streamed == whole


async def test_a_stream_opens_with_the_role_and_ends_with_the_reason(client: openai.AsyncOpenAI) -> None:
    chunks = [chunk async for chunk in await client.chat.completions.create(model="m", messages=HELLO, stream=True)]
    first, *content, last = chunks
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert all(chunk.choices[0].delta.content for chunk in content)
    assert len(content) > 10
    assert last.choices[0].finish_reason == "stop"
    assert not last.choices[0].delta.content
    assert {chunk.usage for chunk in chunks} == {None}


async def test_usage_closes_a_stream_that_asks_for_it(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}, n=2
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == 6
    content = [chunk for chunk in chunks[:-1] if chunk.choices[0].delta.content]
    assert chunks[-1].usage.completion_tokens == len(content)
    assert {chunk.choices[0].index for chunk in content} == {0, 1}
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_the_wire_ends_with_done(http: httpx.AsyncClient) -> None:
    reply = await http.post("/chat/completions", json={"messages": HELLO, "stream": True})
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.text.endswith('"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
    assert reply.text.count("data: [DONE]") == 1
    assert '"model":"sim-1"' in reply.text
    assert '"usage"' not in reply.text


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_token_limit_cuts(http: httpx.AsyncClient, field: str, stream: bool) -> None:
    reply = await http.post("/chat/completions", json={"messages": HELLO, field: 3, "stream": stream})
    assert '"finish_reason":"length"' in reply.text
    assert '"finish_reason":"stop"' not in reply.text
    if stream:
        assert reply.text.count('"delta":{"content":') == 3
    else:
        assert reply.json()["choices"][0]["message"]["content"] == "Simulated answer of"
        assert reply.json()["usage"]["completion_tokens"] == 3


async def test_stop_sequences_cut(client: openai.AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(model="m", messages=HELLO, stop=["word(s)", " of m"])
    assert reply.choices[0].message.content == "Simulated answer"
    assert reply.choices[0].finish_reason == "stop"
    nothing = await client.chat.completions.create(model="m", messages=HELLO, stop="Sim")
    assert nothing.choices[0].message.content == ""
    assert nothing.usage is not None
    assert nothing.usage.completion_tokens == 0


async def test_choices_differ(client: openai.AsyncOpenAI) -> None:
    reply = await client.chat.completions.create(model="m", messages=HELLO, n=3)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in reply.choices}) == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_the_same_request_has_the_same_bytes(http: httpx.AsyncClient, stream: bool) -> None:
    document = {"messages": HELLO, "stream": stream}
    first, second = [await http.post("/chat/completions", json=document) for _ in range(2)]
    assert first.content == second.content
    assert first.headers["x-request-id"] == second.headers["x-request-id"]
    other = await http.post("/chat/completions", json=document | {"messages": [*HELLO, HELLO[1]]})
    assert other.content != first.content
    assert other.headers["x-request-id"] != first.headers["x-request-id"]


async def test_legacy_completions(client: openai.AsyncOpenAI) -> None:
    reply = await client.completions.create(model="m", prompt=["one two", "three"], n=2)
    assert [choice.index for choice in reply.choices] == [0, 1, 2, 3]
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 3
    assert reply.usage.completion_tokens == sum(len(choice.text.split()) for choice in reply.choices)
    stream = await client.completions.create(model="m", prompt=["one two", "three"], n=2, stream=True)
    texts = {0: "", 1: "", 2: "", 3: ""}
    finishes = []
    async for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].text
        finishes.append(chunk.choices[0].finish_reason)
    assert list(texts.values()) == [choice.text for choice in reply.choices]
    assert finishes[-4:] == ["stop"] * 4
    assert set(finishes[:-4]) == {None}


async def test_legacy_prompts_of_tokens(client: openai.AsyncOpenAI) -> None:
    reply = await client.completions.create(model="m", prompt=[1, 2, 3], max_tokens=2)
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (3, 2)
    assert reply.choices[0].finish_reason == "length"
