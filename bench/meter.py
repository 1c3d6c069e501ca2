"""What a running process costs, read from /proc (Linux): CPU time, resident memory, descriptors, threads.

All figures are of the process and its children together, as they are at that moment.
"""

import os
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Reading:
    """`cpu` in seconds (user and system, children that have ended included); memory in bytes."""

    cpu: float
    resident: int
    peak: int
    descriptors: int
    threads: int


def tree(pid: int) -> list[int]:
    """The process and all that descend from it."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def cpu(pid: int) -> float:
    """CPU seconds of the process tree: proc(5), fields 14 to 17 of `stat`; the name may hold spaces and brackets."""
    total = 0
    for member in tree(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total / TICKS


def read(pid: int) -> Reading:
    """All meters of a process tree; raises FileNotFoundError when it has ended."""
    resident = peak = descriptors = threads = 0
    for member in tree(pid):
        lines = Path(f"/proc/{member}/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines)
        resident += int(status["VmRSS"].split()[0]) * 1024
        peak += int(status["VmHWM"].split()[0]) * 1024
        threads += int(status["Threads"])
        descriptors += len(os.listdir(f"/proc/{member}/fd"))
    return Reading(cpu(pid), resident, peak, descriptors, threads)


def slope(samples: list[tuple[float, float]]) -> float:
    """The least-squares slope of (time, value) pairs, in values per unit of time; 0 for fewer than two times."""
    if not samples:
        return 0.0
    middle = sum(at for at, _ in samples) / len(samples)
    mean = sum(value for _, value in samples) / len(samples)
    spread = sum((at - middle) ** 2 for at, _ in samples)
    return sum((at - middle) * (value - mean) for at, value in samples) / spread if spread else 0.0
