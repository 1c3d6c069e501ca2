"""The long run: does memory stay flat, and do descriptors and threads come back to their number?"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from field import Clients, Contender
from meter import Reading, read, slope

MIB = 1024 * 1024
RETURN = 15.0  # seconds that descriptors and threads have to come back to their number


@dataclass(frozen=True, slots=True)
class Memory:
    """One contender's long run. Memory in MiB; descriptors and threads before the load, at most, and after it."""

    contender: str
    seconds: float
    requests: int
    streams: int
    connections: int
    start: float
    end: float
    peak: float
    slope: float                    # MiB a minute over the last half
    descriptors: tuple[int, int, int]
    threads: tuple[int, int, int]
    failures: dict[str, int]


def loads(contender: Contender, seconds: float) -> list[Clients]:
    """What an office does all at once: paced requests, streams, and new connections. Nothing is saturated by it."""
    return [Clients(contender.order(load="json", connections=16, seconds=seconds, rate=200.0, samples=False)),
            Clients(contender.order(load="streams", connections=16, seconds=seconds, warm=1, samples=False)),
            Clients(contender.order(load="fresh", connections=1, seconds=seconds, rate=5.0, samples=False))]


def settled(pid: int, before: Reading | None) -> Reading:
    """A reading after the load: as soon as descriptors and threads are back, at the latest after `RETURN` seconds."""
    until = time.monotonic() + RETURN
    while True:
        time.sleep(1)
        now = read(pid)
        back = before and now.descriptors <= before.descriptors and now.threads <= before.threads
        if back or before is None or time.monotonic() > until:
            return now


def measure(contenders: Sequence[Contender], seconds: float, interval: float = 1.0) -> list[Memory]:
    """Put the same load on all contenders at the same time and watch them for so many seconds."""
    pids = {contender.name: contender.pid for contender in contenders if contender.pid}
    for contender in contenders:        # a first load opens what is opened once: pools, files, caches
        work(contender, 2.0)
    before = {name: settled(pid, None) for name, pid in pids.items()}
    samples: dict[str, list[tuple[float, Reading]]] = {name: [] for name in pids}
    with ExitStack() as closing:
        running: dict[str, list[Clients]] = {}
        for contender in contenders:
            running[contender.name] = loads(contender, seconds)
            for clients in running[contender.name]:
                closing.callback(clients.stop)
        began = time.monotonic()
        for clients in (each for group in running.values() for each in group):
            clients.tell()
        while (passed := time.monotonic() - began) < seconds:
            for name, pid in pids.items():
                samples[name].append((passed, read(pid)))
            time.sleep(interval)
        outcomes = {name: [clients.outcome() for clients in group] for name, group in running.items()}
    answers = []
    for name, pid in pids.items():
        after = settled(pid, before[name])
        readings = [reading for _, reading in samples[name]]
        late = [(at / 60, reading.resident / MIB) for at, reading in samples[name] if at >= seconds / 2]
        json, streams, fresh = outcomes[name]
        failures = {reason: count for outcome in outcomes[name] for reason, count in outcome.failures.items()}
        answers.append(Memory(
            name, seconds, json.replies, streams.streams, fresh.opened,
            start=before[name].resident / MIB, end=after.resident / MIB, peak=after.peak / MIB, slope=slope(late),
            descriptors=(before[name].descriptors, max(r.descriptors for r in readings), after.descriptors),
            threads=(before[name].threads, max(r.threads for r in readings), after.threads),
            failures=failures))
    return answers


def work(contender: Contender, seconds: float) -> None:
    """A short run of the same load."""
    started = loads(contender, seconds)
    for clients in started:
        clients.tell()
    for clients in started:
        clients.outcome()
        clients.stop()
