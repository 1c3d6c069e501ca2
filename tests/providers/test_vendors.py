"""The vendor table: what must hold for each row."""

import re

import pytest

from mitmgate.addresses import HostPattern, is_loopback, normalise_host
from mitmgate.providers.catalogue import SIMULATED, context_window, models_of
from mitmgate.providers.compiled import split_url
from mitmgate.providers.vendors import (
    CREDENTIAL_HEADERS,
    DIALECT_AUTHORISATION,
    LOCAL,
    NEED_NO_URL,
    QUIRKS,
    SPARE_HOSTS,
    VENDOR_HOSTS,
    VENDORS,
    Authorisation,
    credential_header,
    vendor_of,
)


@pytest.mark.parametrize("name", VENDORS)
def test_a_row(name: str) -> None:
    vendor = VENDORS[name]
    assert re.fullmatch("[a-z]+", name)
    assert vendor.dialect in DIALECT_AUTHORISATION
    assert (vendor.variable is None) == (name in LOCAL or name == "simulator")
    if vendor.variable is not None:
        assert re.fullmatch("[A-Z_]+_API_KEY|AWS_BEARER_TOKEN_BEDROCK", vendor.variable)
    assert vendor.quirks <= QUIRKS.keys()
    assert vendor.hosts or name in LOCAL or name == "simulator"
    for host in vendor.hosts:
        assert HostPattern.parse(host).specific
    if vendor.base_url is not None:
        origin, path = split_url(vendor.base_url)
        assert normalise_host(origin.host) == origin.host
        assert not path.endswith("/")
        if name in LOCAL:
            assert is_loopback(origin.host)
            return
        assert origin.scheme == "https", "a key must not travel in the clear"
        assert origin.port == 443
        assert any(HostPattern.parse(host).matches(origin.host, 443) for host in vendor.hosts), "interception misses it"


def test_the_vendors_that_are_promised() -> None:
    """Issue 4, point 3."""
    promised = (
        "openai azure anthropic gemini vertex bedrock groq cerebras sambanova nvidia openrouter mistral deepseek xai together"
        " fireworks perplexity cohere jina voyage elevenlabs deepgram vllm ollama lmstudio llamacpp"
    )
    assert set(promised.split()) <= VENDORS.keys()


def test_local_servers_do_not_share_a_port() -> None:
    assert len({VENDORS[name].base_url for name in LOCAL}) == len(LOCAL) == 4


def test_every_quirk_is_somebodys() -> None:
    """One that no vendor has is one that nobody acts on."""
    assert set().union(*(vendor.quirks for vendor in VENDORS.values())) == QUIRKS.keys()


@pytest.mark.parametrize(
    ("authorisation", "secret", "header"),
    [
        ("bearer", "sk-1", ("authorization", "Bearer sk-1")),
        ("x-api-key", "sk-1", ("x-api-key", "sk-1")),
        ("api-key", "0123abcd", ("api-key", "0123abcd")),
        ("api-key", "eyJhbGciOi.eyJhdWQi.c2ln", ("authorization", "Bearer eyJhbGciOi.eyJhdWQi.c2ln")),
        ("x-goog-api-key", "AIzaSy", ("x-goog-api-key", "AIzaSy")),
        ("x-goog-api-key", "ya29.a0Af", ("authorization", "Bearer ya29.a0Af")),
        ("xi-api-key", "sk_1", ("xi-api-key", "sk_1")),
        ("token", "dg", ("authorization", "Token dg")),
        # What a token of Google's or of Entra begins with means nothing elsewhere.
        ("x-api-key", "eyJ.a.b", ("x-api-key", "eyJ.a.b")),
        ("api-key", "ya29.a0Af", ("api-key", "ya29.a0Af")),
        ("none", "sk-1", None),
    ],
)
def test_where_a_secret_is_written(authorisation: Authorisation, secret: str, header: tuple[str, str] | None) -> None:
    assert credential_header(authorisation, secret) == header


@pytest.mark.parametrize("authorisation", sorted({*DIALECT_AUTHORISATION.values()} - {"none"}))
def test_a_clients_credential_is_looked_for_wherever_one_is_written(authorisation: Authorisation) -> None:
    header = credential_header(authorisation, "secret")
    assert header is not None
    assert header[0] in CREDENTIAL_HEADERS


def test_vendors_are_authorised_as_their_dialect_is() -> None:
    """So that a second entry for the same vendor under another name works like the first."""
    odd = {name for name, vendor in VENDORS.items() if vendor.authorisation != DIALECT_AUTHORISATION[vendor.dialect]}
    assert not odd


@pytest.mark.parametrize(
    ("provider", "vendor"),
    [
        (("groq", "openai", "10.0.0.7"), "groq"),
        (("mine", "openai", "api.groq.com"), "groq"),
        (("mine", "openai", "api.groq.com.evil.example"), None),
        (("mine", "openai", "10.0.0.7"), None),
        (("mine", "azure", "10.0.0.7"), "azure"),
        (("mine", "azure", "x.services.ai.azure.com"), "azure"),
        (("mine", "gemini", "europe-west1-aiplatform.googleapis.com"), "vertex"),
        (("mine", "gemini", "aiplatform.eu.rep.googleapis.com"), "vertex"),
        (("mine", "gemini", "generativelanguage.googleapis.com"), "gemini"),
        (("mine", "bedrock", "bedrock-runtime.eu-central-1.amazonaws.com"), "bedrock"),
        (("mine", "simulator", "127.0.0.1"), "simulator"),
        (("simulator", "openai", "api.openai.com"), "openai"),
    ],
)
def test_which_vendor_a_provider_is(provider: tuple[str, str, str], vendor: str | None) -> None:
    assert vendor_of(*provider) == vendor


@pytest.mark.parametrize(
    "host", ["api.openai.azure.com", "x.cognitiveservices.azure.com", "bedrock-runtime.us-east-1.amazonaws.com"]
)
def test_what_is_intercepted(host: str) -> None:
    assert any(HostPattern.parse(pattern).matches(host, 443) for pattern in VENDOR_HOSTS)


@pytest.mark.parametrize("host", ["s3.amazonaws.com", "storage.googleapis.com", "bedrock.us-east-1.amazonaws.com", "azure.com"])
def test_what_else_such_vendors_have_is_not_intercepted(host: str) -> None:
    assert not any(HostPattern.parse(pattern).matches(host, 443) for pattern in VENDOR_HOSTS)


def test_what_needs_no_address() -> None:
    assert "openai" in NEED_NO_URL
    assert "simulator" in NEED_NO_URL
    assert "azure" not in NEED_NO_URL
    assert "bedrock" not in NEED_NO_URL
    assert LOCAL <= NEED_NO_URL


def test_vendor_hosts_are_all_and_public() -> None:
    assert set(VENDOR_HOSTS) == {host for vendor in VENDORS.values() for host in vendor.hosts}
    assert all("." in host for host in VENDOR_HOSTS)
    assert not any(is_loopback(host.replace("*", "x")) for host in VENDOR_HOSTS)


@pytest.mark.parametrize("host", ["bucket.s3.amazonaws.com", "amazonaws.com", "storage.googleapis.com", "x.rep.googleapis.com"])
def test_a_ca_is_not_good_for_whole_clouds(host: str) -> None:
    """Its constraints know domains only, without stars inside them."""
    domains = [pattern.removeprefix("*.") for pattern in SPARE_HOSTS]
    assert set(SPARE_HOSTS) < set(VENDOR_HOSTS)
    assert not any(host == domain or host.endswith(f".{domain}") for domain in domains)
    assert "*.openai.azure.com" in SPARE_HOSTS


def test_the_catalogue() -> None:
    assert context_window("openai", "gpt-4o-mini") == 128_000
    assert context_window("openai", "no-such-model") is None
    assert context_window("openai", None) is None
    assert context_window("nobody", "gpt-4o-mini") is None
    assert list(models_of("simulator")) == list(SIMULATED)
    assert models_of("nobody") == {}


_UNLISTED = {"simulator", "nvidia", "sambanova", "jina", "deepgram", *LOCAL}
"""Vendors that the price data does not have."""


@pytest.mark.parametrize("name", [name for name in VENDORS if name not in _UNLISTED])
def test_the_catalogue_knows_the_vendors(name: str) -> None:
    """A vendor that the price data renames would silently lose its models."""
    assert models_of(name)


@pytest.mark.parametrize("name", sorted(_UNLISTED - {"simulator"}))
def test_what_the_catalogue_does_not_know(name: str) -> None:
    """So that a vendor that it learns of is noticed here."""
    assert not models_of(name)
