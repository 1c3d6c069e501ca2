"""What right rules become: every key, the defaults."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from written import rules

from mitmgate.rules.addresses import Address
from mitmgate.rules.loader import load
from mitmgate.rules.positions import RulesError
from mitmgate.rules.schema import Credential, Tunnel

FULL = """\
version: 1
listen: {proxy: "[::1]:0", admin: localhost:8081, hosts: [gateway.corp]}
intercept: [api.openai.com, "*.openai.azure.com"]
tunnel: {allow: ["*.corp"], deny: [evil.corp]}
unmatched: refuse
access: keys
egress: {proxy: http://proxy.corp:3128, credential: {file: proxy.key}, no_proxy: ["*.corp"], ca: corp.pem}
ca: {certificate: ca.pem, key: ca.key, previous: [old.pem]}
limits: {request_body: 1MiB, response_body: 2KiB, upload: 1GiB, concurrency: 20, connections: 30,
         connections_per_client: 4, in_flight_bytes: 100B, headers: 8KiB, drain: 500ms, body_idle: 5s, body_total: 2m}
providers:
  openai:
  claude: {dialect: anthropic, base_url: https://api.anthropic.com, credential: {env: ANTHROPIC_API_KEY}}
  azure-eu: {dialect: azure, base_url: https://x.openai.azure.com, api_version: 2024-10-21, credential: [{file: a}, {env: B}]}
  local: {base_url: http://10.0.0.7:8000/v1, zone: internal, headers: {x-team: ml}, ca: ca.pem, client_cert: me.pem,
          proxy: none, credential: {value: secret-in-file}, region: eu, project: p, base_model: llama, disabled: true}
  own: {base_url: http://localhost:1/v1, credential: client}
  simulator: {dialect: simulator}
models:
  fast/4.1: {targets: [{provider: openai}], capabilities: [tools, json], context_window: 128000, reasoning: medium,
             price: {input: 0.15, output: 1}}
routes:
  - name: drafts
    match:
      host: api.openai.com
      path: /v1/*
      operation: [chat, embeddings]
      model: ["gpt-4o-mini*", gpt-3.5-turbo]
      header: {x-env: staging, x-team: [a, b]}
      client: 10.1.2.3/8
    strategy: weighted
    targets:
      - {provider: openai, model: $1, weight: 3}
      - {provider: claude, model: claude-haiku-4-5, weight: 0.5, priority: 1}
    fallback: [{provider: simulator}]
    retry: {max: 0, on: [connect, 408, "429", 5xx], backoff: {base: 1s, max: 2m}}
    timeout: {connect: 5s, first_token: 30s, idle: 1m, total: 1h, duration: none}
    set: {temperature: 0.2, stop: null, response_format: {type: json_object}, n: [1, true]}
    default: {user: yes}
"""


def test_every_key(tmp_path: Path) -> None:
    loaded = rules(tmp_path, main=FULL)
    assert loaded.listen.proxy == Address("::1", 0)
    assert str(loaded.listen.proxy) == "[::1]:0"
    assert loaded.listen.admin == Address("localhost", 8081)
    assert loaded.listen.hosts == ("gateway.corp",)
    assert loaded.intercept == ("api.openai.com", "*.openai.azure.com")
    assert loaded.tunnel == Tunnel(allow=("*.corp",), deny=("evil.corp",))
    assert (loaded.unmatched, loaded.access, loaded.access_written) == ("refuse", "keys", True)
    assert loaded.egress is not None
    assert loaded.egress.model_dump() == {
        "proxy": "http://proxy.corp:3128", "no_proxy": ("*.corp",), "ca": "corp.pem",
        "credential": {"env": None, "file": "proxy.key", "value": None, "client": False, "vault": None},
    }
    assert loaded.ca is not None
    assert loaded.ca.model_dump() == {"certificate": "ca.pem", "key": "ca.key", "previous": ("old.pem",)}
    assert loaded.limits.model_dump() == {
        "request_body": 1 << 20, "response_body": 2048, "upload": 1 << 30, "concurrency": 20, "connections": 30,
        "connections_per_client": 4, "in_flight_bytes": 100, "headers": 8192, "drain": 0.5,
        "body_idle": 5.0, "body_total": 120.0,
    }
    providers = loaded.providers
    assert list(providers) == ["openai", "claude", "azure-eu", "local", "own", "simulator"]
    assert providers["openai"].dialect is None
    assert providers["openai"].credential is None
    assert providers["azure-eu"].api_version == "2024-10-21"
    assert providers["azure-eu"].credential == (Credential(file="a"), Credential(env="B"))
    assert providers["own"].credential == Credential(client=True)
    assert providers["local"].credential == Credential(value=SecretStr("secret-in-file"))
    assert providers["local"].headers == {"x-team": "ml"}
    assert (providers["local"].proxy, providers["local"].disabled, providers["local"].zone) == ("none", True, "internal")
    model = loaded.models["fast/4.1"]
    assert (model.capabilities, model.context_window, model.reasoning) == (("tools", "json"), 128_000, "medium")
    assert model.price is not None
    assert (model.price.input, model.price.output) == (0.15, 1.0)
    (route,) = loaded.routes
    assert route.match.model_dump() == {
        "host": ("api.openai.com",), "path": ("/v1/*",), "operation": ("chat", "embeddings"),
        "model": ("gpt-4o-mini*", "gpt-3.5-turbo"), "header": {"x-env": ("staging",), "x-team": ("a", "b")},
        "client": ("10.1.2.3/8",), "project": (), "tenant": (), "tag": {}, "task": (), "when": None, "exclude": None,
    }
    assert [(t.provider, t.model, t.weight, t.priority) for t in route.targets] == [
        ("openai", "$1", 3.0, 0), ("claude", "claude-haiku-4-5", 0.5, 1)
    ]
    assert [t.provider for t in route.fallback] == ["simulator"]
    assert route.retry.model_dump() == {
        "max": 0, "on": ("connect", "408", "429", "5xx"), "backoff": {"base": 1.0, "max": 120.0}
    }
    assert route.timeout.model_dump() == {
        "connect": 5.0, "first_token": 30.0, "idle": 60.0, "total": 3600.0, "duration": None
    }
    assert route.force == {
        "temperature": 0.2, "stop": None, "response_format": {"type": "json_object"}, "n": [1, True]
    }
    assert route.default == {"user": "yes"}     # YAML 1.2: `yes` is text


def test_the_defaults_of_the_design(tmp_path: Path) -> None:
    loaded = rules(tmp_path, main="version: 1\n")
    assert (str(loaded.listen.proxy), str(loaded.listen.admin)) == ("127.0.0.1:8080", "127.0.0.1:8081")
    assert (loaded.unmatched, loaded.access, loaded.access_written) == ("pass", "open", False)
    assert (loaded.intercept, loaded.egress, loaded.ca) == (None, None, None)
    assert loaded.tunnel.model_dump() == {"allow": ("*",), "deny": (), "governed": False}
    assert loaded.limits.model_dump() == {
        "request_body": 64 << 20, "response_body": 64 << 20, "upload": 512 << 20, "concurrency": 2000,
        "connections": 10_000, "connections_per_client": 1000, "in_flight_bytes": 1 << 30, "headers": 64 << 10, "drain": 30.0,
        "body_idle": 30.0, "body_total": 600.0,
    }
    assert (loaded.providers, loaded.models, loaded.routes) == ({}, {}, ())


def test_the_defaults_of_a_route(tmp_path: Path) -> None:
    loaded = rules(tmp_path, main="version: 1\nproviders: {openai: }\nroutes: [{name: a, targets: [{provider: openai}]}]\n")
    (route,) = loaded.routes
    assert not any(route.match.model_dump().values())
    assert (route.strategy, route.fallback, route.force, route.default) == ("fallback", (), {}, {})
    assert route.targets[0].model_dump() == {
        "provider": "openai", "model": None, "weight": 1.0, "priority": 0, "base_model": None, "max_concurrency": None,
        "force": {}, "default": {},
    }
    assert route.retry.model_dump() == {
        "max": 2, "on": ("connect", "timeout", "408", "409", "429", "5xx"), "backoff": {"base": 0.5, "max": 8.0}
    }
    assert not any(route.timeout.model_dump().values())


def test_tunnel_governed_as_a_word(tmp_path: Path) -> None:
    assert rules(tmp_path, main="version: 1\ntunnel: governed\n").tunnel.governed is True


@pytest.mark.parametrize("access", ["open", "keys"])
def test_beyond_loopback_when_access_is_written(tmp_path: Path, access: str) -> None:
    loaded = rules(tmp_path, main=f"version: 1\nlisten: {{proxy: 0.0.0.0:8080}}\naccess: {access}\n")
    assert loaded.access_written


class Row:
    """A row of a vendor table."""

    def __init__(self, base_url: str | None) -> None:
        self.base_url, self.variable = base_url, "KEY"


def test_a_vendor_whose_address_differs_per_customer(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("version: 1\nproviders: {openai: , azure: }\n")
    with pytest.raises(RulesError) as caught:
        load(tmp_path, {}, {"openai": Row("https://api.openai.com/v1"), "azure": Row(None)})
    assert [str(p) for p in caught.value.problems] == [
        "a.yaml:2:23: providers.azure.base_url: missing: mitmgate knows no address for `azure`"
    ]


def test_rules_cannot_be_changed(tmp_path: Path) -> None:
    loaded = rules(tmp_path, a="version: 1\n")
    with pytest.raises(ValidationError):
        loaded.access = "keys"
    with pytest.raises(TypeError):
        loaded.where["x"] = "y"  # type: ignore[index]
