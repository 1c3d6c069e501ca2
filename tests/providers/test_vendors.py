"""The vendor table: what must hold for each row."""

import re

import pytest

from mitmgate.addresses import HostPattern, is_loopback, normalise_host
from mitmgate.providers.catalogue import SIMULATED, context_window, models_of
from mitmgate.providers.compiled import split_url
from mitmgate.providers.vendors import DIALECT_AUTHORISATION, NEED_NO_URL, VENDOR_HOSTS, VENDORS
from mitmgate.stages.authorise import _WRITE


@pytest.mark.parametrize("name", VENDORS)
def test_a_row(name: str) -> None:
    vendor = VENDORS[name]
    assert re.fullmatch("[a-z]+", name)
    assert vendor.dialect in DIALECT_AUTHORISATION
    assert vendor.authorisation == "none" or vendor.authorisation in _WRITE
    assert (vendor.variable is None) == (vendor.authorisation == "none")
    if vendor.variable is not None:
        assert re.fullmatch("[A-Z_]+_API_KEY", vendor.variable)
    for host in vendor.hosts:
        assert HostPattern.parse(host).specific
    if vendor.base_url is not None:
        origin, path = split_url(vendor.base_url)
        assert origin.scheme == "https", "a key must not travel in the clear"
        assert origin.port == 443
        assert normalise_host(origin.host) == origin.host
        assert not path.endswith("/")
        assert any(HostPattern.parse(host).matches(origin.host, 443) for host in vendor.hosts), "interception misses it"


@pytest.mark.parametrize("dialect", DIALECT_AUTHORISATION)
def test_every_dialects_authorisation_can_be_written(dialect: str) -> None:
    assert DIALECT_AUTHORISATION[dialect] == "none" or DIALECT_AUTHORISATION[dialect] in _WRITE


def test_vendors_are_authorised_as_their_dialect_is() -> None:
    """So that a second entry for the same vendor under another name works like the first."""
    odd = {name for name, vendor in VENDORS.items() if vendor.authorisation != DIALECT_AUTHORISATION[vendor.dialect]}
    assert not odd


def test_what_needs_no_address() -> None:
    assert "openai" in NEED_NO_URL
    assert "simulator" in NEED_NO_URL
    assert "azure" not in NEED_NO_URL


def test_vendor_hosts_are_all_and_public() -> None:
    assert set(VENDOR_HOSTS) == {host for vendor in VENDORS.values() for host in vendor.hosts}
    assert all("." in host for host in VENDOR_HOSTS)
    assert not any(is_loopback(host.replace("*", "x")) for host in VENDOR_HOSTS)


def test_the_catalogue() -> None:
    assert context_window("openai", "gpt-4o-mini") == 128_000
    assert context_window("openai", "no-such-model") is None
    assert context_window("openai", None) is None
    assert context_window("nobody", "gpt-4o-mini") is None
    assert list(models_of("simulator")) == list(SIMULATED)
    assert models_of("nobody") == {}


@pytest.mark.parametrize("name", [name for name in VENDORS if name not in ("simulator", "nvidia", "sambanova")])
def test_the_catalogue_knows_the_vendors(name: str) -> None:
    """A vendor that the price data renames would silently lose its models."""
    assert models_of(name)
