"""AWS Signature Version 4 over one request, by botocore's signer.

botocore takes the time from the clock only in `add_auth`, which also writes the canonical request to its debug log, session
token included. Its other steps are public and pure, so the four of them are called here, and the time is given.

The path is signed as it stands in the URL, percent-encoded once more (every service but S3): `/model/a%3A0/converse` is signed
as `/model/a%253A0/converse`. Whoever sends the request must send that very path; a client that writes `%3A` back to `:` breaks
the signature. (AWS General Reference, "Create a signed AWS API request".)
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import Credentials  # type: ignore[import-untyped]

_OURS: Final = frozenset({"authorization", "x-amz-date", "x-amz-security-token"})


def sign(
    method: str,
    url: str,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    *,
    access_key: str,
    secret_key: str,
    session_token: str | None,
    region: str,
    service: str,
    at: datetime,
) -> tuple[tuple[str, str], ...]:
    """The headers to add. `url`: as it is sent. `headers`: those that the signature is to cover beside the host and these;
    each must then be sent as it is. `at`: aware; AWS refuses one that is 5 minutes off."""
    stamp = at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    added = {"x-amz-date": stamp}
    if session_token:
        added["x-amz-security-token"] = session_token
    request = AWSRequest(method=method, url=url, data=body)
    covered = [(name, value) for name, value in headers if name.lower() not in _OURS]     # an earlier attempt's may be there
    for name, value in (*covered, *added.items()):
        request.headers[name] = value       # appends: a name may come twice
    request.context["timestamp"] = stamp
    signer = SigV4Auth(Credentials(access_key, secret_key, session_token), service, region)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    names = signer.signed_headers(signer.headers_to_sign(request))
    signature = signer.signature(text, request)
    added["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={names}, Signature={signature}"
    )
    return tuple(added.items())
