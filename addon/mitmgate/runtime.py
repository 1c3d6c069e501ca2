"""What serves requests: the compiled rules as one immutable snapshot, and the state that outlives them.

A reload makes a new `Snapshot` and swaps it whole; an exchange keeps the one that it began with.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mitmgate.addresses import is_loopback
from mitmgate.clock import Clock, SystemClock
from mitmgate.exchange import Credential, Exchange, Origin, Provider
from mitmgate.providers.compiled import compile_providers, read_credential, split_url
from mitmgate.providers.vendors import DIALECT_AUTHORISATION, VENDORS
from mitmgate.routing.compiled import RouteTable, compile_routes
from mitmgate.rules.loader import load
from mitmgate.rules.schema import Rules


@dataclass(slots=True)
class Shared:
    """State that a reload leaves alone. One event loop writes it."""

    clock: Clock = field(default_factory=SystemClock)
    random: Callable[[], float] = random.random
    turns: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0                      # exchanges
    bytes_in_flight: int = 0                # of request bodies in memory
    draining: bool = False
    doc_base: str = ""                      # the admin port's URL


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rules, compiled. Satisfies `stages.services.Services`."""

    rules: Rules
    table: RouteTable
    providers: Mapping[str, Provider]
    intercept: tuple[str, ...]              # host patterns
    shared: Shared
    folder: Path
    generation: int = 1
    egress: Origin | None = None
    egress_credential: Credential | None = None

    @property
    def clock(self) -> Clock:
        return self.shared.clock

    @property
    def random(self) -> Callable[[], float]:
        return self.shared.random

    @property
    def draining(self) -> bool:
        return self.shared.draining

    @property
    def full(self) -> bool:
        return self.shared.in_flight > self.rules.limits.concurrency

    def reserve(self, exchange: Exchange, size: int) -> bool:
        """Take `size` bytes of `limits.in_flight_bytes` for this exchange; they come back when it ends."""
        if self.shared.bytes_in_flight + size > self.rules.limits.in_flight_bytes:
            return False
        self.shared.bytes_in_flight += size
        exchange.held_bytes += size
        return True

    def turn(self, route: str) -> int:
        """How often this route was taken before; counts it."""
        turn = self.shared.turns[route]
        self.shared.turns[route] = turn + 1
        return turn

    def answers_to(self, host: str) -> bool:
        """Loopback, the address we listen on, or one of `listen.hosts`."""
        listen = self.rules.listen
        return is_loopback(host) or host == listen.proxy.host or host.lower() in {name.lower() for name in listen.hosts}


def compile_rules(folder: Path, environ: Mapping[str, str], simulator: Origin, shared: Shared, generation: int = 1) -> Snapshot:
    """Load and compile. Raises RulesError for what the files say, ValueError for what their environment lacks."""
    rules = load(folder, environ, VENDORS, DIALECT_AUTHORISATION)
    providers = compile_providers(rules, folder, environ, simulator)
    egress = rules.egress
    return Snapshot(
        rules=rules,
        table=compile_routes(rules, providers, rules.where),
        providers=providers,
        intercept=rules.intercept if rules.intercept is not None else default_intercept(rules),
        shared=shared,
        folder=folder,
        generation=generation,
        egress=split_url(egress.proxy)[0] if egress is not None and egress.proxy else None,
        egress_credential=read_credential(egress.credential, folder, environ) if egress and egress.credential else None,
    )


def default_intercept(rules: Rules) -> tuple[str, ...]:
    """The vendors' hosts of the configured providers."""
    hosts: dict[str, None] = {}
    for name, rule in rules.providers.items():
        vendor = VENDORS.get(name) or VENDORS.get(rule.dialect or "")
        hosts.update(dict.fromkeys(vendor.hosts if vendor else ()))
    return tuple(hosts)
