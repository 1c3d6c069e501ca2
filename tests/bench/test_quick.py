"""The benchmark runs, all of it, and its counts add up. What it measures is never a reason to fail."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
