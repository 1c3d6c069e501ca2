"""What a target of another dialect is asked: where, with which headers, in which words; who is not asked at all, and why."""

from typing import Any

import orjson
import pytest
from calls import CHAT, JSON, OPENAI, House, call

from mitmgate.dialects.asking import adds_usage, reader_of
from mitmgate.dialects.reading import Kind
from mitmgate.errors import Refusal
from mitmgate.exchange import Attempt, Exchange, Origin, UpstreamRequest
from mitmgate.pipeline import Pipeline, execute
from mitmgate.runtime import Snapshot
from mitmgate.stages.stamp import stamp

PROVIDERS = """
providers:
  claude: {credential: {value: key-claude}, headers: {X-Team: ml}}
  claude-v1: {dialect: anthropic, base_url: "https://a.example/v1/", credential: {value: k}}
  claude-below: {dialect: anthropic, base_url: "https://a.example/proxy", credential: {value: k}}
  dated: {dialect: anthropic, base_url: "https://a.example", credential: {value: k},
          headers: {Anthropic-Version: "2099-01-01", content-type: "application/json; x=1", User-Agent: ours}}
  gemini: {credential: {value: key-gemini}}
  vertex: {base_url: "https://eu-aiplatform.googleapis.com/v1/projects/p/locations/eu/publishers/google", credential: {value: ya29.t}}
  cohere: {credential: {value: key-cohere}}
  bedrock: {base_url: "https://bedrock-runtime.eu-west-1.amazonaws.com", credential: {value: key-bedrock}}
  openai: {credential: {value: key-openai}}
  groq: {credential: {value: key-groq}}
  mistral: {credential: {value: key-mistral}}
  mine: {dialect: openai, base_url: "https://mine.example/v1", credential: {value: k}}
  azure: {base_url: "https://x.openai.azure.com", api_version: "2024-10-21", credential: {value: key-azure}}
  azure-v1: {dialect: azure, base_url: "https://x.openai.azure.com", credential: {value: k}}
  azure-openai: {dialect: azure, base_url: "https://x.openai.azure.com/openai", credential: {value: k}}
  azure-openai-v1: {dialect: azure, base_url: "https://x.openai.azure.com/openai/v1/", credential: {value: k}}
  azure-behind: {dialect: azure, base_url: "https://apim.example/team/openai", api_version: "2024-10-21", credential: {value: k}}
"""  # noqa: E501
KEYS = "authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "x-amz-security-token"
ORIGINAL = Origin("https", "api.anthropic.com", 443)


def to(house: House, *targets: str, more: str = "", rules: str = "") -> Snapshot:
    """Rules whose one route `m` has these targets, written `provider` or `provider/model`; `more` of the route's keys."""
    listed = []
    for each in targets:
        provider, _, model = each.partition("/")
        listed.append(f'{{provider: {provider}, model: "{model}"}}' if model else f"{{provider: {provider}}}")
    route = f"routes: [{{name: m, match: {{model: m}}, targets: [{', '.join(listed)}]{more}}}]\n"
    return house.snapshot(PROVIDERS + route + rules)


async def asked(exchange: Exchange, services: Snapshot, position: int = 0) -> UpstreamRequest:
    """What the target at this position is sent, after the whole pipeline."""
    if exchange.plan is None:
        await execute(Pipeline().inbound, exchange, services)
    exchange.position = position
    await execute(Pipeline().attempt, exchange, services)
    assert exchange.upstream is not None
    return exchange.upstream


async def refused(exchange: Exchange, services: Snapshot) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await asked(exchange, services)
    return caught.value


def chat(model: str = "m", **members: Any) -> Exchange:
    return call(body={**CHAT, "model": model, **members})


def message(model: str = "m", **members: Any) -> Exchange:
    document = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **members}
    return call("/v1/messages", document, {"anthropic-version": "2023-06-01"})


def responses(model: str = "m", path: str = "/v1/responses", **members: Any) -> Exchange:
    return call(path, {"model": model, "input": "hi", **members})


def attempt(exchange: Exchange) -> Attempt:
    assert exchange.attempt is not None
    return exchange.attempt


def named(request: UpstreamRequest) -> dict[str, str]:
    names = [name for name, _ in request.headers]
    assert sorted(names) == sorted(set(names)), "a header is sent twice"
    return dict(request.headers)


def body(request: UpstreamRequest) -> Any:
    assert request.body is not None
    assert request.splice is None
    return orjson.loads(request.body)


def planned(exchange: Exchange) -> list[str]:
    assert exchange.plan is not None
    return [target.key for target in exchange.plan.targets]


def dropped(exchange: Exchange) -> dict[str, str]:
    """The targets that are not in the plan, each with its reason."""
    assert exchange.plan is not None
    return {each.target.key: each.reason for each in exchange.plan.dropped}


# Where and how

HI = {"role": "user", "content": "hi"}
ASKED = {
    "claude/claude-sonnet-4-5": (
        "https://api.anthropic.com", "/v1/messages", {"anthropic-version": "2023-06-01", "x-team": "ml"},
        ("x-api-key", "key-claude"),
        {"model": "claude-sonnet-4-5", "max_tokens": 20, "temperature": 0.5,
         "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
    ),
    "gemini/gemini-2.5-flash": (
        "https://generativelanguage.googleapis.com", "/v1beta/models/gemini-2.5-flash:generateContent", {},
        ("x-goog-api-key", "key-gemini"),
        {"contents": [{"role": "user", "parts": [{"text": "hi"}]}],
         "generationConfig": {"maxOutputTokens": 20, "temperature": 0.5}},
    ),
    "vertex/gemini-2.5-flash": (
        "https://eu-aiplatform.googleapis.com",
        "/v1/projects/p/locations/eu/publishers/google/models/gemini-2.5-flash:generateContent", {},
        ("authorization", "Bearer ya29.t"),
        {"contents": [{"role": "user", "parts": [{"text": "hi"}]}],
         "generationConfig": {"maxOutputTokens": 20, "temperature": 0.5}},
    ),
    "cohere/command-a-03-2025": (
        "https://api.cohere.com", "/v2/chat", {}, ("authorization", "Bearer key-cohere"),
        {"model": "command-a-03-2025", "messages": [HI], "max_tokens": 20, "temperature": 0.5, "stream": False},
    ),
    "bedrock/amazon.nova-lite-v1:0": (
        "https://bedrock-runtime.eu-west-1.amazonaws.com", "/model/amazon.nova-lite-v1%3A0/converse", {},
        ("authorization", "Bearer key-bedrock"),
        {"messages": [{"role": "user", "content": [{"text": "hi"}]}], "inferenceConfig": {"maxTokens": 20, "temperature": 0.5}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("target", ASKED)
async def test_a_chat_in_the_targets_own_words(house: House, target: str) -> None:
    origin, path, own, credential, document = ASKED[target]
    client = dict.fromkeys(KEYS, "sk-client") | {"anthropic-version": "1999-01-01", "anthropic-beta": "b", "x-goog-x": "y",
              "openai-organization": "o", "x-gateway-x": "1", "x-custom": "c", "connection": "close", "te": "trailers",
              "content-encoding": "identity", "accept": "text/html", "host": "gateway"}  # fmt: skip
    kept = {"user-agent": "OpenAI/Python 2", "traceparent": "00-1", "accept-language": "fr"}
    exchange = call("/v1/chat/completions?key=sk-client&a=b", {**CHAT, "model": "m", "max_tokens": 20, "temperature": 0.5},
                    {**client, **kept})  # fmt: skip
    upstream = await asked(exchange, to(house, target))
    assert (upstream.method, str(upstream.origin), upstream.target) == ("POST", origin, path)
    assert named(upstream) == {**kept, "content-type": "application/json", **own, "accept-encoding": "identity"}
    assert exchange.credential == (credential,)
    assert body(upstream) == document
    assert "sk-client" not in repr((upstream, exchange.credential))
    assert (attempt(exchange).translated, attempt(exchange).dropped, attempt(exchange).effort) == (True, (), None)


STREAMED = {
    "claude/claude-sonnet-4-5": ("/v1/messages", {"stream": True}),
    "gemini/gemini-2.5-flash": ("/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", {}),
    "cohere/command-a-03-2025": ("/v2/chat", {"stream": True}),
    "bedrock/amazon.nova-lite-v1:0": ("/model/amazon.nova-lite-v1%3A0/converse-stream", {}),
}


@pytest.mark.parametrize("target", STREAMED)
async def test_a_stream_in_the_targets_own_words(house: House, target: str) -> None:
    path, members = STREAMED[target]
    upstream = await asked(chat(stream=True, stream_options={"include_usage": True}), to(house, target))
    assert upstream.target == path
    assert {"stream": body(upstream).get("stream")} == {"stream": members.get("stream")}
    assert "stream_options" not in body(upstream)


@pytest.mark.parametrize(
    ("provider", "path"),
    [("claude", "/v1/messages"), ("claude-v1", "/v1/messages"), ("claude-below", "/proxy/v1/messages")],
)
@pytest.mark.parametrize("exchange", [chat, message])
async def test_a_base_url_with_and_without_its_version(house: House, provider: str, path: str, exchange: Any) -> None:
    """Asked in translation and passed on alike."""
    assert (await asked(exchange(), to(house, f"{provider}/c"))).target == path


@pytest.mark.parametrize("exchange", [chat, message])
async def test_a_providers_own_headers_come_before_all_others(house: House, exchange: Any) -> None:
    """Before the codec's and before the client's, and none of them twice."""
    made = exchange()
    made.header_fields = (*made.header_fields, ("user-agent", "theirs"))
    told = named(await asked(made, to(house, "dated/c")))
    assert told["anthropic-version"] == "2099-01-01"
    assert (told["content-type"], told["user-agent"]) == ("application/json; x=1", "ours")


async def test_a_second_attempt_is_in_its_own_words(house: House) -> None:
    exchange = chat(stream=True, logit_bias={"5": 1}, reasoning_effort="high")
    services = to(house, "claude/claude-sonnet-4-5", "openai/gpt-5", "gemini/gemini-2.5-pro")
    first, second, third = [await asked(exchange, services, position) for position in range(3)]
    assert (first.target, second.target) == ("/v1/messages", "/v1/chat/completions")
    assert third.target == "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse"
    assert [each.translated for each in exchange.attempts] == [True, False, True]
    assert [each.dropped for each in exchange.attempts] == [("logit_bias",), (), ("logit_bias",)]
    assert [each.effort for each in exchange.attempts] == ["high", None, "high"]
    assert exchange.credential == (("x-goog-api-key", "key-gemini"),)
    assert "key-claude" not in repr(third)
    assert "anthropic-version" not in named(second) | named(third)


async def test_what_was_dropped_and_the_effort_are_told(house: House) -> None:
    exchange = chat(seed=1, logit_bias={"5": 1}, reasoning_effort="low")
    await asked(exchange, to(house, "claude/claude-sonnet-4-5"))
    told = dict(stamp(exchange))
    assert told["x-gateway-dropped"] == "seed, logit_bias"
    assert told["x-gateway-reasoning-effort"] == "low"


async def test_nothing_dropped_is_not_told(house: House) -> None:
    exchange = chat()
    await asked(exchange, to(house, "claude/claude-sonnet-4-5"))
    told = dict(stamp(exchange))
    assert "x-gateway-dropped" not in told
    assert told["x-gateway-reasoning-effort"] == "none"


# Rules

async def test_set_and_default_are_the_canonical_forms(house: House) -> None:
    """Of the route, then of the target, before the codec: so they are said in each target's own words."""
    rules = """
routes:
  - name: m
    match: {model: m}
    set: {temperature: 0.2, stop: [a]}
    default: {top_p: 0.5, max_tokens: 7, seed: 3}
    targets: [{provider: gemini, model: g, set: {temperature: 0.3}, default: {max_tokens: 8}}, {provider: cohere, model: c}]
"""
    services = house.snapshot(PROVIDERS + rules)
    exchange = chat(temperature=0.9, top_p=0.25)
    config = body(await asked(exchange, services))["generationConfig"]
    assert config == {"temperature": 0.3, "topP": 0.25, "seed": 3, "maxOutputTokens": 8, "stopSequences": ["a"]}
    second = body(await asked(exchange, services, 1))
    assert {name: second[name] for name in ("temperature", "p", "seed", "max_tokens", "stop_sequences")} == {
        "temperature": 0.2, "p": 0.25, "seed": 3, "max_tokens": 7, "stop_sequences": ["a"],
    }  # fmt: skip


async def test_a_default_fills_what_an_anthropic_client_leaves_open(house: House) -> None:
    """Its `stop` is called otherwise, and is there."""
    services = to(house, "openai/gpt-4o", more=", default: {stop: [b], temperature: 0.1}, set: {user: u}")
    told = body(await asked(message(stop_sequences=["a"]), services))
    assert (told["stop"], told["temperature"], told["user"]) == (["a"], 0.1, "u")


async def test_strict_refuses_what_cannot_be_told(house: House) -> None:
    services = to(house, "claude/claude-sonnet-4-5", "gemini/gemini-2.5-flash", more=", strict: true")
    refusal = await refused(chat(logit_bias={"5": 1}, store=True), services)
    assert (refusal.code, refusal.status, refusal.param) == ("capability_missing", 400, "logit_bias")
    assert "claude/claude-sonnet-4-5" in refusal.message
    assert "`logit_bias`" in refusal.message
    assert "`store`" in refusal.message


async def test_strict_leaves_those_that_can_be_told(house: House) -> None:
    services = to(house, "claude/claude-sonnet-4-5", "gemini/gemini-2.5-flash", more=", strict: true")
    exchange = chat(seed=4)
    await asked(exchange, services)
    assert planned(exchange) == ["gemini/gemini-2.5-flash"]
    assert "`seed`" in dropped(exchange)["claude/claude-sonnet-4-5"]


@pytest.mark.parametrize("members", [{"logit_bias": {"5": 1}}, {"top_logprobs": 2, "logprobs": True}])
async def test_strict_is_strict_with_a_vendor_of_ones_own_dialect_too(house: House, members: dict[str, Any]) -> None:
    services = to(house, "groq/llama-3.3-70b-versatile", "openai/gpt-4o", more=", strict: true")
    exchange = chat(**members)
    await asked(exchange, services)
    assert planned(exchange) == ["openai/gpt-4o"]
    assert "cannot be told" in dropped(exchange)["groq/llama-3.3-70b-versatile"]


async def test_the_gateways_own_members_are_no_loss(house: House) -> None:
    """Not told, not stamped as dropped, and no reason for `strict` to refuse."""
    exchange = chat(min_reasoning_level="low", project_id="p", gateflow={"tags": {"a": "b"}})
    upstream = await asked(exchange, to(house, "claude/claude-sonnet-4-5", more=", strict: true"))
    assert set(body(upstream)) == {"model", "messages", "max_tokens"}
    assert attempt(exchange).dropped == ()


# Who cannot be asked

FILE = [{"role": "user", "content": [{"type": "file", "file": {"file_url": "https://x.example/a.pdf"}}]}]


@pytest.mark.parametrize("first", [True, False])
async def test_a_target_that_cannot_be_told_is_left_out_with_its_reason(house: House, first: bool) -> None:
    targets = ["claude/claude-sonnet-4-5", "gemini/gemini-2.5-flash"]
    exchange = chat(n=2)
    await asked(exchange, to(house, *(targets if first else reversed(targets))))
    assert planned(exchange) == ["gemini/gemini-2.5-flash"]
    assert dropped(exchange) == {"claude/claude-sonnet-4-5": "Anthropic gives one answer."}


async def test_fallbacks_are_judged_alike(house: House) -> None:
    exchange = chat(n=2)
    await asked(exchange, to(house, "openai/gpt-4o", more=", fallback: [{provider: claude, model: claude-sonnet-4-5}]"))
    assert (planned(exchange), list(dropped(exchange))) == (["openai/gpt-4o"], ["claude/claude-sonnet-4-5"])


async def test_nobody_can_be_told(house: House) -> None:
    refusal = await refused(chat(n=2), to(house, "claude/a", "claude-v1/b"))
    assert (refusal.code, refusal.status, refusal.param) == ("capability_missing", 400, "n")


async def test_what_nobody_understands_is_invalid(house: House) -> None:
    refusal = await refused(chat(messages=[{"role": "alien", "content": "hi"}]), to(house, "claude/a", "cohere/b"))
    assert (refusal.code, refusal.status, refusal.param) == ("invalid_request", 400, "messages[0]")


async def test_the_clients_own_dialect_may_understand_what_no_codec_does(house: House) -> None:
    """A block that Anthropic will introduce: its own target gets it as it came, the other is left out."""
    exchange = message(messages=[{"role": "user", "content": [{"type": "hologram", "data": "…"}]}])
    upstream = await asked(exchange, to(house, "claude/claude-sonnet-4-5", "openai/gpt-4o"))
    assert body(upstream)["messages"][0]["content"] == [{"type": "hologram", "data": "…"}]
    assert (planned(exchange), list(dropped(exchange))) == (["claude/claude-sonnet-4-5"], ["openai/gpt-4o"])


async def test_what_no_codec_understands_is_told_when_nobody_is_left(house: House) -> None:
    exchange = message(messages=[{"role": "user", "content": [{"type": "hologram"}]}])
    refusal = await refused(exchange, to(house, "openai/gpt-4o", "gemini/g"))
    assert (refusal.code, refusal.status) == ("invalid_request", 400)


async def test_nobody_speaks_the_operation(house: House) -> None:
    refusal = await refused(call("/v1/moderations", {"model": "m", "input": "hi"}), to(house, "claude/a", "gemini/b"))
    assert (refusal.code, refusal.status) == ("not_supported", 501)


async def test_a_cached_content_lies_at_google(house: House) -> None:
    document = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "cachedContent": "cachedContents/1"}
    exchange = call("/v1beta/models/m:generateContent", document)
    await asked(exchange, to(house, "claude/c", "gemini/g"))
    assert (planned(exchange), dropped(exchange)) == (
        ["gemini/g"], {"claude/c": "`cachedContent` lies at the provider that made it."},
    )  # fmt: skip


# Who cannot do it

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]}]
SOUND = [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}]}]
BLIND, SEEING = "openai/gpt-3.5-turbo", "openai/gpt-4o"


@pytest.mark.parametrize(
    ("lacking", "able", "members", "words"),
    [
        ("openai/o1-mini", SEEING, {"tools": TOOLS}, "has no tool calling"),
        ("openai/gpt-4", SEEING, {"response_format": {"type": "json_object"}}, "has no JSON mode"),
        (BLIND, SEEING, {"response_format": SCHEMA}, "cannot answer by a JSON schema"),
        (BLIND, SEEING, {"messages": IMAGE}, "has no vision"),
        (SEEING, "gemini/gemini-2.5-flash", {"messages": SOUND}, "takes no audio"),
        (SEEING, "openai/gpt-5", {"min_reasoning_level": "high"}, "its reasoning tier is low, below high"),
        (SEEING, "claude/claude-sonnet-4-5", {"min_reasoning_level": "medium"}, "its reasoning tier is low, below medium"),
        ("openai/gpt-4", SEEING, {"max_tokens": 8_192}, "its context window of 8192 tokens is smaller than"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
async def test_a_target_that_cannot_do_it_is_left_out(
    house: House, first: bool, lacking: str, able: str, members: dict[str, Any], words: str
) -> None:
    exchange = chat(**members)
    await asked(exchange, to(house, *((lacking, able) if first else (able, lacking))))
    assert planned(exchange) == [able]
    assert list(dropped(exchange)) == [lacking]
    assert words in dropped(exchange)[lacking]


async def test_what_is_not_known_is_not_lacking(house: House) -> None:
    exchange = chat(messages=IMAGE, tools=TOOLS, min_reasoning_level="high")
    await asked(exchange, to(house, "mine/nobody-knows-it", "openai/gpt-3.5-turbo"))
    assert planned(exchange) == ["mine/nobody-knows-it"]


async def test_nobody_can_do_it(house: House) -> None:
    refusal = await refused(
        chat(messages=IMAGE, tools=TOOLS), to(house, BLIND, more=", fallback: [{provider: openai, model: o1-mini}]")
    )
    assert (refusal.code, refusal.status) == ("capability_missing", 400)
    assert refusal.message == (
        "No target can do what this request needs (tool calling, vision): openai/gpt-3.5-turbo has no vision; "
        "openai/o1-mini has no tool calling and has no vision."
    )


@pytest.mark.parametrize(
    ("described", "members", "able"),
    [
        ("capabilities: [tools]", {"tools": TOOLS}, True),
        ("capabilities: [tools]", {"messages": IMAGE}, False),
        ("capabilities: [vision]", {"messages": IMAGE}, True),
        ("capabilities: [vision]", {"tools": TOOLS}, False),
        ("capabilities: [json]", {"response_format": SCHEMA}, False),
        ("capabilities: [json_schema]", {"response_format": {"type": "json_object"}}, True),
        ("reasoning: low", {"min_reasoning_level": "medium"}, False),
        ("reasoning: high", {"min_reasoning_level": "medium"}, True),
        ("context_window: 100", {"max_tokens": 200}, False),
        ("context_window: 10000", {"max_tokens": 200}, True),
    ],
)
async def test_the_rules_know_better(house: House, described: str, members: dict[str, Any], able: bool) -> None:
    """Under `models:`, for a model that the catalogue knows as well as for one that it does not."""
    for model in ("mine/nobody-knows-it", BLIND):
        provider, _, name = model.partition("/")
        services = house.snapshot(
            f"{PROVIDERS}models: {{m: {{targets: [{{provider: {provider}, model: {name}}}], {described}}}}}"
        )
        exchange = chat(**members)
        if able:
            await asked(exchange, services)
            assert planned(exchange) == [model]
        else:
            assert (await refused(exchange, services)).code == "capability_missing"


async def test_a_deployment_can_what_its_base_model_can(house: House) -> None:
    services = house.snapshot(PROVIDERS + """
routes:
  - name: m
    match: {model: m}
    targets: [{provider: azure, model: gpt-4o, base_model: gpt-3.5-turbo}, {provider: azure, model: d, base_model: gpt-4o}]
""")  # fmt: skip
    exchange = chat(messages=IMAGE)
    await asked(exchange, services)
    assert (planned(exchange), list(dropped(exchange))) == (["azure/d"], ["azure/gpt-4o"])


@pytest.mark.parametrize(("words", "able"), [(8_000, True), (8_300, False)])
async def test_a_prompt_is_counted(house: House, words: int, able: bool) -> None:
    """8,192 tokens fit into `gpt-4`; a word of one letter after a space is one."""
    exchange = chat(messages=[{"role": "user", "content": " a" * words}])
    await asked(exchange, to(house, "openai/gpt-4", SEEING))
    assert planned(exchange) == (["openai/gpt-4", SEEING] if able else [SEEING])


async def test_a_prompt_that_nobody_has_room_for(house: House) -> None:
    exchange = chat(messages=[{"role": "user", "content": " a" * 20_000}])
    refusal = await refused(exchange, to(house, "openai/gpt-4", BLIND))
    assert refusal.code == "capability_missing"
    for part in ("context window", "8192", "16385", "openai/gpt-4 ", f"{BLIND} "):
        assert part in refusal.message


@pytest.mark.parametrize("level", ["highest", "", 3, {"a": 1}])
async def test_a_reasoning_level_that_is_none(house: House, level: Any) -> None:
    refusal = await refused(chat(min_reasoning_level=level), to(house, "openai/gpt-5"))
    assert (refusal.code, refusal.param) == ("invalid_request", "min_reasoning_level")


@pytest.mark.parametrize("dialect", ["messages", "responses", "gemini"])
async def test_every_clients_needs_are_read(house: House, dialect: str) -> None:
    """An image in whatever words, and tools."""
    source = {"type": "base64", "media_type": "image/png", "data": "aGk="}
    inlined = {"inlineData": {"mimeType": "image/png", "data": "aGk="}}
    exchange = {
        "messages": lambda: message(messages=[{"role": "user", "content": [{"type": "image", "source": source}]}]),
        "responses": lambda: responses(
            input=[{"role": "user", "content": [{"type": "input_image", "image_url": "https://x.example/a.png"}]}]
        ),
        "gemini": lambda: call("/v1beta/models/m:generateContent", {"contents": [{"role": "user", "parts": [inlined]}]}),
    }[dialect]()
    await asked(exchange, to(house, BLIND, SEEING))
    assert (planned(exchange), list(dropped(exchange))) == ([SEEING], [BLIND])


@pytest.mark.parametrize("make", [chat, message, responses])
async def test_every_client_may_ask_for_a_reasoning_level(house: House, make: Any) -> None:
    exchange = make(min_reasoning_level="high")
    upstream = await asked(exchange, to(house, SEEING, "claude/claude-sonnet-4-5"))
    assert planned(exchange) == ["claude/claude-sonnet-4-5"]
    assert "min_reasoning_level" not in body(upstream)


async def test_the_original_destination_is_never_left_out(house: House) -> None:
    """Whatever the catalogue thinks of its model, and whatever else is in the body."""
    members = {"messages": IMAGE, "tools": TOOLS, "min_reasoning_level": "whatever", "project_id": "p", "gateflow": 1}
    raw = orjson.dumps({"model": "gpt-3.5-turbo", **members})
    exchange = call("/v1/chat/completions", raw, JSON, direct=False)
    upstream = await asked(exchange, house.snapshot(PROVIDERS))
    assert (upstream.origin, upstream.body, upstream.splice) == (OPENAI, None, None)
    assert (exchange.raw, dropped(exchange)) == (raw, {})


# Azure

CHATS = "/chat/completions"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("azure/dep", f"/openai/deployments/dep{CHATS}?api-version=2024-10-21"),
        ("azure/gpt 4/o?x#y:z%é", f"/openai/deployments/gpt%204%2Fo%3Fx%23y%3Az%25%C3%A9{CHATS}?api-version=2024-10-21"),
        ("azure-v1/dep", f"/openai/v1{CHATS}"),
        ("azure-openai/dep", f"/openai/v1{CHATS}"),
        ("azure-openai-v1/dep", f"/openai/v1{CHATS}"),
        ("azure-behind/dep", f"/team/openai/deployments/dep{CHATS}?api-version=2024-10-21"),
    ],
)
@pytest.mark.parametrize("exchange", [chat, message])
async def test_azures_addresses(house: House, exchange: Any, target: str, path: str) -> None:
    """The same whether the body passes or is a codec's."""
    made = exchange()
    upstream = await asked(made, to(house, target))
    assert upstream.target == path
    assert body(upstream)["model"] == target.partition("/")[2]
    assert attempt(made).translated is (exchange is message)


async def test_azure_takes_a_key_or_a_token(house: House) -> None:
    exchange = chat()
    await asked(exchange, to(house, "azure/dep"))
    assert exchange.credential == (("api-key", "key-azure"),)
    rules = PROVIDERS.replace("value: key-azure", "value: eyJ0.token")
    exchange = chat()
    route = "routes: [{name: m, match: {model: m}, targets: [{provider: azure, model: d}]}]"
    await asked(exchange, house.snapshot(rules + route))
    assert exchange.credential == (("authorization", "Bearer eyJ0.token"),)


@pytest.mark.parametrize(
    ("target", "query", "sent"),
    [
        ("azure/d", "?a=b", "a=b&api-version=2024-10-21"),
        ("azure/d", "?api-version=1999-01-01&a=b", "a=b&api-version=2024-10-21"),
        ("azure/d", "?API-Version=1999-01-01&key=sk-secret&a=b%20c", "a=b+c&api-version=2024-10-21"),
        ("azure-v1/d", "?api-version=preview", "api-version=preview"),
        ("azure-v1/d", "", ""),
    ],
)
async def test_azures_version_is_the_rules(house: House, target: str, query: str, sent: str) -> None:
    upstream = await asked(call(CHATS.join(("/v1", query)), {**CHAT, "model": "m"}), to(house, target))
    assert upstream.target.partition("?")[2] == sent


async def test_an_azure_clients_deployment_becomes_the_targets(house: House) -> None:
    exchange = call(f"/openai/deployments/m{CHATS}?api-version=1999-01-01", {"messages": [HI]})
    services = to(house, "azure/dep", "azure-v1/dep", "openai/gpt-4o")
    assert (await asked(exchange, services)).target == f"/openai/deployments/dep{CHATS}?api-version=2024-10-21"
    assert (await asked(exchange, services, 1)).target == f"/openai/v1{CHATS}"
    assert (await asked(exchange, services, 2)).target == f"/v1{CHATS}"


@pytest.mark.parametrize(
    ("path", "document", "expected"),
    [
        ("/v1/embeddings", {"input": "hi"}, "/openai/deployments/dep/embeddings"),
        ("/v1/images/generations", {"prompt": "hi"}, "/openai/deployments/dep/images/generations"),
        ("/v1/audio/speech", {"input": "hi", "voice": "v"}, "/openai/deployments/dep/audio/speech"),
        ("/v1/responses", {"input": "hi"}, "/openai/responses"),
    ],
)
async def test_which_of_azures_operations_stand_below_a_deployment(
    house: House, path: str, document: dict[str, Any], expected: str
) -> None:
    upstream = await asked(call(path, {"model": "m", **document}), to(house, "azure/dep"))
    assert upstream.target == f"{expected}?api-version=2024-10-21"


# Gemini and Vertex, whose paths name model and method

GENERATE = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "futureField": {"a": 1.0}}
VERTEX = "/v1/projects/mine/locations/us/publishers/google/models"


@pytest.mark.parametrize("method", ["generateContent", "countTokens", "embedContent", "streamGenerateContent?alt=sse"])
@pytest.mark.parametrize("path", ["/v1beta/models", VERTEX, "/v1/models"])
@pytest.mark.parametrize(
    ("provider", "base"),
    [("gemini", "/v1beta"), ("vertex", "/v1/projects/p/locations/eu/publishers/google")],
)
async def test_geminis_own_dialect_passes(house: House, provider: str, base: str, path: str, method: str) -> None:
    """To the target's model, in the path alone: the body goes as it came, with what is not known here."""
    raw = b'{ "contents":[{"parts":[ {"text":"hi"}]}],"futureField":{"a":1.0} }'
    exchange = call(f"{path}/m:{method}", raw, {**JSON, "x-goog-api-key": "sk-client"})
    upstream = await asked(exchange, to(house, f"{provider}/gemini-2.5-flash"))
    assert upstream.target == f"{base}/models/gemini-2.5-flash:{method}"
    assert (upstream.body, upstream.splice) == (None, None)
    assert not attempt(exchange).translated
    assert "sk-client" not in repr((upstream, exchange.credential))


async def test_the_key_of_a_geminis_query_stays_here(house: House) -> None:
    exchange = call("/v1beta/models/m:streamGenerateContent?alt=sse&key=sk-client", {**GENERATE})
    upstream = await asked(exchange, to(house, "gemini/g"))
    assert upstream.target == "/v1beta/models/g:streamGenerateContent?alt=sse"
    assert exchange.credential == (("x-goog-api-key", "key-gemini"),)


async def test_a_tuned_model_stays_one(house: House) -> None:
    services = house.snapshot(PROVIDERS + "routes: [{name: m, match: {model: mine-1}, targets: [{provider: gemini}]}]")
    upstream = await asked(call("/v1beta/tunedModels/mine-1:generateContent", {**GENERATE}), services)
    assert upstream.target == "/v1beta/tunedModels/mine-1:generateContent"


async def test_a_gemini_stream_that_is_an_array_is_written_by_its_codec(house: House) -> None:
    exchange = call("/v1beta/models/m:streamGenerateContent", {**GENERATE})
    upstream = await asked(exchange, to(house, "gemini/g"))
    assert upstream.target == "/v1beta/models/g:streamGenerateContent?alt=sse"
    assert attempt(exchange).translated


async def test_a_gemini_call_at_another_provider(house: House) -> None:
    exchange = call("/v1beta/models/m:streamGenerateContent?alt=sse&key=sk-client", {**GENERATE})
    upstream = await asked(exchange, to(house, "openai/gpt-4o"))
    told = body(upstream)
    assert (upstream.target, told["model"], told["stream"]) == (f"/v1{CHATS}", "gpt-4o", True)
    assert told["stream_options"] == {"include_usage": True}
    assert "sk-client" not in repr((upstream, exchange.credential))


# The Responses API

async def test_responses_pass_to_who_has_them(house: House) -> None:
    exchange = responses(previous_response_id="resp_1", include=["x"])
    upstream = await asked(exchange, to(house, "openai/gpt-5"))
    assert upstream.target == "/v1/responses"
    assert body(upstream) == {"model": "gpt-5", "input": "hi", "previous_response_id": "resp_1", "include": ["x"]}
    assert not attempt(exchange).translated


@pytest.mark.parametrize(
    ("target", "path"),
    [("mistral/mistral-large-latest", f"/v1{CHATS}"), ("claude/claude-sonnet-4-5", "/v1/messages"),
     ("gemini/gemini-2.5-flash", "/v1beta/models/gemini-2.5-flash:generateContent")],
)  # fmt: skip
async def test_responses_are_chats_where_there_are_none(house: House, target: str, path: str) -> None:
    exchange = responses()
    upstream = await asked(exchange, to(house, target))
    assert upstream.target == path
    assert "input" not in body(upstream)
    assert attempt(exchange).translated


@pytest.mark.parametrize("path", ["/v1/responses/input_tokens", "/v1/responses/compact", "/v1/responses/resp_1/cancel"])
async def test_what_is_no_response_is_not_asked_as_one(house: House, path: str) -> None:
    """Counting an input's tokens must not become an answer to it."""
    refusal = await refused(responses(path=path), to(house, "claude/claude-sonnet-4-5", "mistral/mistral-large-latest"))
    assert (refusal.code, refusal.status) == ("not_supported", 501)
    exchange = responses(path=path)
    assert (await asked(exchange, to(house, "claude/c", "openai/gpt-5"))).target == path


# Embeddings and ranking

async def test_embeddings(house: House) -> None:
    exchange = call("/v1/embeddings", {"model": "m", "input": ["a", "b"], "dimensions": 256})
    services = to(house, "gemini/gemini-embedding-001", "cohere/embed-v4.0", "claude/c", "openai/text-embedding-3-small")
    first, second, third = [await asked(exchange, services, position) for position in range(3)]
    assert first.target == "/v1beta/models/gemini-embedding-001:batchEmbedContents"
    assert [each["content"]["parts"] for each in body(first)["requests"]] == [[{"text": "a"}], [{"text": "b"}]]
    assert (second.target, body(second)["texts"], body(second)["model"]) == ("/v2/embed", ["a", "b"], "embed-v4.0")
    assert (third.target, body(third)["input"]) == ("/v1/embeddings", ["a", "b"])
    assert dropped(exchange) == {"claude/c": "it does not speak the dialect of this request"}


async def test_ranking(house: House) -> None:
    exchange = call("/v1/rerank", {"model": "m", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1})
    upstream = await asked(exchange, to(house, "cohere/rerank-v3.5"))
    assert upstream.target == "/v2/rerank"
    told = body(upstream)
    assert (told["model"], told["query"], told["documents"], told["top_n"]) == ("rerank-v3.5", "q", ["a", "b"], 1)


# Vendors that call it otherwise

async def test_a_vendors_words(house: House) -> None:
    exchange = chat(max_completion_tokens=5, seed=6, stream=True, stream_options={"include_usage": True})
    upstream = await asked(exchange, to(house, "mistral/mistral-large-latest"))
    assert body(upstream) == {
        "model": "mistral-large-latest", "messages": CHAT["messages"], "max_tokens": 5, "random_seed": 6, "stream": True,
    }  # fmt: skip
    assert attempt(exchange).dropped == ()


async def test_what_a_vendor_refuses_is_left_out_and_told(house: House) -> None:
    messages = [{"role": "user", "content": "hi", "name": "bob"}]
    exchange = chat(messages=messages, logit_bias={"5": 1}, logprobs=True, top_logprobs=2, user="u")
    upstream = await asked(exchange, to(house, "groq/llama-3.3-70b-versatile"))
    assert body(upstream) == {"model": "llama-3.3-70b-versatile", "messages": [HI], "user": "u"}
    assert dict(stamp(exchange))["x-gateway-dropped"] == "logit_bias, logprobs, top_logprobs, name"


async def test_a_client_that_names_the_very_model_knows_its_vendor(house: House) -> None:
    """The body goes byte for byte."""
    services = house.snapshot(PROVIDERS + "routes: [{name: m, match: {model: mixtral}, targets: [{provider: mistral}]}]")
    exchange = chat("mixtral", max_completion_tokens=5, seed=6)
    upstream = await asked(exchange, services)
    assert (upstream.body, upstream.splice, attempt(exchange).dropped) == (None, None, ())


async def test_a_rules_own_words_are_a_vendors_too(house: House) -> None:
    more = ", set: {seed: 7}, default: {max_completion_tokens: 8}"
    upstream = await asked(chat(), to(house, "mistral/mistral-large-latest", more=more))
    assert (body(upstream)["random_seed"], body(upstream)["max_tokens"]) == (7, 8)


@pytest.mark.parametrize("member", ["min_reasoning_level", "project_id", "gateflow"])
@pytest.mark.parametrize("model", ["m", "same"])
async def test_the_gateways_own_members_stay_here(house: House, member: str, model: str) -> None:
    values = {"min_reasoning_level": "low", "project_id": "p", "gateflow": {"tags": {"a": "b"}}}
    rules = PROVIDERS + """
routes:
  - {name: m, match: {model: m}, targets: [{provider: openai, model: gpt-5}]}
  - {name: same, match: {model: same}, targets: [{provider: mine}]}
"""
    exchange = chat(model, **{member: values[member]}, futureField=1)
    upstream = await asked(exchange, house.snapshot(rules))
    expected = {"model": "gpt-5" if model == "m" else "same", "messages": CHAT["messages"], "futureField": 1}
    assert body(upstream) == expected
    assert attempt(exchange).dropped == ()


async def test_the_gateways_own_members_stay_here_in_anthropics_dialect(house: House) -> None:
    upstream = await asked(message(gateflow={"tags": {"a": "b"}}, future=1), to(house, "claude/claude-sonnet-4-5"))
    assert set(body(upstream)) == {"model", "max_tokens", "messages", "future"}


# The usage of a stream

@pytest.mark.parametrize(
    ("options", "hidden"),
    [({}, True), ({"stream_options": {"include_usage": False, "x": 1}}, True), ({"stream_options": None}, True),
     ({"stream_options": {"include_usage": True}}, False)],
)  # fmt: skip
async def test_a_streams_usage_is_asked_for_and_hidden(house: House, options: dict[str, Any], hidden: bool) -> None:
    exchange = chat(stream=True, **options)
    upstream = await asked(exchange, to(house, "openai/gpt-4o"))
    told = body(upstream)["stream_options"]
    assert told == {**(options.get("stream_options") or {}), "include_usage": True}
    target = attempt(exchange).target
    assert adds_usage(exchange, target) is hidden
    reader = reader_of(exchange, target, 1)
    event = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
    assert reader.event(event) is Kind.OTHER
    assert reader.written(event) == (b"" if hidden else event)
    assert (reader.tokens_input, reader.tokens_output) == (3, 4)


@pytest.mark.parametrize(
    ("make", "target"),
    [
        (lambda: chat(), "openai/gpt-4o"),
        (lambda: chat(stream=True), "mistral/mistral-large-latest"),
        (lambda: responses(stream=True), "openai/gpt-4o"),
    ],
    ids=["not streamed", "a vendor that tells it anyway", "an API that always tells it"],
)
async def test_where_no_usage_is_asked_for(house: House, make: Any, target: str) -> None:
    exchange = make()
    assert "stream_options" not in body(await asked(exchange, to(house, target)))


async def test_the_original_destination_is_not_asked_for_usage(house: House) -> None:
    exchange = call(CHATS.join(("/v1", "")), {**CHAT, "stream": True}, direct=False)
    upstream = await asked(exchange, house.snapshot(PROVIDERS))
    assert upstream.body is None
    assert not adds_usage(exchange, attempt(exchange).target)
