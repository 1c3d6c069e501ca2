"""What right rules become: values, defaults, several files, the environment, places."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from mitmgate.rules.addresses import Address
from mitmgate.rules.loader import load
from mitmgate.rules.positions import RulesError
from mitmgate.rules.schema import Credential, Rules, Tunnel

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
         connections_per_client: 4, in_flight_bytes: 100B, headers: 8KiB, drain: 500ms}
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


def rules(folder: Path, environ: Mapping[str, str] | None = None, **files: str) -> Rules:
    """Load the files, each given by its name without `.yaml`."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8", newline="")
    return load(folder, environ or {}, ("openai", "groq"))


def problems(folder: Path, environ: Mapping[str, str] | None = None, **files: str) -> list[str]:
    with pytest.raises(RulesError) as caught:
        rules(folder, environ, **files)
    return [str(problem) for problem in caught.value.problems]


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
        "credential": {"env": None, "file": "proxy.key", "value": None, "client": False},
    }
    assert loaded.ca is not None
    assert loaded.ca.model_dump() == {"certificate": "ca.pem", "key": "ca.key", "previous": ("old.pem",)}
    assert loaded.limits.model_dump() == {
        "request_body": 1 << 20, "response_body": 2048, "upload": 1 << 30, "concurrency": 20, "connections": 30,
        "connections_per_client": 4, "in_flight_bytes": 100, "headers": 8192, "drain": 0.5,
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
        "client": ("10.1.2.3/8",),
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
    }
    assert (loaded.providers, loaded.models, loaded.routes) == ({}, {}, ())


def test_the_defaults_of_a_route(tmp_path: Path) -> None:
    loaded = rules(tmp_path, main="version: 1\nproviders: {openai: }\nroutes: [{name: a, targets: [{provider: openai}]}]\n")
    (route,) = loaded.routes
    assert not any(route.match.model_dump().values())
    assert (route.strategy, route.fallback, route.force, route.default) == ("fallback", (), {}, {})
    assert route.targets[0].model_dump() == {
        "provider": "openai", "model": None, "weight": 1.0, "priority": 0, "base_model": None
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


@pytest.mark.parametrize(
    "provider",
    [
        "{base_url: http://127.0.0.2:8000, credential: {env: A}}",
        "{base_url: 'http://[::1]:8000', credential: {env: A}}",
        "{base_url: http://10.0.0.7, credential: {env: A}, zone: internal}",
        "{base_url: http://10.0.0.7}",
        "{base_url: https://10.0.0.7, credential: {env: A}}",
    ],
)
def test_where_a_credential_may_go(tmp_path: Path, provider: str) -> None:
    assert rules(tmp_path, main=f"version: 1\nproviders:\n  own: {provider}\n").providers["own"].base_url


def test_the_vendors_own_credential_counts_too(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, main="version: 1\nproviders:\n  openai: {base_url: http://api.openai.com/v1}\n")
    assert found.startswith("main.yaml:3:22: providers.openai.base_url: a credential would travel in clear text")


class Row:
    """A row of a vendor table."""

    def __init__(self, base_url: str | None) -> None:
        self.base_url = base_url


def test_a_vendor_whose_address_differs_per_customer(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("version: 1\nproviders: {openai: , azure: }\n")
    with pytest.raises(RulesError) as caught:
        load(tmp_path, {}, {"openai": Row("https://api.openai.com/v1"), "azure": Row(None)})
    assert [str(p) for p in caught.value.problems] == [
        "a.yaml:2:23: providers.azure.base_url: missing: mitmgate knows no address for `azure`"
    ]


# -- several files: maps merge, lists append in the order of the names

def test_files_merge(tmp_path: Path) -> None:
    loaded = rules(
        tmp_path,
        **{
            "20-b": "providers: {groq: {}}\nroutes:\n- {name: second, targets: [{provider: openai}]}\nlimits: {drain: 1s}\n",
            "10-a": "version: 1\nroutes:\n\n- {name: first, targets: [{provider: groq}]}\nlimits: {upload: 1MiB}\n",
            "30-c": "providers:\n  openai:\nroutes:\n",
            "40-empty": "# nothing\n",
            "50-void": "",
            ".hidden": "version: [",
        },
    )
    assert [route.name for route in loaded.routes] == ["first", "second"]
    assert sorted(loaded.providers) == ["groq", "openai"]
    assert (loaded.limits.upload, loaded.limits.drain) == (1 << 20, 1.0)
    assert loaded.where["routes[0]"] == "10-a.yaml:4"
    assert loaded.where["routes[1]"] == "20-b.yaml:3"
    assert loaded.where["providers.openai"] == "30-c.yaml:2"
    assert loaded.where["limits.drain"] == "20-b.yaml:4"


def test_only_files_directly_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "teams").mkdir()
    (tmp_path / "teams" / "x.yaml").write_text("nonsense: [")
    (tmp_path / "notes.txt").write_text("nonsense: [")
    assert rules(tmp_path, a="version: 1\n").version == 1


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ("version: 1\n", "b.yaml:1:1: version: given twice, first at a.yaml:1:1"),
        ("access: keys\n", "b.yaml:1:1: access: given twice, first at a.yaml:2:1"),
        ("providers:\n  openai: {region: eu}\n", "b.yaml:2:3: providers.openai: given twice, first at a.yaml:3:13"),
        ("models: {m: {targets: [{provider: openai}]}}\n", "b.yaml:1:10: models.m: given twice, first at a.yaml:4:10"),
        ("routes: [{name: r, targets: [{provider: openai}]}]\n",
         "b.yaml:1:17: routes[1].name: the name `r` is given twice, first at a.yaml:5:17"),
        ("limits: {drain: 1s}\n", "b.yaml:1:10: limits.drain: given twice, first at a.yaml:6:10"),
        ("routes: {}\n", "b.yaml:1:1: routes: given twice, first at a.yaml:5:1"),
    ],
)
def test_the_same_name_in_two_files(tmp_path: Path, second: str, expected: str) -> None:
    first = (
        "version: 1\naccess: open\nproviders: {openai: {}}\nmodels: {m: {targets: [{provider: openai}]}}\n"
        "routes: [{name: r, targets: [{provider: openai}]}]\nlimits: {drain: 2s}\n"
    )
    assert problems(tmp_path, a=first, b=second) == [expected]


def test_a_broken_file_does_not_blame_its_neighbours(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        a="version: 1\nproviders: [a\n",
        b="routes: [{name: r, targets: [{provider: openai}], retry: {max: 7}}]\n",
    )
    assert found == [
        "a.yaml:2:12: a list in brackets that is not closed, or holds text that must be in quotes",
        "b.yaml:1:64: routes[0].retry.max: expected a whole number from 0 to 5, found 7",
    ]


# -- the environment

def test_the_environment_expands(tmp_path: Path) -> None:
    environ = {"HOST": "a.example", "N": "7", "OFF": "true", "T": "0.5", "KEY": "12345", "EMPTY": "", "STATUS": "503"}
    text = """\
version: 1
access: ${ACCESS:-keys}
limits:
  concurrency: ${N}
  upload: ${EMPTY:-3}MiB
providers:
  own: {base_url: "https://${HOST}:${PORT:-8443}/v1", disabled: "${OFF}", credential: {value: "${KEY}"}}
  openai:
    disabled: ${OFF}
    credential: {value: "a$b$$c$1$${KEY}"}
    region: x${EMPTY}y
routes:
  - name: r
    match: {model: "claude/*"}
    targets: [{provider: openai, model: $1}]
    retry:
      on:
        - ${STATUS}
    set:
      temperature: ${T}
      quoted: "${T}"
      list: ["${N}"]
"""
    assert problems(tmp_path, environ, a=text) == [
        "a.yaml:7:65: providers.own.disabled: expected true or false, found `${OFF}`"
    ]
    loaded = rules(tmp_path, environ, a=text.replace('"${OFF}"', "true"))
    assert loaded.access == "keys"
    assert (loaded.limits.concurrency, loaded.limits.upload) == (7, 3 << 20)
    own, openai = loaded.providers["own"], loaded.providers["openai"]
    assert own.base_url == "https://a.example:8443/v1"
    assert type(own.base_url) is str
    assert openai.disabled is True
    assert openai.region == "xy"
    assert own.credential == Credential(value=SecretStr("12345"))
    assert openai.credential == Credential(value=SecretStr("a$b$$c$1${KEY}"))
    (route,) = loaded.routes
    assert route.targets[0].model == "$1"
    assert route.retry.on == ("503",)
    assert route.force == {"temperature": 0.5, "quoted": "0.5", "list": ["7"]}
    assert type(route.force["quoted"]) is str


# -- surprises of editors and of YAML 1.1

def test_windows_files(tmp_path: Path) -> None:
    text = "\ufeffversion: 1\r\nproviders:\r\n  openai: {}\r\nroutes:\r\n- name: a\r\n  targets: [{provider: openai}]\r\n"
    assert rules(tmp_path, a=text).where["routes[0]"] == "a.yaml:5"
    assert problems(tmp_path, a=text + "  stratgy: x\r\n") == [
        "a.yaml:7:3: routes[0].stratgy: unknown key; did you mean `strategy`?"
    ]


def test_aliases_are_allowed_in_moderation(tmp_path: Path) -> None:
    loaded = rules(tmp_path, a="""\
version: 1
providers: {openai: }
routes:
- {name: a, targets: &both [{provider: openai, model: x}], timeout: &slow {total: 1h}}
- {name: b, targets: *both, timeout: *slow}
""")
    assert loaded.routes[1].targets == loaded.routes[0].targets
    assert loaded.routes[1].timeout.total == 3600.0


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("yes", "yes"), ("on", "on"), ("NO", "NO"), ("2024-10-21", "2024-10-21"), ("12:30:45", "12:30:45"), ("1_000", "1_000"),
        ("010", 10), ("0o10", 8), ("0x1F", 31), ("-7", -7), ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0), ("~", None),
        ("Null", None), ("True", True), ("FALSE", False), ("'1'", "1"), ('"null"', "null"), ("=", "="), ("", None),
        ("18446744073709551615", 2**64 - 1), ("nan", "nan"), ("0b1", "0b1"), ("1.", 1.0), (".", "."),
    ],
)
def test_scalars_follow_yaml_1_2(tmp_path: Path, written: str, value: object) -> None:
    text = f"version: 1\nproviders: {{openai: }}\nroutes:\n- name: a\n  targets: [{{provider: openai}}]\n  set:\n    x: {written}\n"
    found = rules(tmp_path, a=text).routes[0].force["x"]
    assert found == value
    assert type(found) is type(value)


# -- what must not be possible

def test_rules_cannot_be_changed(tmp_path: Path) -> None:
    loaded = rules(tmp_path, a="version: 1\n")
    with pytest.raises(ValidationError):
        loaded.access = "keys"  # type: ignore[misc]
    with pytest.raises(TypeError):
        loaded.where["x"] = "y"  # type: ignore[index]


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    text = """\
version: 1
egress: {proxy: http://proxy.corp:3128, credential: {value: hunter2-egress}}
providers:
  openai: {credential: {value: "${KEY}"}}
  groq: {credential: [{value: hunter2-first}, {value: "hunter2-second"}]}
"""
    loaded = rules(tmp_path, {"KEY": "hunter2-environment"}, a=text)
    shown = [repr(loaded), str(loaded), str(loaded.model_dump()), loaded.model_dump_json(warnings=False), str(dict(loaded.where))]
    assert not [each for each in shown if "hunter2" in each]
    found = problems(tmp_path, {"KEY": "hunter2-environment"}, a=text + "access: '${KEY}'\nunmatched: '${KEY}'\nxx: '${KEY}'\n")
    assert len(found) == 3
    assert "hunter2" not in "".join(found)


def test_errors_carry_no_terminal_codes(tmp_path: Path) -> None:
    found = problems(tmp_path, a='version: 1\n"x\\e[2J\\nfake.yaml:1:1: fine": 1\naccess: "\\e[31m"\n')
    assert len(found) == 2
    assert all(character.isprintable() for line in found for character in line)
