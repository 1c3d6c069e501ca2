"""Who serves: targets, and what `routes:` and `models:` say of them."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, PlainValidator, Tag, model_validator
from pydantic_core import PydanticCustomError

from mitmgate.rules.schema.gateway import Payloads
from mitmgate.rules.schema.guarding import Refuse, WrittenUse
from mitmgate.rules.schema.matching import Match
from mitmgate.rules.schema.section import ONE, SEVERAL, Section, word_or_map
from mitmgate.rules.units import (
    Amount,
    Duration,
    DurationOrNone,
    Flag,
    Json,
    Listed,
    Name,
    NonEmpty,
    OneOrMore,
    Percent,
    PositiveDuration,
    RetryOn,
    Text,
    Whole,
    broken,
    expected,
    written_as,
)
from mitmgate.rules.values import unexpanded
from mitmgate.rules.words import Parameter, Sticky

Strategy = Literal["fallback", "weighted", "round-robin", "least-latency", "least-busy", "cheapest"]
Priority = Literal["interactive", "batch"]


class Target(Section):
    """A provider and the model to ask it for; None asks for the model that the client named.

    `force` is the key `set`, whose name pydantic's models cannot carry well.
    """

    provider: Text
    model: Text | None = None
    weight: Amount = 1.0
    priority: Annotated[int, Whole(-1_000, 1_000)] = 0
    base_model: Text | None = None
    max_concurrency: Annotated[int, Whole(1, 1_000_000)] | None = None
    force: dict[Parameter, Json] = Field(default_factory=dict, alias="set")
    default: dict[Parameter, Json] = Field(default_factory=dict)


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


class Cache(Section):
    """How long replies are kept, and who shares them."""

    ttl: PositiveDuration
    scope: Literal["project", "tenant", "consumer", "public"] = "project"


def _off(value: object) -> bool:
    if unexpanded(value) is not False:
        raise expected("false, or a map with ttl, scope")
    return False


CacheOff = Annotated[Literal[False], PlainValidator(_off), written_as(const=False)]


class Hedge(Section):
    """A second attempt beside one that is slow; without targets, at the next of the plan."""

    after: PositiveDuration
    targets: Listed[Target] = ()


class Shadow(Section):
    """Copies of calls whose answers nobody sees."""

    targets: NonEmpty[Target]
    share: Percent = 1.0


class AbortIf(Section):
    """A canary ends when more of its last calls failed."""

    error_rate: Percent
    over: Annotated[int, Whole(1, 1_000_000)] = 200


class Canary(Section):
    """A share of the calls that goes elsewhere."""

    targets: NonEmpty[Target]
    share: Percent
    abort_if: AbortIf | None = None


class Serving(Section):
    """What routes and models have in common: who serves, in what order, and how failure is met.

    `continued` is the key `continue`. No targets exactly where `refuse` is given.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"required": ["refuse"]}, "then": {"properties": {"targets": False, "fallback": False}},
            "else": {"required": ["targets"]},
        }
    )  # fmt: skip

    targets: NonEmpty[Target] = ()
    strategy: Strategy = "fallback"
    fallback: Listed[Target] = ()
    retry: Retry = Retry()
    timeout: Timeout = Timeout()
    sticky: OneOrMore[Sticky] = ()
    guardrails: Listed[WrittenUse] = ()
    cache: (
        Annotated[Annotated[CacheOff, Tag(ONE)] | Annotated[Cache, Tag(SEVERAL)], Discriminator(word_or_map)] | None
    ) = None
    priority: Priority | None = None                # None: the project's or key's, else interactive
    strict: Flag = False
    stream: Literal["pass", "whole"] = "pass"
    continued: Flag = Field(default=False, alias="continue")
    min_rate: Annotated[int, Whole(1, 1_000_000)] | None = None     # characters per second
    heartbeat: PositiveDuration | None = None
    hedge: Hedge | None = None
    shadow: Shadow | None = None
    canary: Canary | None = None
    vision: Literal["describe", "pass"] | None = None
    files: Literal["store", "pass"] | None = None
    require_project: Flag = False
    capture: Payloads | None = None
    refuse: Refuse | None = None

    @model_validator(mode="after")
    def _served_or_refused(self) -> Self:
        given = self.model_fields_set
        if self.refuse is None and "targets" not in given:
            raise PydanticCustomError("absent", "missing", {"key": "targets"})
        if self.refuse is not None and given & {"targets", "fallback"}:
            raise broken("`refuse` asks nobody: leave `targets` and `fallback` out")
        return self

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if self.strategy == "weighted" and self.targets and not any(target.weight for target in self.targets):
            raise broken("all targets have weight 0: none would ever be chosen")
        return self


class Price(Section):
    """USD per million tokens."""

    input: Amount
    output: Amount


class Model(Serving):
    """A name that clients may use."""

    capabilities: Listed[Literal["tools", "json", "json_schema", "vision", "audio"]] | None = None
    context_window: Annotated[int, Whole(1, 1_000_000_000)] | None = None
    reasoning: Literal["low", "medium", "high"] | None = None
    price: Price | None = None


class Route(Serving):
    """A rule: match → targets. `force` is the key `set`."""

    name: Name
    match: Match = Match()
    force: dict[Parameter, Json] = Field(default_factory=dict, alias="set")
    default: dict[Parameter, Json] = Field(default_factory=dict)
