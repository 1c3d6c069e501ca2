"""What stages may ask for beside the exchange."""

from collections.abc import Callable
from typing import Protocol

from mitmgate.clock import Clock
from mitmgate.exchange import Exchange
from mitmgate.routing.callers import Callers
from mitmgate.routing.table import RouteTable
from mitmgate.rules.schema import Rules


class Services(Protocol):
    """The rules that an exchange began with, and the shared state behind them."""

    @property
    def clock(self) -> Clock: ...

    @property
    def rules(self) -> Rules: ...

    @property
    def table(self) -> RouteTable: ...

    @property
    def callers(self) -> Callers: ...

    @property
    def random(self) -> Callable[[], float]: ...

    @property
    def draining(self) -> bool:
        """The gateway is about to stop: what is in flight ends, nothing new begins."""
        ...

    @property
    def full(self) -> bool:
        """As many exchanges are in flight as `limits.concurrency` allows."""
        ...

    def reserve(self, exchange: Exchange, size: int) -> bool:
        """Take `size` bytes of `limits.in_flight_bytes` for this exchange; False: there are not so many left."""
        ...

    def turn(self, route: str) -> int:
        """How often this route was taken before; counts it."""
        ...

    def answers_to(self, host: str) -> bool:
        """Whether a direct call may name this host: loopback, or one of `listen.hosts`."""
        ...
