"""The gateway itself: where it listens, what leaves it, its CA, state, bounds, and what it tells about itself."""

from typing import Annotated, Final, Literal, Self, get_args

from pydantic import BeforeValidator, ConfigDict, SecretStr, model_validator

from mitmgate.rules.addresses import Address, HostText, ListenAddress, SecretUrl, Url, UrlOrNull
from mitmgate.rules.schema.section import OneCredential, OwnCredential, Section
from mitmgate.rules.units import Duration, Flag, Listed, NonEmpty, PositiveDuration, Size, Text, Whole, broken, expected
from mitmgate.rules.words import Blobs, Counters, Database

BuiltinRoute = Literal["models", "provider", "auto", "original", "catalogue"]
Event = Literal["budget_warning", "target_down", "rules_rejected"]
Payloads = Literal["none", "redacted", "full"]
OnDown = Literal["allow", "refuse"]
EVENTS: Final[tuple[Event, ...]] = get_args(Event)


class Listen(Section):
    """Where the gateway listens, and the names that it answers to directly beside loopback."""

    proxy: ListenAddress = Address("127.0.0.1", 8080)
    admin: ListenAddress = Address("127.0.0.1", 8081)
    hosts: Listed[Text] = ()


class Tunnel(Section):
    """What may be reached undecrypted. `governed`: only through the egress rules, nothing else is tunnelled."""

    allow: Listed[HostText] = ("*",)
    deny: Listed[HostText] = ()
    governed: Flag = False


def _tunnel_form(value: object) -> object:
    if isinstance(value, str):
        if value != "governed":
            raise expected("`governed` or a map with allow, deny, governed")
        return {"governed": True}
    return value


WrittenTunnel = Annotated[Tunnel, BeforeValidator(_tunnel_form, json_schema_input_type=Literal["governed"] | Tunnel)]


class Egress(Section):
    """The way out for all that leaves, tunnels too."""

    proxy: Url | None = None
    credential: OneCredential | None = None
    no_proxy: Listed[HostText] = ()
    ca: Text | None = None


class Ca(Section):
    """The interception CA; None: one made in the confdir."""

    model_config = ConfigDict(json_schema_extra={"dependentRequired": {"certificate": ["key"], "key": ["certificate"]}})

    certificate: Text | None = None
    key: Text | None = None
    previous: Listed[Text] = ()

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise broken("`certificate` and `key` go together: give both or none")
        return self


class OnError(Section):
    """What each feature does while its store is down."""

    limits: OnDown = "allow"
    budgets: OnDown = "refuse"
    cache: OnDown = "allow"
    sessions: OnDown = "refuse"


class State(Section):
    """Where the gateway keeps what outlives a request. The addresses are secret: they may hold passwords."""

    database: Database = SecretStr("sqlite:///var/mitmgate.db")
    counters: Counters = SecretStr("memory://")
    blobs: Blobs = SecretStr("file://var/blobs")
    replicas: Literal["single", "shared"] = "single"
    on_error: OnError = OnError()


class Limits(Section):
    """Bounds of the gateway: bytes, counts, and `body_idle`, `body_total` and `drain` in seconds."""

    request_body: Size = 64 << 20
    response_body: Size = 64 << 20
    upload: Size = 512 << 20
    body_idle: PositiveDuration = 30.0
    body_total: PositiveDuration = 600.0
    concurrency: Annotated[int, Whole(1, 1_000_000)] = 2_000
    connections: Annotated[int, Whole(1, 1_000_000)] = 10_000
    connections_per_client: Annotated[int, Whole(1, 1_000_000)] = 1_000
    in_flight_bytes: Size = 1 << 30
    headers: Size = 64 << 10
    drain: Duration = 30.0


class Telemetry(Section):
    """What is told of each exchange, and to whom. `otlp`: the collector's URL."""

    log: Literal["json", "none"] = "json"
    otlp: UrlOrNull | None = None
    payloads: Payloads = "none"


class Retention(Section):
    """How long things are kept, in seconds."""

    records: PositiveDuration = 30 * 86_400.0
    sessions: PositiveDuration = 30 * 86_400.0
    files: PositiveDuration = 90 * 86_400.0


class Webhook(Section):
    """A URL that is told by POST; with a `secret`, signed. The URL is secret too: some are all that it takes to write there."""

    url: SecretUrl
    secret: OwnCredential | None = None


class Notify(Section):
    """Who is told of which events."""

    webhook: Webhook
    on: NonEmpty[Event] = EVENTS
