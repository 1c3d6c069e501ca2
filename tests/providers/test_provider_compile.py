"""`providers:` to where they are, how they are authorised, and whether they are active."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from mitmgate.exchange import Origin, Provider
from mitmgate.providers.compiled import split_url
from mitmgate.providers.credentials import AnyCredential, FileCredential
from mitmgate.providers.vendors import VENDORS
from mitmgate.runtime import Shared, Snapshot, compile_rules

SIMULATOR = Origin("http", "127.0.0.1", 4321)


@dataclass
class House:
    """A rules folder."""

    folder: Path

    def snapshot(self, text: str, **environ: str) -> Snapshot:
        (self.folder / "rules.yaml").write_text("version: 1\n" + text, encoding="utf-8")
        return compile_rules(self.folder, environ, SIMULATOR, Shared())

    def provider(self, text: str, more: str = "", **environ: str) -> Provider:
        """The one provider of `name: {…}`."""
        (found,) = self.snapshot(f"providers:\n  {text}\n{more}", **environ).providers.values()
        return found


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("https://api.x.example/v1", Origin("https", "api.x.example", 443), "/v1"),
        ("https://api.x.example/v1/", Origin("https", "api.x.example", 443), "/v1"),
        ("http://10.0.0.7:8000", Origin("http", "10.0.0.7", 8000), ""),
        ("http://10.0.0.7/", Origin("http", "10.0.0.7", 80), ""),
        ("https://[fd00::1]:8443/a/b", Origin("https", "fd00::1", 8443), "/a/b"),
    ],
)
def test_split_url(url: str, origin: Origin, path: str) -> None:
    assert split_url(url) == (origin, path)


@pytest.mark.parametrize("url", ["ftp://x/y", "x.example/v1", "https://", "//x/y", ""])
def test_no_url(url: str) -> None:
    with pytest.raises(ValueError, match="not an http"):
        split_url(url)


def test_a_known_vendor_needs_nothing(house: House) -> None:
    found = house.provider("groq: {}", GROQ_API_KEY="gsk")
    assert (found.dialect, found.origin, found.base_path) == ("openai", Origin("https", "api.groq.com", 443), "/openai/v1")
    assert found.authorisation == "bearer"
    assert found.active
    assert found.credential is not None
    assert found.credential.secret() == "gsk"
    assert not found.client_credential


@pytest.mark.parametrize(
    ("rule", "active"),
    [
        ("groq: {}", False),
        ("groq: {credential: {env: MISSING}}", False),
        ("groq: {credential: client}", True),
        ("groq: {credential: {value: x}}", True),
        ("groq: {credential: {value: x}, disabled: true}", False),
        ("groq: {credential: [{env: MISSING}, {env: MISSING_TOO}]}", False),
        ("groq: {credential: [{env: MISSING}, {value: x}]}", True),
        ("mine: {base_url: 'http://10.0.0.7/v1'}", True),
        ("mine: {base_url: 'https://10.0.0.7/v1', credential: {env: MISSING}}", False),
        ("mine: {base_url: 'https://10.0.0.7/v1', credential: {file: missing}}", True),      # it may come later
        ("simulator: {dialect: simulator}", True),
        ("mine: {dialect: simulator}", True),
        ("simulator: {dialect: simulator, disabled: true}", False),
    ],
)
def test_active(house: House, rule: str, active: bool) -> None:
    assert house.provider(rule).active is active


@pytest.mark.parametrize(("name", "port"), [("vllm", 8000), ("ollama", 11434), ("lmstudio", 1234), ("llamacpp", 8080)])
def test_a_local_server_needs_nothing_at_all(house: House, name: str, port: int) -> None:
    found = house.provider(f"{name}: {{}}")
    assert (found.origin, found.base_path) == (Origin("http", "127.0.0.1", port), "/v1")
    assert found.active
    assert found.credential is None
    guarded = house.provider(f"{name}: {{credential: {{value: k}}}}")
    assert guarded.authorisation == "bearer"
    assert guarded.credential is not None


@pytest.mark.parametrize("name", [name for name, vendor in VENDORS.items() if vendor.base_url and vendor.variable])
def test_every_vendor_with_an_address_needs_its_key_alone(house: House, name: str) -> None:
    variable = VENDORS[name].variable
    assert variable is not None
    assert house.provider(f"{name}: {{}}", **{variable: "key"}).active
    assert not house.provider(f"{name}: {{}}").active


def test_an_empty_variable_is_an_unset_one(house: House) -> None:
    assert not house.provider("groq: {}", GROQ_API_KEY="").active


@pytest.mark.parametrize(
    ("rule", "authorisation"),
    [
        ("claude: {}", "x-api-key"),
        ("gemini: {}", "x-goog-api-key"),
        ("azure: {base_url: 'https://x.example'}", "api-key"),
        ("openai: {}", "bearer"),
        ("simulator: {dialect: simulator}", "none"),
        # DESIGN §4: entries under names of the operator's own
        ("azure-eu: {dialect: azure, base_url: 'https://x.example', credential: {value: k}}", "api-key"),
        ("claude-2: {dialect: anthropic, base_url: 'https://x.example', credential: {value: k}}", "x-api-key"),
        ("gemini-2: {dialect: gemini, base_url: 'https://x.example', credential: {value: k}}", "x-goog-api-key"),
        ("sim-2: {dialect: simulator}", "none"),
        ("local: {dialect: openai, base_url: 'https://x.example', credential: {value: k}}", "bearer"),
        ("local: {base_url: 'https://x.example', credential: {value: k}}", "bearer"),
        # a vendor's gateway that speaks OpenAI's dialect
        ("claude: {dialect: openai, base_url: 'https://x.example/v1', credential: {value: k}}", "bearer"),
    ],
)
def test_authorisation_follows_the_dialect(house: House, rule: str, authorisation: str) -> None:
    assert house.provider(rule).authorisation == authorisation


def test_the_simulator_is_where_it_listens(house: House) -> None:
    found = house.provider("mine: {dialect: simulator}")
    assert (found.origin, found.base_path, found.dialect) == (SIMULATOR, "/v1", "simulator")
    other = house.provider("mine: {dialect: simulator, base_url: 'http://127.0.0.1:7/v1'}")
    assert other.origin == Origin("http", "127.0.0.1", 7)


def test_a_vendors_address_can_be_another(house: House) -> None:
    found = house.provider("openai: {base_url: 'http://10.0.0.7:8000/proxy/v1/', zone: internal, credential: {value: k}}")
    assert (found.origin, found.base_path) == (Origin("http", "10.0.0.7", 8000), "/proxy/v1")


def test_credentials(house: House) -> None:
    (house.folder / "key").write_text("of a file\n", encoding="utf-8")
    from_file = house.provider("groq: {credential: {file: key}}").credential
    assert isinstance(from_file, FileCredential)
    assert from_file.secret() == "of a file"
    any_of = house.provider("groq: {credential: [{env: MISSING}, {value: a}, {file: key}]}").credential
    assert isinstance(any_of, AnyCredential)
    assert any_of.secret() == "a"
    any_of.rejected("a")
    assert any_of.secret() == "of a file"
    one = house.provider("groq: {credential: [{env: MISSING}, {env: KEY}]}", KEY="k").credential
    assert one is not None
    assert one.secret() == "k"


def test_the_rules_credential_stands_before_the_vendors_variable(house: House) -> None:
    found = house.provider("groq: {credential: {env: OTHER}}", OTHER="other", GROQ_API_KEY="gsk").credential
    assert found is not None
    assert found.secret() == "other"


def test_the_clients_own_credential(house: House) -> None:
    found = house.provider("groq: {credential: client}", GROQ_API_KEY="gsk")
    assert found.client_credential
    assert found.credential is None


def test_paths_are_relative_to_the_rules(house: House) -> None:
    found = house.provider("mine: {base_url: 'https://x.example', ca: certs/ca.pem, client_cert: ../me.pem}")
    assert found.ca == str(house.folder.absolute() / "certs" / "ca.pem")
    assert found.client_cert is not None
    assert Path(found.client_cert).resolve() == house.folder.resolve().parent / "me.pem"


def test_links_in_a_path_are_followed_when_it_is_used(house: House) -> None:
    """A Kubernetes volume: `key` leads through `..data`, which turns to a new folder when the secret is renewed."""
    for version in ("one", "two"):
        (house.folder / f"..{version}").mkdir()
        (house.folder / f"..{version}" / "key").write_text(f"sk-{version}")
    (house.folder / "..data").symlink_to("..one")
    (house.folder / "key").symlink_to("..data/key")
    found = house.provider("mine: {base_url: 'https://x.example', credential: {file: key}}").credential
    assert found is not None
    assert found.secret() == "sk-one"
    (house.folder / "..new").symlink_to("..two")
    (house.folder / "..new").rename(house.folder / "..data")
    found.rejected("sk-one")
    assert found.secret() == "sk-two"


def test_header_names_are_lower_case(house: House) -> None:
    assert house.provider("mine: {base_url: 'https://x.example', headers: {X-Team: ML}}").headers == {"x-team": "ML"}


PROXY = "egress: {proxy: 'http://proxy.corp:3128', no_proxy: ['*.corp', 10.0.0.0/8], credential: {value: 'user:pass'}}"
THROUGH = Origin("http", "proxy.corp", 3128)


@pytest.mark.parametrize(
    ("rule", "proxy"),
    [
        ("mine: {base_url: 'https://x.example'}", THROUGH),
        ("mine: {base_url: 'https://x.corp'}", None),
        ("mine: {base_url: 'http://10.1.1.1'}", None),
        ("mine: {base_url: 'http://127.0.0.1:8000'}", None),
        ("mine: {base_url: 'http://localhost:8000'}", None),
        ("mine: {base_url: 'https://x.example', proxy: none}", None),
        ("mine: {base_url: 'https://x.corp', proxy: 'http://other.corp:1'}", Origin("http", "other.corp", 1)),
        ("mine: {dialect: simulator}", None),
    ],
)
def test_the_corporate_proxy(house: House, rule: str, proxy: Origin | None) -> None:
    found = house.provider(rule, PROXY)
    assert found.proxy == proxy
    assert (found.proxy_credential is not None) is (proxy == THROUGH), "its password goes to that proxy only"


def test_default_intercept(house: House) -> None:
    text = "providers: {groq: {}, azure-eu: {dialect: azure, base_url: 'https://x.example'}, local: {base_url: 'http://10.0.0.1'}}\n"
    assert house.snapshot(text).intercept == ("api.groq.com", *VENDORS["azure"].hosts)
    assert house.snapshot(text + "intercept: [x.example]\n").intercept == ("x.example",)
    assert house.snapshot(text + "intercept: []\n").intercept == ()
