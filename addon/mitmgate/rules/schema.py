"""The rules as types (DESIGN §4): attribute = YAML key. Every key but `version` is optional; unknown keys are refused.

Frozen, and made by `loader.load` alone. What takes more than one value to check is in `checks`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, PrivateAttr, Tag, model_validator

from mitmgate.rules.addresses import Address, HostText, ListenAddress, Url, UrlOrNone
from mitmgate.rules.units import (
    Amount,
    Duration,
    DurationOrNone,
    Flag,
    Glob,
    HeaderName,
    Json,
    Listed,
    Name,
    Network,
    NonEmpty,
    OneOrMore,
    PositiveDuration,
    RetryOn,
    Secret,
    SentHeaderName,
    Size,
    Text,
    Variable,
    Whole,
    broken,
    expected,
)

Strategy = Literal["fallback", "weighted", "round-robin"]
Operation = Literal[
    "chat", "completions", "responses", "messages", "count_tokens", "embeddings", "rerank", "transcription", "speech",
    "voices", "audio_pipeline", "moderation", "image", "files", "batches", "models", "realtime", "other",
]
OPERATIONS: Final[tuple[str, ...]] = get_args(Operation)


class Section(BaseModel):
    """A map of the rules."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


def _true(value: object) -> object:
    if value is not True:
        raise expected("true")
    return value


def _credential_form(value: object) -> object:
    """The bare word `client` as the map that it stands for."""
    if isinstance(value, str):
        if value != "client":
            raise expected("`client` or a map with one of env, file, value")
        return {"client": True}
    return value


class Credential(Section):
    """Where a secret comes from: exactly one of the four. `file` is relative to the rules folder."""

    env: Variable | None = None
    file: Text | None = None
    value: Secret | None = None
    client: Annotated[bool, BeforeValidator(_true)] = False     # pass the caller's own key on

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise broken("expected exactly one of env, file, value, client")
        return self


OneCredential = Annotated[
    Credential, BeforeValidator(_credential_form, json_schema_input_type=Literal["client"] | Credential)
]


def _one_or_several(value: object) -> str:
    return "<several>" if isinstance(value, list | tuple) else "<one>"     # a tuple: when the rules are dumped


# The tags are in the paths of pydantic's errors; no key of the rules looks like them, so `wording` can leave them out.
Credentials = Annotated[
    Annotated[OneCredential, Tag("<one>")] | Annotated[NonEmpty[OneCredential], Tag("<several>")],
    Discriminator(_one_or_several),
]


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

    certificate: Text | None = None
    key: Text | None = None
    previous: Listed[Text] = ()

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise broken("`certificate` and `key` go together: give both or none")
        return self


class Limits(Section):
    """Bounds of the gateway: bytes, counts, and `drain` in seconds."""

    request_body: Size = 64 << 20
    response_body: Size = 64 << 20
    upload: Size = 512 << 20
    concurrency: Annotated[int, Whole(1, 1_000_000)] = 2_000
    connections: Annotated[int, Whole(1, 1_000_000)] = 10_000
    connections_per_client: Annotated[int, Whole(1, 1_000_000)] = 1_000
    in_flight_bytes: Size = 1 << 30
    headers: Size = 64 << 10
    drain: Duration = 30.0


class Provider(Section):
    """A vendor or server. `dialect` and `base_url` are None where the vendor table's row of its name decides."""

    dialect: Text | None = None
    base_url: Url | None = None
    credential: Credentials | None = None
    api_version: Text | None = None
    headers: dict[SentHeaderName, Text] = Field(default_factory=dict)
    ca: Text | None = None
    client_cert: Text | None = None
    proxy: UrlOrNone | None = None                  # "none": straight out, whatever `egress` says
    zone: Literal["external", "internal"] = "external"
    region: Text | None = None
    project: Text | None = None
    base_model: Text | None = None
    disabled: Flag = False


class Target(Section):
    """A provider and the model to ask it for; None asks for the model that the client named."""

    provider: Text
    model: Text | None = None
    weight: Amount = 1.0
    priority: Annotated[int, Whole(-1_000, 1_000)] = 0
    base_model: Text | None = None


class Match(Section):
    """All given keys must hold; a list means any of. Globs as text, networks as text; an absent key is ()."""

    host: OneOrMore[Glob] = ()
    path: OneOrMore[Glob] = ()
    operation: OneOrMore[Operation] = ()
    model: OneOrMore[Glob] = ()
    header: dict[HeaderName, OneOrMore[Glob]] = Field(default_factory=dict)
    client: OneOrMore[Network] = ()


class Backoff(Section):
    """Full-jitter exponential back-off, in seconds."""

    base: Duration = 0.5
    max: Duration = 8.0


class Retry(Section):
    """Tries beyond the first, per target, and the faults that are worth one."""

    max: Annotated[int, Whole(0, 5)] = 2
    on: Listed[RetryOn] = ("connect", "timeout", "408", "409", "429", "5xx")
    backoff: Backoff = Backoff()


class Timeout(Section):
    """Seconds; None: the default, and for `duration` no bound (DESIGN §4, "Time")."""

    connect: PositiveDuration | None = None
    first_token: PositiveDuration | None = None
    idle: PositiveDuration | None = None
    total: PositiveDuration | None = None
    duration: DurationOrNone = None


class Serving(Section):
    """What routes and models have in common: who serves, in what order, and how failure is met."""

    targets: NonEmpty[Target]
    strategy: Strategy = "fallback"
    fallback: Listed[Target] = ()
    retry: Retry = Retry()
    timeout: Timeout = Timeout()

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if self.strategy == "weighted" and not any(target.weight for target in self.targets):
            raise broken("all targets have weight 0: none would ever be chosen")
        return self


class Price(Section):
    """USD per million tokens."""

    input: Amount
    output: Amount


class Model(Serving):
    """A name that clients may use."""

    capabilities: Listed[Text] | None = None
    context_window: Annotated[int, Whole(1, 1_000_000_000)] | None = None
    reasoning: Literal["low", "medium", "high"] | None = None
    price: Price | None = None


class Route(Serving):
    """A rule: match → targets. `force` is the key `set`, whose name pydantic's models cannot carry well."""

    name: Name
    match: Match = Match()
    force: dict[str, Json] = Field(default_factory=dict, alias="set")
    default: dict[str, Json] = Field(default_factory=dict)


def _version(value: object) -> object:
    if value != 1 or isinstance(value, bool):
        raise expected("1, the only version there is")
    return value


class Rules(Section):
    """The whole document, all files of the folder merged."""

    version: Annotated[Literal[1], BeforeValidator(_version)]
    listen: Listen = Listen()
    intercept: Listed[HostText] | None = None           # None: the hosts of the configured providers' vendors
    tunnel: WrittenTunnel = Tunnel()
    unmatched: Literal["pass", "refuse"] = "pass"
    access: Literal["open", "keys"] = "open"
    egress: Egress | None = None
    ca: Ca | None = None
    limits: Limits = Limits()
    providers: dict[Name, Provider] = Field(default_factory=dict)
    models: dict[Text, Model] = Field(default_factory=dict)
    routes: Listed[Route] = ()

    _where: Mapping[str, str] = PrivateAttr(default_factory=lambda: MappingProxyType({}))

    @property
    def where(self) -> Mapping[str, str]:
        """Dotted path, such as `routes[0]`, to the `file:line` where it is written."""
        return self._where

    @property
    def access_written(self) -> bool:
        """Whether `access` stands in the rules, so that an open gateway is meant."""
        return "access" in self.model_fields_set

    @classmethod
    def placed(cls, values: Mapping[str, Any], where: Mapping[str, str]) -> "Rules":
        """The rules of a merged document, knowing where they were written. Raises pydantic's ValidationError."""
        rules = cls.model_validate(values)
        rules._where = MappingProxyType(dict(where))
        return rules
