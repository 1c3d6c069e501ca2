"""What serves requests: the compiled rules as one immutable snapshot, and the state that outlives them.

A reload makes a new `Snapshot` and swaps it whole; an exchange keeps the one that it began with.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mitmgate.addresses import is_loopback
from mitmgate.clock import Clock, SystemClock
from mitmgate.exchange import Credential, Exchange, Origin, Provider
from mitmgate.providers.compiled import compile_providers, read_credential, split_url
from mitmgate.providers.vendors import DIALECT_AUTHORISATION, VENDORS
from mitmgate.routing.callers import Callers, compile_callers
from mitmgate.routing.compiled import compile_routes
from mitmgate.routing.table import RouteTable
from mitmgate.rules.expand import Taken
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


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Snapshot:
    """Rules, compiled. Satisfies `stages.services.Services`."""

    rules: Rules
    table: RouteTable
    callers: Callers
    providers: Mapping[str, Provider]
    intercept: tuple[str, ...]              # host patterns
    shared: Shared
    folder: Path
    taken: Taken                            # what the rules took from the environment: it is not shown
    generation: int = 1
    egress: Origin | None = None
    egress_credential: Credential | None = None
    named: tuple[Path, ...] = ()            # files that the rules name and that were read with them

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

    @property
    def corporate_ca(self) -> str | None:
        """The path of the CA that `egress:` names."""
        egress = self.rules.egress
        return str(self.folder.absolute() / egress.ca) if egress is not None and egress.ca else None

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


def compile_rules(
    folder: Path,
    environ: Mapping[str, str],
    simulator: Origin,
    shared: Shared,
    generation: int = 1,
    credentials: Mapping[str, str] | None = None,
    previous: Snapshot | None = None,
) -> Snapshot:
    """Load and compile. Raises RulesError for what the files say, ValueError for what their environment lacks.

    `credentials`: where providers' keys are looked for, if not in `environ`. `previous`: the rules that these are to
    follow; what has not changed keeps its state, so that a reload does not try a rotated key again.
    """
    taken = Taken(environ)
    rules = load(folder, taken, VENDORS, DIALECT_AUTHORISATION, gently=previous is not None)
    environ = environ if credentials is None else credentials
    providers = compile_providers(rules, folder, environ, simulator)
    if previous is not None:
        providers = {name: _kept(provider, rules, previous) for name, provider in providers.items()}
    egress = rules.egress
    return Snapshot(
        rules=rules,
        table=compile_routes(rules, providers, rules.where),
        callers=compile_callers(rules.projects),
        providers=providers,
        intercept=rules.intercept if rules.intercept is not None else default_intercept(rules),
        shared=shared,
        folder=folder,
        taken=taken,
        generation=generation,
        egress=split_url(egress.proxy)[0] if egress is not None and egress.proxy else None,
        egress_credential=read_credential(egress.credential, folder, environ) if egress and egress.credential else None,
    )


def _kept(provider: Provider, rules: Rules, previous: Snapshot) -> Provider:
    """This provider with the credential of before, where the rules say the same of it: it knows which of several works."""
    before, now = previous.rules.providers.get(provider.name), rules.providers[provider.name]
    if before is None or (before.dialect, before.credential) != (now.dialect, now.credential):
        return provider
    return replace(provider, credential=previous.providers[provider.name].credential)


def default_intercept(rules: Rules) -> tuple[str, ...]:
    """The vendors' hosts of the configured providers."""
    hosts: dict[str, None] = {}
    for name, rule in rules.providers.items():
        vendor = VENDORS.get(name) or VENDORS.get(rule.dialect or "")
        hosts.update(dict.fromkeys(vendor.hosts if vendor else ()))
    return tuple(hosts)
