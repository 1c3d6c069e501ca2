"""Time as the rest of the house sees it, so that tests and rule tests can hold it still."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from; seconds as floats."""

    def monotonic(self) -> float:
        """Seconds that only grow; for durations and deadlines."""
        ...

    def wall(self) -> float:
        """Unix seconds; for records and dates in headers."""
        ...


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
