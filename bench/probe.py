"""How long the gateway's event loop keeps somebody waiting, seen from outside, in a process of its own.

    python bench/probe.py PORT MILLISECONDS

asks the admin port for /healthz again and again, a connection each time, prints `ready`, and goes on until a line comes
on standard input; then it prints the JSON of a `Lag`. The admin port lives on the loop that serves the calls, and its
answer is a constant: what it takes beyond a fraction of a millisecond was spent waiting for the loop, or, in both
processes, for the processor. One probe waits for the other, so a long stall is one slow probe: percentiles are of
probes, not of time, and the stalls are told one by one.
"""

import json
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass, field

STALL = 50_000          # microseconds
WITHIN = 30.0           # seconds that an answer may take
REQUEST = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n\r\n"


@dataclass(slots=True)
class Lag:
    """Microseconds. `stalls` are the probes that took longer than `STALL`."""

    probes: int = 0
    failures: int = 0
    p50: int = 0
    p99: int = 0
    most: int = 0
    stalls: list[int] = field(default_factory=list)


def probe(port: int) -> bool:
    """Ask once; whether the answer was the right one."""
    with socket.create_connection(("127.0.0.1", port), WITHIN) as asking:
        asking.sendall(REQUEST % port)
        answer = b""
        while piece := asking.recv(4096):
            answer += piece
    return answer.startswith(b"HTTP/1.1 200 ")


def watch(port: int, interval: float) -> Lag:
    """Probe until somebody writes to standard input."""
    lag, waits = Lag(), []
    due = time.monotonic()
    while True:
        pause = due - time.monotonic()
        if select.select([sys.stdin], [], [], max(0.0, pause))[0]:
            break
        sent = time.monotonic()
        try:
            lag.failures += not probe(port)
        except OSError:
            lag.failures += 1
        now = time.monotonic()
        waits.append(int((now - sent) * 1e6))
        due = max(due + interval, now)
    lag.stalls = [took for took in waits if took > STALL]
    waits.sort()
    if waits:
        lag.probes, lag.p50, lag.p99, lag.most = len(waits), waits[len(waits) // 2], waits[len(waits) * 99 // 100], waits[-1]
    return lag


if __name__ == "__main__":
    probe(int(sys.argv[1]))
    print("ready", flush=True)
    print(json.dumps(asdict(watch(int(sys.argv[1]), float(sys.argv[2]) / 1000))), flush=True)
