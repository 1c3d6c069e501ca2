"""Tool calls, JSON mode and structured output of the simulator."""

import json
from typing import Any

import httpx
import jsonschema
import openai
import pytest

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 12},
        "days": {"type": "integer", "minimum": 3, "maximum": 9},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "days", "unit"],
    "additionalProperties": False,
}
TOOLS: Any = [
    {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "get_time"}},
]


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


async def test_a_mentioned_tool_is_called(client: openai.AsyncOpenAI) -> None:
    asked = user("Please use get_weather.")
    reply = await client.chat.completions.create(model="m", messages=asked, tools=TOOLS)
    message = reply.choices[0].message
    assert reply.choices[0].finish_reason == "tool_calls"
    assert message.content is None
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert call.function.name == "get_weather"
    jsonschema.validate(json.loads(call.function.arguments), WEATHER)
    assert reply.usage is not None
    assert reply.usage.completion_tokens == len(call.function.arguments.split())

    answered = [*asked, message.to_dict(), {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    final = await client.chat.completions.create(model="m", messages=answered, tools=TOOLS)
    assert final.choices[0].finish_reason == "stop"
    assert (final.choices[0].message.content or "").startswith("Simulated answer of m to 3 message(s).")


async def test_streamed_calls_come_in_fragments(client: openai.AsyncOpenAI) -> None:
    asked: Any = {"model": "m", "messages": user("get_time, then get_weather"), "tools": TOOLS}
    whole = await client.chat.completions.create(**asked)
    calls: dict[int, dict[str, str]] = {}
    fragments = 0
    chunks = [chunk async for chunk in await client.chat.completions.create(stream=True, **asked)]
    for chunk in chunks:
        for delta in chunk.choices[0].delta.tool_calls or []:
            assert delta.function is not None
            if delta.id:
                calls[delta.index] = {"id": delta.id, "name": delta.function.name or "", "arguments": ""}
            fragments += bool(delta.function.arguments)
            calls[delta.index]["arguments"] += delta.function.arguments or ""
    assert chunks[0].choices[0].delta.tool_calls is None
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert list(calls) == [0, 1]
    assert fragments > len(calls)
    assert whole.choices[0].message.tool_calls is not None
    assert list(calls.values()) == [
        {"id": call.id, "name": call.function.name, "arguments": call.function.arguments}
        for call in whole.choices[0].message.tool_calls
        if call.type == "function"
    ]


@pytest.mark.parametrize(
    ("text", "more", "called"),
    [
        ("hello", {}, []),
        ("get_weather_now is another word", {}, []),
        ("get_time", {"tool_choice": "none"}, []),
        ("hello", {"tool_choice": "required"}, ["get_weather"]),
        ("get_time", {"tool_choice": "required"}, ["get_time"]),
        ("hello", {"tool_choice": {"type": "function", "function": {"name": "get_time"}}}, ["get_time"]),
        ("get_time get_weather", {}, ["get_weather", "get_time"]),
        ("get_time get_weather", {"parallel_tool_calls": False}, ["get_weather"]),
    ],
)
async def test_which_tools_are_called(
    http: httpx.AsyncClient, text: str, more: dict[str, Any], called: list[str]
) -> None:
    reply = await http.post("/chat/completions", json={"messages": user(text), "tools": TOOLS, **more})
    message = reply.json()["choices"][0]["message"]
    assert [call["function"]["name"] for call in message.get("tool_calls", [])] == called
    assert (message["content"] is None) is bool(called)


async def test_json_mode(client: openai.AsyncOpenAI) -> None:
    asked: Any = {"model": "m", "messages": user("JSON please"), "response_format": {"type": "json_object"}}
    reply = await client.chat.completions.create(**asked)
    document = json.loads(reply.choices[0].message.content or "")
    assert document["messages"] == 1
    assert document["answer"].startswith("Simulated answer of m")
    stream = [chunk async for chunk in await client.chat.completions.create(stream=True, **asked)]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == reply.choices[0].message.content


RECURSIVE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["name", "children"],
    "additionalProperties": False,
}
LINKED = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "number"},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value", "next"],
        }
    },
    "type": "object",
    "properties": {"first": {"$ref": "#/$defs/node"}},
    "required": ["first"],
}


@pytest.mark.parametrize(
    "schema",
    [
        WEATHER,
        RECURSIVE,
        LINKED,
        {"type": "array", "prefixItems": [{"const": 7}], "items": {"type": "boolean"}, "minItems": 3},
        {"type": "array", "items": {"type": "string"}, "maxItems": 0},
        {"type": ["null", "string"], "maxLength": 3},
        {"type": "integer", "exclusiveMinimum": 10, "multipleOf": 7},
        {"type": "integer", "maximum": -5},
        {"type": "integer", "multipleOf": 2.5},
        {"type": "number", "exclusiveMinimum": 2, "exclusiveMaximum": 2.25},
        {"type": "number", "minimum": 2, "maximum": 2},
        {"type": "number", "maximum": -9},
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "uuid"},
        {"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"$ref": "#/$defs/b"}],
         "$defs": {"b": {"properties": {"b": {"type": "null"}}, "required": ["b"]}}},
        {"properties": {"a": {"oneOf": [{"type": "boolean"}, {"type": "integer"}]}}, "required": ["x"]},
        {"type": "object", "properties": {"é ~/%": {"$ref": "#/$defs/odd~1na~0me%20"}},
         "$defs": {"odd/na~me ": {"type": "boolean"}}, "required": ["é ~/%"]},
    ],
)  # fmt: skip
async def test_structured_output_is_an_instance(client: openai.AsyncOpenAI, schema: dict[str, Any]) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "shape", "schema": schema}}
    reply = await client.chat.completions.create(model="m", messages=user("hello"), response_format=form)
    checked = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    checked.validate(json.loads(reply.choices[0].message.content or ""))


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#/$defs/none"},
        {"type": "strange"},
        {"type": "array", "minItems": 10**9},
        {"type": "string", "minLength": 10**9},
        {"type": "number", "minimum": 1e300},
        {"type": "number", "multipleOf": 1e-300},
        {"type": "object", "properties": []},
        {"anyOf": [3]} | {"properties": {"a": 3}},
        {"type": "object", "properties": {name: {"$ref": "#"} for name in "abcdefgh"}, "required": list("abcdefgh")},
        nested(100),
    ],
)
async def test_a_schema_without_end_or_sense_is_refused(http: httpx.AsyncClient, schema: dict[str, Any]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "shape", "schema": schema}}
    reply = await http.post("/chat/completions", json={"messages": user("hello"), "response_format": form})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "response_format"
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    reply = await http.post("/chat/completions", json={"messages": user("f"), "tools": tools})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "tools"


async def test_a_deep_constant_is_no_trouble(http: httpx.AsyncClient) -> None:
    deep: Any = None
    for _ in range(800):
        deep = [deep]
    form = {"type": "json_schema", "json_schema": {"name": "shape", "schema": {"const": deep}}}
    reply = await http.post("/chat/completions", json={"messages": user("hello"), "response_format": form})
    assert json.loads(reply.json()["choices"][0]["message"]["content"]) == deep
