"""THREATS row 23, all at once: a minute of bad clients and providers, while a good client's calls all succeed.

How long they take is told and decides nothing; `bench/siege.py` measures it.
"""

import asyncio
import contextlib
import itertools
import json
import os
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from attacked import CHAT, call, counted, provider, resident, rules

from rig import behaviours as does
from rig.attacks import ATTACKS
from rig.gateway import Gateway
from rig.starts import StartGateway, StartUpstream

SECONDS = 60.0
ATTACKERS = Path(__file__).resolve().parents[2] / "bench" / "attackers.py"
KINDS = [attack.__name__ for attack in ATTACKS]


def descriptors(gateway: Gateway) -> int:
    return len(os.listdir(f"/proc/{gateway.child.pid}/fd"))


@contextlib.asynccontextmanager
async def besieged(gateway: Gateway) -> AsyncIterator[asyncio.subprocess.Process]:
    """Attackers at work, in a process of their own: what they do must not hold up the good client's loop."""
    order = {"port": gateway.proxy_port, "host": "llm.test", "seconds": SECONDS, "idle": 100, "only": KINDS}
    environment = {**os.environ, "PYTHONPATH": str(ATTACKERS.parents[1] / "tests")}
    attackers = await asyncio.create_subprocess_exec(
        sys.executable, str(ATTACKERS), json.dumps(order), stdin=PIPE, stdout=PIPE, env=environment
    )
    assert attackers.stdin is not None
    assert attackers.stdout is not None
    try:
        assert await attackers.stdout.readline() == b"ready\n"
        attackers.stdin.write(b"\n")
        yield attackers
    finally:
        if attackers.returncode is None:
            attackers.terminate()
        await attackers.communicate()


async def good_client(gateway: Gateway, end: float) -> list[float]:
    """Calls of every kind, each of which must succeed; how long each took, in seconds."""
    took: list[float] = []
    for number in itertools.count():
        began = time.monotonic()
        streamed, through = number % 2 == 1, "llm.test:443" if number % 4 > 1 else None
        answer = await call(gateway, through=through, body=json.dumps({**CHAT, "stream": streamed}).encode(), within=10)
        took.append(time.monotonic() - began)
        assert (answer.status, answer.whole) == (200, True), (number, answer)
        assert (b"[DONE]" if streamed else b'"hello"') in answer.body
        if time.monotonic() > end:
            return took
        await asyncio.sleep(0.05)
    raise AssertionError("unreachable")


@pytest.mark.timeout(240)
async def test_a_good_client_is_served_throughout(
    gateway: StartGateway, upstream: StartUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    served, flood = upstream(does.ok(events=5)), upstream(does.firehose(events=2000))
    faults = (
        does.reset_before_headers(),
        does.garbage(),
        does.cut(),
        does.status(500),
        does.broken_gzip(),
        does.early_eof(),
        does.json_cut(),
    )
    broken = upstream(*faults * 1000)
    document = rules(provider(served), match={"model": ["m"]}, intercept=["llm.test"], limits={"concurrency": 500})
    document["providers"] |= {
        "flood": provider(flood),
        "broken": provider(broken),
        "keyed": provider(upstream(does.status(401)), credential="client"),
    }
    for name in ("flood", "broken", "keyed"):
        document["models"] = {**document.get("models", {}), name: {"targets": [{"provider": name}], "retry": {"max": 0}}}
    gate = gateway(document)
    for through in (None, "llm.test:443"):
        assert (await call(gate, through=through)).status == 200
    await asyncio.sleep(0.5)
    before, memory = descriptors(gate), resident(gate)
    async with besieged(gate) as attackers:
        took = sorted(await good_client(gate, time.monotonic() + SECONDS))
        assert attackers.stdout is not None
        made = json.loads(await attackers.stdout.readline())["made"]
    assert len(took) > 20
    assert set(made) == {"idle", *KINDS}
    assert min(made.values()) > 3, made
    with capsys.disabled():
        p50, p99 = (took[len(took) * share // 100] * 1000 for share in (50, 99))
        print(f"\nsiege: {len(took)} good calls, p50 {p50:.0f} ms, p99 {p99:.0f} ms; {sum(made.values())} attacks")

    async with asyncio.timeout(20):
        while descriptors(gate) > before + 8 or counted(gate, "mitmgate_in_flight"):
            await asyncio.sleep(0.25)
    assert resident(gate) - memory < 150 << 20
    assert counted(gate, "mitmgate_addon_errors_total") == 0
    assert counted(gate, "mitmgate_records_dropped_total") == 0
    assert (await call(gate)).status == 200
    lines = gate.errors().splitlines()
    assert len(lines) < 200, "\n".join(sorted(set(lines))[:30])
