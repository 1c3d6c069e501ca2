"""Gemini's codec beyond its goldens: what goes through both of its sides comes out as it was, and nothing breaks it."""

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mitmgate.dialects.codec import Ask, Asked, Garbled
from mitmgate.dialects.gemini.codec import CLIENTS, PROVIDERS
from mitmgate.dialects.reading import Kind
from mitmgate.errors import Refusal
from mitmgate.sse import EventSplitter, event_data

PROVIDER, EMBEDDINGS, CLIENT = PROVIDERS["chat"], PROVIDERS["embeddings"], CLIENTS["chat"]
FLASH = "gemini-2.5-flash"
SSE = {"alt": "sse"}
STEADY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(STEADY, max_examples=150)


def ask(document: dict[str, Any], *, model: str = FLASH, stream: bool = False) -> Ask:
    return Ask(document, model, stream, "e0", 1_700_000_000)


def asked(document: dict[str, Any], *, model: str = FLASH, stream: bool = False, query: dict[str, str] | None = None) -> Asked:
    return Asked(document, model, stream, "e0", 1_700_000_000, query or {})


def said(*parts: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {"contents": [{"role": role, "parts": list(parts)}]}


def chat(**more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hi"}], **more}


# A grammar of what a client of Google may send.
WORDS = st.text(min_size=1, max_size=12)
NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,9}", fullmatch=True)
NUMBERS = st.integers(-(1 << 53), 1 << 53) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=6), JSON, max_size=3)
DATA = st.sampled_from(["AAAA", "aGk=", "+/+/"])
INLINE = st.sampled_from(["image/png", "image/webp", "audio/wav", "audio/mp3", "application/pdf", "video/mp4", "text/plain"])
ADDRESSES = st.sampled_from(
    [
        ("image/png", "https://example.org/a.png"), ("image/png", "https://example.org/a.jpg?x=1"), ("image/jpeg", "gs://b/c"),
        ("application/pdf", "https://example.org/a.pdf#p"), ("video/mp4", "https://example.org/watch"),
        (None, "https://example.org/f/1"),
    ]
)  # fmt: skip
TEXT_PARTS = st.builds(lambda text: {"text": text}, WORDS)
BESIDE = st.sampled_from([{}, {}, {"videoMetadata": {"fps": 2.0}}, {"mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"}}])
BLOBS = st.builds(lambda media, data, more: {"inlineData": {"mimeType": media, "data": data}, **more}, INLINE, DATA, BESIDE)
FILES = st.builds(
    lambda named, more: {"fileData": {**({"mimeType": named[0]} if named[0] else {}), "fileUri": named[1]}, **more},
    ADDRESSES, BESIDE,
)  # fmt: skip
PROMPTS = st.lists(TEXT_PARTS | BLOBS | FILES, min_size=1, max_size=3)
SIGNED = st.sampled_from([{}, {"thoughtSignature": "c2ln"}])


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    contents = [{"role": "user", "parts": draw(PROMPTS)}]
    for turn in range(draw(st.integers(0, 2))):
        names = draw(st.lists(NAMES, max_size=3))
        parts = [{"text": text, "thought": True} for text in draw(st.lists(WORDS, max_size=1))]
        said = [{"text": text} | draw(SIGNED) for text in draw(st.lists(WORDS, min_size=0 if names else 1, max_size=1))]
        calls = [
            {"functionCall": {"id": f"c{turn}-{at}", "name": name, "args": draw(OBJECTS)}} | draw(SIGNED)
            for at, name in enumerate(names)
        ]
        results = [
            {"functionResponse": {"id": f"c{turn}-{at}", "name": name, "response": draw(OBJECTS)}}
            for at, name in enumerate(names)
        ]
        contents.append({"role": "model", "parts": parts + said + calls})
        contents.append({"role": "user", "parts": results + (draw(PROMPTS) if not results else draw(st.just([]) | PROMPTS))})
    return contents


SCHEMAS = st.sampled_from([{"type": "object", "properties": {"a": {"type": "string"}}}, {"type": "object"}])
DECLARATIONS = st.builds(
    lambda name, text, schema: {"name": name, **text, **schema},
    NAMES, st.just({}) | st.builds(lambda text: {"description": text}, WORDS),
    st.just({}) | st.builds(lambda schema: {"parametersJsonSchema": schema}, SCHEMAS),
)  # fmt: skip
CALLING = st.sampled_from(
    [
        {"mode": "AUTO"}, {"mode": "NONE"}, {"mode": "ANY"}, {"mode": "ANY", "allowedFunctionNames": ["f"]},
        {"mode": "ANY", "allowedFunctionNames": ["f", "g"]}, {"mode": "VALIDATED", "allowedFunctionNames": ["f"]},
    ]
)  # fmt: skip
OF_JSON = {"responseMimeType": "application/json"}
FORMATS = st.sampled_from([{}, OF_JSON, {**OF_JSON, "responseJsonSchema": {"type": "object"}}])
THINKING = st.sampled_from(
    [
        {"thinkingBudget": 0}, {"thinkingBudget": -1, "includeThoughts": True},
        {"thinkingBudget": 2345, "includeThoughts": True},
    ]
)  # fmt: skip
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2), "topP": st.floats(0, 1), "topK": st.integers(1, 40), "seed": st.integers(-5, 1 << 30),
        "maxOutputTokens": st.integers(1, 9999), "stopSequences": st.lists(WORDS, min_size=1, max_size=5),
        "candidateCount": st.integers(1, 8), "presencePenalty": st.floats(-2, 2), "frequencyPenalty": st.floats(-2, 2),
        "responseLogprobs": st.booleans(), "logprobs": st.integers(0, 20), "responseModalities": st.just(["TEXT", "IMAGE"]),
        "thinkingConfig": THINKING,
        "mediaResolution": st.just("MEDIA_RESOLUTION_LOW"), "speechConfig": st.just({"languageCode": "de"}),
    },
)  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    request: dict[str, Any] = {"contents": draw(conversations())}
    if system := draw(st.lists(TEXT_PARTS, max_size=2)):
        request["systemInstruction"] = {"parts": system}
    if declarations := draw(st.lists(DECLARATIONS, max_size=2)):
        request["tools"] = [{"functionDeclarations": declarations}]
        if calling := draw(st.none() | CALLING):
            request["toolConfig"] = {"functionCallingConfig": calling}
    if config := draw(CONFIGS) | draw(FORMATS):
        request["generationConfig"] = config
    return request | draw(
        st.fixed_dictionaries(
            {},
            optional={
                "safetySettings": st.just([{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]),
                "cachedContent": st.just("cachedContents/1"), "labels": st.just({"team": "a"}),
                "serviceTier": st.sampled_from(["standard", "flex", "priority"]),
            },
        )
    )  # fmt: skip


def snake(value: Any) -> Any:
    """Members in snake_case where they are Google's, not the user's."""
    theirs = {"args", "response", "parametersJsonSchema", "responseJsonSchema", "labels"}
    if isinstance(value, list):
        return [snake(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {"".join(f"_{c.lower()}" if c.isupper() else c for c in k): v if k in theirs else snake(v) for k, v in value.items()}


@given(requests())
@STEADY
def test_a_request_goes_through_both_sides(request: dict[str, Any]) -> None:
    before = copy.deepcopy(request)
    canonical = CLIENT.request(asked(request))
    kept = copy.deepcopy(canonical)
    sent = PROVIDER.request(ask(canonical))
    assert sent.document == request == before
    assert canonical == kept
    assert sent.dropped == ()


@given(requests())
@STEADY
def test_names_in_snake_case_are_the_same_names(request: dict[str, Any]) -> None:
    for kept_as_came in ("safetySettings", "generationConfig"):
        request.pop(kept_as_came, None)
    for content in request["contents"]:
        for part in content["parts"]:
            part.pop("videoMetadata", None)
    assert CLIENT.request(asked(snake(request))) == CLIENT.request(asked(request))


@given(conversations())
@STEADY
def test_calls_and_results_without_ids_find_each_other(contents: list[dict[str, Any]]) -> None:
    for content in contents:
        for part in content["parts"]:
            for name in ("functionCall", "functionResponse"):
                part.get(name, {}).pop("id", None)
    sent = PROVIDER.request(ask(CLIENT.request(asked({"contents": contents})))).document["contents"]
    parts = [part for content in sent for part in content["parts"]]
    calls = [part["functionCall"].pop("id") for part in parts if "functionCall" in part]
    results = [part["functionResponse"].pop("id") for part in parts if "functionResponse" in part]
    assert sorted(calls) == sorted(results)
    assert len(set(calls)) == len(calls)
    assert sent == contents


# What Google may answer.
ANSWERS = st.lists(
    TEXT_PARTS
    | st.builds(lambda text: {"text": text, "thought": True}, WORDS)
    | st.builds(lambda name, args, more: {"functionCall": {"name": name, "args": args}, **more}, NAMES, OBJECTS, SIGNED)
    | st.just({"inlineData": {"mimeType": "image/png", "data": "AAAA"}}),
    max_size=6,
)  # fmt: skip
USAGES = st.builds(
    lambda prompt, answer, thoughts, cached: {
        "promptTokenCount": prompt + cached, "candidatesTokenCount": answer,
        "totalTokenCount": prompt + cached + answer + thoughts,
        **({"cachedContentTokenCount": cached} if cached else {}), **({"thoughtsTokenCount": thoughts} if thoughts else {}),
    },
    *[st.integers(0, 999)] * 4,
)  # fmt: skip
ENDS = st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY"])


def heard(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """What a person or a program gets of these parts."""
    calls = [(part["functionCall"] | {"id": ""}, part.get("thoughtSignature")) for part in parts if "functionCall" in part]
    return {
        "text": "".join(part["text"] for part in parts if "text" in part and not part.get("thought")),
        "thoughts": "".join(part["text"] for part in parts if "text" in part and part.get("thought")),
        "calls": calls,
        "images": [part["inlineData"] for part in parts if "inlineData" in part],
    }


def response(parts: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": parts}, "index": 0, **more}
    return {"candidates": [candidate], "modelVersion": FLASH, "responseId": "r"}


@given(ANSWERS, USAGES, ENDS)
@STEADY
def test_a_reply_goes_through_both_sides(parts: list[dict[str, Any]], usage: dict[str, int], end: str) -> None:
    given_reply = response(parts, finishReason=end) | {"usageMetadata": usage}
    before = copy.deepcopy(given_reply)
    written = CLIENT.reply(PROVIDER.reply(given_reply, ask(chat())), asked({}))
    assert given_reply == before
    assert heard(written["candidates"][0]["content"]["parts"]) == heard(parts)
    assert written["candidates"][0]["finishReason"] == end
    assert written["usageMetadata"] == usage
    assert (written["modelVersion"], written["responseId"]) == (FLASH, "r")


def events_of(documents: list[Any]) -> list[bytes]:
    return [f"data: {json.dumps(each)}\r\n\r\n".encode() for each in documents]


def streamed(documents: list[Any], query: dict[str, str]) -> bytes:
    """What a client of Google gets of a stream of Google's."""
    reader, writer = PROVIDER.stream(ask(chat(), stream=True)), CLIENT.stream(asked({}, stream=True, query=query))
    out = [writer.write(chunk) for event in events_of(documents) for chunk in reader.read(event).chunks]
    assert reader.complete
    return b"".join([*out, writer.end()])


@given(st.lists(ANSWERS, min_size=1, max_size=4), USAGES, ENDS, st.booleans())
@STEADY
def test_a_stream_goes_through_both_sides(
    answers: list[list[dict[str, Any]]], usage: dict[str, int], end: str, sse: bool
) -> None:
    documents = [response(parts) for parts in answers]
    documents[-1]["candidates"][0]["finishReason"] = end
    documents[-1]["usageMetadata"] = usage
    written = streamed(documents, SSE if sse else {})
    if sse:
        splitter = EventSplitter()
        found = [json.loads(event_data(event) or b"") for event in splitter.feed(written)]
        assert not splitter.pending
    else:
        found = json.loads(written)
    parts = [part for each in found for part in each["candidates"][0]["content"]["parts"]]
    assert heard(parts) == heard([part for parts in answers for part in parts])
    assert found[-1]["usageMetadata"] == usage
    assert [each["candidates"][0].get("finishReason") for each in found] == [None] * (len(found) - 1) + [end]


# Documents that hold everything once, to be spoilt.
KNOWN = st.sampled_from(
    ["text", "type", "role", "parts", "name", "id", "functionCall", "function", "index", "user", "model", "STOP"]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | KNOWN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KNOWN, inner, max_size=3),
    max_leaves=6,
)
CANONICAL = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ]},
        {
            "role": "assistant", "content": "b", "reasoning_content": "c", "refusal": "d",
            "tool_calls": [
                {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"google": {}}},
            ],
            "images": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}],
        },
        {"role": "tool", "tool_call_id": "t", "content": "{}"},
        {"role": "user", "content": [
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "x"}},
        ]},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "description": "g", "parameters": {}, "strict": True}}],
    "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"function": {"name": "f"}}]}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
    "thinking": {"type": "enabled", "budget_tokens": 9}, "reasoning_effort": "low", "stop": ["x"], "n": 2, "seed": 1,
    "temperature": 1, "logprobs": True, "top_logprobs": 2, "max_tokens": 5, "service_tier": "flex", "modalities": ["text"],
    "extra_body": {"google": {"generation_config": {"speechConfig": {}}, "safety_settings": []}}, "user": "u",
}  # fmt: skip
ASKED = {
    "contents": [
        {"role": "user", "parts": [{"text": "a"}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]},
        {"role": "model", "parts": [
            {"text": "b", "thought": True}, {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "s"},
        ]},
        {"role": "user", "parts": [
            {"functionResponse": {"name": "f", "response": {}}}, {"fileData": {"fileUri": "x", "mimeType": "y"}},
        ]},
    ],
    "systemInstruction": {"parts": [{"text": "c"}]},
    "tools": [
        {"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT", "properties": {"a": {"nullable": True}}}}]},
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
    "generationConfig": {
        "thinkingConfig": {"thinkingBudget": 5, "includeThoughts": True}, "responseSchema": {"type": "STRING", "enum": ["a"]},
        "responseMimeType": "application/json", "responseModalities": ["TEXT"], "stopSequences": ["x"],
    },
    "serviceTier": "flex",
}  # fmt: skip
REPLY = response(
    [{"text": "a"}, {"functionCall": {"name": "f", "args": {}}}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}],
    finishReason="STOP",
    logprobsResult={
        "chosenCandidates": [{"token": "a", "logProbability": -1}], "topCandidates": [{"candidates": [{"token": "a"}]}],
    },
) | {
    "usageMetadata": {"promptTokenCount": 1, "thoughtsTokenCount": 2}, "promptFeedback": {"blockReason": "SAFETY"},
}  # fmt: skip
ERROR = {"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "3s"}]}}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


@st.composite
def spoilt(draw: st.DrawFn, document: dict[str, Any]) -> dict[str, Any]:
    """The document with one or two of its values, keys included, replaced by anything at all."""
    found = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 2))):
        *way, last = draw(st.sampled_from(places(found)[1:] or [("text",)]))
        inner = found
        for key in way:
            inner = inner[key]
        if draw(st.booleans()):
            inner[last] = draw(ANYTHING)
        elif isinstance(inner, dict):
            inner.pop(last, None)
    return found


def tolerate(make: Any) -> Any:
    try:
        return make()
    except (Refusal, Garbled):
        return None


OBJECT = st.dictionaries(st.text(max_size=5), ANYTHING, max_size=3)


@given(spoilt(CANONICAL) | OBJECT, st.sampled_from([FLASH, "gemini-3-pro", "models/gemini-2.5-pro", "gemini-", "", "m"]))
@MANY
def test_no_canonical_request_breaks_it(document: dict[str, Any], model: str) -> None:
    before = repr(document)
    tolerate(lambda: PROVIDER.request(ask(document, model=model)))
    tolerate(lambda: EMBEDDINGS.request(ask(document, model=model)))
    assert repr(document) == before


@given(spoilt(ASKED) | OBJECT)
@MANY
def test_no_request_of_a_client_breaks_it(document: dict[str, Any]) -> None:
    before = repr(document)
    canonical = tolerate(lambda: CLIENT.request(asked(document)))
    if canonical is not None:
        tolerate(lambda: PROVIDER.request(ask(canonical)))
    tolerate(lambda: CLIENT.stream(asked(document)))
    assert repr(document) == before


@given(spoilt(REPLY) | OBJECT)
@MANY
def test_no_reply_breaks_it(document: dict[str, Any]) -> None:
    before = repr(document)
    reply = tolerate(lambda: PROVIDER.reply(document, ask(chat())))
    if reply is not None:
        json.dumps(CLIENT.reply(reply, asked({})))
    tolerate(lambda: EMBEDDINGS.reply(document, ask({"encoding_format": "base64"})))
    assert repr(document) == before


@given(st.lists(spoilt(REPLY) | spoilt(ERROR) | ANYTHING, max_size=3), st.booleans())
@MANY
def test_no_stream_breaks_it(documents: list[Any], sse: bool) -> None:
    reader, writer = PROVIDER.stream(ask(chat(n=2), stream=True)), CLIENT.stream(asked({}, query=SSE if sse else {}))
    for event in events_of(documents):
        step = reader.read(event)
        assert step.kind is not Kind.ERROR or reader.fault_of(event).body
        for chunk in step.chunks:
            writer.write(chunk)
    writer.end()


@given(st.binary(max_size=30))
@STEADY
def test_no_bytes_break_it(raw: bytes) -> None:
    for event in (raw, b"data: " + raw + b"\n\n"):
        PROVIDER.stream(ask(chat())).read(event)
        PROVIDER.stream(ask(chat())).fault_of(event)
    PROVIDER.failed(500, raw)


COMPLETION = {
    "id": "c", "usage": {"prompt_tokens": 1, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 1}},
    "choices": [
        {
            "index": 0, "finish_reason": "stop", "logprobs": {"content": [{"token": "a", "logprob": -1, "top_logprobs": []}]},
            "message": CANONICAL["messages"][2], "delta": CANONICAL["messages"][2],  # type: ignore[index]
        }
    ],
}  # fmt: skip


@given(spoilt(COMPLETION) | OBJECT, st.booleans())
@MANY
def test_no_completion_breaks_the_clients_side(document: dict[str, Any], sse: bool) -> None:
    tolerate(lambda: CLIENT.reply(document, asked({})))
    writer = CLIENT.stream(asked({}, query=SSE if sse else {}))
    tolerate(lambda: writer.write(document))
    tolerate(writer.end)


@pytest.mark.parametrize("depth", [300, 900])
def test_what_is_nested_too_deep_is_refused(depth: int) -> None:
    deep: Any = {}
    for _ in range(depth):
        deep = {"type": "OBJECT", "items": deep}
    with pytest.raises(Refusal):
        CLIENT.request(asked(said({"functionCall": {"name": "f", "args": deep}}, role="model")))
    with pytest.raises(Refusal):
        CLIENT.request(asked({**said({"text": "a"}), "tools": [{"functionDeclarations": [{"name": "f", "parameters": deep}]}]}))
    with pytest.raises(Garbled):
        PROVIDER.reply(response([{"functionCall": {"name": "f", "args": deep}}], finishReason="STOP"), ask(chat()))
    text = '{"a":' * depth + "1" + "}" * depth
    call = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": text}}]}
    with pytest.raises(Refusal):
        PROVIDER.request(ask({"messages": [call]}))
    call["tool_calls"] = [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]
    sent = PROVIDER.request(ask({"messages": [call, {"role": "tool", "tool_call_id": "c", "content": text}]}))
    assert sent.document["contents"][1]["parts"][0]["functionResponse"]["response"] == {"result": text}


@pytest.mark.parametrize(
    ("model", "effort", "config", "applied"),
    [
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}, "minimal"),
        ("gemini-2.5-flash-lite", "none", {"thinkingBudget": 0}, "none"),
        ("gemini-2.5-flash-lite", "minimal", {"thinkingBudget": 512, "includeThoughts": True}, "minimal"),
        ("gemini-2.5-flash", "max", {"thinkingBudget": 16_384, "includeThoughts": True}, "max"),
        ("gemini-3-pro-preview", "none", {"thinkingLevel": "LOW"}, "low"),
        ("gemini-3.1-pro-preview", "minimal", {"thinkingLevel": "LOW", "includeThoughts": True}, "low"),
        ("models/gemini-3-flash-preview", "none", {"thinkingLevel": "MINIMAL"}, "minimal"),
        ("gemini-flash-latest", "xhigh", {"thinkingLevel": "HIGH", "includeThoughts": True}, "high"),
    ],
)
def test_an_effort_that_a_model_lacks_is_the_nearest(model: str, effort: str, config: dict[str, Any], applied: str) -> None:
    sent = PROVIDER.request(ask(chat(reasoning_effort=effort), model=model))
    assert sent.document["generationConfig"]["thinkingConfig"] == config
    assert sent.effort == applied


@pytest.mark.parametrize(("budget", "level"), [(500, "MINIMAL"), (1024, "LOW"), (2000, "MEDIUM"), (30_000, "HIGH")])
def test_a_budget_is_a_level_from_generation_3_on(budget: int, level: str) -> None:
    thinking = {"type": "enabled", "budget_tokens": budget}
    sent = PROVIDER.request(ask(chat(thinking=thinking, reasoning_effort="high"), model="gemini-3-flash"))
    assert sent.document["generationConfig"]["thinkingConfig"] == {"thinkingLevel": level, "includeThoughts": True}


def test_a_budget_stays_within_the_models_range() -> None:
    for model, budget, told in (("gemini-2.5-flash", 99_999, 24_576), ("gemini-2.5-pro", 7, 128)):
        sent = PROVIDER.request(ask(chat(thinking={"type": "enabled", "budget_tokens": budget}), model=model))
        assert sent.document["generationConfig"]["thinkingConfig"]["thinkingBudget"] == told


@pytest.mark.parametrize("model", ["models/../x", "models/a/./b", "models/", "models", "tunedModels//x", ""])
def test_a_models_name_is_no_path(model: str) -> None:
    with pytest.raises(Refusal):
        PROVIDER.request(ask(chat(), model=model))


def test_google_alone_is_told_what_is_googles() -> None:
    google = {"cached_content": "cachedContents/1", "thinking_config": {"thinking_budget": 7}, "contents": [], "tools": []}
    sent = PROVIDER.request(ask(chat(extra_body={"google": google})))
    assert sent.document["cachedContent"] == "cachedContents/1"
    assert sent.document["generationConfig"] == {"thinkingConfig": {"thinking_budget": 7}}
    assert sent.document["contents"] == [{"role": "user", "parts": [{"text": "Hi"}]}]
    assert "tools" not in sent.document
    assert sent.dropped == ("extra_body",)


def test_a_system_message_alone_is_the_prompt() -> None:
    sent = PROVIDER.request(ask({"messages": [{"role": "system", "content": "Greet me."}]}))
    assert sent.document == {"contents": [{"role": "user", "parts": [{"text": "Greet me."}]}]}


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        PROVIDER.request(ask({"messages": [{"role": "user", "content": ""}]}))
    assert refused.value.param == "messages"


def test_a_media_result_stands_beside_its_text() -> None:
    shown = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    answer = {"name": "f", "response": {"a": 1}, "parts": [shown]}
    contents = [
        {"role": "model", "parts": [{"functionCall": {"id": "c", "name": "f", "args": {}}}]},
        {"role": "user", "parts": [{"functionResponse": answer}]},
    ]
    sent = PROVIDER.request(ask(CLIENT.request(asked({"contents": contents})))).document["contents"]
    assert sent[1]["parts"] == [{"functionResponse": {"id": "c", "name": "f", "response": {"a": 1}}}, shown]


def test_url_safe_base64_without_padding_is_standard_afterwards() -> None:
    canonical = CLIENT.request(asked(said({"inlineData": {"mimeType": "image/png", "data": "-_-_-w"}})))
    assert canonical["messages"][0]["content"][0]["image_url"] == {"url": "data:image/png;base64,+/+/+w=="}


def test_openapi_schemas_are_json_schemas_for_others() -> None:
    schema = {
        "type": "OBJECT", "required": ["a"], "property_ordering": ["a", "type"],
        "properties": {
            "a": {"type": "STRING", "nullable": True, "enum": ["x"], "maxLength": "5"},
            "type": {"type": "ARRAY", "items": {"anyOf": [{"type": "INTEGER"}, {"ref": "#/defs/D"}]}, "minItems": 1},
        },
        "defs": {"D": {"nullable": True, "anyOf": [{"type": "NUMBER"}]}},
    }  # fmt: skip
    tools = [{"functionDeclarations": [{"name": "f", "parameters": schema}]}]
    canonical = CLIENT.request(asked({**said({"text": "a"}), "tools": tools}))
    assert canonical["tools"][0]["function"]["parameters"] == {
        "type": "object", "required": ["a"], "propertyOrdering": ["a", "type"],
        "properties": {
            "a": {"type": ["string", "null"], "enum": ["x", None], "maxLength": 5},
            "type": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"$ref": "#/$defs/D"}]}, "minItems": 1},
        },
        "$defs": {"D": {"anyOf": [{"anyOf": [{"type": "number"}]}, {"type": "null"}]}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("delay", "seconds"), [("32s", "32"), ("0.5s", "1"), ("1.000s", "1"), ("soon", None), ("-1s", None), (9, None)]
)
def test_a_delay_of_an_error_is_a_header(delay: object, seconds: str | None) -> None:
    error = {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"@type": "x"}, {"retryDelay": delay}]}
    stream = PROVIDER.stream(ask(chat()))
    for event in (*events_of([{"error": error}]), json.dumps([{"error": error}], indent=1).encode()):
        assert stream.read(event).kind is Kind.ERROR
        fault = stream.fault_of(event)
        assert (fault.status, fault.code) == (429, "rate_limit_exceeded")
        assert fault.headers == ({"retry-after": seconds} if seconds is not None else {})


def test_two_candidates_are_whole_when_both_are() -> None:
    stream = PROVIDER.stream(ask(chat(n=2)))
    first, second = response([{"text": "a"}], finishReason="STOP"), response([{"text": "b"}], finishReason="STOP")
    second["candidates"][0]["index"] = 1
    kinds = []
    for document in (first, second):
        assert not stream.complete
        kinds.append(stream.read(events_of([document])[0]).kind)
    assert stream.complete
    assert kinds == [Kind.CONTENT, Kind.CONTENT]


def test_what_google_runs_itself_passes_as_content() -> None:
    calls = [{"partialArgs": [{}], "willContinue": True}, {}]
    parts = [{"executableCode": {"code": "1"}}, *({"functionCall": call} for call in calls)]
    stream = PROVIDER.stream(ask(chat()))
    steps = [stream.read(event) for event in events_of([response([part]) for part in parts])]
    assert [step.kind for step in steps] == [Kind.CONTENT] * 3


def test_arguments_that_are_no_object_are_a_malformed_call() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": '}}
    for finish, reason in (("tool_calls", "MALFORMED_FUNCTION_CALL"), ("length", "MAX_TOKENS")):
        reply = {"choices": [{"index": 0, "message": {"tool_calls": [call]}, "finish_reason": finish}]}
        assert CLIENT.reply(reply, asked({}))["candidates"] == [
            {"content": {"parts": [], "role": "model"}, "finishReason": reason, "index": 0}
        ]
        writer = CLIENT.stream(asked({}, query=SSE))
        writer.write({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **call}]}, "finish_reason": None}]})
        writer.write({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        last = json.loads(event_data(writer.end()) or b"")
        assert last["candidates"][0]["finishReason"] == reason


def test_thoughts_are_not_shown_to_a_client_that_set_its_thinking_and_did_not_ask() -> None:
    reply = {"choices": [{"message": {"content": "a", "reasoning_content": "b"}, "finish_reason": "stop"}]}
    for config, thoughts in (({"thinkingBudget": 9}, 0), ({"thinkingBudget": 9, "includeThoughts": True}, 1)):
        candidate = CLIENT.reply(reply, asked({"generationConfig": {"thinkingConfig": config}}))["candidates"][0]
        assert len(candidate["content"]["parts"]) == 1 + thoughts


@pytest.mark.parametrize(("query", "media"), [(SSE, "text/event-stream"), ({}, "application/json")])
def test_a_stream_says_its_media_type(query: dict[str, str], media: str) -> None:
    stream: Any = CLIENT.stream(asked({}, query=query))
    assert stream.media == media


def test_embeddings_are_as_many_as_the_texts() -> None:
    with pytest.raises(Garbled):
        EMBEDDINGS.reply({"embeddings": [{"values": [1.0]}]}, ask({"input": ["a", "b"]}))
