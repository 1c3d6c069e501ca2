"""The graceful end: what is in flight finishes within its bound, what is new is refused, the ports close."""

import signal
import threading
import time

import httpx

from rig import behaviours as does
from rig.starts import StartGateway, StartUpstream

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def rules(port: int, **more: object) -> dict[str, object]:
    provider = {"dialect": "openai", "base_url": f"http://127.0.0.1:{port}/v1"}
    return {"providers": {"up": provider}, "routes": [{"name": "all", "targets": [{"provider": "up"}]}], **more}


def test_a_stream_ends_and_new_calls_are_refused(gateway: StartGateway, upstream: StartUpstream) -> None:
    server = upstream(does.ok_stream(events=10, gap=0.2))
    gate = gateway(rules(server.port))
    got: list[str] = []

    def read() -> None:
        with (
            httpx.Client(trust_env=False, timeout=20) as client,
            client.stream("POST", f"{gate.base_url}/chat/completions", json={**CHAT, "stream": True}) as reply,
        ):
            got.append("".join(reply.iter_text()))

    reader = threading.Thread(target=read)
    reader.start()
    server.wait("request")
    time.sleep(0.4)
    gate.child.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    status, _ = gate.admin("/readyz")
    assert status == 503
    refused = httpx.post(f"{gate.base_url}/chat/completions", json=CHAT, trust_env=False)
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "draining"
    assert "retry-after" in refused.headers
    reader.join(15)
    assert got
    assert got[0].endswith("data: [DONE]\n\n")
    assert gate.child.wait(5) == 0
    assert [each["status"] for each in gate.records(2)] == [503, 200]


def test_the_drain_is_bounded(gateway: StartGateway, upstream: StartUpstream) -> None:
    server = upstream(does.hang())
    gate = gateway(rules(server.port, limits={"drain": "1s"}))
    threading.Thread(target=_ignore, args=(f"{gate.base_url}/chat/completions",), daemon=True).start()
    server.wait("request")
    started = time.monotonic()
    gate.child.send_signal(signal.SIGTERM)
    assert gate.child.wait(8) == 0
    assert time.monotonic() - started < 6
    server.wait("closed")


def _ignore(url: str) -> None:
    try:
        httpx.post(url, json=CHAT, trust_env=False, timeout=20)
    except httpx.HTTPError:
        return
