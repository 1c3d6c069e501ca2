"""Exchanges and services for the stages' tests: the real ones, from rules text, with a clock that stands still."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from mitmgate.bodies import MemoryBody
from mitmgate.endpoints.paths import normalise
from mitmgate.endpoints.recognition import recognise
from mitmgate.exchange import Arrival, Body, Endpoint, Exchange, Origin
from mitmgate.runtime import Shared, Snapshot, compile_rules

SIMULATOR = Origin("http", "127.0.0.1", 4321)
GATEWAY = Origin("http", "127.0.0.1", 8080)
OPENAI = Origin("https", "api.openai.com", 443)
JSON = {"content-type": "application/json"}
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}


@dataclass
class Clock:
    """Stands still until it is moved."""

    now: float = 1_000.0
    unix: float = 1_700_000_000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.unix


@dataclass
class House:
    """A rules folder and what its rules become."""

    folder: Path
    clock: Clock = field(default_factory=Clock)

    def snapshot(self, rules: str, random: Callable[[], float] = lambda: 0.5, **environ: str) -> Snapshot:
        """`rules` are the YAML without its version."""
        (self.folder / "rules.yaml").write_text(f"version: 1\n{rules}", encoding="utf-8")
        return compile_rules(self.folder, environ, SIMULATOR, Shared(clock=self.clock, random=random))


def call(
    target: str = "/v1/chat/completions",
    body: bytes | dict[str, Any] | Body | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "POST",
    direct: bool = True,
    origin: Origin | None = None,
    websocket: bool = False,
    client: str = "127.0.0.1",
    fields: tuple[tuple[str, str], ...] | None = None,
) -> Exchange:
    """An exchange as the bridge makes it. A dict is sent as JSON; `fields` are the header lines where order matters."""
    if isinstance(body, dict):
        body = orjson.dumps(body)
        headers = {**JSON, **(headers or {})}
    path, query = normalise(target)
    fields = fields if fields is not None else tuple((headers or {}).items())
    joined: dict[str, str] = {}
    for name, value in fields:
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    arrival = Arrival(
        direct=direct,
        intercepted=not direct,
        origin=origin or (GATEWAY if direct else OPENAI),
        method=method,
        target=target,
        path=path,
        query=query,
        client=client,
        http_version="HTTP/1.1",
        websocket=websocket,
    )
    return Exchange(
        id="req_1",
        arrival=arrival,
        request_headers=joined,
        header_fields=fields,
        started=1_000.0,
        started_at=1_700_000_000.0,
        endpoint=recognise(arrival) or Endpoint("other", "openai", path),
        body=MemoryBody(body) if isinstance(body, bytes) else body,
    )
