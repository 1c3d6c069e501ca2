"""Responses, embeddings, moderations and models of the simulator, and what it declines."""

import array
import base64
import gzip
import math
import sys
from typing import Any

import httpx
import openai
import pytest

from mitmgate.exchange import Origin
from mitmgate.simulator.server import Simulator


async def test_responses(client: openai.AsyncOpenAI) -> None:
    reply = await client.responses.create(model="gpt-5", input="one two three", instructions="Be brief")
    assert (reply.status, reply.model) == ("completed", "gpt-5")
    assert reply.output_text.startswith("Simulated answer of gpt-5 to 1 message(s). The last one has 3 word(s)")
    assert reply.usage is not None
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (5, len(reply.output_text.split()))


async def test_responses_streamed(client: openai.AsyncOpenAI) -> None:
    asked: Any = {"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": "one two"}]}]}
    whole = await client.responses.create(**asked)
    events = [event async for event in await client.responses.create(stream=True, **asked)]
    kinds = [event.type for event in events]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert kinds == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        *["response.output_text.delta"] * len(deltas),
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(deltas) == whole.output_text
    assert events[-1].type == "response.completed"
    assert events[-1].response.to_dict() == whole.to_dict()


async def test_responses_may_be_incomplete(client: openai.AsyncOpenAI) -> None:
    stream = await client.responses.create(model="m", input="hello", max_output_tokens=2, stream=True)
    events = [event async for event in stream]
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.output_text == "Simulated answer"
    assert events[-1].response.incomplete_details is not None
    assert events[-1].response.incomplete_details.reason == "max_output_tokens"


async def test_responses_in_json(client: openai.AsyncOpenAI) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    form: Any = {"format": {"type": "json_schema", "name": "shape", "schema": schema}}
    reply = await client.responses.create(model="m", input="hello", text=form)
    assert reply.output_text == '{"ok": true}'


async def test_embeddings_in_both_encodings(http: httpx.AsyncClient) -> None:
    asked = {"model": "e", "input": ["one two", "three"], "dimensions": 32}
    floats = (await http.post("/embeddings", json=asked)).json()
    packed = (await http.post("/embeddings", json=asked | {"encoding_format": "base64"})).json()
    assert floats["usage"] == packed["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert floats["model"] == "e"
    for index in (0, 1):
        vector = floats["data"][index]["embedding"]
        numbers = array.array("f", base64.b64decode(packed["data"][index]["embedding"]))
        if sys.byteorder == "big":
            numbers.byteswap()
        assert numbers.tolist() == vector
        assert len(vector) == 32
        assert math.sumprod(vector, vector) == pytest.approx(1, abs=1e-6)
    assert floats["data"][0]["embedding"] != floats["data"][1]["embedding"]


async def test_embeddings_by_the_package(client: openai.AsyncOpenAI) -> None:
    one = await client.embeddings.create(model="e", input="same text")  # the package asks for base64 by itself
    two = await client.embeddings.create(model="f", input=["other", "same text"], encoding_format="float")
    assert one.data[0].embedding == pytest.approx(two.data[1].embedding)
    assert [item.index for item in two.data] == [0, 1]
    tokens = await client.embeddings.create(model="e", input=[[1, 2], [3]], dimensions=1)
    assert tokens.usage.prompt_tokens == 3
    assert [abs(item.embedding[0]) for item in tokens.data] == [1.0, 1.0]


async def test_moderations(client: openai.AsyncOpenAI) -> None:
    reply = await client.moderations.create(input=["a quiet text", "this names Violence"])
    assert [result.flagged for result in reply.results] == [False, True]
    assert reply.results[1].categories.violence
    assert not reply.results[1].categories.hate
    assert reply.results[1].category_scores.violence > 0.9 > reply.results[0].category_scores.violence


async def test_models(client: openai.AsyncOpenAI) -> None:
    names = [model.id async for model in client.models.list()]
    assert names == ["sim-1", "sim-embedding-1"]
    assert (await client.models.retrieve("sim-1")).id == "sim-1"
    with pytest.raises(openai.NotFoundError) as refused:
        await client.models.retrieve("gpt-4o")
    assert refused.value.code == "model_not_found"


BAD: list[tuple[str, Any, str | None]] = [
    ("/chat/completions", b"{", None),
    ("/chat/completions", b'{"messages": "\xff"}', None),
    ("/chat/completions", b"", None),
    ("/chat/completions", b"[]", None),
    ("/chat/completions", b"[" * 100_000, None),
    ("/chat/completions", {}, "messages"),
    ("/chat/completions", {"messages": []}, "messages"),
    ("/chat/completions", {"messages": [3]}, "messages[0]"),
    ("/chat/completions", {"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
    ("/chat/completions", {"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
    ("/chat/completions", {"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0]"),
    ("/responses", {}, "input"),
    ("/responses", {"input": []}, "input"),
    ("/embeddings", {}, "input"),
    ("/embeddings", {"input": ""}, "input"),
    ("/embeddings", {"input": "x", "dimensions": 0}, "dimensions"),
    ("/embeddings", {"input": "x", "encoding_format": "hex"}, "encoding_format"),
    ("/embeddings", {"input": ["x"] * 2000, "dimensions": 4096}, "input"),
    ("/completions", {}, "prompt"),
    ("/moderations", {"input": [1]}, "input"),
]


@pytest.mark.parametrize(("path", "body", "param"), BAD)
async def test_a_malformed_body_is_400(http: httpx.AsyncClient, path: str, body: Any, param: str | None) -> None:
    reply = await (http.post(path, content=body) if isinstance(body, bytes) else http.post(path, json=body))
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize(
    "field",
    [
        {"model": 3}, {"model": ""}, {"n": 0}, {"n": 129}, {"n": True}, {"stream": "yes"}, {"stop": ["a"] * 5},
        {"max_tokens": 0}, {"max_completion_tokens": 1.5}, {"stream_options": {"include_usage": True}},
        {"tools": {}}, {"tools": [{"type": "function"}]}, {"tool_choice": "required"}, {"tool_choice": "sometimes"},
        {"response_format": "json"}, {"response_format": {"type": "y"}}, {"response_format": {"type": "json_schema"}},
    ],
)  # fmt: skip
async def test_a_wrong_field_is_named(http: httpx.AsyncClient, field: dict[str, Any]) -> None:
    reply = await http.post("/chat/completions", json={"messages": [{"role": "user", "content": "x"}], **field})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"].split(".")[0].split("[")[0] in field


async def test_null_counts_as_absent(http: httpx.AsyncClient) -> None:
    absent = dict.fromkeys(["model", "n", "stop", "stream", "stream_options", "tools", "tool_choice", "max_tokens"])
    plain = {"messages": [{"role": "user", "content": "x"}]}
    replies = [await http.post("/chat/completions", json=document) for document in (plain, plain | absent)]
    assert replies[0].status_code == 200
    assert replies[0].content == replies[1].content


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/unknown", 404),
        ("GET", "/", 404),
        ("POST", "/v1/models/sim-1/x", 405),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
    ],
)
async def test_what_is_not_there(http: httpx.AsyncClient, origin: Origin, method: str, path: str, status: int) -> None:
    reply = await http.request(method, f"{origin}{path}")
    assert reply.status_code == status
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert ("allow" in reply.headers) is (status == 405)


async def test_broken_and_oversized_bodies(http: httpx.AsyncClient) -> None:
    broken = await http.post("/embeddings", content=b"not gzip at all", headers={"content-encoding": "gzip"})
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "invalid_body")
    bomb = gzip.compress(bytes(80 << 20), 1)
    huge = await http.post("/embeddings", content=bomb, headers={"content-encoding": "gzip"})
    assert (huge.status_code, huge.json()["error"]["code"]) == (413, "request_too_large")


async def test_it_starts_anew_after_a_stop() -> None:
    simulator = Simulator()
    first = await simulator.start()
    with pytest.raises(RuntimeError):
        await simulator.start()
    await simulator.stop()
    await simulator.stop()
    assert await simulator.start(port=first.port) == first
    await simulator.stop()


async def test_a_taken_port_is_an_error(origin: Origin) -> None:
    simulator = Simulator()
    with pytest.raises(OSError, match=r"."):
        await simulator.start(port=origin.port)
    assert (await simulator.start()).port != origin.port
    await simulator.stop()
