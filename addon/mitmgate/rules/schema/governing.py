"""What holds whatever route serves: policies, what clients may ask for, projects, tiers, budgets."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, PlainValidator, Tag, model_validator

from mitmgate.rules.schema.guarding import Allow, Refuse, WrittenUse
from mitmgate.rules.schema.matching import Match
from mitmgate.rules.schema.section import ONE, SEVERAL, Section, exactly_one_of, one_or_several, some_of, word_or_map
from mitmgate.rules.schema.serving import Priority
from mitmgate.rules.units import (
    Amount,
    Flag,
    Glob,
    HeaderName,
    Listed,
    Money,
    Name,
    Network,
    NonEmpty,
    OneOrMore,
    Percent,
    PositiveDuration,
    Text,
    Whole,
    broken,
    expected,
    written_as,
)
from mitmgate.rules.values import unexpanded
from mitmgate.rules.words import InsidePath, TimeZone, Uuid

_COUNT = Whole(1, 1_000_000_000_000)


class PolicyTarget(Section):
    """The targets that a policy is about; all given keys must hold."""

    zone: Literal["external", "internal"] | None = None
    region: OneOrMore[Glob] = ()
    provider: OneOrMore[Glob] = ()
    model: OneOrMore[Glob] = ()


class Policy(Section):
    """Holds for every governed exchange that it matches. `target` is the key `for`."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": [key]} for key in ("allow", "guardrails", "refuse")]})

    name: Name
    match: Match = Match()
    target: PolicyTarget = Field(default=PolicyTarget(), alias="for")
    allow: Allow | None = None
    guardrails: Listed[WrittenUse] = ()
    refuse: Refuse | None = None

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        some_of(self, "allow", "guardrails", "refuse")
        return self


def _any_flag(value: object) -> bool:
    given = unexpanded(value)
    if not isinstance(given, bool):
        raise expected("true, false or a list of model patterns")
    return given


AnyFlag = Annotated[bool, PlainValidator(_any_flag), written_as(type="boolean")]


class ClientMay(Section):
    """What a request may ask for itself. In a project only the keys that are given hold, and they only tighten."""

    fallback: Annotated[
        Annotated[AnyFlag, Tag(ONE)] | Annotated[NonEmpty[Glob], Tag(SEVERAL)], Discriminator(one_or_several)
    ] = True
    retries: Annotated[int, Whole(0, 5)] = 5
    timeout: PositiveDuration = 300.0
    load_balance: Flag = True
    cache: Flag = True
    name_provider: Flag = False


class Tier(Section):
    """Requests and tokens per minute, and calls at once, of each key; `shared`: of all of them together."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": [key]} for key in ("rpm", "tpm", "concurrency")]})

    rpm: Annotated[int, _COUNT] | None = None
    tpm: Annotated[int, _COUNT] | None = None
    concurrency: Annotated[int, Whole(1, 1_000_000)] | None = None
    shared: Flag = False

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        some_of(self, "rpm", "tpm", "concurrency")
        return self


class Identify(Section):
    """How callers without a key are recognised; all given keys must hold."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    client: OneOrMore[Network] = ()
    header: dict[HeaderName, OneOrMore[Glob]] = Field(default_factory=dict)
    proxy_user: OneOrMore[Glob] = ()

    @model_validator(mode="after")
    def _by_something(self) -> Self:
        if not (self.client or self.header or self.proxy_user):
            raise broken("expected at least one of client, header, proxy_user")
        return self


class ProjectBudget(Section):
    """USD a month, and tokens that one request may hold."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    monthly_usd: Amount | None = None
    request_tokens: Annotated[int, _COUNT] | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        some_of(self, "monthly_usd", "request_tokens")
        return self


class Endpoint(Section):
    """A call that a project offers under a name of its own."""

    active: Flag = True
    model: Text | None = None                       # None: `auto`
    prompt: Name | None = None
    stream: Flag = True
    guardrails: Listed[WrittenUse] = ()
    input_schema: InsidePath | None = None
    output_schema: InsidePath | None = None


class Project(Section):
    """An application or group of them: who it is, and what holds for it."""

    id: Uuid | None = None
    kind: Literal["ai_gateway", "wrapper"] = "ai_gateway"
    tier: Name | None = None
    tenant: Text | None = None
    priority: Priority | None = None
    identify: Identify | None = None
    allow: Allow | None = None
    budget: ProjectBudget | None = None
    guardrails: Listed[WrittenUse] = ()
    client_may: ClientMay | None = None
    endpoints: dict[Name, Endpoint] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _wrappers_have_none(self) -> Self:
        if self.kind == "wrapper" and self.endpoints:
            raise broken("a project of `kind: wrapper` has no endpoints")
        return self


class Of(Section):
    """Whose spending a budget counts. Several values: theirs together."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    tag: dict[Name, OneOrMore[Glob]] = Field(default_factory=dict)
    project: OneOrMore[Glob] = ()
    tenant: OneOrMore[Glob] = ()

    @model_validator(mode="after")
    def _one(self) -> Self:
        exactly_one_of(self, "tag", "project", "tenant")
        if "tag" in self.model_fields_set and not self.tag:
            raise broken("`tag: {}` names no tag")
        return self


class RouteTo(Section):
    """The entry of `models` that serves once the budget is spent."""

    route_to: Text


def _refuse_word(value: object) -> str:
    if value != "refuse":
        raise expected("`refuse` or a map with route_to")
    return "refuse"


RefuseWord = Annotated[Literal["refuse"], PlainValidator(_refuse_word), written_as(const="refuse")]


class Budget(Section):
    """Money per period of whoever `of` names."""

    name: Name
    of: Of
    limit: Money
    per: Literal["day", "week", "month"]
    timezone: TimeZone = "UTC"
    warn: Listed[Percent] = ()
    notify: Listed[Name] = ()
    when_spent: Annotated[
        Annotated[RefuseWord, Tag(ONE)] | Annotated[RouteTo, Tag(SEVERAL)], Discriminator(word_or_map)
    ] = "refuse"
