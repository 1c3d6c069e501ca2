"""The rules' `providers:` made ready: addresses split, secrets found, what is inactive marked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from mitmgate.addresses import HostPattern, is_loopback
from mitmgate.exchange import Credential, Origin, Provider
from mitmgate.providers.credentials import AnyCredential, FileCredential, FixedCredential
from mitmgate.providers.vendors import DIALECT_AUTHORISATION, VENDORS, Vendor, vendor_of
from mitmgate.rules import schema

_PORTS: Mapping[str, int] = {"http": 80, "https": 443}


def split_url(url: str) -> tuple[Origin, str]:
    """A base URL's origin and its path without a trailing slash. Raises ValueError if it is none."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"not an http or https URL: {url!r}")
    return Origin(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]), parts.path.rstrip("/")


def compile_providers(rules: schema.Rules, folder: Path, environ: Mapping[str, str], simulator: Origin) -> dict[str, Provider]:
    """Every provider of the rules. `simulator`: where the built-in one listens. Paths are relative to `folder`."""
    return {name: _compile(name, rule, rules, folder, environ, simulator) for name, rule in rules.providers.items()}


def _compile(
    name: str, rule: schema.Provider, rules: schema.Rules, folder: Path, environ: Mapping[str, str], simulator: Origin
) -> Provider:
    vendor = VENDORS.get(name) or Vendor(None, None, rule.dialect or "openai")
    dialect = rule.dialect or vendor.dialect
    if dialect == "simulator" and rule.base_url is None:
        origin, path = simulator, "/v1"
    else:
        url = rule.base_url or vendor.base_url
        if url is None:
            raise ValueError(f"providers.{name}: `base_url` is missing")
        origin, path = split_url(url)
    own_dialect = name in VENDORS and dialect == vendor.dialect
    authorisation = vendor.authorisation if own_dialect else DIALECT_AUTHORISATION.get(dialect, "bearer")
    client, credential = _credential(rule, vendor, folder, environ)
    proxy, proxy_credential = _proxy(rule, rules, origin, folder, environ)
    needs = vendor.variable is not None or rule.credential is not None
    return Provider(
        name=name,
        dialect=dialect,
        origin=origin,
        base_path=path,
        authorisation=authorisation,
        credential=credential,
        client_credential=client,
        active=not rule.disabled and (client or credential is not None or not needs),
        headers={key.lower(): value for key, value in rule.headers.items()},
        ca=_path(rule.ca, folder),
        client_cert=_path(rule.client_cert, folder),
        zone=rule.zone,
        region=rule.region,
        base_model=rule.base_model,
        api_version=rule.api_version,
        vendor=vendor_of(name, dialect, origin.host),
        quirks=_quirks(name, dialect, origin.host),
        proxy=proxy,
        proxy_credential=proxy_credential,
    )


def _quirks(name: str, dialect: str, host: str) -> frozenset[str]:
    """Those of the vendor that the address belongs to, whatever the rules call it."""
    vendor = VENDORS.get(vendor_of(name, dialect, host) or "")
    return frozenset(vendor.quirks) if vendor is not None and vendor.dialect == dialect else frozenset()


def _path(text: str | None, folder: Path) -> str | None:
    return str(_named(text, folder)) if text else None


def _named(text: str, folder: Path) -> Path:
    """A file that the rules name. Links in its path stay: a Kubernetes volume is renewed by turning one to a new folder."""
    return folder.absolute() / text


def _credential(
    rule: schema.Provider, vendor: Vendor, folder: Path, environ: Mapping[str, str]
) -> tuple[bool, Credential | None]:
    """Whether the client's own key passes on, and else what is sent; (False, None): nothing is set."""
    given = rule.credential
    if given is None:
        value = environ.get(vendor.variable or "")
        return False, FixedCredential(value) if value else None
    several: Sequence[schema.Credential | str] = given if isinstance(given, tuple) else (given,)
    if any(each == "client" or (isinstance(each, schema.Credential) and each.client) for each in several):
        return True, None
    sources = [read_credential(each, folder, environ) for each in several if isinstance(each, schema.Credential)]
    found = [source for source in sources if source is not None]
    if not found:
        return False, None
    return False, found[0] if len(found) == 1 else AnyCredential(found)


def read_credential(given: schema.Credential, folder: Path, environ: Mapping[str, str]) -> Credential | None:
    """A secret's source; None for an environment variable that is not set."""
    if given.env is not None:
        value = environ.get(given.env)
        return FixedCredential(value) if value else None
    if given.file is not None:
        return FileCredential(_named(given.file, folder))
    if given.value is not None:
        return FixedCredential(given.value.get_secret_value())
    return None


def _proxy(
    rule: schema.Provider, rules: schema.Rules, origin: Origin, folder: Path, environ: Mapping[str, str]
) -> tuple[Origin | None, Credential | None]:
    egress = rules.egress
    if rule.proxy == "none":
        return None, None
    if rule.proxy is not None:
        return split_url(rule.proxy)[0], None
    if egress is None or egress.proxy is None or _exempt(origin, egress.no_proxy):
        return None, None
    credential = read_credential(egress.credential, folder, environ) if egress.credential else None
    return split_url(egress.proxy)[0], credential


def _exempt(origin: Origin, patterns: Sequence[str]) -> bool:
    """A corporate proxy cannot reach this machine's loopback, so that is always exempt."""
    if is_loopback(origin.host):
        return True
    return any(HostPattern.parse(pattern).matches(origin.host, origin.port) for pattern in patterns)
