"""Signatures: AWS's documented vectors, botocore's own way to the same request, and the trap of the path."""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.session import Session

from mitmgate.providers.sigv4 import sign

AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
VECTORS = [
    # AWS's Signature Version 4 test suite, and the example of "Signature Version 4 signing process" (iam).
    ("get-vanilla", "GET", "https://example.amazonaws.com/", (), "service",
     "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ("get-vanilla-query-order-key-case", "GET", "https://example.amazonaws.com/?Param2=value2&Param1=value1", (), "service",
     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    ("get-header-key-duplicate", "GET", "https://example.amazonaws.com/",
     (("My-Header1", "value2"), ("My-Header1", "value2"), ("My-Header1", "value1")), "service",
     "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"),
    ("post-vanilla", "POST", "https://example.amazonaws.com/", (), "service",
     "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ("post-header-key-sort", "POST", "https://example.amazonaws.com/", (("My-Header1", "value1"),), "service",
     "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"),
    ("ListUsers", "GET", "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
     (("content-type", "application/x-www-form-urlencoded; charset=utf-8"),), "iam",
     "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"),
]  # fmt: skip


def signed(url: str, **fields: Any) -> dict[str, str]:
    given = {
        "method": "POST", "headers": (), "body": b"", "access_key": "AKIDEXAMPLE", "secret_key": SECRET, "session_token": None,
        "region": "us-east-1", "service": "bedrock", "at": AT,
    }  # fmt: skip
    return dict(sign(url=url, **(given | fields)))


@pytest.mark.parametrize(
    ("method", "url", "headers", "service", "signature"), [each[1:] for each in VECTORS], ids=[each[0] for each in VECTORS]
)
def test_documented_vectors(method: str, url: str, headers: Any, service: str, signature: str) -> None:
    added = signed(url, method=method, headers=headers, service=service)
    assert added["authorization"].endswith(f"Signature={signature}")
    assert f"Credential=AKIDEXAMPLE/20150830/us-east-1/{service}/aws4_request" in added["authorization"]
    assert added["x-amz-date"] == "20150830T123600Z"


URL = "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse"


def test_the_path_is_encoded_once_more() -> None:
    """What botocore signs for this URL; the escapes that are in it are escaped themselves."""
    request = AWSRequest("POST", URL, data=b"{}")
    assert SigV4Auth(Credentials("a", "b"), "bedrock", "us-east-1").canonical_request(request).splitlines()[1] == (
        "/model/anthropic.claude-3-haiku-20240307-v1%253A0/converse"
    )
    assert signed(URL, body=b"{}")["authorization"] != signed(URL.replace("%3A", ":"), body=b"{}")["authorization"]


class Caught(Exception):
    """Stands where the network would be."""

    def __init__(self, request: Any) -> None:
        super().__init__()
        self.request = request


def catch(request: Any, **_: Any) -> None:
    raise Caught(request)


def caught(token: str | None, model: str, **parameters: Any) -> Any:
    """The request that botocore's client would send."""
    session = Session()
    session.set_credentials("AKIDEXAMPLE", SECRET, token)
    client = session.create_client("bedrock-runtime", region_name="eu-west-3")
    client.meta.events.register("before-send.bedrock-runtime", catch)
    with pytest.raises(Caught) as found:
        client.converse(modelId=model, **parameters)
    return found.value.request


@pytest.mark.parametrize("token", [None, "IQoJb3JpZ2luX2Vj//8="])
@pytest.mark.parametrize(
    "model", ["amazon.nova-pro-v1:0", "arn:aws:bedrock:eu-west-3:123456789012:inference-profile/eu.amazon.nova-pro-v1:0"]
)
def test_the_sdk_signs_the_same(model: str, token: str | None) -> None:
    """The whole way of botocore's client, clock included: the same signature for the same request and time."""
    request = caught(token, model, messages=[{"role": "user", "content": [{"text": "Grüß dich"}]}])
    headers = {name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()}
    names = re.search("SignedHeaders=([^,]+)", headers["authorization"])
    assert names is not None
    covered = [(name, headers[name]) for name in names[1].split(";") if name != "host"]
    added = signed(
        request.url, headers=covered, body=request.body, session_token=token, region="eu-west-3",
        at=datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
    )  # fmt: skip
    assert added["authorization"] == headers["authorization"]
    assert added.get("x-amz-security-token") == headers.get("x-amz-security-token") == token


def test_everything_counts() -> None:
    """What a signature covers cannot be changed: each of these has its own."""
    variants = [
        signed(URL), signed(URL, body=b"{}"), signed(URL, method="PUT"), signed(URL + "-stream"), signed(URL + "?a=1"),
        signed(URL, headers=[("content-type", "application/json")]), signed(URL, session_token="t"),
        signed(URL, secret_key="s"), signed(URL, region="us-east-2"), signed(URL, service="s3"),
        signed(URL, at=AT + timedelta(seconds=1)),
    ]  # fmt: skip
    assert len({each["authorization"] for each in variants}) == len(variants)


def test_it_is_pure_and_knows_time_zones() -> None:
    paris = AT.astimezone(timezone(timedelta(hours=2)))
    assert signed(URL, at=paris) == signed(URL, at=AT) == signed(URL)


def test_the_headers_of_an_earlier_attempt_are_not_covered() -> None:
    stale = [("Authorization", "AWS4-HMAC-SHA256 old"), ("X-Amz-Date", "20150830T000000Z"), ("x-amz-security-token", "old")]
    assert signed(URL, headers=stale) == signed(URL)


def test_a_host_with_a_port_is_signed_as_it_is_sent() -> None:
    assert signed("https://proxy.internal:443/")["authorization"] == signed("https://proxy.internal/")["authorization"]
    assert signed("https://proxy.internal:8443/")["authorization"] != signed("https://proxy.internal/")["authorization"]
