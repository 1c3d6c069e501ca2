"""What the record of an exchange costs: on the request path, and in the thread that writes it.

    .venv/bin/python bench/recording.py

A whole exchange costs the gateway some 500 µs of CPU (bench/gateway.py); these are the microseconds of it that go into
telling of it: CPU time of the thread, medians over the turns; each part is timed alone, in turns with the others.
"""

import asyncio
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from mitmgate.bodies import MemoryBody
from mitmgate.console.requests import Requests
from mitmgate.exchange import Arrival, Endpoint, Exchange, Origin, Usage
from mitmgate.pipeline import Pipeline, execute
from mitmgate.record import Record
from mitmgate.runtime import Shared, Snapshot, compile_rules
from mitmgate.stages.record import record
from mitmgate.stages.services import Services
from mitmgate.telemetry.costs import cost_of
from mitmgate.telemetry.metrics import Metrics
from mitmgate.telemetry.records import RecordLog, record_line

TURNS = 15
TIMES = 300                                 # a turn: fewer than the record log takes in before its thread wakes
BODY = {"model": "fast", "messages": [{"role": "user", "content": "x" * 900}], "gateflow": {"tags": {"team": "a", "env": "p"}}}
RULES = """
version: 1
providers:
  here: {dialect: openai, base_url: https://api.openai.com/v1, region: eu, credential: {value: sk-1}}
  there: {dialect: openai, base_url: https://there.example/v1, region: us, credential: {value: sk-2}}
routes:
  - name: drafts
    match: {model: fast}
    targets: [{provider: here, model: gpt-4o-mini}, {provider: there, model: m}]
policies: [{name: eu-only, match: {}, allow: {regions: [eu]}}]
"""


async def nothing(exchange: Exchange, services: Services) -> None:
    """A stage."""


async def finished(snapshot: Snapshot) -> Exchange:
    """An exchange that one target has answered."""
    path, fields = "/v1/chat/completions", (("content-type", "application/json"), ("user-agent", "OpenAI/Python 2.0"))
    arrival = Arrival(True, False, Origin("http", "127.0.0.1", 8080), "POST", path, path, "", "127.0.0.1", "HTTP/1.1")
    now = time.monotonic()
    exchange = Exchange(
        "req_1", arrival, dict(fields), fields, now, time.time(), endpoint=Endpoint("chat", "openai", "/chat/completions"),
        body=MemoryBody(orjson.dumps(BODY)),
    )  # fmt: skip
    await execute(Pipeline().inbound, exchange, snapshot)
    await execute(Pipeline().attempt, exchange, snapshot)
    attempt = exchange.attempts[0]
    attempt.asked, attempt.connected, attempt.first_byte = now + 0.001, now + 0.002, now + 0.4
    attempt.ended = now + 0.5
    exchange.head, exchange.whole, exchange.ended, exchange.status = now + 0.0001, now + 0.0002, now + 0.501, 200
    exchange.usage, exchange.served_model = Usage(230, 80), "gpt-4o-mini-2024-07-18"
    return exchange


def micros(once: Callable[[], object], times: int = TIMES) -> float:
    began = time.thread_time()
    for _ in range(times):
        once()
    return (time.thread_time() - began) / times * 1e6


def timed_stages(snapshot: Snapshot, exchange: Exchange) -> float:
    """What timing nine stages costs: stages that do nothing, run by the pipeline and by a bare loop."""

    async def run(times: int) -> tuple[float, float]:
        stages = (nothing,) * 9
        began = time.thread_time()
        for _ in range(times):
            await execute(stages, exchange, snapshot)
        timed = time.thread_time() - began
        began = time.thread_time()
        for _ in range(times):
            for stage in stages:
                await stage(exchange, snapshot)
        return timed, time.thread_time() - began

    timed, bare = asyncio.run(run(TIMES))
    return (timed - bare) / TIMES * 1e6


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rules.yaml").write_text(RULES, encoding="utf-8")
        snapshot = compile_rules(Path(folder), {}, Origin("http", "127.0.0.1", 1), Shared())
    exchange = asyncio.run(finished(snapshot))
    metrics = Metrics("bench", known_models=["gpt-4o-mini", "m"], known_routes=["drafts"], known_providers=["here", "there"])
    written: list[Record] = []
    sink = os.open(os.devnull, os.O_WRONLY)
    log = RecordLog(sink, on_cost=metrics.spend)
    told = record(exchange, rules=1)
    requests, numbers = Requests(), itertools.count()

    def held() -> None:
        exchange.id = f"req_{next(numbers)}"
        requests.began(exchange, snapshot)
        requests.ended(exchange, told)

    parts: dict[str, Callable[[], float]] = {
        "timing nine stages": lambda: timed_stages(snapshot, exchange),
        "`record`": lambda: micros(lambda: written.append(record(exchange, rules=1))),
        "`Metrics.observe`": lambda: micros(lambda: metrics.observe(told)),
        "`RecordLog.offer`": lambda: micros(lambda: log.offer(told)),
        "holding it for `/requests`": lambda: micros(held),
        "in the log's thread: the cost": lambda: micros(lambda: cost_of(told)),
        "in the log's thread: the line, cost included": lambda: micros(lambda: record_line(told)),
    }
    figures: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(TURNS):
        for name, part in parts.items():
            figures[name].append(part())
            written.clear()
    print("| | µs |\n| --- | ---: |")
    for name, values in figures.items():
        print(f"| {name} | {statistics.median(values):.1f} |")
    path = sum(statistics.median(values) for name, values in figures.items() if "thread" not in name)
    print(f"| **on the request path, in all** | **{path:.1f}** |")
    log.close()
    os.close(sink)


if __name__ == "__main__":
    main()
