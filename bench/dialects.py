"""What translating costs, beside parsing the same bytes as JSON.

    .venv/bin/python bench/dialects.py [--quick] [--json FILE]

A chat of 4 kB with a tool, its call and its result: what each codec takes for the request and for the reply (a translation
is two codecs each way, the client's and the provider's), and each event of a streamed reply, through both. All are timed in
turns in the same run, as CPU time of the thread, the parsers among them: the ratio is the figure to trust. A request and a
reply are objects before and after; an event is bytes before and after, so its own parsing and writing are in it. The
targets: 60 µs a request and a reply, 15 µs an event. Where both speak the same dialect the events are only read.
"""

import argparse
import json
import statistics
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson
from report import table

from mitmgate.dialects.canonical import chunk, completion, usage, usage_chunk
from mitmgate.dialects.codec import Ask, Asked
from mitmgate.dialects.openai.reading import OpenAIReader
from mitmgate.dialects.registry import Codecs, codecs
from mitmgate.dialects.translation import ForeignReader, TranslatingReader
from mitmgate.routing.needs import needs_of

CHATS = {"openai": "chat", "responses": "responses", "anthropic": "messages", "gemini": "chat"}
MODELS = {
    "openai": "gpt-5", "responses": "gpt-5", "anthropic": "claude-sonnet-4-6", "gemini": "gemini-2.5-pro",
    "bedrock": "anthropic.claude-sonnet-4-6-v1:0", "cohere": "command-a-03-2025",
}  # fmt: skip
PAIRS = (
    ("openai", "anthropic"), ("openai", "gemini"), ("openai", "bedrock"), ("openai", "cohere"), ("responses", "openai"),
    ("responses", "anthropic"), ("anthropic", "openai"), ("anthropic", "gemini"), ("gemini", "openai"), ("gemini", "anthropic"),
)  # fmt: skip
SAME = ("openai", "anthropic", "gemini")
WORDS = "The gateway translates what a client says into the words of whoever is to answer, and back again. "
TEXTS = 80                                  # events of a stream that hold text …
PIECES = ['{"city": "', *["Oslo"] * 18, '"}']     # … and those with a tool call's arguments


def chat() -> dict[str, Any]:
    """A request of 4 kB."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}
    call = {"id": "call_1", "type": "function", "function": {"name": "forecast", "arguments": '{"city": "Oslo", "days": 3}'}}
    return {
        "model": "gpt-5",
        "messages": [
            {"role": "system", "content": WORDS * 5},
            *({"role": role, "content": WORDS * 4} for role in ("user", "assistant") * 3),
            {"role": "user", "content": "And the weather?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": '{"sky": "clear", "degrees": [12, 14, 11]}'},
            {"role": "user", "content": WORDS * 2},
        ],
        "tools": [{"type": "function", "function": {"name": "forecast", "description": WORDS, "parameters": schema}}],
        "max_completion_tokens": 1_000,
        "temperature": 0.2,
    }


def responses_chat() -> dict[str, Any]:
    """The same for OpenAI's Responses."""
    document = chat()
    items: list[dict[str, Any]] = []
    for message in document["messages"]:
        for call in message.get("tool_calls", ()):
            items.append({"type": "function_call", "call_id": call["id"], **call["function"]})
        if message["role"] == "tool":
            items.append({"type": "function_call_output", "call_id": "call_1", "output": message["content"]})
        elif message["content"]:
            items.append({"role": message["role"], "content": message["content"]})
    tools = [{"type": "function", **tool["function"]} for tool in document["tools"]]
    return {"model": "gpt-5", "input": items, "tools": tools, "max_output_tokens": 1_000, "temperature": 0.2}


def answer() -> dict[str, Any]:
    """A reply of 4 kB: text and a tool call."""
    call = {"id": "call_2", "type": "function", "function": {"name": "forecast", "arguments": '{"city": "Oslo", "days": 5}'}}
    message = {"role": "assistant", "content": WORDS * 37, "tool_calls": [call]}
    told = usage(900, 800, cached=9)
    return completion(id="chatcmpl-1", created=1, model="m", message=message, finish="tool_calls", usage=told)


def chunks() -> list[dict[str, Any]]:
    """The same kind of reply as a stream: so many texts, then a call in pieces."""
    told: dict[str, Any] = {"id": "chatcmpl-1", "created": 1, "model": "m"}
    first: dict[str, Any] = {"index": 0, "id": "call_2", "type": "function", "function": {"name": "forecast", "arguments": ""}}
    pieces = [{"index": 0, "function": {"arguments": piece}} for piece in PIECES]
    return [
        chunk(**told, delta={"role": "assistant", "content": ""}),
        *(chunk(**told, delta={"content": "and back again "}) for _ in range(TEXTS)),
        *(chunk(**told, delta={"tool_calls": [each]}) for each in (first, *pieces)),
        chunk(**told, delta={}, finish="tool_calls"),
        usage_chunk(**told, usage=usage(900, 800)),
    ]  # fmt: skip


def bedrock_reply() -> dict[str, Any]:
    use = {"toolUseId": "call_2", "name": "forecast", "input": {"city": "Oslo", "days": 5}}
    content = [{"text": WORDS * 37}, {"toolUse": use}]
    tokens = {"inputTokens": 900, "outputTokens": 800, "totalTokens": 1_700}
    message = {"role": "assistant", "content": content}
    return {"output": {"message": message}, "stopReason": "tool_use", "usage": tokens, "metrics": {"latencyMs": 900}}


def bedrock_stream() -> list[bytes]:
    """Frames of Amazon's event stream (Smithy, "Amazon Event Stream Specification")."""
    said: list[tuple[str, dict[str, Any]]] = [("messageStart", {"role": "assistant"})]
    said += [("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "and back again "}})] * TEXTS
    said += [("contentBlockStop", {"contentBlockIndex": 0})]
    said += [("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "call_2", "name": "forecast"}}})]
    said += [("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": piece}}}) for piece in PIECES]
    said += [("contentBlockStop", {"contentBlockIndex": 1}), ("messageStop", {"stopReason": "tool_use"})]
    said += [("metadata", {"usage": {"inputTokens": 900, "outputTokens": 800, "totalTokens": 1_700}})]
    return [framed(kind, orjson.dumps(payload)) for kind, payload in said]


def framed(kind: str, payload: bytes) -> bytes:
    texts = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        bytes([len(name)]) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode() for name, value in texts.items()
    )
    lengths = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    body = lengths + struct.pack("!I", crc32(lengths)) + headers + payload
    return body + struct.pack("!I", crc32(body))


def cohere_reply() -> dict[str, Any]:
    call = {"id": "call_2", "type": "function", "function": {"name": "forecast", "arguments": '{"city": "Oslo", "days": 5}'}}
    message = {"role": "assistant", "tool_plan": WORDS * 37, "tool_calls": [call]}
    tokens = {"input_tokens": 900.0, "output_tokens": 800.0}
    return {"id": "x", "finish_reason": "TOOL_CALL", "message": message, "usage": {"billed_units": tokens, "tokens": tokens}}


def cohere_stream() -> list[bytes]:
    call = {"id": "call_2", "type": "function", "function": {"name": "forecast", "arguments": ""}}
    tokens = {"input_tokens": 900.0, "output_tokens": 800.0}
    said: list[dict[str, Any]] = [
        {"id": "x", "type": "message-start", "delta": {"message": {"role": "assistant", "content": [], "tool_calls": []}}},
        *[{"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "and back again "}}}}] * TEXTS,
        {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": call}}},
        *(
            {"type": "tool-call-delta", "index": 0, "delta": {"message": {"tool_calls": {"function": {"arguments": piece}}}}}
            for piece in PIECES
        ),
        {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": {"billed_units": tokens, "tokens": tokens}}},
    ]
    return [f"event: {each['type']}\n".encode() + b"data: " + orjson.dumps(each) + b"\n\n" for each in said]


def asked_of(client: str, document: dict[str, Any], *, stream: bool) -> Asked:
    query = {"alt": "sse"} if client == "gemini" else {}
    return Asked({**document, "stream": stream} if stream else document, MODELS[client], stream, "1", 1, query)


def ask_of(provider: str, document: dict[str, Any], *, stream: bool = False) -> Ask:
    return Ask(document, MODELS[provider], stream, "1", 1)


def pair(client: str, provider: str) -> Codecs:
    found = codecs("openai" if client == "responses" else client, CHATS[client], provider)
    assert found is not None, (client, provider)
    return found


def requests() -> dict[str, dict[str, Any]]:
    """The chat in each client's words: Anthropic's and Gemini's as the codecs of those providers write them."""
    found = {"openai": chat(), "responses": responses_chat()}
    for each in ("anthropic", "gemini"):
        found[each] = dict(pair("openai", each).provider.request(ask_of(each, chat())).document)
    return found


def replies() -> dict[str, dict[str, Any]]:
    """The reply in each provider's words."""
    found = {"openai": answer(), "bedrock": bedrock_reply(), "cohere": cohere_reply()}
    for each in ("anthropic", "gemini"):
        found[each] = pair(each, "openai").client.reply(answer(), asked_of(each, {}, stream=False))
    return found


def streams() -> dict[str, list[bytes]]:
    """A streamed reply's events in each provider's words."""
    return {
        "bedrock": bedrock_stream(), "cohere": cohere_stream(),
        **{each: list(streamed(each)) for each in ("openai", "anthropic", "gemini")},
    }  # fmt: skip


def streamed(dialect: str) -> Iterable[bytes]:
    """What a client of that dialect would be sent: the same events that a provider of it sends."""
    document = {"stream_options": {"include_usage": True}} if dialect == "openai" else {}
    writer = pair(dialect, "openai").client.stream(asked_of(dialect, document, stream=True))
    whole = b"".join([*(writer.write(each) for each in chunks()), writer.end()])
    mark = b"\r\n\r\n" if dialect == "gemini" else b"\n\n"
    return (event + mark for event in whole.split(mark) if event)


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of CPU of one request, reply or event. `size`: bytes of what is read."""

    what: str
    way: str
    size: int
    median: float
    best: float
    json: float                             # json.loads of the same bytes, median
    orjson: float                           # orjson.loads, median


@dataclass(frozen=True, slots=True)
class Case:
    """What is timed: `once` does `count` of them; `texts` are the bytes that they are about, as JSON."""

    what: str
    way: str
    once: Callable[[], object]
    texts: list[bytes]
    count: int = 1


def cases() -> list[Case]:
    asked, answered, events = requests(), replies(), streams()
    found = []
    for client, document in asked.items():
        found.append(Case("request", f"{client}, client", reading(client, document), [orjson.dumps(document)]))
    for provider in answered:
        found.append(Case("request", f"{provider}, provider", telling(provider), [orjson.dumps(chat())]))
    for provider, document in answered.items():
        found.append(Case("reply", f"{provider}, provider", answered_by(provider, document), [orjson.dumps(document)]))
    for client in asked:
        found.append(Case("reply", f"{client}, client", answering(client), [orjson.dumps(answer())]))
    found += [streaming(client, provider, asked[client], events[provider]) for client, provider in PAIRS]
    found += [passing(dialect, asked[dialect], events[dialect]) for dialect in SAME]
    return [*found, Case("needs", "`needs_of`", lambda: needs_of(asked["openai"], "chat"), [orjson.dumps(asked["openai"])])]


def reading(client: str, document: dict[str, Any]) -> Callable[[], object]:
    codec, asked = pair(client, "openai").client, asked_of(client, document, stream=False)
    return lambda: codec.request(asked)


def telling(provider: str) -> Callable[[], object]:
    codec, ask = pair("openai", provider).provider, ask_of(provider, chat())
    return lambda: codec.request(ask)


def answered_by(provider: str, document: dict[str, Any]) -> Callable[[], object]:
    codec, ask = pair("openai", provider).provider, ask_of(provider, {"messages": []})
    return lambda: codec.reply(document, ask)


def answering(client: str) -> Callable[[], object]:
    codec, asked, reply = pair(client, "openai").client, asked_of(client, {}, stream=False), answer()
    return lambda: codec.reply(reply, asked)


def streaming(client: str, provider: str, document: dict[str, Any], events: list[bytes]) -> Case:
    both = pair(client, provider)
    asked = asked_of(client, document, stream=True)
    ask = ask_of(provider, both.client.request(asked), stream=True)

    def once() -> bytes:
        reader = TranslatingReader(both.provider, both.client, ask, asked)
        out = []
        for event in events:
            reader.event(event)
            out.append(reader.written(event))
        assert reader.complete, provider
        return b"".join([*out, reader.ending()])

    return Case("event", f"{client} ← {provider}", once, texts_of(events), len(events))


def passing(dialect: str, document: dict[str, Any], events: list[bytes]) -> Case:
    """The client's own dialect: its events are read for their meaning and go on as they came."""
    both = pair(dialect, dialect)
    asked = asked_of(dialect, document, stream=True)
    ask = ask_of(dialect, {"messages": []}, stream=True)

    def once() -> object:
        reader = OpenAIReader(1) if dialect == "openai" else ForeignReader(both.provider, both.client, ask, asked)
        for event in events:
            reader.event(event)
        assert reader.complete, dialect
        return reader

    return Case("event", f"{dialect}, as it came", once, texts_of(events), len(events))


def texts_of(events: list[bytes]) -> list[bytes]:
    """The JSON in these events."""
    texts = [event[event.index(b"{") : event.rindex(b"}") + 1] for event in events if b"{" in event]
    return [text for text in texts if is_json(text)]


def is_json(text: bytes) -> bool:
    """A frame's checksum may hold a brace, too."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def micros(once: Callable[[], object], times: int) -> float:
    """CPU time of this thread, a call."""
    began = time.thread_time()
    for _ in range(times):
        once()
    return (time.thread_time() - began) / times * 1e6


def measured(found: list[Case], turns: int, times: int) -> list[Cost]:
    """Each case and both parsers of its bytes, in turns."""
    taken: list[tuple[list[float], list[float], list[float]]] = [([], [], []) for _ in found]
    for _ in range(turns):
        for case, (own, plain, fast) in zip(found, taken, strict=True):
            often = max(1, times // case.count)
            own.append(micros(case.once, often) / case.count)
            plain.append(micros(lambda case=case: [json.loads(text) for text in case.texts], often) / len(case.texts))
            fast.append(micros(lambda case=case: [orjson.loads(text) for text in case.texts], often) / len(case.texts))
    return [
        Cost(
            case.what, case.way, sum(map(len, case.texts)) // len(case.texts),
            statistics.median(own), min(own), statistics.median(plain), statistics.median(fast),
        )
        for case, (own, plain, fast) in zip(found, taken, strict=True)
    ]  # fmt: skip


def told(costs: list[Cost]) -> str:
    head = ["", "bytes", "median, µs", "best, µs", "`json.loads`, µs", "`orjson.loads`, µs", "of `json.loads`"]
    rows = [
        [
            f"{cost.what}: {cost.way}", str(cost.size), f"{cost.median:.1f}", f"{cost.best:.1f}", f"{cost.json:.1f}",
            f"{cost.orjson:.1f}", f"{cost.median / cost.json:.1f}",
        ]
        for cost in costs
    ]  # fmt: skip
    return table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="what translating between dialects costs")
    parser.add_argument("--quick", action="store_true", help="a few seconds: it shows that the benchmark runs")
    parser.add_argument("--json", type=Path, help="all figures, for machines")
    options = parser.parse_args()
    costs = measured(cases(), *((2, 20) if options.quick else (15, 1_000)))
    print(told(costs))
    if options.json is not None:
        options.json.write_text(json.dumps({"costs": [asdict(cost) for cost in costs]}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
