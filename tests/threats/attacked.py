"""What the tests of threats share: rules, raw calls through both ways in, and what a refusal must look like."""

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator
from typing import Any

from mitmgate.errors import CODES
from rig.behaviours import Request
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.wire import Answer, Fields, Http1, Streams, connect

PATH = "/v1/chat/completions"
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
ASK = json.dumps(CHAT).encode()
JSON = ("content-type", "application/json")

_REQUEST_ID = re.compile(r"req_[0-9a-f]{32}")


def provider(upstream: Upstream, **more: Any) -> dict[str, Any]:
    """An OpenAI-dialect provider at a scripted upstream."""
    return {"dialect": "openai", "base_url": upstream.base_url, **more}


def rules(*providers: dict[str, Any], match: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """One route, `chat`, over these providers in turn (p0, p1, …), each tried once; default: all chat."""
    return {
        "providers": {f"p{number}": each for number, each in enumerate(providers)},
        "routes": [
            {
                "name": "chat",
                "match": {"operation": "chat"} if match is None else match,
                "targets": [{"provider": f"p{number}"} for number in range(len(providers))],
                "retry": {"max": 0},
                "timeout": {"connect": "2s", "first_token": "2s", "idle": "2s", "total": "8s"},
            }
        ],
        **more,
    }


def careless(*protocols: str) -> ssl.SSLContext:
    """An attacker's TLS: it believes every certificate. Without `protocols` it offers no ALPN."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@contextlib.asynccontextmanager
async def wire(gateway: Gateway) -> AsyncIterator[Http1]:
    """A connection to the gateway's port, broken afterwards."""
    streams = await connect(gateway)
    try:
        yield Http1(streams)
    finally:
        await dropped(streams)


async def dropped(streams: Streams) -> None:
    """Break a connection, and wait until it is gone."""
    streams[1].transport.abort()
    with contextlib.suppress(OSError, TimeoutError, ssl.SSLError):
        await asyncio.wait_for(streams[1].wait_closed(), 2)


async def ask_tunnel(client: Http1, to: str, *headers: tuple[str, str]) -> Answer:
    """CONNECT; the proxy's answer, whole where it is a refusal."""
    client.send("CONNECT", to, (("host", to), *headers))
    answer = await client.head()
    if answer.status != 200:
        length = int(answer.header("content-length") or 0)
        answer.body = await asyncio.wait_for(client.reader.readexactly(length), 5)
    return answer


@contextlib.asynccontextmanager
async def tunnelled(
    gateway: Gateway, to: str, *, sni: str | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Http1]:
    """CONNECT to `to`, which must be granted, and TLS in it if `tls` is given, under the server name `sni`."""
    async with wire(gateway) as client:
        answer = await ask_tunnel(client, to)
        assert answer.status == 200, (answer.status, answer.body)
        if tls is not None:
            await asyncio.wait_for(client.writer.start_tls(tls, server_hostname=sni or ""), 5)
        yield client


async def call(
    gateway: Gateway,
    target: str = PATH,
    *,
    through: str | None = None,
    host: str | None = None,
    method: str = "POST",
    headers: Fields = (JSON,),
    body: bytes = ASK,
    within: float = 10.0,
) -> Answer:
    """One call: directly, or `through` a tunnel to this `host:port` with TLS in it. `host`: another Host header."""
    named = host if host is not None else through or gateway.authority
    fields = (("host", named), *headers)
    if through is None:
        async with wire(gateway) as client:
            client.send(method, target, fields, body)
            return await client.reply(within)
    async with tunnelled(gateway, through, sni=through.rpartition(":")[0], tls=careless()) as client:
        client.send(method, target, fields, body)
        return await client.reply(within)


def error_of(answer: Answer) -> dict[str, Any]:
    """The error in OpenAI's shape that a reply must be; its type must be its code's."""
    assert answer.whole, answer
    assert answer.header("content-type") == "application/json", answer
    assert answer.header("server") is None, answer
    error: dict[str, Any] = json.loads(answer.body)["error"]
    assert set(error) == {"message", "type", "param", "code", "doc_url"}
    assert error["type"] == CODES[error["code"]].type
    assert error["message"]
    return error


def refused(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """A refusal with this status and code, complete; its error."""
    assert (answer.status, error_of(answer)["code"]) == (status, code), answer
    return error_of(answer)


def recorded(gateway: Gateway, answer: Answer) -> dict[str, Any]:
    """The one record of the exchange that a reply belongs to."""
    request_id = answer.header("x-gateway-request-id") or ""
    assert _REQUEST_ID.fullmatch(request_id), answer
    return gateway.record(request_id)


def counted(gateway: Gateway, name: str, **labels: str) -> float:
    """The sum of the metric's series that have these labels; 0 if there is none."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    lines = (line for line in gateway.admin("/metrics")[1].splitlines() if re.match(rf"{name}[{{ ]", line))
    return sum(float(line.rpartition(" ")[2]) for line in lines if all(want in line for want in wanted))


def resident(gateway: Gateway, field: str = "VmRSS") -> int:
    """Bytes of memory that the gateway's process has; with "VmHWM" the most that it had since `forget_peak`."""
    with open(f"/proc/{gateway.child.pid}/status") as status:
        (line,) = (line for line in status if line.startswith(field + ":"))
    return int(line.split()[1]) << 10


def forget_peak(gateway: Gateway) -> int:
    """Let the peak of `resident` begin anew; the memory of now."""
    with open(f"/proc/{gateway.child.pid}/clear_refs", "w") as refs:
        refs.write("5")
    return resident(gateway)


def everything(request: Request) -> bytes:
    """All that an upstream saw of a request, as one text to search."""
    fields = b"".join(name + b": " + value + b"\n" for name, value in request.headers)
    return f"{request.method} {request.path}\n".encode("latin-1") + fields + request.body
