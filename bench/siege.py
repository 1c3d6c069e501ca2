"""The siege: what a well-behaved client feels while bad ones do their worst (THREATS, row 23).

    python bench/siege.py [--seconds 120] [--quick] [--appetite 0.25] [--only KIND]… [--json FILE]

A good client sends 20 requests a second, half of them through TLS interception, and opens two connections a second,
for a while in peace and then under siege. Prints Markdown. The exit code is 1 when one call of the good client failed,
an attack was never made, or something is left behind; no figure of time or size ever decides it.
"""

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from besieged import Besieged, awaited, besieged, probed
from field import HOST, Clients, upstream
from gateway import machine, tell
from meter import cpu, read
from probe import Lag
from side import HERE, Side

MIB = 1 << 20
TESTS = HERE.parent / "tests"       # whose attacks these are
WAYS = ("direct", "intercepted", "new connection")
PROBE_MS = 20.0


@dataclass(frozen=True, slots=True)
class Felt:
    """What the good client felt on one of its ways in, in milliseconds."""

    calls: int
    failures: dict[str, int]
    p50: float
    p99: float
    most: float


@dataclass(slots=True)
class Phase:
    """Peace or siege."""

    felt: dict[str, Felt]
    lag: Lag
    cpu: float                      # of the gateway, as a share of one processor
    peak: float                     # MiB
    made: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    appetite: float = 0.0           # what the attackers used of one processor


def good_clients(gateway: Besieged, seconds: float) -> list[Clients]:
    """In the order of `WAYS`."""
    return [Clients(gateway.direct(load="json", connections=4, seconds=seconds, rate=10.0)),
            Clients(gateway.intercepted(load="json", connections=4, seconds=seconds, rate=10.0)),
            Clients(gateway.intercepted(load="fresh", connections=1, seconds=seconds, rate=2.0))]


def felt(clients: Clients) -> Felt:
    """Wait for the end of a client's calls."""
    outcome = clients.outcome()
    times = sorted(outcome.latency) or [0]
    failures = outcome.failures | ({"unfinished": outcome.unfinished} if outcome.unfinished else {})
    return Felt(outcome.replies, failures, times[len(times) // 2] / 1000, times[len(times) * 99 // 100] / 1000,
                times[-1] / 1000)


def phase(gateway: Besieged, seconds: float, attackers: Side | None) -> Phase:
    """Let the good client work for so many seconds, with or without attackers."""
    with ExitStack() as closing:
        clients = good_clients(gateway, seconds)
        for each in clients:
            closing.callback(each.stop)
        gateway.forget_peak()
        with probed(gateway, PROBE_MS) as lag:
            spent = cpu(gateway.pid)
            if attackers is not None:
                attackers.tell()
            for each in clients:
                each.tell()
            ways = dict(zip(WAYS, map(felt, clients), strict=True))
            spent = cpu(gateway.pid) - spent
    now = Phase(ways, lag, spent / seconds, read(gateway.pid).peak / MIB)
    if attackers is not None:
        tally = attackers.answer()
        now.made, now.ended, now.appetite = tally["made"], tally["ended"], tally["cpu"] / seconds
    return now


def besiege(gateway: Besieged, seconds: float, appetite: float, only: list[str]) -> tuple[list[Phase], list[str]]:
    """Peace, siege, and peace again; and what was left behind."""
    tell(f"peace: {seconds / 2:.0f} s")
    phase(gateway, 1.0, None)               # opens what is opened once
    before = read(gateway.pid)
    peace = phase(gateway, seconds / 2, None)
    order = {"port": gateway.port, "host": HOST, "seconds": seconds, "appetite": appetite, "only": only}
    attackers = Side("attackers.py", [json.dumps(order)], {"PYTHONPATH": str(TESTS)})
    tell(f"siege: {seconds:.0f} s")
    try:
        siege = phase(gateway, seconds, attackers)
    finally:
        attackers.stop()
    left = []
    if not awaited(lambda: read(gateway.pid).descriptors <= before.descriptors + 8, 20):
        left.append(f"descriptors: {before.descriptors} before, {read(gateway.pid).descriptors} after")
    if not awaited(lambda: not gateway.counted("mitmgate_in_flight"), 20):
        left.append("calls in flight")
    if gateway.counted("mitmgate_addon_errors_total"):
        left.append(f"errors of the gateway's own, see its log:\n{gateway.log.read_text()[-3000:]}")
    tell(f"peace again: {seconds / 4:.0f} s")
    return [peace, siege, phase(gateway, seconds / 4, None)], left


def markdown(phases: list[Phase]) -> str:
    """The tables."""
    peace, siege, again = phases
    lines = ["| the good client | calls | failed | p50 / p99 / most, ms: peace | siege | p99, ratio | peace again |",
             "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for way in WAYS:
        one, two, three = peace.felt[way], siege.felt[way], again.felt[way]
        failed = sum(sum(each.failures.values()) for each in (one, two, three))
        lines.append(f"| {way} | {one.calls + two.calls + three.calls} | {failed} | {times(one)} | {times(two)} | "
                     f"{two.p99 / (one.p99 or 1):.2f}× | {times(three)} |")
    lines += ["", "| | peace | siege | peace again |", "| --- | ---: | ---: | ---: |",
              row("the loop's lag, p50 / p99 / most, ms", [times_of(each.lag) for each in phases]),
              row("probes of more than 50 ms", [f"{len(each.lag.stalls)} of {each.lag.probes}" for each in phases]),
              row("the gateway's processor", [f"{each.cpu:.0%}" for each in phases]),
              row("the attackers' processor", [f"{each.appetite:.0%}" for each in phases]),
              row("peak resident size, MiB", [f"{each.peak:.0f}" for each in phases]),
              "", "Attacks: " + ", ".join(f"{name} {count}" for name, count in siege.made.items()) + "."]
    return "\n".join(lines)


def row(name: str, values: list[str]) -> str:
    """One line of a table."""
    return f"| {name} | {' | '.join(values)} |"


def times(felt: Felt) -> str:
    """In milliseconds."""
    return f"{felt.p50:.1f} / {felt.p99:.1f} / {felt.most:.0f}"


def times_of(lag: Lag) -> str:
    """In milliseconds."""
    return f"{lag.p50 / 1000:.1f} / {lag.p99 / 1000:.1f} / {lag.most / 1000:.0f}"


def complaints(phases: list[Phase], left: list[str]) -> list[str]:
    """Why the exit code is not 0."""
    found = [f"{way}: {each.felt[way].failures}" for each in phases for way in WAYS if each.felt[way].failures]
    found += [f"{way}: no call was made" for each in phases for way in WAYS if not each.felt[way].calls]
    found += [f"the attack {name} was never made" for name, count in phases[1].made.items() if not count]
    return [*found, *left]


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="What a well-behaved client feels under siege.")
    parser.add_argument("--seconds", type=float, default=120, help="of the siege; peace before it lasts half as long")
    parser.add_argument("--quick", action="store_true", help="a siege of 60 seconds")
    parser.add_argument("--appetite", type=float, default=0.25, help="of the attackers, in processors")
    parser.add_argument("--only", action="append", default=[], help="only this kind of attack; may be repeated")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mitmgate-siege-") as name:
        folder = Path(name)
        with upstream(folder) as source, besieged(folder, source) as gateway:
            phases, left = besiege(gateway, 60 if options.quick else options.seconds, options.appetite, options.only)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine().strip(), "left": left,
                                            "phases": [asdict(each) for each in phases]}, indent=1) + "\n")
    print(machine(), markdown(phases), *complaints(phases, left), sep="\n")
    return 1 if complaints(phases, left) else 0


if __name__ == "__main__":
    sys.exit(main())
