"""How each vendor is shown its credential: the headers of every scheme, and AWS's signatures."""

import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from calls import CHAT, House, call

from mitmgate.exchange import Attempt, Exchange, UpstreamRequest
from mitmgate.pipeline import Pipeline, execute
from mitmgate.providers.sigv4 import sign
from mitmgate.stages.authorise import authorise
from mitmgate.stages.match_route import match_route
from mitmgate.stages.read_request import read_request

ACCESS, SECRET, SESSION = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "FwoGZXIvYXdzEJr//session:=="
CLIENT = {"authorization": "Bearer sk-client", "x-api-key": "sk-client", "x-amz-security-token": "sk-client",
          "x-amz-date": "20000101T000000Z"}  # fmt: skip


async def asked(house: House, provider: str, **environ: str) -> tuple[Exchange, UpstreamRequest]:
    """A call to this provider, at 2023-11-14 22:13:20 UTC."""
    services = house.snapshot(
        f"providers: {{it: {provider}}}\n"
        'routes: [{name: m, match: {model: m}, targets: [{provider: it, model: "a.b-v1:0"}]}]\n',
        **environ,
    )
    exchange = call(body={**CHAT, "model": "m"}, headers=CLIENT)
    await execute(Pipeline().inbound, exchange, services)
    await execute(Pipeline().attempt, exchange, services)
    assert exchange.upstream is not None
    return exchange, exchange.upstream


@pytest.mark.parametrize(
    ("dialect", "secret", "header"),
    [
        ("openai", "k", ("authorization", "Bearer k")), ("anthropic", "k", ("x-api-key", "k")),
        ("azure", "k", ("api-key", "k")), ("azure", "eyJ0.x", ("authorization", "Bearer eyJ0.x")),
        ("gemini", "k", ("x-goog-api-key", "k")), ("gemini", "ya29.x", ("authorization", "Bearer ya29.x")),
        ("cohere", "k", ("authorization", "Bearer k")),
        ("bedrock", "k", ("authorization", "Bearer k")), ("elevenlabs", "k", ("xi-api-key", "k")),
        ("deepgram", "k", ("authorization", "Token k")),
        # What looks like an AWS key is one for Bedrock alone.
        ("openai", f"{ACCESS}:{SECRET}", ("authorization", f"Bearer {ACCESS}:{SECRET}")),
        # And what only begins like one is a Bedrock API key.
        ("bedrock", ACCESS, ("authorization", f"Bearer {ACCESS}")),
        ("bedrock", f"akia1234567890123456:{SECRET}", ("authorization", f"Bearer akia1234567890123456:{SECRET}")),
    ],
)  # fmt: skip
async def test_every_scheme(house: House, dialect: str, secret: str, header: tuple[str, str]) -> None:
    rule = f'{{dialect: {dialect}, base_url: "https://it.example/v1", credential: {{value: "{secret}"}}}}'
    services = house.snapshot(
        f"providers: {{it: {rule}}}\nroutes: [{{name: m, match: {{model: m}}, targets: [{{provider: it}}]}}]\n"
    )
    exchange = call(body={**CHAT, "model": "m"}, headers=CLIENT)
    await execute((read_request, match_route), exchange, services)
    assert exchange.chosen is not None
    exchange.attempts.append(Attempt(1, exchange.chosen.targets[0], 0.0))
    await authorise(exchange, services)
    assert exchange.credential == (header,)
    assert exchange.attempts[0].secret == secret


def expected_signature(upstream: UpstreamRequest, region: str, *, token: str | None = None) -> str:
    """As AWS's reference describes it, by hand: "Create a signed AWS API request", steps 1 to 5."""
    date, stamp = "20231114", "20231114T221320Z"
    path, _, query = upstream.target.partition("?")
    assert not query
    signed = {"content-type": dict(upstream.headers)["content-type"], "host": upstream.origin.host, "x-amz-date": stamp}
    if upstream.origin.port != 443:
        signed["host"] += f":{upstream.origin.port}"
    if token:
        signed["x-amz-security-token"] = token
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    content = hashlib.sha256(upstream.body or b"").hexdigest()
    canonical = "\n".join(("POST", path.replace("%", "%25"), "", lines, names, content))
    scope = f"{date}/{region}/bedrock/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{SECRET}".encode()
    for part in (date, region, "bedrock", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    return f"AWS4-HMAC-SHA256 Credential={ACCESS}/{scope}, SignedHeaders={names}, Signature={signature}"


@pytest.mark.parametrize(
    ("base_url", "rule", "region"),
    [
        ("https://bedrock-runtime.eu-west-1.amazonaws.com", "", "eu-west-1"),
        ("https://bedrock-runtime.eu-west-1.amazonaws.com", ", region: us-west-2", "eu-west-1"),
        ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "", "us-gov-west-1"),
        ("https://bedrock-runtime.cn-north-1.amazonaws.com.cn", "", "cn-north-1"),
        ("https://vpce-1.internal.example:8443", ", region: ap-south-1", "ap-south-1"),
        ("https://vpce-1.internal.example", "", "us-east-1"),
    ],
)
async def test_a_bedrock_call_is_signed(house: House, base_url: str, rule: str, region: str) -> None:
    """The address names the region; else the rules do. The key itself never travels."""
    provider = f'{{dialect: bedrock, base_url: "{base_url}", credential: {{env: AWS}}{rule}}}'
    exchange, upstream = await asked(house, provider, AWS=f"{ACCESS}:{SECRET}")
    assert upstream.target == "/model/a.b-v1%3A0/converse"
    assert dict(exchange.credential) == {
        "x-amz-date": "20231114T221320Z", "authorization": expected_signature(upstream, region),
    }  # fmt: skip
    assert SECRET not in repr((upstream, exchange.credential))
    assert "sk-client" not in repr((upstream, exchange.credential))
    assert exchange.attempt is not None
    assert exchange.attempt.secret == f"{ACCESS}:{SECRET}", "so that a 401 turns to the next key"
    assert SECRET not in repr(exchange)


async def test_a_sessions_token_is_signed_and_sent(house: House) -> None:
    """It may hold a colon itself."""
    provider = '{dialect: bedrock, base_url: "https://bedrock-runtime.eu-west-1.amazonaws.com", credential: {env: AWS}}'
    exchange, upstream = await asked(house, provider, AWS=f"{ACCESS}:{SECRET}:{SESSION}")
    assert dict(exchange.credential) == {
        "x-amz-date": "20231114T221320Z", "x-amz-security-token": SESSION,
        "authorization": expected_signature(upstream, "eu-west-1", token=SESSION),
    }  # fmt: skip


async def test_each_attempt_is_signed_at_its_own_time(house: House) -> None:
    """AWS refuses a signature that is five minutes old."""
    services = house.snapshot(
        'providers: {bedrock: {base_url: "https://bedrock-runtime.eu-west-1.amazonaws.com", credential: {env: AWS}}}\n'
        "routes: [{name: m, match: {model: m}, targets: [{provider: bedrock, model: a}]}]\n",
        AWS=f"{ACCESS}:{SECRET}",
    )
    exchange = call("/v1/chat/completions", {**CHAT, "model": "m"})
    await execute(Pipeline().inbound, exchange, services)
    await execute(Pipeline().attempt, exchange, services)
    first = dict(exchange.credential)
    house.clock.unix += 400
    await execute(Pipeline().attempt, exchange, services)
    second = dict(exchange.credential)
    assert (first["x-amz-date"], second["x-amz-date"]) == ("20231114T221320Z", "20231114T222000Z")
    assert first["authorization"] != second["authorization"]


def test_a_signature_is_bound_to_what_is_sent() -> None:
    """Another body, path, host, day or region has another signature; an earlier attempt's headers change nothing."""

    def signed(
        url: str = "https://h.example/model/a%3A0/converse", body: bytes = b"{}", region: str = "r", day: int = 1
    ) -> str:
        fields = [("content-type", "application/json"), ("authorization", "old"), ("X-Amz-Date", "old")]
        at = datetime(2026, 1, day, tzinfo=UTC)
        made = sign("POST", url, fields, body, access_key=ACCESS, secret_key=SECRET, session_token=None, region=region,
                    service="bedrock", at=at)  # fmt: skip
        return dict(made)["authorization"]

    others = [signed(url="https://h.example/model/a:0/converse"), signed(url="https://i.example/model/a%3A0/converse"),
              signed(body=b"{ }"), signed(region="s"), signed(day=2)]  # fmt: skip
    assert len({signed(), *others}) == 6
    assert signed() == signed()
