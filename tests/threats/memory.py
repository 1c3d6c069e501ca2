"""What a hostile call costs the gateway in memory."""

from collections.abc import Callable
from typing import Final

from attacked import forget_peak, resident

from rig.gateway import Gateway

MIB: Final = 1 << 20


def growth(gateway: Gateway) -> Callable[[], int]:
    """Watch the gateway's memory from now on; the answer tells by how many bytes its peak exceeded what it holds now."""
    before = forget_peak(gateway)
    return lambda: resident(gateway, "VmHWM") - before
