"""Every path of the OpenAI API passes to a provider of its dialect; what a path, a body or a dialect decides on the way."""

import io
import json
import random
from contextlib import ExitStack, closing

import httpx
import pytest
from werkzeug.formparser import parse_form_data

from rig import behaviours as does
from rig import foreign
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream

MODEL = {"model": "asked"}
CHAT = {**MODEL, "messages": [{"role": "user", "content": "hello"}]}

PATHS = (
    ("POST", "/chat/completions", CHAT, "chat"),
    ("POST", "/completions", {**MODEL, "prompt": "hello"}, "completions"),
    ("POST", "/embeddings", {**MODEL, "input": "hello"}, "embeddings"),
    ("POST", "/moderations", {**MODEL, "input": "hello"}, "moderation"),
    ("POST", "/moderations", {"input": "hello"}, "moderation"),
    ("POST", "/responses", {**MODEL, "input": "hello"}, "responses"),
    ("GET", "/chat/completions?model=asked&limit=2&metadata[a]=b", None, "other"),
    ("GET", "/chat/completions/chatcmpl-1", None, "other"),
    ("DELETE", "/chat/completions/chatcmpl-1", None, "other"),
    ("GET", "/responses/resp_1", None, "responses"),
    ("DELETE", "/responses/resp_1", None, "responses"),
    ("POST", "/responses/resp_1/cancel", {}, "responses"),
    ("POST", "/images/generations", {**MODEL, "prompt": "a cat"}, "image"),
    ("POST", "/audio/speech", {**MODEL, "input": "hello", "voice": "alloy"}, "speech"),
    ("POST", "/rerank", {**MODEL, "query": "a", "documents": ["b"]}, "rerank"),
    ("GET", "/files", None, "files"),
    ("GET", "/files/file-AbC/content", None, "files"),
    ("DELETE", "/files/file-AbC", None, "files"),
    ("POST", "/batches", {"input_file_id": "file-1", "endpoint": "/v1/chat/completions"}, "batches"),
    ("GET", "/batches?limit=2&after=b_1", None, "batches"),
    ("POST", "/fine_tuning/jobs", {**MODEL, "training_file": "file-1"}, "other"),
    ("GET", "/vector_stores/vs_1/files", None, "other"),
    ("POST", "/assistants", {**MODEL}, "other"),
)


@pytest.fixture(scope="module")
def server(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.echo())


@pytest.fixture(scope="module")
def gate(shared_gateway: StartGateway, server: Upstream) -> Gateway:
    base = f"http://127.0.0.1:{server.port}/base/v1"
    provider = {"dialect": "openai", "base_url": base, "credential": {"value": "sk-up"}}
    claude = {"dialect": "anthropic", "base_url": f"http://127.0.0.1:{server.port}", "credential": {"value": "sk-an"}}
    routes = [
        {"name": "claude", "match": {"model": "claude*"}, "targets": [{"provider": "claude"}]},
        {"name": "renamed", "match": {"model": "from/*"}, "targets": [{"provider": "up", "model": "to-$1"}]},
        {"name": "set", "match": {"model": "tuned"}, "targets": [{"provider": "up"}], "set": {"temperature": 0.25},
         "default": {"seed": 7}},
        {"name": "formed", "match": {"header": {"x-form": "*"}}, "targets": [{"provider": "up", "model": "whisper-large"}]},
        {"name": "rest", "targets": [{"provider": "up"}]},
    ]
    return shared_gateway({"providers": {"up": provider, "claude": claude}, "routes": routes})


def call(gate: Gateway, method: str, path: str, body: object = None, **more: object) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=10) as client:
        return client.request(method, gate.origin + path, json=body, **more) if body is not None else client.request(
            method, gate.origin + path, **more  # type: ignore[arg-type]
        )


@pytest.mark.parametrize(("method", "path", "body", "operation"), PATHS, ids=lambda each: str(each)[:40])
def test_it_passes(gate: Gateway, server: Upstream, method: str, path: str, body: object, operation: str) -> None:
    reply = call(gate, method, "/v1" + path, body)
    assert reply.status_code == 200, reply.text
    seen = server.requests[-1]
    assert (seen.method, seen.path) == (method, "/base/v1" + path)
    assert (json.loads(seen.body) if body is not None else seen.body) == (body if body is not None else b"")
    assert gate.record(reply.headers["x-gateway-request-id"])["operation"] == operation


def test_a_multipart_form_is_routed_by_its_model(gate: Gateway, server: Upstream) -> None:
    form = {"files": {"file": ("a.wav", b"RIFF\r\n--x")}, "data": {"model": "from/whisper"}}
    reply = call(gate, "POST", "/v1/audio/transcriptions", **form)
    assert reply.status_code == 200
    assert reply.headers["x-gateway-route"] == "renamed"
    assert b'name="model"\r\n\r\nto-whisper\r\n' in server.requests[-1].body
    assert b"RIFF\r\n--x" in server.requests[-1].body


@pytest.mark.parametrize("size", [100, 3 << 20], ids=["in memory", "spooled"])
@pytest.mark.parametrize("path", ["/audio/transcriptions", "/images/edits"])
def test_a_form_that_names_no_model_gets_the_targets(gate: Gateway, server: Upstream, path: str, size: int) -> None:
    """At each attempt, and read by a server's own parser."""
    content = random.Random(size).randbytes(size)
    server.script(does.status(503), does.echo())
    form = {"files": {"file": ("a.wav", content)}, "data": {"language": "de"}}
    reply = call(gate, "POST", "/v1" + path, headers={"x-form": "1"}, **form)
    assert (reply.status_code, reply.headers["x-gateway-attempts"]) == (200, "2")
    assert len(server.requests) == 2
    for request in server.requests:
        assert form_of(request) == ([("model", "whisper-large"), ("language", "de")], {"file": content})
    told = gate.record(reply.headers["x-gateway-request-id"])
    assert (told["requested_model"], told["target_model"]) == (None, "whisper-large")


def form_of(request: does.Request) -> tuple[list[tuple[str, str]], dict[str, bytes]]:
    """The fields and the files of a form, as Werkzeug reads them."""
    environ = {
        "wsgi.input": io.BytesIO(request.body), "REQUEST_METHOD": "POST", "CONTENT_TYPE": request.header("content-type"),
        "CONTENT_LENGTH": request.header("content-length"),
    }  # fmt: skip
    _, fields, files = parse_form_data(environ, silent=False)
    with ExitStack() as opened:
        read = {name: opened.enter_context(closing(file)).read() for name, file in files.items(multi=True)}
    return list(fields.items(multi=True)), read


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/chat/completions", "GET, POST"), ("DELETE", "/chat/completions", "GET, POST"), ("GET", "/embeddings", "POST"),
        ("GET", "/completions", "POST"), ("GET", "/audio/transcriptions", "POST"),
    ],
)  # fmt: skip
def test_another_method_is_refused(gate: Gateway, server: Upstream, method: str, path: str, allowed: str) -> None:
    server.forget()
    reply = call(gate, method, "/v1" + path)
    assert (reply.status_code, reply.json()["error"]["code"]) == (405, "method_not_allowed")
    assert reply.headers["allow"] == allowed
    assert server.untouched


@pytest.mark.parametrize("path", ["/chat/completions", "/chat/completions/"])
def test_a_list_takes_no_body(gate: Gateway, server: Upstream, path: str) -> None:
    """A chat in it would go by the rules of a list, to a server that may take it for a chat."""
    server.forget()
    reply = call(gate, "GET", "/v1" + path, CHAT, headers={"x-http-method-override": "POST"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_request")
    assert server.untouched


def test_azures_paths_name_the_model(gate: Gateway, server: Upstream) -> None:
    body = {"messages": CHAT["messages"]}
    path = "/openai/deployments/from%2Dhere/chat/completions?api-version=2024-10-21"
    reply = call(gate, "POST", path, body, headers={"api-key": "clients-own"})
    assert reply.status_code == 200, reply.text
    seen = server.requests[-1]
    assert seen.path == "/base/v1/chat/completions"
    assert json.loads(seen.body) == {"model": "from-here", **body}
    assert b"clients-own" not in b"".join(value for _, value in seen.headers)


def test_a_star_is_put_into_the_target(gate: Gateway, server: Upstream) -> None:
    reply = call(gate, "POST", "/v1/chat/completions", {**CHAT, "model": "from/somewhere/else"})
    assert reply.headers["x-model-used"] == "to-somewhere/else"
    assert json.loads(server.requests[-1].body)["model"] == "to-somewhere/else"


def test_set_and_default(gate: Gateway, server: Upstream) -> None:
    call(gate, "POST", "/v1/chat/completions", {**CHAT, "model": "tuned", "temperature": 1, "seed": 1})
    assert json.loads(server.requests[-1].body) == {**CHAT, "model": "tuned", "temperature": 0.25, "seed": 1}
    call(gate, "POST", "/v1/chat/completions", {**CHAT, "model": "tuned"})
    assert json.loads(server.requests[-1].body) == {**CHAT, "model": "tuned", "temperature": 0.25, "seed": 7}


def test_what_no_codec_could_say_is_501(gate: Gateway, server: Upstream) -> None:
    before = len(server.requests)
    reply = call(gate, "POST", "/v1/embeddings", {"model": "claude-x", "input": "a"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (501, "not_supported")
    assert len(server.requests) == before


def test_the_same_dialect_needs_none(gate: Gateway, server: Upstream) -> None:
    server.script(foreign.anthropic())
    body = {"model": "claude-x", "max_tokens": 5, "messages": CHAT["messages"]}
    reply = call(gate, "POST", "/v1/messages", body, headers={"anthropic-version": "2023-06-01", "x-api-key": "mine"})
    seen = server.requests[-1]
    server.script(does.echo())
    assert reply.status_code == 200, reply.text
    headers = dict(seen.headers)
    assert headers[b"x-api-key"] == b"sk-an"
    assert headers[b"anthropic-version"] == b"2023-06-01"


def test_a_web_sockets_model_stands_in_its_query(gate: Gateway) -> None:
    handshake = {
        "upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    reply = call(gate, "GET", "/v1/realtime?model=from/rt", headers=handshake)
    assert reply.headers["x-gateway-route"] == "renamed"


def test_a_refusal_speaks_the_endpoints_dialect(gate: Gateway) -> None:
    """Anthropic API reference, "Errors"."""
    reply = call(gate, "POST", "/v1/messages", {"model": 5})
    assert reply.status_code == 400
    assert reply.json()["type"] == "error"
    assert reply.json()["error"]["type"] == "invalid_request_error"
