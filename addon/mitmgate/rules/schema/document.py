"""The whole document."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr
from pydantic.json_schema import SkipJsonSchema

from mitmgate.rules.addresses import HostText
from mitmgate.rules.positions import Problem
from mitmgate.rules.schema.composing import Pipeline, Prompts, Vision
from mitmgate.rules.schema.gateway import (
    BuiltinRoute,
    Ca,
    Egress,
    Limits,
    Listen,
    Notify,
    Retention,
    State,
    Telemetry,
    Tunnel,
    WrittenTunnel,
)
from mitmgate.rules.schema.governing import Budget, ClientMay, Policy, Project, Tier
from mitmgate.rules.schema.guarding import Guardrail
from mitmgate.rules.schema.matching import WrittenAlias
from mitmgate.rules.schema.providers import Provider
from mitmgate.rules.schema.section import Section
from mitmgate.rules.schema.serving import Model, Route
from mitmgate.rules.schema.teams import Team
from mitmgate.rules.units import Glob, Listed, Name, Text, Whole, expected
from mitmgate.rules.words import Compiling


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
    workers: Annotated[int, Whole(1, 256)] = 1
    egress: Egress | None = None
    ca: Ca | None = None
    state: State = State()
    limits: Limits = Limits()
    providers: dict[Name, Provider] = Field(default_factory=dict)
    models: dict[Text, Model] = Field(default_factory=dict)
    routes: Listed[Route] = ()
    aliases: dict[Glob, WrittenAlias] = Field(default_factory=dict)
    answer_model: Literal["asked", "served"] = "asked"
    policies: Listed[Policy] = ()
    client_may: ClientMay = ClientMay()
    builtin_routes: Listed[BuiltinRoute] | None = None  # None: what `access` makes sensible
    unknown_operations: Literal["pass", "refuse"] | None = None
    guardrails: dict[Name, Guardrail] = Field(default_factory=dict)
    tiers: dict[Name, Tier] = Field(default_factory=dict)
    projects: dict[Name, Project] = Field(default_factory=dict)
    budgets: Listed[Budget] = ()
    prompts: Prompts = Prompts()
    pipelines: dict[Name, Pipeline] = Field(default_factory=dict)
    vision: Vision | None = None
    telemetry: Telemetry = Telemetry()
    retention: Retention = Retention()
    notify: dict[Name, Notify] = Field(default_factory=dict)
    teams: SkipJsonSchema[dict[Name, Team]] = Field(default_factory=dict)    # each out of a file of its own

    _where: Mapping[str, str] = PrivateAttr(default_factory=lambda: MappingProxyType({}))
    _warnings: tuple[Problem, ...] = PrivateAttr(default=())

    @property
    def where(self) -> Mapping[str, str]:
        """Dotted path, such as `routes[0]`, to the `file:line` where it is written."""
        return self._where

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is written and does not do yet what it says, or is likely to be a mistake."""
        return self._warnings

    @property
    def access_written(self) -> bool:
        """Whether `access` stands in the rules, so that an open gateway is meant."""
        return "access" in self.model_fields_set

    @classmethod
    def placed(cls, values: Mapping[str, Any], where: Mapping[str, str]) -> "Rules":
        """The rules of a merged document, knowing where they were written. Raises pydantic's ValidationError."""
        rules = cls.model_validate(values, context=Compiling())
        rules._where = MappingProxyType(dict(where))
        return rules

    def warn(self, warnings: Iterable[Problem]) -> None:
        """Called once, by the loader, when all is read."""
        self._warnings = tuple(sorted(warnings, key=lambda each: (each.file, each.line, each.column, each.path)))
