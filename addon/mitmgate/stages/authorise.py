"""Authorise: the credential of this attempt. The transport writes it last, once the connection's origin is checked."""

import re
from datetime import UTC, datetime
from typing import Final

from mitmgate.exchange import Exchange
from mitmgate.providers.sigv4 import sign
from mitmgate.providers.vendors import CREDENTIAL_HEADERS, credential_header
from mitmgate.stages.services import Services

# An AWS access key, its secret and perhaps a session's token (IAM, "unique ID prefixes").
_AWS_KEY: Final = re.compile(r"((?:AKIA|ASIA)[A-Z0-9]{12,124}):([^:]+)(?::(.+))?")
_AWS_HOST: Final = re.compile(r"bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_SIGNED: Final = frozenset({"content-type"})


async def authorise(exchange: Exchange, services: Services) -> None:
    """Set `credential`. A provider without one gets none; the client's own goes only where the rules say so."""
    attempt = exchange.attempt
    assert attempt is not None
    provider = attempt.target.provider
    exchange.credential = ()
    if provider.original:
        return                              # its headers went as they came
    if provider.client_credential:
        headers = exchange.request_headers
        exchange.credential = tuple((name, value) for name in CREDENTIAL_HEADERS if (value := headers.get(name)) is not None)
        return
    secret = provider.credential.secret() if provider.credential else None
    if secret is None:
        return
    if provider.dialect == "bedrock" and (key := _AWS_KEY.fullmatch(secret)):
        attempt.secret = secret
        exchange.credential = _signed(exchange, key, services.clock.wall())
    elif (header := credential_header(provider.authorisation, secret)) is not None:
        attempt.secret = secret
        exchange.credential = (header,)


def _signed(exchange: Exchange, key: re.Match[str], now: float) -> tuple[tuple[str, str], ...]:
    """AWS signs what is sent, so a key never travels."""
    upstream, attempt = exchange.upstream, exchange.attempt
    assert upstream is not None
    assert attempt is not None
    named = _AWS_HOST.fullmatch(upstream.origin.host)
    return sign(
        upstream.method,
        f"{upstream.origin}{upstream.target}",
        [(name, value) for name, value in upstream.headers if name in _SIGNED],
        upstream.body or b"",
        access_key=key[1],
        secret_key=key[2],
        session_token=key[3],
        region=named[1] if named else attempt.target.provider.region or "us-east-1",
        service="bedrock",
        at=datetime.fromtimestamp(now, UTC),
    )
