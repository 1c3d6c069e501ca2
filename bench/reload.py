"""How long a reload of the rules takes, and how long requests are held up meanwhile.

    .venv/bin/python bench/reload.py [--files 200] [--routes 10] [--reloads 10] [--seconds 10] [--json FILE] [--quick]

The gateway is a process of its own. Two things are asked of it without a pause: `/healthz` of the admin port, whose answer
takes one turn of the event loop and no thread, and a chat through the port of the gateway. What they take longer during
reloads than in a quiet time is how long the loop was held up, as seen from outside.

That depends on who else wants the processor. What does not is measured from inside, on a loop of this process that turns
every half millisecond while it reloads: `between turns` is how much CPU time other threads got between two of its turns.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import uvloop

from mitmgate.cli.run import GC_THRESHOLDS
from mitmgate.exchange import Origin
from mitmgate.runtime import Shared, Snapshot, compile_rules
from mitmgate.telemetry.metrics import Metrics
from mitmgate.transport.reload import Reloading

ROOT = Path(__file__).parents[1]
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
RELOAD = b"POST /reload HTTP/1.1\r\nHost: 127.0.0.1\r\nx-mitmgate: reload\r\ncontent-length: 0\r\n\r\n"
BODY = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}]}'
CHAT = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
) % (
    len(BODY), BODY,
)  # fmt: skip


def write(folder: Path, files: int, routes: int, number: int) -> None:
    """Rules of the size that is asked for; `number` makes them different from those before."""
    folder.mkdir(exist_ok=True)
    listen = {"version": 1, "listen": {"proxy": "127.0.0.1:0", "admin": "127.0.0.1:0"}}
    providers = {name: {"dialect": "simulator"} for name in ("one", "two", "three")}
    last = {"name": f"last-{number}", "targets": [{"provider": "one"}]}
    put(folder / "00-main.yaml", json.dumps({**listen, "providers": providers}))
    put(folder / "99-last.yaml", json.dumps({"routes": [last]}))
    for file in range(files):
        put(folder / f"10-{file:04}.yaml", "routes:\n" + "".join(route(f"r-{file}-{each}") for each in range(routes)))


def put(path: Path, text: str) -> None:
    """A file that differs is replaced as editors do it."""
    if not path.exists() or path.read_text() != text:
        new = path.with_suffix(".new")
        new.write_text(text)
        new.replace(path)


def route(name: str) -> str:
    return f"""\
  - name: {name}
    match:
      host: api.openai.com
      operation: chat
      model: ["gpt-4o-mini*", "{name}/*"]
      header: {{x-team: "{name}"}}
    targets:
      - {{provider: one, model: llama-3.3-70b-versatile, weight: 3}}
      - {{provider: two, model: gpt-4o-mini, weight: 1, priority: 1}}
    fallback: [{{provider: three, model: claude-haiku-4-5}}]
    retry: {{max: 2, on: [connect, timeout, 429, 5xx]}}
    timeout: {{connect: 5s, first_token: 30s}}
"""


@contextlib.asynccontextmanager
async def gateway(folder: Path) -> AsyncIterator[tuple[int, int]]:
    """Its ports."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "addon")}
    command = (sys.executable, "-m", "mitmgate", "run", "--rules", str(folder / "rules"), "--confdir", str(folder / "conf"))
    with (folder / "records").open("wb") as records:
        child = await asyncio.create_subprocess_exec(
            *command, stdout=records, stderr=asyncio.subprocess.PIPE, env=environment
        )
    assert child.stderr is not None
    told = ""
    while not (admin := re.search(r"127\.0\.0\.1:([0-9]+)/readyz", told)):
        line = await child.stderr.readline()
        if not line:
            raise SystemExit(f"the gateway did not start: {told}")
        told += line.decode()
    rest = asyncio.ensure_future(child.stderr.read())
    proxy = re.search(r"curl http://127\.0\.0\.1:([0-9]+)/v1", told)
    assert proxy is not None
    try:
        yield int(proxy[1]), int(admin[1])
    finally:
        child.terminate()
        await child.wait()
        await rest


async def ask(port: int, request: bytes) -> bytes:
    """One request on a connection of its own, which the other side ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await reader.read()
    finally:
        writer.close()


async def health(port: int, times: list[float]) -> None:
    """Asks again and again, with a pause of a millisecond."""
    while True:
        began = time.perf_counter()
        reply = await ask(port, HEALTH)
        times.append(time.perf_counter() - began)
        assert reply.startswith(b"HTTP/1.1 200"), reply
        await asyncio.sleep(0.001)


async def chat(port: int, times: list[float]) -> None:
    """The same for a whole exchange, on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while True:
            began = time.perf_counter()
            writer.write(CHAT)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = re.search(rb"content-length: ([0-9]+)", head.lower())
            assert length is not None
            await reader.readexactly(int(length[1]))
            times.append(time.perf_counter() - began)
            await asyncio.sleep(0.001)
    finally:
        writer.close()


async def measured(ports: tuple[int, int], during: Any) -> dict[str, dict[str, float]]:
    """What the two askers see while `during` runs."""
    seen: dict[str, list[float]] = {"healthz": [], "chat": []}
    askers = [asyncio.ensure_future(health(ports[1], seen["healthz"])), asyncio.ensure_future(chat(ports[0], seen["chat"]))]
    try:
        await during
    finally:
        for asker in askers:
            if asker.done():
                asker.result()
            asker.cancel()
        await asyncio.gather(*askers, return_exceptions=True)
    return {name: spread(times) for name, times in seen.items()}


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds."""
    cuts = statistics.quantiles(seconds, n=1000, method="inclusive")
    figures = {"p50": cuts[499], "p99": cuts[989], "p99.9": cuts[998], "max": max(seconds)}
    return {"count": len(seconds)} | {name: round(value * 1e3, 2) for name, value in figures.items()}


async def reloads(folder: Path, admin: int, options: argparse.Namespace, took: list[float]) -> None:
    """One after the other, with half a second between, in which what they left to do is done."""
    for number in range(1, options.reloads + 1):
        await asyncio.to_thread(write, folder / "rules", options.files, options.routes, number)
        began = time.perf_counter()
        reply = await ask(admin, RELOAD)
        took.append(time.perf_counter() - began)
        assert b'"changed":true' in reply, reply
        await asyncio.sleep(0.5)


async def run(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="mitmgate-reload-") as name:
        folder = Path(name)
        write(folder / "rules", options.files, options.routes, 0)
        async with gateway(folder) as ports:
            await asyncio.sleep(2.0)
            quiet = await measured(ports, asyncio.sleep(options.seconds))
            took: list[float] = []
            busy = await measured(ports, reloads(folder, ports[1], options, took))
    return {
        "routes": options.files * options.routes + 1,
        "quiet": quiet,
        "reloading": busy,
        "reload_seconds": {"median": round(statistics.median(took), 3), "max": round(max(took), 3)},
    }


class Standing:
    """Rules without a gateway."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.shared = folder, Shared()
        self.snapshot = compile_rules(folder, {}, Origin("http", "127.0.0.1", 1), self.shared)

    def compile(self, previous: Snapshot) -> Snapshot:
        return compile_rules(
            self.folder, {}, Origin("http", "127.0.0.1", 1), self.shared, previous.generation + 1, previous=previous
        )

    def check(self, snapshot: Snapshot) -> None:
        """They always may."""

    def take(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot


async def turn(got: list[float]) -> None:
    """Turns, and notes the seconds of CPU time that other threads got since the last time."""
    seen: dict[int, float] = {}
    own = threading.get_ident()
    while True:
        await asyncio.sleep(0.0005)
        between = 0.0
        for thread in threading.enumerate():
            if thread.ident is None or thread.ident == own:
                continue
            with contextlib.suppress(OSError):      # it has just ended
                now = time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
                between += now - seen.get(thread.ident, 0.0)
                seen[thread.ident] = now
        got.append(between)


async def inside(options: argparse.Namespace) -> dict[str, Any]:
    got: list[float] = []
    with tempfile.TemporaryDirectory(prefix="mitmgate-reload-") as name:
        folder = Path(name) / "rules"
        write(folder, options.files, options.routes, 0)
        reloading, standing = Reloading(folder, look_every=3600), Standing(folder)
        reloading.begin(standing, Metrics("bench"))
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        turning = asyncio.ensure_future(turn(got))
        for number in range(1, options.reloads + 1):
            write(folder, options.files, options.routes, number)
            outcome = await reloading.reload()
            assert outcome.word == "accepted", outcome
            await asyncio.sleep(0.5)
        turning.cancel()
        await reloading.end()
        began = time.thread_time()
        gc.collect()
        whole = time.thread_time() - began
    return {"between_turns": spread(got), "whole_collection_ms": round(whole * 1e3, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--routes", type=int, default=10, help="of each file")
    parser.add_argument("--reloads", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the quiet time")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--quick", action="store_true", help="shows that it runs; its times mean nothing")
    options = parser.parse_args()
    if options.quick:
        options.files, options.reloads, options.seconds = 2, 2, 0.5
    figures = asyncio.run(run(options)) | uvloop.run(inside(options))
    for part in ("quiet", "reloading"):
        for asked, times in figures[part].items():
            print(f"{part:10} {asked:8} " + "  ".join(f"{name} {value}" for name, value in times.items()))
    print(f"{figures['routes']} routes, a reload: median {figures['reload_seconds']['median']} s, "
          f"at most {figures['reload_seconds']['max']} s")
    print("between turns, ms: " + "  ".join(f"{name} {value}" for name, value in figures["between_turns"].items()))
    print(f"a collection of all cycles, afterwards: {figures['whole_collection_ms']} ms")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
