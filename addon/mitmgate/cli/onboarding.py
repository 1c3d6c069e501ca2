"""How each kind of client is told to trust the CA and to come here: lines to paste, a PAC file, a trust bundle.

Which variable works for which client was measured (see docs on clients): SSL_CERT_FILE and REQUESTS_CA_BUNDLE replace
the trust store and need the bundle, NODE_EXTRA_CA_CERTS adds to it.
"""

import json
import shlex
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import certifi

_SYSTEM_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",       # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",         # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",                   # openSUSE
    "/etc/ssl/cert.pem",                        # macOS, BSD
)


@dataclass(frozen=True, slots=True)
class ProxyAddress:
    """Where clients reach the gateway. `scheme`: http, or https where the proxy port itself speaks TLS."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "ProxyAddress":
        """`host:port` or a URL without a path. Raises ValueError."""
        parts = urlsplit(text if "://" in text else f"http://{text}")
        if parts.scheme not in ("http", "https") or not parts.hostname or not parts.port or parts.path.strip("/"):
            raise ValueError(f"not host:port: {text!r}")
        return cls(parts.scheme, parts.hostname, parts.port)

    @classmethod
    def listening(cls, host: str, port: int, names: Sequence[str] = ()) -> "ProxyAddress":
        """By which clients reach what listens there. `names`: the gateway's own, for one that listens on all addresses."""
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
        return cls("http", next(iter(names), everywhere[host]) if host in everywhere else host, port)

    @property
    def authority(self) -> str:
        """host:port, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """As HTTPS_PROXY wants it."""
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one kind of client needs: lines for a shell (or a Dockerfile), and what one should know."""

    client: str
    title: str
    lines: tuple[str, ...]
    note: str = ""


def recipes(certificate: Path, bundle: Path, proxy: ProxyAddress) -> tuple[Recipe, ...]:
    """For every kind of client. `bundle`: the system's CAs and ours."""
    ours, all_of_them, url = shlex.quote(str(certificate)), shlex.quote(str(bundle)), shlex.quote(proxy.url)
    to_proxy = f"export HTTPS_PROXY={url} https_proxy={url}"
    store = shlex.quote(str(certificate.parent / "java-truststore"))
    in_container = f"{proxy.scheme}://host.docker.internal:{proxy.port}"
    return (
        Recipe(
            "shell", "Everything started from this shell",
            (
                to_proxy,
                f"export SSL_CERT_FILE={all_of_them} REQUESTS_CA_BUNDLE={all_of_them} CURL_CA_BUNDLE={all_of_them}",
                f"export NODE_EXTRA_CA_CERTS={ours}",
            ),
            "A NO_PROXY that names the provider's host wins over HTTPS_PROXY.",
        ),
        Recipe(
            "python-httpx", "Python: openai, anthropic, google-genai, litellm, httpx, urllib",
            (to_proxy, f"export SSL_CERT_FILE={all_of_them}"),
            "SSL_CERT_FILE replaces the trust store, hence the bundle; these clients ignore REQUESTS_CA_BUNDLE. "
            "A plain aiohttp session needs trust_env=True.",
        ),
        Recipe(
            "python-requests", "Python: requests",
            (to_proxy, f"export REQUESTS_CA_BUNDLE={all_of_them}"),
            "requests ignores SSL_CERT_FILE.",
        ),
        Recipe(
            "node", "Node",
            (to_proxy, f"export NODE_EXTRA_CA_CERTS={ours} NODE_USE_ENV_PROXY=1"),
            "Node 20 has no proxy support of its own: HTTPS_PROXY and NODE_USE_ENV_PROXY do nothing there (the switch "
            "works from 22.21 and 24.5); give its fetch undici's ProxyAgent, or set the client's base URL to the "
            "gateway. NODE_EXTRA_CA_CERTS is read at start only, and adds to the CAs that Node brings.",
        ),
        Recipe(
            "go", "Go, on Linux",
            (to_proxy, f"export SSL_CERT_FILE={all_of_them}"),
            "On macOS and Windows Go asks the system's trust store: add the certificate there, see .NET.",
        ),
        Recipe(
            "java", "Java",
            (
                'cp "${JAVA_HOME:-$(dirname "$(dirname "$(readlink -f "$(command -v java)")")")}/lib/security/cacerts" '
                f"{store} && chmod u+w {store}",
                f"keytool -importcert -noprompt -alias mitmgate -file {ours} -keystore {store} -storepass changeit",
                f'export JAVA_TOOL_OPTIONS="-Djavax.net.ssl.trustStore={store} '
                "-Djavax.net.ssl.trustStorePassword=changeit "
                f'-Dhttps.proxyHost={proxy.host} -Dhttps.proxyPort={proxy.port}"',
            ),
            "Java ignores HTTPS_PROXY. A client with a trust store or proxy of its own (Netty, OkHttp) is set in code.",
        ),
        Recipe(
            "curl", "curl",
            (
                f"{to_proxy} CURL_CA_BUNDLE={all_of_them}",
                f"curl --proxy {url} --cacert {all_of_them} https://api.openai.com/v1/models",
            ),
        ),
        Recipe(
            "dotnet", ".NET",
            (to_proxy, f"export SSL_CERT_FILE={all_of_them}"),
            "That is for Linux. macOS: sudo security add-trusted-cert -d -r trustRoot -k "
            f"/Library/Keychains/System.keychain {ours}. Windows: certutil -addstore -user Root {certificate.name}.",
        ),
        Recipe(
            "container", "A container: Dockerfile lines",
            (
                f"COPY {certificate.name} /usr/local/share/ca-certificates/mitmgate.crt",
                "RUN update-ca-certificates",
                f"ENV HTTPS_PROXY={in_container} https_proxy={in_container}",
                "ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt "
                "REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt "
                "CURL_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt "
                "NODE_EXTRA_CA_CERTS=/usr/local/share/ca-certificates/mitmgate.crt",
            ),
            f"Copy {certificate} into the build context first; Debian and Alpine need the package ca-certificates. "
            "host.docker.internal is the host under Docker Desktop; elsewhere name where the gateway listens.",
        ),
    )


def pac(hosts: Iterable[str], proxy: ProxyAddress) -> str:
    """A proxy auto-configuration file: the named hosts come here, all else goes DIRECT.

    A named host never goes DIRECT: with the gateway down its calls fail rather than pass unseen.
    """
    matches = [f"shExpMatch(host, {json.dumps(_ascii(host))})" for host in dict.fromkeys(hosts)]
    tests = " ||\n      ".join(matches) or "false"
    kind = "HTTPS" if proxy.scheme == "https" else "PROXY"
    return (
        "function FindProxyForURL(url, host) {\n"
        "  host = host.toLowerCase();\n"
        f"  if ({tests}) {{\n"
        f"    return {json.dumps(f'{kind} {proxy.authority}')};\n"
        "  }\n"
        '  return "DIRECT";\n'
        "}\n"
    )


def system_cas() -> bytes:
    """The system's CAs as PEM; those of the certifi package where there is no such file.

    Not by SSL_CERT_FILE: that may well be an earlier bundle of ours.
    """
    for name in (ssl.get_default_verify_paths().openssl_cafile, *_SYSTEM_BUNDLES, certifi.where()):
        path = Path(name)
        if path.is_file():
            return path.read_bytes()
    raise FileNotFoundError("no file of trusted CAs on this system")


def bundle_of(certificates: Sequence[bytes]) -> bytes:
    """The system's CAs, then ours."""
    return b"\n".join([system_cas().rstrip(b"\n"), *(one.rstrip(b"\n") for one in certificates)]) + b"\n"


def _ascii(host: str) -> str:
    """A host pattern as browsers hand hosts to a PAC file: lower case, labels in IDNA."""
    try:
        return ".".join(
            label if label.isascii() else label.encode("idna").decode() for label in host.lower().rstrip(".").split(".")
        )
    except UnicodeError:
        return host.lower()
