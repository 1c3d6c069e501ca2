"""Every client package before every provider's dialect: whole and streamed, with tools, with failover, through both ways in."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types

from rig import behaviours as does
from rig import clients, foreign
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream

PROVIDERS = {"openai": "/v1", "anthropic": "", "gemini": "/v1beta"}
ANSWERS = {"openai": foreign.openai, "anthropic": foreign.anthropic, "gemini": foreign.gemini}
KEYS = {"openai": "authorization", "anthropic": "x-api-key", "gemini": "x-goog-api-key"}
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "gemini": "/v1beta/models/"}
NAME, GIVEN = foreign.CALL
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.fixture(scope="module")
def upstreams(shared_upstream: StartUpstream) -> dict[str, Upstream]:
    return {name: shared_upstream(ANSWERS[name]()) for name in PROVIDERS}


@pytest.fixture(scope="module")
def gate(shared_gateway: StartGateway, upstreams: dict[str, Upstream]) -> Gateway:
    """A model for each provider, and one for each that falls back to the next."""
    providers: dict[str, Any] = {
        f"of-{name}": {"dialect": name, "base_url": f"http://127.0.0.1:{upstreams[name].port}{base}", "zone": "internal",
                       "credential": {"value": f"secret-of-{name}"}}
        for name, base in PROVIDERS.items()
    }  # fmt: skip
    retry = {"retry": {"max": 0}}
    models = {name: {"targets": [{"provider": f"of-{name}", "model": f"{name}-model"}], **retry} for name in PROVIDERS}
    names = list(PROVIDERS)
    for at, name in enumerate(names):
        then = names[(at + 1) % len(names)]
        targets = [{"provider": f"of-{each}", "model": f"{each}-model"} for each in (name, then)]
        models[f"{name}-then-{then}"] = {"targets": targets, **retry}
    return shared_gateway({"intercept": ["api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com"],
                           "providers": providers, "models": models})  # fmt: skip


class Told:
    """What a client package made of a reply: the same words whichever it was."""

    def __init__(self, text: str, calls: list[tuple[str, Any]], finish: str, tokens: tuple[int, int]) -> None:
        self.text, self.calls, self.finish, self.tokens = text, calls, finish, tokens

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Told) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return repr(vars(self))


class OpenAIClient:
    broken = (openai.APIError,)

    def __init__(self, gateway: Gateway, way: str) -> None:
        self.package = getattr(clients, way)(gateway)

    def close(self) -> None:
        self.package.close()

    def ask(self, model: str, *, stream: bool, tools: bool) -> Told:
        given: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        if tools:
            given["tools"] = [{"type": "function", "function": {"name": NAME, "parameters": SCHEMA}}]
        if stream:
            with self.package.chat.completions.stream(**given, stream_options={"include_usage": True}) as events:
                whole = events.get_final_completion()
        else:
            whole = self.package.chat.completions.create(**given)
        assert whole.model == model         # the client's own word, whoever answered
        choice, usage = whole.choices[0], whole.usage
        calls = [(each.function.name, json.loads(each.function.arguments)) for each in choice.message.tool_calls or ()]
        used = (usage.prompt_tokens, usage.completion_tokens)
        return Told(choice.message.content or "", calls, str(choice.finish_reason), used)


class AnthropicClient:
    broken = (anthropic.APIError,)

    def __init__(self, gateway: Gateway, way: str) -> None:
        if way == "direct":
            connect = anthropic.DefaultHttpxClient(trust_env=False)
            base = gateway.base_url.removesuffix("/v1")
        else:
            connect = anthropic.DefaultHttpxClient(proxy=gateway.proxy_url, verify=clients.trust(gateway), trust_env=False)
            base = "https://api.anthropic.com"
        self.package = anthropic.Anthropic(base_url=base, api_key=clients.CLIENT_KEY, max_retries=0, http_client=connect)

    def close(self) -> None:
        self.package.close()

    def ask(self, model: str, *, stream: bool, tools: bool) -> Told:
        given: dict[str, Any] = {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
        if tools:
            given["tools"] = [{"name": NAME, "input_schema": SCHEMA}]
        if stream:
            with self.package.messages.stream(**given) as events:
                whole = events.get_final_message()
        else:
            whole = self.package.messages.create(**given)
        assert whole.model == model
        text = "".join(block.text for block in whole.content if block.type == "text")
        calls = [(block.name, block.input) for block in whole.content if block.type == "tool_use"]
        used = (whole.usage.input_tokens, whole.usage.output_tokens)
        return Told(text, calls, {"end_turn": "stop", "tool_use": "tool_calls"}[str(whole.stop_reason)], used)


class GeminiClient:
    broken = (genai_errors.APIError, ValueError)

    def __init__(self, gateway: Gateway, way: str) -> None:
        options: dict[str, Any] = {"trust_env": False}
        base = gateway.base_url.removesuffix("/v1")
        if way == "proxied":
            options |= {"proxy": gateway.proxy_url, "verify": clients.trust(gateway)}
            base = "https://generativelanguage.googleapis.com"
        self.connect = httpx.Client(**options, timeout=20)
        http = genai_types.HttpOptions(base_url=base, httpx_client=self.connect)
        self.package = genai.Client(api_key=clients.CLIENT_KEY, http_options=http)

    def close(self) -> None:
        self.package.close()
        self.connect.close()

    def ask(self, model: str, *, stream: bool, tools: bool) -> Told:
        declared = genai_types.FunctionDeclaration(name=NAME, parameters_json_schema=SCHEMA)
        config = genai_types.GenerateContentConfig(
            tools=[genai_types.Tool(function_declarations=[declared])] if tools else None,
            automatic_function_calling=genai_types.AutomaticFunctionCallingConfig(disable=True),
        )
        if stream:
            pieces = list(self.package.models.generate_content_stream(model=model, contents="hello", config=config))
        else:
            pieces = [self.package.models.generate_content(model=model, contents="hello", config=config)]
        assert {piece.model_version for piece in pieces if piece.model_version} == {model}
        parts = [part for piece in pieces for part in (piece.candidates[0].content.parts or () if piece.candidates and
                 piece.candidates[0].content else ())]  # fmt: skip
        calls = [(part.function_call.name, part.function_call.args) for part in parts if part.function_call]
        finish = next(str(piece.candidates[0].finish_reason.name) for piece in reversed(pieces)
                      if piece.candidates and piece.candidates[0].finish_reason)  # fmt: skip
        usage = next(piece.usage_metadata for piece in reversed(pieces) if piece.usage_metadata)
        used = (usage.prompt_token_count, usage.candidates_token_count)
        told = {"STOP": "tool_calls" if calls else "stop"}[finish]
        return Told("".join(part.text or "" for part in parts), calls, told, used)


CLIENTS = {"openai": OpenAIClient, "anthropic": AnthropicClient, "gemini": GeminiClient}


@pytest.fixture(params=["direct", "proxied"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, gate: Gateway, way: str) -> Iterator[Any]:
    made = CLIENTS[request.param](gate, way)
    yield made
    made.close()


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("tools", [False, True], ids=["text", "tool"])
def test_what_is_asked_and_answered(
    client: Any, upstreams: dict[str, Upstream], provider: str, stream: bool, tools: bool
) -> None:
    upstream = upstreams[provider]
    upstream.script(ANSWERS[provider](call=tools))
    found = client.ask(provider, stream=stream, tools=tools)
    if tools:
        assert found == Told("", [(NAME, GIVEN)], "tool_calls", (11, 7))
    else:
        assert found == Told(foreign.TEXT, [], "stop", (11, 7))
    asked = upstream.requests[-1]
    assert asked.path.startswith(PATHS[provider])
    assert f"secret-of-{provider}" in (asked.header(KEYS[provider]) or "")
    assert clients.CLIENT_KEY not in repr(asked.headers) + asked.body.decode()
    assert "hello" in asked.body.decode()
    assert f"{provider}-model" in asked.path + asked.body.decode()
    if tools:
        assert NAME in asked.body.decode()


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_next_target_speaks_another_dialect(
    client: Any, upstreams: dict[str, Upstream], provider: str, stream: bool
) -> None:
    names = list(PROVIDERS)
    then = names[(names.index(provider) + 1) % len(names)]
    upstreams[provider].script(does.status(503))
    upstreams[then].script(ANSWERS[then]())
    assert client.ask(f"{provider}-then-{then}", stream=stream, tools=False) == Told(foreign.TEXT, [], "stop", (11, 7))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_stream_that_is_cut_is_never_whole(client: Any, upstreams: dict[str, Upstream], provider: str) -> None:
    upstreams[provider].script(ANSWERS[provider](cut={"openai": 2, "anthropic": 4, "gemini": 1}[provider]))
    with pytest.raises((*client.broken, StopIteration, RuntimeError)) as caught:
        client.ask(provider, stream=True, tools=False)
    assert caught.value


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_providers_error_is_told_in_the_clients_words(
    client: Any, upstreams: dict[str, Upstream], provider: str
) -> None:
    errors = {
        "openai": {"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}},
        "anthropic": {"type": "error", "error": {"type": "invalid_request_error", "message": "too long"}},
        "gemini": {"error": {"code": 400, "message": "too long", "status": "INVALID_ARGUMENT"}},
    }
    upstreams[provider].script(does.answer(errors[provider], 400))
    with pytest.raises(client.broken) as caught:
        client.ask(provider, stream=False, tools=False)
    assert "too long" in str(caught.value)
    assert getattr(caught.value, "status_code", getattr(caught.value, "code", None)) == 400
