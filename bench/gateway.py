"""The benchmark: mitmgate beside bare mitmdump and the upstream itself, in one run on one machine.

    python bench/gateway.py [--part json|latency|streams|tls|memory]… [--seconds N] [--rounds N] [--minutes N]
                            [--without NAME]… [--json FILE] [--quick]

Prints Markdown. Contenders take turns within each round, so that a slow moment of the machine hits all of them. The
exit code is 1 when requests failed or counts do not agree; no figure of time or size ever decides it.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import memory
from field import Contender, Field, Run, run, upstream
from figures import Figures, figures
from report import complaints, markdown

PLAIN = ("upstream-plain", "mitmdump-reverse", "mitmgate-reverse", "mitmgate-direct")
TLS = ("upstream-tls", "mitmdump-tls", "mitmgate-tls")
STREAMS = ("upstream-plain", "mitmdump-reverse-streamed", "mitmgate-reverse", "mitmgate-direct",
           "upstream-tls", "mitmdump-tls-streamed", "mitmgate-tls")
FRESH = ("upstream-tls", "mitmdump-tls", "mitmdump-tls-p256", "mitmgate-tls")
MEMORY = ("mitmdump-tls-streamed", "mitmgate-tls")


@dataclass(frozen=True, slots=True)
class Case:
    """One load, put on some contenders in turn. `load` holds fields of `clients.Order`."""

    part: str
    name: str
    contenders: tuple[str, ...]
    load: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case("json", "1 kB requests, 64 connections", PLAIN + TLS, {"load": "json", "connections": 64}),
    Case("latency", "16 connections, each as fast as it can", PLAIN + TLS, {"load": "json", "connections": 16}),
    Case("latency", "16 connections, 100 requests a second in all", PLAIN + TLS,
         {"load": "json", "connections": 16, "rate": 100.0}),
    Case("streams", "16 streams, 20 events a second each", STREAMS, {"load": "streams", "connections": 16, "warm": 1}),
    Case("streams", "64 streams, 20 events a second each", STREAMS, {"load": "streams", "connections": 64, "warm": 1}),
    Case("tls", "a new TLS connection for each request, 8 at a time", FRESH, {"load": "fresh", "connections": 8}),
    Case("tls", "the same, the last TLS session offered again", FRESH,
         {"load": "fresh", "connections": 8, "resume": True}),
)
PARTS = ("json", "latency", "streams", "tls", "memory")


def measure(place: Field, cases: Sequence[Case], seconds: float, rounds: int, without: Sequence[str]) -> list[Figures]:
    """Run the cases; every contender is started once, and they take turns in each round of each case."""
    answers = []
    with ExitStack() as running:
        started: dict[str, Contender] = {}
        for case in cases:
            for name in case.contenders:
                if name not in started and not any(word in name for word in without):
                    started[name] = running.enter_context(place.contender(name))
        for case in cases:
            runs: dict[str, list[Run]] = {name: [] for name in case.contenders if name in started}
            for _ in range(rounds):
                for name, done in runs.items():
                    tell(f"{case.name}: {name}")
                    contender = started[name]
                    done.append(run(contender, place.upstream,
                                    contender.order(**case.load, seconds=seconds / rounds)))
            answers += [figures(case.name, name, done, started[name].pid is not None) for name, done in runs.items()]
    return answers


def watch(place: Field, seconds: float, without: Sequence[str]) -> list[memory.Memory]:
    """The long run."""
    with ExitStack() as running:
        tell(f"memory: {seconds:.0f} s")
        names = [name for name in MEMORY if not any(word in name for word in without)]
        return memory.measure([running.enter_context(place.contender(name)) for name in names], seconds)


def tell(what: str) -> None:
    """Say on the error stream what is going on."""
    print(what, file=sys.stderr, flush=True)


def machine() -> str:
    """Where the figures were made, as one line."""
    models = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
              if line.startswith("model name")]
    return (f"{os.cpu_count()} × {models[0] if models else platform.machine()}, Linux {platform.release()}, "
            f"Python {platform.python_version()}, mitmproxy {version('mitmproxy')}, uvloop {version('uvloop')}\n")


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="mitmgate beside bare mitmdump and the upstream itself.")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be repeated")
    parser.add_argument("--seconds", type=float, default=15, help="of load for each contender in each case")
    parser.add_argument("--rounds", type=int, default=3, help="into which the seconds are divided")
    parser.add_argument("--minutes", type=float, default=5, help="of the memory run")
    parser.add_argument("--without", action="append", default=[], help="leave out contenders with this in their name")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--quick", action="store_true", help="everything, but so short that it only shows that it runs")
    options = parser.parse_args()
    seconds, rounds, minutes = options.seconds, options.rounds, options.minutes
    if options.quick:
        seconds, rounds, minutes = 0.5, 1, 0.05
    parts = options.part or PARTS
    memories: list[memory.Memory] = []
    with tempfile.TemporaryDirectory(prefix="mitmgate-bench-") as folder, upstream(Path(folder)) as source:
        place = Field(Path(folder), source)
        cases = [case for case in CASES if case.part in parts]
        if options.quick:       # the last of each part, which uses most of what the others use
            cases = list({case.part: case for case in cases}.values())
        found = measure(place, cases, seconds, rounds, options.without)
        if "memory" in parts:
            memories = watch(place, minutes * 60, options.without)
    if options.json:
        options.json.write_text(json.dumps({
            "machine": machine().strip(), "cases": [figures.json() for figures in found],
            "memory": [asdict(each) for each in memories]}, indent=1) + "\n")
    print(markdown(machine(), found, memories))
    return 1 if complaints(found, memories) else 0


if __name__ == "__main__":
    sys.exit(main())
