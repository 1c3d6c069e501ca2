"""The benchmarks run, all of them, and their counts add up. What they measure is never a reason to fail."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rig.attacks import ATTACKS

BENCH = Path(__file__).resolve().parents[2] / "bench" / "gateway.py"

PLAIN = {"upstream-plain", "mitmdump-reverse", "mitmgate-reverse", "mitmgate-direct"}
TLS = {"upstream-tls", "mitmdump-tls", "mitmgate-tls"}
STREAMS = {"upstream-plain", "mitmdump-reverse-streamed", "mitmgate-reverse", "mitmgate-direct",
           "upstream-tls", "mitmdump-tls-streamed", "mitmgate-tls"}
EXPECTED = {
    "1 kB requests, 64 connections": PLAIN | TLS,
    "16 connections, 100 requests a second in all": PLAIN | TLS,
    "64 streams, 20 events a second each": STREAMS,
    "the same, the last TLS session offered again": TLS | {"mitmdump-tls-p256"},
}


@pytest.mark.timeout(400)
def test_every_figure_is_produced_and_the_counts_agree(tmp_path: Path) -> None:
    answer = tmp_path / "figures.json"
    done = subprocess.run([sys.executable, str(BENCH), "--quick", "--json", str(answer)],
                          capture_output=True, text=True, timeout=380)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(answer.read_text())
    assert {case: {row["contender"] for row in found["cases"] if row["case"] == case} for case in EXPECTED} == EXPECTED
    for row in found["cases"]:
        assert row["count"] > 0
        assert (row["failures"], row["unaccounted"], row["unrecorded"]) == ({}, 0, 0)
        assert row["per_second"]["low"] <= row["per_second"]["value"] <= row["per_second"]["high"]
        assert row["latency"]["p50"] <= row["latency"]["p99"]
        assert (row["cpu"] is None) == row["contender"].startswith("upstream")
        streamed = "streams" in row["case"]
        assert row["events"] == (20 * row["count"] if streamed else 0)
        assert all((row[figure] is not None) == streamed for figure in ("first", "underway", "stretch"))
    assert [row["contender"] for row in found["memory"]] == ["mitmdump-tls-streamed", "mitmgate-tls"]
    for row in found["memory"]:
        assert min(row["requests"], row["streams"], row["connections"], row["start"], row["peak"]) > 0
        assert row["failures"] == {}
    for ratio in ("mitmgate-reverse / mitmdump-reverse", "mitmgate-direct / mitmdump-reverse",
                  "mitmgate-tls / mitmdump-tls"):
        assert ratio in done.stdout


@pytest.mark.timeout(120)
def test_a_siege_of_three_seconds(tmp_path: Path) -> None:
    """The good client's calls succeed, each attack is made, and every figure is there."""
    answer = tmp_path / "siege.json"
    done = subprocess.run([sys.executable, str(BENCH.with_name("siege.py")), "--seconds", "3", "--json", str(answer)],
                          capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    peace, siege, again = json.loads(answer.read_text())["phases"]
    assert set(siege["made"]) == {"idle", *(attack.__name__ for attack in ATTACKS)}
    assert min(siege["made"].values()) > 0
    assert peace["made"] == again["made"] == {}
    for phase in (peace, siege, again):
        assert set(phase["felt"]) == {"direct", "intercepted", "new connection"}
        for felt in phase["felt"].values():
            assert felt["calls"] > 0
            assert felt["failures"] == {}
            assert 0 < felt["p50"] <= felt["p99"] <= felt["most"]
        assert phase["lag"]["probes"] > 0
        assert phase["lag"]["failures"] == 0


@pytest.mark.timeout(120)
def test_every_bomb_once(tmp_path: Path) -> None:
    """Refused, each of them, from either side."""
    answer = tmp_path / "bombs.json"
    done = subprocess.run([sys.executable, str(BENCH.with_name("bombs.py")), "--quick", "--json", str(answer)],
                          capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    costs = json.loads(answer.read_text())["costs"]
    assert len({(cost["case"]["side"], cost["case"]["body"], cost["case"]["encoding"]) for cost in costs}) == 12
    for cost in costs:
        assert cost["answers"] == {str(cost["case"]["status"]): 1}
        assert cost["lag"]["probes"] > 0


@pytest.mark.timeout(60)
def test_two_reloads(tmp_path: Path) -> None:
    answer = tmp_path / "reload.json"
    done = subprocess.run([sys.executable, str(BENCH.with_name("reload.py")), "--quick", "--json", str(answer)],
                          capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(answer.read_text())
    assert found["routes"] == 21
    for times in (*found["quiet"].values(), *found["reloading"].values(), found["between_turns"]):
        assert times["count"] > 0
        assert times["p50"] <= times["max"]
    assert 0 < found["reload_seconds"]["median"] <= found["reload_seconds"]["max"]


@pytest.mark.timeout(60)
def test_every_dialect_once(tmp_path: Path) -> None:
    answer = tmp_path / "dialects.json"
    done = subprocess.run([sys.executable, str(BENCH.with_name("dialects.py")), "--quick", "--json", str(answer)],
                          capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    costs = json.loads(answer.read_text())["costs"]
    ways: dict[str, set[str]] = {what: set() for what in ("request", "reply", "event", "needs")}
    for cost in costs:
        ways[cost["what"]].add(cost["way"])
        assert 0 < cost["best"] <= cost["median"]
        assert min(cost["json"], cost["orjson"], cost["size"]) > 0
        assert cost["way"] in done.stdout
    codecs = {f"{dialect}, client" for dialect in ("openai", "responses", "anthropic", "gemini")}
    codecs |= {f"{dialect}, provider" for dialect in ("openai", "anthropic", "gemini", "bedrock", "cohere")}
    assert ways["request"] == ways["reply"] == codecs
    assert {"openai ← anthropic", "anthropic ← openai", "gemini ← openai", "openai, as it came"} <= ways["event"]
    assert len(ways["needs"]) == 1
